"""The day's requests: who comes first, and whether they are enough."""

from datetime import UTC, datetime, timedelta

import pytest

from orchestration.billing.budget import by_need, for_confirming, needed_per_day, shortage, wanted_by_invoices

NOW = datetime(2026, 12, 1, 0, 5, tzinfo=UTC)
HOURS = (NOW, NOW)


def test_invoices_keep_half_of_the_requests_at_most() -> None:
    assert for_confirming(300, 300, wanted=10) == 290
    assert for_confirming(300, 300, wanted=700) == 150
    assert for_confirming(300, 100, wanted=700) == 0
    assert for_confirming(0, 0, wanted=0) == 0


def test_customers_whose_invoice_is_final_soonest_come_first() -> None:
    waiting = dict.fromkeys(("cus_a", "cus_b", "cus_c", "cus_d", "cus_e"), HOURS)
    final_at = {
        "cus_b": NOW + timedelta(hours=3),
        "cus_c": NOW + timedelta(days=9),
        "cus_d": NOW + timedelta(hours=1),
        "cus_e": NOW - timedelta(hours=1),
    }
    assert list(by_need(waiting, final_at, NOW)) == ["cus_d", "cus_b", "cus_a", "cus_c", "cus_e"]


def test_fewer_requests_are_wanted_as_the_day_goes() -> None:
    assert wanted_by_invoices(NOW, 305, 305) > wanted_by_invoices(NOW + timedelta(hours=20), 305, 305) > 305
    assert wanted_by_invoices(NOW, 305, 0) == 4 + 2 + 4


@pytest.mark.parametrize(("customers", "per_day", "is_short"), [(305, 300, True), (305, 800, False), (10, 300, False)])
def test_shortage_is_said_with_the_number_that_is_enough(customers: int, per_day: int, is_short: bool) -> None:
    said = shortage(per_day, customers, customers)
    assert bool(said) is is_short
    if is_short:
        needed = needed_per_day(customers, customers)
        assert f"Set it to {needed:,}" in said
        assert not shortage(needed, customers, customers)
