"""Which changes of a plan wait for people, and what a code approves."""

from datetime import UTC, datetime, timedelta

import pytest

from orchestration.billing.approval import LARGE_HOUR, SMALL_CHANGE, TIMES_LARGER, Change, Limits, Waiting
from orchestration.billing.metering import DayPlan, HourRecord, Mode, ReportState, Terms, plan

NOW = datetime(2026, 11, 20, 8, 5, tzinfo=UTC)
HOUR = datetime(2026, 11, 20, 7, tzinfo=UTC)
BEFORE = HOUR - timedelta(hours=1)


def made(*corrections: tuple[str, int, int], mode: Mode = Mode.TOTAL, state: str = "confirmed") -> DayPlan:
    """Customers, what stands of the hour, and what is to."""
    before = {
        (name, HOUR): HourRecord(1, ReportState.CONFIRMED, stands, stands, NOW, stands)
        for name, stands, _ in corrections
        if stands
    }
    if state == "waiting":
        before = {
            key: HourRecord(2, ReportState.WAITING, units, units, NOW, before[key].stands)
            for key, units in (((name, HOUR), units) for name, _, units in corrections)
        }
    terms = Terms("local", "api-calls", mode, NOW, live_since=HOUR)
    return plan([(name, HOUR, units) for name, _, units in corrections], before, terms)


def change(*plans: DayPlan, gone: bool = False, largest: int = 0) -> Change:
    found = Change()
    for each in plans:
        found.add(each, lambda *_: gone, lambda _: largest)
    return found


def waits(found: Change, desired: int = 10_000, customers: int = 2, approved: str = "") -> Waiting:
    return found.waits(desired, Limits(10, customers), {approved})


def test_change_adds_up_days_customers_and_corrections() -> None:
    terms = Terms("local", "api-calls", Mode.TOTAL, NOW, live_since=BEFORE)
    found = change(made(("a", 5, 3), ("b", 0, 7)), plan([("a", BEFORE, 4)], {}, terms), made(("a", 0, -1)))

    assert (found.reports, found.held, found.hours) == (3, 1, {"a": 2, "b": 1})
    assert found.units == {("a", HOUR.date()): 2, ("b", HOUR.date()): 7}
    assert (found.corrected_units, found.corrected_customers) == (2, {"a"})


@pytest.mark.parametrize(
    ("to", "desired", "is_asked"),
    [
        (2_000, 10_000, False),
        (2_001, 10_000, True),  # 1,001 of 10,000 units are more than 10 %
        (0, 10_000, False),
        (0, 9_999, True),
        (1_000 + SMALL_CHANGE - 1, 0, False),
        (1_000 + SMALL_CHANGE, 0, True),
    ],
)
def test_corrections_wait_when_they_are_too_large(to: int, desired: int, is_asked: bool) -> None:
    assert bool(waits(change(made(("a", 1_000, to))), desired).code) == is_asked


def test_only_the_largest_corrections_wait_until_the_others_are_small() -> None:
    found = waits(
        change(made(("a", 5_000, 9_000), ("b", 5_000, 5_400), ("c", 0, 9_999), ("d", 5_000, 5_500))), customers=5
    )
    assert (found.customers, found.hours, found.units) == (frozenset("a"), frozenset(), 4_000)
    assert "corrections of more than 10 % of the 10,000 units" in found.why


def test_corrections_of_too_many_customers_wait_but_not_new_hours() -> None:
    assert not waits(change(made(("a", 5, 6), ("b", 5, 6), ("c", 0, 9_999)))).code
    many = change(made(("a", 5, 6), ("b", 5, 6), ("c", 5, 6), ("d", 0, 9)))
    asked = waits(many)
    assert (asked.customers, asked.units) == (frozenset("abc"), 3)
    assert f"--approve {asked.code}`" in asked.question
    assert waits(many, approved=asked.code) == Waiting()
    assert waits(many, approved="another") == asked
    [report] = made(("d", 0, 9)).reports
    assert not asked.has(report, is_correction=False)


def test_usage_that_comes_to_no_other_customer_always_waits() -> None:
    lost = change(made(("a", 5, 4)), gone=True)
    assert waits(lost).customers == frozenset("a")
    assert waits(lost).why == "usage leaves a customer and moves to no other, so its mapping disappeared"
    assert not waits(change(made(("a", 5, 4)))).code, "a correction of an account that is still its own"
    assert not waits(change(made(("a", 5, 0), ("b", 0, 5)), gone=True)).code, "it moved"


def test_first_report_that_is_far_larger_than_any_before_waits() -> None:
    huge = made(("a", 0, LARGE_HOUR), ("b", 0, LARGE_HOUR - 1))
    assert waits(change(huge)).hours == {("a", HOUR)}
    assert not waits(change(huge, largest=LARGE_HOUR // TIMES_LARGER)).code
    asked = waits(change(huge))
    assert [asked.has(report, is_correction=False) for report in huge.reports] == [True, False]


def test_what_waited_goes_on_waiting_and_keeps_its_code() -> None:
    new = waits(change(made(("a", 5_000, 9_000))))
    waited = made(("a", 5_000, 9_000), state="waiting")
    assert (waited.reports, [each.revision for each in waited.waiting]) == ([], [2])
    assert waits(change(waited)).code == new.code
    both = [(("a", 5_000, 9_000), ("b", 50, 40)), (("b", 50, 40), ("a", 5_000, 9_000))]
    assert len({waits(change(made(*order)), customers=1).code for order in both}) == 1
    assert waits(change(waited), desired=10**9).customers == frozenset("a"), "though it is within the limit by now"


@pytest.mark.parametrize("mode", Mode)
def test_code_is_of_what_waits_and_nothing_else(mode: Mode) -> None:
    def code(units: int, new: int = 0) -> str:
        return waits(change(made(("a", 5_000, units), ("b", 0, new), mode=mode))).code

    assert code(9_000) == code(9_000) == code(9_000, new=1)
    assert code(9_000) != code(9_001)
