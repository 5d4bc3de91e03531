"""The table "What grows, and what goes" says what the code does: each place of the data folder, each number."""

import os
import re
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml
from dagster._core.scheduler.instigation import TickStatus
from pydantic import ValidationError

from orchestration.cli import preview_pages
from orchestration.defs import history
from orchestration.lake import compaction, landing
from orchestration.ledger import landed, page_views
from orchestration.settings import PROJECT_ROOT, Settings, load

TEXT = (PROJECT_ROOT / "docs" / "operate" / "deploy.md").read_text()
TABLE = TEXT.partition("## What grows, and what goes\n")[2].partition("\n## ")[0]
ROWS = [line.split("|")[1:-1] for line in TABLE.splitlines() if line.startswith("|") and line.count("|") == 4]
OF_PEOPLE = {"accounts.csv", "subjects.csv", "customers.csv", "demo-accounts.csv", "destination.toml", "routes.toml"}
"""What people put there: one file each."""


def goes(what: str) -> str:
    """The last cell of the one row that begins so."""
    [row] = [row for row in ROWS if row[0].strip().startswith(what)]
    return row[2]


def test_every_place_in_the_data_folder_is_in_the_table() -> None:
    sources = "".join(path.read_text() for path in (PROJECT_ROOT / "orchestration").rglob("*.py"))
    named = set(re.findall(r"\bdata / ['\"]([\w.-]+)['\"]", sources))
    assert {"landing", "lake", "dagster", "preview", "billing"} <= named
    in_table = set(re.findall(r"`([\w.-]+)`", "".join(row[0] for row in ROWS)))

    assert named - OF_PEOPLE <= in_table
    assert "dbt" in in_table  # named by each engine


def test_numbers_of_files_are_those_of_the_code() -> None:
    assert f"{landed.FORGOTTEN_AFTER.days} days after the file is gone" in goes("`ledger.sqlite`")
    assert f"beyond the newest {preview_pages.KEPT}" in goes("`preview`")
    assert f"after {page_views.KEPT_DAYS} days" in goes("the same: who saw whose pages")
    assert f"each {compaction.FILES}th batch" in goes("calls in `lake`")
    assert f"a line cut at {landing.MAX_LINE_BYTES // 2**20} MiB" in TABLE


def test_numbers_of_runs_are_those_of_the_code() -> None:
    said = goes("`dagster`")

    def words(kept: history.Kept) -> str:
        return f"after {kept.days} day{'s' * (kept.days > 1)}, or beyond {kept.runs:,}"

    assert f"at most {history.AT_ONCE} of them" in said
    assert f"Refreshes that succeeded: {words(history.SUCCESSES['refresh_job'])}." in said
    assert f"Alert runs that succeeded: {words(history.SUCCESSES['alerts_job'])}." in said
    assert f"Hourly runs that succeeded: {words(history.SUCCESSES['hourly_job'])}." in said
    assert f"All others: {words(history.OTHERS)}." in said
    assert f"digest of a day: after {history.DIGEST_DAYS} days" in said
    assert len(history.SUCCESSES) == 3


def test_days_of_ticks_are_those_of_the_code_and_of_the_configuration() -> None:
    said = goes("the same: ticks")
    skipped, *others = (history.TICK_DAYS[status] for status in (TickStatus.SKIPPED, *TickStatus))
    assert f"skipped ones after {skipped} days" in said
    assert {f"others after {days} days" in said for days in others if days != skipped} == {True}
    config: dict[str, Any] = yaml.safe_load((PROJECT_ROOT / "deploy" / "dagster.yaml").read_text())["retention"]
    for kind in config.values():
        for status, days in kind["purge_after_days"].items():
            assert history.TICK_DAYS[TickStatus(status.upper())] == days


def test_variables_of_the_table_exist_and_have_its_bounds(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    variables = {str(field.alias) for field in Settings.model_fields.values()}
    assert set(re.findall(r"HEADROOM_[A-Z_]+", TABLE)) <= variables
    for name, least in (("HEADROOM_LANDING_KEEP_DAYS", 2), ("HEADROOM_LAKE_KEEP_DAYS", 400)):
        monkeypatch.setenv(name, str(least))
        load()
        monkeypatch.setenv(name, str(least - 1))
        with pytest.raises(ValidationError, match=name):
            load()
        monkeypatch.delenv(name)
    assert (load().landing_keep_days, load().lake_keep_days) == (None, None)
    assert "Two days are the least" in TABLE


def test_newest_preview_pages_stay(tmp_path: Path) -> None:
    first = date(2026, 1, 1)
    for number in range(preview_pages.KEPT + 5):
        path = preview_pages.write(tmp_path, first + timedelta(days=number), f"page {number}")
        os.utime(path, (number, number))

    assert len(list(tmp_path.iterdir())) == preview_pages.KEPT
    preview_pages.write(tmp_path, first + timedelta(days=5), "page 5, drawn once more")
    left = sorted(path.name for path in tmp_path.iterdir())
    assert (left[0], left[-1], len(left)) == ("digest-2026-01-06.html", "digest-2026-02-04.html", preview_pages.KEPT)
