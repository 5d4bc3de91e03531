"""The stored hash of an id finds what the id itself finds, and a file without it is read as before."""

from contextlib import nullcontext

import pyarrow.parquet as pq
import pytest

from orchestration.lake import compaction, id_hash
from tests.orchestration.lake.world import World
from tests.support.builders import make_event


@pytest.fixture
def column() -> str:
    return id_hash.column()


def assert_each_call_has_its_hash(world: World, column: str) -> None:
    assert world.calls(f"distinct coalesce({column} = {id_hash.HASH}, false)") == [True]


def test_each_call_has_the_hash_of_its_id_from_either_way(world: World, column: str) -> None:
    world.land(
        make_event(uuid="fast", source="s"), make_event(uuid="fast"), [make_event(uuid="slow"), make_event(uuid=None)]
    )
    world.ingest()
    world.land(make_event(uuid=None, n=1), make_event(uuid="é" * 40), name="b.ndjson")
    world.ingest()

    assert len(world.calls()) == 6
    assert_each_call_has_its_hash(world, column)


def test_known_id_is_found_in_files_of_an_engine_with_another_hash(
    world: World, column: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as earlier:
        earlier.setattr(id_hash, "_PROBES", "select 'earlier'")
        world.land(make_event(uuid="a"), make_event(uuid="b"))
        world.ingest()
    world.land(make_event(uuid="b"), make_event(uuid="c"), name="b.ndjson")
    world.ingest()
    world.land(*(make_event(uuid=name) for name in "abcd"), name="c.ndjson")
    [batch] = world.ingest()

    assert (batch.accepted, batch.duplicates) == (1, 3)
    assert world.calls() == ["a", "b", "c", "d"]


def test_compaction_gives_each_call_the_hash_of_today(
    world: World, column: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compaction, "FILES", 2)
    for number, probes in enumerate(("select 'earlier'", id_hash._PROBES, id_hash._PROBES)):
        with monkeypatch.context() as engine:
            engine.setattr(id_hash, "_PROBES", probes)
            world.land(make_event(uuid=str(number)), name=f"{number}.ndjson")
            world.ingest()
    with world.lake.writing():
        assert world.lake.compact(nullcontext()) == 3

    assert_each_call_has_its_hash(world, column)
    [merged] = (world.lake.root / "batches").glob("*/calls/*/calls-*.parquet")
    assert [name for name in pq.read_schema(merged).names if name.startswith("id_hash")] == [column]
