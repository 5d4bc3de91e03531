"""The reader of snapshots: from a file, and from a server with a key."""

import gzip
import http.server
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from headroom_gate import Gate, Limits
from tests.gate.world import NOW, Clock, make_account, make_snapshot
from tests.support.waiting import wait_until

KEY = "hr_gate_key_of_the_tests_4711"


def used(limits: Limits) -> int | None:
    snapshot = limits.current
    limit = snapshot.limit_of("acme", NOW) if snapshot else None
    return limit.used if limit else None


def replace(path: Path, text: str) -> None:
    new = path.with_suffix(".new")
    new.write_text(text)
    new.replace(path)


def test_thread_follows_the_file(tmp_path: Path) -> None:
    path = tmp_path / "limits.json"
    limits = Limits(path, poll_seconds=0.01)
    try:
        assert limits.current is None
        replace(path, make_snapshot(make_account(used=1)))
        wait_until(lambda: used(limits) == 1)
        replace(path, make_snapshot(make_account(used=2)))
        wait_until(lambda: used(limits) == 2)
    finally:
        limits.close()


@pytest.mark.parametrize("damaged", ["", "{", '{"version": 2}'])
def test_damaged_file_leaves_the_last_good_snapshot(tmp_path: Path, damaged: str) -> None:
    path, limits = tmp_path / "limits.json", Limits(tmp_path / "limits.json")
    limits.close()
    replace(path, make_snapshot(make_account(used=1)))
    assert limits.refresh()

    replace(path, damaged)
    assert not limits.refresh()
    assert not limits.refresh()  # the same file again
    assert (used(limits), bool(limits.problem)) == (1, True)

    replace(path, make_snapshot(make_account(used=2)))
    assert limits.refresh()
    assert (used(limits), limits.problem) == (2, "")


def test_thread_outlives_a_file_that_no_parser_can_read(tmp_path: Path) -> None:
    path = tmp_path / "limits.json"
    replace(path, '{"a": ' + "[" * 10**5)
    limits = Limits(path, poll_seconds=0.01)
    try:
        assert limits.current is None
        wait_until(lambda: limits.problem)
        replace(path, make_snapshot(make_account(used=1)))
        wait_until(lambda: used(limits) == 1)
    finally:
        limits.close()


def test_calls_go_by_the_old_snapshot_until_the_new_one_is_read(tmp_path: Path) -> None:
    path, clock = tmp_path / "limits.json", Clock()
    accounts = [make_account(f"account-{number}", used=number) for number in range(20_000)]
    replace(path, make_snapshot(make_account(used=1000)))
    limits = Limits(path, clock=clock)
    limits.refresh()
    limits.close()
    gate = Gate(limits, clock=clock)
    replace(path, make_snapshot(*accounts, make_account(used=1000, quota=10**6), published_at=NOW + 1))

    refreshing = threading.Thread(target=limits.refresh)
    refreshing.start()
    meanwhile = [gate.decide("acme", None).is_allowed]
    while refreshing.is_alive():
        meanwhile.append(gate.decide("acme", None).is_allowed)

    assert meanwhile.count(False) > 10
    assert meanwhile == sorted(meanwhile)  # refused by the old one, then allowed by the new one
    assert gate.decide("acme", None).is_allowed


def test_missing_file_leaves_the_last_good_snapshot(tmp_path: Path) -> None:
    path, clock = tmp_path / "limits.json", Clock()
    limits = Limits(path, clock=clock)
    limits.close()
    assert not limits.refresh()
    assert limits.age_seconds() is None
    replace(path, make_snapshot())
    limits.refresh()
    path.unlink()
    clock.now = NOW + 60

    assert not limits.refresh()
    assert "limits.json" in limits.problem
    assert (used(limits), limits.age_seconds()) == (0, 60)


class Server(http.server.BaseHTTPRequestHandler):
    """Serves a snapshot as `headroom pages` does."""

    snapshot = ""
    status = 200
    damage = staticmethod(bytes)
    asked: list[tuple[str, str | None]]

    def do_GET(self) -> None:
        tag = f'"{hash(type(self).snapshot)}"'
        self.asked.append((self.path, self.headers["If-None-Match"]))
        if self.headers["Authorization"] != f"Bearer {KEY}":
            self.send_error(401)
        elif type(self).status != 200:
            self.send_response(type(self).status)
            self.send_header("Location", "http://127.0.0.1:9/")
            self.end_headers()
        elif self.headers["If-None-Match"] == tag:
            self.send_response(304)
            self.end_headers()
        else:
            body = type(self).damage(gzip.compress(type(self).snapshot.encode()))
            self.send_response(200)
            self.send_header("ETag", tag)
            self.send_header("Content-Encoding", "gzip")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def serving(snapshot: str) -> Iterator[tuple[type[Server], str]]:
    handler = type("Handler", (Server,), {"snapshot": snapshot, "asked": []})
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield handler, f"http://127.0.0.1:{server.server_port}/v1/limits"
        server.shutdown()


def test_server_is_asked_with_the_key_and_the_last_tag() -> None:
    with serving(make_snapshot(make_account(used=1))) as (server, url):
        limits = Limits(url, key=f"{KEY}\n")
        limits.close()
        assert limits.refresh()
        assert not limits.refresh(wait_seconds=30)
        assert (used(limits), limits.problem) == (1, "")
        server.snapshot = make_snapshot(make_account(used=2))
        assert limits.refresh(wait_seconds=30)
        assert used(limits) == 2
    assert [path for path, _ in server.asked] == ["/v1/limits", "/v1/limits?wait=30", "/v1/limits?wait=30"]
    assert [bool(tag) for _, tag in server.asked] == [False, True, True]


@pytest.mark.parametrize("damage", [lambda raw: raw[:-9], lambda raw: raw[:10] + b"\xff" * 50, lambda _: b"<html>"])
def test_answer_that_was_damaged_on_its_way_is_asked_for_again(damage: Callable[[bytes], bytes]) -> None:
    with serving(make_snapshot(make_account(used=1))) as (server, url):
        limits = Limits(url, key=KEY)
        limits.close()
        server.damage = staticmethod(damage)
        assert not limits.refresh()
        assert limits.problem
        server.damage = staticmethod(bytes)
        assert limits.refresh()
    assert (used(limits), limits.problem) == (1, "")


def test_wrong_key_is_a_problem_that_does_not_show_it() -> None:
    with serving(make_snapshot()) as (_, url):
        limits = Limits(url, key="hr_wrong_4711")
        assert not limits.refresh()
    assert "HTTP 401" in limits.problem
    assert "hr_wrong" not in limits.problem


def test_key_is_not_sent_on_to_another_address() -> None:
    with serving(make_snapshot()) as (server, url):
        server.status = 302
        limits = Limits(url, key=KEY)
        assert not limits.refresh()
    assert "HTTP 302" in limits.problem


def test_server_that_is_away_leaves_the_last_good_snapshot() -> None:
    with serving(make_snapshot(make_account(used=1))) as (_, url):
        limits = Limits(url, key=KEY)
        limits.refresh()
    assert not limits.refresh()
    limits.close()
    assert (used(limits), bool(limits.problem)) == (1, True)


@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")  # of threads, from Python 3.12 on
def test_child_of_a_fork_follows_the_file_itself(tmp_path: Path) -> None:
    path = tmp_path / "limits.json"
    replace(path, make_snapshot(make_account(used=1)))
    limits = Limits(path, poll_seconds=0.01)
    wait_until(lambda: used(limits) == 1)
    limits_of_child = os.fork()
    if limits_of_child == 0:
        try:
            wait_until(lambda: used(limits) == 2)
            os._exit(0)
        finally:
            os._exit(1)
    replace(path, make_snapshot(make_account(used=2)))
    _, status = os.waitpid(limits_of_child, 0)
    limits.close()
    assert status == 0
