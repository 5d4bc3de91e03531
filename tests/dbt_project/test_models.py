"""The dbt project's own tests: unit tests for each rule, which production builds leave out."""

import subprocess
import sys
from pathlib import Path

from orchestration import settings
from orchestration.lake.lake import Lake


def test_unit_tests_and_contracts_hold_on_an_empty_lake(data: Path) -> None:
    config = settings.load()
    config.export()
    with Lake(config.lake).writing():
        pass
    project = config.dbt_project
    places = ["--project-dir", project, "--profiles-dir", project]
    build = subprocess.run(
        [
            Path(sys.executable).with_name("dbt"),
            "build",
            *places,
            "--target-path",
            data / "t",
            "--log-path",
            data / "l",
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert build.returncode == 0, build.stdout
    written = sum(path.read_text().count("\n    model: ") for path in (project / "models").rglob("*.yml"))
    assert written > 18
    assert f"{written} unit tests" in build.stdout  # dbt leaves out one that it does not understand, with a warning
