"""The fast way of lines into the lake: what goes through Arrow is where it belongs, and nothing else goes with it."""

import json
from collections import Counter
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestration.lake import batch, id_hash, parquet, parsed_lines
from orchestration.lake.batch_lines import _picked
from orchestration.lake.event_sql import READ_LINES
from orchestration.usage.events import Rejection
from tests.orchestration.lake.test_content import land_bytes
from tests.orchestration.lake.world import World
from tests.support.builders import make_event

DAYS = ("2026-11-17", "2026-11-18", "2026-11-19")


def test_calls_of_each_day_are_in_its_file_and_each_is_there_once(world: World) -> None:
    lines = [make_event(at=f"{DAYS[n % 3]}T{n % 24:02}:00:00Z", uuid=f"{n:03}", n=n) for n in range(90)]
    # judged one by one, of a day with others and of one without
    odd = [make_event(at=f"{day}T01:00:00.5+00:00:00", uuid="bad") for day in DAYS[:1]]
    odd += [make_event(at=f"{day} 01:00:00 UTC", uuid=f"list-{day}") for day in (DAYS[0], "2026-11-16")]
    world.land(*lines, *lines[:10], *odd, [make_event(at=f"{DAYS[1]}T02:00:00Z", uuid="in a list")])
    [found] = world.ingest()

    assert (found.accepted, found.duplicates, found.rejected) == (93, 10, {str(Rejection.INVALID_TIME): 1})
    files = {path.parent.name: path for path in (world.lake.root / "batches/000001/calls").glob("*/calls.parquet")}
    assert sorted(files) == [f"event_date={day}" for day in ("2026-11-16", *DAYS)]
    for folder, path in files.items():
        assert {f"event_date={at:%Y-%m-%d}" for at in pq.read_table(path)["event_at"].to_pylist()} == {folder}
    assert Counter(world.calls()) == Counter(
        [f"{n:03}" for n in range(90)] + ["list-2026-11-17", "list-2026-11-16", "in a list"]
    )


def test_many_calls_of_a_day_are_in_several_files_and_each_is_there_once(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parsed_lines, "SHARED_ROWS", 30)
    lines = [make_event(at=f"{DAYS[n % 3 > 1]}T{n % 24:02}:00:00Z", uuid=f"{n:03}", n=n) for n in range(60)]
    world.land(*lines, *lines[:10], [make_event(at=f"{DAYS[0]}T02:00:00Z", uuid="in a list")])
    [found] = world.ingest()

    assert (found.accepted, found.duplicates) == (61, 10)
    assert Counter(world.calls()) == Counter([f"{n:03}" for n in range(60)] + ["in a list"])
    files = sorted((world.lake.root / "batches/000001/calls").glob("*/*.parquet"))
    assert [str(path.relative_to(path.parents[1])) for path in files] == [
        *(f"event_date={DAYS[0]}/{name}.parquet" for name in ("calls-2", "calls")),
        f"event_date={DAYS[1]}/calls.parquet",
    ]


def test_call_has_the_same_columns_from_either_way(world: World) -> None:
    # the second one is in a list, and so it is judged by itself
    world.land(make_event(uuid="fast", source="s"), [make_event(uuid="slow", source="s")])
    world.ingest()

    columns = set(batch.CALL_COLUMNS) | set(batch.RECEIVED_COLUMNS)
    same = ", ".join(sorted(columns - {"event_id", "line_number"}))
    assert world.calls(f"event_id, line_number, {same}")[0][2:] == world.calls(f"event_id, line_number, {same}")[1][2:]
    [path] = (world.lake.root / "batches/000001/calls").glob("*/calls.parquet")
    stored = {**batch.CALL_COLUMNS, **batch.RECEIVED_COLUMNS, id_hash.column(): "ubigint"}
    assert pq.read_schema(path).equals(parquet.schema_of(stored))


def test_place_is_that_of_the_line_in_its_file(world: World) -> None:
    world.land(make_event(uuid="a1"), make_event(uuid=None, n=1), name="a.ndjson")
    land_bytes(world, "b.ndjson", b"\n\n" + json.dumps(make_event(uuid=None, n=2)).encode() + b"\n")
    world.ingest()

    found = world.calls("landed_file, line_number, event_id, split_part(source, '#', 1)")
    assert found == [("a.ndjson", 1, "a1", ""), ("a.ndjson", 2, "2", "a.ndjson"), ("b.ndjson", 3, "3", "b.ndjson")]


def test_reader_that_loses_a_line_is_not_believed(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    lost = f"{READ_LINES} where own_id <> '1'"
    monkeypatch.setattr(parsed_lines, "READ_LINES", lost)
    world.land(*(make_event(uuid=str(n)) for n in range(4)))
    world.ingest()

    assert world.calls("event_id, line_number") == [("0", 1), ("1", 2), ("2", 3), ("3", 4)]


ONE, TWO = (json.dumps(make_event(uuid=name)).encode() for name in ("one", "two"))


@pytest.mark.parametrize("line", [ONE + TWO, ONE + b" \t" + TWO, ONE + b"{}", b"{}" + ONE, b"\xef\xbb\xbf" + ONE])
def test_no_line_is_vouched_for_that_is_to_be_mended(world: World, line: bytes) -> None:
    """Otherwise the second of two events in one line would vanish."""
    good = [json.dumps(make_event(uuid=f"good {n}", text="}{")).encode() for n in range(3)]
    land_bytes(world, "a.ndjson", b"\n".join([good[0], line, good[1], line[:-1], good[2]]))
    world.ingest()

    found = world.calls("event_id, line_number")
    assert [each for each in found if each[0].startswith("good")] == [("good 0", 1), ("good 1", 3), ("good 2", 5)]
    assert ("one", 2) in found
    assert (("two", 2) in found) == (TWO in line)
    assert [number for number, _ in world.rejected()] == ([2, 4] if b"{}" in line else [4])


def test_ids_that_share_a_hash_by_chance_are_told_apart(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(id_hash, "HASH", "cast(7 as ubigint)")
    own_hash = "hash(coalesce(own_source, ''), own_id)"
    assert own_hash in READ_LINES
    monkeypatch.setattr(parsed_lines, "READ_LINES", READ_LINES.replace(own_hash, "cast(7 as ubigint)"))
    world.land(make_event(uuid="a"), make_event(uuid="b"), make_event(uuid="a"))
    world.ingest()
    world.land(make_event(uuid="b"), make_event(uuid="c"), make_event("other", uuid="a"), name="b.ndjson")
    world.ingest()

    assert world.calls() == ["a", "b", "c"]
    assert [(each.duplicates, sum(each.rejected.values())) for each in world.lake.batches()[-2:]] == [(1, 0), (1, 1)]


@given(lines=st.lists(st.binary(max_size=40).map(lambda line: line.replace(b"\n", b"")), min_size=1), data=st.data())
@pytest.mark.parametrize("few", [0, 10**6])
def test_picked_lines_are_those_of_the_block(lines: list[bytes], data: st.DataObject, few: int) -> None:
    wanted = sorted(data.draw(st.sets(st.integers(0, len(lines) - 1))))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("orchestration.lake.batch_lines._FEW_LINES", few)
        patch.setattr("orchestration.lake.batch_lines.STEP_BYTES", 16)
        block = b"".join(line + b"\n" for line in lines)
        steps = [block.count(b"\n", start, start + 16) for start in range(0, len(block), 16)]
        found, uncounted = _picked(block, wanted, steps), _picked(block, wanted, ())

    assert found == uncounted == [lines[position] for position in wanted]


@pytest.mark.parametrize(("rows", "size_bytes", "groups"), [(4, 2**30, 3), (10**9, 1, 10), (10**9, 2**30, 1)])
def test_row_groups_are_bounded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rows: int, size_bytes: int, groups: int
) -> None:
    monkeypatch.setattr(parquet, "ROW_GROUP_ROWS", rows)
    monkeypatch.setattr(parquet, "ROW_GROUP_BYTES", size_bytes)
    schema = pa.schema([("n", pa.int64())])
    batches = (pa.record_batch([pa.array([n])], schema=schema) for n in range(10))
    parquet.write_batches(tmp_path / "a" / "a.parquet", schema, batches, {})

    file = pq.ParquetFile(tmp_path / "a" / "a.parquet")
    assert file.metadata.num_row_groups == groups
    assert file.read()["n"].to_pylist() == list(range(10))
