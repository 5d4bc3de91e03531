"""Whether a ledger is there and whole. Nothing is written: a damaged one is left as it is."""

from pathlib import Path

import sqlalchemy as sa

from orchestration.ledger import engines, migrate
from orchestration.usage.findings import Finding


def exists(url: str) -> bool:
    """Whether there is a ledger; of a server that is for it to say."""
    address = sa.make_url(url)
    return address.get_backend_name() != "sqlite" or Path(str(address.database)).exists()


def examine(url: str) -> Finding:
    """Whether the ledger opens, is of a version that this Headroom knows, and, of SQLite, whole in every page."""
    subject = "ledger"
    if not exists(url):
        return Finding(f"{subject}: none yet; the first run makes it")
    engine = engines.create(url)
    damage: list[str] = []
    try:
        migrate.version(engine)
        if engines.is_sqlite(engine):
            with engine.connect() as connection:
                damage = list(connection.exec_driver_sql("pragma integrity_check").scalars())
        else:
            migrate.require_newest(engine)
    except engines.UnusableLedgerError as error:
        return Finding(subject, str(error))
    except sa.exc.SQLAlchemyError as error:
        damage = [str(getattr(error, "orig", error)).strip().partition("\n")[0]]
    finally:
        engine.dispose()
    if damage not in ([], ["ok"]):
        return Finding(
            subject,
            f"{engines.place(engine)} cannot be relied on ({damage[0]}): stop the jobs, and restore a backup of it"
            " (README)",
        )
    return Finding(f"{subject} opens and is whole")
