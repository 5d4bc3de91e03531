"""The real client against a loopback Notion. What failures do to a delivery is in ../test_fault_matrix.py."""

import logging
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from orchestration.channels.notion import channel as channels
from orchestration.channels.notion.blocks import draw
from orchestration.channels.notion.channel import NotionChannel
from orchestration.channels.notion.vendor import VENDOR
from orchestration.ledger.ledger import Delivery, State
from orchestration.ledger.outbox import ATTEMPT_LIMIT, InDoubtError, Promise, RefusedError
from orchestration.messages.message import Line, Message, Section
from orchestration.messages.vendor import Target
from orchestration.settings import load
from orchestration.usage.findings import Finding
from tests.fakes.faults import ERROR_BEFORE, LOST_BEFORE, PORTAL_BEFORE, REFUSED, Fault, rate_limited
from tests.fakes.notion import FakeNotion

NOW = datetime(2026, 11, 20, 8, tzinfo=UTC)
KEY = "prod|weekly|2026-W47|wiki"
MESSAGE = Message(
    "weekly|2026-W47", "cs", "Weekly summary", "2 grew", [Section("Growing", [Line(f"+{n} %") for n in range(250)])]
)
ROW, PARTS = draw(MESSAGE, "prod", {})
MISSING = "needs properties that it does not have: add Key (type Text) and Date (type Date)"


@pytest.fixture
def notion(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeNotion]:
    for name in ("HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    with FakeNotion() as server:
        yield server


def open_channel(to: str = FakeNotion.to, **secrets: str) -> NotionChannel:
    channel = VENDOR.open(Target("wiki", to, Promise.EXACTLY_ONCE, secrets.get), load())
    assert isinstance(channel, NotionChannel)
    return channel


def open_at(notion: FakeNotion, to: str = FakeNotion.to) -> NotionChannel:
    return open_channel(to, token=notion.token, api_url=notion.url)


def make_delivery(channel: NotionChannel, parent: Delivery | None = None, **fields: Any) -> Delivery:
    payload = fields.pop("payload", ROW)
    delivery = Delivery(KEY, "notion", payload, State.SENDING, 1, NOW, NOW, None, None, None, None, None, None)
    return replace(delivery, address=channel.address(delivery, parent), **fields)


def test_message_is_a_row_with_its_properties_and_blocks(notion: FakeNotion) -> None:
    channel = open_at(notion)
    delivery = make_delivery(channel)

    receipt = channel.send(delivery)

    [page] = notion.pages
    assert page["id"] == receipt == channel.find(delivery)
    assert page["values"] == {
        "title": "Weekly summary",
        "Key": KEY,
        "Date": "2026-11-20T08:00:00+00:00",
        "Kind": "weekly",
    }
    assert page["blocks"] == ROW["blocks"]
    assert channel.permalink(replace(delivery, receipt=receipt)) == f"https://www.notion.so/{receipt.replace('-', '')}"


def test_row_is_not_found_by_the_mark_of_another(notion: FakeNotion) -> None:
    channel = open_at(notion)
    channel.send(make_delivery(channel))

    assert channel.find(make_delivery(channel, resends=1)) is None
    assert channel.find(make_delivery(channel, key="prod|weekly|2026-W48|wiki")) is None


def test_further_parts_are_appended_and_found_in_the_page(notion: FakeNotion) -> None:
    channel, notion.page_size = open_at(notion), 30
    parent = make_delivery(channel)
    parent = replace(parent, receipt=channel.send(parent))
    parts = [make_delivery(channel, parent, payload=payload) for payload in PARTS]

    assert [channel.find(part) for part in parts] == [None, None]
    assert [channel.send(part) for part in parts] == [parent.receipt] * 2
    assert [channel.find(part) for part in parts] == [parent.receipt] * 2

    assert sum("%" in line for line in notion.arrived[0]["text"].splitlines()) == 250


def test_title_has_whatever_name_and_kind_is_left_out_without_its_property(notion: FakeNotion) -> None:
    notion.schema = {"Betreff": "title", "Key": "rich_text", "Date": "date", "Kind": "rich_text"}
    channel = open_at(notion)

    channel.send(make_delivery(channel))

    assert set(notion.pages[0]["values"]) == {"title", "Key", "Date"}


@pytest.mark.parametrize(
    ("schema", "problem"),
    [
        ({"Name": "title"}, MISSING),
        ({"Key": "number", "Date": "date"}, "needs properties that it does not have: add Key (type Text)"),
        ({"Key": "rich_text", "Date": "created_time"}, "needs properties that it does not have: add Date (type Date)"),
    ],
)
def test_missing_properties_are_named_by_the_check_and_by_the_refusal(
    notion: FakeNotion, schema: dict[str, str], problem: str
) -> None:
    notion.schema = schema
    channel = open_at(notion)

    assert channel.check()[-1] == Finding("properties of the database", problem)
    with pytest.raises(RefusedError) as refused:
        make_delivery(channel)

    assert str(refused.value) == f"the database {problem}"
    assert notion.pages == []


def test_address_is_a_database_or_a_data_source(notion: FakeNotion) -> None:
    source = notion.databases[notion.to][0]
    dashed = f"{source[:8]}-{source[8:12]}-{source[12:16]}-{source[16:20]}-{source[20:]}"

    assert make_delivery(open_at(notion)).address == dashed
    assert make_delivery(open_at(notion, source)).address == source
    assert make_delivery(open_at(notion, dashed)).address == dashed
    assert make_delivery(open_at(notion, "contact"), payload={**ROW, "to": source}).address == source


def test_database_of_several_data_sources_needs_the_id_of_one(notion: FakeNotion) -> None:
    notion.databases[notion.to].append("7" * 32)

    with pytest.raises(RefusedError, match="2 data sources: name the id of one of them"):
        make_delivery(open_at(notion))


@pytest.mark.parametrize(
    ("to", "said"),
    [("", "not an id of Notion"), ("../users/me", "not an id of Notion"), ("e" * 32, "add the integration to the")],
)
def test_address_that_is_not_there_is_refused_with_a_remedy(notion: FakeNotion, to: str, said: str) -> None:
    channel = open_at(notion, to)

    with pytest.raises(RefusedError, match=said):
        make_delivery(channel)

    [token, database] = channel.check()
    assert (token.problem, database.subject) == ("", "database")
    assert said in database.problem


def test_check_finds_nothing_wrong_and_makes_no_row(notion: FakeNotion) -> None:
    findings = open_at(notion).check()

    assert [finding.problem for finding in findings] == ["", "", ""]
    assert notion.pages == []


def test_secrets_and_what_notion_says_are_in_no_error_or_log(
    notion: FakeNotion, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    good, token = open_at(notion), "ntn_0123456789_secret"
    bad = open_channel(token=token, api_url=notion.url)
    delivery = make_delivery(good)
    notion.fail_next(REFUSED, Fault(status=400, body='{"code":"validation_error","message":"said by Notion"}'))

    said = []
    with caplog.at_level(logging.DEBUG):
        for attempt in (lambda: good.send(delivery), lambda: good.send(delivery), lambda: make_delivery(bad)):
            with pytest.raises(RefusedError) as refused:
                attempt()
            said.append(str(refused.value))
            assert refused.value.__cause__ is None
        said.append(bad.check()[0].problem)

    written = "".join([*said, caplog.text, *capfd.readouterr()])
    assert "said by Notion" not in written
    assert "API token is invalid" not in written
    assert token not in written
    assert notion.token not in written
    assert ["its token is not valid" in sentence for sentence in said] == [False, False, True, True]


def test_rate_limit_is_waited_for_once(notion: FakeNotion) -> None:
    channel = open_at(notion)
    delivery = make_delivery(channel)
    notion.fail_next(rate_limited(0), rate_limited(0), rate_limited(0))

    with pytest.raises(RefusedError, match="run again in a minute"):
        channel.send(delivery)
    channel.send(delivery)

    assert len(notion.arrived) == 1


def test_two_tries_and_the_wait_stay_below_half_of_an_attempt() -> None:
    assert ATTEMPT_LIMIT.total_seconds() / 2 > 2 * channels.TIMEOUT_SECONDS + channels.MAX_WAIT_SECONDS


@pytest.mark.parametrize("fault", [LOST_BEFORE, ERROR_BEFORE, PORTAL_BEFORE], ids=["lost", "failed", "portal"])
def test_attempt_is_in_doubt_and_not_repeated_without_a_usable_answer(notion: FakeNotion, fault: Fault) -> None:
    channel = open_at(notion)
    delivery = make_delivery(channel)
    notion.fail_next(fault)

    with pytest.raises(InDoubtError, match="the next run looks before it makes another one"):
        channel.send(delivery)

    assert [path for method, path, _ in notion.requests if path == "/v1/pages"] == ["/v1/pages"]


def test_outage_is_a_refusal_before_and_a_doubt_after_the_attempt(notion: FakeNotion) -> None:
    channel = open_at(notion)
    delivery = make_delivery(channel)
    notion.is_down = True

    with pytest.raises(InDoubtError, match="could not be looked up"):
        channel.find(delivery)
    with pytest.raises(RefusedError, match="run again"):
        make_delivery(open_at(notion))
    with pytest.raises(RefusedError, match="could not be reached"):
        make_delivery(open_channel(token=notion.token, api_url="http://127.0.0.1:1"))


@pytest.mark.parametrize("token", ["", " ", "ntn_a b", "ntn_\u00e4"])
def test_token_that_cannot_be_sent_is_refused_when_the_channel_is_opened(token: str) -> None:
    with pytest.raises(ValueError, match="token") as refused:
        open_channel(token=token)

    assert not token.strip() or token not in str(refused.value)


def test_address_without_encryption_is_for_loopback_alone() -> None:
    with pytest.raises(ValueError, match="has to begin with https://"):
        open_channel(token="ntn_1", api_url="http://api.notion.com")
