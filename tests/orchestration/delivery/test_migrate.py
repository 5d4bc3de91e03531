from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory

from orchestration.delivery import migrate
from orchestration.delivery.ledger import Ledger
from orchestration.delivery.tables import metadata


@pytest.fixture
def migrated(tmp_path: Path) -> sa.Engine:
    url = f"sqlite:///{tmp_path / 'ledger.sqlite'}"
    Ledger(url).close()
    return sa.create_engine(url, poolclass=sa.NullPool)


def shape(engine: sa.Engine) -> dict[str, Any]:
    """What the inspector sees of every table but Alembic's own."""
    inspector = sa.inspect(engine)
    return {
        name: {
            "columns": [(c["name"], str(c["type"]), c["nullable"], c["default"]) for c in inspector.get_columns(name)],
            "primary_key": inspector.get_pk_constraint(name)["constrained_columns"],
            "foreign_keys": inspector.get_foreign_keys(name),
            "unique": inspector.get_unique_constraints(name),
            "indexes": inspector.get_indexes(name),
        }
        for name in inspector.get_table_names()
        if name != "alembic_version"
    }


def test_migrations_make_the_tables_of_tables_py(migrated: sa.Engine, tmp_path: Path) -> None:
    declared = sa.create_engine(f"sqlite:///{tmp_path / 'declared.sqlite'}", poolclass=sa.NullPool)
    metadata.create_all(declared)

    assert shape(migrated) == shape(declared)
    with migrated.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), metadata) == []


def test_head_is_the_newest_migration() -> None:
    scripts = ScriptDirectory(str(Path(migrate.__file__).parent / "migrations"))

    assert scripts.get_heads() == [migrate.HEAD]


def test_upgrade_leaves_alembic_alone_when_the_ledger_is_up_to_date(
    migrated: sa.Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(command, "upgrade", lambda *_: pytest.fail("migrated again"))

    migrate.upgrade(migrated)


def test_upgrade_runs_the_missing_migrations_when_the_version_is_older(tmp_path: Path) -> None:
    engine = sa.create_engine(f"sqlite:///{tmp_path / 'ledger.sqlite'}", poolclass=sa.NullPool)
    with engine.begin() as connection:
        connection.execute(sa.text("create table alembic_version (version_num varchar(32) not null)"))

    migrate.upgrade(engine)

    assert set(shape(engine)) == set(metadata.tables)
    with engine.connect() as connection:
        assert connection.scalar(sa.text("select version_num from alembic_version")) == migrate.HEAD


def test_landing_files_are_known_as_before_when_the_ledger_is_of_the_first_version(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'ledger.sqlite'}"
    engine = sa.create_engine(url, poolclass=sa.NullPool)
    config = Config()
    config.set_main_option("script_location", str(Path(migrate.__file__).parent / "migrations"))
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, "0001")
        connection.execute(
            sa.text(
                "insert into landed_files values ('a.ndjson', 120, 1, 2, :sha256, 'a.ndjson#0', 120, 3, true, null, 7)"
            ),
            {"sha256": "0" * 64},
        )

    ledger = Ledger(url)
    [file] = ledger.landed_files()
    ledger.close()

    assert (file["size_bytes"], file["stored_bytes"], file["read_lines"], file["damage"]) == (120, 120, 3, None)


def test_announced_crossings_stay_announced_when_the_ledger_knew_only_percentages_of_calls(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'ledger.sqlite'}"
    engine = sa.create_engine(url, poolclass=sa.NullPool)
    config = Config()
    config.set_main_option("script_location", str(Path(migrate.__file__).parent / "migrations"))
    moment = "2026-11-01 00:00:00.000000"
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, "0002")
        for statement in (
            "insert into deliveries values ('local|digest|x', 'slack', '{}', 'sent', 1, :at, :at, :at, null, null)",
            """insert into announced_crossings values
                ('local', 'acme', :at, 1000, 80, :at, :at, 'announced', 'local|digest|x')""",
        ):
            connection.execute(sa.text(statement), {"at": moment})

    ledger = Ledger(url)
    with ledger.transaction() as connection:
        announced = ledger.announced(connection, "local")
    ledger.close()

    assert announced == {("acme", "api-calls", datetime(2026, 11, 1, tzinfo=UTC), 1000, "80%")}
