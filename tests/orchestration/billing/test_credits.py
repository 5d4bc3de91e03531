"""What is left of prepaid credit, and until when."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from orchestration.billing.credits import CreditGrant, Spending, remaining, spending_of, together

NOW = datetime(2026, 11, 20, tzinfo=UTC)
DAY = timedelta(days=1)


def grant(number: str, left: str, **fields: Any) -> CreditGrant:
    usual: dict[str, Any] = {"category": "paid", "priority": 50, "effective_at": NOW - DAY, "expires_at": None}
    return CreditGrant(number, "usd", Decimal(100), Decimal(left), **{**usual, **fields})


def spending(so_far: str = "0", a_day: str | None = "10") -> Spending:
    return Spending(Decimal(so_far), None if a_day is None else Decimal(a_day))


@pytest.mark.parametrize(
    ("grants", "spent", "left", "end"),
    [
        ([grant("a", "100")], spending(), "100", NOW + 10 * DAY),
        ([grant("a", "100")], spending("30"), "70", NOW + 7 * DAY),
        ([grant("a", "100")], spending("130"), "0", NOW),
        ([grant("a", "100")], spending(a_day="0"), "100", None),
        ([grant("a", "100")], spending(a_day=None), "100", None),
        ([grant("a", "100", expires_at=NOW + 3 * DAY)], spending(), "100", NOW + 3 * DAY),
        ([grant("a", "100", expires_at=NOW + 3 * DAY)], spending(a_day="0"), "100", NOW + 3 * DAY),
        ([grant("a", "100", expires_at=NOW + 3 * DAY), grant("b", "100")], spending(), "200", NOW + 13 * DAY),
        ([grant("a", "100"), grant("b", "20", expires_at=NOW + 9 * DAY)], spending("30"), "90", NOW + 9 * DAY),
        (
            [grant("a", "100", priority=1), grant("b", "20", expires_at=NOW + 5 * DAY)],
            spending(),
            "120",
            NOW + 10 * DAY,
        ),
        ([grant("a", "20"), grant("b", "0", effective_at=NOW + 5 * DAY)], spending(), "20", NOW + 15 * DAY),
        ([grant("a", "20"), grant("b", "50", expires_at=NOW)], spending(), "20", NOW + 2 * DAY),
    ],
)
def test_credit_is_used_in_order_until_none_is_left(
    grants: list[CreditGrant], spent: Spending, left: str, end: datetime | None
) -> None:
    found = remaining(grants, "usd", spent, NOW)
    assert found
    assert (found.remaining, found.burns_down_at) == (Decimal(left), end)


@pytest.mark.parametrize("grants", [[], [grant("a", "0")], [grant("a", "5", expires_at=NOW)]])
def test_nothing_is_said_when_nothing_is_left(grants: list[CreditGrant]) -> None:
    assert remaining(grants, "usd", spending(), NOW) is None
    assert remaining([grant("a", "5")], "eur", spending(), NOW) is None


@pytest.mark.parametrize(
    ("so_far", "projected", "expected"),
    [
        ("190", "290", spending("190", "10")),
        ("190", None, spending("190", "10")),
        ("190", "150", spending("190", "0")),
        (None, None, spending("0", None)),
    ],
)
def test_pace_is_the_forecast_or_that_of_until_now(
    so_far: str | None, projected: str | None, expected: Spending
) -> None:
    spent, forecast = (None if each is None else Decimal(each) for each in (so_far, projected))
    assert spending_of(NOW - 19 * DAY, NOW + 10 * DAY, spent, forecast, NOW) == expected


def test_accounts_of_a_customer_are_added_up() -> None:
    assert together([spending("1", "2"), spending("3", "4")]) == spending("4", "6")
    assert together([spending("1", "2"), spending("3", None)]) == spending("4", None)
    assert together([]) == spending("0", "0")
