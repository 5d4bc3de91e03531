"""`headroom db`: the ledger's tables. An SQLite ledger is migrated by whatever opens it, one on Postgres only here."""

import typer

from orchestration import settings, terminal
from orchestration.delivery import engines, migrate

db_app = typer.Typer(help="The ledger's tables: what is missing, and making it.", no_args_is_help=True)


@db_app.command()
def upgrade() -> None:
    """Bring the ledger to this version, in one transaction; in a deployment, before anything else runs."""
    engine = engines.create(settings.load().ledger_url)
    terminal.print_migrations(engines.place(engine), migrate.upgrade(engine), "done")


@db_app.command()
def check() -> None:
    """What `upgrade` would do. Changes nothing; exit status 1 if something is missing."""
    engine = engines.create(settings.load().ledger_url)
    steps = migrate.missing(engine)
    terminal.print_migrations(engines.place(engine), steps, "missing: run `headroom db upgrade`")
    if steps:
        raise typer.Exit(1)
