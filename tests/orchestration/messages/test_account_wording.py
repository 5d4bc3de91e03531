"""Words about one account that all messages share: moments, endpoints, what a draft may name."""

from datetime import UTC, date, datetime
from zoneinfo import ZoneInfo

import pytest

from orchestration.messages import account_wording as words
from orchestration.messages.account_wording import DigestDay
from tests.support.builders import make_standing

FRIDAY = date(2026, 11, 20)
BERLIN = ZoneInfo("Europe/Berlin")
DIGEST_DAY = DigestDay(FRIDAY, BERLIN, since=datetime(2026, 11, 19, 7, tzinfo=UTC))


@pytest.mark.parametrize(
    ("at", "said"),
    [
        (datetime(2026, 11, 20, 6, tzinfo=UTC), "today 07:00"),
        (datetime(2026, 11, 18, 23, tzinfo=UTC), "yesterday 00:00"),  # of Berlin's day
        (datetime(2026, 11, 18, 22, 59, tzinfo=UTC), "Wed 23:59"),
        (datetime(2026, 11, 13, 23, tzinfo=UTC), "Sat 00:00"),
        (datetime(2026, 11, 13, 22, 59, tzinfo=UTC), "13 Nov 23:59"),  # of the same weekday as the digest
    ],
)
def test_moment_is_said_as_of_the_digests_day(at: datetime, said: str) -> None:
    assert DIGEST_DAY.moment(at) == said


def test_endpoints_have_their_share_of_all_calls() -> None:
    of = {"property": "endpoint", "all_used": 1_000}
    [note] = words.values_notes(
        [{**of, "value": "/v1/search", "used": 599}, {**of, "value": "", "used": 1}], make_standing(unit="credits")
    )

    assert note["title"] == "Top endpoints of the last 7 days"
    assert note["text"].splitlines() == ["/v1/search: 599 calls, 59 %", "without an endpoint: 1 call, 0 %"]
    assert words.values_notes([], make_standing()) == []


def test_values_of_each_property_have_a_note_in_the_meters_unit() -> None:
    values = [
        {"property": "model", "value": "large", "used": 2_500, "all_used": 3_000},
        {"property": "model", "value": "", "used": 500, "all_used": 3_000},
        {"property": "region", "value": "eu", "used": 0, "all_used": 0},
    ]

    notes = words.values_notes(values, make_standing(meter="transfer", unit="0.001 GB", aggregation="sum"))
    assert [(note["title"], note["text"].splitlines()) for note in notes] == [
        ("Top values of model of the last 7 days", ["large: 2.5 GB, 83 %", "without a model: 0.5 GB, 16 %"]),
        ("Top values of region of the last 7 days", ["eu: 0 GB, 0 %"]),
    ]
