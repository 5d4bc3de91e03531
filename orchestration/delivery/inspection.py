"""Whether a ledger is there and whole. Nothing is written: a damaged one is left as it is."""

from pathlib import Path

import sqlalchemy as sa

from orchestration.delivery import migrate
from orchestration.usage.findings import Finding


def exists(url: str) -> bool:
    """Whether there is a ledger; of a server that is for it to say."""
    address = sa.make_url(url)
    return address.get_backend_name() != "sqlite" or Path(str(address.database)).exists()


def examine(url: str) -> Finding:
    """Whether the ledger opens, is of a version that this Headroom knows, and, of SQLite, whole in every page."""
    address, subject = sa.make_url(url), "ledger"
    if not exists(url):
        return Finding(f"{subject}: none yet; the first run makes it")
    engine = sa.create_engine(address)
    damage: list[str] = []
    try:
        version = migrate.version(engine)
        if engine.dialect.name == "sqlite":
            with engine.connect() as connection:
                damage = list(connection.exec_driver_sql("pragma integrity_check").scalars())
    except sa.exc.SQLAlchemyError as error:
        damage = [str(getattr(error, "orig", error)).strip().partition("\n")[0]]
    finally:
        engine.dispose()
    place = address.render_as_string(hide_password=True)
    if damage not in ([], ["ok"]):
        return Finding(
            subject, f"{place} cannot be relied on ({damage[0]}): stop the jobs, and restore a backup of it (README)"
        )
    if version and version > migrate.HEAD:
        return Finding(
            subject,
            f"{place} is of a newer Headroom (tables {version}, this one knows {migrate.HEAD}): update this one",
        )
    return Finding(f"{subject} opens and is whole")
