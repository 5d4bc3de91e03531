"""Usage to a loopback Stripe, from a published copy that is written by hand: what stands there in the end, and what the
ledger says of what does not. One test for each thing that goes wrong; all of it at random is in test_billing_faults.py.
"""

import shutil
import threading
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from orchestration.billing import due, reconcile, report
from orchestration.billing.meter import StoppedError
from orchestration.billing.metering import ReportState
from orchestration.channels.stripe import client as stripe_client
from orchestration.channels.stripe import connect_meter
from orchestration.channels.stripe import meter as stripe_channel
from orchestration.ledger.engines import BusyError
from tests.fakes.slack import CUT_OFF_AFTER, GARBLED_AFTER, LOST_AFTER, LOST_BEFORE, Fault
from tests.fakes.stripe import FAILED_AFTER, FAILED_BEFORE, METER_EVENTS, FakeStripe
from tests.support import ledgers
from tests.support.billing_world import DAY, HOUR, NOW, SEVEN, QuickWorld, World, quick
from tests.support.waiting import PATIENCE_SECONDS

SIX = SEVEN - HOUR
RATE_LIMITED = replace(FAILED_BEFORE, status=429, headers={"Retry-After": "7"})
REFUSED = replace(FAILED_BEFORE, status=400, body='{"error": {"type": "invalid_request_error", "message": "No."}}')
PROXY = Fault(status=502, body='{"error": "bad gateway"}')
IN_DOUBT = {
    "request lost": LOST_BEFORE,
    "answer lost": LOST_AFTER,
    "500, nothing done": FAILED_BEFORE,
    "500, done": FAILED_AFTER,
    "cut off": CUT_OFF_AFTER,
    "garbled": GARBLED_AFTER,
    "a proxy's error": PROXY,
}


@pytest.fixture
def stripe() -> Iterator[FakeStripe]:
    with FakeStripe() as stripe:
        for customer in ("cus_a", "cus_b"):
            stripe.add_customer(customer)
        yield stripe


@pytest.fixture(params=["hour", None], ids=["totals", "differences"])
def world(request: pytest.FixtureRequest, tmp_path: Path, stripe: FakeStripe) -> Iterator[World]:
    """One hour of two customers, in each of the two modes."""
    stripe.add_meter("api-calls", request.param)
    world = QuickWorld(tmp_path, stripe)
    world.usage = {("a", "cus_a", SEVEN): 7, ("b", "cus_b", SEVEN): 1}
    with quick(world):
        yield world


def is_totals(world: World) -> bool:
    [meter] = world.stripe.meters.objects.values()
    return meter["event_time_window"] == "hour"


def settle(world: World, *hours: int) -> None:
    """The hourly job, so many hours after each other."""
    for each in hours or (1, 1, 1, 1):
        world.now += each * HOUR
        world.run()
        world.look(timedelta(minutes=20))
        world.now -= timedelta(minutes=20)


def back_up(world: QuickWorld) -> None:
    shutil.copytree(world.folder, world.folder.with_name(f"{world.folder.name}-backup"))


def restore(world: QuickWorld) -> None:
    world.close()
    for path in world.folder.glob("ledger.sqlite*"):
        path.unlink()
    for path in world.folder.with_name(f"{world.folder.name}-backup").glob("ledger.sqlite*"):
        shutil.copy(path, world.folder)


def test_usage_is_sent_once_and_corrected_when_it_changes(world: World) -> None:
    world.usage = {
        ("a1", "cus_a", SEVEN): 5,
        ("a2", "cus_a", SEVEN): 2,
        ("b", "cus_b", SEVEN): 1,
        ("c", None, SEVEN): 9,
    }
    outcome = world.run()
    assert outcome.sent and (outcome.sent.taken, outcome.planned.unbilled_units) == (2, 9)
    assert (world.totals("cus_a"), world.totals("cus_b")) == ({SEVEN: 7}, {SEVEN: 1})

    world.run()
    world.usage["a1", "cus_a", SEVEN] = 3
    world.run()
    world.run()

    assert world.totals("cus_a") == {SEVEN: 5}
    assert len(world.stripe.events) == 3
    result = world.look(after=HOUR)
    assert (result.confirmed, result.waiting, result.mismatched) == (2, 0, 0)
    assert world.problems() == {}
    assert {total["state"] for total in world.ledger.totals()} == {ReportState.CONFIRMED}


# Usage that comes late, goes, or moves


def test_late_usage_is_billed_in_grace_and_held_when_the_invoice_is_final(world: World) -> None:
    world.now = datetime(2026, 11, 30, 23, 5, tzinfo=UTC)
    last_hour = world.now.replace(minute=0)
    world.usage = {("a", "cus_a", last_hour - HOUR): 7}
    world.run()

    world.now = datetime(2026, 12, 1, 0, 30, tzinfo=UTC)  # of one hour's grace
    world.usage["a", "cus_a", last_hour] = 2
    world.run()
    assert world.totals("cus_a") == {last_hour - HOUR: 7, last_hour: 2}

    world.now = datetime(2026, 12, 1, 1, 30, tzinfo=UTC)
    world.usage["a", "cus_a", last_hour] = 5
    world.look()
    world.run()
    assert world.totals("cus_a")[last_hour] == 2
    assert world.problems() == {("cus_a", last_hour): "+3 units not billed: its invoice is final"}


def test_usage_that_stripe_takes_no_more_is_held(world: World) -> None:
    world.run()
    settle(world, 1)
    world.now += 34 * DAY + HOUR
    world.usage["b", "cus_b", SEVEN] = 4
    outcome = world.run()
    assert outcome.planned.change.held == 1
    assert world.totals("cus_b") == {SEVEN: 1}
    assert world.problems() == {("cus_b", SEVEN): "+3 units not billed: Stripe accepts no usage older than 34 days"}


def test_what_is_held_is_what_stripe_did_not_take(world: World) -> None:
    """It was in doubt when it became too late; that it was never taken shows only afterwards."""
    world.stripe.then(LOST_BEFORE)
    world.run()
    world.now += 36 * DAY
    world.usage["a", "cus_a", SEVEN] = 4
    settle(world, 1, 1, 1, 1, 24, 1, 24, 1)
    assert world.totals("cus_a") == {}
    assert world.problems()["cus_a", SEVEN] == "+4 units not billed: Stripe accepts no usage older than 34 days"


def test_usage_that_was_final_before_the_first_report_is_left_alone(world: World) -> None:
    world.usage["a", "cus_a", SEVEN - 31 * DAY] = 9
    world.run()
    assert world.totals("cus_a") == {SEVEN: 7}
    assert world.problems() == {}


@pytest.mark.parametrize("hours", [0, 1, 16, 17])
def test_hours_that_are_older_than_what_is_compared_are_no_problem(world: World, hours: int) -> None:
    """A day is compared as a whole, or not at all."""
    world.usage["a", "cus_a", SIX] = 3
    world.run()
    world.look(3 * HOUR)
    world.now = SEVEN + timedelta(days=92, hours=hours, minutes=5)
    world.run()
    assert world.problems() == {}


def test_usage_whose_calls_are_not_kept_any_more_is_not_corrected(world: World) -> None:
    """Also where that is still sent to Stripe, as with a clock that was set back."""
    world.run()
    world.look(3 * HOUR)
    billed = world.totals("cus_a")
    world.usage, world.kept_from = {("a", "cus_a", SEVEN + DAY): 2}, (SEVEN + DAY).date()
    world.now += DAY
    outcome = world.run()
    assert outcome.planned.change.corrected_units == 0
    assert world.totals("cus_a") == {**billed, SEVEN + DAY: 2}
    assert world.problems() == {}


def test_held_hour_is_no_problem_when_its_usage_is_again_as_billed(world: World) -> None:
    world.run()
    settle(world, 1)
    world.now += 34 * DAY + HOUR
    world.usage["b", "cus_b", SEVEN] = 4
    world.run()
    world.usage["b", "cus_b", SEVEN] = 1
    world.run()
    assert world.problems() == {}


def test_refused_report_is_no_problem_when_its_usage_is_gone(world: World) -> None:
    world.stripe.delete_customer("cus_b")
    world.run()
    world.now += HOUR
    reconcile.note_rejections(world.config, connect_meter, world.clock)
    assert list(world.problems()) == [("cus_b", SEVEN)]
    del world.usage["b", "cus_b", SEVEN]
    world.run()
    assert world.problems() == {}


def test_an_account_that_moved_is_billed_to_its_new_customer(world: World) -> None:
    world.run()
    world.usage = {("a", "cus_b", SEVEN): 7, ("b", "cus_b", SEVEN): 1}
    world.run()
    assert (world.totals("cus_a"), world.totals("cus_b")) == ({SEVEN: 0}, {SEVEN: 8})


def test_an_account_that_moved_leaves_a_final_invoice_as_it_is(world: World) -> None:
    """Its former customer has no account left whose period would say so."""
    world.run()
    settle(world, 1)
    world.now = datetime(2026, 12, 3, 8, 5, tzinfo=UTC)
    world.usage = {("a", "cus_b", SEVEN): 7, ("b", "cus_b", SEVEN): 1}
    world.run()
    assert (world.totals("cus_a"), world.totals("cus_b")) == ({SEVEN: 7}, {SEVEN: 1})
    assert world.problems() == {
        ("cus_a", SEVEN): "-7 units not billed: its invoice is final",
        ("cus_b", SEVEN): "+7 units not billed: its invoice is final",
    }


def test_a_rebuilt_warehouse_waits_for_approval_by_its_own_code(world: World) -> None:
    world.usage = {("a", "cus_a", SEVEN): 5_000, ("b", "cus_b", SEVEN): 5_000}
    world.run()
    world.usage["a", "cus_a", SEVEN] = 6_500

    first = world.run().planned.waiting
    assert "1,500 units of cus_a" in first.question and first.code in first.question
    assert world.run(approved="00000000").planned.waiting.code == first.code
    world.usage["b", "cus_b", SEVEN] = 6_501
    both = world.run(approved=first.code).planned.waiting
    assert both.code != first.code, "that was another plan"
    assert both.customers == {"cus_a", "cus_b"}
    assert len(world.stripe.events) == 2

    outcome = world.run(approved=both.code)
    assert outcome.sent and outcome.sent.taken == 2
    assert (world.totals("cus_a"), world.totals("cus_b")) == ({SEVEN: 6_500}, {SEVEN: 6_501})


def test_a_rebuilt_warehouse_that_is_repaired_changes_nothing(world: World) -> None:
    world.usage["a", "cus_a", SEVEN] = 5_000
    world.run()
    world.usage["a", "cus_a", SEVEN] = 0
    assert world.run().planned.waiting.code
    world.usage["a", "cus_a", SEVEN] = 5_000
    assert not world.run().planned.waiting.code
    assert world.problems() == {}
    assert world.totals("cus_a") == {SEVEN: 5_000}
    assert len(world.stripe.events) == 2


def test_a_correction_that_waits_keeps_no_other_usage_waiting(world: World) -> None:
    world.usage = {("a", "cus_a", SEVEN): 5_000, ("b", "cus_b", SEVEN): 5_000}
    world.run()
    world.usage["a", "cus_a", SEVEN] = 9_000
    world.now += HOUR
    world.usage |= {("a", "cus_a", SEVEN + HOUR): 2, ("b", "cus_b", SEVEN + HOUR): 3, ("b", "cus_b", SEVEN): 5_001}
    outcome = world.run()

    assert outcome.sent and outcome.sent.taken == 3
    assert world.totals("cus_a") == {SEVEN: 5_000, SEVEN + HOUR: 2}
    assert world.totals("cus_b") == {SEVEN: 5_001, SEVEN + HOUR: 3}
    assert world.problems() == {
        ("cus_a", SEVEN): "+4,000 units waiting for approval: corrections of more than 10 % of the 14,006 units that"
        " Stripe still accepts; `headroom stripe plan` shows the code"
    }
    [waiting] = world.ledger.problems()
    assert (waiting.state, waiting.created_at) == (ReportState.WAITING, world.now)
    world.now += HOUR
    [again] = [world.run().planned.waiting, *world.ledger.problems()][1:]
    assert again == waiting, "it is not recorded again, and says since when it waits"
    world.run(approved=outcome.planned.waiting.code)
    assert world.totals("cus_a") == {SEVEN: 9_000, SEVEN + HOUR: 2}
    assert world.problems() == {}


def test_a_correction_that_waits_too_long_says_what_missed_the_invoice(world: World) -> None:
    world.usage["a", "cus_a", SEVEN] = 5_000
    world.run()
    world.look(after=HOUR)
    world.usage["a", "cus_a", SEVEN] = 9_000
    assert not world.run().alarm
    world.now = datetime(2026, 12, 1, 0, 5, tzinfo=UTC)
    assert world.run().alarm == (
        "1 customer-hour of 1 customer in ended periods are not at Stripe. The first invoice is final at"
        " 2026-12-01 01:00 UTC. A schedule tries again within minutes, `headroom stripe apply` at once"
    )
    world.now += HOUR
    assert not world.run().planned.waiting.code
    assert world.problems() == {("cus_a", SEVEN): "+4,000 units not billed: its invoice is final"}


def test_first_report_of_a_huge_hour_waits_for_approval(world: World) -> None:
    world.run()
    world.now += HOUR
    world.usage |= {("a", "cus_a", SEVEN + HOUR): 10**9, ("b", "cus_b", SEVEN + HOUR): 4}
    asked = world.run().planned.waiting
    assert (asked.hours, asked.units) == ({("cus_a", SEVEN + HOUR)}, 10**9)
    assert (world.totals("cus_a"), world.totals("cus_b")) == ({SEVEN: 7}, {SEVEN: 1, SEVEN + HOUR: 4})
    world.run(approved=asked.code)
    assert world.totals("cus_a") == {SEVEN: 7, SEVEN + HOUR: 10**9}


def test_usage_that_lost_its_customer_waits_for_approval(world: World) -> None:
    """The accounts file lost a row: what it named is not taken from the customer without asking."""
    world.usage["a2", "cus_a", SEVEN] = 3
    world.usage["free", None, SEVEN] = 90
    world.run()
    del world.usage["a2", "cus_a", SEVEN]
    world.usage["a2", None, SEVEN] = 3
    asked = world.run().planned.waiting
    assert (asked.customers, asked.units) == ({"cus_a"}, 3)
    assert "its mapping disappeared" in asked.question
    assert world.totals("cus_a") == {SEVEN: 10}


def test_plan_in_money_is_complete_and_its_rows_add_up(world: World) -> None:
    """A customer that loses everything has no usage whose period would be asked for."""
    world.run()
    world.usage = {("a", "cus_b", SEVEN): 7, ("b", "cus_b", SEVEN): 2}
    world.publish()
    planned, changes = report.look_ahead(world.config, connect_meter)
    assert [(each.stripe_customer_id, each.units_before, each.units) for each in changes] == [
        ("cus_b", 1, 9),
        ("cus_a", 7, 0),
    ]
    assert sum(each.units - each.units_before for each in changes) == sum(planned.change.units.values()) == 1


def test_plan_without_a_key_is_that_of_the_first_run_with_one(world: World) -> None:
    world.settings["STRIPE_API_KEY"] = None
    world.run()
    without = report.look_ahead(world.config, connect_meter)
    del world.settings["STRIPE_API_KEY"]
    assert without[0].change.units == report.look_ahead(world.config, connect_meter)[0].change.units != {}
    assert [(each.units_before, each.units) for each in without[1]] == [(0, 7), (0, 1)]


def test_hours_that_were_held_are_sent_when_the_grace_is_corrected(world: World) -> None:
    world.run()
    last = datetime(2026, 11, 30, 23, tzinfo=UTC)
    world.now = last + 5 * HOUR
    world.usage["a", "cus_a", last] = 27
    world.run()
    assert world.problems() == {("cus_a", last): "+27 units not billed: its invoice is final"}
    world.settings["HEADROOM_STRIPE_GRACE_HOURS"] = 72
    world.run()
    assert world.totals("cus_a") == {SEVEN: 7, last: 27}
    assert world.problems() == {}


def test_a_503_at_the_months_end_costs_nobody_its_last_hour(world: World) -> None:
    """Five customers, a grace of an hour: one of them gets no answer at five past, the others are sent in that run."""
    last = datetime(2026, 11, 30, 23, tzinfo=UTC)
    for name in "abcde":
        world.stripe.add_customer(f"cus_{name}")
        world.usage[name, f"cus_{name}", last] = 3
    world.run()
    world.now = last + HOUR + timedelta(minutes=5)
    world.stripe.then(FAILED_BEFORE)
    first = world.run()
    assert first.sent and (first.sent.taken, first.sent.in_doubt) == (4, 1)
    assert "final at 2026-12-01 01:00 UTC" in first.alarm
    assert report.is_behind(world.config)
    world.now += timedelta(minutes=5)  # waiting_usage_schedule
    second = world.run()
    assert (second.alarm, report.is_behind(world.config)) == ("", False)
    assert [world.totals(f"cus_{name}")[last] for name in "abcde"] == [3] * 5


def test_sampled_calls_are_billed_by_their_units_where_asked(world: World) -> None:
    world.sampled["a", "cus_a", SEVEN] = 100
    world.run()
    assert world.totals("cus_a") == {SEVEN: 7}
    world.settings["HEADROOM_BILL_SAMPLED"] = True
    world.run()
    assert world.totals("cus_a") == {SEVEN: 7 + 5 * 100}


# Stripe fails


@pytest.mark.parametrize("fault", IN_DOUBT.values(), ids=IN_DOUBT)
def test_an_hour_is_billed_once_when_its_report_was_in_doubt(world: World, fault: Fault) -> None:
    world.stripe.then(fault)
    world.run()
    world.now += timedelta(minutes=1)
    world.run()
    assert (world.totals("cus_a"), world.totals("cus_b")) == ({SEVEN: 7}, {SEVEN: 1})
    assert len(world.stripe.events) == 2
    settle(world, 1)
    assert {total["state"] for total in world.ledger.totals()} == {ReportState.CONFIRMED}


def test_a_customer_whom_stripe_always_fails_for_keeps_no_other_waiting(world: World) -> None:
    answer = world.stripe.answer
    world.stripe.answer = lambda request: (  # type: ignore[method-assign]
        FAILED_BEFORE if "cus_a" in request.params.get("payload", {}).values() else answer(request)
    )
    for hour in range(4):
        world.now += HOUR
        world.usage |= {(each, f"cus_{each}", SEVEN + hour * HOUR): 1 for each in "ab"}
        world.run()
    assert sum(world.totals("cus_b").values()) >= 3
    assert world.totals("cus_a") == {}


def test_stripe_is_down_for_30_hours_with_nothing_in_doubt(world: World) -> None:
    world.run()
    world.stripe.is_down = True
    for _ in range(30):
        world.now += HOUR
        world.usage["a", "cus_a", world.now.replace(minute=0) - HOUR] = 2
        with pytest.raises(StoppedError, match="no usable answer"):
            world.run()
    world.stripe.is_down = False
    world.run()
    assert sum(world.totals("cus_a").values()) == 7 + 30 * 2
    assert len(world.stripe.events) == 2 + 30


@pytest.mark.parametrize("fault", [LOST_BEFORE, LOST_AFTER], ids=["never arrived", "arrived"])
def test_stripe_is_down_for_30_hours_with_a_report_in_doubt(world: World, fault: Fault) -> None:
    """A difference is sent again only when it was missing for another day."""
    world.stripe.then(*[fault] * 6)
    outcome = world.run()
    assert outcome.sent and "no usable answer" in outcome.sent.stopped
    world.stripe.calm()
    world.now += 30 * HOUR
    settle(world, 1)
    for doubtful in due.doubtful(world.ledger):
        assert (is_totals(world), fault) == (False, LOST_BEFORE)
        assert doubtful.error == "not found at Stripe; sent again if it is still missing tomorrow"
    settle(world, 1, 24, 1, 1)
    assert (world.totals("cus_a"), world.totals("cus_b")) == ({SEVEN: 7}, {SEVEN: 1})
    assert world.problems() == {}


def test_a_refused_report_counts_as_perhaps_taken_when_it_was_in_doubt(world: World) -> None:
    world.stripe.then(LOST_AFTER)
    world.run()
    world.stripe.then(*[REFUSED] * 2)
    world.now += timedelta(minutes=1)
    world.run()
    world.run(retry=True)
    settle(world)
    assert (world.totals("cus_a"), world.totals("cus_b")) == ({SEVEN: 7}, {SEVEN: 1})
    assert world.problems() == {}


def archive(world: World) -> None:
    for meter in world.stripe.meters.objects.values():
        meter["status"] = "inactive"


def reactivate(world: World) -> None:
    for meter in world.stripe.meters.objects.values():
        meter["status"] = "active"


def test_a_revoked_key_stops_the_run_and_leaves_its_reports_unchanged(world: World) -> None:
    def revoke(request: Any) -> None:
        if request.path == METER_EVENTS:
            world.stripe.keys.clear()

    world.stripe.after = revoke
    outcome = world.run()
    assert outcome.sent and "STRIPE_API_KEY is not valid" in outcome.sent.stopped
    [waiting] = due.prepared(world.ledger, 10)
    assert (waiting.state, waiting.attempts, waiting.attempted_at) == (ReportState.PREPARED, 0, None)

    world.stripe.after = lambda _: None
    world.stripe.keys[world.stripe.key] = None
    world.run()
    assert (world.totals("cus_a"), world.totals("cus_b")) == ({SEVEN: 7}, {SEVEN: 1})


def test_a_run_waits_and_then_stops_when_stripe_limits_every_request(
    world: World,
) -> None:
    world.stripe.then(*[RATE_LIMITED] * 1_000)
    outcome = world.run()
    assert outcome.sent and "HTTP 429" in outcome.sent.stopped
    assert len([seconds for seconds in world.slept if seconds > 6]) == stripe_channel.PATIENCE - 1
    assert world.stripe.counts()[f"POST {METER_EVENTS}"] == stripe_channel.PATIENCE

    world.stripe.calm()
    world.run()
    assert (world.totals("cus_a"), world.totals("cus_b")) == ({SEVEN: 7}, {SEVEN: 1})


def test_two_runs_at_once_send_each_hour_once(world: World) -> None:
    """The first is held in the middle of a request while the second begins."""
    arrived, goes_on = threading.Event(), threading.Event()

    def hold(request: Any) -> None:
        if request.path == METER_EVENTS:
            arrived.set()
            goes_on.wait(PATIENCE_SECONDS)

    world.publish()
    world.stripe.before = hold
    first = threading.Thread(target=report.report_usage, args=(world.config, connect_meter, world.clock))
    first.start()
    assert arrived.wait(PATIENCE_SECONDS)
    with pytest.raises(BusyError, match="another run is working on stripe"):
        report.report_usage(world.config, connect_meter, world.clock)
    goes_on.set()
    first.join()
    assert len(world.stripe.events) == 2
    assert world.stripe.largest_concurrency == 1


# What Stripe takes and does not bill


def test_a_deleted_customer_is_found_by_the_comparison_and_stops_no_other(world: World) -> None:
    world.stripe.delete_customer("cus_a")
    outcome = world.run()
    assert outcome.sent and outcome.sent.taken == 2
    for _ in range(4):
        world.look(after=HOUR)
    assert world.totals("cus_b") == {SEVEN: 1}
    assert world.problems() == {
        (
            "cus_a",
            SEVEN,
        ): "customer cus_a was deleted at Stripe: its usage is not billed; name the one that replaces it"
    }
    world.usage = {("a", "cus_b", SEVEN): 7, ("b", "cus_b", SEVEN): 1}
    settle(world)
    assert world.totals("cus_b") == {SEVEN: 8}
    assert world.problems() == {}


def test_a_deleted_customer_is_found_by_the_error_events(world: World) -> None:
    world.stripe.delete_customer("cus_a")
    world.run()
    world.now += timedelta(minutes=1)
    told = reconcile.note_rejections(world.config, connect_meter, world.clock)
    sentence = "Stripe knows no such customer: correct stripe_customer_id in the accounts file"
    assert told == [f"cus_a, 2026-11-20 07:00 UTC: {sentence}"]
    assert world.problems() == {("cus_a", SEVEN): sentence}
    assert reconcile.note_rejections(world.config, connect_meter, world.clock) == []


def test_rejections_that_stripe_does_not_name_are_noted_once(world: World) -> None:
    world.stripe.samples = 1
    world.stripe.delete_customer("cus_a")
    world.usage["a", "cus_a", SIX] = 7
    world.run()
    world.now += timedelta(minutes=1)
    told = reconcile.note_rejections(world.config, connect_meter, world.clock)
    assert [sentence for sentence in told if sentence.startswith("1 more reports: ")]
    assert reconcile.note_rejections(world.config, connect_meter, world.clock) == []


def test_a_meter_archived_after_it_took_usage_is_noted_and_made_good(world: World) -> None:
    world.stripe.lag = 60
    world.run()
    archive(world)
    world.now += HOUR
    told = noted(world)
    assert len(told) == 2 and all("the meter is archived: reactivate it" in sentence for sentence in told)
    assert len(world.problems()) == 2

    settle(world, 2)
    world.run(retry=True)
    world.now += HOUR
    world.look()
    assert (world.totals("cus_a"), world.totals("cus_b")) == ({SEVEN: 7}, {SEVEN: 1})
    assert world.problems() == {}


def noted(world: World) -> list[str]:
    """The sensor's look, which needs the meter."""
    with pytest.raises(StoppedError, match="no active meter"):
        reconcile.note_rejections(world.config, connect_meter, world.clock)
    reactivate(world)
    return reconcile.note_rejections(world.config, connect_meter, world.clock)


def test_a_total_that_never_appears_is_a_problem_or_sent_again(world: World) -> None:
    """Somebody cancelled it."""
    world.run()
    world.now += timedelta(minutes=1)
    world.stripe.totals("cus_a", "api-calls")
    [meter] = world.stripe.meters.objects
    world.stripe.metering._valid[meter, "cus_a"].clear()
    settle(world)
    if is_totals(world):
        assert world.totals("cus_a") == {SEVEN: 7}
        assert world.problems() == {}
        return
    settle(world, 24)
    assert world.problems()["cus_a", SEVEN].startswith("Stripe shows 0 units, but accepted 7: another program writes")
    reconcile.adopt(world.config, connect_meter, world.clock, "cus_a", SEVEN)
    settle(world)
    assert world.totals("cus_a") == {SEVEN: 7}
    assert world.problems() == {}


def test_a_total_is_sent_again_when_usage_returns_to_an_earlier_figure(world: World) -> None:
    """Stripe shows the second total late; by then it is the wrong one."""
    world.run()
    settle(world, 1)
    world.usage["a", "cus_a", SEVEN] = 9
    world.stripe.summary_lag = 20 * 3_600
    settle(world, 1, 1, 1, 1)
    world.usage["a", "cus_a", SEVEN] = 7
    settle(world, 1, 1, 1, 24, 1)
    assert world.totals("cus_a") == {SEVEN: 7}
    assert world.problems() == {}


def test_a_correction_is_sent_both_times_when_it_is_taken_back_unseen(world: World) -> None:
    """Of an hour so old that differences are looked up first."""
    world.run()
    settle(world, 1, 29)
    world.stripe.summary_lag = 2 * 3_600
    world.usage["a", "cus_a", SEVEN] = 9
    settle(world, 1)
    world.usage["a", "cus_a", SEVEN] = 7
    settle(world, 1, 1, 1, 1, 1, 1, 24)
    assert world.totals("cus_a") == {SEVEN: 7}
    assert world.problems() == {}


def test_totals_that_lag_are_no_alarm(world: World) -> None:
    world.stripe.lag, world.stripe.summary_lag = 120, 7_000
    world.run()
    for _ in range(3):
        world.look(after=timedelta(minutes=40))
        assert world.problems() == {}
    assert {total["state"] for total in world.ledger.totals()} == {ReportState.CONFIRMED}


# A ledger that is not what it was


def take_over(world: World) -> None:
    """The ledger knows less than Stripe: it finds out by itself, and people follow its advice."""
    before = len(world.stripe.events)
    with pytest.raises(StoppedError, match=r"this ledger never reported that hour.*Three hours after the last run"):
        world.run()
    world.now += 3 * HOUR
    with pytest.raises(StoppedError, match=r"the ledger is a copy of .* Nothing was sent"):
        world.run()
    assert len(world.stripe.events) == before
    reconcile.adopt_all(world.config, connect_meter, world.clock)


def test_a_ledger_older_than_stripe_finds_what_nothing_planned(world: World) -> None:
    """It was brought back by a disk's snapshot, and usage is again what it was then: 9 units too many at Stripe."""
    world.run()
    back_up(world)
    world.usage["a", "cus_a", SEVEN] = 16
    world.usage["a", "cus_a", SEVEN + HOUR] = 2
    world.now += HOUR
    world.run()
    restore(world)
    world.usage["a", "cus_a", SEVEN] = 7
    take_over(world)
    settle(world)
    assert world.totals("cus_a") == {SEVEN: 7, SEVEN + HOUR: 2}
    assert world.problems() == {}


def test_a_lost_ledger_reports_nothing_that_stripe_has_already(world: World) -> None:
    world.run()
    world.close()
    for path in world.folder.glob("ledger.sqlite*"):
        path.unlink()
    (world.folder / "ledger.sqlite").write_bytes(ledgers.empty())
    take_over(world)
    settle(world)
    assert (world.totals("cus_a"), world.totals("cus_b")) == ({SEVEN: 7}, {SEVEN: 1})


def test_a_ledger_that_was_restored_bills_nothing_twice(world: World) -> None:
    world.run()
    back_up(world)
    world.usage["a", "cus_a", SEVEN] = 9
    world.usage["b", "cus_b", SIX] = 4
    world.run()
    restore(world)
    take_over(world)
    settle(world)
    assert (world.totals("cus_a"), world.totals("cus_b")) == ({SEVEN: 9}, {SIX: 4, SEVEN: 1})
    assert world.problems() == {}


def test_a_ledger_that_was_restored_days_later_bills_nothing_twice(world: World) -> None:
    world.run()
    back_up(world)
    world.usage["a", "cus_a", SEVEN] = 9
    world.usage["b", "cus_b", SIX] = 4
    world.run()
    world.now += 3 * DAY
    restore(world)
    take_over(world)
    settle(world)
    assert (world.totals("cus_a"), world.totals("cus_b")) == ({SEVEN: 9}, {SIX: 4, SEVEN: 1})
    assert world.problems() == {}


def test_a_restored_ledger_bills_changed_usage_right_or_lists_a_problem(world: World) -> None:
    world.run()
    back_up(world)
    world.usage["a", "cus_a", SEVEN] = 9
    world.run()
    restore(world)
    world.usage["a", "cus_a", SEVEN] = 12
    settle(world, 1, 1, 1, 1, 1, 1)
    if is_totals(world):
        assert world.totals("cus_a") == {SEVEN: 12}
        return
    assert world.problems()["cus_a", SEVEN].startswith("Stripe shows 9 units, but accepted 12")
    reconcile.adopt(world.config, connect_meter, world.clock, "cus_a", SEVEN)
    settle(world)
    assert world.totals("cus_a") == {SEVEN: 12}
    assert world.problems() == {}


def test_a_ledger_that_was_restored_or_lost_takes_over_what_stripe_shows(world: World) -> None:
    """Nothing would be planned: the usage is what the backup says was billed, or is gone."""
    world.run()
    back_up(world)
    world.usage["a", "cus_a", SEVEN] = 9
    world.usage["b", "cus_b", SIX] = 4
    world.run()
    restore(world)
    world.usage["a", "cus_a", SEVEN] = 7
    del world.usage["b", "cus_b", SIX]
    world.now += 3 * HOUR
    world.publish()
    adopted = reconcile.adopt_all(world.config, connect_meter, world.clock)
    assert [(row.stripe_customer_id, row.hour_start, row.units) for row in adopted] == [
        ("cus_a", SEVEN, 9),
        ("cus_b", SIX, 4),
    ]
    settle(world)
    assert (world.totals("cus_a"), world.totals("cus_b")) == ({SEVEN: 7}, {SIX: 0, SEVEN: 1})
    assert reconcile.adopt_all(world.config, connect_meter, world.clock) == []


def test_a_ledger_takes_over_usage_of_a_day_that_has_none_any_more(world: QuickWorld) -> None:
    before = {("a", "cus_a", SEVEN - DAY): 1}
    world.usage = {**before}
    world.run()
    back_up(world)
    world.usage["a", "cus_a", SEVEN] = 7
    world.run()
    restore(world)
    world.usage = {**before}
    world.now += 3 * HOUR
    world.publish()
    reconcile.adopt_all(world.config, connect_meter, world.clock)
    settle(world)
    assert world.totals("cus_a") == {SEVEN - DAY: 1, SEVEN: 0}


def test_adopting_an_hour_drops_unsent_reports_and_keeps_those_in_doubt(world: World) -> None:
    world.run()
    world.usage["a", "cus_a", SEVEN] = 9
    world.stripe.then(LOST_BEFORE)
    world.run()
    with pytest.raises(LookupError, match="in doubt"):
        reconcile.adopt(world.config, connect_meter, world.clock, "cus_a", SEVEN)
    world.now += timedelta(minutes=1)
    world.run()
    world.usage["a", "cus_a", SEVEN] = 12
    world.stripe.then(*[RATE_LIMITED] * stripe_channel.PATIENCE)
    world.run()
    with pytest.raises(
        LookupError,
        match=r"may not have added up the last report yet.* after 2026-11-20 11:06 UTC",
    ):
        reconcile.adopt(world.config, connect_meter, world.clock, "cus_a", SEVEN)
    world.now += 3 * HOUR
    reconcile.adopt(world.config, connect_meter, world.clock, "cus_a", SEVEN)
    settle(world)
    assert world.totals("cus_a") == {SEVEN: 12}
    assert world.problems() == {}


def test_adopting_right_after_a_report_does_not_double_it(world: World) -> None:
    """Stripe adds up five hours late, and shows what it had before."""
    world.usage["a", "cus_a", SEVEN] = 128
    world.stripe.lag = world.stripe.summary_lag = 2.5 * 3_600
    world.run()
    for after in (1, 3):
        world.now += after * HOUR
        world.look()
        with pytest.raises(LookupError, match="may not have added up the last report yet"):
            reconcile.adopt(world.config, connect_meter, world.clock, "cus_a", SEVEN)
    assert reconcile.adopt_all(world.config, connect_meter, world.clock) == []
    settle(world, 1, 1, 1, 1, 6)
    assert world.totals("cus_a") == {SEVEN: 128}
    assert world.problems() == {}


# What is configured wrongly


def test_a_wrong_event_name_is_refused_before_anything_is_sent(world: World) -> None:
    world.settings["HEADROOM_STRIPE_METER"] = "api_calls"
    with pytest.raises(StoppedError, match="no active meter with the event name 'api_calls'"):
        world.run()
    archive(world)
    del world.settings["HEADROOM_STRIPE_METER"]
    with pytest.raises(StoppedError, match="no active meter with the event name 'api-calls'"):
        world.run()
    assert world.stripe.counts()[f"POST {METER_EVENTS}"] == 0


@pytest.mark.parametrize(
    ("meter", "why"),
    [
        ({"event_time_window": "day"}, "keeps one value of each day"),
        ({"default_aggregation": {"formula": "count"}}, "has the formula 'count'"),
    ],
    ids=["days", "counts"],
)
def test_a_meter_that_does_not_fit_is_refused(world: World, meter: dict[str, Any], why: str) -> None:
    for each in world.stripe.meters.objects.values():
        each |= meter
    with pytest.raises(StoppedError, match=why):
        world.run()
    assert world.stripe.counts()[f"POST {METER_EVENTS}"] == 0


def test_another_meter_of_the_same_name_is_refused(world: World) -> None:
    world.run()
    archive(world)
    world.stripe.add_meter("api-calls", "hour" if is_totals(world) else None)
    world.usage["a", "cus_a", SEVEN] = 9
    with pytest.raises(StoppedError, match="usage was reported to meter mtr_"):
        world.run()
    assert len(world.stripe.events) == 2


def test_a_live_key_is_refused_outside_production(world: World) -> None:
    world.settings["STRIPE_API_KEY"] = "sk_live_fake"
    with pytest.raises(ValueError, match="is a live key and HEADROOM_ENV is 'local'"):
        world.run()
    assert world.stripe.requests == []


def test_running_hour_is_reported_when_it_is_closed(world: World) -> None:
    """In a first plan, and in one of a day that has reports."""
    running, world.usage = world.now.replace(minute=0, second=0, microsecond=0), {}
    for hour, before in ((running, 0), (running + HOUR, 3)):
        world.usage |= {("a", "cus_a", hour - HOUR): 3, ("a", "cus_a", hour): 2}
        world.publish()
        _, [change] = report.look_ahead(world.config, connect_meter)
        assert (change.units_before, change.units) == (before, before + 3)
        world.run()
        assert hour not in world.totals("cus_a")
        world.now += HOUR


def test_a_machine_ten_minutes_off_reports_what_the_marts_closed(world: World) -> None:
    """Ahead of Stripe, it closes hours early; what still comes is a correction."""
    stripe_time = {"now": NOW}
    world.stripe.clock = lambda: stripe_time["now"].timestamp()
    for ahead in (timedelta(minutes=10), timedelta(minutes=-10)):
        stripe_time["now"] += timedelta(minutes=50)
        hour = stripe_time["now"].replace(minute=0)
        world.now = stripe_time["now"] + ahead
        world.usage["a", "cus_a", hour] = 3
        world.run()
        stripe_time["now"] += 3 * HOUR
        world.now += 3 * HOUR
        world.usage["a", "cus_a", hour] = 5
        world.run()
        assert world.totals("cus_a")[hour] == 5
    assert world.look(after=HOUR).confirmed
    assert world.problems() == {}


# What waits, moves or is adopted


def test_what_waited_until_its_invoice_was_final_is_held_and_not_sent(world: World) -> None:
    """Stripe is down for a day and a half, across the end of the month; its first report stays in doubt."""
    last = datetime(2026, 11, 30, 22, tzinfo=UTC)
    world.now = last + HOUR + timedelta(minutes=5)
    world.usage = {("a", "cus_a", last - 24 * HOUR): 5, ("b", "cus_b", last): 3}
    world.stripe.then(*[LOST_BEFORE] * 9)
    assert world.run().sent
    world.now = datetime(2026, 12, 2, 6, 5, tzinfo=UTC)
    world.stripe.calm()
    world.run()

    assert world.totals("cus_b") == {}
    [problem] = [each for each in world.ledger.problems() if each.stripe_customer_id == "cus_b"]
    assert (problem.state, problem.error) == (ReportState.HELD, "+3 units not billed: its invoice is final")


def test_same_refusal_of_every_report_stops_the_run(world: World) -> None:
    for number in range(60):
        world.stripe.add_customer(f"cus_{number}")
        world.usage[f"a{number}", f"cus_{number}", SEVEN] = 1
    body = '{"error": {"type": "invalid_request_error", "message": "Your account is closed."}}'
    world.stripe.then(*[Fault(status=400, body=body)] * 99)

    outcome = world.run()
    assert outcome.sent
    assert outcome.sent.stopped == "Stripe refuses every report: Stripe refused it: Your account is closed."
    assert world.stripe.events == []


def test_usage_that_moved_to_the_right_customer_is_no_problem_any_more(world: World) -> None:
    world.usage = {("a", "cus_a", SEVEN): 5}
    world.stripe.then(Fault(status=400, body='{"error": {"type": "invalid_request_error", "message": "No."}}'))
    world.run()
    assert len(world.ledger.problems()) == 1
    world.usage = {("a", "cus_b", SEVEN): 5}
    world.run()

    assert (world.totals("cus_a"), world.totals("cus_b")) == ({}, {SEVEN: 5})
    assert world.ledger.problems() == []
    assert world.ledger.open_days() == set()


def test_adopted_total_is_what_the_next_report_is_made_from(world: World) -> None:
    world.usage = {("a", "cus_a", SEVEN): 5}
    world.run()
    world.look(after=HOUR)
    world.usage = {("a", "cus_a", SEVEN): 9}
    hour = int(SEVEN.timestamp())
    post(world, "by-hand", "2", hour)
    shown = world.totals("cus_a")[SEVEN]
    adopted = reconcile.adopt(world.config, connect_meter, lambda: world.now, "cus_a", SEVEN)
    assert adopted.units == shown != 5
    world.run()
    world.run()

    assert world.totals("cus_a") == {SEVEN: 9}


def post(world: World, identifier: str, value: str, at: int) -> None:
    """Somebody else reports to the meter."""
    client = stripe_client.connect(world.config)
    assert client
    payload = {"stripe_customer_id": "cus_a", "value": value}
    client.v1.billing.meter_events.create(
        {"event_name": "api-calls", "identifier": identifier, "payload": payload, "timestamp": at}
    )
