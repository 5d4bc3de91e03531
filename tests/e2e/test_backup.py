"""Yesterday's backup in the place of everything that was lost: figures, messages and reports are those of one house."""

import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path

from orchestration import demo
from tests.builders import land, make_event
from tests.e2e.program import NOW, Program
from tests.e2e.test_kill import rows
from tests.fakes import FakeSlack

COUNTED = ("daily_usage", "utilization_mtd", "threshold_crossings")
LATER = "2024-11-21T08:00:00Z"


def test_a_restored_backup_counts_everything_and_posts_nothing_twice(tmp_path: Path) -> None:
    with FakeSlack() as slack:
        program = Program(tmp_path)
        program.with_slack(slack)
        now = datetime.fromisoformat(NOW).astimezone(UTC)
        program.data.mkdir()
        demo.generate(program.landing, program.data / "accounts.csv", now=now, accounts=30, days=25, events=5_000)
        program.run("run")
        said = program.run("backup", str(tmp_path / "backups" / "monday")).stdout
        assert "the ledger and 2 batches" in said
        assert "exists: name a folder" in program.run("backup", str(tmp_path / "backups"), status=1).stderr

        hours = [now + timedelta(hours=hour) for hour in range(1, 23)]
        land(program.landing, "late.ndjson", *(make_event("new", f"{hour:%Y-%m-%dT%H:%M:%SZ}") for hour in hours))
        program.run("run", HEADROOM_NOW=LATER)
        figures, posted = {name: rows(program, name) for name in COUNTED}, slack.counts()
        assert {"local|digest|2024-11-20", "local|digest|2024-11-21"} <= set(posted)
        assert set(posted.values()) == {1}

        shutil.rmtree(program.data)
        shutil.copytree(tmp_path / "backups" / "monday", program.data)
        slack.requests.clear()
        restored = program.run("run", HEADROOM_NOW=LATER)
        assert "Ingested 22 events from 22 new lines" in restored.stdout
        assert {name: rows(program, name) for name in COUNTED} == figures
        assert slack.counts() == posted
        assert "chat.postMessage" not in slack.methods()
        assert "conversations.history" in slack.methods()
        assert "Nothing is announced twice" in program.run("run", HEADROOM_NOW=LATER).stdout
