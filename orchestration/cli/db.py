"""`headroom db`: the ledger's tables. An SQLite ledger is migrated by whatever opens it, one on Postgres only here."""

from typing import Annotated

import typer

from orchestration.cli import tables
from orchestration.cli.configuration import load_settings
from orchestration.ledger import engines, migrate

db_app = typer.Typer(no_args_is_help=True)


@db_app.callback()
def db() -> None:
    """Check and upgrade the ledger's tables."""


@db_app.command()
def upgrade(
    is_check: Annotated[
        bool, typer.Option("--check", help="list missing migrations and change nothing; exit 1 if there are any")
    ] = False,
) -> None:
    """Bring the ledger to this version in one transaction. In a deployment, run it before anything else."""
    engine = engines.create(load_settings().ledger_url)
    place = engines.place(engine)
    if not is_check:
        tables.print_migrations(place, migrate.upgrade(engine), "done")
        return
    steps = migrate.missing(engine)
    tables.print_migrations(place, steps, "missing: run `headroom db upgrade`")
    if steps:
        raise typer.Exit(1)
