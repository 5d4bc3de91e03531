from collections import Counter
from collections.abc import Collection
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestration.messages.account_wording import hits_cap
from orchestration.messages.crossings import TABLE, CrossingKey, Outcome, Verdict, judge, table, withdrawn
from orchestration.messages.wording import withdrawal
from orchestration.usage.formatting import format_pct, sparkline
from tests.support.builders import NOVEMBER, make_crossing, meter_facts

Crossing = dict[str, Any]

BERLIN = ZoneInfo("Europe/Berlin")
OCTOBER = datetime(2026, 10, 1, tzinfo=UTC)
LIFETIME_END = datetime(9999, 12, 31, tzinfo=UTC)
FRIDAY = date(2026, 11, 20)
DUE = datetime(2026, 11, 20, 7, tzinfo=UTC)  # 8am in Berlin
THURSDAY = DUE - timedelta(days=1)


def verdicts(
    crossings: list[Crossing],
    previous_cutoff: datetime | None = THURSDAY,
    announced: Collection[CrossingKey] = frozenset(),
    on: date = FRIDAY,
) -> dict[tuple[str, str], Outcome]:
    """Account and threshold to outcome; what judge announces must be what it calls announced."""
    news, judged = judge(crossings, announced, on, BERLIN, previous_cutoff)
    told = [(row["account_id"], row["threshold"]) for row in news]
    found = {(verdict.key[0], verdict.key[4]): verdict.outcome for verdict in judged}
    assert sorted(told) == sorted(key for key, outcome in found.items() if outcome is Outcome.ANNOUNCED)
    return found


# What is news


def test_first_digest_announces_crossings_since_eight_of_the_day_before() -> None:
    crossings = [
        make_crossing("older", crossed_at=THURSDAY - timedelta(microseconds=1)),
        make_crossing("eight", crossed_at=THURSDAY),
        make_crossing("newer", crossed_at=DUE),
    ]

    assert verdicts(crossings, previous_cutoff=None) == {
        ("older", "80%"): Outcome.BACKFILL,
        ("eight", "80%"): Outcome.ANNOUNCED,
        ("newer", "80%"): Outcome.ANNOUNCED,
    }


def test_first_digest_announces_the_last_step_when_the_others_are_older() -> None:
    crossings = [make_crossing(threshold="80%", crossed_at=NOVEMBER), make_crossing(threshold="95%")]

    assert verdicts(crossings, None) == {("acme", "80%"): Outcome.BACKFILL, ("acme", "95%"): Outcome.ANNOUNCED}


def test_first_digest_looks_back_to_eight_when_the_day_before_had_25_hours() -> None:
    on, due = date(2026, 10, 26), datetime(2026, 10, 26, 7, tzinfo=UTC)
    crossings = [
        make_crossing("in", period_start=OCTOBER, crossed_at=due - timedelta(hours=24)),
        make_crossing("out", period_start=OCTOBER, crossed_at=due - timedelta(hours=24, seconds=1)),
    ]

    assert set(verdicts(crossings, None, on=on).values()) == {Outcome.ANNOUNCED, Outcome.BACKFILL}
    autumn = make_crossing(period_start=OCTOBER, crossed_at=due - timedelta(hours=48, minutes=30))
    assert verdicts([autumn], None, on=date(2026, 10, 25)) == {("acme", "80%"): Outcome.ANNOUNCED}


def test_verdict_carries_the_key_and_the_true_time_of_the_crossing() -> None:
    _, [verdict] = judge([make_crossing(quota=3)], set(), FRIDAY, BERLIN, THURSDAY)

    assert verdict.key == ("acme", "api-calls", NOVEMBER, 3, "80%")
    assert verdict.crossed_at == DUE - timedelta(hours=1)


def test_crossing_of_a_missed_weekend_is_announced_on_monday() -> None:
    saturday = make_crossing(crossed_at=DUE + timedelta(days=1, hours=2))

    assert verdicts([saturday], DUE, on=date(2026, 11, 23)) == {("acme", "80%"): Outcome.ANNOUNCED}


def test_crossing_is_announced_when_its_data_came_after_the_digest_before() -> None:
    late = make_crossing(crossed_at=NOVEMBER + timedelta(days=2))

    assert verdicts([late]) == {("acme", "80%"): Outcome.ANNOUNCED}


@pytest.mark.parametrize("crossed_at", [datetime(2026, 10, 31, 22, tzinfo=UTC), datetime(2026, 10, 30, 6, tzinfo=UTC)])
def test_crossing_at_the_end_of_a_month_is_announced_on_the_first(crossed_at: datetime) -> None:
    closed = make_crossing(period_start=OCTOBER, crossed_at=crossed_at, is_current_period=False)
    cutoff = datetime(2026, 10, 31, 7, tzinfo=UTC)

    assert verdicts([closed], cutoff, on=date(2026, 11, 1)) == {("acme", "80%"): Outcome.ANNOUNCED}


@pytest.mark.parametrize(
    ("cutoff", "outcome"),
    [
        (datetime(2026, 11, 1, 0, 0, 20, tzinfo=UTC), Outcome.ANNOUNCED),  # 8am of the 1st in Shanghai
        (datetime(2026, 11, 1, 23, 59, 59, tzinfo=UTC), Outcome.ANNOUNCED),
        (datetime(2026, 11, 2, tzinfo=UTC), Outcome.BACKFILL),
    ],
    ids=str,
)
def test_crossing_of_a_closed_period_is_news_until_a_digest_a_day_later(cutoff: datetime, outcome: Outcome) -> None:
    """The digest before it has seen the period closed for less than a day."""
    closed = make_crossing(period_start=OCTOBER, crossed_at=NOVEMBER - timedelta(minutes=2), is_current_period=False)

    assert verdicts([closed], cutoff, on=date(2026, 11, 3)) == {("acme", "80%"): outcome}


SLOW = {"pace_matters": True, "hits_cap_in_period": False}


def test_crossing_whose_pace_matters_is_news_when_the_pace_changes() -> None:
    """81 % that will not run out is listed, and gets no verdict that would silence it later."""
    slow = make_crossing(**SLOW, crossed_at=NOVEMBER)

    assert verdicts([slow]) == {}
    assert verdicts([slow], previous_cutoff=None) == {}
    assert verdicts([{**slow, "hits_cap_in_period": True}]) == {("acme", "80%"): Outcome.ANNOUNCED}
    assert verdicts([{**slow, "hits_cap_in_period": None}]) == {("acme", "80%"): Outcome.ANNOUNCED}


def test_higher_crossing_supersedes_the_one_whose_pace_did_not_matter() -> None:
    crossings = [make_crossing(**SLOW), make_crossing(threshold="95%", hits_cap_in_period=False)]
    before = {("acme", "api-calls", NOVEMBER, 1_000_000, "95%")}

    assert verdicts(crossings) == {("acme", "95%"): Outcome.ANNOUNCED, ("acme", "80%"): Outcome.SUPERSEDED}
    assert verdicts(crossings, announced=before) == {("acme", "80%"): Outcome.SUPERSEDED}


@pytest.mark.parametrize(("used", "is_news"), [(999_999, False), (1_000_000, True)])
def test_period_that_ended_within_its_quota_is_no_news_where_pace_matters(used: int, is_news: bool) -> None:
    crossing = make_crossing(
        **{**SLOW, "hits_cap_in_period": True},
        used=used,
        period_start=OCTOBER,
        crossed_at=NOVEMBER - timedelta(hours=1),
        is_current_period=False,
    )

    assert bool(verdicts([crossing], NOVEMBER - timedelta(hours=17), on=date(2026, 11, 1))) is is_news


def test_lower_thresholds_are_superseded_when_several_are_crossed_at_once() -> None:
    crossings = [make_crossing(threshold=threshold) for threshold in ("95%", "80%", "120%", "100%")]

    assert verdicts([*crossings, make_crossing("globex")]) == {
        ("acme", "80%"): Outcome.SUPERSEDED,
        ("acme", "95%"): Outcome.SUPERSEDED,
        ("acme", "100%"): Outcome.SUPERSEDED,
        ("acme", "120%"): Outcome.ANNOUNCED,
        ("globex", "80%"): Outcome.ANNOUNCED,
    }


def test_lower_threshold_is_superseded_when_a_higher_one_was_announced() -> None:
    # somebody adds 90 % to the thresholds; who is at 95 % already is no news
    crossings = [make_crossing(threshold="95%"), make_crossing(threshold="90%")]

    assert verdicts(crossings, announced={("acme", "api-calls", NOVEMBER, 1_000_000, "95%")}) == {
        ("acme", "90%"): Outcome.SUPERSEDED
    }


def test_higher_threshold_is_announced_when_a_lower_one_was_before() -> None:
    crossings = [make_crossing(threshold="80%"), make_crossing(threshold="95%")]

    assert verdicts(crossings, announced={("acme", "api-calls", NOVEMBER, 1_000_000, "80%")}) == {
        ("acme", "95%"): Outcome.ANNOUNCED
    }


def test_thresholds_of_another_meter_are_news_of_their_own() -> None:
    seats = make_crossing(meter="seats", unit="seats", used=48, quota=50, pct_of_cap=Decimal(96), threshold="95%")
    news, judged = judge([make_crossing(), seats], set(), FRIDAY, BERLIN, THURSDAY)

    assert {verdict.outcome for verdict in judged} == {Outcome.ANNOUNCED}
    assert {row["meter"] for row in news} == {"api-calls", "seats"}


def test_threshold_in_units_ranks_among_percentages_by_its_units() -> None:
    crossings = [make_crossing(threshold="950000"), make_crossing(threshold="95%"), make_crossing(threshold="900000")]

    assert verdicts(crossings, announced={("acme", "api-calls", NOVEMBER, 1_000_000, "95%")}) == {
        ("acme", "950000"): Outcome.ANNOUNCED,
        ("acme", "900000"): Outcome.SUPERSEDED,
    }


def test_threshold_is_announced_in_the_closing_and_in_the_new_period() -> None:
    closing = make_crossing(period_start=OCTOBER, threshold="95%", is_current_period=False)
    news, judged = judge([closing, make_crossing()], set(), date(2026, 11, 1), BERLIN, NOVEMBER - timedelta(hours=17))

    assert {verdict.outcome for verdict in judged} == {Outcome.ANNOUNCED}
    assert len(news) == 2


def test_threshold_is_armed_again_when_the_quota_changed() -> None:
    raised = make_crossing(quota=2_000_000)

    assert verdicts([raised], announced={("acme", "api-calls", NOVEMBER, 1_000_000, "100%")}) == {
        ("acme", "80%"): Outcome.ANNOUNCED
    }


def test_threshold_stays_silent_when_usage_dips_and_crosses_again() -> None:
    first = make_crossing()
    announced = {("acme", "api-calls", NOVEMBER, 1_000_000, "80%")}

    assert verdicts([first]) == {("acme", "80%"): Outcome.ANNOUNCED}
    assert verdicts([], announced=announced) == {}
    again = {**first, "crossed_at": first["crossed_at"] + timedelta(days=3)}
    assert verdicts([again], DUE, announced, date(2026, 11, 24)) == {}


# What was news and is not true any more

EIGHTY = ("acme", "api-calls", NOVEMBER, 1_000_000, "80%")


def make_standing(used: int, **fields: Any) -> Crossing:
    standing = {"account_id": "acme", "account_name": "Acme", **meter_facts(**fields), "period_start": NOVEMBER}
    return {**standing, "quota": 1_000_000, "used": used, "pct_of_cap": Decimal(used) / 10_000, **fields}


@pytest.mark.parametrize(
    ("standing", "is_withdrawn"),
    [
        (make_standing(799_999), True),
        (make_standing(800_000), False),  # not among the crossings for another reason: it is snoozed
        (make_standing(0, quota=2_000_000), False),
        (make_standing(0, quota=None), False),
        (make_standing(0, period_start=NOVEMBER.replace(month=12)), False),
        (make_standing(0, meter="seats"), False),
    ],
    ids=["corrected", "above", "quota raised", "now unlimited", "period over", "another meter"],
)
def test_crossing_is_withdrawn_when_the_usage_was_corrected(standing: Crossing, is_withdrawn: bool) -> None:
    assert withdrawn({EIGHTY}, [], [standing]) == [EIGHTY] * is_withdrawn


def test_crossing_is_not_withdrawn_while_the_marts_still_have_it() -> None:
    # a gauge has crossed with its first reading that shows so much, whatever it shows by now
    assert withdrawn({EIGHTY}, [make_crossing()], [make_standing(0)]) == []


STORAGE = {"meter": "storage", "unit": "0.001 GB"}
FORTY_GB = ("acme", "storage", NOVEMBER, 50_000, "40")


@pytest.mark.parametrize(("used", "is_withdrawn"), [(39_999, True), (40_000, False)])
def test_threshold_in_units_is_of_whole_ones_where_a_meter_counts_parts(used: int, is_withdrawn: bool) -> None:
    assert withdrawn({FORTY_GB}, [], [make_standing(used, quota=50_000, **STORAGE)]) == [FORTY_GB] * is_withdrawn
    # 40 of 50 GB is as much as 80 %, and less than 95 %
    crossings = [make_crossing(threshold=name, quota=50_000, used=48_000, **STORAGE) for name in ("40", "95%")]
    assert verdicts(crossings) == {("acme", "40"): Outcome.SUPERSEDED, ("acme", "95%"): Outcome.ANNOUNCED}
    crossings[1]["threshold"] = "50%"
    assert verdicts(crossings) == {("acme", "40"): Outcome.ANNOUNCED, ("acme", "50%"): Outcome.SUPERSEDED}


def test_withdrawal_is_one_line_that_names_each_account_once() -> None:
    accounts = [make_standing(621_999, account_id=f"a{n}", account_name=f"A{n}") for n in range(7)]
    keys = [(f"a{n}", *EIGHTY[1:4], threshold) for n in range(6) for threshold in ("80%", "95%")]

    line = "Usage was corrected, below what was announced: A0 (62 %), A1 (62 %), A2 (62 %), A3 (62 %), A4 (62 %)"
    assert withdrawal(keys, accounts) == f"{line} and 1 more"
    assert withdrawal(keys[:10], accounts) == line
    assert withdrawal([], accounts) == ""


HOURS = st.integers(0, 70 * 24)
STEPS = st.fixed_dictionaries(
    {
        "account": st.sampled_from(["acme", "globex"]),
        "threshold": st.sampled_from(["80%", "95%", "100%", "120%"]),
        "quota": st.sampled_from([1_000_000, 2_000_000]),
        "crossed": HOURS,
        "late": st.sampled_from([0, 0, 1, 30, 24 * 20]),
    }
)


@given(
    steps=st.lists(STEPS, max_size=25),
    missed=st.sets(st.integers(0, 70), max_size=40),
    dips=st.sets(st.integers(0, 24)),
)
@settings(deadline=None, max_examples=200)
def test_every_crossing_gets_one_verdict_ever_when_days_are_missed(
    steps: list[dict[str, Any]], missed: set[int], dips: set[int]
) -> None:
    first = date(2026, 10, 5)
    crossings = {}
    for step in steps:
        at = datetime(2026, 10, 5, tzinfo=UTC) + timedelta(hours=step["crossed"])
        row = make_crossing(
            step["account"],
            step["threshold"],
            quota=step["quota"],
            crossed_at=at,
            period_start=at.replace(day=1, hour=0),
        )
        crossings.setdefault(
            (row["account_id"], row["meter"], row["period_start"], row["quota"], row["threshold"]), row
        )
        row["known_at"] = at + timedelta(hours=step["late"])
    announced: set[CrossingKey] = set()
    told: list[CrossingKey] = []
    cutoff: datetime | None = None
    for day in sorted(set(range(80)) - missed):
        on = first + timedelta(days=day)
        now = datetime(on.year, on.month, on.day, 8, tzinfo=BERLIN).astimezone(UTC)
        known = {key: row for key, row in crossings.items() if row["known_at"] <= now}
        if day in dips:
            known = {key: row for key, row in known.items() if key not in announced}
        news, judged = judge(list(known.values()), announced, on, BERLIN, cutoff)

        assert Counter(verdict.key for verdict in judged) == Counter(known.keys() - announced)
        fresh = [(row["account_id"], row["meter"], row["period_start"], row["quota"], row["threshold"]) for row in news]
        assert len({key[:3] for key in fresh}) == len(fresh)
        for key in fresh:
            assert all(_percent(key) >= _percent(other.key) for other in judged if _competes(other, key))
            assert all(_percent(key) > _percent(other) for other in told if other[:4] == key[:4])
        if cutoff is not None:
            # a higher step than ever before, in a period that was open when the digest before looked: always told
            for key in known.keys() - announced:
                is_open = (key[2].year, key[2].month) >= (cutoff.year, cutoff.month)
                is_higher = all(_percent(key) > _percent(other) for other in announced if other[:4] == key[:4])
                assert not (is_open and is_higher) or key[:3] in {told_now[:3] for told_now in fresh}
        told += fresh
        announced |= {verdict.key for verdict in judged}
        cutoff = now
    assert len(told) == len(set(told))


def _percent(key: CrossingKey) -> int:
    return int(key[4].removesuffix("%"))


def _competes(verdict: Verdict, key: CrossingKey) -> bool:
    return verdict.outcome is not Outcome.BACKFILL and verdict.key[:4] == key[:4]


# Order


def test_news_is_ordered_by_cap_date_limit_kind_revenue_fill_and_account() -> None:
    soon, later = date(2026, 11, 21), date(2026, 11, 22)
    fuller, emptier = Decimal("90.000001"), Decimal("90.000000")
    expected = [
        make_crossing("z", hits_cap_on=soon, pct_of_cap=Decimal(80)),
        make_crossing("y", hits_cap_on=later, pct_of_cap=emptier, limit_kind="hard"),
        make_crossing("x", hits_cap_on=later, pct_of_cap=emptier, mrr=Decimal("10.01"), limit_kind="soft"),
        make_crossing("u", hits_cap_on=later, pct_of_cap=fuller, mrr=Decimal("10.00")),
        make_crossing("v", hits_cap_on=later, pct_of_cap=emptier, mrr=Decimal("10.00")),
        make_crossing("w", hits_cap_on=later, pct_of_cap=emptier, mrr=Decimal("10.00")),
        make_crossing("a", hits_cap_on=later, pct_of_cap=Decimal(99)),
        make_crossing("b", hits_cap_on=None, pct_of_cap=Decimal(99)),
        make_crossing("c", hits_cap_on=soon, hits_cap_in_period=False, pct_of_cap=Decimal(98)),
    ]

    for shuffled in (expected[::-1], expected[3:] + expected[:3]):
        news, _ = judge(shuffled, set(), FRIDAY, BERLIN, THURSDAY)
        assert [row["account_id"] for row in news] == [row["account_id"] for row in expected]


def test_news_of_the_ended_period_is_last_whatever_the_running_forecast() -> None:
    closed = make_crossing("a", period_start=OCTOBER, is_current_period=False, hits_cap_on=date(2026, 11, 2))
    news, _ = judge([closed, make_crossing("b")], set(), date(2026, 11, 1), BERLIN, NOVEMBER - timedelta(hours=17))

    assert [row["account_id"] for row in news] == ["b", "a"]


# Words


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"used": 1_000_001, "hits_cap_on": None}, "over quota"),
        ({"used": 1_000_000, "hits_cap_on": None}, "quota used up"),
        ({"used": 999_999, "hits_cap_on": FRIDAY}, "today"),
        ({"hits_cap_on": date(2026, 11, 21)}, "Sat 21 Nov"),
        ({"hits_cap_on": date(2026, 12, 1), "hits_cap_in_period": False}, "not this period"),
        ({"hits_cap_on": FRIDAY, "hits_cap_in_period": False}, "not this period"),
        ({"hits_cap_on": None, "hits_cap_in_period": False}, "not this period"),
        ({"hits_cap_on": None, "hits_cap_in_period": None}, "no forecast"),
        ({"hits_cap_on": None, "hits_cap_in_period": False, "period_end": LIFETIME_END}, "not at this rate"),
        ({"used": 1_000_000, "is_current_period": False}, "period ended"),
    ],
)
def test_hits_cap_says_when_the_quota_is_used_up(fields: Crossing, words: str) -> None:
    assert hits_cap(make_crossing(**fields), FRIDAY) == words


def test_hits_cap_takes_a_row_of_the_running_period_that_does_not_say_so() -> None:
    row = make_crossing()
    del row["is_current_period"]

    assert hits_cap(row, FRIDAY) == "Fri 27 Nov"


@pytest.mark.parametrize(
    ("pct", "shown"),
    [
        (Decimal("79.960000"), "79.9 %"),
        (Decimal("79.999999"), "79.9 %"),
        (Decimal(80), "80.0 %"),
        (Decimal("0.000000"), "0.0 %"),
        (Decimal("123456.789"), "123,456.7 %"),
        (None, "–"),
    ],
)
def test_percentage_is_cut_off_after_one_decimal(pct: Decimal | None, shown: str) -> None:
    assert format_pct(pct) == shown


def test_percentage_is_cut_off_after_two_decimals_where_asked() -> None:
    assert format_pct(Decimal("99.989999"), decimals=2) == "99.98 %"


@pytest.mark.parametrize(
    ("calls", "bars"),
    [([], ""), ([0, 0], "▁▁"), ([7], "█"), (list(range(8)), "▁▂▃▄▅▆▇█"), ([1, 10**12], "▁█"), ([99, 100], "▇█")],
)
def test_sparkline_is_full_height_only_at_the_largest_day(calls: list[int], bars: str) -> None:
    assert sparkline(calls) == bars


def test_table_lists_every_account_at_a_threshold_but_our_own() -> None:
    rows = [
        {**dict.fromkeys(TABLE), "account_id": account, "severity": severity, "is_internal": False, "is_test": False}
        for account, severity in (("a", "critical"), ("b", "watch"), ("e", "warm"))
    ]
    ours = [{**rows[0], "is_internal": True}, {**rows[0], "is_test": True}]

    listed = table([*ours, *rows])

    assert [row["account_id"] for row in listed] == ["a", "b", "e"]
    assert [list(row) for row in listed] == [TABLE] * 3
