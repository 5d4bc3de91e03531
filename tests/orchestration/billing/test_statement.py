"""Each thing that can be wrong with a billed hour, and what is said of it."""

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from orchestration.billing.metering import ReportState
from orchestration.billing.statement import BilledHour

AT = datetime(2026, 11, 20, 14, tzinfo=UTC)
FINE = BilledHour(AT, 1204, 1204, 1204, ReportState.CONFIRMED, 1, "id", AT, AT, AT, None, is_closed=True)


def hour_with(state: ReportState | None, **changes: object) -> BilledHour:
    return replace(FINE, state=state, **changes)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("hour", "is_settled", "said"),
    [
        (FINE, True, "1,204 units counted, reported and confirmed by Stripe"),
        (hour_with(None, counted_units=0, reported_units=0), True, "nothing counted and nothing reported"),
        (hour_with(None, reported_units=0, is_closed=False), False, "1,204 units counted so far"),
        (hour_with(None, reported_units=0), False, "nothing reported: the next run reports it, or holds it"),
        (hour_with(ReportState.PREVIEWED, reported_units=0), False, "nothing sent: STRIPE_API_KEY is not set"),
        (
            hour_with(ReportState.REFUSED, reported_units=4, error="no such customer"),
            False,
            "4 reported (refused): no such",
        ),
        (hour_with(ReportState.HELD, reported_units=4, error="too late"), False, "4 reported (held): too late"),
        (hour_with(ReportState.MISMATCH, error="shows 5"), False, "1,204 reported (mismatch): shows 5"),
        (hour_with(ReportState.SENDING, sent_at=None), False, "1,204 sent and in doubt (no answer yet)"),
        (hour_with(ReportState.PREPARED, reported_units=0), False, "the next run sends the rest"),
        (
            hour_with(ReportState.CONFIRMED, counted_units=1200),
            False,
            "1,200 units counted now, 1,204 reported: -4 since then",
        ),
        (
            hour_with(ReportState.SENT, stripe_units=None),
            False,
            "reported; sent 2026-11-20 14:00 UTC, not confirmed yet: Stripe adds",
        ),
        (hour_with(ReportState.SENT, stripe_units=7), False, "not confirmed yet: Stripe showed 7 at the last check"),
    ],
)
def test_hour_is_judged_in_a_sentence(hour: BilledHour, is_settled: bool, said: str) -> None:
    assert said in hour.verdict
    assert hour.is_settled is is_settled
