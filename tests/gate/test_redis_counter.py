"""One count for many gates, while Redis goes away, comes back, and loses what it had."""

import asyncio
import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from headroom_gate.policy import Outcome
from headroom_gate.rates import Rate
from headroom_gate.redis_counter import RedisCounter
from tests.fakes.redis import Redis
from tests.gate.world import END, NOW, START, Clock, make_question
from tests.support.waiting import wait_until

HASH = f"headroom:gate:{{acme}}:{START}"


def make_counter(redis: Redis, **options: Any) -> RedisCounter:
    return RedisCounter(redis.url, **{"timeout_seconds": 30, "retry_seconds": 0, **options})


def test_allowed_call_is_one_round_trip_with_a_rate_as_well(redis: Redis) -> None:
    counter = make_counter(redis)
    question = make_question(100, rate=Rate(50, 1), throttle=Rate(1, 1), kind="throttle")
    counter.take(question)  # loads the script
    redis.client.config_resetstat()

    for _ in range(5):
        counter.take(question)

    commands = redis.client.info("commandstats")
    asked = {name: about["calls"] for name, about in commands.items() if name in ("cmdstat_evalsha", "cmdstat_eval")}
    assert asked == {"cmdstat_evalsha": 5}


def test_call_that_is_too_fast_is_not_in_the_count(redis: Redis) -> None:
    counters = [make_counter(redis), make_counter(redis)]
    answers = [counters[n % 2].take(make_question(100, rate=Rate(3, 60))) for n in range(6)]

    assert [answer.outcome for answer in answers].count(Outcome.ALLOWED) == 3
    assert answers[-1].spent == 3


def test_rate_is_shared_by_gates_without_a_quota_too(redis: Redis) -> None:
    counters = [make_counter(redis), make_counter(redis)]
    outcomes = [counters[n % 2].take(make_question(None, rate=Rate(3, 60))).outcome for n in range(6)]
    assert outcomes.count(Outcome.ALLOWED) == 3


def test_throttle_past_the_quota_is_shared_by_gates(redis: Redis) -> None:
    counters = [make_counter(redis), make_counter(redis)]
    question = make_question(10, 10, kind="throttle", rate=Rate(50, 60), throttle=Rate(2, 60))
    outcomes = [counters[n % 2].take(question).outcome for n in range(6)]
    assert outcomes == [Outcome.ALLOWED] * 2 + [Outcome.RATE] * 4


def test_gate_counts_on_from_what_it_heard_while_redis_is_away(redis: Redis) -> None:
    here, there = make_counter(redis), make_counter(redis)
    for counter in (here, there, there, here):
        counter.take(make_question(6))
    redis.stop()
    try:
        outcomes = [here.take(make_question(6)).outcome for _ in range(3)]
    finally:
        redis.start()

    assert outcomes == [Outcome.ALLOWED, Outcome.ALLOWED, Outcome.QUOTA]
    assert here.failures == 3


def test_calls_of_the_time_without_redis_count_once_when_it_is_back(redis: Redis) -> None:
    here, there = make_counter(redis), make_counter(redis)
    for counter in (here, there):
        counter.take(make_question(100))
    saved = redis.client.hgetall(HASH)
    redis.stop()
    for _ in range(3):
        here.take(make_question(100))
    redis.start()
    redis.client.hset(HASH, mapping=saved)  # as a Redis that keeps its data on the disk

    assert [here.take(make_question(100)).spent for _ in range(2)] == [6, 7]
    assert there.take(make_question(100)).spent == 8


def test_redis_that_lost_its_memory_gets_the_count_back_from_the_gates(redis: Redis) -> None:
    here, there = make_counter(redis), make_counter(redis)
    for counter in (here, here, there, there, there):
        counter.take(make_question(100))
    redis.client.flushall()

    assert here.take(make_question(100)).spent == 3
    assert there.take(make_question(100)).spent == 7
    assert here.take(make_question(100)).spent == 8


def test_lost_memory_comes_back_once_when_no_call_fits(redis: Redis) -> None:
    counter = make_counter(redis)
    for _ in range(4):
        counter.take(make_question(4))
    redis.client.flushall()
    assert [counter.take(make_question(4)).spent for _ in range(3)] == [4, 4, 4]


def test_lost_memory_comes_back_without_what_the_snapshot_counts(redis: Redis) -> None:
    counter = make_counter(redis, clock=Clock())
    for _ in range(2):
        counter.take(make_question(100))
    later = make_question(100, 2, published_at=NOW + 100, through=NOW + 50)
    assert counter.take(later).spent == 3
    redis.client.flushall()
    assert counter.take(later).spent == 4


class Line:
    """A connection to Redis that passes questions on, and loses answers while it is cut."""

    def __init__(self, redis: Redis) -> None:
        self.is_cut = False
        self._server = socket.create_server(("127.0.0.1", 0))
        self._redis = urlsplit(redis.url)
        self.url = f"redis://127.0.0.1:{self._server.getsockname()[1]}/0"
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        self._server.shutdown(socket.SHUT_RDWR)
        self._server.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._server.accept()
                server = socket.create_connection((self._redis.hostname, self._redis.port))
                for source, target, is_answer in ((client, server, False), (server, client, True)):
                    threading.Thread(target=self._pass, args=(source, target, is_answer), daemon=True).start()

    def _pass(self, source: socket.socket, target: socket.socket, is_answer: bool) -> None:
        with contextlib.suppress(OSError), source, target:
            while data := source.recv(65_536):
                if not (is_answer and self.is_cut):
                    target.sendall(data)


def test_answer_that_was_lost_counts_once(redis: Redis) -> None:
    line = Line(redis)
    counter = RedisCounter(line.url, timeout_seconds=0.2, retry_seconds=0)
    wait_until(lambda: counter.take(make_question(100)) and not counter.failures)
    line.is_cut = True
    counter.take(make_question(100))
    assert counter.failures == 1
    wait_until(lambda: redis.client.hget(HASH, "total") == "2")

    line.is_cut = False
    spent = counter.take(make_question(100)).spent
    line.close()

    assert spent == 3
    assert redis.client.hget(HASH, "total") == "3"


def test_redis_that_is_away_is_not_asked_again_at_once(redis: Redis) -> None:
    counter = make_counter(redis, retry_seconds=60)
    redis.stop()
    try:
        for _ in range(3):
            counter.take(make_question(100))
    finally:
        redis.start()

    assert counter.is_away
    assert counter.failures == 1


def test_redis_that_refuses_the_key_is_said_once_in_the_log(redis: Redis, caplog: pytest.LogCaptureFixture) -> None:
    counter = RedisCounter(redis.url.replace("://", "://gate:wrong-4711@"), timeout_seconds=30, retry_seconds=0)
    for _ in range(3):
        counter.take(make_question(100))
    assert [record.message for record in caplog.records] == [
        f"Redis does not answer, so this process counts by itself: {counter.problem}"
    ]
    assert "password" in counter.problem
    assert "wrong-4711" not in caplog.text


def test_problem_with_redis_is_over_when_it_answers(redis: Redis) -> None:
    counter = make_counter(redis)
    redis.stop()
    counter.take(make_question(100))
    assert "refused" in counter.problem
    redis.start()
    counter.take(make_question(100))
    assert counter.problem == ""


def test_redis_that_hangs_is_asked_by_one_call_at_a_time(redis_server: Redis) -> None:
    counter = RedisCounter(redis_server.url, timeout_seconds=0.05, retry_seconds=0.05)
    with redis_server.hanging():
        counter.take(make_question(100))
        wait_until(lambda: not counter.is_away)
        counter._retry_seconds = 600

        async def take() -> None:
            await asyncio.gather(*(counter.take_async(make_question(100)) for _ in range(20)))
            await counter.aclose()

        asyncio.run(take())
        assert counter.failures == 2
        assert counter._local.tally(make_question(100)).own == 21


def test_call_after_the_retry_time_asks_redis_again(redis: Redis) -> None:
    counter = make_counter(redis, retry_seconds=0.05)
    redis.stop()
    counter.take(make_question(100))
    redis.start()
    wait_until(lambda: not counter.is_away)

    counter.take(make_question(100))

    assert redis.client.hget(HASH, "total") == "2"


def test_buckets_that_a_newer_snapshot_counts_are_deleted(redis: Redis) -> None:
    counter, now = make_counter(redis), int(time.time())
    counter.take(make_question(100, through=now - 600, published_at=now))
    assert [field for field in redis.client.hkeys(HASH) if field.isdigit()]

    counter.take(make_question(100, through=now + 600, published_at=now + 601))

    assert [int(field) for field in redis.client.hkeys(HASH) if field.isdigit()] == [now + 601]


def test_count_is_gone_a_day_after_its_period(redis: Redis) -> None:
    make_counter(redis).take(make_question(100))
    assert redis.client.expiretime(HASH) == END + 86_400


def test_count_holds_where_the_clock_of_redis_is_past_the_period(redis: Redis) -> None:
    counter, question = make_counter(redis), make_question(3, published_at=200, through=150)
    over = question._replace(limit=question.limit._replace(period_start=100, resets_at=300))
    outcomes = [counter.take(over).outcome for _ in range(5)]
    assert outcomes == [Outcome.ALLOWED] * 3 + [Outcome.QUOTA] * 2


def test_call_that_is_cancelled_while_redis_is_asked_counts_once(redis: Redis) -> None:
    line = Line(redis)
    counter = RedisCounter(line.url, timeout_seconds=30, retry_seconds=0)

    async def spent() -> list[int]:
        await counter.take_async(make_question(100))
        line.is_cut = True
        call = asyncio.ensure_future(counter.take_async(make_question(100)))
        await asyncio.to_thread(wait_until, lambda: redis.client.hget(HASH, "total") == "2")
        call.cancel()
        await asyncio.gather(call, return_exceptions=True)
        line.is_cut = False
        before = await counter.take_async(make_question(100))
        redis.client.flushall()
        after = await counter.take_async(make_question(100))
        await counter.aclose()
        return [before.spent, after.spent]

    assert asyncio.run(spent()) == [3, 4]
    line.close()


def test_script_is_loaded_again_into_a_redis_that_does_not_know_it(redis: Redis) -> None:
    counter = make_counter(redis)
    counter.take(make_question(100))
    redis.client.script_flush()
    assert counter.take(make_question(100)).spent == 2
    assert counter.failures == 0


def test_large_counts_are_exact(redis: Redis) -> None:
    counter = make_counter(redis)
    assert counter.take(make_question(10**15, 10**15 - 1)).spent == 10**15
    assert counter.take(make_question(10**15, 10**15 - 1)).outcome is Outcome.QUOTA


def test_account_with_braces_and_blanks_has_a_count(redis: Redis) -> None:
    counter = make_counter(redis)
    spent = [counter.take(make_question(100, account_id=name)).spent for name in ("a b", "{x}", "日本", "a b")]
    assert spent == [1, 1, 1, 2]


def test_old_snapshot_of_one_gate_does_not_bring_calls_back(redis: Redis) -> None:
    now = int(time.time())
    late, early = make_counter(redis), make_counter(redis)
    old = make_question(100, 0, through=now - 600, published_at=now - 500)
    late.take(old)
    redis.client.flushall()
    early.take(make_question(100, 1, through=now + 600, published_at=now + 601))
    assert late.take(old).spent == 3


def test_count_goes_on_from_one_event_loop_to_the_next(redis: Redis) -> None:
    counter = make_counter(redis)

    async def take() -> int:
        spent = (await counter.take_async(make_question(100))).spent
        await counter.aclose()
        return spent

    assert [asyncio.run(take()) for _ in range(2)] == [1, 2]
    assert counter.failures == 0


def test_calls_beyond_the_connections_wait_for_one(redis: Redis) -> None:
    counter = RedisCounter(redis.url, timeout_seconds=30, max_connections=3)

    async def take() -> int:
        answers = await asyncio.gather(*(counter.take_async(make_question(10**6)) for _ in range(100)))
        await counter.aclose()
        return max(answer.spent for answer in answers)

    assert asyncio.run(take()) == 100
    assert counter.failures == 0


@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")  # of threads, from Python 3.12 on
def test_children_of_a_fork_count_for_themselves(redis: Redis) -> None:
    counter = make_counter(redis)
    counter.take(make_question(100))
    for _ in range(2):
        if (child := os.fork()) == 0:
            try:
                counter.take(make_question(100))
            finally:
                os._exit(0)
        os.waitpid(child, 0)

    assert counter.take(make_question(100)).spent == 4
    assert len([field for field in redis.client.hkeys(HASH) if field.startswith("gate:")]) == 3


_GATE = """
import sys
from headroom_gate.redis_counter import RedisCounter
from tests.gate.world import make_question
counter = RedisCounter(sys.argv[1], timeout_seconds=30)
while True:
    print(counter.take(make_question(10**9)).spent, flush=True)
"""


def test_kill_9_of_a_gate_loses_no_unit_that_was_let_through(redis: Redis) -> None:
    root = Path(__file__).parents[2]
    with subprocess.Popen(
        [sys.executable, "-c", _GATE, redis.url], stdout=subprocess.PIPE, text=True, cwd=root
    ) as process:
        assert process.stdout
        seen = [int(process.stdout.readline()) for _ in range(50)]
        os.kill(process.pid, signal.SIGKILL)
        seen += [int(line) for line in process.stdout if line.endswith("\n")]

    total = redis.client.hget(HASH, "total")
    assert total
    assert len(seen) <= int(total) <= len(seen) + 1
