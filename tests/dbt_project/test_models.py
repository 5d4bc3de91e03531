"""The dbt project's own tests: unit tests for each rule, which production builds leave out."""

from datetime import UTC, datetime
from pathlib import Path

from orchestration.lake.lake import Lake
from tests.dbt_project.builder import PROJECT, Builder
from tests.support.pipeline import assert_built


def test_unit_tests_and_contracts_hold_on_an_empty_lake(tmp_path: Path) -> None:
    with Lake(tmp_path / "lake").writing():
        pass
    results = Builder(tmp_path).results(datetime.now(UTC), unit_tests=True)
    assert_built(results)
    written = sum(path.read_text().count("\n    model: ") for path in (PROJECT / "models").rglob("*.yml"))
    assert written > 18
    run = [result for result in results if result.unique_id.startswith("unit_test.")]
    assert len(run) == written  # dbt leaves out one that it does not understand, with a warning
