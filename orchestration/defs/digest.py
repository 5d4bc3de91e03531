"""Published marts to the digest in Slack, through the ledger."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from datetime import date, datetime, timedelta
from logging import Logger
from typing import Any
from zoneinfo import ZoneInfo

import dagster as dg
from sqlalchemy.exc import SQLAlchemyError

from orchestration.billing.meter_ledger import meter_ledger
from orchestration.billing.standing import standing
from orchestration.channels.preview import accounts_in, digest_text
from orchestration.channels.slack import blocks
from orchestration.channels.slack.channel import SlackChannel
from orchestration.defs.resources import OWNERS, Project, clock
from orchestration.ledger.check import exists
from orchestration.ledger.engines import UnusableLedgerError
from orchestration.ledger.ledger import Delivery, State
from orchestration.ledger.outbox import Channel, InDoubtError, RefusedError, deliver, deliver_parts
from orchestration.ledger.users import mentions
from orchestration.messages import crossings, wording
from orchestration.messages.digest import compose_digest, digest_key, read_figures
from orchestration.messages.message import Message
from orchestration.usage.periods import digest_due_at, latest_digest_date
from orchestration.warehouse import queries

FIRST_DIGEST = "2024-01-01"
SHOWN = timedelta(days=365)
"""How far back Dagster shows the digest's days."""
STALE = "stale_data"
"""What the key of the line begins with that stands for a digest as long as the data is stale."""


def stale_key(env: str, on: str) -> str:
    return f"{env}|{STALE}|{on}"


def first_day(project: Project) -> str:
    """The day of the first digest, of the last year: with days before it Dagster shows the asset as hardly filled.

    Where the ledger does not answer it is FIRST_DIGEST: those days include all that anybody asks for.
    """
    settings = project.settings
    latest = latest_digest_date(settings.now(), settings.zone)
    if not exists(settings.ledger_url):
        return latest.isoformat()
    try:
        ledger = project.ledger()
        first = ledger.first_digest_on(settings.env, (latest - SHOWN).isoformat())
        ledger.close()
    except (UnusableLedgerError, SQLAlchemyError):
        return FIRST_DIGEST
    return min(first or latest.isoformat(), latest.isoformat())


def build_usage_digest(timezone: str, first: str = FIRST_DIGEST) -> dg.AssetsDefinition:
    """The digest asset; its partitions are days of the business zone from `first` on, the running one included."""

    @dg.asset(
        deps=["published_copy"],
        partitions_def=dg.DailyPartitionsDefinition(first, timezone=timezone, end_offset=1),
        backfill_policy=dg.BackfillPolicy.single_run(),  # one look at the ledger says what is left of any range
        group_name="messages",
        owners=OWNERS,
        kinds={"slack"},
        description=(
            "The 8am digest: accounts that crossed a threshold since the digest before, soonest cap first. One message"
            " per business day, sent once: materializing a day again, or backfilling past days, sends nothing. While"
            " the newest call is HEADROOM_STALE_AFTER_HOURS old, the data team gets a line instead, and the digest is"
            " made when newer calls are in.\n\n"
            "Without SLACK_BOT_TOKEN it is a preview: stored in the ledger and shown here. If Slack refuses, the error"
            " says what to repair; run again and the same message is sent."
        ),
    )
    def usage_digest(context: dg.AssetExecutionContext, project: Project) -> dg.MaterializeResult[None]:
        settings = project.settings
        try:
            channel = project.slack()
        except ValueError as error:
            raise dg.Failure(str(error), allow_retries=False) from None
        latest = latest_digest_date(settings.now(), settings.zone)
        days = [date.fromisoformat(key) for key in context.partition_keys]
        on = max((day for day in days if day <= latest), default=min(days))
        key = digest_key(settings.env, on.isoformat())
        deliver_waiting(project, channel, digest_key(settings.env, ""), context.log, but=key)
        before = project.ledger().delivery(key)
        if before is None:
            if on != latest:
                when = "is not due yet" if on > latest else f"is past: its crossings are in the digests up to {latest}"
                context.log.info(f"nothing sent: the digest of {on} {when}")
                return dg.MaterializeResult(metadata={"outcome": f"nothing sent: {when}"})
            quality = queries.data_quality(settings.published)
            if not quality["accounts"]:
                return dg.MaterializeResult(metadata={"outcome": "nothing sent: no account is known yet"})
            require_figures_of_the_morning(quality, on, settings.zone)
            if stale := wording.stale_line(quality, settings.stale_after_hours, on, settings.zone):
                context.log.warning(stale)
                tell_data_team(project, channel, on, stale, quality["as_of"])
                return dg.MaterializeResult(metadata={"outcome": f"nothing sent: {stale}"})
            prepare_digest(project, channel, on, context.run_id, context.log.warning)
        try:
            delivery = deliver_with_link(project, key, channel, context.log.warning)
        except (RefusedError, InDoubtError) as error:
            raise dg.Failure(str(error), metadata={"key": key}, allow_retries=False) from None
        try:
            deliver_parts(project.ledger(), key, channel, clock)
        except (RefusedError, InDoubtError) as error:
            said = f"the digest of {on} is {done(delivery)}, but not all of its replies are: {error}"
            raise dg.Failure(said, metadata={"key": key}, allow_retries=False) from None
        if before and before.state == delivery.state:
            outcome = f"already {'delivered: ' if delivery.state is State.SENT else ''}{done(delivery)}"
        else:
            outcome = done(delivery)
        context.log.info(f"digest of {on}: {outcome}\n{digest_text(delivery.payload['digest'])}")
        return dg.MaterializeResult(
            metadata={
                "outcome": outcome,
                "accounts": accounts_in(delivery.payload["digest"]),
                "replies": len(project.ledger().parts(key)),
                "key": key,
                **({"permalink": dg.MetadataValue.url(delivery.permalink)} if delivery.permalink else {}),
                "message": dg.MetadataValue.md(f"```\n{digest_text(delivery.payload['digest'])}\n```"),
            }
        )

    return usage_digest


def deliver_waiting(project: Project, channel: Channel, prefix: str, log: Logger, but: str = "") -> None:
    """Bring deliveries under `prefix` to their end that were refused or are in doubt, such as digests of earlier days:
    their crossings are in no other.

    So are replies to those that were sent. One that fails again is only logged, so that it cannot hold up today's.
    """
    ledger = project.ledger()
    for key in ledger.waiting("slack", prefix):
        if key != but:
            try:
                log.info(f"{key}: {done(deliver_with_link(project, key, channel, log.warning))}")
                deliver_parts(ledger, key, channel, clock)
            except (RefusedError, InDoubtError) as error:
                log.warning(str(error))


def deliver_with_link(project: Project, key: str, channel: Channel, warn: Callable[[str], object]) -> Delivery:
    """Deliver, and remember where people find it. A link that Slack does not give holds nothing up.

    :raises RefusedError, InDoubtError: see Channel.
    """
    ledger = project.ledger()
    delivery = deliver(ledger, key, channel, clock)
    if delivery.state is not State.SENT or delivery.permalink or not isinstance(channel, SlackChannel):
        return delivery
    try:
        link = channel.permalink(delivery)
    except RefusedError as error:
        warn(str(error))
        return delivery
    ledger.remember_permalink(key, link)
    return replace(delivery, permalink=link)


def require_figures_of_the_morning(quality: Mapping[str, Any], on: date, zone: ZoneInfo) -> None:
    """:raises dagster.Failure: the published marts are older than the digest."""
    if quality["as_of"] < digest_due_at(on, zone):
        raise dg.Failure(
            f"the digest of {on} needs marts from its morning, but these are as of {quality['as_of'].isoformat()}:"
            " run the daily job, or materialize the marts and published_copy first",
            allow_retries=False,
        )


def freeze(project: Project, notice: Message, at: datetime) -> str:
    """Write the notice, decided at `at`, into the ledger, unless one of its key is there; the key."""
    key, ledger = f"{project.settings.env}|{notice.key}", project.ledger()
    with ledger.transaction() as connection:
        if ledger.delivery(key, connection) is None:
            message, replies = blocks.notice_payloads(notice, project.settings.env, {}, project.settings.slack_files)
            ledger.prepare(connection, key, "slack", message, at, replies)
    return key


def tell_data_team(project: Project, channel: Channel, on: date, line: str, now: datetime) -> None:
    """Say, once a day, why there is no digest yet.

    :raises dagster.Failure: the line could not be delivered. The notices sensor tries again.
    """
    notice = Message(f"{STALE}|{on}", audience="data", title=f"No usage digest yet, {on}", headline=line)
    try:
        deliver(project.ledger(), freeze(project, notice, now), channel, clock)
    except (RefusedError, InDoubtError) as error:
        raise dg.Failure(f"{line} The data team could not be told: {error}", allow_retries=False) from None


def prepare_digest(project: Project, channel: Channel, on: date, run_id: str, warn: Callable[[str], object]) -> None:
    """Freeze the digest of `on` and the verdict on each of its crossings, in one transaction.

    Owners are looked up at Slack before it, those of all crossings: it is the transaction that tells which are news.
    """
    settings, ledger = project.settings, project.ledger()
    figures = read_figures(settings, ledger, on, standing(meter_ledger(settings), settings.now()))
    key = digest_key(settings.env, on.isoformat())
    as_of = figures.quality["as_of"]
    users = known_owners(project, channel, figures.crossings, warn)
    with ledger.transaction() as connection:
        if ledger.delivery(key, connection):
            return  # another run was faster
        content = compose_digest(figures, ledger, connection, settings, on, warn, run_id)
        message, replies = blocks.digest_payloads(
            content.digest, content.table, settings.env, users, settings.slack_files
        )
        ledger.prepare(connection, key, "slack", message, as_of, replies)
        ledger.record_crossings(
            connection, [crossing_row(settings.env, verdict, key, as_of) for verdict in content.verdicts]
        )
        withdrawn = [_key_columns(settings.env, each) for each in content.withdrawn]
        ledger.withdraw_crossings(connection, withdrawn, key)


def known_owners(
    project: Project, channel: Channel, rows: Iterable[Mapping[str, Any]], warn: Callable[[str], object]
) -> dict[str, str]:
    """Slack users of the rows' owners, by e-mail address. Not within a transaction: the ledger remembers them."""
    if not isinstance(channel, SlackChannel):
        return {}
    return mentions(project.ledger(), "slack", {row["owner"] for row in rows}, channel.user_id, clock(), warn)


def crossing_row(env: str, verdict: crossings.Verdict, key: str, as_of: datetime) -> dict[str, Any]:
    """A row of the ledger: the verdict, and the delivery that announces it."""
    return {
        **_key_columns(env, verdict.key),
        "crossed_at": verdict.crossed_at,
        "detected_at": as_of,
        "outcome": verdict.outcome,
        "delivery_key": key,
    }


def _key_columns(env: str, key: crossings.CrossingKey) -> dict[str, Any]:
    account_id, meter, period_start, quota, threshold = key
    return {
        "env": env,
        "account_id": account_id,
        "meter": meter,
        "period_start": period_start,
        "quota": quota,
        "threshold": threshold,
    }


def done(delivery: Delivery) -> str:
    """What became of it, in words."""
    at = f"{delivery.finished_at:%Y-%m-%d %H:%M} UTC" if delivery.finished_at else ""
    if delivery.state is State.SENT:
        return f"sent {at} ({delivery.permalink or delivery.receipt})"
    if delivery.state is State.PREVIEWED:
        return f"previewed {at}: set SLACK_BOT_TOKEN and HEADROOM_SLACK_CHANNEL to send"
    return f"{delivery.state} since {delivery.attempted_at or delivery.created_at}"
