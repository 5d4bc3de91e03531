"""The versions of the project that a soak installs one after another, from its history."""

import subprocess
from datetime import datetime, timedelta
from pathlib import Path

from orchestration.settings import PROJECT_ROOT
from tests.soak.month import Code

SETTLED = timedelta(hours=3)
"""After the commit that made the layout which `machine.py` knows, the oldest version is taken. A second one is half as
old; each runs for two days.
"""


def versions(folder: Path, start: datetime) -> tuple[list[Code], str]:
    """What is installed in the course of the month, and why there is no older version where there is none."""
    found, since = [], start
    try:
        built = _git("log", "-1", "--format=%cI", "--diff-filter=A", "--", "orchestration/warehouse/dbt_worker.py")
        oldest = datetime.fromisoformat(built) + SETTLED
        newest = datetime.fromisoformat(_git("log", "-1", "--format=%cI"))
        for moment in (oldest, oldest + (newest - oldest) / 2):
            commit = _git("log", "-1", "--format=%H", f"--before={moment.isoformat()}")
            if commit and commit not in [each.name for each in found]:
                code = folder / commit[:8]
                code.mkdir(parents=True)
                archive = subprocess.run(
                    ["git", "archive", commit], cwd=PROJECT_ROOT, stdout=subprocess.PIPE, check=True
                ).stdout
                subprocess.run(["tar", "x"], cwd=code, input=archive, check=True)
                found.append(Code(commit, code, since))
                since += timedelta(days=2)
        why = "" if found else "no commit is old enough"
    except (OSError, subprocess.CalledProcessError) as error:
        found, why = [], f"no history: {error}"
    return [*found, Code("now", PROJECT_ROOT, since if found else start)], why


def _git(*arguments: str) -> str:
    return subprocess.run(
        ["git", *arguments], cwd=PROJECT_ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, check=True
    ).stdout.strip()
