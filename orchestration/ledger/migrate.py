"""Brings the ledger's tables to the newest migration. The steps are in `migrations/versions/`."""

from pathlib import Path
from typing import TYPE_CHECKING

import sqlalchemy as sa

from orchestration.ledger import engines
from orchestration.ledger.engines import SCHEMA, UnusableLedgerError

if TYPE_CHECKING:
    from alembic.config import Config

_FOLDER = Path(__file__).parent / "migrations"
HEAD = "0015"
"""The newest revision, so that an up-to-date ledger opens without importing Alembic (0.2 s)."""


def upgrade(engine: sa.Engine) -> list[str]:
    """Run the migrations that are missing, in one transaction: two processes at once do it once. A line for each.

    :raises UnusableLedgerError: the ledger cannot be reached, or is of a later version.
    """
    with engines.opening(engine):
        steps = missing(engine)
        if not steps:
            return []
        from alembic import command

        config = _config()
        with engine.begin() as connection:
            engines.begin_writing(connection)
            if not engines.is_sqlite(engine) and not sa.inspect(connection).has_schema(SCHEMA):
                connection.execute(sa.schema.CreateSchema(SCHEMA))
            config.attributes["connection"] = connection
            command.upgrade(config, "head")
    return steps


def create(engine: sa.Engine) -> None:
    """Make the tables where there are none at all. An SQLite ledger does so by itself, its folder too, when opened.

    :raises UnusableLedgerError: see upgrade.
    """
    if not engines.is_sqlite(engine) and version(engine) is None:
        upgrade(engine)


def missing(engine: sa.Engine) -> list[str]:
    """What `upgrade` would do, a line for each migration; nothing is changed.

    :raises UnusableLedgerError: see upgrade.
    """
    found = version(engine)
    if found == HEAD:
        return []
    from alembic.script import ScriptDirectory

    steps = ScriptDirectory.from_config(_config()).iterate_revisions("head", found or "base")
    return [f"{step.revision}: {step.doc.splitlines()[0]}" for step in reversed(list(steps))]


def require_newest(engine: sa.Engine) -> None:
    """:raises UnusableLedgerError: the tables are not those of this version, or cannot be reached."""
    found = version(engine)
    if found != HEAD:
        what = f"is at migration {found}, this version of Headroom needs {HEAD}" if found else "has no tables yet"
        raise UnusableLedgerError(f"the ledger in {engines.place(engine)} {what}: run `headroom db upgrade`")


def version(engine: sa.Engine) -> str | None:
    """The revision that its tables are of; None where there are none.

    :raises UnusableLedgerError: it cannot be reached, or is of a later version.
    """
    try:
        with engine.connect() as connection:
            if not sa.inspect(connection).has_table("alembic_version"):
                return None
            version: str | None = connection.scalar(sa.text("select version_num from alembic_version"))
    except sa.exc.OperationalError as error:
        said = " ".join(str(error.orig).split())
        raise UnusableLedgerError(f"the ledger in {engines.place(engine)} cannot be opened: {said}") from None
    if version and version > HEAD:
        raise UnusableLedgerError(
            f"the ledger in {engines.place(engine)} is at migration {version}, and this Headroom knows {HEAD} at"
            " most. Install the later version again"
        )
    return version


def _config() -> "Config":
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(_FOLDER).replace("%", "%%"))
    return config
