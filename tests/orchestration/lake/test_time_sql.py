"""Every common way to write a time is read as what it is, or refused: no time is guessed."""

from datetime import UTC, datetime

import pytest

from orchestration.usage import events
from orchestration.usage.events import Rejection
from tests.orchestration.lake.world import World
from tests.support.builders import NOW, make_event

NOON = datetime(2026, 11, 19, 12, tzinfo=UTC)
TIMES: list[tuple[object, datetime | None]] = [
    ("2026-11-19T12:00:00Z", NOON),
    ("2026-11-19T14:30:00+02:30", NOON),
    ("2026-11-19T04:00:00-0800", NOON),
    ("2026-11-19 12:00:00", NOON),
    ("2026-11-19T12:00", NOON),
    ("2026-11-19", NOON.replace(hour=0)),
    ("2026-11-19T12:00:00.123456Z", NOON.replace(microsecond=123456)),
    ("2026-11-19T23:59:59.9999999Z", datetime(2026, 11, 19, 23, 59, 59, 999999, UTC)),
    (1795089600, NOON),
    ("1795089600", NOON),
    (1795089600.5, NOON.replace(microsecond=500000)),
    (1795089600000, NOON),
    ("1795089600123", NOON.replace(microsecond=123000)),
    (1795089600123456, NOON.replace(microsecond=123456)),
    ("2000-01-01T00:00:00Z", datetime(2000, 1, 1, tzinfo=UTC)),
    ("2000-01-01T01:00:00+02:00", None),
    ("1999-12-31T23:59:59.999999Z", None),
    (946684799, None),
    ("9999-06-01T00:00:00Z", None),
    ("9998-12-31T00:00:00Z", None),
    ("2027-11-21T07:59:59Z", datetime(2027, 11, 21, 7, 59, 59, tzinfo=UTC)),
    ("2027-11-21T08:00:00Z", None),
    (1827302400, None),
    # RFC 3339 in small letters, a comma, a blank before the offset, UTC by name
    ("2026-11-19t12:00:00z", NOON),
    ("2026-11-19T12:00:00,5Z", NOON.replace(microsecond=500000)),
    ("2026-11-19 14:00:00 +02:00", NOON),
    ("2026-11-19 14:00:00.5 +0200", NOON.replace(microsecond=500000)),
    ("2026-11-19T14:00:00+02", NOON),
    ("2026-11-19T12:00:00-00:00", NOON),
    ("2026-11-19T12:00:00.123456+00:00", NOON.replace(microsecond=123456)),
    ("2026-11-19 12:00:00 UTC", NOON),
    ("2026-11-19 12:00:00.000 utc", None),
    ("2026-11-19T12:00:00GMT", NOON),
    ("2026-11-18T23:59:60Z", NOON.replace(hour=0)),
    ("2026-11-18T24:00:00Z", NOON.replace(hour=0)),
    # ISO 8601 without separators: with its T it is a time, without it a number, of the year 2612 or 2034
    ("20261119T120000Z", NOON),
    ("20261119T120000", NOON),
    ("20261119T1200", NOON),
    ("20261119T1200Z", NOON),
    ("20261119T140000.250+0200", NOON.replace(microsecond=250000)),
    ("20261119120000", None),
    (20261119120000, None),
    ("20261119120000123", None),
    ("2026111912", None),
    ("20261119", None),
    ("20261119 120000", None),
    # zones by abbreviation or name: the cast takes BST for +06, and it is London's
    ("2026-11-19 12:00:00 BST", None),
    ("2026-11-19 12:00:00 CET", None),
    ("2026-11-19 12:00:00 NZ", None),
    ("2026-11-19T12:00:00 Europe/Berlin", None),
    ("2026-11-19T12:00:00+25:00", None),
    ("2026-11-19T12:00:00+02:60", None),
    ("Thu, 19 Nov 2026 12:00:00 GMT", None),
    ("19/11/2026 12:00", None),
    ("2026-11-19T12:00:60Z", None),
    ("2026-11-19T1:2:3Z", None),
    ("infinity", None),
    ("-infinity", None),
    ("epoch", None),
    ("today", None),
    ("now", None),
    ("", None),
    (0, None),
    (-1795089600, None),
    (1795089600123456789, NOON.replace(microsecond=123456)),
    ("1795089600123456789", NOON.replace(microsecond=123456)),
    ("9999999999999999999", None),
    (17950896001234567890, None),
    (True, None),
    ({}, None),
    ("2026-02-30T00:00:00Z", None),
    ("2026-11-19T12:00:00Z; drop table", None),
]


def test_time_is_read_or_refused(world: World) -> None:
    world.land(*(make_event(uuid=str(number), timestamp=time) for number, (time, _) in enumerate(TIMES, 1)))
    world.ingest()

    read = {number: at for number, (_, at) in enumerate(TIMES, 1) if at}
    assert dict(world.events("line_number, event_at")) == read
    refused = set(range(1, len(TIMES) + 1)) - set(read)
    assert world.rejected() == [(number, Rejection.INVALID_TIME) for number in sorted(refused)]


@pytest.mark.parametrize("name", [*events.API_CALL, events.LIMIT_REACHED])
def test_times_are_the_same_on_both_ways_in(world: World, name: str) -> None:
    """Calls are read by the JSON reader, the others one by one."""
    world.land(*(make_event(event=name, uuid=f"{n}", timestamp=time) for n, (time, _) in enumerate(TIMES, 1)))
    world.ingest()

    read = {number: at for number, (_, at) in enumerate(TIMES, 1) if at}
    assert dict(world.events("line_number, event_at")) == read


def test_time_far_ahead_is_read_when_the_clock_has_come_near(world: World) -> None:
    world.land(make_event(uuid="ahead", at="2028-01-01T00:00:00Z"))
    world.ingest()
    assert world.rejected() == [(1, Rejection.INVALID_TIME)]

    world.replay(NOW.replace(year=2027))
    assert world.events("event_id, event_at") == [("ahead", datetime(2028, 1, 1, tzinfo=UTC))]
