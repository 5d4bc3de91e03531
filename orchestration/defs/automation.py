"""Every job, schedule and sensor.

Jobs run numbers and deliveries together, so that a failed check stops what would be sent. Schedules that have an
effect on others start by themselves in production only; elsewhere they are visible and switched on by hand.
"""

import hashlib
from collections.abc import Sequence
from datetime import date, timedelta

import dagster as dg

from orchestration.billing import needs, reconcile, report
from orchestration.billing.meter import StoppedError
from orchestration.billing.meter_ledger import meter_ledger
from orchestration.billing.meters import each_meter, is_main_billed, others
from orchestration.channels.stripe import connect_meter
from orchestration.defs import interrupted
from orchestration.defs.account_alerts import is_wanted_at_once
from orchestration.defs.alerts import run_failure_alert_sensor, tell_what_fails, tell_what_is_overdue
from orchestration.defs.digest import first_day, stale_key
from orchestration.defs.dispositions import build_dispositions_sensor
from orchestration.defs.heartbeat import build_heartbeat_sensor
from orchestration.defs.history import history_sensor
from orchestration.defs.notices import BY_KIND, KINDS
from orchestration.defs.resources import Project, clock
from orchestration.defs.retries import EVERY, retries_due
from orchestration.lake.remembered import Asked
from orchestration.lake.sources import SourceFile
from orchestration.ledger import decided
from orchestration.ledger.check import exists
from orchestration.ledger.engines import BusyError
from orchestration.ledger.landed import LandedFiles
from orchestration.messages.digest import digest_key
from orchestration.messages.wording import is_stale
from orchestration.settings import Settings
from orchestration.usage.formatting import counted
from orchestration.usage.periods import DIGEST_HOUR, digest_due_at, latest_digest_date
from orchestration.warehouse import queries
from orchestration.warehouse.published_copy import NothingPublishedError

INGEST = dg.AssetSelection.groups("ingest")
MODELS = dg.AssetSelection.kind("dbt") | dg.AssetSelection.assets("published_copy")
"""Whatever groups the dbt project sorts its models into."""
DIGEST = dg.AssetSelection.assets("usage_digest")
STRIPE = dg.AssetSelection.assets(
    *("stripe_usage", "stripe_invoices", "stripe_parity", "stripe_certificates", "stripe_gauges"),
    "invoice_differences",
)
READ, PUBLISHED = dg.AssetKey("raw_events"), dg.AssetKey("published_copy")
CLOSING = ("stripe_invoices", "stripe_parity", "stripe_certificates", "invoice_differences")
"""What compares with Stripe and invoices, without new figures."""
CATALOGUE = dg.AssetCheckKey(dg.AssetKey("stripe_usage"), "catalogue_at_stripe")
"""Once a day: it reads all subscriptions."""
POSTGRES = dg.AssetSelection.assets("postgres_tables")
PAGES = dg.AssetSelection.kind("html")
"""By its kind, for the asset is there only where HEADROOM_PAGES_EXPORT is set."""
NOTICES = dg.AssetSelection.assets(*BY_KIND.values())
ALERTS = dg.AssetSelection.assets("account_alerts", "critical_alert")

refresh_job = dg.define_asset_job(
    "refresh_job",
    INGEST | MODELS,
    description="Reads landed files into the published marts. Sends nothing.",
    tags=interrupted.RUNTIME_TAG,
)
hourly_job = dg.define_asset_job(
    "hourly_job",
    (INGEST | MODELS | STRIPE | NOTICES | POSTGRES | PAGES) - dg.AssetSelection.checks(CATALOGUE),
    description="Counts the usage, reports closed hours to Stripe, and sends the notices that are due.",
    tags=interrupted.RUNTIME_TAG,
)
daily_job = dg.define_asset_job(
    "daily_job",
    INGEST | MODELS | STRIPE | DIGEST | POSTGRES | PAGES,
    description="The whole job: counts the usage, reports it to Stripe, sends the digest.",
    tags=interrupted.RUNTIME_TAG,
)
alerts_job = dg.define_asset_job(
    "alerts_job",
    INGEST | MODELS | ALERTS,
    description="Counts the usage and sends the alerts that do not wait: crossings, limit hits, critical ones.",
    tags=interrupted.RUNTIME_TAG,
)
RETRY_MINUTES = EVERY // timedelta(minutes=1)

ALERT_MINUTES = 15
JOBS = [refresh_job, alerts_job, hourly_job, daily_job]


def build_schedules(project: Project) -> list[dg.ScheduleDefinition]:
    """8am in the business zone; five past every hour, when the hour before is closed; what waits, ever more rarely."""
    settings = project.settings
    status = dg.DefaultScheduleStatus.RUNNING if settings.is_production else dg.DefaultScheduleStatus.STOPPED
    first = first_day(project)

    def reporters() -> dict[str, list[Settings]]:
        """By asset, the settings of the meters that it reports."""
        main = [settings] if is_main_billed(settings) else []
        return {"stripe_usage": main, "stripe_gauges": others(settings)}

    @dg.schedule(
        job=daily_job,
        cron_schedule=f"0 {DIGEST_HOUR} * * *",
        execution_timezone=settings.timezone,
        default_status=status,
        description="Sends the digest of the day, at 8am of the business zone.",
    )
    def daily_schedule(context: dg.ScheduleEvaluationContext) -> dg.RunRequest:
        on = context.scheduled_execution_time.astimezone(settings.zone).date().isoformat()
        on = max(on, first)  # a missed morning before the first digest: what it would have said is in that one
        return dg.RunRequest(run_key=on, partition_key=on)

    hourly_schedule = dg.ScheduleDefinition(
        name="hourly_schedule",
        job=hourly_job,
        cron_schedule="5 * * * *",
        execution_timezone="UTC",
        default_status=status,
        description="Reports closed hours each hour, and sends the weekly and monthly digest after 8am of their day.",
    )

    @dg.schedule(
        job=alerts_job,
        cron_schedule=f"*/{ALERT_MINUTES} * * * *",
        execution_timezone="UTC",
        default_status=status,
        description=(
            "Looks for crossings and limit hits every 15 minutes, where a route of routes.toml takes them at once."
        ),
    )
    def alerts_schedule(context: dg.ScheduleEvaluationContext) -> dg.RunRequest | dg.SkipReason:
        if not is_wanted_at_once(project.ways().even_without_file().routes):
            return dg.SkipReason("no route takes crossing or limit_hit at once")
        if any(interrupted.is_under_way(context.instance, job.name, clock()) for job in (alerts_job, hourly_job)):
            return dg.SkipReason("a run is under way")
        return dg.RunRequest()

    @dg.schedule(
        job=daily_job,
        cron_schedule=f"*/{RETRY_MINUTES} * * * *",
        execution_timezone="UTC",
        default_status=status,
        description=(
            "Retries digests and replies in their threads that Slack refused or that are in doubt. Tries 5, 10,"
            " 20, 40… minutes after they were decided. Also runs the whole job again if the digest waits for fresh"
            " data or its run failed. It does so with each new figures, until the digest is decided."
        ),
    )
    def waiting_digests_schedule(context: dg.ScheduleEvaluationContext) -> list[dg.RunRequest] | dg.SkipReason:
        ledger, prefix, now = project.ledger(), digest_key(settings.env, ""), settings.now()
        requests: list[dg.RunRequest] = []
        for delivery in filter(None, map(ledger.delivery, ledger.waiting(prefix))):
            on = delivery.key.removeprefix(prefix).partition("|")[0]
            retry = retries_due(delivery.created_at, now)
            if retry and on not in {request.partition_key for request in requests}:
                requests.append(
                    dg.RunRequest(
                        run_key=f"{prefix}{on}|{retry}",
                        partition_key=on,
                        asset_selection=[dg.AssetKey("usage_digest")],
                    )
                )
        on = latest_digest_date(now, settings.zone).isoformat()
        if not decided.exists(ledger, digest_key(settings.env, on)) and (
            decided.exists(ledger, stale_key(settings.env, on)) or _has_failed(context.instance, on)
        ):
            try:
                quality = queries.data_quality(settings.published)
            except NothingPublishedError:
                return requests or dg.SkipReason("nothing is published yet")
            is_of_the_day = quality["as_of"] >= digest_due_at(date.fromisoformat(on), settings.zone)
            if is_of_the_day and not is_stale(quality, settings.stale_after_hours):
                requests.append(dg.RunRequest(run_key=f"{on}|fresh|{quality['as_of'].isoformat()}", partition_key=on))
        return requests or dg.SkipReason("no digest is waiting")

    @dg.schedule(
        job=hourly_job,
        cron_schedule=f"*/{RETRY_MINUTES} * * * *",
        execution_timezone="UTC",
        default_status=status,
        description=(
            "Retries usage that Stripe does not have yet, because it did not answer or the run was killed. Tries 5,"
            " 10, 20 and 40 minutes after the figures were published, long before an invoice is final."
        ),
    )
    def waiting_usage_schedule(context: dg.ScheduleEvaluationContext) -> dg.RunRequest | dg.SkipReason:
        if not settings.stripe_api_key:
            return dg.SkipReason("STRIPE_API_KEY is not set")
        try:
            as_of = queries.data_quality(settings.published)["as_of"]
            behind = [name for name, of in reporters().items() if any(map(report.is_behind, of))]
        except NothingPublishedError:
            return dg.SkipReason("nothing is published yet")
        retry = retries_due(as_of, settings.now())
        if not (behind and retry):
            return dg.SkipReason("all usage is at Stripe")
        if interrupted.is_under_way(context.instance, hourly_job.name, clock()):
            return dg.SkipReason("a run is under way")
        return dg.RunRequest(
            run_key=f"usage|{as_of.isoformat()}|{retry}", asset_selection=[dg.AssetKey(name) for name in behind]
        )

    @dg.schedule(
        job=hourly_job,
        cron_schedule=f"*/{RETRY_MINUTES} * * * *",
        execution_timezone="UTC",
        default_status=status,
        description=(
            "Compares counts with Stripe twice before invoices become final: soon after the period's end, and half an"
            " hour before. Needed with a grace period of one hour, which is too short for the hourly run."
        ),
    )
    def closing_invoices_schedule() -> list[dg.RunRequest] | dg.SkipReason:
        if not settings.stripe_api_key:
            return dg.SkipReason("STRIPE_API_KEY is not set")
        requests = []
        for name, of in reporters().items():
            looks = {look for each in of for look in needs.closing_looks(each, meter_ledger(each), settings.now())}
            kind, assets = ("closing", CLOSING) if name == "stripe_usage" else (f"closing {name}", {name})
            keys = [dg.AssetKey(asset) for asset in assets]
            requests += [dg.RunRequest(run_key=f"{kind}|{look}", asset_selection=keys) for look in sorted(looks)]
        return requests or dg.SkipReason("no invoice is about to become final")

    return [
        daily_schedule,
        hourly_schedule,
        alerts_schedule,
        waiting_digests_schedule,
        waiting_usage_schedule,
        closing_invoices_schedule,
    ]


def _has_failed(instance: dg.DagsterInstance, on: str) -> bool:
    """Whether the newest run for the digest of that day failed."""
    of_day = dg.RunsFilter(job_name=daily_job.name, tags={"dagster/partition": on})
    return any(run.status is dg.DagsterRunStatus.FAILURE for run in instance.get_runs(filters=of_day, limit=1))


@dg.sensor(
    job=refresh_job,
    minimum_interval_seconds=30,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description=(
        "Starts refresh_job when new files have landed and no refresh is running. The cursor identifies the files"
        " that it saw; the sensor opens none of them."
    ),
)
def landing_sensor(context: dg.SensorEvaluationContext, project: Project) -> dg.SensorResult | dg.SkipReason:
    found, _ = project.landing().scan()
    seen = hashlib.sha256(repr(found).encode()).hexdigest()
    if not found or seen == context.cursor:
        return dg.SkipReason("nothing landed since the last check")
    if is_all_published(project, context.instance, found):
        return dg.SensorResult(skip_reason="all landed files are read and published", cursor=seen)
    if interrupted.is_under_way(context.instance, refresh_job.name, clock()):
        return dg.SkipReason("new files landed; a refresh is running, and the next one reads them")
    return dg.SensorResult(run_requests=[dg.RunRequest(run_key=seen)], cursor=seen)


def is_all_published(project: Project, instance: dg.DagsterInstance, found: Sequence[SourceFile]) -> bool:
    """Whether other runs, such as those of `headroom run`, have read these files to their ends and published since."""
    read, published = map(instance.get_latest_materialization_event, (READ, PUBLISHED))
    if not (read and published and read.timestamp <= published.timestamp and exists(project.settings.ledger_url)):
        return False
    ledger = project.ledger()
    stamps = Asked(LandedFiles(ledger)).stamps()
    ledger.close()
    known = ((stamps.get(file.path), file) for file in found)
    return all(stamp and stamp.is_complete and stamp.is_of(file) for stamp, file in known)


@dg.sensor(
    jobs=JOBS,
    minimum_interval_seconds=30,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description=(
        "Closes runs whose process was killed or stopped with its machine. Dagster would show them as started"
        " indefinitely and keep their place in the queue. Starts each once more, unless its job has started since."
    ),
)
def interrupted_runs_sensor(context: dg.SensorEvaluationContext, project: Project) -> dg.SensorResult | dg.SkipReason:
    for run in interrupted.close(project.settings.runs, context.instance, clock()):
        context.log.warning(f"closed run {run.run_id} of {run.job_name}, whose process is gone")
    jobs = [job.name for job in JOBS]
    requests, known = interrupted.to_start_again(context.instance, jobs, context.cursor, clock())
    reason = None if requests else "no run was interrupted"
    return dg.SensorResult(run_requests=requests or None, skip_reason=reason, cursor=known)


def build_sensors(project: Project) -> list[dg.SensorDefinition]:
    """What lands, what fails, what waits."""
    settings = project.settings
    is_production = settings.is_production

    @dg.sensor(
        minimum_interval_seconds=300,
        default_status=dg.DefaultSensorStatus.RUNNING if is_production else dg.DefaultSensorStatus.STOPPED,
        description=(
            "Retries notices that Slack refused or that are in doubt. Alerts the data team if no hourly run succeeds"
            " for two hours, or if the digest is missing. Each morning it lists the jobs that still fail. Starts no"
            " run."
        ),
    )
    def notices_sensor(context: dg.SensorEvaluationContext) -> dg.SkipReason:
        ways, ledger = project.ways().even_without_file(), project.ledger()
        for kind in KINDS:
            ways.send_waiting(ledger, f"{settings.env}|{kind}|", context.log)
        tell_what_fails(project, context.instance, [job.name for job in JOBS])
        tell_what_is_overdue(project, context.instance, clock())
        return dg.SkipReason("notices never start a run")

    @dg.sensor(
        minimum_interval_seconds=300,
        default_status=dg.DefaultSensorStatus.RUNNING if is_production else dg.DefaultSensorStatus.STOPPED,
        description=(
            "Reads Stripe's error events: usage that Stripe accepted, then found no customer or meter for. Marks the"
            " reports as refused, and the check billed_as_counted lists them. Starts no run and needs no webhook."
        ),
    )
    def stripe_errors_sensor(context: dg.SensorEvaluationContext) -> dg.SkipReason:
        if not settings.stripe_api_key:
            return dg.SkipReason("STRIPE_API_KEY is not set")
        try:
            each_told = [reconcile.note_rejections(each, connect_meter, clock) for each in each_meter(settings)]
        except (BusyError, StoppedError) as error:
            return dg.SkipReason(f"not checked: {error}")
        told = [sentence for each in each_told for sentence in each]
        for sentence in told:
            context.log.error(sentence)
        return dg.SkipReason(f"{counted(len(told), 'rejection')} since the last check")

    return [
        landing_sensor,
        interrupted_runs_sensor,
        run_failure_alert_sensor,
        notices_sensor,
        build_dispositions_sensor(project),
        build_heartbeat_sensor(project),
        stripe_errors_sensor,
        history_sensor,
    ]
