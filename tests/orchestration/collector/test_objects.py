"""Collectors without a disk: what is acknowledged is in the bucket, whatever is killed or does not answer."""

import asyncio
import json
import logging
import random
import signal
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from orchestration.collector import objects, spool
from orchestration.collector.metrics import Metrics
from orchestration.lake.sources import Bucket
from tests.fakes.stores import Wire, content, keys, variables
from tests.orchestration.collector.loopback import (
    Collecting,
    Program,
    post,
    request,
    settings,
)
from tests.orchestration.collector.test_server import Sender
from tests.orchestration.collector.test_spool import numbered, pending_bytes, readiness
from tests.orchestration.lake.world import World
from tests.support.waiting import PATIENCE_SECONDS, wait_until

URL = "s3://usage/landing/collected"
KILLS = 3


@pytest.fixture
def wire(s3: Any, s3_endpoint: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Wire]:
    with Wire().to(s3_endpoint) as wire:
        for name, value in variables(wire.endpoint).items():
            monkeypatch.setenv(name, value)
        yield wire


def collecting(tmp_path: Path, wait_ms: int = 20) -> Collecting:
    return Collecting(settings(tmp_path, url=URL, wait_ms=wait_ms))


def event_ids_by_object(s3: Any) -> list[list[str]]:
    """The ids of each object's events, object by object."""
    names = [name for name in keys(s3, "landing/collected/") if name.endswith(".ndjson")]
    lines = [[json.loads(line) for line in content(s3, name).splitlines()] for name in names]
    return [[event["uuid"] for line in each for event in line["batch"]] for each in lines]


def test_requests_share_an_object_and_are_acknowledged_once_it_is_stored(s3: Any, wire: Wire, tmp_path: Path) -> None:
    entered, opened = threading.Event(), threading.Event()

    def gate(method: str, path: str) -> None:
        if path.endswith(".ndjson"):
            entered.set()
            opened.wait(PATIENCE_SECONDS)

    with collecting(tmp_path) as collector, ThreadPoolExecutor(20) as pool:
        wire.before = gate
        first = pool.submit(post, collector.port, numbered(0))
        assert entered.wait(PATIENCE_SECONDS)
        others = [pool.submit(post, collector.port, numbered(number)) for number in range(1, 20)]
        wait_until(lambda: collector.figure("headroom_collector_pending_bytes") == pending_bytes(range(20)))
        assert not any(each.done() for each in (first, *others))
        opened.set()
        assert {each.result().status for each in (first, *others)} == {200}
        assert collector.figure("headroom_collector_sealed_segments_total") == 2
    assert sorted(map(len, event_ids_by_object(s3))) == [1, 19]


def test_requests_wait_for_others_but_not_when_there_are_many_bytes(s3: Any) -> None:
    told: list[str | None] = []

    async def run() -> None:
        storage = spool.Spool(objects.ObjectWriter(URL), Metrics(), seal_seconds=1, wait_seconds=3600)
        await storage.start()
        storage.append([b'{"batch":[{"uuid":"small"}]}\n'], told.append)
        await asyncio.sleep(0.05)
        assert told == []
        storage.append([b'{"batch":[{"uuid":"large"}]}' + b" " * spool.GROUP_BYTES + b"\n"], told.append)
        while len(told) < 2:
            await asyncio.sleep(0.01)
        await storage.stop(PATIENCE_SECONDS)

    asyncio.run(run())
    assert told == [None, None]
    assert event_ids_by_object(s3) == [["small", "large"]]


def test_store_that_is_down_is_reported_and_recovered_from(
    s3: Any, wire: Wire, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    with collecting(tmp_path) as collector:
        assert post(collector.port, numbered(1)).status == 200
        wire.fails = lambda method, path: "refuse"
        refused = post(collector.port, numbered(2))
        assert (refused.status, refused.headers["retry-after"]) == (503, "1")
        assert "the bucket does not take them" in refused.json["error"]
        assert wire.endpoint not in refused.json["error"]
        assert readiness(collector.port)[0] == 503
        assert request(collector.port, "/healthz", method="GET").status == 200
        assert collector.figure("headroom_collector_pending_bytes") == 0
        wire.fails = lambda method, path: None
        wait_until(lambda: "events can be stored again" in caplog.text)  # by itself: nobody asks meanwhile
        assert readiness(collector.port)[0] == 200
        assert post(collector.port, numbered(3)).status == 200
    assert event_ids_by_object(s3) == [["u-1"], ["u-3"]]


def test_collector_starts_while_the_store_is_down(s3: Any, wire: Wire, tmp_path: Path) -> None:
    wire.fails = lambda method, path: "refuse"
    with collecting(tmp_path) as collector:
        assert readiness(collector.port)[0] == 503
        wire.fails = lambda method, path: None
        wait_until(lambda: readiness(collector.port)[0] == 200)
        assert post(collector.port, numbered(1)).status == 200


def test_lost_answer_of_the_store_makes_no_second_object(s3: Any, wire: Wire, tmp_path: Path) -> None:
    lost: list[str] = []

    def fails(method: str, path: str) -> str | None:
        if path.endswith(".ndjson") and not lost:
            lost.append(path)
            return "lose"
        return None

    wire.fails = fails
    with collecting(tmp_path) as collector:
        assert post(collector.port, {"event": "api_call", "uuid": "u-1"}).status == 200
    assert len(lost) == 1
    assert event_ids_by_object(s3) == [["u-1"]]


def test_call_without_an_answer_counts_once_with_an_id_and_twice_without(s3: Any, wire: Wire, tmp_path: Path) -> None:
    call = {"event": "api_call", "properties": {"account_id": "acme"}}
    with collecting(tmp_path) as collector:
        wire.fails = lambda method, path: "lose"
        assert post(collector.port, [{**call, "uuid": "u-1"}, call]).status == 503
        wire.fails = lambda method, path: None
        wait_until(lambda: readiness(collector.port)[0] == 200)
        assert post(collector.port, [{**call, "uuid": "u-1"}, call]).status == 200
    world = World(tmp_path, Bucket("s3://usage/landing"))
    [batch] = world.ingest()
    assert (batch.accepted, batch.duplicates) == (3, 1)


def test_kill_loses_nothing_that_either_of_two_collectors_acknowledged(
    s3: Any, s3_endpoint: str, tmp_path: Path
) -> None:
    acknowledged: set[str] = set()
    chance = random.Random(4711)
    world = World(tmp_path / "ingestion", Bucket("s3://usage/landing"))
    for kill in range(KILLS):
        environment = {**variables(s3_endpoint), "HEADROOM_COLLECT_URL": URL, "HEADROOM_COLLECT_WAIT_MS": "5"}
        programs = [Program(tmp_path / name, environment) for name in "ab"]
        senders = []
        with programs[0].running() as one, programs[1].running() as other:
            senders = [Sender(port, f"{kill}-{number}") for number, port in enumerate((one, one, other, other))]
            for sender in senders:
                sender.start()
            wait_until(lambda: all(sender.acknowledged for sender in senders))  # noqa: B023 - waits here
            time.sleep(chance.random() * 0.1)
            for program in programs:
                assert program.stop(signal.SIGKILL) == -signal.SIGKILL
            for sender in senders:
                sender.join()
                acknowledged.update(sender.acknowledged)

    def ingested() -> int:
        world.ingest()
        return sum(sum(batch.rejected.values()) for batch in world.lake.batches())  # they name no account

    # The store may still be at the last request of a collector that was killed.
    wait_until(lambda: ingested() == sum(map(len, event_ids_by_object(s3))))
    stored = Counter(uuid for each in event_ids_by_object(s3) for uuid in each)
    assert len(acknowledged) > KILLS * 4
    assert acknowledged <= set(stored)
    assert set(stored.values()) == {1}
    assert not list((tmp_path / "a").rglob("*.ndjson*"))  # nothing is on its disk
    assert ingested() == len(stored)


def test_address_that_cannot_be_used_is_refused_in_a_sentence(tmp_path: Path) -> None:
    program = Program(tmp_path, {"HEADROOM_COLLECT_URL": "az://usage/landing"})
    with pytest.raises(AssertionError, match="HEADROOM_COLLECT_URL=az://usage/landing cannot be used"):
        program.start()
    assert program.wait() == 1
