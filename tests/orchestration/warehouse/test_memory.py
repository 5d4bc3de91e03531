"""What needs more memory than the machine gives is written to a disk, or ends with a sentence."""

import os
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory

import duckdb
import pytest
import yaml

from orchestration import settings
from orchestration.defs import transform
from orchestration.messages import environment
from orchestration.warehouse import published_copy
from orchestration.warehouse.dbt import DbtProject
from orchestration.warehouse.duckdb import DuckDbEngine

PROFILES = Path("dbt_project/profiles.yml")
ONE_BIG_VALUE = "select len(list(md5(i::varchar)))::integer as many from range(4_000_000) as numbers (i)"
"""200 MB that cannot be written to a disk while they are made."""
SORTED = "select md5(i::varchar) as id from range(4_000_000) as numbers (i) order by id limit 1 offset 3_999_999"


def configured() -> dict[str, str]:
    """How dbt opens the warehouse."""
    options: dict[str, str] = yaml.safe_load(PROFILES.read_text())["headroom"]["outputs"]["duckdb"]["config_options"]
    return options


def limit_of(connection: duckdb.DuckDBPyConnection) -> float:
    """In GiB."""
    [[size, unit]] = connection.execute(
        "select split_part(limited, ' ', 1)::double, split_part(limited, ' ', 2)"
        " from (select current_setting('memory_limit') as limited)"
    ).fetchall()
    return float(size) * {"MiB": 1 / 1024, "GiB": 1, "TiB": 1024}[unit]


@pytest.fixture
def published(tmp_path: Path) -> Path:
    path = tmp_path / "published.duckdb"
    duckdb.connect(str(path)).close()
    return path


def test_dbt_and_readers_take_half_of_the_memory_at_most(published: Path) -> None:
    """DuckDB itself knows what the machine has, and the limits of cgroups, v1 and v2."""
    with duckdb.connect(config={"memory_limit": "100%"}) as connection:
        whole = limit_of(connection)
    with duckdb.connect(config=configured()) as connection:
        assert limit_of(connection) == pytest.approx(whole / 2, rel=0.01)
    with published_copy.connected(published) as connection:
        assert limit_of(connection) == pytest.approx(whole / 2, rel=0.01)
        [[folder]] = connection.execute("select current_setting('temp_directory')").fetchall()
        assert folder == f"{published}.tmp", "not the folder that the program was started in"


def test_build_says_that_the_memory_is_not_enough(tmp_path: Path, data: Path) -> None:
    folder = tmp_path / "project"
    output = {"type": "duckdb", "path": "{{ env_var('HEADROOM_DATA', '../data') }}/warehouse.duckdb", "threads": 1}
    output["config_options"] = {**configured(), "memory_limit": "100MB"}
    profile = {"small": {"target": "duckdb", "outputs": {"duckdb": output}}}
    quiet = {"send_anonymous_usage_stats": False}
    project = {"name": "small", "version": "1.0.0", "profile": "small", "flags": quiet}
    project["models"] = {"+materialized": "table"}
    (folder / "models").mkdir(parents=True)
    (folder / "profiles.yml").write_text(yaml.safe_dump(profile))
    (folder / "dbt_project.yml").write_text(yaml.safe_dump(project))
    (folder / "models" / "big.sql").write_text(ONE_BIG_VALUE)
    (folder / "models" / "sorted.sql").write_text(SORTED)
    engine = DuckDbEngine(data / "warehouse.duckdb", data / "published.duckdb")
    results = DbtProject(folder, data / "dbt", engine.warehouse, engine).build(
        datetime(2026, 11, 20, tzinfo=UTC), "UTC"
    )

    failed = [result for result in results if result.status == "error"]
    assert [result.unique_id for result in failed] == ["model.small.big"], "the other one goes to the disk"
    assert transform.why(failed, settings.load()).endswith(
        "\nThe memory is not enough. Give this machine or container more of it, then run again:"
        " nothing is lost, and nothing is sent twice."
    )


def test_reader_says_that_the_memory_is_not_enough(
    published: Path, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(published_copy, "MEMORY_LIMIT", "100MB")
    with pytest.raises(duckdb.Error) as raised:
        published_copy.query(published, ONE_BIG_VALUE)
    words = environment.sentence(list(environment.causes_of(raised.value)), settings.load())
    assert words
    assert words.startswith("the memory is not enough. ")


def test_question_that_needs_more_than_the_memory_goes_to_the_disk(
    published: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Although it may write no file."""
    monkeypatch.setattr(published_copy, "MEMORY_LIMIT", "100MB")
    assert len(published_copy.ask(published, tmp_path / "lake", SORTED).rows) == 1
    assert not list(tmp_path.glob("*.tmp/*"))


@pytest.mark.skipif(os.geteuid() != 0, reason="becomes another user, for whom the folder's mode counts")
def test_question_goes_to_the_disk_where_the_copys_folder_is_read_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(published_copy, "MEMORY_LIMIT", "100MB")
    with TemporaryDirectory() as folder:  # the folders above pytest's own are root's
        published = Path(folder) / "published.duckdb"
        duckdb.connect(str(published)).close()
        published.chmod(0o444)
        Path(folder).chmod(0o555)
        if not (child := os.fork()):  # pragma: no cover
            status = 1
            try:
                os.setuid(65534)
                status = len(published_copy.query(published, SORTED)) - 1
                published_copy._own_folder().cleanup()
            finally:
                os._exit(status)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
