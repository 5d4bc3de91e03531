"""What the weekly, monthly, critical and failure messages say, and when they are due."""

from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from orchestration.messages import critical, failures, monthly, weekly
from orchestration.messages.crossings import CrossingKey
from orchestration.messages.failures import Failure
from orchestration.messages.message import Message
from tests.support.builders import make_alert_outcome, make_cap_hit, make_change, make_hard_crossing

UTC_ZONE = ZoneInfo("UTC")
MONDAY = datetime(2026, 11, 16, 8, tzinfo=UTC)
FIRST = datetime(2026, 11, 1, 8, tzinfo=UTC)
NOVEMBER = datetime(2026, 11, 1, tzinfo=UTC)


def text(message: Message | str) -> dict[str, list[str]]:
    """The lines by heading."""
    assert isinstance(message, Message)
    return {section.heading: [line.words() for line in section.lines] for section in message.sections}


# Weekly


def this_week(*changes: dict[str, Any], as_of: datetime = MONDAY, through: datetime | None = MONDAY) -> Message | str:
    return weekly.weekly_message(changes, through, as_of, UTC_ZONE)


def test_week_names_who_may_be_leaving_first() -> None:
    message = this_week(
        make_change("a", "growing", used=650, before=500, change_pct=Decimal("30.00"), mrr=Decimal("45.5")),
        make_change("b", "new", used=7, before=0, change_pct=None, csm="cee@example.com"),
        make_change("c", "dropping", used=40, before=100, change_pct=Decimal(-60), account_name="Cedar"),
        make_change("d", "dormant", used=0, before=0, change_pct=None, owner=None),
        make_change("e", ""),
    )

    assert isinstance(message, Message)
    assert (message.key, message.audience) == ("weekly|2026-W46", "cs")
    assert (
        message.headline == "Week 46: 1 dropping, 1 dormant, 1 growing, 1 new. First: Cedar, −60 %, 40 calls after 100"
    )
    assert text(message) == {
        "Dropping (1)": ["Cedar · −60 %, 40 calls after 100 · Dana"],
        "Dormant (1)": ["d · last call Sun 01 Nov · no owner"],
        "Growing (1)": ["a · +30 %, 650 calls after 500 · MRR 45.50 · Dana"],
        "New (1)": ["b · 7 calls since Mon 02 Nov · Cee"],
    }
    assert [row["account_id"] for row in message.table] == ["a", "b", "c", "d", "e"]


def test_week_names_an_account_once_with_each_of_its_meters() -> None:
    message = this_week(
        make_change("a", "growing", used=650, before=500, change_pct=Decimal(30)),
        make_change("b", "growing", used=900, before=600, change_pct=Decimal(50)),
        make_change("a", "dropping", meter="tokens", used=1_240_000, before=3_000_000, change_pct=Decimal(-59)),
        make_change("c", "new", meter="transfer", unit="0.001 GB", aggregation="sum", used=1_000, change_pct=None),
        make_change("c", ""),
        make_change("d", "dormant", meter="tokens", used=0),
    )

    assert isinstance(message, Message)
    assert message.headline == (
        "Week 46: 1 dropping, 1 dormant, 1 growing, 1 new. First: a, −59 %, 1.24 M tokens after 3.0 M"
    )
    assert text(message) == {
        "Dropping (1)": ["a · −59 %, 1.24 M tokens after 3.0 M · +30 %, 650 calls after 500 · Dana"],
        "Dormant (1)": ["d · last use of tokens Sun 01 Nov · Dana"],
        "Growing (1)": ["b · +50 %, 900 calls after 600 · Dana"],
        "New (1)": ["c · 1 GB since Mon 02 Nov · Dana"],
    }
    assert message.footer[0] == "UTC days, compared with the week before, 4 accounts"
    assert [(row["meter"], row["unit"]) for row in message.table][2:4] == [
        ("tokens", "tokens"),
        ("transfer", "0.001 GB"),
    ]


def test_quiet_week_is_one_line() -> None:
    message = this_week(make_change("a", ""))

    assert isinstance(message, Message)
    assert (message.headline, message.sections, message.table) == ("Week 46: no account changed much.", [], [])


@pytest.mark.parametrize(
    ("zone", "as_of", "is_due"),
    [
        ("UTC", MONDAY - timedelta(seconds=1), False),
        ("UTC", MONDAY, True),
        ("America/New_York", datetime(2026, 11, 16, 12, 59, 59, tzinfo=UTC), False),
        ("America/New_York", datetime(2026, 11, 16, 13, tzinfo=UTC), True),
        ("Pacific/Auckland", datetime(2026, 11, 16, 18, 59, 59, tzinfo=UTC), False),  # its Monday ends before ours
        ("Pacific/Auckland", datetime(2026, 11, 16, 19, tzinfo=UTC), True),
        ("UTC", datetime(2026, 11, 22, 23, 59, tzinfo=UTC), True),
    ],
)
def test_week_is_due_from_the_first_eight_after_it_until_the_next_ends(
    zone: str, as_of: datetime, is_due: bool
) -> None:
    message = weekly.weekly_message([make_change("a", "")], MONDAY, as_of, ZoneInfo(zone))

    assert isinstance(message, Message) is is_due


def test_week_waits_for_a_call_of_its_last_day() -> None:
    sunday = datetime(2026, 11, 15, tzinfo=UTC)

    assert isinstance(this_week(make_change("a", ""), through=sunday), Message)
    assert "2026-11-14" in str(this_week(make_change("a", ""), through=sunday - timedelta(seconds=1)))
    assert this_week() == "no account had usage before the end of the last week"


# Monthly


def test_month_says_what_became_of_each_and_what_the_plans_changed_by() -> None:
    message = monthly.monthly_message(
        [
            make_cap_hit("a", "upgraded", plan_now="scale", plan_delta_mrr=Decimal("1491.00")),
            make_cap_hit("b", "absorbed", throttled_calls=4, calls_from_hit_day=90, mrr=Decimal(50)),
            make_cap_hit("c", "downgraded", plan_now=None, plan_delta_mrr=None, owner=None),
            make_cap_hit("d", "churned"),
        ],
        FIRST,
        UTC_ZONE,
    )

    assert (message.key, message.audience) == ("monthly|2026-10", "sales")
    assert message.headline == (
        "October 2026: 4 accounts hit the quota: 1 stayed, calls were refused, 1 stopped using it, 1 downgraded,"
        " 1 upgraded. Plan changes: +1,491 MRR."
    )
    assert text(message) == {
        "Stayed, calls were refused (1)": [
            "b · 120 / 100, 20 over, hit Tue 20 Oct · 4 of 90 calls refused (429) · MRR 50 · Dana"
        ],
        "Stopped using it (1)": [
            "d · 120 / 100, 20 over, hit Tue 20 Oct · last call Sat 31 Oct · Dana",
        ],
        "Downgraded (1)": ["c · 120 / 100, 20 over, hit Tue 20 Oct · growth to no plan · no owner"],
        "Upgraded (1)": ["a · 120 / 100, 20 over, hit Tue 20 Oct · growth to scale · +1,491 MRR · Dana"],
    }
    assert len(message.table) == 4


def test_month_names_an_account_once_whichever_quotas_it_hit() -> None:
    moved = {"plan_now": "scale", "plan_delta_mrr": Decimal(1491), "mrr": Decimal(1990)}
    tokens = {"meter": "tokens", "quota": 2_000_000, "used": 2_400_000, "overage_units": 400_000}
    message = monthly.monthly_message(
        [
            make_cap_hit("a", "upgraded", **tokens, **moved),
            make_cap_hit("a", "upgraded", **moved),
            make_cap_hit("b", "churned", **tokens),
            make_cap_hit("b", "as before"),
        ],
        FIRST,
        UTC_ZONE,
    )

    assert message.headline == (
        "October 2026: 2 accounts hit the quota: 1 stayed as before, 1 upgraded. Plan changes: +1,491 MRR."
    )
    used = "120 / 100, 20 over, hit Tue 20 Oct"
    of_tokens = "2.4 M / 2.0 M tokens, 400 k over, hit Tue 20 Oct"
    assert text(message) == {
        "Stayed as before (1)": [f"b · {used} · {of_tokens} · last use of tokens Sat 31 Oct · Dana"],
        "Upgraded (1)": [f"a · {used} · {of_tokens} · growth to scale · +1,491 MRR · MRR 1,990 · Dana"],
    }
    assert [row["meter"] for row in message.table] == ["tokens", "api-calls", "tokens", "api-calls"]


@pytest.mark.parametrize(
    ("period_end", "is_told"),
    [
        (datetime(2026, 10, 1, tzinfo=UTC), False),  # September's
        (datetime(2026, 10, 2, tzinfo=UTC), True),
        (NOVEMBER, True),
        (FIRST + timedelta(seconds=1), False),
    ],
)
def test_month_is_about_the_periods_that_ended_in_it(period_end: datetime, is_told: bool) -> None:
    message = monthly.monthly_message([make_cap_hit("a", "as before", period_end=period_end)], FIRST, UTC_ZONE)

    assert len(message.table) == is_told
    assert (message.headline == "October 2026: no account hit its quota.") is not is_told


def funnel(*alerts: dict[str, Any]) -> list[str]:
    """What the first section says, where it is no group of accounts."""
    message = monthly.monthly_message([make_cap_hit()], FIRST, UTC_ZONE, alerts=alerts)
    return [line.words() for section in message.sections if not section.heading for line in section.lines]


def test_month_says_what_came_of_its_alerts() -> None:
    raised = {"quota_raised_at": FIRST - timedelta(days=3), "new_quota": 500, "new_plan": "scale"}
    assert funnel(
        make_alert_outcome("a", disposition="contacted"),
        make_alert_outcome("b", disposition="won", **raised, mrr_delta=Decimal(1575)),
        make_alert_outcome("c", **raised, mrr_delta=Decimal(1575)),
        make_alert_outcome("c", meter="seats", **raised, mrr_delta=Decimal(1575)),  # by the same change of plan
        make_alert_outcome("d", **{**raised, "new_plan": "own"}),
        make_alert_outcome("e", disposition="false_alarm"),
        make_alert_outcome("f", disposition="snoozed"),
    ) == ["7 alerts, 2 calls, 3 upgrades, +3,150 MRR"]
    assert funnel(make_alert_outcome("a")) == ["1 alert, 0 calls, 0 upgrades"]
    assert funnel() == []


@pytest.mark.parametrize(
    ("alerted_at", "counts"),
    [
        (datetime(2026, 9, 30, 23, 59, tzinfo=UTC), False),
        (datetime(2026, 10, 1, tzinfo=UTC), True),
        (datetime(2026, 10, 31, 23, 59, tzinfo=UTC), True),
        (datetime(2026, 11, 1, tzinfo=UTC), False),
    ],
)
def test_alert_counts_in_the_month_in_which_it_was_sent(alerted_at: datetime, counts: bool) -> None:
    assert bool(funnel(make_alert_outcome(alerted_at=alerted_at))) is counts


@pytest.mark.parametrize(
    ("zone", "as_of", "key"),
    [
        ("UTC", FIRST - timedelta(seconds=1), "monthly|2026-09"),
        ("UTC", FIRST, "monthly|2026-10"),
        ("UTC", datetime(2026, 11, 30, 23, tzinfo=UTC), "monthly|2026-10"),
        ("Pacific/Auckland", datetime(2026, 10, 31, 19, tzinfo=UTC), "monthly|2026-09"),  # 8am of their 1st
        ("Pacific/Auckland", datetime(2026, 11, 1, 19, tzinfo=UTC), "monthly|2026-10"),
    ],
)
def test_month_is_due_at_the_first_eight_after_it(zone: str, as_of: datetime, key: str) -> None:
    assert monthly.monthly_message([], as_of, ZoneInfo(zone)).key == key


# Critical


def key_of(row: dict[str, Any]) -> CrossingKey:
    return (row["account_id"], row["meter"], row["period_start"], row["quota"], row["threshold"])


def test_candidates_are_the_running_periods_of_critical_hard_caps() -> None:
    rows = [
        make_hard_crossing("a"),
        make_hard_crossing("a", is_current_period=False),
        make_hard_crossing("a", meter="seats"),
        make_hard_crossing("b"),
    ]

    found = critical.candidates(rows, [{"account_id": "a", "meter": "api-calls", "recommended_action": "Call today"}])

    assert found == [{**rows[0], "recommended_action": "Call today"}]


def test_critical_message_says_whom_to_call_when_and_why() -> None:
    rows = [
        make_hard_crossing("a", account_name="Acme", recommended_action="Call today", mrr=Decimal("58.8")),
        make_hard_crossing(
            "b", recommended_action=None, owner=None, used=96, threshold="95%", pct_of_cap=Decimal("96.0")
        ),
    ]
    message = critical.critical_message(rows, datetime(2026, 11, 20, 14, 5, 7, tzinfo=UTC), UTC_ZONE)

    assert (message.key, message.audience) == ("critical|2026-11-20T14:05:07Z", "sales")
    assert message.headline == "Acme: out of quota, calls are refused, and 1 other. Call today"
    first, second = text(message)[""]
    assert first == (
        "Acme · 100 / 100 (100 %), crossed 100 % Fri 14:00 · out of quota, calls are refused · Call today"
        " · MRR 58.80 · Dana"
    )
    assert second == ("b · 96 / 100 (96 %), crossed 95 % Fri 14:00 · runs out today, then calls are refused · no owner")
    assert [line.owner for line in message.sections[0].lines] == ["dana@example.com", ""]


def test_alerted_crossings_are_listed_with_their_time_while_they_hold() -> None:
    row = make_hard_crossing("a", account_name="Acme")
    at = datetime(2026, 11, 20, 14, 6, tzinfo=UTC)
    gone = ("x", *key_of(row)[1:])

    lines = critical.alerted([row], [(key_of(row), at), (key_of(row), None), (gone, at)], ZoneInfo("Europe/Berlin"))

    assert lines == [
        "Acme 100 %, alerted Fri 15:06",
        "Acme 100 %, its alert waits to be sent",
    ]


# Failures


def make_failure(job: str = "hourly_job", **fields: Any) -> Failure:
    given = {"run_id": "0123456789", "last_success": "s1", "reasons": {"models": "1 test failed"}, **fields}
    return Failure(job=job, **given)


def test_alert_has_one_key_until_the_job_succeeds_again() -> None:
    keys = [
        failures.alert(failure, ()).key
        for failure in (
            make_failure(),
            make_failure(run_id="f2", reasons={"ingest": "x"}),
            make_failure(last_success="s2"),
            make_failure(last_success=None),
            make_failure("daily_job"),
        )
    ]

    assert keys == [
        "run_failure|hourly_job|s1",
        "run_failure|hourly_job|s1",
        "run_failure|hourly_job|s2",
        "run_failure|hourly_job|never",
        "run_failure|daily_job|s1",
    ]


def test_alert_says_its_sentence_once() -> None:
    message = failures.alert(make_failure(reasons={"models": "1 test failed"}), ())

    assert str([message.headline, *text(message).values()]).count("1 test failed") == 1


def test_alert_names_the_first_steps_and_their_reasons() -> None:
    reasons = {"models": "1 test failed", "b": "x", "c": "y", "d": "z", "e": "z"}
    message = failures.alert(make_failure(reasons=reasons), ())

    assert message.notification == "Headroom: hourly_job failed (run 01234567): models: 1 test failed"
    assert (message.title, message.headline) == ("hourly_job failed", "Run 01234567")
    assert text(message)[""] == ["models: 1 test failed", "b: x", "c: y", "… and 2 more steps"]
    assert failures.alert(make_failure("__ASSET_JOB"), ()).title == "A run by hand failed"


@pytest.mark.parametrize(
    ("owners", "audience"),
    [
        ([], "data"),
        (["team:data"], "data"),
        (["team:cs", "team:cs"], "cs"),
        (["team:cs", "team:data"], "data"),
        (["dana@example.com", "team:x"], "data"),
    ],
)
def test_alert_goes_to_the_owning_team(owners: list[str], audience: str) -> None:
    assert failures.alert(make_failure(owners=owners), ("sales", "cs", "data")).audience == audience


def test_morning_says_what_is_still_failing_or_that_nothing_is() -> None:
    on, now = date(2026, 11, 20), datetime(2026, 11, 20, 8, 30, tzinfo=UTC)
    quiet = failures.morning({}, [], on, now, UTC_ZONE)
    jobs = {"hourly_job": now, "daily_job": now - timedelta(minutes=29)}
    failing = failures.morning(jobs, ["a waits", "b waits"], on, now, UTC_ZONE)

    assert (quiet.key, quiet.audience, quiet.headline) == ("failing|2026-11-20", "data", "No job is failing.")
    assert failing.headline == (
        "Still failing: daily_job (last 20 Nov 08:01), hourly_job (last 20 Nov 08:30)."
        " 2 messages not sent yet: run `headroom deliveries`."
    )
    assert text(failing) == {"Not sent yet": ["a waits", "b waits"]}
    assert "`headroom deliveries resend KEY`" in failing.footer[0]
    assert (text(quiet), quiet.footer) == ({}, [])
