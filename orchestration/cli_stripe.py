"""`headroom stripe`: what has to stand at Stripe, and whether it does. What is billed is in cli_billing.py."""

from typing import Annotated

import typer

from orchestration import catalogue, cli_billing, cli_finance, settings, terminal
from orchestration.cli_billing import REFUSALS

stripe_app = typer.Typer(
    help="Stripe: what is billed, what has to stand there, and whether it does.", no_args_is_help=True
)
for command in (cli_billing.plan, cli_billing.apply, cli_billing.problems, cli_billing.settle, cli_billing.adopt):
    stripe_app.command()(command)
for inquiry in (cli_finance.explain, cli_finance.statement, cli_finance.statements):
    stripe_app.command()(inquiry)


@stripe_app.command()
def bootstrap(
    is_applied: Annotated[
        bool, typer.Option("--apply/--plan", help="make what is missing; or only show it, which is the default")
    ] = False,
) -> None:
    """Meter, products and prices of our plans at Stripe: what stands, what is missing, what Stripe has no price for."""
    try:
        if is_applied:
            for step in catalogue.make(settings.load()):
                terminal.print_made(step)
        terminal.print_steps(catalogue.standing(settings.load()))
    except REFUSALS as error:
        terminal.fail(str(error))


@stripe_app.command()
def check() -> None:
    """Whether key, permissions, meter, clock, prices and subscriptions are as they must be. Changes nothing."""
    try:
        findings = catalogue.check(settings.load())
    except REFUSALS as error:
        terminal.fail(str(error))
    terminal.print_findings(findings)
    if any(finding.problem and finding.is_needed for finding in findings):
        raise typer.Exit(1)
