"""What a plan makes of what should stand at Stripe and of what was recorded."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestration.billing.metering import (
    HORIZON,
    MAX_UNITS,
    CustomerHour,
    DayPlan,
    HourRecord,
    MeterReport,
    Mode,
    ReportState,
    Terms,
    plan,
    record,
)

NOW = datetime(2026, 11, 20, 8, 5, tzinfo=UTC)
HOUR = datetime(2026, 11, 20, 7, tzinfo=UTC)
BEFORE = HOUR - timedelta(hours=1)
KEY = ("cus_a", HOUR)
TOTAL, DELTA = Mode.TOTAL, Mode.DELTA


def terms(mode: Mode = TOTAL, **fields: Any) -> Terms:
    return Terms(**{"env": "local", "event_name": "api-calls", "mode": mode, "now": NOW, "live_since": HOUR, **fields})


def recorded(
    state: ReportState, units: int, stands: int | None, decided_at: datetime = NOW, mode: Mode = TOTAL
) -> HourRecord:
    value = units if mode is TOTAL else units - (stands or 0)
    return HourRecord(3, state, units, value, decided_at, stands)


def planned(units: int, before: HourRecord | None, of: Terms, hour: datetime = HOUR) -> DayPlan:
    key = ("cus_a", hour)
    return plan([(*key, units)], {key: before} if before else {}, of)


def only_report(made: DayPlan) -> MeterReport:
    [report] = made.reports
    return report


def test_hours_are_reported_in_order_and_accounts_of_a_customer_added_up() -> None:
    made = plan([("b", HOUR, 2), ("b", BEFORE, 1), ("a", HOUR, 3), ("a", HOUR, 4)], {}, terms())

    assert [(report.key, report.units) for report in made.reports] == [
        (("b", BEFORE), 1),
        (("a", HOUR), 7),
        (("b", HOUR), 2),
    ]
    assert {report.state for report in made.reports} == {ReportState.PREPARED}
    assert {report.revision for report in made.reports} == {1}


def test_nothing_is_reported_when_there_is_nothing_to_bill() -> None:
    assert plan([("a", HOUR, 0)], {}, terms()) == DayPlan()


@pytest.mark.parametrize(("mode", "value"), [(TOTAL, 9), (DELTA, 4)])
@pytest.mark.parametrize("state", [ReportState.SENT, ReportState.CONFIRMED, ReportState.MISMATCH])
def test_correction_is_a_new_revision_with_the_total_or_the_difference(
    state: ReportState, mode: Mode, value: int
) -> None:
    made = planned(9, recorded(state, 5, 5), terms(mode))

    report = only_report(made)
    assert (report.revision, report.units, report.value, report.state) == (4, 9, value, ReportState.PREPARED)
    assert made.corrected == {KEY: (5, 9)}
    assert planned(5, recorded(state, 5, 5), terms(mode)) == DayPlan()


@pytest.mark.parametrize(("mode", "value"), [(TOTAL, 0), (DELTA, -5)])
def test_hour_that_is_no_longer_desired_is_reported_with_nothing(mode: Mode, value: int) -> None:
    made = plan([], {KEY: recorded(ReportState.CONFIRMED, 5, 5)}, terms(mode))

    assert (only_report(made).units, only_report(made).value) == (0, value)
    assert plan([], {KEY: recorded(ReportState.CONFIRMED, 0, 0)}, terms(mode)) == DayPlan()


def test_hour_in_doubt_gets_no_revision_and_is_replanned_when_changed() -> None:
    before = recorded(ReportState.SENDING, 5, 5)

    assert planned(5, before, terms()) == DayPlan()
    assert planned(6, before, terms()) == DayPlan(is_settled=False)


def test_prepared_report_waits_and_gives_way_when_the_units_changed() -> None:
    before = recorded(ReportState.PREPARED, 5, 3)

    assert planned(5, before, terms()) == DayPlan()
    assert planned(3, before, terms()) == DayPlan(superseded=[KEY])
    made = planned(6, before, terms(DELTA))
    assert (made.superseded, only_report(made).value, made.corrected) == ([KEY], 3, {KEY: (3, 6)})


def test_prepared_difference_gives_way_when_its_base_changed() -> None:
    before = recorded(ReportState.PREPARED, 5, 3, mode=DELTA)

    assert planned(5, before, terms(DELTA)) == DayPlan()
    made = planned(5, replace(before, stands=None), terms(DELTA))
    assert (made.superseded, only_report(made).value) == ([KEY], 5)


def test_prepared_report_is_held_when_it_became_too_late() -> None:
    made = planned(5, recorded(ReportState.PREPARED, 5, None), terms(final_before={"cus_a": NOW}))

    assert made.superseded == [KEY]
    assert (only_report(made).state, only_report(made).revision) == (ReportState.HELD, 4)


@pytest.mark.parametrize("stands", [None, 2])
def test_refused_report_is_repeated_after_a_day_on_request_or_when_changed(stands: int | None) -> None:
    def refused(hours: float) -> HourRecord:
        return recorded(ReportState.REFUSED, 5, stands, NOW - timedelta(hours=hours))

    assert planned(5, refused(23.99), terms()) == DayPlan(is_settled=False)
    for made in (
        planned(5, refused(24), terms()),
        planned(5, refused(0), terms(retry=True)),
        planned(6, refused(0), terms()),
    ):
        assert only_report(made).state is ReportState.PREPARED
        assert (KEY in made.corrected) == (stands is not None)


@pytest.mark.parametrize("mode", Mode)
def test_lost_report_is_made_again_at_once(mode: Mode) -> None:
    assert only_report(planned(5, recorded(ReportState.LOST, 5, None), terms(mode))).value == 5


@pytest.mark.parametrize("state", [ReportState.REFUSED, ReportState.LOST, ReportState.HELD])
@pytest.mark.parametrize(("units", "stands"), [(0, None), (4, 4)])
def test_problem_is_over_when_stripe_has_the_desired_units(state: ReportState, units: int, stands: int | None) -> None:
    assert planned(units, recorded(state, 5, stands), terms()) == DayPlan(superseded=[KEY])


@pytest.mark.parametrize("state", [ReportState.HELD, ReportState.SETTLED])
def test_what_people_decide_is_planned_again_only_with_other_units(state: ReportState) -> None:
    late = terms(final_before={"cus_a": NOW})
    assert planned(5, recorded(state, 5, None), late) == DayPlan()
    for of in (terms(), late):
        assert only_report(planned(6, recorded(state, 5, None), of)).units == 6
    assert planned(5, recorded(ReportState.SETTLED, 5, None), terms()) == DayPlan()


def test_held_hour_is_reported_when_it_is_not_too_late_after_all() -> None:
    """A longer grace period was set."""
    report = only_report(planned(5, recorded(ReportState.HELD, 5, 2), terms()))
    assert (report.state, report.units, report.revision) == (ReportState.PREPARED, 5, 4)


def test_report_that_waits_gives_way_when_its_units_change_or_it_is_late() -> None:
    waiting = recorded(ReportState.WAITING, 9, 5)
    same = planned(9, waiting, terms())
    assert (same.reports, same.superseded, same.corrected) == ([], [], {KEY: (5, 9)})
    assert [(each.revision, each.state) for each in same.waiting] == [(3, ReportState.WAITING)]

    other = planned(8, waiting, terms())
    assert (other.superseded, only_report(other).units, other.waiting) == ([KEY], 8, [])
    assert planned(5, waiting, terms()) == DayPlan(superseded=[KEY])
    late = planned(9, waiting, terms(final_before={"cus_a": NOW}))
    assert (late.superseded, only_report(late).state) == ([KEY], ReportState.HELD)
    assert only_report(late).error == "+4 units not billed: its invoice is final"


def test_hours_are_held_when_their_invoice_is_final_or_they_are_too_old() -> None:
    oldest = NOW - HORIZON
    live = terms(live_since=oldest - timedelta(days=9))

    final = planned(7, recorded(ReportState.CONFIRMED, 5, 5), replace(live, final_before={"cus_a": NOW}))
    assert (only_report(final).state, only_report(final).error) == (
        ReportState.HELD,
        "+2 units not billed: its invoice is final",
    )
    assert final.corrected == {}
    old = only_report(planned(1_234, None, live, oldest - timedelta(seconds=1)))
    assert old.error == "+1,234 units not billed: Stripe accepts no usage older than 34 days"
    assert only_report(planned(5, None, live, oldest)).state is ReportState.PREPARED
    assert only_report(planned(5, None, replace(live, final_before={"cus_a": HOUR}))).state is ReportState.PREPARED


@pytest.mark.parametrize("since", [None, HOUR + timedelta(hours=1)])
def test_hour_is_no_problem_when_it_was_final_before_the_first_report(since: datetime | None) -> None:
    assert planned(5, None, terms(live_since=since, final_before={"cus_a": NOW})) == DayPlan()


@pytest.mark.parametrize("units", [-1, MAX_UNITS + 1])
def test_total_that_is_not_plausible_is_held_and_stops_no_other(units: int) -> None:
    made = plan([("cus_a", HOUR, units), ("cus_b", HOUR, MAX_UNITS)], {}, terms())

    assert [(report.state, report.units) for report in made.reports] == [
        (ReportState.HELD, units),
        (ReportState.PREPARED, MAX_UNITS),
    ]
    assert str(made.reports[0].error).endswith(" not billed: the total is not plausible")


def test_preview_records_each_report_once_and_none_that_is_too_late() -> None:
    of = terms(is_preview=True)

    assert only_report(planned(5, None, of)).state is ReportState.PREVIEWED
    assert planned(0, None, of) == planned(5, recorded(ReportState.PREVIEWED, 5, None), of) == DayPlan()
    assert only_report(planned(0, recorded(ReportState.PREVIEWED, 5, None), of)).units == 0
    assert planned(5, None, replace(of, final_before={"cus_a": NOW})) == DayPlan()
    assert (
        only_report(planned(5, recorded(ReportState.PREVIEWED, 5, None), terms())).value == 5
    )  # with a key, it is sent


@pytest.mark.parametrize("mode", Mode)
def test_identifier_names_environment_meter_customer_hour_and_revision(mode: Mode) -> None:
    def identifier(customer: str = "cus_a", hour: datetime = HOUR, before: HourRecord | None = None, **of: Any) -> str:
        key = (customer, hour)
        return only_report(plan([(*key, 5)], {key: before} if before else {}, terms(mode, **of))).identifier

    others = {
        identifier("cus_b"),
        identifier(hour=BEFORE),
        identifier(before=recorded(ReportState.LOST, 5, None)),
        identifier(env="production"),
        identifier(event_name="other"),
    }
    assert len(others | {identifier()}) == 6
    assert identifier() == identifier()
    assert len(identifier()) == 40


def test_identifier_names_a_total_and_no_difference() -> None:
    """A ledger of yesterday counts its revisions again: the same total may be sent twice, a difference may not."""
    assert only_report(planned(5, None, terms())).identifier != only_report(planned(6, None, terms())).identifier
    assert (
        only_report(planned(5, None, terms(DELTA))).identifier == only_report(planned(6, None, terms(DELTA))).identifier
    )


def test_record_keeps_the_newest_revision_and_the_units_at_stripe() -> None:
    by_mode = {TOTAL: (5, 9, 7), DELTA: (5, 4, -2)}

    def found(mode: Mode, *states: ReportState) -> HourRecord:
        values = by_mode[mode]
        return record(
            (
                (*KEY, number, units, value, state, NOW)
                for number, units, value, state in zip((1, 2, 3), (5, 9, 7), values, states, strict=True)
            ),
            mode,
        )[KEY]

    sent, refused = ReportState.SENT, ReportState.REFUSED
    for mode, values in by_mode.items():
        assert found(mode, sent, sent, sent) == HourRecord(3, sent, 7, values[-1], NOW, 7, is_awaited=True)
        assert found(mode, sent, sent, refused) == HourRecord(3, refused, 7, values[-1], NOW, 9, is_awaited=True)
        assert found(mode, refused, refused, refused) == HourRecord(3, refused, 7, values[-1], NOW, None)
    assert found(TOTAL, refused, sent, ReportState.PREPARED).stands == 9
    assert found(DELTA, refused, sent, ReportState.PREPARED).stands == 4  # it was refused after the next was taken
    assert found(DELTA, sent, refused, sent).stands == 3


# Whatever happens


class Stripe:
    """A ledger and what Stripe has, as the plan sees them."""

    def __init__(self, mode: Mode) -> None:
        self.mode = mode
        self.rows: dict[str, MeterReport] = {}

    def recorded(self) -> dict[CustomerHour, HourRecord]:
        rows = sorted(self.rows.values(), key=lambda row: row.revision)
        return record(
            ((*row.key, row.revision, row.units, row.value, row.state, NOW - timedelta(days=2)) for row in rows),
            self.mode,
        )

    def plan(self, desired: list[tuple[str, datetime, int]]) -> DayPlan:
        made = plan(desired, self.recorded(), terms(self.mode))
        for row in self.rows.values():
            if row.key in made.superseded and row.state is not ReportState.SENT:
                self.rows[row.identifier] = replace(row, state=ReportState.SUPERSEDED)
        for report in made.reports:
            assert report.identifier not in self.rows
            self.rows[report.identifier] = report
        return made

    def totals(self) -> dict[CustomerHour, int]:
        found: dict[CustomerHour, int] = {}
        for row in sorted(self.rows.values(), key=lambda row: row.revision):
            if row.state is ReportState.SENT:
                found[row.key] = row.value + (found.get(row.key, 0) if self.mode is DELTA else 0)
        return {key: units for key, units in found.items() if units}


TOTALS = st.dictionaries(st.tuples(st.sampled_from("ab"), st.sampled_from([BEFORE, HOUR])), st.integers(0, 3))
OUTCOMES = st.sampled_from([ReportState.SENT, ReportState.SENT, ReportState.REFUSED, ReportState.LOST, None])


@given(mode=st.sampled_from(Mode), days=st.lists(TOTALS, min_size=1, max_size=6), data=st.data())
@settings(deadline=None)
def test_totals_end_as_desired_whatever_became_of_the_reports(
    mode: Mode, days: list[dict[CustomerHour, int]], data: st.DataObject
) -> None:
    stripe = Stripe(mode)
    for desired in days:
        stripe.plan([(*key, units) for key, units in desired.items()])
        for row in list(stripe.rows.values()):
            if row.state is ReportState.PREPARED and (state := data.draw(OUTCOMES)):
                stripe.rows[row.identifier] = replace(row, state=state)
            elif row.state is ReportState.SENT and mode is DELTA and data.draw(st.booleans()):
                stripe.rows[row.identifier] = replace(row, state=ReportState.REFUSED)  # found out later
    stripe.plan([(*key, units) for key, units in days[-1].items()])
    for row in list(stripe.rows.values()):
        if row.state is ReportState.PREPARED:
            stripe.rows[row.identifier] = replace(row, state=ReportState.SENT)

    assert stripe.totals() == {key: units for key, units in days[-1].items() if units}
    assert stripe.plan([(*key, units) for key, units in days[-1].items()]) == DayPlan()
    for key in stripe.recorded():
        revisions = sorted(row.revision for row in stripe.rows.values() if row.key == key)
        assert revisions == list(range(1, len(revisions) + 1))


# The guard
