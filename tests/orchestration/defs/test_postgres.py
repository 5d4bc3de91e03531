"""The asset that writes into tables of the user's own Postgres, and the commands that prepare it."""

from pathlib import Path

import dagster as dg
import pytest
import sqlalchemy as sa
from typer.testing import CliRunner

from orchestration.cli import main
from orchestration.defs.postgres import postgres_tables
from orchestration.defs.resources import Project
from tests.fakes.postgres import Postgres
from tests.orchestration.channels.postgres.test_tables import publish

TABLES = '[hits]\ndeliver = "usage_limit_hits"\n'


def materialize() -> str:
    """What was written, or why nothing was, and what the check says."""
    result = dg.materialize(
        [postgres_tables],
        resources={"project": Project()},
        run_config={"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}},
        raise_on_error=False,
    )
    if not result.success:
        data = result.failure_data_for_node("postgres_tables")
        assert data
        return str(data.user_failure_data.description if data.user_failure_data else data.error)
    metadata = result.asset_materializations_for_node("postgres_tables")[0].metadata
    written = str(metadata["tables" if "tables" in metadata else "outcome"].value).rpartition("\n")[2]
    [check] = result.get_asset_check_evaluations()
    assert check.passed == (check.description is None)
    return f"{written}{check.description or ''}"


def run_cli(*arguments: str) -> tuple[int, str]:
    result = CliRunner().invoke(main.app, ["postgres", *arguments])
    return result.exit_code, result.output


def test_nothing_is_delivered_unless_a_database_is_named(data: Path) -> None:
    assert materialize() == "nothing delivered: HEADROOM_DESTINATION_URL is not set"
    assert run_cli("check")[0] == 1


def test_rows_are_delivered_once_however_often_it_is_materialized(
    data: Path, postgres: Postgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = postgres.database()
    monkeypatch.setenv("HEADROOM_DESTINATION_URL", url)
    assert "destination.toml: No such file or directory. It says which rows" in materialize()
    (data / "destination.toml").write_text(TABLES)
    assert "does not exist yet: `headroom run` builds" in run_cli("--print-ddl")[1]
    publish(data / "published.duckdb")
    assert "nothing was written" in materialize()
    status, said = run_cli("check")
    assert (status, "`headroom postgres --print-ddl` shows it" in said) == (1, True)

    engine = sa.create_engine(url, poolclass=sa.NullPool)
    status, statement = run_cli("--print-ddl")
    assert status == 0
    with engine.begin() as database:
        database.exec_driver_sql(statement)
        database.exec_driver_sql("alter table hits add check (event_id <> 'event 2')")
    assert run_cli("check") == (0, "ok      hits takes each row of usage_limit_hits, 5 columns\n")

    refused = 'Postgres refused 1 row and has all others:\n- hits: , event 2: new row for relation "hits"'
    assert materialize().startswith(f"| hits | usage_limit_hits | 2 | 0 | 1 |{refused}")
    with engine.begin() as database:
        database.exec_driver_sql("alter table hits drop constraint hits_event_id_check")
    assert [materialize(), materialize()] == [
        "| hits | usage_limit_hits | 1 | 2 | 0 |",
        "| hits | usage_limit_hits | 0 | 3 | 0 |",
    ]
    with engine.begin() as database:
        assert database.exec_driver_sql("select count(*) from hits").scalar() == 3


def test_printed_statements_make_the_schemas_as_well(data: Path, postgres: Postgres) -> None:
    publish(data / "published.duckdb")
    tables = ("public.hits", "bi.hits", "Usage Data.hits", "bi.more")
    text = "\n".join(f'["{name}"]\ndeliver = "usage_limit_hits"' for name in tables)
    (data / "destination.toml").write_text(text)
    status, statements = run_cli("--print-ddl")
    assert status == 0
    assert "schema if not exists public" not in statements

    engine = sa.create_engine(postgres.database(), poolclass=sa.NullPool)
    with engine.begin() as database:
        database.exec_driver_sql(statements)
        database.exec_driver_sql('select * from bi.hits, bi.more, "Usage Data".hits, public.hits as old')
