from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from orchestration.billing.certificate import Certificate, Status, differences, is_due

END = datetime(2026, 12, 1, tzinfo=UTC)
HOUR = timedelta(hours=1)
FINAL = END + 12 * HOUR
OPEN = Certificate(
    *("cus_a", END - timedelta(days=30), END, FINAL, 1, 5, 5, 4, Status.OPEN, "4", END + HOUR),
    subscription_id="sub_1",
    invoice_ids="in_1",
    line_ids="il_1 il_2",
)
CERTIFIED = replace(OPEN, status=Status.CERTIFIED, stripe_units=5, difference=None, invoice_units=5, invoice_amount=500)


AWAITS = replace(OPEN, status=Status.AWAITS, stripe_units=5, difference=None)


@pytest.mark.parametrize(
    ("before", "units", "invoiced", "after", "expected"),
    [
        (None, 5, None, 1, True),
        (OPEN, 5, None, 6.99, False),
        (OPEN, 5, None, 7, True),
        (replace(OPEN, stripe_units=None), 5, None, 1.5, True),
        (replace(OPEN, certified_at=END + 9 * HOUR), 5, None, 10.99, False),
        (replace(OPEN, certified_at=END + 9 * HOUR), 5, None, 11, True),
        (replace(OPEN, certified_at=END + 9 * HOUR), 5, None, 12, False),
        (replace(OPEN, certified_at=END + 11 * HOUR), 5, None, 11.5, False),
        (AWAITS, 5, None, 2, False),
        (AWAITS, 6, None, 2, True),
        (replace(AWAITS, certified_at=END + 9 * HOUR), 5, None, 11, True),
        (replace(AWAITS, difference="1 hours are being reported", stripe_units=None), 5, None, 1.5, True),
        (AWAITS, 5, 5, 2, True),
        (CERTIFIED, 5, 5, 11, False),
        (CERTIFIED, 6, 5, 11.99, True),
        (CERTIFIED, 6, 5, 400, True),
        (CERTIFIED, 5, None, 400, True),
        (replace(CERTIFIED, status=Status.SETTLED), 5, 5, 400, False),
        (replace(CERTIFIED, status=Status.SETTLED), 6, 5, 400, True),
    ],
)
def test_period_is_compared_again_when_something_changed_or_is_due(
    before: Certificate | None, units: int, invoiced: int | None, after: float, expected: bool
) -> None:
    amount = None if invoiced is None else 500
    assert is_due(before, units, invoiced, amount, FINAL, END + after * HOUR) is expected


def test_certificate_names_the_subscription_the_invoice_and_its_lines() -> None:
    assert replace(CERTIFIED, certified_at=FINAL).sentence == (
        "Certified 2026-12-01 12:00 UTC, after the invoice became final (2026-12-01 12:00): 5 units counted, reported"
        " and invoiced on in_1 (subscription sub_1; lines il_1 il_2)."
    )
    assert OPEN.sentence.startswith("Not certified. Compared 2026-12-01 01:00 UTC, before the invoice became final")
    assert AWAITS.sentence.endswith("(2026-12-01 12:00): equal so far.")


@pytest.mark.parametrize(
    ("certificate", "said"),
    [
        (OPEN, "can still repair it until 2026-12-01 12:00 UTC"),
        (replace(OPEN, certified_at=FINAL, invoice_units=3), "Bill the missing 2 units by an invoice item"),
        (replace(OPEN, certified_at=FINAL, invoice_units=6), "Credit 1 unit by a credit note on in_1"),
        (replace(OPEN, certified_at=FINAL, invoice_units=5), "Compare the price of the subscription"),
        (replace(OPEN, subscription_id=None), "Add the metered price of its plan"),
    ],
)
def test_difference_says_what_to_do(certificate: Certificate, said: str) -> None:
    assert said in certificate.advice
    assert said in certificate.sentence


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
