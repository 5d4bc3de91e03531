"""`headroom postgres`: the tables of the user's own Postgres that rows are delivered to, before any is."""

from typing import Annotated

import typer

from orchestration.channels.postgres import tables as destination
from orchestration.cli.configuration import load_settings
from orchestration.cli.console import fail, print_findings
from orchestration.warehouse import published_copy

postgres_app = typer.Typer(help="Deliver rows of the marts to your own Postgres.", no_args_is_help=True)


@postgres_app.callback(invoke_without_command=True)
def show(
    is_ddl: Annotated[bool, typer.Option("--print-ddl", help="print the SQL that creates schemas and tables")] = False,
) -> None:
    """Deliver rows of the marts to your own Postgres. Headroom creates and alters no table there."""
    if not is_ddl:
        return
    config = load_settings()
    try:
        tables = destination.destinations(config)
        typer.echo("\n\n".join(destination.statements(config.published, tables)))
    except (ValueError, published_copy.NothingPublishedError) as error:
        fail(str(error))


@postgres_app.command()
def check() -> None:
    """Check that the tables exist and accept the rows, and say how to repair them. Writes nothing."""
    config = load_settings()
    try:
        tables = destination.configured(config)
        if tables is None:
            fail("HEADROOM_DESTINATION_URL is not set, so there is no Postgres to deliver to")
        findings = tables.check(config.published)
    except (ValueError, published_copy.NothingPublishedError) as error:
        fail(str(error))
    print_findings(findings)
    if any(finding.problem and finding.is_needed for finding in findings):
        raise typer.Exit(1)
