"""dbt as somebody starts it by hand, in a clone in which nothing ran yet: it has the settings of the jobs."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from orchestration.settings import PROJECT_ROOT

PROGRAM = """
import json, os, sys
from dbt.cli.main import dbtRunner
sys.stdout = sys.stderr
asked = "select count(*), '{{ business_zone() }}', {{ bills_sampled() }} from {{ ref('stg_accounts') }}"
os.chdir("dbt_project")
alone = dbtRunner().invoke(["run", "--quiet", "--select", "utilization_mtd"])
tested = dbtRunner().invoke(["test", "--quiet"])
built = dbtRunner().invoke(["run", "--quiet", "--select", "+stg_accounts"])
os.chdir("..")
there = ["--project-dir", "dbt_project", "--profiles-dir", "dbt_project"]
shown = dbtRunner().invoke(["show", "--quiet", *there, "--inline", asked])
rows = [list(row.values()) for row in shown.result.results[0].agate_table.rows.values()] if shown.success else None
said = [str(each.exception) for each in (alone, tested, built, shown)]
json.dump([built.success, rows, *said], sys.__stdout__, default=str)
"""
TO_DO = "this selection reads: run `dbt build` or `headroom run` once."


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """The program and the dbt project, in a folder of their own, with a `.env`."""
    folder = tmp_path / "clone"
    for name in ("orchestration", "dbt_project"):
        shutil.copytree(PROJECT_ROOT / name, folder / name, ignore=shutil.ignore_patterns("target", "logs"))
    (folder / ".env").write_text(
        "HEADROOM_DATA=elsewhere\nHEADROOM_TIMEZONE=Asia/Tokyo\nHEADROOM_BILL_SAMPLED=yes\nSLACK_BOT_TOKEN=xoxb\n"
    )
    return folder


def test_dbt_by_hand_has_the_settings_and_a_lake(clone: Path) -> None:
    """From dbt_project before anything was there, then from the root; all in one process, for each takes seconds."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        cwd=clone,
        env={"PYTHONPATH": str(clone), "HOME": str(clone), "PATH": ""},
        capture_output=True,
        text=True,
    )

    success, rows, alone, tested, *errors = json.loads(done.stdout)
    assert (success, rows, errors) == (True, [[0, "Asia/Tokyo", True]], ["None", "None"]), done
    assert f"The warehouse lacks account_advice and 4 more tables that {TO_DO}" in alone
    assert re.search(rf"The warehouse lacks \w+ and \d+ more tables that {TO_DO}", tested)
    assert (clone / "elsewhere" / "warehouse.duckdb").exists()
    assert not (clone / "data").exists()
    assert "xoxb" not in done.stderr


def test_setting_that_is_not_usable_is_named(clone: Path) -> None:
    (clone / ".env").write_text("HEADROOM_TIMEZONE=Mars/Olympus\n")
    program = "from dbt.cli.main import dbtRunner; print(dbtRunner().invoke(['ls', '--quiet']).exception)"
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=clone / "dbt_project",
        env={"PYTHONPATH": str(clone), "HOME": str(clone), "PATH": ""},
        capture_output=True,
        text=True,
    )

    assert "'Mars/Olympus' is not an IANA time zone" in done.stdout
