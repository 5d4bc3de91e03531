"""Group commit as clients see it: nothing is acknowledged before it is durable, and a full disk is survived."""

import asyncio
import errno
import json
import logging
import os
import resource
import signal
import threading
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from orchestration.collector import spool
from orchestration.collector.metrics import Metrics
from orchestration.collector.segments import SegmentWriter
from tests.orchestration.collector.loopback import (
    Collecting,
    Program,
    events,
    post,
    request,
    settings,
)
from tests.support.waiting import PATIENCE_SECONDS, wait_until


def numbered(number: int) -> dict[str, Any]:
    return {"event": "api_call", "uuid": f"u-{number}"}


def pending_bytes(numbers: Iterable[int]) -> int:
    """Of these events, when each was taken by itself and all wait."""
    sender = '"received_key":"key-12345678","received_source":"demo"'
    frame = f'{{"received_at":"2026-11-20T08:00:00.000000Z",{sender},"batch":[]}}\n'
    return sum(len(frame) + len(json.dumps(numbered(number))) for number in numbers)


def readiness(port: int) -> tuple[int, str]:
    reply = request(port, "/readyz", method="GET")
    return reply.status, reply.body.decode()


class Gate:
    """fdatasync that waits, so that a group can form behind it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.calls = 0
        self.entered, self.opened = threading.Event(), threading.Event()
        real: Callable[[int], None] = os.fdatasync

        def waiting(descriptor: int) -> None:
            self.calls += 1
            self.entered.set()
            self.opened.wait()
            real(descriptor)

        monkeypatch.setattr(os, "fdatasync", waiting)


def test_requests_share_a_sync_and_are_acknowledged_after_it(
    collector: Collecting, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate = Gate(monkeypatch)
    with ThreadPoolExecutor(20) as pool:
        first = pool.submit(post, collector.port, numbered(0))
        gate.entered.wait()
        others = [pool.submit(post, collector.port, numbered(number)) for number in range(1, 20)]
        wait_until(lambda: collector.figure("headroom_collector_pending_bytes") == pending_bytes(range(20)))
        assert not any(each.done() for each in (first, *others))
        gate.opened.set()
        assert {each.result().status for each in (first, *others)} == {200}
    assert gate.calls == 2
    assert collector.figure('headroom_collector_commit_requests_bucket{le="1.0"}') == 1
    assert sorted(event["uuid"] for event in collector.finished()) == sorted(f"u-{number}" for number in range(20))


def test_segment_is_sealed_by_age_while_nothing_comes(tmp_path: Path) -> None:
    with Collecting(settings(tmp_path, seal_seconds=0.05)) as collector:
        post(collector.port, numbered(1))
        wait_until(lambda: events(collector.folder) == [numbered(1)])
        post(collector.port, numbered(2))
        wait_until(lambda: collector.figure("headroom_collector_sealed_segments_total") == 2)  # after the file
        wait_until(lambda: collector.figure("headroom_collector_open_segment_age_seconds") == 0)
        assert events(collector.folder) == [numbered(1), numbered(2)]
        assert len(list(collector.folder.glob("*.ndjson"))) == 2


def test_segment_is_sealed_by_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(SegmentWriter.__init__, "__defaults__", (1000,))
    with Collecting(settings(tmp_path)) as collector:
        for number in range(40):
            post(collector.port, numbered(number))
        assert len(list(collector.folder.glob("*.ndjson"))) >= 2
    assert events(collector.folder) == [numbered(number) for number in range(40)]


@pytest.mark.parametrize("call", ["writev", "fdatasync"])
def test_disk_that_fails_once_refuses_that_group_only(
    collector: Collecting, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    assert post(collector.port, numbered(1)).status == 200
    real = getattr(os, call)
    failures = [OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))]

    def once(*arguments: Any) -> Any:
        if failures:
            raise failures.pop()
        return real(*arguments)

    monkeypatch.setattr(os, call, once)
    refused = post(collector.port, numbered(2))
    assert (refused.status, refused.headers["retry-after"]) == (503, "1")
    assert "No space left on device" in refused.json["error"]
    assert post(collector.port, numbered(3)).status == 200
    assert readiness(collector.port)[0] == 200
    assert collector.finished() == [numbered(1), numbered(3)]


def test_full_disk_is_reported_and_recovered_from(
    collector: Collecting, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    caplog.set_level(logging.INFO)
    assert post(collector.port, numbered(1)).status == 200
    with monkeypatch.context() as patch:
        patch.setattr(os, "writev", full)
        patch.setattr(os, "ftruncate", full)
        for number in range(2, 30):
            assert post(collector.port, numbered(number)).status == 503
        status, text = readiness(collector.port)
        assert (status, "No space left on device" in text) == (503, True)
        assert request(collector.port, "/healthz", method="GET").status == 200
        assert collector.figure("headroom_collector_pending_bytes") == 0
    wait_until(lambda: "events can be stored again" in caplog.text)  # by itself: nobody asks meanwhile
    assert readiness(collector.port)[0] == 200
    assert post(collector.port, numbered(30)).status == 200
    assert "cannot store events: No space left on device" in caplog.text
    assert collector.finished() == [numbered(1), numbered(30)]
    assert list(collector.folder.glob("*.part")) == []


def test_real_limit_of_the_file_system_is_survived(tmp_path: Path) -> None:
    """The kernel itself refuses, after it took a part of the line."""
    program = Program(tmp_path)
    with program.running() as port:
        assert post(port, numbered(1)).status == 200
        _, hard = resource.prlimit(program.process.pid, resource.RLIMIT_FSIZE)
        resource.prlimit(program.process.pid, resource.RLIMIT_FSIZE, (5000, hard))
        assert post(port, {**numbered(2), "text": "x" * 6000}).status == 503
        assert post(port, numbered(3)).status == 200
        resource.prlimit(program.process.pid, resource.RLIMIT_FSIZE, (hard, hard))
        assert post(port, {**numbered(4), "text": "x" * 6000}).status == 200
        assert program.stop() == 0
    assert [event["uuid"] for event in events(program.folder)] == ["u-1", "u-3", "u-4"]


def test_vanished_folder_is_made_again(collector: Collecting) -> None:
    collector.folder.rmdir()
    assert post(collector.port, numbered(1)).status == 503
    wait_until(lambda: readiness(collector.port)[0] == 200)
    assert post(collector.port, numbered(2)).status == 200
    assert collector.finished() == [numbered(2)]


def test_readiness_tries_the_disk_out(collector: Collecting, monkeypatch: pytest.MonkeyPatch) -> None:
    def sick(*_: Any) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(os, "fdatasync", sick)
    wait_until(lambda: readiness(collector.port) == (503, '{"error":"cannot store events: Input/output error"}'))


def test_two_collectors_share_a_folder(tmp_path: Path) -> None:
    with Collecting(settings(tmp_path)) as first:
        post(first.port, numbered(1))
        with Collecting(settings(tmp_path)) as second:
            post(second.port, numbered(2))
            post(first.port, numbered(3))
        post(first.port, numbered(4))
    found = events(first.folder)
    assert sorted(event["uuid"] for event in found) == ["u-1", "u-2", "u-3", "u-4"]
    assert len(list(first.folder.iterdir())) == 2


def test_living_collector_seals_what_a_killed_one_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spool, "RECOVER_SECONDS", 0.05)
    killed = Program(tmp_path)
    with Collecting(settings(tmp_path)) as living, killed.running() as port:
        post(living.port, numbered(1))
        post(port, numbered(2))
        killed.stop(signal.SIGKILL)
        wait_until(lambda: events(living.folder) == [numbered(2)])
        assert len(list(living.folder.glob("*.part"))) == 1  # its own
        assert living.finished() == [numbered(2), numbered(1)] or living.finished() == [numbered(1), numbered(2)]


def test_stop_writes_what_is_pending_and_takes_nothing_more(tmp_path: Path) -> None:
    told: list[str | None] = []

    async def run() -> None:
        storage = spool.Spool(SegmentWriter(tmp_path / "collector"), Metrics(), seal_seconds=60)
        await storage.start()
        for number in range(3):
            storage.append([b'{"batch":[%d]}\n' % number], told.append)
            await asyncio.sleep(0)  # the first is being written when the others come
        await storage.stop(PATIENCE_SECONDS)
        storage.append([b"late\n"], told.append)
        storage.check(told.append)
        await asyncio.sleep(0)

    asyncio.run(run())
    assert told == [None, None, None, "stopping", "the collector is stopping"]
    assert events(tmp_path / "collector") == [0, 1, 2]
