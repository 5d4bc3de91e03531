from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from orchestration.billing.certificate import Certificate, Status, differences, is_due

END = datetime(2026, 12, 1, tzinfo=UTC)
HOUR = timedelta(hours=1)
FINAL = END + 12 * HOUR
OPEN = Certificate("cus_a", END - timedelta(days=30), END, FINAL, 1, 5, 5, 4, Status.OPEN, "4", END + HOUR)
CERTIFIED = replace(OPEN, status=Status.CERTIFIED, stripe_units=5, difference=None)


@pytest.mark.parametrize(
    ("before", "units", "after", "expected"),
    [
        (None, 5, 1, True),
        (OPEN, 5, 6.99, False),
        (OPEN, 5, 7, True),
        (replace(OPEN, stripe_units=None), 5, 1.5, True),
        (replace(OPEN, certified_at=END + 9 * HOUR), 5, 9.99, False),
        (replace(OPEN, certified_at=END + 9 * HOUR), 5, 10, True),
        (replace(OPEN, certified_at=END + 9 * HOUR), 5, 12, False),
        (replace(OPEN, certified_at=END + 10 * HOUR), 5, 11, False),
        (CERTIFIED, 5, 11, False),
        (CERTIFIED, 6, 11.99, True),
        (CERTIFIED, 6, 12, False),
    ],
)
def test_period_is_compared_again_after_six_hours_and_before_it_is_final(
    before: Certificate | None, units: int, after: float, expected: bool
) -> None:
    assert is_due(before, units, END + after * HOUR) is expected


def test_certificate_says_whether_the_invoice_could_still_change() -> None:
    assert CERTIFIED.sentence == (
        "Certified 2026-12-01 01:00 UTC, before the invoice became final (2026-12-01 12:00): 5 units counted, reported"
        " and shown by Stripe, equal in each hour."
    )
    assert "after the invoice became final" in replace(CERTIFIED, certified_at=FINAL).sentence
    assert OPEN.sentence.startswith("Not certified. Compared 2026-12-01 01:00 UTC")


def test_first_hours_that_differ_are_named_with_their_reasons() -> None:
    counted = {END + n * HOUR: 1_000 for n in range(6)}
    others = {**counted, END: 999, END - HOUR: 1, END + 2 * HOUR: 0}
    del others[END + 5 * HOUR]

    assert differences(counted, dict(counted), "reported", {}) == ""
    assert differences({}, {END: 0}, "reported", {}) == ""
    assert differences(counted, others, "reported", {END: "was refused"}) == (
        "2026-11-30 23:00 UTC: 0 counted, 1 reported; 2026-12-01 00:00 UTC: 1,000 counted, 999 reported (was refused);"
        " 2026-12-01 02:00 UTC: 1,000 counted, 0 reported; and 1 more hours"
    )
