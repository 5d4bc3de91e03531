"""Words about one account that all messages share: moments, endpoints, what a draft may name."""

from datetime import UTC, date, datetime
from zoneinfo import ZoneInfo

import pytest

from orchestration.messages import account_wording as words
from orchestration.messages.account_wording import DigestDay

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
    rows = [
        {"account_id": "acme", "endpoint": "/v1/search", "calls": 599, "all_calls": 1_000},
        {"account_id": "acme", "endpoint": "", "calls": 1, "all_calls": 1_000},
    ]

    assert words.endpoints_note(rows).splitlines() == [
        "/v1/search: 599 calls, 59 %",
        "without an endpoint: 1 call, 0 %",
    ]
    assert words.endpoints_note([]) == ""
