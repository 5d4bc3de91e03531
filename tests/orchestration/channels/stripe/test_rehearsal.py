"""A month rehearsed at the loopback Stripe, with the real SDK, the real plan and the real sender."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from stripe import StripeClient
from typer.testing import CliRunner

from orchestration.billing import rehearsal
from orchestration.billing.meter import StoppedError
from orchestration.billing.meters import settings_of
from orchestration.billing.rehearsal import Comparison, RehearsalStep, RehearsalVendor
from orchestration.channels.stripe import connect_meter, connect_products
from orchestration.channels.stripe.rehearsal import StripeSandbox
from orchestration.cli.main import app
from orchestration.ledger.outbox import RefusedError
from orchestration.settings import Settings, load
from tests.fakes.slack import CUT_OFF_AFTER
from tests.fakes.stripe import METER_EVENTS
from tests.fakes.stripe_catalog import CatalogStripe
from tests.fakes.stripe_store import Request
from tests.orchestration.channels.stripe.test_check import sell_storage
from tests.support.waiting import RUN_SECONDS

START = datetime(2026, 11, 21, 12, 34, 56, tzinfo=UTC)
CLOCKS = "/v1/test_helpers/test_clocks"
runner = CliRunner()


class Rehearsals:
    """Rehearses without waiting: what waits moves everybody's clock."""

    def __init__(self, stripe: CatalogStripe, client: StripeClient) -> None:
        self.stripe, self.now, self.steps = stripe, START, list[RehearsalStep]()
        stripe.clock = lambda: self.now.timestamp()
        self.vendor = RehearsalVendor(lambda _: StripeSandbox(client, self.wait), connect_products, connect_meter)

    def wait(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)

    def run(self, config: Settings | None = None, **options: Any) -> Comparison:
        self.steps.clear()
        return rehearsal.rehearse(
            config or load(), self.vendor, lambda: self.now, self.steps.append, wait=self.wait, **options
        )

    def said(self, subject: str) -> list[str]:
        return [step.words for step in self.steps if step.subject == subject]


@pytest.fixture(params=[None, "hour"], ids=["sums", "hours"])
def rehearsals(request: pytest.FixtureRequest, published: Path, stripe: CatalogStripe, client: StripeClient) -> Any:
    stripe.add_meter("api-calls", request.param)
    return Rehearsals(stripe, client)


@pytest.mark.parametrize("plan", ["", "starter", "growth"])
def test_invoice_of_the_month_has_what_was_reported(
    published: Path, rehearsals: Rehearsals, data: Path, plan: str
) -> None:
    rehearsals.stripe.lag, rehearsals.stripe.summary_lag = 20, 40
    found = rehearsals.run(plan_name=plan)

    assert found.differences == ()
    assert found.units == found.invoiced_units > 1_000
    assert found.amount == found.invoiced_amount > 0
    assert len(found.lines) >= 2
    [made] = rehearsals.said("catalog")
    assert made.startswith("made 6 products, ")
    assert [step for step in rehearsals.steps if step.is_problem] == []
    [draft] = rehearsals.said("draft")
    assert draft.endswith("UTC, 1 h after the period")
    assert not any("ledger" in path.name for path in data.rglob("*"))
    assert rehearsals.stripe.counts()[f"DELETE {CLOCKS}/{next(iter(rehearsals.stripe.test_clocks.objects))}"] == 1
    before = len(rehearsals.stripe.prices.objects)
    rehearsals.run()
    assert rehearsals.said("catalog") == ["nothing was missing"]
    assert rehearsals.said("leftover") == []
    assert len(rehearsals.stripe.prices.objects) == before


def test_month_of_a_meter_with_decimals_is_rehearsed_by_its_steps(published: Path, rehearsals: Rehearsals) -> None:
    sell_storage(published)
    found = rehearsals.run(settings_of(load(), "storage"), plan_name="starter")
    assert found.differences == ()
    # 0.02 USD for each GB above half of one; the price at Stripe is of 0.001 GB
    assert found.units == found.invoiced_units > 1_000
    assert found.amount == round((found.units - 500) * 0.002)


def test_usage_is_in_the_past_of_both_clocks(rehearsals: Rehearsals) -> None:
    moved: list[int] = []

    def look(request: Request) -> None:
        if request.path == METER_EVENTS:
            [clock] = rehearsals.stripe.test_clocks.objects.values()
            moved.append(clock["frozen_time"] - request.params["timestamp"])

    rehearsals.stripe.before = look
    rehearsals.run()
    assert len(moved) > 70
    assert min(moved) >= 0
    assert max(moved) <= 35 * 86_400


def lose(stripe: CatalogStripe) -> None:
    usage = stripe.invoices.usage
    stripe.invoices.usage = lambda *arguments: usage(*arguments) - 5  # type: ignore[method-assign]


def dearer(stripe: CatalogStripe) -> None:
    finalize = stripe.invoices.finalize

    def wrong(invoice: dict[str, Any], at: int) -> None:
        finalize(invoice, at)
        invoice["lines"][0]["amount"] += 1

    stripe.invoices.finalize = wrong  # type: ignore[method-assign]


def elsewhere(stripe: CatalogStripe) -> None:
    finalize = stripe.invoices.finalize

    def wrong(invoice: dict[str, Any], at: int) -> None:
        finalize(invoice, at)
        invoice["lines"][0]["period"]["start"] += 3_600

    stripe.invoices.finalize = wrong  # type: ignore[method-assign]


@pytest.mark.parametrize(
    ("spoil", "said"),
    [(lose, "on the invoice"), (dearer, "by the price"), (elsewhere, "not of 2026-10-25 12:00")],
)
def test_wrong_invoice_is_found(rehearsals: Rehearsals, spoil: Callable[[CatalogStripe], None], said: str) -> None:
    spoil(rehearsals.stripe)
    found = rehearsals.run()
    assert any(said in difference for difference in found.differences)
    assert rehearsals.said("test clock")[-1].endswith("deleted, with its customer and invoices")


def test_meter_that_never_shows_it_is_a_problem(rehearsals: Rehearsals, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rehearsal, "PATIENCE", 2)
    rehearsals.stripe.summary_lag = 40 * 86_400
    rehearsals.run()
    assert [step.subject for step in rehearsals.steps if step.is_problem] == ["usage", "corrections", "late usage"]


def test_grace_of_the_sandbox_is_compared(rehearsals: Rehearsals, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEADROOM_STRIPE_GRACE_HOURS", "72")
    rehearsals.stripe.grace_hours = 3
    assert rehearsals.run().differences == ()
    [draft] = rehearsals.said("draft")
    assert "3 h after the period; HEADROOM_STRIPE_GRACE_HOURS is 72" in draft


def test_lost_answers_do_not_change_the_invoice(rehearsals: Rehearsals) -> None:
    rehearsals.stripe.then(*[CUT_OFF_AFTER] * 2)
    assert rehearsals.run().differences == ()


@pytest.mark.parametrize("path", ["/v1/customers", "/v1/subscriptions", "/v1/invoices", METER_EVENTS])
def test_test_clock_is_deleted_when_a_step_fails(rehearsals: Rehearsals, path: str) -> None:
    stripe = rehearsals.stripe

    def fail(request: Request) -> None:
        if request.path == path:
            stripe.before = lambda _: None
            stripe.keys[stripe.key] = {"billing_clock_write"}

    stripe.before = fail
    with pytest.raises((StoppedError, RefusedError), match="permission"):
        rehearsals.run()
    [clock] = stripe.test_clocks.objects.values()
    assert clock["deleted"]


def test_unknown_plan_is_refused_with_the_others(rehearsals: Rehearsals) -> None:
    with pytest.raises(ValueError, match="no plan 'gold' has a metered price: choose one of free, starter"):
        rehearsals.run(plan_name="gold")
    assert rehearsals.stripe.test_clocks.objects == {}


# The command


@pytest.mark.parametrize(
    ("key", "said"),
    [("sk_live_1", "is a live key, and a rehearsal makes customers and invoices"), ("", "STRIPE_API_KEY is not set")],
)
def test_command_needs_a_test_key(
    published: Path, stripe: CatalogStripe, monkeypatch: pytest.MonkeyPatch, key: str, said: str
) -> None:
    monkeypatch.setenv("HEADROOM_ENV", "production")
    monkeypatch.setenv("STRIPE_API_KEY", key) if key else monkeypatch.delenv("STRIPE_API_KEY")
    result = runner.invoke(app, ["stripe", "rehearse"])
    assert (result.exit_code, said in result.stderr) == (1, True)
    assert stripe.requests == []


@pytest.mark.parametrize("is_wrong", [False, True])
def test_command_prints_the_steps_and_a_verdict(published: Path, stripe: CatalogStripe, is_wrong: bool) -> None:
    stripe.test_clocks.slow_looks = 0
    if is_wrong:
        dearer(stripe)
    result = runner.invoke(app, ["stripe", "rehearse", "--plan", "starter"])
    assert result.exit_code == is_wrong, result.output
    assert all(len(line) <= 80 for line in result.stdout.splitlines())
    subjects = [line.split()[1] for line in result.stdout.splitlines() if line.startswith("ok")]
    assert subjects == [
        "catalog", "meter", "test", "subscription", "usage", "corrections", "draft", "late", "test"
    ]  # fmt: skip
    verdict = "The invoice differs from the reports" if is_wrong else "The invoice matches the reports"
    assert verdict in result.stdout
    assert ("- by the price the amount is" in result.stdout) is is_wrong


@pytest.mark.usefixtures("heeded_signals")
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_rehearsal_that_is_ended_leaves_nothing_or_is_named(
    published: Path, stripe: CatalogStripe, number: signal.Signals
) -> None:
    stripe.test_clocks.slow_looks = 0
    code = "import os; print(os.getpid(), flush=True); from orchestration.cli.main import main; main()"
    command = [sys.executable, "-c", code, "stripe", "rehearse"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)

    def end(request: Request) -> None:
        if request.path == METER_EVENTS and request.params:
            stripe.before = lambda _: None
            os.kill(process.pid, number)

    stripe.before = end
    output, _ = process.communicate(timeout=RUN_SECONDS)
    assert process.returncode, output
    [clock] = stripe.test_clocks.objects.values()
    assert bool(clock.get("deleted")) is (number != signal.SIGKILL)

    result = runner.invoke(app, ["stripe", "rehearse", "--delete-leftovers"])
    assert result.exit_code == 0, result.output
    assert (f"{clock['id']} of " in result.stdout) is (number == signal.SIGKILL)
    assert all(each.get("deleted") for each in stripe.test_clocks.objects.values())
