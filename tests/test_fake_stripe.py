"""The loopback Stripe, driven by the real SDK."""

from collections.abc import Iterator

import pytest
import stripe as sdk

from tests.fake_stripe import METER_EVENTS, FakeStripe

HOUR, DAY = 3_600, 86_400
NOW = 1_795_262_400  # 2026-11-21 12:00 UTC
THIS_HOUR = NOW // HOUR * HOUR


@pytest.fixture
def stripe() -> Iterator[FakeStripe]:
    with FakeStripe() as server:
        set_clock(server, NOW)
        server.add_customer("cus_1")
        server.add_meter("api-calls", "hour")
        yield server


def set_clock(stripe: FakeStripe, at: float) -> None:
    stripe.clock = lambda: at


def connect(stripe: FakeStripe, key: str | None = None) -> sdk.StripeClient:
    addresses: sdk.BaseAddresses = {"api": stripe.url, "meter_events": stripe.url}
    return sdk.StripeClient(key or stripe.key, base_addresses=addresses, max_network_retries=0)


@pytest.fixture
def client(stripe: FakeStripe) -> sdk.StripeClient:
    return connect(stripe)


def send(
    client: sdk.StripeClient,
    identifier: str,
    value: int | str = 1,
    *,
    at: int = NOW,
    key: str | None = None,
    customer: str = "cus_1",
    event_name: str = "api-calls",
) -> sdk.billing.MeterEvent:
    return client.v1.billing.meter_events.create(
        {
            "event_name": event_name,
            "identifier": identifier,
            "timestamp": at,
            "payload": {"stripe_customer_id": customer, "value": str(value)},
        },
        {"idempotency_key": key or f"key-{identifier}"},
    )


def test_event_is_counted_in_its_hour_and_answered_as_it_was_sent(stripe: FakeStripe, client: sdk.StripeClient) -> None:
    event = send(client, "a", 70, at=THIS_HOUR - HOUR)
    send(client, "b", 5)

    assert (event.identifier, event.payload["value"], event.livemode) == ("a", "70", False)
    assert stripe.totals("cus_1", "api-calls") == {THIS_HOUR - HOUR: 70, THIS_HOUR: 5}
    assert stripe.counts() == {f"POST {METER_EVENTS}": 2}
