"""`headroom postgres`: the tables of the user's own Postgres that rows are delivered to, before any is."""

from typing import Annotated

import typer

from orchestration import settings, terminal
from orchestration.channels import postgres
from orchestration.storage import warehouse

postgres_app = typer.Typer(help="Your own Postgres: whether its tables take what is delivered.", no_args_is_help=True)


@postgres_app.callback(invoke_without_command=True)
def show(
    is_ddl: Annotated[bool, typer.Option("--print-ddl", help="the tables, for whoever owns the database")] = False,
) -> None:
    """Rows of the marts in tables of your own Postgres. Headroom creates and alters nothing there."""
    if not is_ddl:
        return
    config = settings.load()
    try:
        tables = postgres.destinations(config)
        typer.echo("\n\n".join(postgres.statements(config.published, tables)))
    except (ValueError, warehouse.NothingPublishedError) as error:
        terminal.fail(str(error))


@postgres_app.command()
def check() -> None:
    """Whether the tables exist and take what is meant for them, and what to do if not. Writes nothing."""
    config = settings.load()
    try:
        tables = postgres.configured(config)
        if tables is None:
            terminal.fail("HEADROOM_DESTINATION_URL is not set: nothing is delivered to a Postgres")
        findings = tables.check(config.published)
    except (ValueError, warehouse.NothingPublishedError) as error:
        terminal.fail(str(error))
    terminal.print_findings(findings)
    if any(finding.problem and finding.is_needed for finding in findings):
        raise typer.Exit(1)
