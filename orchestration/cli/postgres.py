"""`headroom postgres`: the tables of the user's own Postgres that rows are delivered to, before any is."""

from typing import Annotated

import typer

from orchestration import settings
from orchestration.channels.postgres import tables as destination
from orchestration.cli.console import fail, print_findings
from orchestration.warehouse import published_copy

postgres_app = typer.Typer(help="Your own Postgres: whether its tables take what is delivered.", no_args_is_help=True)


@postgres_app.callback(invoke_without_command=True)
def show(
    is_ddl: Annotated[bool, typer.Option("--print-ddl", help="print schemas and tables, for psql")] = False,
) -> None:
    """Rows of the marts in tables of your own Postgres. Headroom creates and alters nothing there."""
    if not is_ddl:
        return
    config = settings.load()
    try:
        tables = destination.destinations(config)
        typer.echo("\n\n".join(destination.statements(config.published, tables)))
    except (ValueError, published_copy.NothingPublishedError) as error:
        fail(str(error))


@postgres_app.command()
def check() -> None:
    """Whether the tables exist and take what is meant for them, and what to do if not. Writes nothing."""
    config = settings.load()
    try:
        tables = destination.configured(config)
        if tables is None:
            fail("HEADROOM_DESTINATION_URL is not set: nothing is delivered to a Postgres")
        findings = tables.check(config.published)
    except (ValueError, published_copy.NothingPublishedError) as error:
        fail(str(error))
    print_findings(findings)
    if any(finding.problem and finding.is_needed for finding in findings):
        raise typer.Exit(1)
