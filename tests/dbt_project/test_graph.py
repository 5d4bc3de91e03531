"""The picture of the graph: each group fits on a screen, and no model is where a dozen lines end."""

from collections.abc import Iterator
from typing import Any

import pytest

from orchestration import settings
from orchestration.warehouse.dbt import DbtProject

GROUPS = ["staging", "usage", "billable", "alerts", "trends", "quotas", "periods", "forecasts", "marts", "quality"]
"""In the order in which data flows."""
MOST_PARENTS = 5
MOST_OF_A_GROUP = 9


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HEADROOM_DATA", str(tmp_path_factory.mktemp("data")))
        config = settings.load()
        config.export()
        yield DbtProject.of(config).manifest()


@pytest.fixture
def nodes(manifest: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Models and seeds, by their unique id."""
    return {key: node for key, node in manifest["nodes"].items() if node["resource_type"] in ("model", "seed")}


def test_no_model_has_more_than_five_parents(nodes: dict[str, dict[str, Any]]) -> None:
    models = [node for node in nodes.values() if node["resource_type"] == "model"]
    parents = {model["name"]: sorted({*model["depends_on"]["nodes"]}) for model in models}
    assert len(parents) > 40
    assert {name: read for name, read in parents.items() if len(read) > MOST_PARENTS} == {}


def test_every_model_and_seed_is_in_a_group_of_the_list(
    manifest: dict[str, Any], nodes: dict[str, dict[str, Any]]
) -> None:
    assert sorted(group["name"] for group in manifest["groups"].values()) == sorted(GROUPS)
    assert {
        node["name"]: node["config"]["group"] for node in nodes.values() if node["config"]["group"] not in GROUPS
    } == {}


def test_every_group_fits_on_a_screen(nodes: dict[str, dict[str, Any]]) -> None:
    sizes = {group: sum(node["config"]["group"] == group for node in nodes.values()) for group in GROUPS}
    assert {group: size for group, size in sizes.items() if not 0 < size <= MOST_OF_A_GROUP} == {}


def test_no_model_reads_one_of_a_later_group(nodes: dict[str, dict[str, Any]]) -> None:
    order = {key: GROUPS.index(node["config"]["group"]) for key, node in nodes.items()}
    backwards = [
        (nodes[parent]["name"], node["name"])
        for key, node in nodes.items()
        for parent in node["depends_on"].get("nodes", [])  # a seed reads none
        if parent in nodes and order[parent] > order[key]
    ]
    assert backwards == []
