"""The lake's home in a bucket: every machine has the same batches, or says why not. Kills are in test_kills.py."""

import json
import shutil
from collections.abc import Iterator
from contextlib import nullcontext
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from orchestration.lake import bucket, compaction, sources
from orchestration.lake.bucket import LakeBucketError
from orchestration.lake.sources import Folder
from tests.fakes.stores import BUCKET, Wire, content, keys, variables
from tests.orchestration.lake.world import World
from tests.support.builders import land, make_event, make_quota

URL = f"s3://{BUCKET}/lake"


class Machines:
    """Data folders that share a landing folder, a bucket for the lake, and nothing else."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.landing = root / "landing"

    def __call__(self, name: str, url: str | None = URL) -> World:
        return World(self.root / name, Folder(self.landing), url)

    def land(self, name: str, *lines: object) -> None:
        land(self.landing, name, *lines)


@pytest.fixture
def machine(s3: Any, tmp_path: Path) -> Machines:
    return Machines(tmp_path)


@pytest.fixture
def wire(s3: Any, s3_endpoint: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Wire]:
    monkeypatch.setattr(sources, "RETRY_SECONDS", 0.5)
    with Wire().to(s3_endpoint) as wire:
        for name, value in variables(wire.endpoint).items():
            monkeypatch.setenv(name, value)
        yield wire


def claim(world: World) -> str | None:
    assert world.lake.bucket
    return world.lake.bucket.claim()


def contents_of(world: World) -> tuple[list[Any], list[Any], list[Any]]:
    return world.events("*"), world.rejected("*"), world.lake.batches()


def test_batches_are_put_with_their_manifest_last(machine: Machines, s3: Any) -> None:
    first = machine("first")
    machine.land("a.ndjson", make_event(uuid="1"), make_quota(), "bad")
    first.ingest()

    manifest = json.loads(content(s3, "lake/manifests/000001.json"))
    assert [file["path"] for file in manifest["files"]] == [
        "calls/event_date=2026-11-19/calls.parquet",
        "manifest.json",
        "others.parquet",
        "rejected.parquet",
    ]
    for file in manifest["files"]:
        stored = content(s3, f"lake/{file['object']}")
        assert stored == (first.lake.root / "batches/000001" / file["path"]).read_bytes()
        assert len(stored) == file["bytes"]
    assert len(keys(s3, "lake/")) == 6  # and writer.json


def test_new_machine_has_the_whole_lake_and_goes_on_where_it_ends(
    machine: Machines, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bucket, "AT_ONCE", 2)
    first, second = machine("first"), machine("second")
    for number in range(4):
        machine.land(f"{number}.ndjson", make_event(uuid=f"{number}"), make_event(uuid=None), "bad")
        first.ingest()
    before = contents_of(first)
    claim(second)
    assert second.ingest() == []
    assert contents_of(second) == before

    machine.land("more.ndjson", make_event(uuid="0"), make_event(uuid="more"))
    [batch] = second.ingest()
    assert (batch.number, batch.accepted, batch.duplicates) == (5, 1, 1)


def test_folder_and_bucket_are_the_same_lake_when_small_files_were_merged(
    machine: Machines, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compaction, "FILES", 2)
    first, second = machine("first"), machine("second")
    for number in range(4):
        machine.land(f"{number}.ndjson", make_event(uuid=f"{number}"), make_quota(uuid=f"q{number}"), "bad")
        first.ingest()
    with first.lake.writing():
        assert first.lake.compact(nullcontext()) == 12
    machine.land("more.ndjson", make_event(uuid="0"), make_event(uuid="more"))
    first.ingest()
    claim(second)
    second.ingest()

    assert contents_of(second) == contents_of(first)
    assert len(list(first.lake.root.glob("batches/*[1-9]/calls/*/*"))) == 2
    assert len(list(second.lake.root.glob("batches/*[1-9]/calls/*/*"))) == 5


def test_days_that_are_not_kept_stay_in_the_bucket(machine: Machines, s3: Any) -> None:
    """The folder does not fetch them again; one that was lost does, and removes them anew."""
    first = machine("first")
    machine.land("a.ndjson", *(make_event(uuid=day, at=f"{day}T12:00:00Z") for day in ("2026-11-18", "2026-11-19")))
    first.ingest()
    whole, stored = contents_of(first), keys(s3, "lake/")

    def prune(world: World) -> None:
        with world.lake.writing():
            world.lake.keep_from(date(2026, 11, 19))
            assert world.lake.compact(nullcontext()) == 0

    prune(first)
    prune(first)
    assert first.calls() == ["2026-11-19"]
    assert keys(s3, "lake/") == stored

    other = machine("other")
    claim(other)
    with other.lake.writing():
        assert contents_of(other) == whole
    prune(other)
    assert contents_of(other) == contents_of(first)


def test_replay_is_in_the_bucket_as_well(machine: Machines) -> None:
    first, second = machine("first"), machine("second")
    machine.land("a.ndjson", "bad")
    first.ingest()
    first.replay()
    machine.land("b.ndjson", "worse")
    first.ingest()
    claim(second)
    second.ingest()

    assert contents_of(second) == contents_of(first)
    assert [batch.generation for batch in second.lake.batches()] == [0, 1, 1]


def test_lake_that_was_there_before_its_bucket_is_put_there(machine: Machines) -> None:
    alone = machine("first", url=None)
    for number in range(3):
        machine.land(f"{number}.ndjson", make_event(uuid=f"{number}"))
        alone.ingest()
    machine("first").ingest()
    second = machine("second")
    claim(second)
    second.ingest()

    assert contents_of(second) == contents_of(alone)


def test_second_machine_is_refused_until_its_claim_and_the_first_after_it(machine: Machines) -> None:
    first, second = machine("first"), machine("second")
    machine.land("a.ndjson", make_event(uuid="1"))
    first.ingest()
    machine.land("b.ndjson", make_event(uuid="2"))

    with pytest.raises(LakeBucketError, match=r"is written by .*first/lake\) since .* `headroom lake claim` here"):
        second.ingest()
    assert second.lake.batches() == []
    assert first.ingest()

    was = claim(second)
    assert was
    assert str(first.lake.root) in was
    assert second.ingest() == []
    with pytest.raises(LakeBucketError, match="second/lake"):
        first.ingest()
    assert claim(first)
    assert first.ingest() == []


def test_lock_of_a_machine_outlives_its_processes_and_asks_no_clock(machine: Machines) -> None:
    machine.land("a.ndjson", make_event(uuid="1"))
    machine("first").ingest()
    machine.land("b.ndjson", make_event(uuid="2"))
    assert machine("first").ingest()  # another process, after a kill or not


def test_lost_folder_is_fetched_again_after_a_claim(machine: Machines) -> None:
    world = machine("first")
    machine.land("a.ndjson", make_event(uuid="1"), make_event(uuid=None))
    world.ingest()
    before = contents_of(world)
    shutil.rmtree(world.lake.root)
    with pytest.raises(LakeBucketError, match="headroom lake claim"):
        world.ingest()
    claim(world)

    assert world.ingest() == []
    assert contents_of(world) == before


def test_lost_batch_is_fetched_again(machine: Machines) -> None:
    world = machine("first")
    for number in range(3):
        machine.land(f"{number}.ndjson", make_event(uuid=f"{number}"))
        world.ingest()
    before = contents_of(world)
    shutil.rmtree(world.lake.root / "batches/000002")

    assert world.ingest() == []
    assert contents_of(world) == before


def test_machine_that_loses_the_lake_while_ingesting_loses_only_its_batch(
    machine: Machines, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = machine("first"), machine("second")
    machine.land("a.ndjson", make_event(uuid="1"), make_event(uuid=None))
    commit = first.lake._commit

    def slow(*arguments: Any) -> Any:
        claim(second)
        second.ingest()
        return commit(*arguments)

    monkeypatch.setattr(first.lake, "_commit", slow)
    with pytest.raises(LakeBucketError, match="is written by"):
        first.ingest()

    with pytest.raises(LakeBucketError, match="is written by"):
        first.ingest()
    claim(first)
    assert first.ingest() == []  # the same events, read at the same moment: the same batch
    assert contents_of(first) == contents_of(second)


def test_writer_that_is_between_look_and_put_loses_the_number(machine: Machines, wire: Wire) -> None:
    first, second = machine("first"), machine("second")
    machine.land("a.ndjson", make_event(uuid="1"))

    def race(method: str, path: str) -> None:
        if method == "PUT" and "manifests" in path:
            wire.before = lambda method, path: None
            claim(second)
            land(second.landing, "elsewhere.ndjson", make_event(uuid="another"))
            second.place = Folder(second.landing)
            second.ingest()

    wire.before = race
    with pytest.raises(LakeBucketError, match=r"batch 1 in .*first/lake/batches is not that of s3://usage/lake"):
        first.ingest()
    claim(first)
    with pytest.raises(LakeBucketError, match=r"move the whole folder .*first/lake/batches away"):
        first.ingest()

    (first.lake.root / "batches").rename(first.root / "away")  # as the message says
    [batch] = first.ingest()
    assert (batch.number, first.events()) == (2, ["1", "another"])


def test_advice_for_a_batch_that_differs_loses_no_row_that_moved(
    machine: Machines, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compaction, "FILES", 2)
    first = machine("first")
    for uuid in "123":
        machine.land(f"{uuid}.ndjson", make_event(uuid=uuid))
        first.ingest()
    with first.lake.writing():
        assert first.lake.compact(nullcontext()) == 3  # all rows are in the folder of the last batch
    shutil.rmtree(machine.landing)
    manifest = first.lake.root / "batches/000003/manifest.json"
    manifest.write_text(manifest.read_text().replace('"lines": 1', '"lines": 2'))
    with pytest.raises(LakeBucketError, match=r"batch 3 .*move the whole folder .*batches away"):
        first.ingest()

    (first.lake.root / "batches").rename(first.root / "away")
    first.ingest()
    assert first.events() == ["1", "2", "3"]


def test_of_two_that_begin_at_once_one_is_the_writer(machine: Machines, wire: Wire) -> None:
    first, second = machine("first"), machine("second")

    def race(method: str, path: str) -> None:
        if method == "PUT":
            wire.before = lambda method, path: None
            second.ingest()

    wire.before = race
    with pytest.raises(LakeBucketError, match=r"is written by .*second/lake"):
        first.ingest()
    second.ingest()


def test_lakes_are_never_mixed(machine: Machines, tmp_path: Path) -> None:
    first = machine("first")
    machine.land("a.ndjson", make_event(uuid="1"))
    first.ingest()
    other = World(tmp_path / "other")
    for uuid in "xyz":
        other.land(make_event(uuid=uuid), name=f"{uuid}.ndjson")
        other.ingest()
    joined = World(tmp_path / "other", lake_url=URL)
    claim(joined)
    with pytest.raises(LakeBucketError, match="batch 1 in"):
        joined.ingest()

    shutil.rmtree(other.lake.root / "batches/000001")  # nothing in common now
    with pytest.raises(LakeBucketError, match="batch 2 in"):
        joined.ingest()
    assert joined.events() == ["y", "z"]


def test_object_that_was_changed_in_the_bucket_is_refused(machine: Machines, s3: Any) -> None:
    machine.land("a.ndjson", make_event(uuid="1"))
    machine("first").ingest()
    [key] = [key for key in keys(s3, "lake/batches") if "calls" in key]
    s3.put_object(Bucket=BUCKET, Key=key, Body=content(s3, key)[:-1])
    second = machine("second")
    claim(second)
    with pytest.raises(LakeBucketError, match=r"calls\.[0-9a-f]+\.parquet is not what Headroom stored"):
        second.ingest()
    s3.delete_object(Bucket=BUCKET, Key=key)
    with pytest.raises(LakeBucketError, match="lacks an object or bucket"):
        second.ingest()
    assert [batch.number for batch in second.lake.batches(after=-1)] == [0]


def test_manifest_that_names_files_elsewhere_is_refused(machine: Machines, s3: Any) -> None:
    machine.land("a.ndjson", make_event(uuid="1"))
    machine("first").ingest()
    manifest = json.loads(content(s3, "lake/manifests/000001.json"))
    manifest["files"][0]["path"] = "../../../elsewhere"
    s3.put_object(Bucket=BUCKET, Key="lake/manifests/000001.json", Body=json.dumps(manifest).encode())
    second = machine("second")
    claim(second)
    with pytest.raises(LakeBucketError, match="which is not a file of a batch"):
        second.ingest()


@pytest.mark.parametrize("fault", ["refuse", "lose"])
def test_lost_requests_and_answers_are_repeated(machine: Machines, wire: Wire, fault: str) -> None:
    """Each request fails the first time, also the put that may be done only once."""
    seen: set[tuple[str, str]] = set()

    def fails(method: str, path: str) -> str | None:
        is_first = (method, path) not in seen
        seen.add((method, path))
        return fault if is_first else None

    sources.RETRY_SECONDS = 15.0  # undone by the fixture
    first, second = machine("first"), machine("second")
    machine.land("a.ndjson", make_event(uuid="1"), make_event(uuid=None))
    wire.fails = fails
    assert len(first.ingest()) == 1
    assert first.ingest() == []
    claim(second)
    assert second.ingest() == []
    assert contents_of(second) == contents_of(first)


def test_answer_that_breaks_off_is_not_taken_for_a_file(machine: Machines, wire: Wire) -> None:
    machine.land("a.ndjson", make_event(uuid="1"))
    first, second = machine("first"), machine("second")
    first.ingest()
    claim(second)
    wire.fails = lambda method, path: "cut" if "/calls" in path else None
    with pytest.raises(LakeBucketError, match="refuses a request"):
        second.ingest()
    wire.fails = lambda method, path: None
    assert second.ingest() == []
    assert contents_of(second) == contents_of(first)


def test_store_that_is_down_stops_the_ingestion_and_nothing_is_lost(machine: Machines, wire: Wire) -> None:
    """Whatever request is the first that fails: the next run goes on."""
    last, world = 0, machine("first")
    machine.land("a.ndjson", make_event(uuid="1"), make_event(uuid=None), "bad")
    expected = machine("alone", url=None)
    expected.ingest()
    while True:
        start, failed_from = len(wire.requests), last

        def fails(method: str, path: str) -> str | None:
            return "refuse" if len(wire.requests) - start > failed_from else None  # noqa: B023

        wire.fails = fails
        try:
            machine("first").ingest()
        except LakeBucketError as error:
            assert "refuses a request" in str(error)
        else:
            break
        last += 1
    assert last >= 5
    assert contents_of(world) == contents_of(expected)
    wire.fails = lambda method, path: None
    second = machine("second")
    claim(second)
    second.ingest()
    assert contents_of(second) == contents_of(expected)


def test_no_key_of_the_store_is_in_a_message(machine: Machines, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "marked-secret-4711")
    with pytest.raises(LakeBucketError) as caught:
        machine("first", url="s3://nobodys/lake").ingest()
    assert "HEADROOM_LAKE_URL" in str(caught.value)
    assert "4711" not in str(caught.value)
