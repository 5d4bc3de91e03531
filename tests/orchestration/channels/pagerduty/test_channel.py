"""The real client against a loopback PagerDuty. What failures do to a delivery is in ../test_fault_matrix.py."""

import logging
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from orchestration.channels.pagerduty import channel as channels
from orchestration.channels.pagerduty.event import draw
from orchestration.channels.pagerduty.vendor import VENDOR
from orchestration.ledger.ledger import Delivery, State
from orchestration.ledger.outbox import ATTEMPT_LIMIT, Channel, InDoubtError, Promise, RefusedError
from orchestration.messages.message import Message
from orchestration.messages.vendor import Target
from orchestration.settings import load
from tests.fakes.faults import CUT_OFF_AFTER, ERROR_AFTER, GARBLED_AFTER, LOST_AFTER, REFUSED, Fault, rate_limited
from tests.fakes.pagerduty import FakePagerDuty

NOW = datetime(2026, 11, 20, 8, tzinfo=UTC)
KEY = "prod|critical|2026-11-20T08:00:00Z|on-call"
PAYLOAD, _ = draw(Message("critical|2026-11-20T08:00:00Z", "sales", "Hard quota alert", "Acme is out"), "prod", {})


@pytest.fixture
def pagerduty(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakePagerDuty]:
    monkeypatch.setattr(channels._Client, "sleep_timer", 0)
    for name in ("HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    with FakePagerDuty() as server:
        yield server


def open_channel(**secrets: str) -> Channel:
    target = Target("on-call", "", Promise.EXACTLY_ONCE, secrets.get)
    return VENDOR.open(target, load())


def open_at(pagerduty: FakePagerDuty) -> Channel:
    return open_channel(routing_key=pagerduty.routing_key, api_url=pagerduty.url)


def make_delivery(channel: Channel, key: str = KEY, **fields: object) -> Delivery:
    delivery = Delivery(key, "pagerduty", PAYLOAD, State.SENDING, 1, NOW, NOW, None, None, None, None, None, None)
    return replace(delivery, address=channel.address(delivery, None), **fields)  # type: ignore[arg-type]


def test_event_is_one_alert_however_often_it_is_sent(pagerduty: FakePagerDuty) -> None:
    channel = open_at(pagerduty)
    delivery = make_delivery(channel)

    assert channel.send(delivery) == channel.send(delivery) == KEY
    assert channel.find(delivery) is None

    [alert] = pagerduty.alerts
    assert alert["triggers"] == 2
    assert alert["event"] == {
        **PAYLOAD["event"],
        "routing_key": pagerduty.routing_key,
        "event_action": "trigger",
        "dedup_key": KEY,
    }


def test_event_opens_another_alert_when_somebody_has_resolved_the_first(pagerduty: FakePagerDuty) -> None:
    """The limit of what PagerDuty promises, and so of what the channel does."""
    channel = open_at(pagerduty)
    channel.send(make_delivery(channel))
    pagerduty.resolve()

    channel.send(make_delivery(channel))

    assert len(pagerduty.arrived) == 2


def test_event_that_is_sent_once_more_by_people_is_another_alert(pagerduty: FakePagerDuty) -> None:
    channel = open_at(pagerduty)

    channel.send(make_delivery(channel))
    channel.send(make_delivery(channel, resends=1))

    assert [each["mark"] for each in pagerduty.arrived] == [KEY, f"{KEY}#1"]


def test_key_that_is_too_long_is_sent_as_its_hash(pagerduty: FakePagerDuty) -> None:
    channel = open_at(pagerduty)
    keys = [f"prod|crossing|{'a' * 300}{number}|on-call" for number in range(2)]

    receipts = {channel.send(make_delivery(channel, key)) for key in keys for _ in range(2)}

    assert len(receipts) == len(pagerduty.alerts) == 2
    assert {len(receipt) for receipt in receipts} == {64}


@pytest.mark.parametrize("fault", [LOST_AFTER, ERROR_AFTER, CUT_OFF_AFTER, GARBLED_AFTER], ids=str)
def test_attempt_is_in_doubt_and_not_repeated_when_the_answer_is_unusable(
    pagerduty: FakePagerDuty, fault: Fault
) -> None:
    pagerduty.fail_next(fault)
    channel = open_at(pagerduty)

    with pytest.raises(InDoubtError):
        channel.send(make_delivery(channel))

    assert len(pagerduty.requests) == 1


def test_refusal_says_what_to_do_and_nothing_secret(pagerduty: FakePagerDuty, caplog: pytest.LogCaptureFixture) -> None:
    channel = open_at(pagerduty)
    pagerduty.fail_next(REFUSED)

    with caplog.at_level(logging.DEBUG), pytest.raises(RefusedError, match="Copy the Integration Key") as refused:
        channel.send(make_delivery(channel))

    assert refused.value.__cause__ is None
    said = f"{refused.value}{caplog.text}{channel.address(make_delivery(channel), None)}"
    assert pagerduty.routing_key not in said
    assert pagerduty.routing_key[-4:] not in said
    assert "Event object is invalid" not in said


def test_rate_limit_is_waited_for_once(pagerduty: FakePagerDuty) -> None:
    channel = open_at(pagerduty)
    pagerduty.fail_next(rate_limited(1))
    channel.send(make_delivery(channel))
    assert len(pagerduty.arrived) == 1

    pagerduty.fail_next(rate_limited(1), rate_limited(1))
    with pytest.raises(RefusedError, match="run again in a few minutes"):
        channel.send(make_delivery(channel))

    assert len(pagerduty.requests) == 4


def test_two_tries_and_the_wait_stay_below_half_of_an_attempt() -> None:
    assert ATTEMPT_LIMIT.total_seconds() / 2 > 2 * channels.TIMEOUT_SECONDS + channels.WAIT_SECONDS


def test_attempt_is_refused_when_pagerduty_cannot_be_reached(pagerduty: FakePagerDuty) -> None:
    channel = open_channel(routing_key=pagerduty.routing_key, api_url="http://127.0.0.1:1")

    with pytest.raises(RefusedError, match="could not be reached"):
        channel.send(make_delivery(channel))


def test_doubt_is_left_to_people_when_the_routing_key_has_changed(pagerduty: FakePagerDuty) -> None:
    before = make_delivery(open_at(pagerduty))
    after = open_channel(routing_key="f" * 32, api_url=pagerduty.url)

    with pytest.raises(RefusedError, match="headroom deliveries settle"):
        after.find(before)


@pytest.mark.parametrize("key", ["", "R0UT1NG", "0123456789abcdef0123456789abcde\n", "ä" * 32])
def test_routing_key_of_another_form_is_refused_before_anything_is_sent(key: str) -> None:
    with pytest.raises(ValueError, match="route on-call needs a routing key: the Integration Key") as refused:
        open_channel(routing_key=key)

    assert not key or key not in str(refused.value)


@pytest.mark.parametrize("url", ["http://events.pagerduty.com", "http://127.0.0.1.example.com/", "ftp://localhost/"])
def test_address_without_encryption_is_for_loopback_alone(url: str) -> None:
    with pytest.raises(ValueError, match="has to begin with https://") as refused:
        open_channel(routing_key="0" * 32, api_url=url)

    assert url not in str(refused.value)
