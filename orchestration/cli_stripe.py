"""`headroom stripe`: what has to stand at Stripe, and whether it does."""

import typer

from orchestration import cli_billing

stripe_app = typer.Typer(help="Stripe: what is billed, and whether it is.", no_args_is_help=True)
for command in (cli_billing.plan, cli_billing.apply, cli_billing.problems, cli_billing.settle, cli_billing.adopt):
    stripe_app.command()(command)
