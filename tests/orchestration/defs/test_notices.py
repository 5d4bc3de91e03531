"""The other messages in the channel: each once, whatever is pressed, whoever runs at the same time, whatever fails.

The assets, the ledger, slack_sdk and its bytes are the real ones; Slack is on loopback, the marts are written by hand.
"""

import logging
import os
import signal
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import FrameType
from typing import Any

import dagster as dg
import pyarrow as pa
import pytest
import sqlalchemy as sa

from orchestration.channels.slack import channel as slack_module
from orchestration.defs.digest import prepare_digest
from orchestration.defs.notices import critical_alert, decide_critical, monthly_digest, weekly_digest
from orchestration.defs.resources import Project
from orchestration.ledger import ledger, restored
from orchestration.ledger import rules as known_rules
from orchestration.ledger.ledger import State
from orchestration.ledger.outbox import DOUBT_WINDOW
from orchestration.ledger.tables import deliveries
from orchestration.messages import rules
from orchestration.settings import PROJECT_ROOT
from orchestration.warehouse import published_copy
from tests.fakes.slack import LOST_AFTER, FakeSlack
from tests.support import builders, forks
from tests.support.builders import make_alert_outcome, make_cap_hit, make_change, make_hard_crossing, make_standing
from tests.support.duckdb_file import opened
from tests.support.waiting import RUN_SECONDS

CRITICAL = "local|critical|2026-11-20T14:05:00Z|slack"
MONDAY = datetime(2026, 11, 16, 8, 5, tzinfo=UTC)
ACCOUNT_COLUMNS = (
    *("account_name", "owner", "csm", "mrr", "advice", "recommended_action"),
    *("is_main", "is_calls", "aggregation", "forecast_method"),
)
"""Of a crossing, a change or a hit, the columns that are joined to it."""
JOINED = (
    *("previous_quota", "quota_since", "used_since", "is_calls", "cost_of_waiting", "currency", "next_plan_delta"),
    *("projected_overage_value", "is_refused", "is_refused_on_next_plan", "is_retry_storm"),
    *("momentum_word", "advice", "situation", "reasons", "next_step", "by_when", "advice_owner", "value"),
    "is_announced",
)
"""Of an account's standing, the columns that other marts than utilization_mtd have."""

QUALITY = {
    **builders.QUALITY,
    "as_of": MONDAY,
    "data_through": MONDAY,
    "accounts": 1,
    "accounts_at_threshold": 1,
    "rejected_lines": 0,
    "accounts_without_quota": 0,
    "accounts_blocked_with_usage": 0,
    "accounts_without_customer": 0,
    "accounts_without_owner": 0,
    "accounts_sampled": 0,
    "events_of_unknown_meter": 0,
    "subjects_unmapped": 0,
}
NOTHING_KNOWN = """
    create table overage (
        account_id varchar, meter varchar, currency varchar, cost_of_waiting varchar, is_refused boolean,
        is_refused_on_next_plan boolean, projected_overage_value decimal(28, 2), next_plan_delta decimal(28, 2)
    );
    create table period_quotas (
        account_id varchar, meter varchar, is_current boolean, previous_quota bigint, effective_at timestamp
    );
    create table retry_storms (account_id varchar, is_retry_storm boolean);
    create table top_accounts_30d (account_id varchar, meter varchar, calls bigint, dormant_at timestamp);
    create table momentum (account_id varchar, meter varchar, momentum_word varchar);
    create table hourly_usage (
        account_id varchar, meter varchar, usage_date date, hour_start timestamp, units bigint
    );
    create table daily_usage_by_endpoint (account_id varchar, endpoint varchar, usage_date date, calls bigint);
    create table daily_usage_by_property (
        account_id varchar, meter varchar, usage_date date, property varchar, value varchar, units bigint
    );
    create table account_advice as
        select
            account_id, meter, 'call_upgrade' as advice, 'refused_now' as situation, 'hard_limit,over_quota' as reasons,
            recommended_action as next_step, null::date as by_when, owner, null::decimal(18, 2) as value,
            true as is_announced
        from utilization_mtd;
    create table thresholds as
        select null::varchar as plan, null::varchar as meter, 100 as threshold_pct, null::bigint as threshold_units,
            'critical' as severity, true as is_in_digest, false as pace_matters;
    create table meters as select 'api-calls' as meter, true as is_main;
    create table plans (plan varchar, meter varchar);
    create table plan_tiers (plan varchar, meter varchar, tier_number integer);
    create table routing (rule integer);
"""


def publish(
    data: Path,
    as_of: datetime = MONDAY,
    changes: Sequence[dict[str, Any]] = (),
    hits: Sequence[dict[str, Any]] = (),
    crossings: Sequence[dict[str, Any]] = (),
    limit_kind: str = "hard",
    alerts: Sequence[dict[str, Any]] = (),
) -> None:
    """A published copy with these rows, and an account for each id in them."""
    given = {row["account_id"]: row for row in (*changes, *hits, *crossings)}
    account = {
        **make_standing(),
        **make_hard_crossing(),
        "is_internal": False,
        "is_test": False,
        "snoozed_until": as_of.date(),
        "as_of": as_of,
        "recommended_action": "Call today",
        "limit_kind": limit_kind,
        "used_mtd": 100,
        "renewal_on": as_of.date(),
    }
    quality = {**QUALITY, "as_of": as_of}
    calls = {"account_id": "acme", "meter": "api-calls", "usage_date": as_of.date(), "calls": 1, "units": 1}
    tables: dict[str, tuple[Sequence[dict[str, Any]], dict[str, Any]]] = {
        "data_quality": ([quality], quality),
        "daily_usage": ([calls], calls),
        "weekly_changes": (changes, make_change()),
        "cap_hit_outcomes": (hits, make_cap_hit()),
        "alert_outcomes": (alerts, make_alert_outcome()),
        "threshold_crossings": (crossings, {**make_hard_crossing(), "is_in_digest": True}),
        "utilization_mtd": ([{**account, **row} for row in given.values()], account),
    }
    path = data / "new.duckdb"
    path.unlink(missing_ok=True)
    with opened(path) as connection:
        connection.execute("set TimeZone = 'UTC'")
        for name, (rows, example) in tables.items():
            left_out = JOINED if name == "utilization_mtd" else ACCOUNT_COLUMNS
            left_out += ("unit",) if name in ("weekly_changes", "cap_hit_outcomes") else ()
            table = [
                {column: _plain(value) for column, value in {**example, **row}.items() if column not in left_out}
                for row in rows or [example]
            ]
            relation = pa.Table.from_pylist(table)  # noqa: F841 - DuckDB finds it by its name
            connection.execute(f"create table {name} as select * from relation limit {len(rows)}")
        connection.execute(NOTHING_KNOWN)
    path.replace(data / "published.duckdb")


def _plain(value: object) -> object:
    return value.replace(tzinfo=None) if isinstance(value, datetime) else value


@pytest.fixture
def slack(data: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeSlack]:
    with FakeSlack() as server:
        environment = {
            "SLACK_BOT_TOKEN": server.token,
            "SLACK_API_URL": server.url,
            "HEADROOM_SLACK_CHANNEL": server.channel,
            "HEADROOM_CRITICAL_AT_ONCE": "true",
        }
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        yield server


def run(asset: dg.AssetsDefinition) -> str:
    """Materialize it: the outcome, or the sentence of the failure."""
    with dg.DagsterInstance.ephemeral() as instance:
        result = dg.materialize([asset], instance=instance, resources={"project": Project()}, raise_on_error=False)
    if not result.success:
        data = result.all_node_events[-1].event_specific_data
        return f"failed: {getattr(data, 'user_failure_data', None) or data}"
    [materialization] = result.asset_materializations_for_node(asset.node_def.name)
    return str(materialization.metadata["outcome"].value)


def first_digest(at: datetime) -> None:
    """From here on there is a memory of what is old."""
    memory, key = Project().ledger(), f"local|digest|{at.date()}"
    with memory.transaction() as connection:
        memory.prepare(connection, key, "slack", {"message": {"text": "digest"}}, at)
    delivery = memory.delivery(key)
    assert delivery
    memory.finish(delivery, State.SENT, at, "C0DIGEST/1", error=None)


def publish_critical(data: Path, **fields: Any) -> None:
    first_digest(datetime(2026, 11, 20, 8, tzinfo=UTC))
    publish(data, datetime(2026, 11, 20, 14, 5, tzinfo=UTC), crossings=[make_hard_crossing(**fields)])


def publish_weekly(data: Path) -> None:
    publish(data, changes=[make_change(account_name="Cedar"), make_change("b", "new")])


def publish_monthly(data: Path) -> None:
    publish(data, datetime(2026, 11, 1, 8, 5, tzinfo=UTC), hits=[make_cap_hit(account_name="Cedar")])


def test_month_leaves_out_alerts_of_accounts_that_are_gone(data: Path, slack: FakeSlack) -> None:
    alerts = [make_alert_outcome(disposition="won"), make_alert_outcome("of_before")]
    publish(data, datetime(2026, 11, 1, 8, 5, tzinfo=UTC), hits=[make_cap_hit()], alerts=alerts)

    assert run(monthly_digest).startswith("sent")
    assert "1 alert, 1 call, 0 upgrades" in str(slack.messages[0]["blocks"])


EACH = [
    (weekly_digest, publish_weekly, "local|weekly|2026-W46|slack", "weekly-2026-W46-local.csv"),
    (monthly_digest, publish_monthly, "local|monthly|2026-10|slack", "monthly-2026-10-local.csv"),
    (critical_alert, publish_critical, CRITICAL, None),
]
each = pytest.mark.parametrize(("asset", "world", "key", "file"), EACH, ids=["weekly", "monthly", "critical"])
Asset, World = dg.AssetsDefinition, Callable[[Path], None]


def once(key: str, file: str | None) -> dict[str, int]:
    return dict.fromkeys([key, *([file] if file else [])], 1)


@each
def test_message_is_posted_once_however_often_it_is_materialized(
    data: Path, slack: FakeSlack, asset: Asset, world: World, key: str, file: str | None
) -> None:
    world(data)

    outcomes = [run(asset) for _ in range(3)]

    assert outcomes[0].startswith("sent ")
    assert all(outcome.startswith(("already sent", "nothing sent: no hard quota")) for outcome in outcomes[1:])
    assert slack.counts() == once(key, file)


@each
def test_message_is_posted_once_when_two_runs_decide_it_at_the_same_time(
    data: Path, slack: FakeSlack, asset: Asset, world: World, key: str, file: str | None
) -> None:
    world(data)
    Project().ledger()

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(run, [asset, asset]))
    run(asset)

    assert slack.counts() == once(key, file)


@each
def test_message_is_sent_once_after_slack_was_repaired(
    data: Path, slack: FakeSlack, asset: Asset, world: World, key: str, file: str | None
) -> None:
    world(data)
    slack.is_member = False
    first = run(asset)
    assert "invite the bot" in first
    assert not slack.messages
    slack.is_member = True

    run(asset)
    run(asset)

    assert slack.counts() == once(key, file)


@each
def test_message_is_sent_once_when_its_answer_is_lost(
    data: Path, slack: FakeSlack, asset: Asset, world: World, key: str, file: str | None
) -> None:
    world(data)
    slack.then(LOST_AFTER)
    run(asset)
    slack.calm()

    run(asset)

    assert slack.counts() == once(key, file)


def test_weekly_message_is_posted_once_later_when_monday_was_missed(data: Path, slack: FakeSlack) -> None:
    for day in (18, 19, 22):
        publish(data, datetime(2026, 11, day, 9, tzinfo=UTC), changes=[make_change()])
        run(weekly_digest)
    publish(data, datetime(2026, 11, 23, 7, tzinfo=UTC), changes=[make_change(week_start=MONDAY.date())])
    assert run(weekly_digest) == "nothing sent: the week from 2026-11-16 is due at 8am"

    assert slack.counts()["local|weekly|2026-W46|slack"] == 1
    assert len(slack.messages) == 1


def test_nothing_is_said_before_an_account_is_known(data: Path, slack: FakeSlack) -> None:
    publish(data)
    assert run(weekly_digest).startswith("nothing sent")
    assert run(critical_alert) == "nothing sent: the first digest comes first"
    assert not slack.messages


# Critical crossings and the digest


def test_critical_crossing_is_alerted_once_and_listed_by_the_next_digest(data: Path, slack: FakeSlack) -> None:
    slack.users["dana@example.com"] = "U0DANA"
    publish_critical(data, account_name="Acme")
    run(critical_alert)
    morning = datetime(2026, 11, 21, 8, tzinfo=UTC)
    later = make_hard_crossing("b", threshold="80%", used=81, crossed_at=morning - timedelta(hours=3))
    for hours in (0, 24):
        publish(data, morning + timedelta(hours=hours), crossings=[make_hard_crossing(account_name="Acme"), later])
        prepare_digest(Project(), Project().ways(), (morning + timedelta(hours=hours)).date(), "run", print)
    run(critical_alert)

    [message] = slack.messages
    assert message["text"] == "Acme: out of quota, calls are refused. Call today"
    assert "{'type': 'user', 'user_id': 'U0DANA'}" in str(message["blocks"])
    first, second = (digest_of(day) for day in (21, 22))
    assert [item["account_id"] for item in first["items"]] == ["b"]
    assert len(first["alerted"]) == 1
    assert first["alerted"][0].startswith("Acme 100 %, alerted ")
    assert (second["items"], second["alerted"]) == ([], [])


def digest_of(day: int) -> Mapping[str, Any]:
    delivery = Project().ledger().delivery(f"local|digest|2026-11-{day}|slack")
    assert delivery
    digest: Mapping[str, Any] = delivery.payload["digest"]
    return digest


def test_crossing_that_a_digest_announced_is_not_alerted_again(data: Path, slack: FakeSlack) -> None:
    morning = datetime(2026, 11, 21, 8, tzinfo=UTC)
    first_digest(morning - timedelta(days=1))
    publish(data, morning, crossings=[make_hard_crossing()])
    prepare_digest(Project(), Project().ways(), morning.date(), "run", print)

    assert run(critical_alert) == "nothing sent: no hard quota was crossed since the last digest"
    assert not slack.messages


@pytest.mark.parametrize(
    "change", [{"limit_kind": "soft"}, {"crossings": [make_hard_crossing(severity="high")]}], ids=str
)
def test_only_critical_crossings_of_hard_quotas_are_alerted_at_once(
    data: Path, slack: FakeSlack, change: dict[str, Any]
) -> None:
    first_digest(datetime(2026, 11, 20, 8, tzinfo=UTC))
    publish(data, datetime(2026, 11, 20, 14, 5, tzinfo=UTC), **{"crossings": [make_hard_crossing()], **change})

    assert run(critical_alert).startswith("nothing sent")
    assert not slack.messages


def test_critical_crossings_wait_for_the_digest_unless_the_setting_is_on(
    data: Path, slack: FakeSlack, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("HEADROOM_CRITICAL_AT_ONCE")
    publish_critical(data)

    assert "HEADROOM_CRITICAL_AT_ONCE is not set" in run(critical_alert)
    assert not slack.messages


def test_critical_crossing_of_a_new_threshold_is_not_alerted(data: Path, slack: FakeSlack) -> None:
    ledger, on = Project().ledger(), datetime(2026, 11, 20, 8, tzinfo=UTC)
    publish_critical(data, crossed_at=on - timedelta(days=7))
    before = rules.of_rows("thresholds", [{**make_threshold(), "threshold_pct": 120}])
    with ledger.transaction() as connection:
        known_rules.remember(connection, "local", before, on, f"local|digest|{on.date()}")

    assert run(critical_alert) == "nothing sent: no hard quota was crossed since the last digest"

    [row] = published_copy.query(data / "published.duckdb", "from thresholds")
    with ledger.transaction() as connection:
        assert not ledger.verdicts(connection, "local")  # the digest records them
        known_rules.remember(connection, "local", rules.of_rows("thresholds", [row]), on, f"local|digest|{on.date()}")
    assert run(critical_alert).startswith("sent ")  # late data


def make_threshold() -> dict[str, Any]:
    scope = dict.fromkeys(("plan", "meter", "threshold_units"))
    return {**scope, "severity": "critical", "is_in_digest": True, "pace_matters": False}


def test_critical_crossings_wait_for_a_digest_when_the_ledger_was_restored(data: Path, slack: FakeSlack) -> None:
    publish_critical(data)
    ledger, url = data / "ledger.sqlite", Project().settings.ledger_url
    restored.copy(url, data / "copy.sqlite", datetime.now(UTC))
    for path in data.glob("ledger.sqlite*"):
        path.unlink()
    (data / "copy.sqlite").rename(ledger)

    assert "the restored ledger" in run(critical_alert)
    assert not slack.messages


# Killed, for real: a fork is.

MOMENTS = ["record_crossings", "send", "finish"]
"""Functions on whose call a process is killed: within the decision, after the claim, after the post."""


def test_critical_crossing_is_alerted_once_when_processes_are_killed(data: Path, slack: FakeSlack) -> None:
    publish_critical(data)
    states = []
    for moment in MOMENTS:
        assert forks.call(PROJECT_ROOT, run_until_killed, moment, seconds=RUN_SECONDS) == -signal.SIGKILL
        delivery = Project().ledger().delivery(CRITICAL)
        states.append((delivery and delivery.attempts, len(slack.messages)))
        let_the_doubt_end()

    run(critical_alert)

    assert states == [(None, 0), (1, 0), (2, 1)]
    assert slack.counts() == {CRITICAL: 1}
    assert run(critical_alert) == "nothing sent: no hard quota was crossed since the last digest"


def let_the_doubt_end() -> None:
    """Attempts under way become so old that what Slack does not show did not arrive."""
    past = sa.update(deliveries).values(attempted_at=datetime.now(UTC) - 2 * DOUBT_WINDOW)
    with Project().ledger().transaction() as connection:
        connection.execute(past.where(deliveries.c.state == State.SENDING))


def run_until_killed(moment: str) -> None:
    files = {ledger.__file__, slack_module.__file__}

    def trace(frame: FrameType, *_: object) -> None:
        if frame.f_code.co_name == moment and frame.f_code.co_filename in files:
            os.kill(os.getpid(), signal.SIGKILL)

    sys.settrace(trace)
    project = Project()
    decide_critical(project, project.ways(), print)
    project.ways().send_waiting(project.ledger(), "local|critical|", logging.getLogger())
