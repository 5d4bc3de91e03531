"""Brings the ledger's tables to the newest migration. The steps are in `migrations/versions/`."""

from pathlib import Path

import sqlalchemy as sa

_FOLDER = Path(__file__).parent / "migrations"
HEAD = "0007"
"""The newest revision, so that an up-to-date ledger opens without importing Alembic (0.2 s)."""


def upgrade(engine: sa.Engine) -> None:
    """Run the migrations that are missing, in one transaction: two processes at once do it once."""
    if version(engine) == HEAD:
        return
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(_FOLDER))
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, "head")


def version(engine: sa.Engine) -> str | None:
    """The revision that its tables are of; None where there are none."""
    with engine.connect() as connection:
        if not sa.inspect(connection).has_table("alembic_version"):
            return None
        version: str | None = connection.scalar(sa.text("select version_num from alembic_version"))
        return version
