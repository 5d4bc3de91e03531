"""A workflow of Teams on loopback: what people see after failures, by the promise of the route, and what errors say."""

import json
import logging
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from orchestration.channels import http
from orchestration.channels.teams.channel import RUN_ID
from orchestration.channels.teams.vendor import VENDOR
from orchestration.ledger.ledger import State
from orchestration.ledger.outbox import InDoubtError, Promise, RefusedError
from tests.fakes.faults import ERROR_AFTER, ERROR_BEFORE, LOST_AFTER, LOST_BEFORE, PORTAL_BEFORE, Fault, rate_limited
from tests.fakes.teams import FakeTeams
from tests.support.desk import Desk, make_message, target

NOTE = "This may be a repetition."


@pytest.fixture
def teams(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeTeams]:
    for name in ("HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    with FakeTeams() as server:
        yield server


@pytest.fixture
def desk(tmp_path: Path, teams: FakeTeams) -> Iterator[Desk]:
    desk = Desk(tmp_path, VENDOR, teams)
    desk.prepare(make_message())
    yield desk
    desk.ledger.close()


def test_card_arrives_once(desk: Desk, teams: FakeTeams) -> None:
    delivery = desk.deliver()
    assert desk.deliver() == delivery

    assert (delivery.state, delivery.receipt, delivery.address) == (State.SENT, "accepted", "workflow")
    assert (len(teams.arrived), teams.failed_runs) == (1, [])


def test_receipt_is_the_run_of_the_workflow(desk: Desk, teams: FakeTeams) -> None:
    teams.fail_next(Fault(applies=True, status=202, body="", headers={RUN_ID: "08584-CU07"}))
    assert desk.deliver().receipt == "08584-CU07"


@pytest.mark.parametrize("fault", [LOST_AFTER, ERROR_AFTER], ids=str)
def test_card_is_sent_again_when_its_answer_was_lost(desk: Desk, teams: FakeTeams, fault: Fault) -> None:
    teams.fail_next(fault)
    for _ in range(2):
        with pytest.raises(InDoubtError):
            desk.deliver()
    assert len(teams.arrived) == 1
    desk.wait()

    assert desk.deliver().state is State.SENT
    first, second = teams.arrived
    assert second["text"].startswith(first["text"])


def test_repeated_card_says_so_in_its_last_line(desk: Desk, teams: FakeTeams) -> None:
    desk.deliver()
    desk.channel.send(replace(desk.delivery(), doubts=1))

    first, second = teams.arrived
    assert second["text"] == f"{first['text']}\n{NOTE}"


@pytest.mark.parametrize("fault", [LOST_BEFORE, ERROR_BEFORE, PORTAL_BEFORE], ids=str)
def test_card_that_was_lost_arrives_five_minutes_later(desk: Desk, teams: FakeTeams, fault: Fault) -> None:
    teams.fail_next(fault)
    with pytest.raises(InDoubtError):
        desk.deliver()
    desk.wait()

    assert desk.deliver().state is State.SENT
    assert len(teams.arrived) == 1


@pytest.mark.parametrize(("fault", "arrived"), [(LOST_AFTER, 1), (LOST_BEFORE, 0)], ids=["after", "before"])
def test_route_to_teams_that_sends_at_most_once_gives_up(
    tmp_path: Path, teams: FakeTeams, fault: Fault, arrived: int
) -> None:
    (tmp_path / "once").mkdir()
    desk = Desk(tmp_path / "once", VENDOR, teams, Promise.AT_MOST_ONCE)
    desk.prepare(make_message())
    teams.fail_next(fault)
    with pytest.raises(InDoubtError):
        desk.deliver()
    desk.wait()

    assert (desk.deliver().state, len(teams.arrived)) == (State.GIVEN_UP, arrived)
    desk.ledger.close()


@pytest.mark.parametrize(
    ("status", "body", "remedy"),
    [
        (400, '{"error": {"code": "TriggerInputSchemaMismatch"}}', "refuses the form of this card"),
        (401, "{}", "copy all of it again"),
        (403, "", "let anyone trigger the workflow"),
        (404, "", "there is no such workflow any longer"),
        (413, "", "the card is too large"),
        (418, "", "check the workflow's run history"),
        (200, "Webhook message delivery failed with error: HTTP error 429", "make a workflow instead"),
    ],
)
def test_refusal_of_the_webhook_has_a_remedy(desk: Desk, teams: FakeTeams, status: int, body: str, remedy: str) -> None:
    teams.fail_next(Fault(status=status, body=body))
    with pytest.raises(RefusedError, match=remedy):
        desk.deliver()
    assert desk.delivery().state is State.FAILED


def test_other_answer_of_a_workflow_counts_as_accepted(desk: Desk, teams: FakeTeams) -> None:
    teams.fail_next(Fault(applies=True, status=200, body='{"posted": true}'))  # a workflow with a Response action
    assert desk.deliver().state is State.SENT


def test_short_limit_of_a_workflow_is_waited_for(desk: Desk, teams: FakeTeams, monkeypatch: pytest.MonkeyPatch) -> None:
    waited: list[float] = []
    monkeypatch.setattr(http.request, "__kwdefaults__", {**http.request.__kwdefaults__, "sleep": waited.append})
    teams.fail_next(rate_limited(2))

    assert desk.deliver().state is State.SENT
    assert waited == [2]


def test_url_is_in_no_error_log_payload_or_receipt(
    desk: Desk, teams: FakeTeams, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    secret, teams.signature = teams.signature, "another"
    teams.fail_next(Fault(status=401, body=json.dumps({"error": {"message": f"sig={secret}"}})))
    texts: list[object] = []
    for url in (teams.workflow.replace("another", secret), f"http://127.0.0.1:9/?sig={secret}"):
        desk.open(secret={"url": url}.get)
        with pytest.raises(RefusedError) as refused:
            desk.deliver()
        texts.append(refused.value)
    teams.signature = secret
    desk.open()
    teams.fail_next(Fault(applies=True, status=202, body="", headers={RUN_ID: f"https://x/?sig={secret}"}))
    texts.append(desk.deliver())

    assert secret not in " ".join(map(str, [*texts, *caplog.messages]))


def test_webhook_cannot_reply(desk: Desk) -> None:
    with pytest.raises(RefusedError, match="cannot reply"):
        desk.channel.address(desk.delivery(), desk.delivery())


def test_owner_is_mentioned_where_the_route_says_so(desk: Desk) -> None:
    assert desk.channel.user_id("ana@example.com") is None  # type: ignore[attr-defined]
    desk.open(options={"mentions": "on"})
    assert desk.channel.user_id("ana@example.com") == "ana@example.com"  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        ({"secret": lambda name: None}, "needs the URL of a workflow"),
        ({"secret": lambda name: "http://example.com/workflows"}, "needs the URL of a workflow"),
        ({"secret": lambda name: "https://example.com/a b"}, "needs the URL of a workflow"),
        ({"options": {"mentions": "yes"}}, "mentions is on or off"),
    ],
)
def test_route_to_teams_with_a_wrong_setting_is_not_opened(
    teams: FakeTeams, wrong: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(ValueError, match=sentence) as error:
        VENDOR.open(target(teams, Promise.AT_LEAST_ONCE, **wrong), None)  # type: ignore[arg-type]
    assert "example.com" not in str(error.value)
