"""`headroom stripe`: what has to stand at Stripe, and whether it does."""

from typing import TYPE_CHECKING, Annotated

import typer

from orchestration import cli_billing, settings, terminal
from orchestration.settings import Settings
from orchestration.storage import warehouse
from orchestration.usage import catalogue, pricing

if TYPE_CHECKING:
    from orchestration.channels.stripe_client import StripeClient  # whose SDK takes half a second to import

stripe_app = typer.Typer(
    help="Stripe: what is billed, what has to stand there, and whether it does.", no_args_is_help=True
)
for command in (cli_billing.plan, cli_billing.apply, cli_billing.problems, cli_billing.settle, cli_billing.adopt):
    stripe_app.command()(command)


@stripe_app.command()
def bootstrap(
    is_applied: Annotated[
        bool, typer.Option("--apply/--plan", help="make what is missing; or only show it, which is the default")
    ] = False,
) -> None:
    """Meter, products and prices of our plans at Stripe: what stands, what is missing, what Stripe has no price for."""
    from orchestration.channels import stripe_catalogue
    from orchestration.delivery.outbox import InDoubtError, RefusedError

    config = settings.load()
    client, wanted = connected(config), wanted_catalogue(config)
    try:
        if is_applied:
            for step in stripe_catalogue.apply(client, wanted):
                terminal.print_made(step)
        terminal.print_steps(catalogue.compare(wanted, stripe_catalogue.standing(client, wanted)))
    except (RefusedError, InDoubtError) as error:
        terminal.fail(str(error))


@stripe_app.command()
def check() -> None:
    """Whether key, permissions, meter, clock, prices and subscriptions are as they must be. Changes nothing."""
    from orchestration.channels import stripe_check

    config = settings.load()
    client, wanted = connected(config), wanted_catalogue(config)
    accounts = warehouse.query(config.published, warehouse.BILLABLE_ACCOUNTS)
    findings = stripe_check.check(client, config, wanted, accounts, config.now())
    terminal.print_findings(findings)
    if any(finding.problem and finding.is_needed for finding in findings):
        raise typer.Exit(1)


def connected(config: Settings) -> "StripeClient":
    """Stripe; the command ends with a sentence where it is not set up."""
    from orchestration.channels import stripe_client

    try:
        client = stripe_client.connect(config)
    except ValueError as error:
        terminal.fail(str(error))
    if client is None:
        terminal.fail("STRIPE_API_KEY is not set: what would be sent is only recorded, `headroom stripe plan` shows it")
    return client


def wanted_catalogue(config: Settings) -> catalogue.Catalogue:
    """By the plans of the published copy; the command ends with a sentence where there are none."""
    try:
        rows, tiers = (warehouse.query(config.published, sql) for sql in (warehouse.PLANS, warehouse.PLAN_TIERS))
        return catalogue.catalogue(pricing.plans(rows, tiers), config.stripe_meter)
    except (warehouse.NothingPublishedError, ValueError) as error:
        terminal.fail(str(error))
