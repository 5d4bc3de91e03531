"""What the models' asset refuses before it starts dbt."""

from pathlib import Path

import dagster as dg
import pytest

from orchestration.defs.transform import _require_readable_seeds

TYPES = {"seeds/meters.csv": {"meter": "varchar", "unit": "varchar"}}


def test_seed_that_dbt_would_stumble_over_fails_in_a_sentence(tmp_path: Path) -> None:
    seed = tmp_path / "seeds" / "meters.csv"
    seed.parent.mkdir()
    seed.write_text("meter,unit,note\napi-calls,calls,\n")
    _require_readable_seeds(dg.build_asset_context(), tmp_path, TYPES)

    seed.write_text("meter, unit\napi-calls,calls\n")
    with pytest.raises(dg.Failure, match=r"meters.csv: the first line names ' unit'. Write unit.") as failed:
        _require_readable_seeds(dg.build_asset_context(), tmp_path, TYPES)
    assert "nothing was published or sent" in str(failed.value.description)
