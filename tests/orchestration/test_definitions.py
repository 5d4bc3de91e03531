"""What the code location surfaces: a renamed asset, job or schedule is a reviewed diff here."""

import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import dagster as dg
import pytest

from orchestration.channels.preview import PreviewChannel
from orchestration.definitions import headroom
from orchestration.defs import automation
from orchestration.defs.digest import FIRST_DIGEST, first_day
from orchestration.defs.resources import Project
from orchestration.ledger.outbox import deliver
from orchestration.settings import PROJECT_ROOT

GRAPH = {
    "ingest": {
        "raw_events",
        "raw_other_events",
        "rejected_lines",
        "raw_accounts",
        "raw_subjects",
        "raw_customers",
        "raw_meter_reports",
        "raw_alerts",
    },
    "staging": {
        "endpoint_weights",
        "meters",
        "stg_accounts",
        "stg_api_calls",
        "stg_refused_calls",
        "stg_customers",
        "stg_meter_values",
        "stg_subjects",
    },
    "usage": {
        "daily_usage",
        "daily_usage_business_zone",
        "daily_usage_by_endpoint",
        "daily_usage_by_property",
        "event_values",
        "hourly_profile",
        "hourly_usage",
        "hourly_usage_by_endpoint",
        "hourly_usage_by_property",
    },
    "billable": {
        "account_customers",
        "billable_usage_hourly",
        "billed_usage_hourly",
        "billing_reconciliation_hourly",
        "stg_meter_reports",
        "stg_prepaid_credit",
        "stg_subscription_periods",
        "subscription_periods",
    },
    "alerts": {"alert_dispositions", "stg_alerts", "stg_dispositions"},
    "trends": {"account_profiles", "error_rates", "momentum", "retry_storms", "top_accounts_30d", "weekly_changes"},
    "quotas": {
        *("account_meters", "meter_events", "plans", "quota_current", "quota_history", "stg_limits_reached"),
        "stg_quota_sets",
    },
    "periods": {
        "account_periods",
        "billable_meters_hourly",
        "gauge_readings",
        "period_quotas",
        "period_thresholds",
        "period_usage",
        "quota_raises",
        "threshold_crossings",
        "thresholds",
    },
    "forecasts": {"cap_forecasts", "expected_usage", "forecast_backtest", "forecast_choice", "overage", "plan_tiers"},
    "marts": {
        "account_advice",
        "account_situations",
        "alert_outcomes",
        "cap_hit_outcomes",
        "quota_standings",
        "routing",
        "subscription_differences",
        "usage_limit_hits",
        "utilization_mtd",
    },
    "quality": {
        *("data_quality", "events_ahead", "events_not_counted", "events_rejected", "refused_values"),
        *("stg_rejected_lines", "unmapped_usage"),
    },
    "publish": {"postgres_tables", "published_copy"},
    "messages": {"account_alerts", "critical_alert", "monthly_digest", "usage_digest", "weekly_digest"},
    "billing": {
        *("invoice_differences", "stripe_certificates", "stripe_gauges", "stripe_invoices", "stripe_parity"),
        "stripe_usage",
    },
}
"""In the order of the flow."""
MODELS = {"staging", "usage", "billable", "alerts", "trends", "quotas", "periods", "forecasts", "marts", "quality"}
"""The groups that dbt builds: models/groups.yml."""
SEEDS = {"endpoint_weights", "meters", "plan_tiers", "plans", "routing", "thresholds"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One for all, so that dbt parses once."""
    folder = tmp_path_factory.mktemp("data")
    (folder / "landing").mkdir()
    return folder


@pytest.fixture
def data(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HEADROOM_DATA", str(folder))
    return folder


@pytest.fixture
def definitions(data: Path) -> dg.Definitions:
    return headroom()


def specs(definitions: dg.Definitions) -> dict[str, dg.AssetSpec]:
    return {spec.key.to_user_string(): spec for spec in definitions.resolve_all_asset_specs()}


def test_assets_are_in_the_groups_of_the_flow(definitions: dg.Definitions) -> None:
    groups: dict[str, set[str]] = {}
    for name, spec in specs(definitions).items():
        groups.setdefault(spec.group_name or "", set()).add(name)
    assert groups == GRAPH


def test_every_asset_says_what_it_is_whose_and_made_with_what(definitions: dg.Definitions) -> None:
    for name, spec in specs(definitions).items():
        assert spec.description, name
        assert spec.owners == ["team:data"], name
        assert spec.kinds, name


def test_groups_depend_only_on_the_ones_before(definitions: dg.Definitions) -> None:
    order, everything = list(GRAPH), specs(definitions)
    for name, spec in everything.items():
        for dep in spec.deps:
            upstream = everything[dep.asset_key.to_user_string()]
            assert order.index(str(upstream.group_name)) <= order.index(str(spec.group_name)), name


def test_everything_that_is_sent_depends_on_the_published_copy(definitions: dg.Definitions) -> None:
    everything = specs(definitions)
    assert [dep.asset_key.to_user_string() for dep in everything["stripe_parity"].deps] == ["stripe_usage"]
    assert {dep.asset_key.to_user_string() for dep in everything["stripe_certificates"].deps} == {
        "stripe_invoices",
        "stripe_parity",
    }
    assert [dep.asset_key.to_user_string() for dep in everything["invoice_differences"].deps] == ["stripe_certificates"]
    sent = GRAPH["messages"] | GRAPH["billing"] | {"postgres_tables"}
    for name in sent - {"stripe_parity", "stripe_certificates", "invoice_differences"}:
        assert [dep.asset_key.to_user_string() for dep in everything[name].deps] == ["published_copy"]


def test_published_copy_depends_on_each_model_behind_staging_itself(definitions: dg.Definitions) -> None:
    copied = {dep.asset_key.to_user_string() for dep in specs(definitions)["published_copy"].deps}
    assert copied == set().union(*(GRAPH[group] for group in MODELS - {"staging"})) - SEEDS


def test_jobs_run_numbers_and_deliveries_together(definitions: dg.Definitions) -> None:
    numbers = GRAPH["ingest"].union({"published_copy"}, *(GRAPH[group] for group in MODELS))
    stripe = GRAPH["billing"]
    selected = {
        job: {key.to_user_string() for key in definitions.resolve_job_def(job).asset_layer.selected_asset_keys}
        for job in ("refresh_job", "alerts_job", "hourly_job", "daily_job")
    }
    assert selected == {
        "refresh_job": numbers,
        "alerts_job": numbers | {"account_alerts", "critical_alert"},
        "hourly_job": numbers
        | stripe
        | {"account_alerts", "critical_alert", "monthly_digest", "postgres_tables", "weekly_digest"},
        "daily_job": numbers | stripe | {"usage_digest", "postgres_tables"},
    }


def test_pages_are_written_last_and_only_where_a_folder_is_set(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEADROOM_PAGES_EXPORT", str(data / "pages"))
    definitions, key = headroom(), dg.AssetKey("pages_export")
    for name, is_in in (("daily_job", True), ("hourly_job", True), ("refresh_job", False), ("alerts_job", False)):
        job = definitions.resolve_job_def(name)
        assert (key in job.asset_layer.selected_asset_keys) == is_in
        priorities = {node.name: int(node.tags.get("dagster/priority", 0)) for node in job.nodes}
        assert [node for node in priorities if priorities[node] < 0] == ["pages_export"] * is_in
    spec = specs(definitions)["pages_export"]
    assert [dep.asset_key.to_user_string() for dep in spec.deps] == ["published_copy"]
    assert (spec.owners, spec.group_name, bool(spec.description)) == (["team:data"], "publish", True)


def test_dbt_tests_are_blocking_checks(definitions: dg.Definitions) -> None:
    checks = {key.name: definitions.resolve_asset_graph().get_check_spec(key) for key in _checks(definitions)}
    assert {"daily_usage_adds_up_to_the_calls", "calls_are_distinct", "crossings_agree_with_utilization"} <= set(checks)
    informing = {"calls_are_recent", "everything_is_read", "billed_as_counted", "catalogue_at_stripe", "rows_are_taken"}
    informing |= {"current_periods_are_whole", "invoiced_as_counted", "file_is_taken", "gauges_billed_as_counted"}
    assert {name for name, check in checks.items() if not check.blocking} == informing


def test_check_of_our_own_says_what_it_means(definitions: dg.Definitions) -> None:
    graph = definitions.resolve_asset_graph()
    sql = {path.stem for path in (PROJECT_ROOT / "dbt_project" / "data-tests").glob("*.sql")}
    said = {key.name: graph.get_check_spec(key).description or "" for key in _checks(definitions)}
    assert len(sql & set(said)) >= 17
    own = {"calls_are_recent", "everything_is_read", "file_is_taken", "billed_as_counted", "catalogue_at_stripe"}
    for name in own | sql & set(said):
        assert len(said[name]) > 60, name


def test_every_check_says_what_it_asks_for(definitions: dg.Definitions) -> None:
    graph = definitions.resolve_asset_graph()
    said = {key.name: graph.get_check_spec(key).description or "" for key in _checks(definitions)}
    assert not [name for name, words in said.items() if len(words) < 60]
    assert said["not_null_plans_plan"].startswith(
        "Each row of plans has a value in plan. If the check fails, nothing is"
    )
    assert "repair the file plans.csv in dbt_project/seeds, and run again" in said["not_null_plans_plan"]
    assert said["unique_error_rates_account_id"].startswith("No two rows of error_rates have the same account_id. If")
    of_two = said["momentum_has_one_row_per_meter"]
    assert of_two.startswith("No two rows of momentum have the same account_id and meter.")
    assert (
        "cost_of_waiting of overage is one of: will be blocked, will be slowed down, overage starts, nothing."
        in " ".join(said.values())
    )


@pytest.mark.parametrize(
    ("decided", "first"),
    [
        ([], "2024-11-20"),
        (["2024-11-18", "2024-11-19"], "2024-11-18"),
        (["2022-11-18", "2024-11-19"], "2024-11-19"),  # one and a half years ago, and long over
    ],
)
def test_days_of_the_digest_begin_with_the_first_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, decided: list[str], first: str
) -> None:
    monkeypatch.setenv("HEADROOM_DATA", str(tmp_path))
    monkeypatch.setenv("HEADROOM_NOW", "2024-11-20T08:10:00Z")
    assert first_day(Project()) == "2024-11-20"
    assert not list(tmp_path.iterdir())
    ledger = Project().ledger()
    for day in decided:
        at = datetime.fromisoformat(f"{day}T08:00:00Z")
        with ledger.transaction() as connection:
            ledger.prepare(connection, f"local|digest|{day}", "slack", {}, at)
        if day < "2024-11-20":
            deliver(ledger, f"local|digest|{day}", PreviewChannel("Slack"), lambda at=at: at)
    assert first_day(Project()) == first
    with ledger.transaction() as connection:
        ledger.prepare(connection, "local|digest|2021-01-04", "slack", {}, datetime(2021, 1, 4, 8, tzinfo=UTC))
    assert first_day(Project()) == "2021-01-04"  # which still waits, and is asked for

    ledger.close()
    (tmp_path / "ledger.sqlite").write_text("damaged")
    for log in tmp_path.glob("ledger.sqlite-*"):
        log.unlink()
    assert first_day(Project()) == FIRST_DIGEST  # the code location loads


def test_catalog_is_compared_once_a_day(definitions: dg.Definitions) -> None:
    graph = definitions.resolve_asset_graph()
    asked = {
        job.name
        for job in automation.JOBS
        if automation.CATALOGUE in job.selection.resolve_checks(graph)  # type: ignore[attr-defined]
    }
    assert asked == {"daily_job"}


def test_published_copy_is_overdue_when_the_data_would_be_stale(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEADROOM_STALE_AFTER_HOURS", "3")
    policy = specs(headroom())["published_copy"].freshness_policy
    assert policy == dg.FreshnessPolicy.time_window(fail_window=timedelta(hours=3))


def _checks(definitions: dg.Definitions) -> set[dg.AssetCheckKey]:
    return set(definitions.resolve_asset_graph().asset_check_keys)


def test_schedules_start_by_themselves_only_in_production(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for env, status in (
        ("local", dg.DefaultScheduleStatus.STOPPED),
        ("production", dg.DefaultScheduleStatus.RUNNING),
    ):
        monkeypatch.setenv("HEADROOM_ENV", env)
        repository = headroom().get_repository_def()
        assert {schedule.name: schedule.default_status for schedule in repository.schedule_defs} == {
            "daily_schedule": status,
            "hourly_schedule": status,
            "alerts_schedule": status,
            "waiting_digests_schedule": status,
            "waiting_usage_schedule": status,
            "closing_invoices_schedule": status,
        }


def test_sensor_that_sends_starts_by_itself_only_in_production(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for env, status in (
        ("local", dg.DefaultSensorStatus.STOPPED),
        ("production", dg.DefaultSensorStatus.RUNNING),
    ):
        monkeypatch.setenv("HEADROOM_ENV", env)
        sensors = {sensor.name: sensor.default_status for sensor in headroom().get_repository_def().sensor_defs}
        assert sensors == {
            "landing_sensor": dg.DefaultSensorStatus.RUNNING,
            "interrupted_runs_sensor": dg.DefaultSensorStatus.RUNNING,
            "heartbeat_sensor": dg.DefaultSensorStatus.STOPPED,  # HEADROOM_HEARTBEAT_URL is not set
            "run_failure_alert_sensor": dg.DefaultSensorStatus.RUNNING,
            "notices_sensor": status,
            "dispositions_sensor": status,
            "history_sensor": dg.DefaultSensorStatus.RUNNING,
            "stripe_errors_sensor": status,
        }


def test_digest_is_due_at_8am_of_the_business_zone(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEADROOM_TIMEZONE", "America/New_York")
    schedule = headroom().get_repository_def().get_schedule_def("daily_schedule")
    assert (schedule.cron_schedule, schedule.execution_timezone) == ("0 8 * * *", "America/New_York")


def test_daily_schedule_asks_for_the_day_that_begins(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEADROOM_TIMEZONE", "Pacific/Auckland")
    due = datetime(2024, 11, 20, 19, 0, tzinfo=UTC)
    monkeypatch.setenv("HEADROOM_NOW", due.isoformat())
    repository = headroom().get_repository_def()
    schedule = repository.get_schedule_def("daily_schedule")
    with dg.DagsterInstance.ephemeral() as instance:
        # the second one is of a morning before the first digest, caught up with
        for scheduled_at in (due, due - timedelta(days=1)):
            context = dg.build_schedule_context(
                instance=instance, repository_def=repository, scheduled_execution_time=scheduled_at
            )
            requests = schedule.evaluate_tick(context).run_requests
            assert requests
            assert [(request.run_key, request.partition_key) for request in requests] == [("2024-11-21",) * 2]


def test_waiting_digest_is_tried_again_alone_and_for_its_own_day(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = datetime(2024, 11, 20, 8, 10, tzinfo=UTC)
    monkeypatch.setenv("HEADROOM_NOW", now.isoformat())
    ledger = Project().ledger()
    with ledger.transaction() as connection:
        ledger.prepare(connection, "local|digest|2024-11-20", "slack", {}, now - timedelta(minutes=10))
    repository = headroom().get_repository_def()
    schedule = repository.get_schedule_def("waiting_digests_schedule")
    with dg.DagsterInstance.ephemeral() as instance:
        context = dg.build_schedule_context(
            instance=instance, repository_def=repository, scheduled_execution_time=now, resources={"project": Project()}
        )
        [request] = schedule.evaluate_tick(context).run_requests or []
    assert request.partition_key == "2024-11-20"
    assert request.asset_selection == [dg.AssetKey("usage_digest")]


def test_dbt_is_not_imported_by_what_runs_it_in_another_process() -> None:
    looks = "import sys, orchestration.definitions; sys.exit('dbt' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", looks], check=False).returncode == 0
