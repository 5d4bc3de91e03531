"""What the models' asset refuses before it starts dbt, and what it says of models and tests that failed."""

from dataclasses import replace
from pathlib import Path

import dagster as dg
import pytest

from orchestration import settings
from orchestration.defs.dagster_dbt_alone import get_asset_check_key_for_test
from orchestration.defs.resources import Project
from orchestration.defs.transform import SOURCES_OF_ONE_ASSET, Translator, _require_readable_seeds, why
from orchestration.warehouse.dbt import NodeResult

TYPES = {"seeds/plans.csv": {"meter": "varchar", "unit": "varchar"}}


def test_seed_that_dbt_would_stumble_over_fails_in_a_sentence(tmp_path: Path) -> None:
    seed = tmp_path / "seeds" / "plans.csv"
    seed.parent.mkdir()
    seed.write_text("meter,unit,note\napi-calls,calls,\n")
    _require_readable_seeds(dg.build_asset_context(), tmp_path, TYPES)

    seed.write_text("meter, unit\napi-calls,calls\n")
    with pytest.raises(dg.Failure, match=r"plans.csv: the first line names ' unit'. Write unit.") as failed:
        _require_readable_seeds(dg.build_asset_context(), tmp_path, TYPES)
    assert "nothing was published or sent" in str(failed.value.description)


def failed(unique_id: str, status: str, message: str) -> NodeResult:
    return NodeResult(unique_id, status, message, None, 0.0)


def test_failed_check_and_broken_model_are_told_apart(data: Path) -> None:
    check = failed("test.headroom.calls_are_distinct", "fail", "Got 1 result")
    model = failed("model.headroom.quota_current", "error", "Binder Error: no column x")
    config = settings.load()

    assert why([check], config).splitlines() == [
        "1 check failed; nothing was published or sent:",
        "- calls_are_distinct: Got 1 result",
        f"To see all rows: `duckdb -readonly {data}/warehouse.duckdb`. Repair their source, and run again.",
    ]
    broken = why([model, check], config).splitlines()
    assert broken[0] == "1 model could not be built and 1 check failed; nothing was published or sent:"
    assert broken[-1] == "Correct the named SQL or seed in dbt_project, and run again."
    assert "Look at the rows" not in "".join(broken)


def test_full_disk_under_dbt_is_a_sentence_of_its_own(data: Path) -> None:
    model = failed("model.headroom.daily_usage", "error", "IO Error: Could not write: No space left on device")
    said = why([model, replace(model, unique_id="model.headroom.calls")], settings.load()).splitlines()
    assert said[0] == "2 models could not be built; nothing was published or sent:"
    assert said[-1].startswith(f"The disk is full: {data} could not be written. Free some space there")


def test_asset_of_a_node_is_described_once(data: Path) -> None:
    manifest, translator = Project().dbt().manifest(), Translator(SOURCES_OF_ONE_ASSET)
    specs = [translator.get_asset_spec(manifest, "model.headroom.daily_usage", None) for _ in range(2)]
    assert specs[0] is specs[1]
    assert specs[0].group_name == "usage"


def test_each_test_of_a_model_is_a_check_of_an_asset(data: Path) -> None:
    """Others do not run, and dbt then selects all the rest by name, which takes longer than to build them."""
    manifest, translator = Project().dbt().manifest(), Translator(SOURCES_OF_ONE_ASSET)
    tests = [name for name, node in manifest["nodes"].items() if node["resource_type"] == "test"]
    keys = {test: get_asset_check_key_for_test(manifest, translator, test, project=None) for test in tests}

    assert [test for test, key in keys.items() if key is None] == []
    assert len(set(keys.values())) == len(tests)
