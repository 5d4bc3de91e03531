"""The price list before a first run: typed, checked and refused as a build does all three."""

import shutil
from pathlib import Path

import pytest
import yaml

from orchestration.settings import PROJECT_ROOT
from orchestration.warehouse.price_list import SEEDS, price_list

PROJECT = PROJECT_ROOT / "dbt_project"


@pytest.fixture
def project(tmp_path: Path) -> Path:
    for folder in ("seeds", "data-tests"):
        shutil.copytree(PROJECT / folder, tmp_path / folder)
    return tmp_path


def test_columns_have_the_types_that_a_build_gives_them() -> None:
    seeds = yaml.safe_load((PROJECT / "dbt_project.yml").read_text())["seeds"]["headroom"]
    assert {name: seeds[name]["+column_types"] for name in SEEDS} == SEEDS


@pytest.mark.parametrize(
    ("file", "before", "after", "said"),
    [
        ("plans.csv", ",soft,10,", ",hard,10,", "The plan starter has a hard limit, so there is no overage to price"),
        ("plan_tiers.csv", "growth,api-calls,2,50000", "growth,api-calls,2,5000", "ends at or before the end of"),
        ("plans.csv", "starter,api-calls,500", "starter,api-calls,five", "plans.csv cannot be read: "),
    ],
)
def test_price_list_that_a_build_would_refuse_is_refused(
    project: Path, file: str, before: str, after: str, said: str
) -> None:
    path = project / "seeds" / file
    path.write_text(path.read_text().replace(before, after))
    with pytest.raises(ValueError, match=said):
        price_list(project)


def test_missing_file_is_named(project: Path) -> None:
    (project / "seeds" / "plans.csv").unlink()
    with pytest.raises(ValueError, match=r"plans\.csv cannot be read"):
        price_list(project)
