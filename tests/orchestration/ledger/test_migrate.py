import threading
from concurrent.futures import ThreadPoolExecutor
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

from orchestration.billing.meter_ledger import MeterLedger
from orchestration.ledger import decided, engines, migrate, rules
from orchestration.ledger.engines import UnusableLedgerError
from orchestration.ledger.ledger import Ledger, State
from orchestration.ledger.tables import metadata
from tests.fakes.postgres import Postgres
from tests.support.waiting import PATIENCE_SECONDS


@pytest.fixture
def migrated(tmp_path: Path) -> sa.Engine:
    url = f"sqlite:///{tmp_path / 'ledger.sqlite'}"
    Ledger(url).close()
    return sa.create_engine(url, poolclass=sa.NullPool)


@pytest.fixture(params=["sqlite", "postgres"])
def empty_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'ledger.sqlite'}"
    server: Postgres = request.getfixturevalue("postgres")
    return server.database()


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


def without_names(found: dict[str, Any]) -> dict[str, Any]:
    """Postgres names a constraint that migrations made while the table before it still stood in another way."""
    return {
        table: {
            **parts,
            **{kind: [{**each, "name": ""} for each in parts[kind]] for kind in ("foreign_keys", "unique")},
        }
        | {"indexes": [each for each in parts["indexes"] if "duplicates_constraint" not in each]}
        for table, parts in found.items()
    }


def revisions() -> list[Any]:
    scripts = ScriptDirectory(str(Path(migrate.__file__).parent / "migrations"))
    return list(reversed(list(scripts.walk_revisions())))


def upgrade_to(revision: str, engine: sa.Engine) -> None:
    config = Config()
    config.set_main_option("script_location", str(Path(migrate.__file__).parent / "migrations"))
    with engine.begin() as connection:
        if engine.dialect.name == "postgresql":
            connection.execute(sa.schema.CreateSchema(engines.SCHEMA))
        config.attributes["connection"] = connection
        command.upgrade(config, revision)


def set_version(engine: sa.Engine, version: str) -> None:
    with engine.begin() as connection:
        connection.execute(sa.text("update alembic_version set version_num = :version"), {"version": version})


def test_migrations_make_the_tables_of_tables_py(migrated: sa.Engine, tmp_path: Path) -> None:
    declared = sa.create_engine(f"sqlite:///{tmp_path / 'declared.sqlite'}", poolclass=sa.NullPool)
    metadata.create_all(declared)

    assert shape(migrated) == shape(declared)
    with migrated.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), metadata) == []


def test_migrations_make_the_same_tables_on_postgres(postgres: Postgres) -> None:
    engine, declared = engines.create(postgres.database()), engines.create(postgres.database())
    with declared.begin() as connection:
        connection.execute(sa.schema.CreateSchema(engines.SCHEMA))
        metadata.create_all(connection)

    assert migrate.upgrade(engine) == [f"{each.revision}: {each.doc.splitlines()[0]}" for each in revisions()]

    assert without_names(shape(engine)) == without_names(shape(declared))
    with engine.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), metadata) == []
        assert sa.inspect(connection).get_table_names("public") == []


def test_ledger_on_postgres_is_migrated_by_the_command_alone(postgres: Postgres) -> None:
    url = postgres.database()
    engine = engines.create(url)
    with pytest.raises(UnusableLedgerError, match=r"has no tables yet: run `headroom db upgrade`"):
        Ledger(url)
    assert len(migrate.missing(engine)) == len(revisions())
    assert shape(engine) == {}

    upgrade_to("0005", engine)
    with pytest.raises(UnusableLedgerError, match=r"is at migration 0005, .* run `headroom db upgrade`"):
        Ledger(url)
    later = [f"{number:04}" for number in range(6, int(migrate.HEAD) + 1)]
    assert [step[:4] for step in migrate.missing(engine)] == later

    migrate.create(engine)
    assert len(migrate.missing(engine)) == len(later)
    assert len(migrate.upgrade(engine)) == len(later)
    assert migrate.upgrade(engine) == []
    Ledger(url).close()


def test_ledger_of_a_later_version_is_left_alone(empty_url: str) -> None:
    engine = engines.create(empty_url)
    migrate.upgrade(engine)
    set_version(engine, "9999")

    for use in (Ledger, lambda _: migrate.upgrade(engine), lambda _: migrate.missing(engine)):
        with pytest.raises(UnusableLedgerError, match="9999, and this Headroom knows"):
            use(empty_url)


def test_password_is_in_no_message(postgres: Postgres) -> None:
    url = sa.make_url(postgres.database()).set(username="nobody", password="s3cr3t")

    with pytest.raises(UnusableLedgerError, match='role "nobody" does not exist') as caught:
        Ledger(url.render_as_string(hide_password=False))

    assert "s3cr3t" not in str(caught.value)
    assert "s3cr3t" not in repr(engines.create(url.render_as_string(hide_password=False)))


def test_migration_is_made_once_when_two_upgrade_at_the_same_moment(postgres: Postgres) -> None:
    url = postgres.database()
    barrier = threading.Barrier(2, timeout=PATIENCE_SECONDS)

    def upgrade() -> None:
        engine = engines.create(url)
        barrier.wait()
        migrate.upgrade(engine)

    with ThreadPoolExecutor(2) as pool:
        for future in [pool.submit(upgrade) for _ in range(2)]:
            future.result()

    assert migrate.missing(engines.create(url)) == []


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


def test_landing_files_stay_known_when_the_ledger_is_of_the_first_version(empty_url: str) -> None:
    url, engine = empty_url, engines.create(empty_url)
    upgrade_to("0001", engine)
    with engine.begin() as connection:
        connection.execute(
            sa.text(
                "insert into landed_files values ('a.ndjson', 120, 1, 2, :sha256, 'a.ndjson#0', 120, 3, true, null, 7)"
            ),
            {"sha256": "0" * 64},
        )

    migrate.upgrade(engine)
    ledger = Ledger(url)
    [file] = ledger.landed_files()
    ledger.close()

    assert (file["size_bytes"], file["stored_bytes"], file["read_lines"], file["damage"]) == (120, 120, 3, None)


def test_announced_crossings_stay_so_when_the_ledger_knew_only_percentages(empty_url: str) -> None:
    url, engine = empty_url, engines.create(empty_url)
    upgrade_to("0002", engine)
    moment = "2026-11-01 00:00:00.000000" if engines.is_sqlite(engine) else "2026-11-01 00:00:00Z"
    with engine.begin() as connection:
        for statement in (
            "insert into deliveries values ('local|digest|x', 'slack', '{}', 'sent', 1, :at, :at, :at, null, null)",
            """insert into announced_crossings values
                ('local', 'acme', :at, 1000, 80, :at, :at, 'announced', 'local|digest|x')""",
        ):
            connection.execute(sa.text(statement), {"at": moment})

    migrate.upgrade(engine)
    ledger = Ledger(url)
    with ledger.transaction() as connection:
        announced = ledger.announced(connection, "local")
    ledger.close()

    assert announced == {("acme", "api-calls", datetime(2026, 11, 1, tzinfo=UTC), 1000, "80%")}


FORMER_REPORTS = [
    # meter, customer, hour, revision, identifier, state, moments of the attempts, error, units at Stripe
    ("api-calls", "cus_b", "2026-11-20 07:00:00.000000", 1, "0f" * 20, "superseded", None, None, None),
    (
        "api-calls",
        "cus_b",
        "2026-11-20 07:00:00.000000",
        2,
        "1f" * 20,
        "confirmed",
        "2026-11-20 08:05:00.000001",
        None,
        7,
    ),
    ("api-calls", "cus_a", "2026-11-20 06:00:00.000000", 1, "adopted-" + "2f" * 20, "mismatch", None, "why", 0),
    (
        "storage",
        "cus_a",
        "2026-11-20 06:00:00.000000",
        1,
        "former name",
        "settled",
        "2026-11-20 08:05:01.999999",
        "x",
        None,
    ),
]


def test_meter_reports_keep_their_values_when_their_rows_get_narrow(empty_url: str) -> None:
    engine = engines.create(empty_url)
    upgrade_to("0010", engine)
    zone = "" if engines.is_sqlite(engine) else "Z"
    names = ("meter", "customer", "hour", "revision", "identifier", "state", "at", "error", "shown")
    rows = [dict(zip(names, row, strict=True)) for row in FORMER_REPORTS]
    with engine.begin() as connection:
        connection.execute(
            sa.text(
                "insert into meter_reports values ('local', :meter, :customer, :hour, :revision, 9, -3, :identifier,"
                " :state, :created, 2, 1, :at, :at, :at, :error, :shown, 4, :at)"
            ),
            [
                {
                    **row,
                    "hour": f"{row['hour']}{zone}",
                    "created": f"2026-11-20 08:00:00.123456{zone}",
                    "at": row["at"] and f"{row['at']}{zone}",
                }
                for row in rows
            ],
        )
    migrate.upgrade(engine)

    ledger = Ledger(empty_url)
    found = [
        (meter, each.stripe_customer_id, f"{each.hour_start:%Y-%m-%d %H:%M:%S.%f}", each.revision, each.identifier,
         str(each.state), each.checked_at and f"{each.checked_at:%Y-%m-%d %H:%M:%S.%f}", each.error, each.stripe_units)
        for meter in ("api-calls", "storage")
        for each in MeterLedger(ledger, "local", meter).reports()
    ]  # fmt: skip
    assert sorted(found) == sorted(FORMER_REPORTS)
    for each in MeterLedger(ledger, "local", "api-calls").reports():
        assert each.created_at == datetime(2026, 11, 20, 8, 0, 0, 123456, UTC)
        assert each.first_attempt_at == each.attempted_at == each.finished_at == each.checked_at
        assert (each.units, each.value, each.attempts, each.answered_errors, each.checks) == (9, -3, 2, 1, 4)
    ledger.close()


def test_reports_stay_as_they_were_when_narrowing_them_is_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = f"sqlite:///{tmp_path / 'ledger.sqlite'}"
    engine = engines.create(url)
    upgrade_to("0010", engine)
    with engine.begin() as connection:
        connection.execute(
            sa.text(
                "insert into meter_reports values ('local', 'api-calls', 'cus_a', '2026-11-20 07:00:00.000000', 1, 9,"
                " 9, 'x', 'sent', '2026-11-20 08:00:00.000000', 1, 0, null, null, null, null, null, 0, null)"
            )
        )
    before = shape(engine)
    with monkeypatch.context() as patch:
        patch.setattr("alembic.op.create_index", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            migrate.upgrade(engine)
    assert shape(engine) == before

    migrate.upgrade(engine)
    ledger = Ledger(url)
    assert [each.identifier for each in MeterLedger(ledger, "local", "api-calls").reports()] == ["x"]
    ledger.close()


def test_create_makes_nothing_when_there_is_no_ledger_yet(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'not' / 'there' / 'ledger.sqlite'}"
    migrate.create(engines.create(url))
    assert list(tmp_path.iterdir()) == []
    Ledger(url).close()


def test_deliveries_of_before_routes_are_messages_with_their_crossings(empty_url: str) -> None:
    engine = engines.create(empty_url)
    upgrade_to("0011", engine)
    moment = "2026-11-20 08:00:00.000000" if engines.is_sqlite(engine) else "2026-11-20 08:00:00Z"
    delivery = (
        "insert into deliveries (key, channel, payload, state, attempts, created_at, parent)"
        " values (:key, 'slack', :payload, :state, 1, :at, :parent)"
    )
    digest = "local|digest|2026-11-20"
    rows = [
        {"key": digest, "payload": '{"digest": {"dormant_through": null}}', "state": "sending", "parent": None},
        {"key": f"{digest}:1", "payload": "{}", "state": "prepared", "parent": digest},
        {"key": "odd", "payload": "{}", "state": "sent", "parent": None},
    ]
    with engine.begin() as connection:
        connection.execute(sa.text(delivery), [{**row, "at": moment} for row in rows])
        for statement in (
            """insert into announced_crossings values
                ('local', 'acme', 'api-calls', :at, 1000, '80%', :at, :at, 'announced', :digest, null)""",
            "insert into digest_rules values ('local', 'thresholds|', '{}', :at, :digest)",
        ):
            connection.execute(sa.text(statement), {"at": moment, "digest": digest})

    migrate.upgrade(engine)
    ledger = Ledger(empty_url)
    with ledger.transaction() as connection:
        last, announced = decided.last_digest(connection, "local"), ledger.announced(connection, "local")
        assert rules.known(connection, "local") == {"thresholds|": "{}"}
    [kept] = decided.deliveries_of(ledger, digest)
    waiting = ledger.waiting("local|")
    ledger.close()

    assert last is not None
    assert (last.key, last.kind, last.content) == (digest, "digest", {"digest": {"dormant_through": None}})
    assert announced == {("acme", "api-calls", datetime(2026, 11, 20, 8, tzinfo=UTC), 1000, "80%")}
    assert (kept.key, kept.mark, kept.route, kept.state, kept.doubts) == (digest, digest, "slack", State.SENDING, 0)
    assert waiting == [digest]
