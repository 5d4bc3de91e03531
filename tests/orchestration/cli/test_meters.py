"""`headroom meters`: the terminal shows what each row counts before a run counts by it, and each mistake."""

import hashlib
import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner

from orchestration.cli import meters as meters_module
from orchestration.cli.main import app
from orchestration.settings import PROJECT_ROOT, Settings
from tests.support.builders import NOW, land, make_event
from tests.support.pipeline import ingest

runner = CliRunner()
ROWS = """\
gb,false,upload,sum,gb,,region,GB,GB,3,gb_quota,carry,,false,,,
users,false,upload|login,unique,user,,,users,user,0,,carry,,false,,,
"""


@pytest.fixture
def project(data: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the dbt project's seeds, with two meters more."""
    folder = data.parent / "project"
    shutil.copytree(PROJECT_ROOT / "dbt_project" / "seeds", folder / "seeds")
    with (folder / "seeds" / "meters.csv").open("a") as stream:
        stream.write(ROWS)
    monkeypatch.setattr(Settings, "dbt_project", property(lambda _: folder))
    monkeypatch.setenv("HEADROOM_NOW", NOW.isoformat())
    return folder


def upload(number: int, gb: object, account: str = "acme", day: int = 19) -> dict[str, object]:
    inside = {"account_id": account, "gb": gb, "user": f"u{number}", "region": f"r{number}"}
    return make_event(uuid=f"{number:04}", at=f"2026-11-{day}T12:00:00Z", event="upload", properties=inside)


@pytest.fixture
def uploads(data: Path, project: Path) -> Path:
    """A lake of uploads."""
    values = [1.5, "0.25", "12.3456", "1.000,5", -4]
    land(data / "landing", "a.ndjson", *(upload(number, gb) for number, gb in enumerate(values)))
    land(data / "landing", "b.ndjson", upload(9, 2, "[bold]x\x1b[2J" + "y" * 60), upload(10, 7, day=18))
    ingest(data, data / "landing", NOW)
    return data


def runner_says(*arguments: str, status: int = 0) -> str:
    result = runner.invoke(app, list(arguments))
    assert result.exit_code == status, result.output
    return result.output


def test_check_shows_what_each_row_counts_of_the_last_day(uploads: Path) -> None:
    said = runner_says("meters", "check")
    lines = said.splitlines()

    assert "seats: the latest used of quota_set or usage.limit_reached events, in seats; not billed." in lines
    assert "gb: the sum of gb of upload events, in GB with 3 places; quota from gb_quota; not billed." in lines
    assert "  2026-11-19 (UTC): 3 events of 2 accounts, 3.75 GB." in lines
    assert "  Refused: 1 value, negative, such as '-4'." in lines
    assert "  Refused: 1 value, not a number, such as '1.000,5'." in lines
    assert "  Refused: 1 value, too many places, such as '12.3456'." in lines
    assert " 12:00:00     acme                upload   0.25  " in lines
    assert "users: the different values of user of upload or login events, in users; not billed." in lines
    assert "  2026-11-19 (UTC): 6 events of 2 accounts, 6 users." in lines
    assert "  2026-11-19 (UTC): no event counts." in lines  # of calls
    assert "values that day" not in said


def test_check_warns_of_a_property_with_many_values(uploads: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert meters_module.MANY_VALUES == 1_000
    monkeypatch.setattr(meters_module, "MANY_VALUES", 2)
    assert "  region has 3 values that day. Split by a property with fewer." in runner_says("meters", "check")


def test_check_says_each_mistake_and_fails(project: Path) -> None:
    seed = project / "seeds" / "meters.csv"
    seed.write_text(seed.read_text().replace("sum,gb", "sum,").replace("unique,user", "unique,a-b"))
    said = " ".join(runner_says("meters", "check", status=1).split())

    assert "headroom: seeds/meters.csv: gb: value is empty. Name the property that sum reads." in said
    assert "headroom: seeds/meters.csv: users: value has 'a-b', which is not a property" in said
    assert "not billed" not in said


def test_check_works_before_the_first_run(project: Path) -> None:
    assert "gb: the sum of gb" in (said := runner_says("meters", "check"))
    assert said.endswith("The lake has no events yet: `headroom run` reads them.\n")


def test_preview_counts_a_day_and_changes_nothing(uploads: Path) -> None:
    before = fingerprint(uploads)
    said = runner_says("meters", "preview", "GB")

    assert "  2026-11-19 (UTC): 3 events of 2 accounts, 3.75 GB." in said
    assert "acme" in said
    assert "1.75" in said
    assert "  The lake has 7 events of 2 days since 2026-11-18. Counting them takes about 1 second." in said
    assert all(len(line) <= 80 for line in table_lines(said))
    assert "\x1b[2J" not in said
    assert "[bold]x" in said
    assert fingerprint(uploads) == before
    assert "  2026-11-18 (UTC): 1 event of 1 account, 7 GB." in runner_says(
        "meters", "preview", "gb", "--day", "2026-11-18"
    )
    empty = runner_says("meters", "preview", "gb", "--day", "2026-11-01")
    assert "  2026-11-01 (UTC): no event counts." in empty
    assert "  The lake has 7 events of 2 days since 2026-11-18." in empty


def test_preview_has_the_ten_largest_accounts(data: Path, project: Path) -> None:
    land(data / "landing", "a.ndjson", *(upload(number, number, f"account-{number:02}") for number in range(12)))
    ingest(data, data / "landing", NOW)
    said = runner_says("meters", "preview", "gb")

    shown = [line.split()[0] for line in said.splitlines() if line.startswith(" account-")]
    assert shown == [f"account-{number:02}" for number in range(11, 1, -1)]
    assert "  And 2 more accounts." in said


def test_preview_of_a_row_that_was_added_after_the_events(data: Path, project: Path) -> None:
    """What the row counts was refused, and counts once the lines were replayed."""
    seed = project / "seeds" / "meters.csv"
    with_rows = seed.read_text()
    seed.write_text(with_rows.replace(ROWS, ""))
    land(data / "landing", "a.ndjson", upload(1, 1.5), upload(2, 2), make_event())
    ingest(data, data / "landing", NOW)
    assert "meters.csv has no meter gb, only api-calls, " in runner_says("meters", "preview", "gb", status=1)

    seed.write_text(with_rows)
    assert "The lake has no event that it counts." in runner_says("meters", "preview", "gb")
    runner_says("rejected", "--replay")
    assert "2 events of 1 account, 3.5 GB." in runner_says("meters", "preview", "gb")


def test_preview_says_why_there_is_nothing_to_count(project: Path) -> None:
    assert "the lake has no events yet" in runner_says("meters", "preview", "gb", status=1)
    assert "seats has no event_names" in runner_says("meters", "preview", "seats", status=1)


def test_replay_stops_at_a_mistake_in_the_file(uploads: Path, project: Path) -> None:
    (project / "seeds" / "meters.csv").write_text("meter\n")
    said = " ".join(runner_says("rejected", "--replay", status=1).split())
    assert "meters.csv has errors; nothing was read or counted: - seeds/meters.csv: the first line must name" in said


def table_lines(said: str) -> list[str]:
    return [line for line in said.splitlines() if not line.endswith(".")]


def fingerprint(folder: Path) -> dict[str, str]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}
