from datetime import UTC, datetime, timedelta

import pytest

from orchestration.defs.retries import EVERY, retries_due

EIGHT = datetime(2026, 11, 20, 8, tzinfo=UTC)


@pytest.mark.parametrize("seconds", [0, 1, 20, 149, 150, 151, 240, 299])
@pytest.mark.parametrize("lag", [0, 4], ids=["on the tick", "seconds after it"])
def test_retries_come_after_5_10_20_and_40_minutes_whenever_it_was_decided(seconds: int, lag: int) -> None:
    since, seen = EIGHT + timedelta(seconds=seconds), dict[int, timedelta]()
    for number in range(1, 20):
        tick = EIGHT + number * EVERY + timedelta(seconds=lag)
        if due := retries_due(since, tick):
            seen.setdefault(due, tick - since)

    assert list(seen) == [1, 2, 3, 4, 5]
    for retry, waited in seen.items():
        assert abs(waited - EVERY * 2 ** (retry - 1)) <= EVERY / 2 + timedelta(seconds=lag)


def test_digest_of_a_few_seconds_after_eight_is_tried_again_on_the_promised_ticks() -> None:
    ticks = [minutes for minutes in range(5, 60, 5) if _is_new(EIGHT + timedelta(seconds=20), minutes)]

    assert ticks == [5, 10, 20, 40]


def _is_new(since: datetime, minutes: int) -> bool:
    tick = EIGHT + timedelta(minutes=minutes)
    return retries_due(since, tick) > retries_due(since, tick - EVERY)


def test_nothing_is_due_when_the_clock_was_set_back() -> None:
    assert retries_due(EIGHT, EIGHT - timedelta(hours=1)) == 0
