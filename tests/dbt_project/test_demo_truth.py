"""The demo's known answers against the marts, row by row."""

from collections import Counter
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from orchestration import demo
from orchestration.messages import weekly, wording
from orchestration.warehouse import published_copy, queries
from tests.support.pipeline import build_marts

NOW = datetime(2026, 11, 20, 8, 17, 5, tzinfo=UTC)
CALLS_USED = "select * from utilization_mtd where meter = 'api-calls'"


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> tuple[demo.Truth, Path]:
    folder = tmp_path_factory.mktemp("demo") / "data"
    truth = demo.generate(folder / "landing", folder / "accounts.csv", now=NOW, accounts=120, days=60, events=40_000)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HEADROOM_DATA", str(folder))
        return truth, build_marts(folder, folder / "landing", NOW)


def test_daily_usage_is_the_truth(built: tuple[demo.Truth, Path]) -> None:
    truth, published = built
    rows = published_copy.query(published, "select * from daily_usage where units > 0")
    counted = {(row["account_id"], row["meter"], row["usage_date"]): row["units"] for row in rows}
    assert all(row["calls"] == (row["units"] if row["meter"] == "api-calls" else None) for row in rows)
    by_meter = [(account, "api-calls", account.calls_by_date) for account in truth.accounts]
    by_meter += [(account, "tokens", account.tokens_by_date) for account in truth.accounts]
    assert counted == {
        (account.account_id, meter, day): used for account, meter, days in by_meter for day, used in days.items()
    }


def test_daily_usage_has_no_holes(built: tuple[demo.Truth, Path]) -> None:
    truth, published = built
    rows = published_copy.query(
        published,
        """select account_id, meter, min(usage_date) as first, max(usage_date) as last, count(*) as days
           from daily_usage group by account_id, meter""",
    )
    assert {(row["account_id"], row["meter"]) for row in rows} == {
        (account.account_id, meter)
        for account in truth.accounts
        for meter, days in (("api-calls", account.calls_by_date), ("tokens", account.tokens_by_date))
        if days
    }
    for row in rows:
        assert row["last"] == NOW.date()
        assert row["days"] == (row["last"] - row["first"]).days + 1


def test_utilization_is_the_truth(built: tuple[demo.Truth, Path]) -> None:
    truth, published = built
    rows = {row["account_id"]: row for row in published_copy.query(published, CALLS_USED)}
    assert set(rows) == {account.account_id for account in truth.accounts}
    for account in truth.accounts:
        row = rows[account.account_id]
        assert row["used_mtd"] == account.used_mtd
        assert row["quota_state"] == account.quota_state
        assert row["quota"] == (0 if account.quota_state == "blocked" else account.quota)
        assert row["stripe_customer_id"] == account.stripe_customer_id
        assert row["highest_threshold"] == max(
            (f"{pct}%" for pct in account.crossed), key=lambda name: int(name[:-1]), default=None
        ), account.story


def test_crossings_are_the_truth(built: tuple[demo.Truth, Path]) -> None:
    truth, published = built
    rows = published_copy.query(
        published,
        """select account_id, threshold_pct from threshold_crossings
           where meter = 'api-calls' and period_start = (select max(period_start) from utilization_mtd)""",
    )
    assert {(row["account_id"], row["threshold_pct"]) for row in rows} == {
        (account.account_id, threshold) for account in truth.accounts for threshold in account.crossed
    }


def test_seats_are_the_truth(built: tuple[demo.Truth, Path]) -> None:
    truth, published = built
    rows = published_copy.query(published, "select * from utilization_mtd where meter = 'seats'")
    assert {row["account_id"]: (row["used_mtd"], row["quota"]) for row in rows} == {
        account.account_id: account.seats for account in truth.accounts if account.seats
    }
    assert {(row["meter"], row["severity"], row["highest_threshold"]) for row in rows} == {
        ("seats", "critical", "100%")
    }


def test_tokens_are_the_truth(built: tuple[demo.Truth, Path]) -> None:
    truth, published = built
    rows = published_copy.query(published, "select * from utilization_mtd where meter = 'tokens'")
    used = {account.account_id: account.tokens for account in truth.accounts if account.tokens}
    assert {row["account_id"]: (row["used_mtd"], row["quota"]) for row in rows} == used
    assert len(used) == 4
    crossed = published_copy.query(
        published,
        """select account_id, threshold, crossed_at, used from threshold_crossings
           where meter = 'tokens' and period_start = (select max(period_start) from utilization_mtd)""",
    )
    assert {(row["account_id"], row["threshold"]) for row in crossed} == {
        (account, f"{pct}%")
        for account, (tokens, quota) in used.items()
        for pct in (50, 80)
        if tokens * 100 >= quota * pct
    }
    [latest] = [row for row in crossed if row["threshold"] == "80%"]
    assert latest["used"] == used[latest["account_id"]][0]
    assert latest["crossed_at"].date() == NOW.date()
    [standing] = [row for row in rows if row["highest_threshold"] == "80%"]
    assert (standing["severity"], standing["limit_kind"], standing["unit"]) == ("warm", "soft", "tokens")


def test_tokens_by_model_add_up_to_their_days(built: tuple[demo.Truth, Path]) -> None:
    truth, published = built
    rows = published_copy.query(
        published,
        """select account_id, usage_date, sum(units)::bigint as units, list(distinct property) as properties
           from daily_usage_by_property where meter = 'tokens' group by account_id, usage_date""",
    )
    assert {(row["account_id"], row["usage_date"]): row["units"] for row in rows} == {
        (account.account_id, day): tokens
        for account in truth.accounts
        for day, tokens in account.tokens_by_date.items()
    }
    assert all(row["properties"] == ["model"] for row in rows)


def test_digest_of_tokens_has_what_came_since_their_days_and_their_models(built: tuple[demo.Truth, Path]) -> None:
    truth, published = built
    [account] = [each for each in truth.accounts if each.tokens and each.tokens[0] > 1_500_000]
    since = NOW - timedelta(days=1)
    rows = [row for row in queries.digest_accounts(published, since) if row["account_id"] == account.account_id]
    [row] = [row for row in rows if row["meter"] == "tokens"]
    assert (row["is_calls"], row["is_main"], row["momentum_word"]) == (False, False, None)
    yesterday, today = (account.tokens_by_date[NOW.date() - timedelta(days=ago)] for ago in (1, 0))
    assert today < row["used_since"] < today + yesterday, "since 8:00 of yesterday"
    sparks = queries.daily_usage(published, [account.account_id])
    complete = [NOW.date() - timedelta(days=ago) for ago in range(14, 0, -1)]
    assert sparks[account.account_id, "tokens"] == [account.tokens_by_date[day] for day in complete]
    assert sparks[account.account_id, "api-calls"] == [account.calls_by_date.get(day, 0) for day in complete]
    period = published_copy.query(published, queries.PERIOD_DAYS, {"accounts": [account.account_id]})
    assert {each["meter"]: sum(each["units"]) for each in period}["tokens"] == row["used_mtd"] - today
    top = [
        each for each in published_copy.query(published, queries.TOP_VALUES) if each["account_id"] == row["account_id"]
    ]
    assert {(each["meter"], each["property"], each["value"]) for each in top} >= {
        ("tokens", "model", "large"),
        ("tokens", "model", "small"),
    }
    last_week = sum(account.tokens_by_date[NOW.date() - timedelta(days=ago)] for ago in range(7))
    assert {each["all_used"] for each in top if each["meter"] == "tokens"} == {last_week}


def test_weekly_and_monthly_message_name_an_account_once(built: tuple[demo.Truth, Path]) -> None:
    _, published = built
    changes = published_copy.query(published, queries.WEEKLY_CHANGES)
    assert {(row["meter"], row["unit"], row["is_main"]) for row in changes} == {
        ("api-calls", "calls", True),
        ("tokens", "tokens", False),
    }
    for row in changes:
        row["change_word"] = row["change_word"] or "growing"  # as if everything had changed
    message = weekly.weekly_message(changes, NOW, NOW, ZoneInfo("UTC"))
    assert not isinstance(message, str)
    names = [line.name for section in message.sections for line in section.lines]
    assert len(names) == len(set(names)) == len({row["account_id"] for row in changes}) < len(changes)
    hits = published_copy.query(published, queries.CAP_HITS)
    assert {(row["meter"], row["unit"]) for row in hits} == {("api-calls", "calls")}


def test_momentum_is_the_truth(built: tuple[demo.Truth, Path]) -> None:
    truth, published = built
    asked = "select * from momentum where meter = 'api-calls'"
    rows = {row["account_id"]: row for row in published_copy.query(published, asked)}
    callers = [account for account in truth.accounts if account.calls_by_date]
    assert set(rows) == {account.account_id for account in callers}
    words = Counter[tuple[str, str]]()
    for account in callers:
        row, calls = rows[account.account_id], partial(calls_between, account)
        week, week_before, weeks, weeks_before = calls(7, 0), calls(14, 7), calls(28, 0), calls(56, 28)
        assert [row["used_7d"], row["used_previous_7d"]] == [week, week_before]
        assert [row["used_28d"], row["used_previous_28d"]] == [weeks, weeks_before]
        history = (NOW.date() - min(account.calls_by_date)).days
        assert row["momentum_7d"] == (change(week, week_before) if history >= 14 else None)
        assert row["momentum_30d"] == (change(weeks, weeks_before) if history >= 56 else None)
        words[account.story, row["momentum_word"]] += 1
    assert words["growing", "growing"] > 1
    assert not any(words[story, "growing"] for story in ("flat", "dormant"))


def calls_between(account: demo.AccountTruth, first: int, last: int) -> int:
    """Calls on the days that are `first` to more than `last` days ago."""
    days = (NOW.date() - timedelta(days=ago) for ago in range(last + 1, first + 1))
    return sum(account.calls_by_date.get(day, 0) for day in days)


def change(now: int, before: int) -> Decimal | None:
    return Decimal(now * 10**8 // before - 10**8).scaleb(-6) if before else None


def test_top_accounts_are_the_truth(built: tuple[demo.Truth, Path]) -> None:
    truth, published = built
    rows = published_copy.query(
        published, "select * from top_accounts_30d where meter = 'api-calls' order by volume_rank"
    )
    callers = [account for account in truth.accounts if account.calls_by_date]
    ranked = sorted(callers, key=lambda account: (-calls_between(account, 30, 0), account.account_id))
    assert [row["account_id"] for row in rows] == [account.account_id for account in ranked]
    for row, account in zip(rows, ranked, strict=True):
        days = [calls_between(account, ago, ago - 1) for ago in range(30, 0, -1)]
        assert row["used_by_day"] == ",".join(map(str, days))
        assert (row["calls"], row["active_days"]) == (sum(days), sum(day > 0 for day in days))
        assert (row["trend"] == "dormant") == (row["last_call_age_hours"] >= 14 * 24), account.story
        assert row["trend"] == "dormant" or account.story != "dormant"
    assert sum(row["share_pct"] for row in rows) == pytest.approx(Decimal(100), abs=Decimal("0.001"))


@pytest.mark.parametrize("on", ["2026-11-01", "2026-11-29", "2027-03-05"])
def test_stories_have_their_advice_on_any_day_of_a_month(data: Path, on: str) -> None:
    now = datetime.fromisoformat(f"{on}T09:00:00+00:00")
    truth = demo.generate(data / "landing", data / "accounts.csv", now=now, accounts=20, events=9_000)
    published = build_marts(data, data / "landing", now, "+account_advice")
    rows = published_copy.query(published, "select * from account_advice")
    advised = {(row["account_id"], row["meter"]): (row["situation"], row["advice"]) for row in rows}
    found = {account.story: advised.get((account.account_id, "api-calls")) for account in truth.accounts}
    [tokens] = [account for account in truth.accounts if account.tokens]
    assert advised[tokens.account_id, "tokens"] == ("staying_cheaper", "tell_overage")
    wanted = {
        "crossing_100": ("refused_now", "call_upgrade"),
        "crossing_95": ("staying_cheaper", "tell_overage"),
        "trial": ("trial", "call_help"),
        "retry_storm": ("help_needed", "help_first"),
        "over_120": ("staying_cheaper", "do_not_pitch"),
        "crossing_80": ("will_not_run_out", "watch"),
        "upgraded": ("resolved", "none"),
        "dropping": ("dropping", "csm_check_in"),
        "dormant": ("dormant", "csm_check_in"),
    }
    assert {story: found[story] for story in wanted} == wanted


def test_digest_names_a_dormant_account_once_and_the_first_digest_all(built: tuple[demo.Truth, Path]) -> None:
    _, published = built
    rows = published_copy.query(
        published,
        """select account_id, dormant_at from top_accounts_30d
           join account_advice using (account_id, meter) where situation = 'dormant' order by dormant_at""",
    )
    assert rows
    assert all(row["dormant_at"].tzinfo == UTC for row in rows)

    def named(dormant_since: datetime | None) -> set[str]:
        found = queries.digest_accounts(published, NOW - timedelta(days=1), dormant_since)
        return {row["account_id"] for row in found if row["situation"] == "dormant"}

    assert named(None) == {row["account_id"] for row in rows}
    newest = rows[-1]
    assert named(newest["dormant_at"]) == {newest["account_id"]}
    assert named(newest["dormant_at"] + timedelta(seconds=1)) == set()


def test_digest_is_the_same_when_only_the_first_decliners_are_read(
    built: tuple[demo.Truth, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    _, published = built
    monkeypatch.setattr(wording, "LISTED", 1)
    since = NOW - timedelta(days=30)
    whole, few = (queries.digest_accounts(published, since, named=named) for named in (None, 1))
    quality = queries.data_quality(published)

    def content(accounts: list[dict[str, Any]]) -> dict[str, Any]:
        zone = ZoneInfo("UTC")
        return wording.digest_content([], accounts, {}, quality, NOW.date(), NOW, zone, since, {})

    assert content(few) == content(whole)
    assert [group["key"] for group in content(few)["groups"] if group["more"]] == ["csm_check_in"]
    left_out = len(whole) - len(few)
    assert left_out
    assert {row["left_out"] for row in few} == {left_out}


def test_every_refused_line_is_in_quarantine_with_its_reason(built: tuple[demo.Truth, Path]) -> None:
    truth, published = built
    rows = published_copy.query(published, "select reason, count(*) as lines from events_rejected group by reason")
    assert {row["reason"]: row["lines"] for row in rows} == dict(truth.rejected)


def test_limit_hits_are_the_demo_senders_notices(built: tuple[demo.Truth, Path]) -> None:
    truth, published = built
    rows = published_copy.query(published, "select * from usage_limit_hits where metric = 'api-calls'")
    assert {row["account_id"]: row["quota"] for row in rows} == {
        account.account_id: account.quota for account in truth.accounts if 100 in account.crossed
    }
    for row in rows:
        assert row["sent_limit"] == row["quota"]
        assert row["used_from"] <= row["sent_used"] <= row["used_to"]
        assert row["used_difference"] == 0
        assert row["crossed_from"] == row["crossed_until"] == row["reached_at"]
        assert (row["verdict"], row["reason"]) == ("agree", None)


def test_backtest_compares_with_the_true_month(built: tuple[demo.Truth, Path]) -> None:
    truth, published = built
    asked = "select account_id, period_start, actual_units from forecast_backtest where meter = 'api-calls'"
    rows = published_copy.query(published, asked)
    months = {
        account.account_id: sum(calls for day, calls in account.calls_by_date.items() if day.month == 10)
        for account in truth.accounts
    }
    assert rows
    for row in rows:
        assert f"{row['period_start']:%Y-%m-%d}" == "2026-10-01"
        assert row["actual_units"] == months[row["account_id"]]


def test_cap_hits_are_the_months_at_their_quota(built: tuple[demo.Truth, Path]) -> None:
    truth, published = built
    rows = published_copy.query(published, "select account_id, meter, used, outcome from cap_hit_outcomes")
    assert {row["meter"] for row in rows} == {"api-calls"}
    reached = {}
    for account in truth.accounts:
        used = sum(calls for day, calls in account.calls_by_date.items() if day.month == 10)
        if account.quota and account.story != "upgraded" and used >= account.quota:
            reached[account.account_id] = used
    assert {row["account_id"]: row["used"] for row in rows if row["outcome"] != "upgraded"} == reached


def test_endpoints_weeks_and_hours_add_up_to_the_truth(built: tuple[demo.Truth, Path]) -> None:
    truth, published = built

    def of_last(first: int, last: int) -> dict[str, int]:
        """Calls by account on the days so many days before today."""
        days = [NOW.date() - timedelta(days=ago) for ago in range(first, last + 1)]
        sums = {
            account.account_id: sum(account.calls_by_date.get(day, 0) for day in days) for account in truth.accounts
        }
        return {account: calls for account, calls in sums.items() if calls}

    for days, query in (
        ((0, 59), "select account_id, sum(calls)::bigint as calls from daily_usage_by_endpoint group by account_id"),
        ((1, 7), "select account_id, calls_7d as calls from error_rates where calls_7d > 0"),
        ((8, 14), "select account_id, calls_before_7d as calls from error_rates where calls_before_7d > 0"),
        ((1, 28), "select account_id, sum(calls)::bigint as calls from hourly_profile group by account_id"),
    ):
        counted = {row["account_id"]: row["calls"] for row in published_copy.query(published, query)}
        assert counted == of_last(*days), query
    growing = {
        row["account_id"]: row["extra_calls"] for row in published_copy.query(published, "select * from retry_storms")
    }
    before = of_last(8, 14)
    extra = {account: calls - before.get(account, 0) for account, calls in of_last(1, 7).items()}
    assert growing == {account: calls for account, calls in extra.items() if calls > 0}
