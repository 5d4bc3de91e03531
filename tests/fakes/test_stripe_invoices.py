"""Subscriptions, invoices, test clocks and credit of the loopback Stripe, through the real SDK."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import stripe as sdk

from tests.fakes.stripe import FakeStripe
from tests.fakes.stripe_calendar import boundary, period
from tests.fakes.test_stripe import connect
from tests.support.billing_world import World

HOUR, DAY = 3_600, 86_400


def unix(text: str) -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp())


NOW = unix("2026-11-10 08:05:00")
MONTH, NEXT, AFTER = unix("2026-11-01"), unix("2026-12-01"), unix("2027-01-01")


@pytest.fixture(params=[None, "hour"], ids=["sums", "hours"])
def stripe(request: pytest.FixtureRequest) -> Iterator[FakeStripe]:
    with FakeStripe() as server:
        server.clock = lambda: NOW
        server.add_customer("cus_1")
        server.add_meter("api-calls", request.param)
        server.add_price("api-calls", number="price_unit")
        yield server


@pytest.fixture
def client(stripe: FakeStripe) -> Any:
    return connect(stripe)


def go(stripe: FakeStripe, at: int) -> None:
    stripe.clock = lambda: at


def use(client: Any, units: int, at: int, customer: str = "cus_1") -> None:
    payload = {"stripe_customer_id": customer, "value": str(units)}
    client.v1.billing.meter_events.create({"event_name": "api-calls", "timestamp": at, "payload": payload})


def bill(stripe: FakeStripe, number: int = -1) -> dict[str, Any]:
    return stripe.bills("cus_1")[number]


def quantities(invoice: dict[str, Any]) -> list[int]:
    return [line["quantity"] for line in invoice["lines"]]


@pytest.mark.parametrize(
    ("anchor", "interval", "number", "starts"),
    [
        ("2026-01-31 14:00:07", ("month", 1), 1, "2026-02-28 14:00:07"),
        ("2026-01-31 14:00:07", ("month", 1), 2, "2026-03-31 14:00:07"),
        ("2026-01-31 14:00:07", ("month", 1), -2, "2025-11-30 14:00:07"),
        ("2026-11-17 14:00:00", ("month", 3), 1, "2027-02-17 14:00:00"),
        ("2024-02-29 00:00:00", ("year", 1), 1, "2025-02-28 00:00:00"),
        ("2026-11-17 14:00:00", ("week", 2), 1, "2026-12-01 14:00:00"),
    ],
)
def test_periods_follow_the_anchor(anchor: str, interval: tuple[str, int], number: int, starts: str) -> None:
    at = unix(starts)
    assert boundary(unix(anchor), interval, number) == at
    assert period(unix(anchor), interval, at)[0] == at
    assert period(unix(anchor), interval, at - 1)[1] == at


def test_period_of_a_subscription_rolls_forward_with_the_clock(stripe: FakeStripe, client: Any) -> None:
    anchor = unix("2026-10-31 14:00:07")
    number = stripe.subscribe("cus_1", "price_unit", anchor=anchor)["id"]

    for at, start, end in [
        (NOW, "2026-10-31 14:00:07", "2026-11-30 14:00:07"),
        (unix("2026-11-30 14:00:07"), "2026-11-30 14:00:07", "2026-12-31 14:00:07"),
        (unix("2027-03-01 00:00:00"), "2027-02-28 14:00:07", "2027-03-31 14:00:07"),
    ]:
        go(stripe, at)
        shown = client.v1.subscriptions.retrieve(number)
        [item] = shown.items.data
        assert (item.current_period_start, item.current_period_end) == (unix(start), unix(end))
        assert (shown.billing_cycle_anchor, item.price.recurring.usage_type) == (anchor, "metered")


def test_invoice_is_final_after_the_grace_with_what_the_meter_has_then(stripe: FakeStripe, client: Any) -> None:
    number = stripe.subscribe("cus_1", "price_unit")["id"]
    use(client, 100, MONTH)
    use(client, 7, NOW - HOUR)
    go(stripe, NEXT - 1)
    assert stripe.bills("cus_1") == []

    go(stripe, NEXT)
    [draft] = client.v1.invoices.list({"customer": "cus_1"})
    assert (draft.status, draft.billing_reason, draft.created) == ("draft", "subscription_cycle", NEXT)
    assert draft.automatically_finalizes_at == NEXT + HOUR
    assert draft.parent.subscription_details.subscription == number
    use(client, 5, NEXT - 1)
    use(client, 1_000, NEXT)
    assert quantities(bill(stripe)) == [107]
    go(stripe, NEXT + HOUR)
    final = client.v1.invoices.retrieve(draft.id)
    go(stripe, NEXT + HOUR + 1)
    use(client, 9, NEXT - 2 * HOUR)

    assert (final.status, final.automatically_finalizes_at) == ("open", None)
    assert final.status_transitions.finalized_at == NEXT + HOUR
    [line] = client.v1.invoices.retrieve(draft.id).lines.data
    assert (line.quantity, line.amount, line.currency) == (112, 112, "usd")
    assert (line.period.start, line.period.end) == (MONTH, NEXT)
    item = line.parent.subscription_item_details
    assert (item.subscription, item.subscription_item) == (number, stripe.subscriptions.find(number)["items"][0]["id"])
    assert line.pricing.price_details.price == "price_unit"


def test_invoices_are_right_however_far_the_clock_jumps(stripe: FakeStripe, client: Any) -> None:
    stripe.grace_hours, stripe.lag = 72, HOUR
    stripe.subscribe("cus_1", "price_unit")
    use(client, 10, NOW)
    go(stripe, NEXT + 71 * HOUR)
    use(client, 20, NEXT - HOUR)
    go(stripe, NEXT + 71 * HOUR + 1)
    use(client, 40, NEXT - 2 * HOUR)  # counts a second late for November
    use(client, 1, NEXT)
    go(stripe, unix("2027-04-03 00:00:00"))

    assert [quantities(each) for each in stripe.bills("cus_1")] == [[30], [1], [0], [0], [0]]
    assert [each["status"] for each in stripe.bills("cus_1")] == ["open", "open", "paid", "paid", "draft"]


def test_earlier_periods_are_invoiced_with_what_was_known_then(stripe: FakeStripe, client: Any) -> None:
    use(client, 10, NOW)
    go(stripe, NEXT + 5 * DAY)
    use(client, 5, NOW - HOUR)
    stripe.subscribe("cus_1", "price_unit", since=MONTH)
    assert [(each["created"], quantities(each)) for each in stripe.bills("cus_1")] == [(NEXT, [10])]


def test_negative_usage_is_charged_as_none(stripe: FakeStripe, client: Any) -> None:
    stripe.subscribe("cus_1", "price_unit")
    use(client, -5, NOW)
    go(stripe, NEXT + HOUR)
    assert (quantities(bill(stripe)), bill(stripe)["total"]) == ([0], 0)


TIERS = [{"up_to": 100, "unit_amount_decimal": "0"}, {"up_to": None, "unit_amount_decimal": "0.25"}]
FLAT = [{"up_to": 100, "unit_amount_decimal": "0", "flat_amount": 500}, TIERS[1]]


@pytest.mark.parametrize(
    ("price", "units", "lines"),
    [
        ({"unit_amount_decimal": "0.05"}, 30, [(30, 2)]),
        ({"unit_amount_decimal": "0.05"}, 29, [(29, 1)]),
        ({"unit_amount_decimal": "3"}, 0, [(0, 0)]),
        ({"tiers_mode": "graduated", "tiers": TIERS}, 0, [(0, 0)]),
        ({"tiers_mode": "graduated", "tiers": TIERS}, 100, [(100, 0)]),
        ({"tiers_mode": "graduated", "tiers": TIERS}, 102, [(100, 0), (2, 1)]),
        ({"tiers_mode": "graduated", "tiers": FLAT}, 0, [(0, 500)]),
        ({"tiers_mode": "graduated", "tiers": FLAT}, 104, [(100, 500), (4, 1)]),
        ({"tiers_mode": "volume", "tiers": TIERS}, 102, [(102, 26)]),
        ({"unit_amount_decimal": "7", "transform_quantity": {"divide_by": 10, "round": "up"}}, 21, [(21, 21)]),
        ({"unit_amount_decimal": "7", "transform_quantity": {"divide_by": 10, "round": "down"}}, 29, [(29, 14)]),
    ],
    ids=str,
)
def test_lines_are_those_of_the_price(
    stripe: FakeStripe, client: Any, price: dict[str, Any], units: int, lines: list[tuple[int, int]]
) -> None:
    stripe.subscribe("cus_1", stripe.add_price("api-calls", **price)["id"])
    if units:
        use(client, units, NOW)
    go(stripe, NEXT + HOUR)
    [invoice] = client.v1.invoices.list({"status": bill(stripe)["status"]})
    assert [(line.quantity, line.amount) for line in invoice.lines.data] == lines
    assert invoice.total == sum(amount for _, amount in lines)


def test_subscription_is_made_as_the_sdk_asks(stripe: FakeStripe, client: Any) -> None:
    base = stripe.add_price(unit_amount_decimal="1000")["id"]
    made = client.v1.subscriptions.create(
        {"customer": "cus_1", "items": [{"price": base, "quantity": 3}, {"price": "price_unit"}]}
    )
    assert (made.status, made.billing_cycle_anchor, made.start_date) == ("active", NOW, NOW)
    assert (bill(stripe)["billing_reason"], quantities(bill(stripe)), bill(stripe)["total"]) == (
        "subscription_create",
        [3],
        3_000,
    )
    use(client, 8, NOW)
    end = unix("2026-12-10 08:05:00")
    go(stripe, end + HOUR)
    usage, advance = bill(stripe)["lines"]
    assert (usage["quantity"], usage["period"]) == (8, {"start": NOW, "end": end})
    assert (advance["amount"], advance["period"]) == (3_000, {"start": end, "end": unix("2027-01-10 08:05:00")})


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"customer": "cus_2"}, "No such customer"),
        ({"items": [{"price": "price_2"}]}, "No such price"),
        ({"items": [{"price": "price_unit", "quantity": 2}]}, "Quantity should not be specified"),
        ({"trial_end": NOW}, "must be in the future"),
        ({"itmes": "x"}, "unknown parameter: itmes"),
    ],
    ids=str,
)
def test_subscription_is_refused(client: Any, fields: dict[str, Any], words: str) -> None:
    with pytest.raises(sdk.InvalidRequestError, match=words):
        client.v1.subscriptions.create({"customer": "cus_1", "items": [{"price": "price_unit"}], **fields})


def test_usage_of_a_trial_is_not_charged(stripe: FakeStripe, client: Any) -> None:
    base = stripe.add_price(unit_amount_decimal="1000")["id"]
    made = client.v1.subscriptions.create(
        {"customer": "cus_1", "items": [{"price": "price_unit"}, {"price": base}], "trial_period_days": 7}
    )
    ends = NOW + 7 * DAY
    assert (made.status, made.trial_start, made.trial_end) == ("trialing", NOW, ends)
    assert (bill(stripe)["total"], bill(stripe)["status"]) == (0, "paid")
    use(client, 50, NOW)
    go(stripe, ends)
    use(client, 3, ends)
    use(client, 4, ends - HOUR)
    go(stripe, ends + HOUR)

    shown = client.v1.subscriptions.retrieve(made.id)
    assert (shown.status, shown.billing_cycle_anchor) == ("active", ends)
    assert [(line["quantity"], line["amount"]) for line in bill(stripe)["lines"]] == [(0, 0), (1, 1_000)]
    go(stripe, boundary(ends, ("month", 1), 1) + HOUR)
    assert [(line["quantity"], line["amount"]) for line in bill(stripe)["lines"]] == [(3, 3), (1, 1_000)]


@pytest.mark.parametrize("is_reset", [False, True])
def test_threshold_invoices_within_the_period(stripe: FakeStripe, client: Any, is_reset: bool) -> None:
    price = stripe.add_price("api-calls", tiers_mode="graduated", tiers=TIERS)["id"]
    terms = {"amount_gte": 50, "reset_billing_cycle_anchor": is_reset}
    number = stripe.subscribe("cus_1", price, billing_thresholds=terms)["id"]
    use(client, 297, NOW - HOUR)
    use(client, -1, NOW - 3 * HOUR)
    assert stripe.bills("cus_1") == []
    use(client, 4, NOW - 2 * HOUR)

    [early] = client.v1.invoices.list({"subscription": number})
    assert (early.status, early.billing_reason, early.created) == ("draft", "subscription_threshold", NOW)
    assert [(line.quantity, line.amount) for line in early.lines.data] == [(100, 0), (200, 50)]
    assert (early.lines.data[0].period.start, early.lines.data[0].period.end) == (MONTH, NOW)
    use(client, 8, NOW - 4 * HOUR)  # in the grace of that invoice
    go(stripe, NOW + HOUR)
    assert quantities(bill(stripe)) == [100, 200]
    use(client, 4, NOW + HOUR)
    end = unix("2026-12-10 08:05:00") if is_reset else NEXT
    go(stripe, end + HOUR)

    rest = bill(stripe)
    assert (rest["billing_reason"], rest["period_end"]) == ("subscription_cycle", end)
    assert quantities(rest) == ([4] if is_reset else [12])
    assert rest["period_start"] == (NOW if is_reset else MONTH)
    assert client.v1.subscriptions.retrieve(number).billing_cycle_anchor == (NOW if is_reset else 0)


def test_threshold_is_met_again_by_as_much_again(stripe: FakeStripe, client: Any) -> None:
    stripe.subscribe("cus_1", "price_unit", billing_thresholds={"amount_gte": 10, "reset_billing_cycle_anchor": False})
    for hour in range(5):
        use(client, 6, NOW - hour * HOUR)
    go(stripe, NEXT + HOUR)
    assert [quantities(each) for each in stripe.bills("cus_1")] == [[12], [12], [6]]


def test_threshold_is_not_looked_at_on_the_last_day_or_in_a_trial(stripe: FakeStripe, client: Any) -> None:
    terms = {"amount_gte": 10, "reset_billing_cycle_anchor": False}
    stripe.add_customer("cus_2")
    stripe.subscribe("cus_1", "price_unit", billing_thresholds=terms)
    stripe.subscribe("cus_2", "price_unit", billing_thresholds=terms, trial_end=NEXT + 10 * DAY)
    go(stripe, NEXT - DAY)
    for customer in ("cus_1", "cus_2"):
        use(client, 60, NEXT - DAY, customer)
    go(stripe, NEXT)
    assert [each["billing_reason"] for each in stripe.bills("cus_1")] == ["subscription_cycle"]
    assert stripe.bills("cus_2") == []


@pytest.mark.parametrize(
    ("params", "ends"),
    [({"cancel_at_period_end": True}, NEXT), ({"cancel_at": NEXT - DAY}, NEXT - DAY), ({"cancel_at": NEXT}, NEXT)],
    ids=["period end", "within", "its end"],
)
def test_canceled_subscription_gets_a_last_invoice(
    stripe: FakeStripe, client: Any, params: dict[str, Any], ends: int
) -> None:
    number = stripe.subscribe("cus_1", "price_unit")["id"]
    use(client, 5, NOW)
    changed = client.v1.subscriptions.update(number, params)
    assert (changed.cancel_at, changed.canceled_at, changed.ended_at, changed.status) == (ends, NOW, None, "active")
    go(stripe, ends)
    use(client, 100, ends)
    use(client, 2, ends - 1)
    go(stripe, AFTER + DAY)

    shown = client.v1.subscriptions.retrieve(number)
    assert (shown.status, shown.ended_at) == ("canceled", ends)
    assert [(each["created"], quantities(each)) for each in stripe.bills("cus_1")] == [(ends, [7])]


@pytest.mark.parametrize("is_invoiced", [False, True])
def test_subscription_that_is_canceled_at_once_loses_its_usage_or_not(
    stripe: FakeStripe, client: Any, is_invoiced: bool
) -> None:
    number = stripe.subscribe("cus_1", "price_unit")["id"]
    use(client, 5, NOW - HOUR)
    use(client, 50, NOW)
    gone = client.v1.subscriptions.cancel(number, {"invoice_now": is_invoiced})
    assert (gone.status, gone.ended_at) == ("canceled", NOW)
    go(stripe, AFTER)
    assert [quantities(each) for each in stripe.bills("cus_1")] == [[5]] * is_invoiced
    with pytest.raises(sdk.InvalidRequestError, match="No such subscription"):
        client.v1.subscriptions.cancel(number)


def test_canceled_subscriptions_are_listed_only_where_asked(stripe: FakeStripe, client: Any) -> None:
    stripe.add_customer("cus_2")
    one, two, three = (stripe.subscribe(f"cus_{at}", "price_unit")["id"] for at in (1, 1, 2))
    stripe.cancel(two)

    def listed(**params: Any) -> list[str]:
        return [each.id for each in client.v1.subscriptions.list(params)]

    assert listed() == [three, one]
    assert listed(status="all") == [three, two, one]
    assert listed(status="canceled") == [two]
    assert listed(customer="cus_1") == [one]
    assert listed(price="price_unit", customer="cus_2", status="active") == [three]
    assert listed(price="price_other") == []


def test_invoices_are_listed_by_filters_and_in_pages(stripe: FakeStripe, client: Any) -> None:
    stripe.add_customer("cus_2")
    number = stripe.subscribe("cus_1", "price_unit")["id"]
    stripe.subscribe("cus_2", "price_unit", anchor=MONTH + DAY)
    go(stripe, AFTER + 10)

    def listed(**params: Any) -> list[tuple[str, int]]:
        found = client.v1.invoices.list({"limit": 1, **params}).auto_paging_iter()
        return [(each.customer, each.created) for each in found]

    december = ("cus_2", NEXT + DAY)
    assert listed() == [("cus_1", AFTER), december, ("cus_1", NEXT)]
    assert listed(customer="cus_2") == [december]
    assert listed(status="draft") == [("cus_1", AFTER)]
    assert listed(subscription=number) == [("cus_1", AFTER), ("cus_1", NEXT)]
    assert listed(created={"gte": NEXT + DAY, "lt": AFTER}) == [december]
    assert listed(created=NEXT) == [("cus_1", NEXT)]


def test_lines_beyond_ten_are_on_pages(stripe: FakeStripe, client: Any) -> None:
    tiers = [{"up_to": number, "unit_amount_decimal": "1"} for number in range(1, 13)]
    tiers += [{"up_to": None, "unit_amount_decimal": "1"}]
    stripe.subscribe("cus_1", stripe.add_price("api-calls", tiers_mode="graduated", tiers=tiers)["id"])
    use(client, 40, NOW)
    go(stripe, NEXT + HOUR)

    [invoice] = client.v1.invoices.list()
    assert (len(invoice.lines.data), invoice.lines.has_more) == (10, True)
    lines = list(client.v1.invoices.line_items.list(invoice.id, {"limit": 5}).auto_paging_iter())
    assert [line.quantity for line in lines] == [1] * 12 + [28]
    assert len({line.id for line in lines}) == 13


def test_invoice_is_finalized_and_paid_by_hand(stripe: FakeStripe, client: Any) -> None:
    stripe.subscribe("cus_1", "price_unit")
    use(client, 5, NOW)
    go(stripe, NEXT + 60)
    use(client, 2, NEXT - HOUR)
    final = client.v1.invoices.finalize_invoice(bill(stripe)["id"])
    assert (final.status, final.status_transitions.finalized_at, final.total) == ("open", NEXT + 60, 7)
    use(client, 4, NEXT - 2 * HOUR)
    with pytest.raises(sdk.InvalidRequestError, match="already finalized"):
        client.v1.invoices.finalize_invoice(final.id)
    assert client.v1.invoices.pay(final.id).status == "paid"
    go(stripe, NEXT + DAY)
    assert (bill(stripe)["status"], quantities(bill(stripe))) == ("paid", [7])


def test_test_clock_moves_its_customers_only(stripe: FakeStripe, client: Any) -> None:
    clock = client.v1.test_helpers.test_clocks.create({"frozen_time": NOW - 5 * HOUR, "name": "one"})
    customer = client.v1.customers.create({"test_clock": clock.id})
    made = client.v1.subscriptions.create({"customer": customer.id, "items": [{"price": "price_unit"}]})
    stripe.subscribe("cus_1", "price_unit")
    use(client, 6, NOW - HOUR, customer.id)
    end = boundary(NOW - 5 * HOUR, ("month", 1), 1)
    assert made.items.data[0].current_period_end == end
    with pytest.raises(sdk.InvalidRequestError, match="two intervals"):
        client.v1.test_helpers.test_clocks.advance(clock.id, {"frozen_time": end + 32 * DAY})

    advanced = client.v1.test_helpers.test_clocks.advance(clock.id, {"frozen_time": end + 2 * HOUR})
    assert (advanced.status, advanced.status_details.advancing.target_frozen_time) == ("advancing", end + 2 * HOUR)
    assert stripe.bills(customer.id) == []
    looks = [client.v1.test_helpers.test_clocks.retrieve(clock.id).status for _ in range(2)]
    assert looks == ["advancing", "ready"]

    [invoice] = client.v1.invoices.list({"customer": customer.id})
    assert (invoice.status_transitions.finalized_at, invoice.lines.data[0].quantity) == (end + HOUR, 6)
    assert stripe.bills("cus_1") == []
    assert [each.id for each in client.v1.customers.list()] == ["cus_1"]
    assert [each.id for each in client.v1.customers.list({"test_clock": clock.id})] == [customer.id]
    assert len(client.v1.invoices.list().data) == 0
    with pytest.raises(sdk.InvalidRequestError, match="forward"):
        client.v1.test_helpers.test_clocks.advance(clock.id, {"frozen_time": end})
    assert client.v1.test_helpers.test_clocks.delete(clock.id).deleted
    assert client.v1.customers.retrieve(customer.id).deleted
    assert client.v1.subscriptions.retrieve(made.id).status == "canceled"


def test_test_clock_is_refused_to_a_live_key(stripe: FakeStripe) -> None:
    stripe.keys["sk_live_1"] = None
    with pytest.raises(sdk.InvalidRequestError, match="test mode"):
        connect(stripe, "sk_live_1").v1.test_helpers.test_clocks.create({"frozen_time": NOW})


def test_credit_pays_for_usage_and_shows_what_is_left(stripe: FakeStripe, client: Any) -> None:
    def left() -> list[tuple[str, int]]:
        asked = {"type": "applicability_scope", "applicability_scope": {"price_type": "metered"}}
        found = client.v1.billing.credit_balance_summary.retrieve({"customer": "cus_1", "filter": asked})
        return [
            (each.available_balance.monetary.currency, each.available_balance.monetary.value) for each in found.balances
        ]

    base = stripe.add_price(unit_amount_decimal="1000")["id"]
    stripe.subscribe("cus_1", "price_unit", base)
    assert left() == []
    grants = client.v1.billing.credit_grants
    params = {
        "customer": "cus_1",
        "amount": {"type": "monetary", "monetary": {"currency": "usd", "value": 100}},
        "applicability_config": {"scope": {"price_type": "metered"}},
    }
    late = grants.create(params)
    first = grants.create({**params, "expires_at": NEXT + DAY, "priority": 1})
    stripe.credits.grant("cus_1", 70, expires_at=NOW + DAY)
    assert left() == [("usd", 270)]
    use(client, 130, NOW)
    go(stripe, NEXT + HOUR)

    assert left() == [("usd", 70)]
    usage, advance = bill(stripe)["lines"]
    assert [each["amount"] for each in usage["pretax_credit_amounts"]] == [100, 30]
    assert (advance["pretax_credit_amounts"], bill(stripe)["subtotal"], bill(stripe)["total"]) == ([], 1_130, 1_000)
    assert [each.id for each in grants.list({"customer": "cus_1"})][1:] == [first.id, late.id]
    assert grants.expire(late.id).expires_at == NEXT + HOUR
    assert left() == [("usd", 0)]


def test_world_has_an_invoice_in_one_line(tmp_path: Path, stripe: FakeStripe, client: Any) -> None:
    world = World(tmp_path, stripe)
    world.subscribe("cus_1")
    use(client, 42, int(world.now.timestamp()))
    assert world.invoice_units("cus_1") == {}
    world.now += timedelta(days=12)
    assert world.invoice_units("cus_1") == {datetime(2026, 11, 1, tzinfo=UTC): 42}
