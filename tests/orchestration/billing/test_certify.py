"""At the end of a usage period: was it billed as it was counted? From a hand-written published copy, by a loopback
Stripe.
"""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from orchestration.billing import certify, reconcile
from orchestration.billing.certificate import Certificate, Status
from orchestration.billing.certificate_store import Certificates
from orchestration.billing.certify import CertifyResult
from orchestration.channels.stripe import connect_meter
from tests.fakes.postgres import Postgres
from tests.fakes.stripe import FakeStripe
from tests.support.billing_world import DAY, HOUR, QuickWorld, naive, quick

START, END = datetime(2026, 11, 1, tzinfo=UTC), datetime(2026, 12, 1, tzinfo=UTC)
LAST = END - HOUR
FIRST = START + 10 * HOUR
GRACE = 6


class Closing(QuickWorld):
    """Six hours of grace, and periods that can be given."""

    def __init__(self, folder: Path, stripe: FakeStripe) -> None:
        super().__init__(folder, stripe, HEADROOM_STRIPE_GRACE_HOURS=GRACE)
        stripe.grace_hours = GRACE
        self.periods: list[tuple[str, datetime, datetime, str]] = []
        self.now = datetime(2026, 11, 20, 8, 5, tzinfo=UTC)

    def publish(self) -> None:
        super().publish()
        rows = self.periods or [
            (account, start, end, "calendar month")
            for account, *_ in self.usage
            for start, end in ((START, END), (END, END + timedelta(days=31)))
        ]
        with self.connected(self.config.published) as connection:
            connection.execute("delete from account_periods")
            connection.executemany(
                "insert into account_periods values (?, ?, ?, ?)",
                [(account, naive(start), naive(end), source) for account, start, end, source in set(rows)],
            )

    def certify(self, at: datetime | None = None, **settings: Any) -> CertifyResult:
        """What was published stays; Stripe is read first, as in the hourly job."""
        self.now = at or self.now
        self.settings |= settings
        self.read()
        result = certify.certify(self.config, connect_meter, lambda: self.now)
        assert result
        return result

    def hour(self, at: datetime) -> None:
        """What the hourly job does, up to the certificates."""
        self.now = at
        self.run()
        self.read()
        reconcile.look_back(self.config, connect_meter, lambda: self.now)

    def certificate(self, customer: str = "cus_a", start: datetime = START) -> Certificate:
        return Certificates(self.ledger).since(START - timedelta(days=365))[customer, start]


@pytest.fixture(
    params=[("hour", "sqlite"), (None, "sqlite"), ("hour", "postgres")],
    ids=["totals", "differences", "totals, ledger on Postgres"],
)
def world(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Closing]:
    window, database = request.param
    with FakeStripe() as stripe:
        stripe.add_meter("api-calls", window)
        for customer in ("cus_a", "cus_b"):
            stripe.add_customer(customer)
        closing = Closing(tmp_path, stripe)
        if database == "postgres":
            server: Postgres = request.getfixturevalue("postgres")
            closing.settings["HEADROOM_LEDGER_URL"] = server.ledger()
        for customer in ("cus_a", "cus_b"):
            closing.subscribe(customer)
        with quick(closing):
            yield closing


def test_period_is_certified_once_when_its_invoice_has_what_was_counted(world: Closing) -> None:
    world.usage = {("a1", "cus_a", FIRST): 5, ("a2", "cus_a", FIRST): 2, ("a1", "cus_a", LAST): 9}
    world.hour(LAST + timedelta(minutes=5))
    assert world.certify() == CertifyResult(), "the period still runs"

    world.hour(END + timedelta(minutes=5))
    assert [each.difference for each in world.certify().awaiting] == ["1 hour is being reported; a later run compares"]
    assert world.certificate().stripe_units is None

    world.hour(END + timedelta(minutes=65))
    result = world.certify()
    assert (result.certified, result.open, result.left) == (0, [], 0)
    assert result.reads == 0, "each hour was confirmed already"
    found = world.certificate()
    assert (found.status, found.hours, found.units, found.reported_units, found.stripe_units) == (
        Status.AWAITS,
        *(2, 16, 16, 16),
    )
    assert found.is_before_final
    assert "Waits for its invoice" in found.sentence
    assert "before the invoice became final (2026-12-01 06:00)" in found.sentence

    world.hour(END + timedelta(hours=GRACE, minutes=5))
    result = world.certify()
    assert (result.certified, result.reads) == (1, 0)
    [invoice] = world.stripe.bills("cus_a")
    found = world.certificate()
    assert (found.status, found.units, found.invoice_units, found.invoice_ids, found.line_ids) == (
        *(Status.CERTIFIED, 16, 16, invoice["id"]),
        invoice["lines"][0]["id"],
    )
    assert invoice["id"] in found.sentence
    assert "after the invoice became final (2026-12-01 06:00)" in found.sentence

    world.hour(END + timedelta(hours=30))
    assert world.certify() == CertifyResult()


def change_events(world: Closing, before: int, after: int) -> None:
    """Somebody else changes at Stripe what was reported."""
    for event in world.stripe.events:
        if event.payload["value"] == str(before):
            event.payload["value"] = str(after)


def test_difference_at_stripe_is_named_by_the_hour_and_checked_again(world: Closing) -> None:
    world.usage = {("a", "cus_a", FIRST): 5, ("b", "cus_b", FIRST): 1}
    world.hour(END + timedelta(minutes=5))
    change_events(world, 5, 4)
    at = END + timedelta(hours=1)
    result = world.certify(at)

    assert [each.stripe_customer_id for each in result.awaiting] == ["cus_b"]
    assert [each.difference for each in result.open] == ["2026-11-01 10:00 UTC: 5 counted, 4 shown by Stripe"]
    assert "Not certified" in world.certificate().sentence
    assert "can still repair it until 2026-12-01 06:00 UTC" in world.certificate().sentence
    assert result.reads == 1 + 8 + 1, "a total each, and the hours of the one that differs"
    assert world.certify(at + 2 * HOUR) == CertifyResult(), "too early"
    assert world.certify(END + timedelta(hours=GRACE - 1)).reads == 10, "once more before the invoice is final"
    assert world.certify(END + timedelta(hours=GRACE - 1, minutes=5)) == CertifyResult()
    change_events(world, 4, 5)
    result = world.certify(END + timedelta(hours=GRACE + 1))
    assert (result.certified, result.reads) == (2, 0), "it was repaired in time"
    assert not world.certificate().is_before_final


def test_event_that_was_cancelled_after_all_was_confirmed_is_not_certified(world: Closing) -> None:
    world.usage = {("a", "cus_a", FIRST): 1_000, ("a", "cus_a", FIRST + HOUR): 500}
    world.hour(END + timedelta(minutes=5))
    world.hour(END + HOUR)
    assert [each.status for each in world.certify().awaiting] == [Status.AWAITS]
    change_events(world, 500, 0)
    [found] = world.certify(END + timedelta(hours=GRACE - 1)).open
    assert found.difference == "2026-11-01 11:00 UTC: 500 counted, 0 shown by Stripe", "found while it can be repaired"

    [found] = world.certify(END + timedelta(hours=GRACE + 1)).open
    [invoice] = world.stripe.bills("cus_a")
    assert found.difference == (
        f"1,500 units counted, 1,000 on invoice {invoice['id']}: an event was canceled, or another program"
        " writes to the meter: 2026-11-01 11:00 UTC: 500 counted, 0 shown by Stripe"
    )
    assert "Bill the missing 500 units" in found.sentence
    assert world.certify(END + timedelta(hours=GRACE + 2)) == CertifyResult(), "said once, until something changes"


def test_report_after_the_invoice_was_final_is_late_for_it(world: Closing) -> None:
    """Somebody finalizes the draft by hand, which a run does not know yet."""
    world.usage = {("a", "cus_a", FIRST): 1_000}
    world.hour(END + timedelta(minutes=5))
    [draft] = world.stripe.bills("cus_a")
    world.stripe.invoices.finalize(world.stripe.invoices.objects[draft["id"]], int((END + HOUR).timestamp()))
    world.now = END + 2 * HOUR
    world.usage["a", "cus_a", FIRST + HOUR] = 500
    world.run()
    world.look(after=HOUR)
    assert sum(world.totals("cus_a").values()) == 1_500, "the meter has all"

    [found] = world.certify().open
    assert (found.units, found.stripe_units, found.invoice_units) == (1_500, 1_500, 1_000)
    assert "500 units are late for its invoice: Stripe accepted the report after 2026-12-01 01:00 UTC" in str(
        found.difference
    )
    assert "Bill the missing 500 units by an invoice item" in found.sentence


def test_unreported_usage_is_late_for_its_invoice(world: Closing) -> None:
    world.usage = {("a", "cus_a", FIRST): 5, ("a", "cus_a", LAST): 1}
    world.hour(END + timedelta(minutes=5))
    world.now = END + timedelta(hours=GRACE, minutes=5)
    world.usage["a", "cus_a", FIRST] = 8
    world.look()  # what is held is told when it is sure what Stripe has
    world.run()
    [found] = world.certify().open

    assert found.difference == (
        f"9 units counted, 6 on invoice {found.invoice_ids}: 3 units are late for its invoice: 2026-11-01 10:00"
        " UTC: 8 counted, 5 reported (+3 units not billed: its invoice is final)"
    )
    assert world.certify(world.now + HOUR) == CertifyResult(), "said once, until something changes"


def test_unreported_usage_is_found_before_the_invoice_without_asking(world: Closing) -> None:
    world.usage = {("a", "cus_a", FIRST): 5}
    world.hour(END + timedelta(minutes=5))
    world.usage["a", "cus_a", FIRST] = 8
    world.publish()  # and no report of it was sent
    before = len(world.stripe.requests)
    [found] = world.certify(END + HOUR).open
    assert found.difference == "2026-11-01 10:00 UTC: 8 counted, 5 reported"
    assert not any("event_summaries" in request.path for request in world.stripe.requests[before:])
    assert len(world.certify(world.now + HOUR).open) == 1, "costs no read, so it is looked at each time"


def test_certified_period_is_opened_again_by_usage_that_comes_late(world: Closing) -> None:
    world.usage = {("a", "cus_a", FIRST): 5}
    world.hour(END + timedelta(minutes=5))
    assert len(world.certify(END + HOUR).awaiting) == 1
    world.usage["a", "cus_a", FIRST] = 6
    for minutes in (120, 215):  # a difference waits until what came before it must be seen
        world.hour(END + timedelta(minutes=minutes))
    assert len(world.certify(END + 4 * HOUR).awaiting) == 1
    assert world.certificate().units == 6
    assert world.certify(END + timedelta(hours=GRACE + 1)).certified == 1

    world.usage["a", "cus_a", FIRST] = 7
    world.hour(END + timedelta(hours=GRACE + 2))
    [found] = world.certify().open
    assert (found.units, found.invoice_units) == (7, 6)
    assert "1 unit is late for its invoice" in str(found.difference)


def test_period_that_a_changed_quota_splits_is_one(world: Closing) -> None:
    middle = START + timedelta(days=14)
    world.periods = [("a", START, middle, "calendar month"), ("a", middle, END, "quota change")]
    world.usage = {("a", "cus_a", FIRST): 5, ("a", "cus_a", LAST): 6}
    world.hour(middle + timedelta(hours=1))
    assert world.certify() == CertifyResult()
    world.hour(END + timedelta(minutes=5))
    assert world.certify(END + timedelta(hours=GRACE + 1)).certified == 1
    assert (world.certificate().period_end, world.certificate().units) == (END, 11)


def test_reads_are_shared_with_the_hourly_comparison(world: Closing) -> None:
    world.usage = {("a", "cus_a", FIRST): 5, ("b", "cus_b", FIRST): 1}
    world.hour(END + timedelta(minutes=5))
    change_events(world, 5, 4)
    change_events(world, 1, 2)
    used = int(world.ledger.mark("reads|2026-12-01") or 0)
    result = world.certify(END + HOUR, HEADROOM_STRIPE_READS_PER_DAY=used + 1)
    assert (result.certified, result.left) == (0, 2), "no request is left for the totals"
    used = int(world.ledger.mark("reads|2026-12-01") or 0)
    result = world.certify(END + timedelta(hours=GRACE + 1), HEADROOM_STRIPE_READS_PER_DAY=used + 1)
    assert (len(result.open), result.reads, result.left) == (2, 0, 0), "invoices are compared all the same"


def test_customer_that_stripe_does_not_know_is_open_and_stops_no_other(world: Closing) -> None:
    world.usage = {("a", "cus_a", FIRST): 5, ("b", "cus_b", FIRST): 1}
    world.hour(END + timedelta(minutes=5))
    world.stripe.delete_customer("cus_a")
    result = world.certify(END + HOUR)

    assert [each.stripe_customer_id for each in result.awaiting] == ["cus_b"]
    [found] = result.open
    assert found.stripe_customer_id == "cus_a"
    assert "cus_a" in str(found.difference)


def test_stripe_that_is_down_leaves_all_for_later(world: Closing) -> None:
    world.usage = {("a", "cus_a", FIRST): 5, ("b", "cus_b", FIRST): 1}
    world.hour(END + timedelta(minutes=5))
    world.stripe.before = lambda request: setattr(world.stripe, "is_down", "event_summaries" in request.path)
    result = world.certify(END + HOUR)
    assert (result.certified, result.left) == (0, 2)
    assert "no usable answer from Stripe" in result.stopped
    world.stripe.before, world.stripe.is_down = (lambda _: None), False
    assert len(world.certify().awaiting) == 2


def test_periods_before_the_first_report_are_not_certified(world: Closing) -> None:
    october = START - timedelta(days=31)
    world.periods = [("a", october, START, "calendar month"), ("a", START, END, "calendar month")]
    world.usage = {("a", "cus_a", october + HOUR): 5, ("a", "cus_a", FIRST): 1}
    world.hour(START + timedelta(days=2))
    assert world.certify() == CertifyResult()


def test_without_a_key_nothing_is_compared(world: Closing) -> None:
    world.usage = {("a", "cus_a", FIRST): 5}
    world.publish()
    config = world.config.model_copy(update={"stripe_api_key": None})
    assert certify.certify(config, connect_meter, lambda: world.now) is None


PLANS = """
    create or replace table plans as select 'pro' as plan, 'api-calls' as meter, 'USD' as currency,
        cast(10 as decimal(18, 2)) as base_price, cast(0 as bigint) as included_units, 'soft' as limit_kind,
        'flat' as pricing, cast(0.02 as decimal(18, 12)) as unit_price, cast(null as bigint) as package_units,
        cast(null as decimal(18, 12)) as package_price;
    create or replace table plan_tiers (
        plan varchar, meter varchar, tier_number integer, up_to_units bigint, unit_price decimal(18, 12),
        flat_price decimal(18, 12)
    );
"""


@pytest.mark.parametrize(("cents", "said"), [("2", ""), ("3", "charges 0.15 USD for 5 units, but the plan's prices")])
def test_amount_is_that_of_the_plans_price(bare: Closing, cents: str, said: str) -> None:
    key = "headroom_pro_api-calls"
    bare.stripe.add_price("api-calls", number="price_pro", unit_amount_decimal=cents, lookup_key=key)
    bare.subscribe("cus_a", price="price_pro")
    bare.usage = {("a", "cus_a", FIRST): 5}
    bare.hour(END + timedelta(minutes=5))
    bare.now = END + timedelta(hours=GRACE + 1)
    with bare.connected(bare.config.published) as connection:
        connection.execute(PLANS)
    result = bare.certify()
    found = only(bare)
    assert (found.expected_amount, found.currency) == (10, "usd")
    if said:
        assert said in str(result.open[0].difference)
        assert "the plan's prices make 0.10 USD" in str(result.open[0].difference)
    else:
        assert (found.status, found.invoice_amount) == (Status.CERTIFIED, 10)


# What subscriptions do


def only(world: Closing) -> Certificate:
    """The one certificate that there is."""
    [found] = Certificates(world.ledger).since(START - timedelta(days=365)).values()
    return found


@pytest.fixture(params=["hour", None], ids=["totals", "differences"])
def bare(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Closing]:
    """Without a subscription."""
    with FakeStripe() as stripe:
        stripe.add_meter("api-calls", request.param)
        stripe.add_customer("cus_a")
        closing = Closing(tmp_path, stripe)
        with quick(closing):
            yield closing


SEVENTEENTH = datetime(2026, 11, 17, 14, tzinfo=UTC)


def test_period_is_the_one_of_the_subscription(bare: Closing) -> None:
    """The account has calendar months; the subscription begins its months on the 17th at 14:00."""
    bare.now = datetime(2026, 11, 10, 8, 5, tzinfo=UTC)
    bare.subscribe("cus_a", anchor=datetime(2026, 10, 17, 14, tzinfo=UTC))
    before, after = SEVENTEENTH - HOUR, SEVENTEENTH
    bare.usage = {("a", "cus_a", START + 9 * DAY): 5}
    bare.hour(datetime(2026, 11, 10, 8, 5, tzinfo=UTC))
    bare.usage |= {("a", "cus_a", before): 7, ("a", "cus_a", after): 100}
    bare.hour(SEVENTEENTH + timedelta(minutes=65))
    bare.hour(SEVENTEENTH + timedelta(minutes=125))
    [found] = bare.certify().awaiting or [only(bare)]
    assert (found.period_start, found.period_end) == (datetime(2026, 10, 17, 14, tzinfo=UTC), SEVENTEENTH)
    assert found.units == 12
    assert found.final_at == SEVENTEENTH + GRACE * HOUR

    bare.hour(SEVENTEENTH + timedelta(hours=GRACE, minutes=5))
    assert bare.certify().certified == 1
    bare.usage["a", "cus_a", before] = 9
    bare.hour(SEVENTEENTH + timedelta(hours=GRACE + 1))
    assert bare.totals("cus_a")[before] == 7, "its invoice is final, though the account's month is not over"
    [found] = bare.certify().open
    assert "2 units are late for its invoice" in str(found.difference)
    assert bare.invoice_units("cus_a") == {datetime(2026, 10, 17, 14, tzinfo=UTC): 12}


def test_invoices_of_a_threshold_and_of_the_period_count_together(bare: Closing) -> None:
    bare.subscribe("cus_a", billing_thresholds={"amount_gte": 400, "reset_billing_cycle_anchor": False})
    bare.usage = {("a", "cus_a", FIRST): 500}
    bare.hour(datetime(2026, 11, 20, 8, 5, tzinfo=UTC))
    bare.usage |= {("a", "cus_a", LAST): 20}
    bare.hour(END + timedelta(minutes=5))
    assert len(bare.stripe.bills("cus_a")) == 2
    assert bare.certify().certified == 0, "the first invoice alone is not the period's"
    bare.hour(END + timedelta(hours=GRACE, minutes=5))
    assert bare.certify().certified == 1
    found = only(bare)
    assert (found.units, found.invoice_units) == (520, 520)
    assert len(str(found.invoice_ids).split()) == len(str(found.line_ids).split()) == 2


def test_threshold_that_begins_a_new_period_ends_the_one_before(bare: Closing) -> None:
    bare.subscribe("cus_a", billing_thresholds={"amount_gte": 400, "reset_billing_cycle_anchor": True})
    bare.read()
    bare.usage = {("a", "cus_a", FIRST): 500}
    at = datetime(2026, 11, 20, 8, 5, tzinfo=UTC)
    bare.hour(at)
    bare.hour(at + timedelta(days=1))
    bare.certify()
    found = only(bare)
    assert (found.status, found.period_end, found.invoice_units) == (Status.CERTIFIED, at, 500)


def test_trial_is_not_invoiced_and_said_to_be_one(bare: Closing) -> None:
    begin = datetime(2026, 11, 1, tzinfo=UTC)
    bare.now = begin
    bare.subscribe("cus_a", anchor=SEVENTEENTH, trial_end=int(SEVENTEENTH.timestamp()))
    bare.usage = {("a", "cus_a", FIRST): 500}
    bare.hour(datetime(2026, 11, 1, 12, 5, tzinfo=UTC))
    bare.hour(SEVENTEENTH + timedelta(minutes=5))
    bare.hour(SEVENTEENTH + timedelta(hours=GRACE, minutes=5))
    assert bare.certify().certified == 1
    found = only(bare)
    assert (found.units, found.invoice_units, found.invoice_amount) == (500, 0, 0)
    assert "in a trial, which Stripe does not bill" in found.sentence


def test_usage_after_a_subscription_ended_with_its_period_is_nobodys(bare: Closing) -> None:
    made = bare.subscribe("cus_a", anchor=SEVENTEENTH)
    bare.usage = {("a", "cus_a", SEVENTEENTH + HOUR): 5}
    bare.hour(datetime(2026, 11, 20, 8, 5, tzinfo=UTC))
    bare.stripe.cancel(made["id"], at_period_end=True)
    ends = datetime(2026, 12, 17, 14, tzinfo=UTC)
    bare.usage |= {("a", "cus_a", ends - HOUR): 6, ("a", "cus_a", ends + HOUR): 70}
    bare.hour(ends + timedelta(minutes=5))
    bare.hour(ends + timedelta(hours=GRACE, minutes=5))
    bare.hour(ends + timedelta(days=1, minutes=10))
    [found] = bare.certify().open
    certified = Certificates(bare.ledger).since(START)["cus_a", SEVENTEENTH]
    assert (certified.status, certified.units, certified.invoice_units) == (Status.CERTIFIED, 11, 11)
    assert (found.period_start, found.units, found.subscription_id) == (ends, 70, None)
    assert "no subscription bills the 70 units of 2026-12-17 14:00" in found.sentence
    assert "Add the metered price of its plan to the customer's subscription" in found.sentence

    bare.subscribe("cus_a", anchor=ends, start=int(ends.timestamp()), since=int(ends.timestamp()))
    bare.hour(ends + timedelta(days=2, minutes=15))
    assert bare.certify().open == []
    assert ("cus_a", ends) not in Certificates(bare.ledger).since(START), "a subscription has it by now"


@pytest.mark.parametrize("is_invoiced", [False, True])
def test_subscription_cancelled_at_once_has_its_usage_on_a_last_invoice(bare: Closing, is_invoiced: bool) -> None:
    """Or on none, which is a difference."""
    made = bare.subscribe("cus_a")
    bare.usage = {("a", "cus_a", FIRST): 5}
    at = datetime(2026, 11, 20, 8, 30, tzinfo=UTC)
    bare.hour(at - timedelta(minutes=25))
    bare.now = at
    bare.stripe.cancel(made["id"], is_invoiced=is_invoiced)
    bare.hour(at + timedelta(days=1))
    bare.hour(at + timedelta(days=1, hours=GRACE + 1))
    bare.hour(at + timedelta(days=2))
    result = bare.certify()
    found = only(bare)
    assert found.period_end == at
    if is_invoiced:
        assert (found.status, found.invoice_units) == (Status.CERTIFIED, 5)
    else:
        assert [each.difference for each in result.open] == [
            f"5 units counted, none invoiced: {made['id']} was canceled at once, without a last invoice"
        ]


def test_usage_that_several_items_bill_is_said_to_be_billed_twice(world: Closing) -> None:
    """Of one subscription, or of two that begin their periods at another time."""
    both = world.subscribe("cus_b", anchor=datetime(2026, 11, 3, tzinfo=UTC))
    world.usage = {("a", "cus_a", FIRST): 5, ("b", "cus_b", START + 5 * DAY): 1}
    world.hour(END + timedelta(minutes=5))
    world.subscribe("cus_a", since=int(START.timestamp()))
    world.hour(END + timedelta(days=1))
    world.hour(END + timedelta(days=1, hours=GRACE + 1))
    result = world.certify()
    found = {each.stripe_customer_id: each for each in result.open}
    assert "2 items bill the same usage" in str(found["cus_a"].difference)
    assert both["id"] in str(found["cus_b"].difference)


def test_void_invoice_bills_nothing(world: Closing) -> None:
    world.usage = {("a", "cus_a", FIRST): 5}
    world.hour(END + timedelta(minutes=5))
    assert world.certify(END + timedelta(hours=GRACE + 1)).certified == 1
    [invoice] = world.stripe.bills("cus_a")
    world.stripe.invoices._set(world.stripe.invoices.objects[invoice["id"]], "void", int(world.now.timestamp()))
    world.hour(END + timedelta(days=2))
    [found] = world.certify().open
    assert found.difference == f"5 units counted, none invoiced: {invoice['id']} is void"


def test_usage_without_any_subscription_is_listed_at_the_end_of_its_period(bare: Closing) -> None:
    bare.usage = {("a", "cus_a", FIRST): 5}
    bare.hour(datetime(2026, 11, 20, 8, 5, tzinfo=UTC))
    assert bare.certify() == CertifyResult()
    bare.hour(END + timedelta(days=1))
    [found] = bare.certify().open
    assert (found.period_start, found.period_end, found.units) == (START, END, 5)
    assert "no subscription bills the 5 units" in found.sentence


def test_unread_subscriptions_accuse_nobody(bare: Closing) -> None:
    """Such as those that the key may not read."""
    bare.usage = {("a", "cus_a", FIRST): 5}
    bare.now = END + timedelta(hours=2)
    bare.run()
    reconcile.look_back(bare.config, connect_meter, lambda: bare.now)
    bare.now += HOUR
    result = certify.certify(bare.config, connect_meter, lambda: bare.now)
    assert result
    assert [each.difference for each in result.awaiting] == ["no run has read Stripe's invoices yet"]
