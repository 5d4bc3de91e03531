"""`headroom sql`, on a real published copy: every column is shown, and no file but the copy and the lake is touched."""

import csv
import io
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from orchestration.cli.main import app, main
from orchestration.warehouse import published_copy
from tests.support.duckdb_file import opened

runner = CliRunner()


@pytest.fixture
def published(data: Path) -> Path:
    """Two marts that share a column, and a staging view that reads the lake; a ledger beside them."""
    lake = data / "lake"
    lake.mkdir()
    path = data / "published.duckdb"
    with opened(path) as connection:
        connection.execute(f"copy (select 'acme' as account_id) to '{lake}/accounts.parquet' (format parquet)")
        connection.execute("create table daily_usage as select 'acme' as account_id, 7 as calls")
        connection.execute("create table quota_current as select 'acme' as account_id, 10 as quota")
        connection.execute(f"create view stg_accounts as from '{lake}/accounts.parquet'")
    (data / "ledger.sqlite").write_text("secret")
    path.chmod(0o444)
    return path


def sql(*arguments: str, status: int = 0) -> str:
    result = runner.invoke(app, ["sql", *arguments])
    assert result.exit_code == status, result.output
    return result.output


def lines(query: str) -> list[list[str]]:
    return list(csv.reader(io.StringIO(sql(query, "--csv"))))


def test_columns_of_one_name_are_all_shown(published: Path) -> None:
    joined = "select * from daily_usage join quota_current on daily_usage.account_id = quota_current.account_id"

    assert lines("select 1 as a, 2 as a") == [["a", "a"], ["1", "2"]]
    assert lines(joined) == [["account_id", "calls", "account_id", "quota"], ["acme", "7", "acme", "10"]]
    assert sql("select 1 as a, 2 as a").split()[:2] == ["a", "a"]


def test_empty_answer_has_its_header(published: Path) -> None:
    assert lines("select * from daily_usage where false") == [["account_id", "calls"]]
    assert "calls" in sql("select * from daily_usage where false")


def test_column_name_is_no_markup(published: Path) -> None:
    assert "[red]x" in sql('select 1 as "[red]x"')


def test_text_of_csv_is_no_formula(published: Path) -> None:
    query = """select '=1+1' as a, '+49' as b, '-x' as c, '@sum' as d, '-5' as e, -5 as f, -1.50 as g, 'a=b' as "=h" """

    assert lines(query) == [
        ["a", "b", "c", "d", "e", "f", "g", "'=h"],
        ["'=1+1", "'+49", "'-x", "'@sum", "-5", "-5", "-1.50", "a=b"],
    ]


@pytest.mark.parametrize(
    "query",
    [
        "select * from read_text('/etc/passwd')",
        "select * from read_text('{data}/ledger.sqlite')",
        "select * from read_text('{data}/lake/../ledger.sqlite')",
        "select * from glob('{data}/*')",
        "attach '{data}/warehouse.duckdb' as w",
        "attach '{data}/new.duckdb' as w; create table w.x as select 1",
        "copy daily_usage to '{data}/lake/x.csv'",
        "explain analyze copy daily_usage to '{data}/lake/x.csv'",
        "select 1; copy daily_usage to '{data}/lake/x.csv'",
        "export database '{data}/out'",
        "install httpfs",
    ],
)
def test_no_other_file_is_read_or_written(published: Path, data: Path, query: str) -> None:
    with opened(data / "warehouse.duckdb") as connection:
        connection.execute("create table x as select 1")
    before = sorted(data.rglob("*"))

    said = sql(query.format(data=data), status=1)
    assert said.startswith("headroom: a query reads the published tables and the lake in ")
    assert "secret" not in said
    assert sorted(data.rglob("*")) == before


@pytest.mark.parametrize("setting", ["enable_external_access = true", "allowed_directories = ['/']"])
def test_access_cannot_be_given_back(published: Path, setting: str) -> None:
    assert "configuration" in sql(f"set {setting}; select 1", status=1)


def test_views_read_the_lake(published: Path) -> None:
    assert lines("from stg_accounts") == [["account_id"], ["acme"]]


def test_lake_is_read_in_a_folder_with_an_odd_name(tmp_path: Path) -> None:
    lake, path = tmp_path / "o'clock [1]*" / "lake", tmp_path / "published.duckdb"
    lake.mkdir(parents=True)
    with opened(path) as connection:
        connection.execute("copy (select 7 as x) to $file (format parquet)", {"file": str(lake / "a.parquet")})
        pattern = str(lake / "a.parquet").replace("[", "[[]").replace("*", "[*]").replace("'", "''")
        connection.execute(f"create view stg as from read_parquet('{pattern}')")

    assert published_copy.ask(path, lake, "from stg").rows == [(7,)]


@pytest.fixture
def held(published: Path) -> Iterator[int]:
    """The copy as somebody has opened it for writing, in a process of its own; its id."""
    published.chmod(0o644)
    program = f"import duckdb; c = duckdb.connect({str(published)!r}); print(flush=True); input()"
    with subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout
        process.stdout.readline()
        yield process.pid
        process.communicate("\n")


def test_locked_copy_says_who_has_it_and_what_to_do(
    held: int, published: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for command in (["sql", "select 1"], ["usage", "acme"], ["rejected"]):
        monkeypatch.setattr(sys, "argv", ["headroom", *command])
        with pytest.raises(SystemExit, match="1"):
            main()
        said = capsys.readouterr().err
        assert f"process {held}, has it open for writing" in said
        assert "open it read only" in said
        assert len(said.splitlines()) == 1


def test_query_that_would_lose_a_column_is_refused(published: Path) -> None:
    with pytest.raises(ValueError, match="names a twice"):
        published_copy.query(published, "select 1 as a, 2 as a")
