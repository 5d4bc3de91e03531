"""`headroom stripe problems`: what is not billed as counted, by customer and cause, in units and money."""

import csv
import io
import re
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import pytest
from typer.testing import CliRunner

from orchestration.billing.certificate import Certificate, Status
from orchestration.billing.certificate_store import Certificates
from orchestration.billing.problems import Problem, problems
from orchestration.billing.standing import standing
from orchestration.cli.main import app
from orchestration.usage.standing import Standing
from tests.fakes.stripe import FAILED_BEFORE, FakeStripe
from tests.support.billing_world import HOUR, NOW, SEVEN, World
from tests.support.statement_world import StatementWorld

DAY = timedelta(days=1)
OCTOBER = datetime(2026, 10, 1, tzinfo=UTC)
runner = CliRunner()


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    monkeypatch.setenv("HEADROOM_DATA", str(tmp_path))
    monkeypatch.setenv("HEADROOM_NOW", NOW.isoformat())
    with FakeStripe() as stripe:
        stripe.add_meter("api-calls", "hour")
        for customer in ("cus_a", "cus_b"):
            stripe.add_customer(customer)
        yield StatementWorld(tmp_path, stripe)


def found(world: World, by_hour: bool = False) -> list[Problem]:
    return problems(world.config, world.ledger, world.now, by_hour)


def output_of(*arguments: str) -> str:
    result = runner.invoke(app, ["stripe", "problems", *arguments])
    assert result.exit_code == 0, result.output
    return re.sub(r"\s+", " ", result.output)


def too_late(world: World, *, more: int, hours: int = 1) -> None:
    """cus_a was reported 600 units of October, and so many more, or fewer, came in each of the hours after the end."""
    first = [OCTOBER + 3 * DAY + number * HOUR for number in range(hours)]
    world.now = datetime(2026, 10, 20, tzinfo=UTC)
    world.usage = {("a1", "cus_a", hour): 600 // hours for hour in first}
    world.run()
    world.look(HOUR)
    world.now = datetime(2026, 11, 3, tzinfo=UTC)
    world.usage = {key: units + more for key, units in world.usage.items()}
    world.run()


def test_under_billing_is_grouped_with_its_money_at_the_plan(world: World) -> None:
    too_late(world, more=10, hours=3)
    [problem] = found(world)
    assert (problem.stripe_customer_id, problem.kind, problem.units, problem.hours) == ("cus_a", "under-billed", 30, 3)
    assert (problem.amount, problem.currency) == (Decimal("19.13"), "USD")  # 30 x 0.6375
    assert problem.cause == "too late: its invoice is final"
    assert problem.advice.startswith("add it to the next invoice by hand, or waive it, then `headroom stripe settle")
    assert problem.until is None
    assert [each.units for each in found(world, by_hour=True)] == [10, 10, 10]


def test_over_billing_is_called_so_and_is_negative(world: World) -> None:
    too_late(world, more=-150)
    [problem] = found(world)
    assert (problem.kind, problem.units) == ("over-billed", -150)
    assert problem.amount == Decimal("-63.75")  # 100 of the 150 are above what the plan includes
    assert problem.advice.startswith("issue a credit note, then")


def test_stripe_with_more_than_counted_is_over_billing(world: World) -> None:
    world.usage = {("a1", "cus_a", SEVEN): 600}
    world.run()
    world.stripe.events[0].payload["value"] = "640"
    for _ in range(20):
        world.look(3 * HOUR)
        world.run()
        world.stripe.events[-1].payload["value"] = "640"
    [problem] = found(world)
    assert (problem.kind, problem.units, problem.amount) == ("over-billed", -40, Decimal("-25.50"))
    assert problem.cause.startswith("Stripe's total differs from the report")
    assert "`headroom stripe adopt cus_a 2026-11-20T07`: the next run sends the difference" in problem.advice
    assert problem.until == datetime(2026, 12, 1, 1, tzinfo=UTC)


def test_most_expensive_comes_first_and_unknown_prices_last(world: World) -> None:
    world.usage = {("b", "cus_gone", SEVEN): 9_000, ("a1", "cus_a", SEVEN): 600, ("a2", "cus_b", SEVEN): 700}
    world.stripe.delete_customer("cus_a")
    world.stripe.delete_customer("cus_b")
    world.run()
    for _ in range(4):
        world.look(HOUR)
    world.publish()
    assert [(each.stripe_customer_id, each.units, each.amount) for each in found(world)] == [
        ("cus_b", 700, Decimal("127.50")),
        ("cus_a", 600, Decimal("63.75")),
        ("cus_gone", 9_000, None),
    ]
    text = output_of()
    assert "cus_b under-billed +700 units +127.50 USD" in text
    assert "cus_gone under-billed +9,000 units –" in text
    assert "Total: 9,000 units under-billed, price unknown; 1,300 units under-billed, 191.25 USD" in text
    assert "then `headroom stripe apply --retry-refused`" in text
    assert "Its invoice still accepts usage until 2026-12-01 01:00 UTC" in text


@pytest.mark.parametrize("columns", ["80", "100"])
def test_nothing_is_cut_off_on_a_narrow_terminal(world: World, monkeypatch: pytest.MonkeyPatch, columns: str) -> None:
    too_late(world, more=10)
    monkeypatch.setenv("COLUMNS", columns)
    [problem] = found(world)
    text = output_of("--hours")
    assert problem.identifiers[0] in text
    assert "…" not in text.replace("--note …", "")


def test_what_waits_for_approval_is_no_silence(world: World) -> None:
    world.usage = {("a1", "cus_a", SEVEN): 600, ("b", "cus_b", SEVEN): 9}
    world.run()
    world.look(HOUR)
    del world.usage["a1", "cus_a", SEVEN]
    world.run()
    [problem] = found(world)
    assert (problem.kind, problem.units) == ("over-billed", -600)
    assert problem.cause.startswith("waits for approval: usage leaves")
    assert "`headroom stripe apply --approve CODE` with its code" in problem.advice
    counted = standing(world.ledger)
    assert counted
    assert (counted.for_approval, counted.misbilled) == (1, 0)


def test_problems_as_csv_have_every_figure(world: World) -> None:
    too_late(world, more=10, hours=2)
    [row] = csv.DictReader(io.StringIO(runner.invoke(app, ["stripe", "problems", "--csv"]).output))
    assert (row["kind"], row["units"], row["amount"], row["currency"]) == ("under-billed", "20", "12.75", "USD")
    assert (row["from_hour"], row["to_hour"], row["hours"]) == ("2026-10-04T00:00:00Z", "2026-10-04T01:00:00Z", "2")
    assert len(row["identifiers"].split()) == 2


def test_no_problem_is_said_only_of_what_stripe_confirmed(world: World) -> None:
    assert "No report sent to Stripe yet" in output_of()
    world.usage = {("a1", "cus_a", SEVEN): 5}
    world.run()
    text = output_of()
    assert "1 customer-hour not confirmed yet, sent since 2026-11-20 08:05 UTC" in text
    assert "confirmed every customer-hour" not in text
    world.look(HOUR)
    assert "All clear: Stripe confirmed every customer-hour as counted." in output_of()


def test_standing_counts_each_hour_by_its_newest_report(world: World) -> None:
    assert standing(world.ledger) is None
    world.usage = {("a1", "cus_a", SEVEN): 5, ("b", "cus_b", SEVEN): 3}
    world.run()
    assert standing(world.ledger) == Standing(unconfirmed=2, unconfirmed_since=NOW)
    world.look(HOUR)
    assert standing(world.ledger) == Standing()
    world.usage["a1", "cus_a", SEVEN] = 6
    world.stripe.then(*[FAILED_BEFORE] * 9)
    world.run()
    waiting = standing(world.ledger)
    assert waiting
    assert (waiting.misbilled, waiting.unsent + waiting.unconfirmed) == (0, 1)


def test_invoice_that_differs_is_a_problem_for_the_units_nobody_explains(world: World) -> None:
    too_late(world, more=10)
    end = datetime(2026, 11, 1, tzinfo=UTC)
    words = "600 units invoiced, 610 counted"
    invoiced = Certificate(
        *("cus_a", OCTOBER, end, end + HOUR, 1, 610, 600, 600, Status.OPEN, words, world.now),
        subscription_id="sub_1",
        invoice_ids="in_1",
        invoice_units=600,
    )
    Certificates(world.ledger).save(invoiced)
    assert [each.units for each in found(world)] == [10]
    Certificates(world.ledger).save(replace(invoiced, invoice_units=640))
    over, under = found(world)
    assert (under.units, over.units, over.kind) == (10, -40, "over-billed")
    assert over.cause == f"invoice in_1: {words}"
    assert over.advice.startswith("Credit 30 units by a credit note on in_1; then `headroom stripe settle cus_a")


def test_invoice_that_was_dealt_with_is_no_problem_any_more(world: World) -> None:
    start, end = datetime(2026, 10, 1, tzinfo=UTC), datetime(2026, 11, 1, tzinfo=UTC)
    open_ = Certificate(
        *("cus_a", start, end, end + HOUR, 1, 610, 610, 610, Status.OPEN, "600 invoiced, 610 counted", NOW),
        subscription_id="sub_1",
        invoice_ids="in_1",
        invoice_units=600,
        invoice_amount=6_375,
        expected_amount=7_013,
        currency="usd",
    )
    Certificates(world.ledger).save(open_)
    [problem] = found(world)
    assert (problem.units, problem.amount, problem.currency) == (10, Decimal("6.38"), "USD")
    result = runner.invoke(app, ["stripe", "settle", "in_1", "--note", "billed by II-4"])
    assert "cus_a, 2026-10-01 00:00 to 2026-11-01 00:00 UTC, in_1: settled, billed by II-4 (was: 600" in result.output
    assert found(world) == []
    again = runner.invoke(app, ["stripe", "settle", "in_1", "--note", "x"])
    assert (again.exit_code, "in_1 has no held or refused usage" in again.stderr) == (1, True)
