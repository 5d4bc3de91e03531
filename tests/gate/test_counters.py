"""Counters keep their promise: never a unit too many, and no refusal while there is room."""

import asyncio
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from headroom_gate import redis_counter
from headroom_gate.counters import Counter, LocalCounter, bucket
from headroom_gate.policy import Outcome
from headroom_gate.rates import Rate
from headroom_gate.redis_counter import RedisCounter
from tests.fakes.redis import Redis
from tests.gate.world import END, NOW, START, Clock, make_question

COSTS = st.lists(st.integers(1, 7), min_size=1, max_size=40)
ON_REDIS = settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def take_all(counters: Sequence[Counter], costs: Sequence[int], quota: int, used: int) -> list[Outcome]:
    """Each call by the next of the counters, all of them at once."""
    barrier = threading.Barrier(len(counters))

    def some(number: int) -> list[Outcome]:
        barrier.wait()
        return [
            counters[number].take(make_question(quota, used, cost)).outcome for cost in costs[number :: len(counters)]
        ]

    with ThreadPoolExecutor(len(counters)) as pool:
        parts = list(pool.map(some, range(len(counters))))
    return [parts[place % len(counters)][place // len(counters)] for place in range(len(costs))]


def check(costs: Sequence[int], outcomes: Sequence[Outcome], quota: int, used: int) -> None:
    """Never above the quota. What was refused would not fit in the end either."""
    spent = sum(cost for cost, outcome in zip(costs, outcomes, strict=True) if outcome is Outcome.ALLOWED)
    assert used + spent <= max(quota, used)
    assert all(
        used + spent + cost > quota for cost, outcome in zip(costs, outcomes, strict=True) if outcome is Outcome.QUOTA
    )


@given(COSTS, st.integers(0, 60), st.integers(0, 40), st.integers(1, 4))
def test_local_count_lets_through_exactly_the_quota(costs: list[int], quota: int, used: int, threads: int) -> None:
    counter = LocalCounter(Clock())
    check(costs, take_all([counter] * threads, costs, quota, used), quota, used)


@ON_REDIS
@given(COSTS, st.integers(0, 60), st.integers(0, 40), st.integers(2, 4))
def test_gates_on_one_redis_let_through_exactly_the_quota(
    redis: Redis, costs: list[int], quota: int, used: int, gates: int
) -> None:
    redis.client.flushall()
    counters = [RedisCounter(redis.url, timeout_seconds=30) for _ in range(gates)]
    check(costs, take_all(counters, costs, quota, used), quota, used)


def test_two_gates_of_one_redis_refuse_exactly_at_the_limit(redis: Redis) -> None:
    counters = [RedisCounter(redis.url, timeout_seconds=30) for _ in range(2)] * 2
    outcomes = take_all(counters, [1] * 400, 250, 0)
    assert outcomes.count(Outcome.ALLOWED) == 250


def test_tasks_of_one_event_loop_refuse_exactly_at_the_limit(redis: Redis) -> None:
    async def run() -> list[Outcome]:
        counters = [RedisCounter(redis.url, timeout_seconds=30) for _ in range(2)]
        answers = await asyncio.gather(*(counters[n % 2].take_async(make_question(25)) for n in range(60)))
        for counter in counters:
            await counter.aclose()
        return [answer.outcome for answer in answers]

    assert asyncio.run(run()).count(Outcome.ALLOWED) == 25


@pytest.fixture(params=["local", "redis"])
def counter(request: pytest.FixtureRequest) -> Counter:
    if request.param == "local":
        return LocalCounter(Clock())
    url: str = request.getfixturevalue("redis").url
    return RedisCounter(url, timeout_seconds=30)


def spent(counter: Counter, times: int, **question: object) -> int:
    """After so many calls."""
    return [counter.take(make_question(**question)).spent for _ in range(times)][-1]  # type: ignore[arg-type]


def test_newer_snapshot_counts_what_it_says_and_the_calls_after_it(counter: Counter) -> None:
    # the clock of Redis is that of today: all calls are later than the snapshots' data here
    through = 1_700_000_000
    assert spent(counter, 3, quota=100, used=10, published_at=through + 60, through=through) == 13
    assert spent(counter, 1, quota=100, used=12, published_at=through + 120, through=through) == 16


def test_newer_snapshot_takes_the_place_of_the_calls_that_it_counts(counter: Counter) -> None:
    assert spent(counter, 3, quota=100, used=10) == 13
    assert spent(counter, 1, quota=100, used=13, published_at=NOW + 10**8, through=NOW + 10**8) == 14


def test_older_snapshot_changes_nothing(counter: Counter) -> None:
    spent(counter, 1, quota=100, used=50, published_at=NOW + 10)
    assert spent(counter, 1, quota=100, used=10, published_at=NOW) == 52


def test_upgrade_opens_the_gate_with_the_next_snapshot(counter: Counter) -> None:
    assert counter.take(make_question(10, 10)).outcome is Outcome.QUOTA
    assert counter.take(make_question(500, 10, published_at=NOW + 1)).outcome is Outcome.ALLOWED


def test_first_refusal_of_a_period_is_known_once(counter: Counter) -> None:
    firsts = [counter.take(make_question(10, 10)).is_first for _ in range(3)]
    assert firsts == [True, False, False]


def test_free_call_fits_into_a_count_that_is_past_its_quota(counter: Counter) -> None:
    answers = [counter.take(make_question(10, 11, cost)) for cost in (0, 1)]
    assert [answer.outcome for answer in answers] == [Outcome.ALLOWED, Outcome.QUOTA]


def test_call_above_the_whole_rate_passes_and_takes_all_of_it(counter: Counter) -> None:
    outcomes = [counter.take(make_question(100, cost=5, rate=Rate(2, 60))).outcome for _ in range(2)]
    assert outcomes == [Outcome.ALLOWED, Outcome.RATE]


def test_accounts_do_not_share_a_count(counter: Counter) -> None:
    spent(counter, 5, quota=100)
    assert spent(counter, 1, quota=100, account_id="globex") == 1


def test_clock_that_jumps_back_keeps_each_call_in_the_count() -> None:
    clock = Clock()
    counter = LocalCounter(clock)
    clock.now = NOW - 86_400  # before what the snapshot counts

    assert spent(counter, 3, quota=10) == 3
    clock.now = NOW
    assert spent(counter, 1, quota=10) == 4


def test_clock_that_jumps_into_the_next_period_and_back_keeps_both_counts() -> None:
    counter = LocalCounter(Clock())
    later = make_question(10)
    later = later._replace(limit=later.limit.at(END))

    spent(counter, 4, quota=10)
    assert counter.take(later).spent == 1
    assert spent(counter, 1, quota=10) == 5


@given(st.integers(0, 31 * 86_400))
def test_bucket_of_a_call_is_later_than_what_the_snapshot_counts(seconds: int) -> None:
    assert bucket(START + seconds, START) > START
    assert bucket(START - seconds, START) == START + 1


def test_buckets_stay_few_while_the_snapshot_grows_old() -> None:
    hour, days = ({bucket(START + second, START) for second in range(seconds)} for seconds in (3600, 2 * 86_400))
    assert (len(hour), len(days) < 20_000) == (3599, True)


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("wait"), st.integers(1, 100)),
        st.tuples(st.just("call"), st.integers(1, 7)),
        st.tuples(st.just("publish"), st.integers(1, 60)),
    ),
    max_size=60,
)
"""Shorter than two hours: a bucket is one second then."""


def check_steps(counter: Counter, clock: Clock, steps: list[tuple[str, int]], quota: int) -> None:
    """Where each snapshot has all calls up to its time, the count is that of the calls, and decides exactly."""
    calls, published_at, used, through = list[tuple[float, int]](), NOW, 0, NOW - 60
    for step, number in steps:
        if step == "wait":
            clock.now += number
        elif step == "publish":
            published_at, through = max(published_at + 1, int(clock.now)), max(through, int(clock.now) - number)
            used = sum(cost for at, cost in calls if at <= through)
        else:
            spent = sum(cost for _, cost in calls)
            answer = counter.take(make_question(quota, used, number, published_at=published_at, through=through))
            fits = spent + number <= quota
            assert answer == (Outcome.ALLOWED if fits else Outcome.QUOTA, spent + number * fits, answer.is_first)
            if fits:
                calls.append((clock.now, number))


@given(STEPS, st.integers(0, 120))
def test_local_count_is_exact_from_snapshot_to_snapshot(steps: list[tuple[str, int]], quota: int) -> None:
    clock = Clock()
    check_steps(LocalCounter(clock), clock, steps, quota)


class ClockOfRedis(Clock):
    """The clock of Redis as a key, for a script that reads it in place of TIME."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis
        self.now = NOW

    @property
    def now(self) -> float:
        return self._now

    @now.setter
    def now(self, now: float) -> None:
        self._now = now
        self._redis.client.set("now", int(now))


@pytest.fixture
def redis_clock(redis: Redis, monkeypatch: pytest.MonkeyPatch) -> ClockOfRedis:
    script = redis_counter.SCRIPT.replace("redis.call('time')", "redis.call('mget', 'now')")
    assert script != redis_counter.SCRIPT
    monkeypatch.setattr(redis_counter, "SCRIPT", script)
    return ClockOfRedis(redis)


@ON_REDIS
@given(STEPS, st.integers(0, 120))
def test_redis_count_is_exact_from_snapshot_to_snapshot(
    redis: Redis, redis_clock: ClockOfRedis, steps: list[tuple[str, int]], quota: int
) -> None:
    redis.client.flushall()
    redis_clock.now = NOW
    check_steps(RedisCounter(redis.url, timeout_seconds=30, clock=redis_clock), redis_clock, steps, quota)


@given(st.integers(7_200, 10**6), st.lists(st.integers(0, 400), min_size=1), st.integers(0, 400))
def test_coarse_bucket_refuses_no_call_too_early(age: int, calls: list[int], until: int) -> None:
    clock = Clock()
    counter, start = LocalCounter(clock), NOW + age
    for second in sorted(calls):
        clock.now = start + second
        counter.take(make_question(10**6, through=NOW))
    used = sum(second <= until for second in calls)

    answer = counter.take(make_question(10**6, used, published_at=start + 400, through=start + until))

    width = (age + 400) // 3600
    missing = len(calls) + 1 - answer.spent
    assert 0 <= missing <= sum(until < second < until + width for second in calls)


def check_border(counter: Counter, clock: Clock) -> None:
    """A call in the last second that a snapshot counts is in the snapshot, one in the next second is not."""
    for _ in range(2):
        spent(counter, 1, quota=100)
        clock.now += 1
    assert spent(counter, 1, quota=100, used=1, published_at=NOW + 10, through=NOW) == 3


def test_local_snapshot_counts_its_last_second() -> None:
    clock = Clock()
    check_border(LocalCounter(clock), clock)


def test_redis_snapshot_counts_its_last_second(redis: Redis, redis_clock: ClockOfRedis) -> None:
    check_border(RedisCounter(redis.url, timeout_seconds=30), redis_clock)


def test_buckets_of_redis_are_coarser_when_the_snapshot_is_old(redis: Redis, redis_clock: ClockOfRedis) -> None:
    counter = RedisCounter(redis.url, timeout_seconds=30)
    for second in (7200, 7201, 7202):
        redis_clock.now = NOW + second
        spent(counter, 1, quota=100, through=NOW)
    (fields,) = [redis.client.hkeys(key) for key in redis.client.keys("headroom:gate:*")]
    assert sorted(field for field in fields if field.isdigit()) == [f"{NOW + 7200}", f"{NOW + 7202}"]


def test_processes_that_ended_leave_redis_when_a_snapshot_counts_them(redis: Redis, redis_clock: ClockOfRedis) -> None:
    def make_process() -> RedisCounter:
        return RedisCounter(redis.url, timeout_seconds=30, clock=redis_clock)

    ended, idle = [make_process() for _ in range(3)], make_process()
    for counter in (*ended, idle):
        spent(counter, 1, quota=100)
    redis_clock.now = NOW + 5 * 3600
    spent(idle, 1, quota=100)
    redis_clock.now = NOW + 7 * 3600
    newer = {"quota": 100, "used": 5, "published_at": NOW + 7 * 3600, "through": NOW + 6 * 3600}
    (key,) = redis.client.keys("headroom:gate:*")

    assert spent(make_process(), 1, **newer) == 6
    assert len([field for field in redis.client.hkeys(key) if field.startswith("gate:")]) == 2
    assert [spent(counter, 1, **newer) for counter in (ended[0], idle, ended[0])] == [7, 8, 9]


def test_clock_of_redis_that_jumps_back_keeps_each_call_in_the_count(redis: Redis, redis_clock: ClockOfRedis) -> None:
    counter = RedisCounter(redis.url, timeout_seconds=30)
    redis_clock.now = NOW - 86_400
    assert spent(counter, 3, quota=10) == 3
    redis_clock.now = NOW
    assert spent(counter, 1, quota=10) == 4
    assert spent(counter, 1, quota=10, used=4, published_at=NOW + 60, through=NOW + 50) == 5


def test_clock_of_redis_that_jumps_ahead_counts_until_snapshots_reach_it(
    redis: Redis, redis_clock: ClockOfRedis
) -> None:
    counter = RedisCounter(redis.url, timeout_seconds=30)
    redis_clock.now = NOW + 3000
    spent(counter, 1, quota=10)
    redis_clock.now = NOW

    assert spent(counter, 1, quota=10, used=1, published_at=NOW + 60, through=NOW + 50) == 3
    assert spent(counter, 1, quota=10, used=2, published_at=NOW + 3060, through=NOW + 3050) == 3
