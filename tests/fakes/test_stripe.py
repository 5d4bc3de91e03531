"""The loopback Stripe, driven by the real SDK."""

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from email.utils import parsedate_to_datetime
from typing import Any

import pytest
import stripe as sdk

from tests.fakes.slack import CUT_OFF_AFTER, LOST_AFTER, LOST_BEFORE, Fault
from tests.fakes.stripe import FAILED_AFTER, FAILED_BEFORE, METER_EVENTS, FakeStripe
from tests.fakes.stripe_metering import NO_METER, REPORT
from tests.support.waiting import PATIENCE_SECONDS

HOUR, DAY = 3_600, 86_400
NOW = 1_795_262_407
"""2026-11-21 12:00:07 UTC."""
NOON = 1_795_262_400
MIDNIGHT = NOON - 12 * HOUR


@pytest.fixture
def stripe() -> Iterator[FakeStripe]:
    with FakeStripe() as server:
        set_clock(server, NOW)
        server.add_customer("cus_1")
        server.add_meter("api-calls", "hour")
        yield server


@pytest.fixture
def client(stripe: FakeStripe) -> sdk.StripeClient:
    return connect(stripe)


def set_clock(stripe: FakeStripe, at: float) -> None:
    stripe.clock = lambda: at


def connect(stripe: FakeStripe, key: str = "sk_test_fake") -> sdk.StripeClient:
    return sdk.StripeClient(key, base_addresses={"api": stripe.url, "meter_events": stripe.url}, max_network_retries=0)


def send(client: sdk.StripeClient, identifier: str = "a", value: object = 1, *, key: str = "", **fields: Any) -> Any:
    """A meter event; every one has an Idempotency-Key of its own unless told."""
    payload = {"stripe_customer_id": fields.pop("customer", "cus_1"), "value": str(value)}
    params: Any = {"event_name": "api-calls", "identifier": identifier, "timestamp": NOON, "payload": payload, **fields}
    return client.v1.billing.meter_events.create(params, {"idempotency_key": key} if key else {})


def meter_id(stripe: FakeStripe) -> str:
    return next(iter(stripe.meters.objects))


def summaries(stripe: FakeStripe, client: sdk.StripeClient, **params: Any) -> list[tuple[int, int, float]]:
    asked: Any = {"customer": "cus_1", "start_time": MIDNIGHT, "end_time": MIDNIGHT + DAY, **params}
    page = client.v1.billing.meters.event_summaries.list(meter_id(stripe), asked)
    return [(each.start_time, each.end_time, each.aggregated_value) for each in page.auto_paging_iter()]


def reports(client: sdk.StripeClient, **params: Any) -> list[Any]:
    asked: Any = {"limit": 2, **params}
    thin = client.v2.core.events.list(asked).auto_paging_iter()
    return [client.v2.core.events.retrieve(event.id) for event in thin]


def errors(report: Any) -> dict[str, tuple[int, list[str]]]:
    return {
        kind.code: (kind.error_count, [sample.request.identifier for sample in kind.sample_errors])
        for kind in report.data.reason.error_types
    }


def test_event_is_counted_in_its_hour_and_answered_as_it_was_sent(stripe: FakeStripe, client: sdk.StripeClient) -> None:
    event = send(client, "a", 70, timestamp=NOON - 1)
    send(client, "b", 5)

    assert (event.identifier, event.payload["value"], event.livemode) == ("a", "70", False)
    assert parsedate_to_datetime(event.last_response.headers["Date"]).timestamp() == NOW
    assert event.last_response.request_id == "req_1"
    assert stripe.totals("cus_1", "api-calls") == {NOON - HOUR: 70, NOON: 5}
    assert stripe.counts() == {f"POST {METER_EVENTS}": 2}


@pytest.mark.parametrize(
    ("window", "formula", "counted"),
    [
        (None, "sum", {NOON - HOUR: 3, NOON: 5}),
        (None, "count", {NOON - HOUR: 1, NOON: 2}),
        ("hour", "sum", {NOON - HOUR: 3, NOON: -2}),
        ("day", "sum", {NOON - HOUR: 3}),
    ],
)
def test_meter_counts_all_or_the_last_received_of_its_window(
    stripe: FakeStripe, client: sdk.StripeClient, window: str | None, formula: str, counted: dict[int, int]
) -> None:
    stripe.add_meter("calls", window, default_aggregation={"formula": formula})

    for identifier, value, at in (("a", 7, NOON + 1), ("b", -2, NOON), ("c", 3, NOON - 1)):
        send(client, identifier, value, timestamp=at, event_name="calls")

    assert stripe.totals("cus_1", "calls") == counted


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"event_name": ""}, "Missing required param: event_name"),
        ({"event_name": "n" * 101}, "event_name must be at most 100"),
        ({"identifier": "n" * 101}, "identifier must be at most 100"),
        ({"payload": {"value": "1"}}, "must have the key stripe_customer_id"),
        ({"payload": {"stripe_customer_id": "cus_1"}}, "value must be a number"),
        ({"value": "1e3"}, "value must be a number"),
        ({"value": 10**15 + 1}, "more than 15 significant digits"),
        ({"value": "0.1234567890123456"}, "more than 15 significant digits"),
        ({"timestamp": NOW - 35 * DAY - 1}, f"greater than or equal to {NOW - 35 * DAY}"),
        ({"timestamp": NOW + 301}, "more than 5 minutes in the future"),
        ({"tiemstamp": NOW}, "unknown parameter: tiemstamp"),
    ],
    ids=str,
)
def test_event_is_refused_and_may_be_sent_again_under_the_same_keys(
    stripe: FakeStripe, client: sdk.StripeClient, fields: dict[str, Any], words: str
) -> None:
    with pytest.raises(sdk.InvalidRequestError, match=words):
        send(client, key="k", **fields)
    assert stripe.events == []

    send(client, key="k")

    assert stripe.totals("cus_1", "api-calls") == {NOON: 1}


@pytest.mark.parametrize(
    "fields", [{"value": 10**15}, {"timestamp": NOW - 35 * DAY}, {"timestamp": NOW + 300}], ids=str
)
def test_event_is_taken_at_the_limits(stripe: FakeStripe, client: sdk.StripeClient, fields: dict[str, Any]) -> None:
    send(client, **fields)
    assert len(stripe.events) == 1


def test_identifier_counts_again_after_a_day(stripe: FakeStripe, client: sdk.StripeClient) -> None:
    stripe.add_meter("calls")
    send(client, event_name="calls")

    set_clock(stripe, NOW + DAY - 1)
    with pytest.raises(sdk.InvalidRequestError, match=r"An event already exists with identifier a\.") as refused:
        send(client, event_name="calls")
    assert (refused.value.http_status, refused.value.code) == (400, None)
    assert refused.value.headers and refused.value.headers["stripe-should-retry"] == "false"
    set_clock(stripe, NOW + DAY)
    send(client, event_name="calls")

    assert stripe.totals("cus_1", "calls") == {NOON: 2}


def test_answer_is_repeated_for_a_day_under_its_key(stripe: FakeStripe, client: sdk.StripeClient) -> None:
    send(client, key="k")

    set_clock(stripe, NOW + DAY - 1)
    again = send(client, key="k")
    assert again.created == NOW
    assert again.last_response.headers["Idempotent-Replayed"] == "true"
    with pytest.raises(sdk.IdempotencyError, match="other than 'k'"):
        send(client, "b", key="k")

    set_clock(stripe, NOW + DAY)
    assert send(client, "b", key="k").created == NOW + DAY


@pytest.mark.parametrize(
    ("fault", "counted"), [(FAILED_BEFORE, {}), (FAILED_AFTER, {NOON: 1})], ids=["before", "after"]
)
def test_failure_is_repeated_under_its_key(
    stripe: FakeStripe, client: sdk.StripeClient, fault: Fault, counted: dict[int, int]
) -> None:
    stripe.then(fault)
    for _ in range(2):
        with pytest.raises(sdk.APIError, match="An unknown error"):
            send(client, key="k")

    assert stripe.totals("cus_1", "api-calls") == counted


@pytest.mark.parametrize(("fault", "events"), [(LOST_BEFORE, 0), (LOST_AFTER, 1), (CUT_OFF_AFTER, 1)], ids=str)
def test_event_counts_once_when_it_is_sent_again_after_a_lost_answer(
    stripe: FakeStripe, client: sdk.StripeClient, fault: Fault, events: int
) -> None:
    stripe.then(fault)
    with pytest.raises(sdk.StripeError):
        send(client, key="k")
    assert len(stripe.events) == events

    send(client, key="k")

    assert stripe.totals("cus_1", "api-calls") == {NOON: 1}
    stripe.is_down = True
    with pytest.raises(sdk.APIConnectionError):
        client.v1.customers.retrieve("cus_1")


def test_event_counts_and_shows_after_the_lags(stripe: FakeStripe, client: sdk.StripeClient) -> None:
    stripe.lag, stripe.summary_lag = 60, 600
    send(client)

    assert stripe.totals("cus_1", "api-calls") == {}
    assert stripe.totals("cus_1", "api-calls", at_once=True) == {NOON: 1}
    set_clock(stripe, NOW + 60)
    assert stripe.totals("cus_1", "api-calls") == {NOON: 1}
    assert summaries(stripe, client) == []
    set_clock(stripe, NOW + 660)
    assert summaries(stripe, client) == [(MIDNIGHT, MIDNIGHT + DAY, 1.0)]


def test_events_that_do_not_count_are_reported_by_kind_and_window(stripe: FakeStripe, client: sdk.StripeClient) -> None:
    stripe.add_customer("cus_gone")
    stripe.samples = 1
    send(client, "good", key="good")
    for name in ("x", "y"):
        send(client, name, key=f"key-{name}", customer=f"cus_{name}")
    stripe.delete_customer("cus_gone")
    stripe.lag = 20
    send(client, "later", key="later", customer="cus_gone")
    send(client, "nowhere", key="nowhere", event_name="nothing")

    assert reports(client) == []
    set_clock(stripe, NOW + 3)
    [first] = reports(client)
    assert (first.type, first.related_object.id) == (REPORT, meter_id(stripe))
    assert first.data.validation_end == first.created == "2026-11-21T12:00:10.000Z"
    assert first.data.reason.error_count == 2
    assert errors(first) == {"meter_event_customer_not_found": (2, ["key-x"])}
    set_clock(stripe, NOW + 23)
    found = reports(client)
    assert [report.type for report in found] == [REPORT, NO_METER, REPORT]
    assert errors(found[0]) == {"meter_event_customer_not_found": (1, ["later"])}
    assert errors(found[1]) == {"no_meter": (1, ["nowhere"])}
    assert [report.type for report in reports(client, types=[NO_METER])] == [NO_METER]
    assert len(reports(client, created={"gt": first.created})) == 2
    assert len(reports(client, created={"gte": first.created})) == 3
    assert stripe.totals("cus_x", "api-calls") == {}
    with pytest.raises(sdk.InvalidRequestError, match="must be ISO 8601"):
        reports(client, created={"gt": str(NOW)})


def test_event_is_validated_after_its_lag_by_what_exists_then(stripe: FakeStripe, client: sdk.StripeClient) -> None:
    stripe.lag = 60
    send(client, "a", key="a", customer="cus_new")
    send(client, "b", key="b")
    stripe.add_customer("cus_new")
    set_clock(stripe, NOW + 60)
    send(client, "c", key="c")
    client.v1.billing.meters.deactivate(meter_id(stripe))
    set_clock(stripe, NOW + 180)

    assert stripe.totals("cus_new", "api-calls") == {NOON: 1}
    assert [event.error for event in stripe.events] == [None, None, "archived_meter"]
    assert errors(reports(client)[0]) == {"archived_meter": (1, ["c"])}
    stripe.refuses_unknown_meters = True
    with pytest.raises(sdk.InvalidRequestError, match="No active meter found"):
        send(client, "d")


def test_summaries_are_of_hours_days_or_the_whole(stripe: FakeStripe, client: sdk.StripeClient) -> None:
    for hour in (0, 11, 12):
        send(client, f"h{hour}", hour + 1, timestamp=MIDNIGHT + hour * HOUR)

    hours = [(MIDNIGHT + hour * HOUR, MIDNIGHT + (hour + 1) * HOUR, hour + 1.0) for hour in (12, 11, 0)]
    assert summaries(stripe, client, value_grouping_window="hour", limit=2) == hours
    days = summaries(stripe, client, value_grouping_window="day", start_time=MIDNIGHT - DAY)
    assert days == [(MIDNIGHT, MIDNIGHT + DAY, 26.0)]
    assert summaries(stripe, client, start_time=MIDNIGHT + 60) == [(MIDNIGHT + 60, MIDNIGHT + DAY, 25.0)]
    assert summaries(stripe, client, end_time=NOON) == [(MIDNIGHT, NOON, 13.0)]


@pytest.mark.parametrize(
    ("params", "words"),
    [
        ({"start_time": MIDNIGHT + 1}, "align with minute"),
        ({"end_time": NOON + 60, "value_grouping_window": "hour"}, "align with hour"),
        ({"end_time": NOON, "value_grouping_window": "day"}, "align with day"),
        ({"value_grouping_window": "month"}, "one of day or hour"),
        ({"start_time": NOON, "end_time": NOON}, "before the end_time"),
        ({"limit": 101}, "between 1 and 100"),
        ({"customer": "cus_2"}, "No such customer: 'cus_2'"),
    ],
    ids=str,
)
def test_summaries_are_refused_when_a_parameter_is_wrong(
    stripe: FakeStripe, client: sdk.StripeClient, params: dict[str, Any], words: str
) -> None:
    with pytest.raises(sdk.InvalidRequestError, match=words) as refused:
        summaries(stripe, client, **params)
    assert refused.value.http_status == 400
    assert refused.value.code == ("resource_missing" if "customer" in params else None)


def test_only_one_active_meter_has_an_event_name(client: sdk.StripeClient) -> None:
    meters: Any = client.v1.billing.meters
    params: Any = {"display_name": "Jobs", "event_name": "jobs", "default_aggregation": {"formula": "sum"}}
    first = meters.create(params)
    assert (first.status, first.event_time_window, first.value_settings.event_payload_key) == ("active", None, "value")
    with pytest.raises(sdk.InvalidRequestError, match="already an active meter"):
        meters.create(params)

    assert meters.deactivate(first.id).status == "inactive"
    second = meters.create({**params, "event_time_window": "day"})
    assert meters.update(second.id, {"display_name": "All jobs"}).display_name == "All jobs"
    with pytest.raises(sdk.InvalidRequestError, match="unknown parameter"):
        meters.update(second.id, {"event_time_window": "hour"})
    with pytest.raises(sdk.InvalidRequestError, match="already an active meter"):
        meters.reactivate(first.id)

    assert [meter.id for meter in meters.list({"status": "inactive"})] == [first.id]
    assert len(list(meters.list({"limit": 1}).auto_paging_iter())) == 3
    assert meters.retrieve(second.id).event_time_window == "day"


def test_key_has_the_permissions_that_it_was_given(stripe: FakeStripe) -> None:
    stripe.keys = {"rk_live_1234": {"billing_meter_event_write", "customer_write"}}
    client = connect(stripe, "rk_live_1234")

    assert send(client).livemode
    assert client.v1.customers.retrieve("cus_1").livemode  # write has read in it
    with pytest.raises(sdk.PermissionError, match="Having the 'rak_billing_meter_read' permission"):
        client.v1.billing.meters.list()
    with pytest.raises(sdk.AuthenticationError, match="Invalid API Key provided"):
        send(connect(stripe))


def test_requests_above_the_rate_are_refused(stripe: FakeStripe, client: sdk.StripeClient) -> None:
    stripe.requests_per_second = 2
    send(client, "a")
    send(client, "b")
    with pytest.raises(sdk.RateLimitError) as refused:
        send(client, "c")
    assert refused.value.headers
    assert (refused.value.headers["Stripe-Rate-Limited-Reason"], refused.value.headers["Retry-After"]) == (
        "global-rate",
        "1",
    )

    set_clock(stripe, NOW + 1)
    send(client, "c")


@pytest.mark.parametrize("is_refused", [False, True])
def test_concurrency_of_a_customer_is_seen(stripe: FakeStripe, client: sdk.StripeClient, is_refused: bool) -> None:
    stripe.refuses_concurrency = is_refused
    stripe.add_customer("cus_2")
    meeting = threading.Barrier(3, timeout=PATIENCE_SECONDS)
    stripe.before = lambda _: meeting.wait()

    def attempt(identifier: str, customer: str) -> int | None:
        try:
            send(client, identifier, customer=customer)
        except sdk.RateLimitError as error:
            return error.http_status
        return 200

    with ThreadPoolExecutor(3) as pool:
        statuses = sorted(map(str, pool.map(attempt, "abc", ("cus_1", "cus_1", "cus_2"))))

    assert statuses == ["200", "200", "429" if is_refused else "200"]
    assert stripe.largest_concurrency == 2


def test_key_that_is_under_way_is_refused(stripe: FakeStripe, client: sdk.StripeClient) -> None:
    is_first, is_over = threading.Event(), threading.Event()

    def hold_the_first(_: object) -> None:
        if not is_first.is_set():
            is_first.set()
            is_over.wait(PATIENCE_SECONDS)

    stripe.before = hold_the_first
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(send, client, key="k")
        assert is_first.wait(PATIENCE_SECONDS)
        with pytest.raises(sdk.StripeError, match="another in-progress request") as refused:
            send(client, key="k")
        is_over.set()

    assert refused.value.http_status == 409
    assert first.result().identifier == "a"
    assert send(client, key="k").created == NOW


def test_prices_are_found_by_lookup_key_which_moves_only_where_asked(client: Any) -> None:
    client.v1.products.create({"id": "growth", "name": "Growth"})
    with pytest.raises(sdk.InvalidRequestError) as refused:
        client.v1.products.create({"id": "growth", "name": "Growth"})
    assert refused.value.code == "resource_already_exists"
    tiers: Any = [{"up_to": 100, "unit_amount_decimal": "0"}, {"up_to": "inf", "unit_amount_decimal": "0.2"}]
    params: Any = {"currency": "usd", "product": "growth", "lookup_key": "k", "tiers": tiers, "metadata": {"0": "1"}}
    first = client.v1.prices.create(params)
    with pytest.raises(sdk.InvalidRequestError, match="already uses that lookup key"):
        client.v1.prices.create(params)
    second = client.v1.prices.create({**params, "transfer_lookup_key": True})

    [found] = client.v1.prices.list({"lookup_keys": ["k"], "expand": ["data.tiers", "data.product"]})
    assert (found.id, found.product.name, found.metadata["0"]) == (second.id, "Growth", "1")
    assert [tier.unit_amount_decimal for tier in found.tiers or ()] == [Decimal(0), Decimal("0.2")]
    assert "tiers" not in client.v1.prices.retrieve(first.id).to_dict()
    assert client.v1.prices.retrieve(first.id).lookup_key is None
    assert client.v1.prices.update(second.id, {"active": False}).active is False
    assert [price.id for price in client.v1.prices.list({"active": True})] == [first.id]
    with pytest.raises(sdk.InvalidRequestError, match="unknown parameter: recurring"):
        client.v1.prices.list({"recurring": {"interval": "month"}})


def test_deleted_customer_is_shown_as_such_and_not_listed(stripe: FakeStripe, client: sdk.StripeClient) -> None:
    stripe.add_customer("cus_2")
    client.v1.customers.delete("cus_2")

    assert client.v1.customers.retrieve("cus_2").to_dict() == {"id": "cus_2", "object": "customer", "deleted": True}
    assert [customer.id for customer in client.v1.customers.list()] == ["cus_1"]
    with pytest.raises(sdk.InvalidRequestError) as refused:
        client.v1.customers.retrieve("cus_3")
    assert (refused.value.http_status, refused.value.code) == (404, "resource_missing")
