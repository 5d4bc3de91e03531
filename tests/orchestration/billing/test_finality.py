"""When an invoice is final, by what Stripe says, and which hours belong to which period."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

from orchestration.billing.billed_periods import billed_periods, outside
from orchestration.billing.finality import closing, final_at, in_order, open_since
from orchestration.billing.invoicing import InvoiceLine, SubscriptionPeriod

START, END = datetime(2026, 10, 17, 14, 0, 7, tzinfo=UTC), datetime(2026, 11, 17, 14, 0, 7, tzinfo=UTC)
NEXT = datetime(2026, 12, 17, 14, 0, 7, tzinfo=UTC)
HOUR = timedelta(hours=1)
PERIOD = SubscriptionPeriod(
    *("cus_a", "sub_1", "si_1", "price_1", "usd", START, END, "active", False, False, None, START)
)
RUNNING = replace(PERIOD, period_start=END, period_end=NEXT)
LINE = InvoiceLine(
    *("il_1", "in_1", "draft", "cus_a", "si_1", START, END, 5, 500, "usd", END + 3 * HOUR, None, END + HOUR)
)
FINAL = replace(LINE, invoice_status="open", finalizes_at=None, finalized_at=END + 2 * HOUR)


def test_invoice_is_final_when_stripe_says_so() -> None:
    assert final_at(PERIOD, [], HOUR) == END + HOUR, "by the grace period, as long as there is no invoice"
    assert final_at(PERIOD, [LINE], HOUR) == END + 3 * HOUR
    assert final_at(PERIOD, [FINAL], HOUR) == END + 2 * HOUR
    assert final_at(PERIOD, [replace(LINE, finalizes_at=None)], HOUR) is None, "people do it"
    assert final_at(PERIOD, [replace(FINAL, invoice_status="void")], 5 * HOUR) == END + 5 * HOUR


def test_invoice_of_a_threshold_does_not_close_the_period() -> None:
    threshold = replace(FINAL, period_end=END - timedelta(days=5), finalized_at=END - timedelta(days=5))
    assert final_at(PERIOD, [threshold], HOUR) == END + HOUR
    assert final_at(PERIOD, [threshold, FINAL], HOUR) == END + 2 * HOUR


def test_usage_can_be_billed_from_the_first_period_on_that_is_open() -> None:
    periods = [PERIOD, RUNNING]
    assert open_since(periods, [FINAL], END + HOUR, HOUR) == {"cus_a": START}
    assert open_since(periods, [FINAL], END + 2 * HOUR, HOUR) == {"cus_a": END}
    assert open_since([PERIOD], [FINAL], END + 2 * HOUR, HOUR) == {"cus_a": END}, "it ended, and nothing is open"
    assert closing(periods, [FINAL], END + HOUR, HOUR) == {"cus_a": END}
    assert closing(periods, [FINAL], END + 2 * HOUR, HOUR) == {}
    by_hand = replace(LINE, finalizes_at=None)
    assert open_since(periods, [by_hand], END + 90 * HOUR, HOUR) == {"cus_a": START}


def test_period_ends_where_the_next_begins_or_its_subscription_ends() -> None:
    cut = replace(RUNNING, period_start=END - timedelta(days=3))
    assert [each.period_end for each in in_order([cut, PERIOD])] == [cut.period_start, NEXT]
    ended = replace(RUNNING, ends_at=END + HOUR)
    assert [each.period_end for each in in_order([PERIOD, ended])] == [END, END + HOUR]
    assert in_order([replace(PERIOD, ends_at=START)]) == [], "it never began"


def test_parts_that_no_subscription_has_are_found() -> None:
    assert outside((START, NEXT), []) == [(START, NEXT)]
    assert outside((START, NEXT), [(END, END + HOUR)]) == [(START, END), (END + HOUR, NEXT)]
    assert outside((START, END), [(START - HOUR, NEXT)]) == []
    assert outside((START, END), [(END, NEXT)]) == [(START, END)]


def test_items_that_begin_together_are_one_period_with_all_their_lines() -> None:
    other = replace(PERIOD, subscription_item_id="si_2", subscription_id="sub_2")
    elsewhere = replace(PERIOD, subscription_item_id="si_3", period_start=START + HOUR)
    lines = [FINAL, replace(FINAL, line_id="il_2", subscription_item_id="si_2", quantity=6)]
    found = billed_periods([("cus_b", START, END)], [PERIOD, other, elsewhere], lines, END, HOUR)
    both, third, nobodys = found
    assert (both.invoice_units, both.line_ids, both.subscription_id) == (11, "il_1 il_2", "sub_1 sub_2")
    assert both.overlapping == (elsewhere,)
    assert (third.overlapping, third.invoice_units) == ((PERIOD, other), None)
    assert (nobodys.stripe_customer_id, nobodys.items) == ("cus_b", ())


def test_one_item_that_awaits_its_invoice_keeps_the_period_open() -> None:
    other = replace(PERIOD, subscription_item_id="si_2")
    draft = replace(LINE, line_id="il_2", subscription_item_id="si_2")
    [found] = billed_periods([], [PERIOD, other], [FINAL, draft], END, HOUR)
    assert (found.invoice_units, found.final_at) == (None, END + 3 * HOUR)
