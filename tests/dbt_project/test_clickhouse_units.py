"""The dbt unit tests on ClickHouse. Apart from the others (`make test-clickhouse-units`): they take a minute or two,
and what they tell beyond test_clickhouse.py is which rule it is that an engine breaks.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from orchestration.lake.lake import Lake
from orchestration.settings import PROJECT_ROOT
from orchestration.warehouse.clickhouse import load
from orchestration.warehouse.clickhouse.client import ClickHouse, environment
from tests.dbt_project import clickhouse_fixtures
from tests.fakes.clickhouse import NoClickHouseError, running
from tests.support.builders import NOW
from tests.support.pipeline import ingest

pytestmark = pytest.mark.clickhouse_units
NOT_RUN = {"without_a_subjects_file_every_id_is_an_account"}
"""It expects no row, of which dbt-clickhouse tells dbt no columns."""


def test_unit_tests_hold_on_clickhouse(data: Path, tmp_path: Path) -> None:
    clickhouse_fixtures.write(PROJECT_ROOT / "dbt_project", tmp_path / "project")
    ingest(data, data / "landing", NOW)
    try:
        with running(1, user_files=data) as [node]:
            url = node.url("units", cluster="")
            server, lake = ClickHouse(url), Lake(data / "lake")
            load.load(server, lake, str(lake.root), data / "load.lock", lambda _: None)
            places = {"project-dir": "project", "profiles-dir": "project", "target-path": "t", "log-path": "l"}
            dbt = subprocess.run(
                [
                    *(Path(sys.executable).with_name("dbt"), "build", "--exclude-resource-type", "test"),
                    *("--exclude", *NOT_RUN),
                    *(part for name, folder in places.items() for part in (f"--{name}", tmp_path / folder)),
                ],
                env={**os.environ, **environment(url)},
                capture_output=True,
                text=True,
                check=False,
            )
    except NoClickHouseError as error:
        pytest.skip(f"no ClickHouse: {error}")
    assert dbt.returncode == 0, dbt.stdout
