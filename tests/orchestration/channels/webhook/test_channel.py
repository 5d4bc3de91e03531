"""The channel against a receiver on loopback, which verifies signatures and drops a webhook-id that it knows."""

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from orchestration.channels.webhook.channel import WebhookChannel, webhook_id
from orchestration.channels.webhook.vendor import VENDOR
from orchestration.ledger.ledger import Delivery, Ledger, State
from orchestration.ledger.outbox import DOUBT_WINDOW, InDoubtError, Promise, RefusedError, deliver
from orchestration.messages.message import Message
from orchestration.messages.vendor import Checked, Target
from orchestration.settings import load
from tests.fakes.slack import (
    CUT_OFF_AFTER,
    ERROR_AFTER,
    ERROR_BEFORE,
    LOST_AFTER,
    LOST_BEFORE,
    Fault,
    rate_limited,
)
from tests.fakes.webhook import SECRET, FakeWebhook
from tests.support.builders import NOW

KEY = "local|digest|2026-11-20|crm"
OTHER_SECRET = "whsec_" + "QUJD" * 8
MESSAGE = Message("digest|2026-11-20", "sales", "Usage digest", "1 account crossed 80 %")


class Desk:
    """A ledger with one prepared message, the channel as a route opens it, and a clock that tests move."""

    def __init__(self, folder: Path, receiver: FakeWebhook) -> None:
        self.receiver, self.now = receiver, datetime.now(UTC)
        self.ledger = Ledger(f"sqlite:///{folder}/ledger.sqlite")
        self.slept: list[float] = []
        self.channel = self.open()
        drawn, replies = VENDOR.draw(MESSAGE, "local", {})
        with self.ledger.transaction() as connection:
            self.ledger.prepare(connection, KEY, "webhook", drawn, NOW, replies)

    def open(self, promise: Promise = Promise.EXACTLY_ONCE, **secrets: str) -> WebhookChannel:
        known = {"url": self.receiver.url, "secret": SECRET, **secrets}
        channel = VENDOR.open(Target("crm", "", promise, known.get), load())
        assert isinstance(channel, WebhookChannel)
        channel._sleep = self.slept.append
        return channel

    def deliver(self) -> Delivery:
        return deliver(self.ledger, KEY, self.channel, lambda: self.now)

    def stored(self, **fields: Any) -> Delivery:
        delivery = self.ledger.delivery(KEY)
        assert delivery
        return replace(delivery, **fields)


@pytest.fixture
def desk(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Desk]:
    for name in ("HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    with FakeWebhook() as receiver:
        desk = Desk(tmp_path, receiver)
        yield desk
        desk.ledger.close()


def test_message_is_posted_once_with_a_signature(desk: Desk) -> None:
    first, second = desk.deliver(), desk.deliver()

    assert first == second
    assert (first.state, first.receipt) == (State.SENT, webhook_id(KEY))
    assert desk.receiver.arrived == [{"mark": KEY, "text": "Usage digest"}]
    [(headers, _)] = desk.receiver.requests
    assert headers["content-type"] == "application/json"
    assert re.fullmatch(r"msg_[0-9a-f]{32}", headers["webhook-id"])
    assert abs(int(headers["webhook-timestamp"]) - datetime.now(UTC).timestamp()) < 300


@pytest.mark.parametrize("fault", [LOST_BEFORE, LOST_AFTER, CUT_OFF_AFTER, ERROR_BEFORE, ERROR_AFTER])
def test_post_in_doubt_is_repeated_under_its_webhook_id(desk: Desk, fault: Fault) -> None:
    desk.receiver.fail_next(fault)
    with pytest.raises(InDoubtError):
        desk.deliver()
    with pytest.raises(InDoubtError):
        desk.deliver()
    assert len(desk.receiver.requests) == 1
    desk.now += DOUBT_WINDOW

    assert desk.deliver().state is State.SENT
    assert len(desk.receiver.arrived) == 1
    (first, body), (second, again) = desk.receiver.requests
    assert (first["webhook-id"], body) == (second["webhook-id"], again)


def test_what_people_send_once_more_has_another_webhook_id(desk: Desk) -> None:
    for resends in (0, 1):
        desk.channel.send(desk.stored(resends=resends))
    assert [shown["mark"] for shown in desk.receiver.arrived] == [KEY, f"{KEY}#1"]


def test_post_in_doubt_does_not_go_to_another_receiver(desk: Desk) -> None:
    desk.receiver.fail_next(LOST_AFTER)
    with pytest.raises(InDoubtError):
        desk.deliver()
    address = desk.stored().address
    with FakeWebhook() as other:
        desk.channel = desk.open(url=other.url.replace("/in/", "/another/"))
        desk.now += DOUBT_WINDOW
        with pytest.raises(RefusedError, match=f"may have arrived at {address}, and the route's `url` is another one"):
            desk.deliver()
        assert other.requests == []

    desk.channel = desk.open(url=desk.receiver.url.replace("very-secret-token", "rotated"))
    assert desk.deliver().state is State.SENT
    assert len(desk.receiver.arrived) == 1


def test_route_that_posts_at_most_once_gives_up_what_is_in_doubt(desk: Desk) -> None:
    desk.channel = desk.open(Promise.AT_MOST_ONCE)
    desk.receiver.fail_next(LOST_BEFORE)
    with pytest.raises(InDoubtError):
        desk.deliver()
    desk.now += DOUBT_WINDOW

    assert desk.deliver().state is State.GIVEN_UP
    assert len(desk.receiver.requests) == 1


@pytest.mark.parametrize(
    ("status", "sentence"),
    [
        (302, "refused (HTTP 302) for local|digest|2026-11-20|crm: it leads to another address: set that one"),
        (400, "refused (HTTP 400) for local|digest|2026-11-20|crm: its log says what it does not understand"),
        (401, "check that it has the route's `secret`"),
        (404, "correct the route's `url`"),
        (413, "raise the size that it takes to 1 MB"),
        (418, "its log says why"),
    ],
)
def test_refusal_has_its_status_and_the_remedy(desk: Desk, status: int, sentence: str) -> None:
    desk.receiver.fail_next(Fault(status=status, body="very-secret", headers={"Location": "https://evil.example"}))
    with pytest.raises(RefusedError) as refused:
        desk.deliver()

    assert sentence in str(refused.value)
    assert len(desk.receiver.requests) == 1
    assert desk.deliver().state is State.SENT


def test_receiver_that_wants_no_more_gets_no_more(desk: Desk) -> None:
    desk.receiver.status = 410

    delivery = desk.deliver()

    assert delivery.state is State.GIVEN_UP
    assert "it wants no more of these, so remove the route" in str(delivery.error)
    assert [finding.problem for finding in desk.channel.check() if finding.is_needed] == [
        "it wants no more of these, so remove the route"
    ]


@pytest.mark.parametrize("status", [200, 201, 202, 204])
def test_any_status_of_success_is_one(desk: Desk, status: int) -> None:
    desk.receiver.status = status
    assert desk.deliver().state is State.SENT


def test_short_wait_is_kept_and_a_long_one_is_a_refusal(desk: Desk) -> None:
    desk.receiver.fail_next(rate_limited(3), rate_limited(3), rate_limited(60))
    for _ in range(2):
        with pytest.raises(RefusedError, match="takes no more messages for the moment"):
            desk.deliver()

    assert desk.slept == [3]
    assert desk.deliver().state is State.SENT


def test_outage_leaves_the_post_in_doubt_and_it_follows(desk: Desk) -> None:
    desk.receiver.is_down = True
    with pytest.raises(InDoubtError):
        desk.deliver()
    desk.receiver.is_down = False
    desk.now += DOUBT_WINDOW

    assert desk.deliver().state is State.SENT
    assert len(desk.receiver.arrived) == 1


def test_receiver_that_does_not_listen_is_a_refusal(desk: Desk) -> None:
    desk.channel = desk.open(url="http://127.0.0.1:9/x")
    with pytest.raises(RefusedError, match="could not be reached"):
        desk.deliver()


def test_two_secrets_sign_while_one_replaces_the_other(desk: Desk) -> None:
    desk.channel = desk.open(secret=f"{OTHER_SECRET} {SECRET}")

    assert desk.deliver().state is State.SENT
    [(headers, _)] = desk.receiver.requests
    assert len(headers["webhook-signature"].split()) == 2


def test_wrong_secret_is_refused_by_the_receiver(desk: Desk) -> None:
    desk.channel = desk.open(secret=OTHER_SECRET)
    with pytest.raises(RefusedError, match="check that it has the route's `secret`"):
        desk.deliver()


def test_check_asks_without_posting(desk: Desk) -> None:
    assert isinstance(desk.channel, Checked)
    [place, encryption] = desk.channel.check()

    assert (place.subject, place.problem) == ("receiver at 127.0.0.1", "")
    assert (encryption.problem, encryption.is_needed) == ("anybody on the way can read it: use https://", False)
    assert desk.receiver.requests == []


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (lambda receiver: setattr(receiver, "status", 503), "it fails (HTTP 503): its log says why"),
        (lambda receiver: setattr(receiver, "is_down", True), "no answer (RemoteProtocolError): check the route's"),
    ],
)
def test_check_says_what_is_wrong(desk: Desk, change: Callable[[FakeWebhook], None], problem: str) -> None:
    change(desk.receiver)
    assert desk.channel.check()[0].problem.startswith(problem)


def test_nothing_secret_is_in_errors_receipts_or_the_ledger(desk: Desk, tmp_path: Path) -> None:
    said = []
    for fault in (LOST_BEFORE, Fault(status=403, body="very-secret"), ERROR_BEFORE, Fault(status=307, body="")):
        desk.receiver.fail_next(fault)
        with pytest.raises((RefusedError, InDoubtError)) as refused:
            desk.deliver()
        said += [str(refused.value), repr(refused.value.__cause__)]
        desk.now += DOUBT_WINDOW
    said += [str(desk.deliver()), *(str(finding) for finding in desk.channel.check())]

    stored = b"".join(path.read_bytes() for path in tmp_path.glob("ledger.sqlite*"))
    for secret in ("very-secret", SECRET, SECRET.removeprefix("whsec_")):
        assert not any(secret in each for each in said)
        assert secret.encode() not in stored


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(("url", value) for value in ("", "very-secret", "ftp://very-secret", "https://", "http://x:very-secret/")),
        *(("secret", value) for value in ("", "very-secret", "whsec_", "whsec_c2hvcnQ=", "whsec_very-secret")),
        ("secret", f"{SECRET} very-secret"),
        ("secret", "whsec_" + "QUJD" * 22),
    ],
)
def test_route_without_url_or_secret_is_refused_without_showing_it(desk: Desk, name: str, value: str) -> None:
    with pytest.raises(ValueError, match="route crm needs") as refused:
        desk.open(**{name: value})
    assert "very-secret" not in str(refused.value)
    assert "very-secret" not in repr(refused.value.__cause__)


def test_fake_configures_the_route_that_it_names(desk: Desk) -> None:
    assert desk.receiver.environment("to-crm") == {
        "HEADROOM_ROUTE_TO_CRM_URL": desk.receiver.url,
        "HEADROOM_ROUTE_TO_CRM_SECRET": SECRET,
    }


def test_body_is_the_event_of_the_delivery(desk: Desk) -> None:
    desk.deliver()
    [(_, raw)] = desk.receiver.requests
    body = json.loads(raw)

    assert {name: body[name] for name in ("type", "version", "timestamp", "delivery")} == {
        "type": "headroom.digest",
        "version": 1,
        "timestamp": f"{NOW:%Y-%m-%dT%H:%M:%SZ}",
        "delivery": KEY,
    }
    assert body["data"]["headline"] == "1 account crossed 80 %"
