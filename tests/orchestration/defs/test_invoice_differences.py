"""Differences of invoices: they fail a check, and go to finance's channel, each once.

The asset, the ledger, slack_sdk and its bytes are the real ones; Slack is on loopback, certificates are put there.
"""

import logging
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import dagster as dg
import pytest

from orchestration.billing.certificate import Certificate, Status
from orchestration.billing.certificate_problems import certificate_problems
from orchestration.billing.certificate_store import Certificates
from orchestration.billing.meter_ledger import meter_ledger
from orchestration.defs import notices, resources, sending
from orchestration.defs.notices import invoice_differences, tell_invoice_differences
from orchestration.defs.resources import Project
from orchestration.defs.stripe import stripe_certificates
from orchestration.ledger import outbox
from orchestration.settings import load
from tests.fakes.slack import LOST_AFTER, FakeSlack
from tests.support.killing import KilledError, at_line

END = datetime.now(UTC).replace(minute=0, second=0, microsecond=0) - timedelta(days=1)
OPEN = Certificate(
    *("cus_a", END - timedelta(days=30), END, END + timedelta(hours=1), 2, 1_500, 1_500, 1_500, Status.OPEN),
    "1,500 units counted, 1,000 on invoice in_1: 500 units were late for its invoice",
    END + timedelta(hours=2),
    subscription_id="sub_1",
    invoice_ids="in_1",
    line_ids="il_1",
    invoice_units=1_000,
    invoice_amount=100_000,
    expected_amount=150_000,
    currency="usd",
)
LOG = logging.getLogger("test")


def certify(*certificates: Certificate) -> None:
    for each in certificates:
        Certificates(meter_ledger(load())).save(each)


@pytest.fixture
def slack(data: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeSlack]:
    with FakeSlack() as server:
        environment = {
            "SLACK_BOT_TOKEN": server.token,
            "SLACK_API_URL": server.url,
            "HEADROOM_SLACK_CHANNEL": server.channel,
        }
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        yield server


def tell() -> None:
    tell_invoice_differences(Project(), Project().ways(), LOG)


def materialize(asset: dg.AssetsDefinition) -> dg.ExecuteInProcessResult:
    with dg.DagsterInstance.ephemeral() as instance:
        return dg.materialize([asset], instance=instance, resources={"project": Project()}, raise_on_error=False)


def test_difference_is_told_once_with_money_and_what_to_do(slack: FakeSlack) -> None:
    certify(OPEN)
    for _ in range(3):
        assert materialize(invoice_differences).success
    [message] = slack.messages
    assert message["text"].startswith("cus_a: 1,500 units counted, 1,000 on the invoice. Bill the missing 500 units")
    blocks = str(message["blocks"])
    assert "500.00 USD too little" in blocks
    assert "500 units were late for its invoice" in blocks
    assert "in_1" in blocks


def test_each_difference_has_a_message_and_other_figures_another(slack: FakeSlack) -> None:
    other = replace(OPEN, stripe_customer_id="cus_b", invoice_ids="in_2")
    certify(OPEN, other, replace(OPEN, stripe_customer_id="cus_c", status=Status.CERTIFIED))
    tell()
    tell()
    assert len(slack.messages) == 2
    certify(replace(OPEN, units=1_600, expected_amount=160_000))
    tell()
    tell()
    assert len(slack.messages) == 3


def test_difference_that_can_be_repaired_is_told_once_while_it_moves(slack: FakeSlack) -> None:
    soon = datetime.now(UTC) + timedelta(hours=1)
    before = replace(OPEN, final_at=soon, invoice_ids=None, invoice_units=None, invoice_amount=None)
    for units in (1_500, 1_501):
        certify(replace(before, units=units))
        tell()
    [message] = slack.messages
    assert f"still repair it until {soon:%Y-%m-%d %H:%M} UTC" in message["text"]


@pytest.mark.parametrize(("name", "audience"), [("FINANCE", "C0FINANCE"), ("DATA", "C0DATA"), ("", "")])
def test_differences_go_to_finance_else_to_the_data_team(
    data: Path, monkeypatch: pytest.MonkeyPatch, name: str, audience: str
) -> None:
    monkeypatch.setenv("HEADROOM_SLACK_CHANNEL", "C0SALES")
    if name:
        monkeypatch.setenv(f"HEADROOM_SLACK_CHANNEL_{name}", audience)
    assert load().slack_channels["finance"] == (audience or "C0SALES")


def test_two_runs_at_once_tell_it_once(slack: FakeSlack) -> None:
    certify(OPEN)
    Project().ledger()
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(lambda _: tell(), range(2)))
    tell()
    assert len(slack.messages) == 1


def test_lost_answer_and_refusal_are_made_good(slack: FakeSlack) -> None:
    certify(OPEN)
    slack.is_member = False
    tell()
    assert not slack.messages
    slack.is_member = True
    slack.then(LOST_AFTER)
    tell()
    slack.calm()
    tell()
    assert len(slack.messages) == 1


@pytest.mark.parametrize("line", range(1, 62, 6))
def test_run_that_is_killed_anywhere_tells_it_once(
    slack: FakeSlack, monkeypatch: pytest.MonkeyPatch, line: int
) -> None:
    later = timedelta()
    for module in (notices, resources):
        monkeypatch.setattr(module, "clock", lambda: datetime.now(UTC) + later)
    certify(OPEN)

    def kill() -> None:
        raise KilledError

    sys.settrace(at_line(line, {notices.__file__, sending.__file__, outbox.__file__}, kill))
    try:
        with suppress(KilledError):
            tell()
    finally:
        sys.settrace(None)
    for _ in range(2):  # what is in doubt is looked up, and sent only when it cannot be under way any more
        later += timedelta(hours=1)
        tell()
    assert len(slack.messages) == 1


def test_difference_fails_the_check_until_people_settle_it(data: Path) -> None:
    certify(OPEN)
    result = materialize(stripe_certificates)
    [evaluation] = result.get_asset_check_evaluations()
    assert (evaluation.check_name, evaluation.passed) == ("invoiced_as_counted", False)
    assert evaluation.severity == dg.AssetCheckSeverity.ERROR
    certify(replace(OPEN, status=Status.SETTLED))
    [evaluation] = materialize(stripe_certificates).get_asset_check_evaluations()
    assert evaluation.passed


def test_problems_are_sorted_by_money(data: Path) -> None:
    small = replace(OPEN, stripe_customer_id="cus_b", expected_amount=100_001)
    over = replace(OPEN, stripe_customer_id="cus_c", units=10, expected_amount=1_000)
    unknown = replace(OPEN, stripe_customer_id="cus_d", expected_amount=None)
    certify(small, OPEN, over, unknown)
    found = certificate_problems(meter_ledger(load()), datetime.now(UTC))
    assert [(each.stripe_customer_id, each.money) for each in found] == [
        ("cus_c", "990.00 USD too much"),
        ("cus_a", "500.00 USD too little"),
        ("cus_b", "0.01 USD too little"),
        ("cus_d", ""),
    ]
