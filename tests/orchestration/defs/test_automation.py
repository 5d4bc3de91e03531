"""The landing sensor: one run for what landed, nothing opened, nothing asked for twice. What waits is tried again."""

import os
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import dagster as dg
import pytest

from orchestration.billing import report
from orchestration.billing.invoicing import Invoicing, SubscriptionPeriod
from orchestration.billing.meter_ledger import meter_ledger
from orchestration.billing.meters import others
from orchestration.defs.automation import build_schedules, landing_sensor
from orchestration.defs.ingest import ingest
from orchestration.defs.resources import Project
from orchestration.defs.stripe import stripe_certificates, stripe_invoices, stripe_parity, stripe_usage
from orchestration.ledger.ledger import State
from tests.orchestration.defs.installation import schedule_context
from tests.support.builders import NOW, land, make_event
from tests.support.duckdb_file import opened

PUBLISHED = datetime(2026, 11, 20, 10, tzinfo=UTC)


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.ephemeral() as ephemeral:
        yield ephemeral


def tick(instance: dg.DagsterInstance, cursor: str | None) -> dg.SensorResult | dg.SkipReason:
    context = dg.build_sensor_context(instance=instance, cursor=cursor, resources={"project": Project()})
    outcome = landing_sensor(context)
    assert isinstance(outcome, dg.SensorResult | dg.SkipReason)
    return outcome


def test_landing_sensor_asks_for_one_run_when_something_landed(data: Path) -> None:
    with dg.DagsterInstance.ephemeral() as instance:
        assert isinstance(tick(instance, None), dg.SkipReason)
        land(data / "landing", "a.ndjson", make_event())
        land(data / "landing", "b.ndjson", make_event())
        first = tick(instance, None)
        assert isinstance(first, dg.SensorResult)
        assert len(first.run_requests or []) == 1
        assert isinstance(tick(instance, first.cursor), dg.SkipReason)


def test_landing_sensor_starts_nothing_for_what_another_run_has_published(data: Path) -> None:
    """As `headroom demo` leaves it: published before the sensor has looked for the first time."""
    land(data / "landing", "a.ndjson", make_event())
    with dg.DagsterInstance.ephemeral() as instance:
        assert dg.materialize([ingest], instance=instance, resources={"project": Project()}).success
        read = tick(instance, None)
        assert isinstance(read, dg.SensorResult)
        assert read.run_requests  # and not published yet
        instance.report_runless_asset_event(dg.AssetMaterialization("published_copy"))
        published = tick(instance, None)
        assert isinstance(published, dg.SensorResult)
        assert not published.run_requests
        assert published.cursor == read.cursor
        assert published.skip_reason
        assert "published" in str(published.skip_reason.skip_message)

        land(data / "landing", "a.ndjson", make_event(), make_event())
        more = tick(instance, published.cursor)
        assert isinstance(more, dg.SensorResult)
        assert len(more.run_requests or []) == 1


def test_landing_sensor_sees_a_file_that_is_moved_in_with_an_old_time(data: Path, tmp_path: Path) -> None:
    with dg.DagsterInstance.ephemeral() as instance:
        land(data / "landing", "a.ndjson", make_event())
        first = tick(instance, None)
        assert isinstance(first, dg.SensorResult)
        old = land(tmp_path, "old.ndjson", make_event())
        os.utime(old, (1_000_000_000, 1_000_000_000))
        old.rename(data / "landing" / "old.ndjson")
        second = tick(instance, first.cursor)
        assert isinstance(second, dg.SensorResult)
        assert len(second.run_requests or []) == 1


def test_landing_sensor_leaves_what_is_still_written(data: Path) -> None:
    with dg.DagsterInstance.ephemeral() as instance:
        land(data / "landing", ".a.ndjson.part", make_event())
        land(data / "landing", "b.ndjson.part", make_event())
        assert isinstance(tick(instance, None), dg.SkipReason)


def retried(minutes: int, monkeypatch: pytest.MonkeyPatch) -> list[tuple[str | None, str | None]]:
    """(run key, partition) of what the schedule asks for so long after the digest was decided."""
    monkeypatch.setenv("HEADROOM_NOW", (NOW + timedelta(minutes=minutes)).isoformat())
    [schedule] = [each for each in build_schedules(Project()) if each.name == "waiting_digests_schedule"]
    with dg.DagsterInstance.ephemeral() as instance:
        outcome = schedule(schedule_context(instance))
    requests = [] if isinstance(outcome, dg.SkipReason) else outcome
    assert all(request.asset_selection == [dg.AssetKey("usage_digest")] for request in requests)
    return [(request.run_key, request.partition_key) for request in requests]


def test_waiting_digest_is_tried_again_more_and_more_rarely(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ledger, key = Project().ledger(), "local|digest|2026-11-20"
    assert retried(5, monkeypatch) == []
    with ledger.transaction() as connection:
        ledger.prepare(connection, key, "slack", {}, NOW, [{}])
        ledger.prepare(connection, "local|run_failure|1", "slack", {}, NOW)

    assert retried(2, monkeypatch) == []
    keys = [retried(minutes, monkeypatch) for minutes in (5, 7, 10, 15, 20, 35, 40, 75, 80)]
    assert keys == [[(f"{key}|{n}", "2026-11-20")] for n in (1, 1, 2, 2, 3, 3, 4, 4, 5)]


def test_digest_is_tried_again_until_its_replies_are_sent(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ledger, key = Project().ledger(), "local|digest|2026-11-20"
    with ledger.transaction() as connection:
        ledger.prepare(connection, key, "slack", {}, NOW, [{}])
    for name in (key, f"{key}:1"):
        assert [run_key for run_key, _ in retried(5, monkeypatch)] == [f"{key}|1"]
        delivery = ledger.delivery(name)
        assert delivery
        ledger.finish(delivery, State.SENT, NOW, "C1/17", error=None)

    assert retried(5, monkeypatch) == []


def test_waiting_digest_is_made_by_the_whole_job_when_data_is_fresh(
    data: Path, monkeypatch: pytest.MonkeyPatch, instance: dg.DagsterInstance
) -> None:
    monkeypatch.setenv("HEADROOM_NOW", (NOW + timedelta(hours=2)).isoformat())
    [schedule] = [each for each in build_schedules(Project()) if each.name == "waiting_digests_schedule"]
    ledger = Project().ledger()
    with ledger.transaction() as connection:
        ledger.prepare(connection, "local|stale_data|2026-11-20", "slack", {}, NOW)

    context = schedule_context(instance)
    publish_quality(data, hours_since_call=26)
    assert isinstance(schedule(context), dg.SkipReason)
    publish_quality(data, hours_since_call=25)
    [request] = schedule(context)
    assert (request.partition_key, request.asset_selection) == ("2026-11-20", None)
    assert request.run_key == "2026-11-20|fresh|2026-11-20T10:00:00+00:00"
    with ledger.transaction() as connection:
        ledger.prepare(connection, "local|digest|2026-11-20", "slack", {}, NOW + timedelta(hours=2))
    assert isinstance(schedule(context), dg.SkipReason)


def test_digest_whose_run_failed_is_tried_again_with_the_next_figures(
    data: Path, monkeypatch: pytest.MonkeyPatch, instance: dg.DagsterInstance
) -> None:
    monkeypatch.setenv("HEADROOM_NOW", (NOW + timedelta(hours=2)).isoformat())
    [schedule] = [each for each in build_schedules(Project()) if each.name == "waiting_digests_schedule"]
    context = schedule_context(instance)
    failed = dg.DagsterRun(
        "daily_job", status=dg.DagsterRunStatus.FAILURE, tags={"dagster/partition": "2026-11-20"}, run_id="failed"
    )
    assert isinstance(schedule(context), dg.SkipReason), "it has not failed"
    instance.add_run(failed)
    assert isinstance(schedule(context), dg.SkipReason), "nothing is published"
    publish_quality(data, hours_since_call=0, as_of="2026-11-20 07:05:00")
    assert isinstance(schedule(context), dg.SkipReason), "its figures are those from before 8am"
    publish_quality(data, hours_since_call=0)
    [request] = schedule(context)
    assert (request.run_key, request.partition_key) == ("2026-11-20|fresh|2026-11-20T10:00:00+00:00", "2026-11-20")

    instance.add_run(dg.DagsterRun("daily_job", status=dg.DagsterRunStatus.STARTED, tags=failed.tags, run_id="again"))
    assert isinstance(schedule(context), dg.SkipReason), "it is under way"


def usage_retries(
    minutes: int, monkeypatch: pytest.MonkeyPatch, assets: Sequence[str] = ("stripe_usage",)
) -> str | None:
    """The run key of what the schedule asks for so long after figures were published; None where it does not."""
    monkeypatch.setenv("HEADROOM_NOW", (PUBLISHED + timedelta(minutes=minutes)).isoformat())
    [schedule] = [each for each in build_schedules(Project()) if each.name == "waiting_usage_schedule"]
    with dg.DagsterInstance.ephemeral() as instance:
        outcome = schedule(schedule_context(instance))
    if isinstance(outcome, dg.SkipReason):
        return None
    assert outcome.asset_selection == [dg.AssetKey(name) for name in assets]
    return outcome.run_key


def test_unsent_usage_is_tried_again_within_minutes(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert usage_retries(5, monkeypatch) is None, "there is no key"
    monkeypatch.setenv("STRIPE_API_KEY", "sk_test_x")
    assert usage_retries(5, monkeypatch) is None, "nothing is published"
    publish_quality(data, hours_since_call=0)
    keys = [usage_retries(minutes, monkeypatch) for minutes in (2, 5, 7, 10, 20, 40, 59)]
    assert keys == [None, *(f"usage|2026-11-20T10:00:00+00:00|{n}" for n in (1, 1, 2, 3, 4, 4))]

    ledger = meter_ledger(Project().settings)
    ledger.remember(report.SENT_THROUGH, (PUBLISHED - timedelta(hours=1)).isoformat())
    assert usage_retries(5, monkeypatch)
    ledger.remember(report.SENT_THROUGH, PUBLISHED.isoformat())
    assert usage_retries(5, monkeypatch) is None, "all of it is at Stripe"


METERS = """
    create or replace table meters as
    from (values ('api-calls', true, {}, null), ('seats', false, true, 'seats-at-stripe'))
    as meters (meter, is_main, is_billed, stripe_meter)
"""


@pytest.mark.parametrize("is_main_billed", [True, False])
def test_unsent_usage_of_each_billed_meter_is_tried_again(
    data: Path, monkeypatch: pytest.MonkeyPatch, is_main_billed: bool
) -> None:
    monkeypatch.setenv("STRIPE_API_KEY", "sk_test_x")
    publish_quality(data, hours_since_call=0)
    with opened(data / "published.duckdb") as connection:
        connection.execute(METERS.format(is_main_billed))
    main = ["stripe_usage"] if is_main_billed else []
    assert usage_retries(5, monkeypatch, [*main, "stripe_gauges"])

    [seats] = others(Project().settings)
    meter_ledger(seats).remember(report.SENT_THROUGH, PUBLISHED.isoformat())
    assert bool(usage_retries(5, monkeypatch, main)) is is_main_billed

    end = datetime(2026, 11, 20, 14, tzinfo=UTC)
    period = SubscriptionPeriod(
        *("cus_a", "sub_1", "si_1", "price_1", "usd", end - timedelta(days=30), end, "active", False, False, None, end)
    )
    Invoicing(meter_ledger(seats)).save([period], [])
    asked = closing_runs(end + timedelta(minutes=30), monkeypatch, "stripe_gauges")
    assert asked == [f"closing stripe_gauges|2026-11-20T15|{look}" for look in ("first", "last")]


def test_main_meter_that_is_not_billed_asks_nothing_of_stripe(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STRIPE_API_KEY", "sk_test_x")
    monkeypatch.setenv("STRIPE_API_BASE", "http://127.0.0.1:9")
    with opened(data / "published.duckdb") as connection:
        connection.execute(METERS.format(False))
    assets = [stripe_usage, stripe_invoices, stripe_parity, stripe_certificates]
    with dg.DagsterInstance.ephemeral() as instance:
        result = dg.materialize(assets, instance=instance, resources={"project": Project()})
    said = {
        event.asset_key.to_user_string(): event.step_materialization_data.materialization.metadata
        for event in result.all_events
        if event.is_step_materialization and event.asset_key
    }
    for name in ("stripe_usage", "stripe_invoices", "stripe_certificates"):
        assert said[name]["outcome"].value == "nothing to do: meters.csv does not bill the main meter"


def closing_runs(at: datetime, monkeypatch: pytest.MonkeyPatch, asset: str = "stripe_certificates") -> list[str]:
    """The run keys that the schedule asks for at that moment."""
    monkeypatch.setenv("HEADROOM_NOW", at.isoformat())
    [schedule] = [each for each in build_schedules(Project()) if each.name == "closing_invoices_schedule"]
    outcome = schedule()
    if isinstance(outcome, dg.SkipReason):
        return []
    assert all(dg.AssetKey(asset) in request.asset_selection for request in outcome)
    return [str(request.run_key) for request in outcome]


def test_invoices_are_compared_twice_before_they_are_final(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert closing_runs(NOW, monkeypatch) == [], "there is no key"
    monkeypatch.setenv("STRIPE_API_KEY", "sk_test_x")
    end = datetime(2026, 11, 20, 14, tzinfo=UTC)
    period = SubscriptionPeriod(
        *("cus_a", "sub_1", "si_1", "price_1", "usd", end - timedelta(days=30), end, "active", False, False, None, end)
    )
    Invoicing(meter_ledger(Project().settings)).save([period], [])
    looks = [closing_runs(end + timedelta(minutes=minutes), monkeypatch) for minutes in (-5, 20, 25, 30, 59, 60)]
    first, last = "closing|2026-11-20T15|first", "closing|2026-11-20T15|last"
    assert looks == [[], [], [first], [first, last], [first, last], []]


def publish_quality(data: Path, hours_since_call: int, as_of: str = "2026-11-20 10:00:00") -> None:
    with opened(data / "published.duckdb") as connection:
        connection.execute(
            "create or replace table data_quality as select ?::timestamp as as_of, ? as hours_since_call",
            [as_of, hours_since_call],
        )
