"""Published marts to the digest in Slack, through the ledger."""

from collections.abc import Callable, Mapping, Sequence
from datetime import date, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import dagster as dg
from sqlalchemy.exc import SQLAlchemyError

from orchestration.billing.meter_ledger import meter_ledger
from orchestration.billing.standing import standing
from orchestration.channels.preview import accounts_in, digest_text
from orchestration.defs.resources import OWNERS, Project
from orchestration.defs.sending import Sent, Ways, done, is_built_in_alone, outcome
from orchestration.ledger import decided, exits
from orchestration.ledger import rules as known_rules
from orchestration.ledger.check import exists
from orchestration.ledger.engines import UnusableLedgerError
from orchestration.ledger.ledger import Ledger, State
from orchestration.ledger.outbox import DONE, OVER
from orchestration.messages import crossings, wording
from orchestration.messages.digest import compose_digest, digest_key, read_figures
from orchestration.messages.digest_message import digest_message
from orchestration.messages.message import Message
from orchestration.usage.periods import digest_due_at, latest_digest_date
from orchestration.warehouse import published_copy, queries

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
        first = decided.first_digest_on(ledger, settings.env, (latest - SHOWN).isoformat())
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
            "The 8am digest: accounts that crossed a threshold since the last digest, by the mart account_advice. One"
            " message per business day, sent once: materializing a day again or backfilling past days sends nothing."
            " While the newest call is older than HEADROOM_STALE_AFTER_HOURS, the data team gets a line instead. The"
            " digest follows once newer calls are in.\n\n"
            "Without SLACK_BOT_TOKEN it is a preview: stored in the ledger and shown here. If Slack refuses it, the"
            " error says what to repair. Run again to send the same message."
        ),
    )
    def usage_digest(context: dg.AssetExecutionContext, project: Project) -> dg.MaterializeResult[None]:
        settings, ledger = project.settings, project.ledger()
        ways = opened_ways(project, context.run_id)
        latest = latest_digest_date(settings.now(), settings.zone)
        days = [date.fromisoformat(key) for key in context.partition_keys]
        on = max((day for day in days if day <= latest), default=min(days))
        key = digest_key(settings.env, on.isoformat())
        ways.send_waiting(ledger, digest_key(settings.env, ""), context.log, but=key)
        before = {each.key: each.state for each in decided.deliveries_of(ledger, key)}
        if not decided.exists(ledger, key):
            if on != latest:
                when = "is not due yet" if on > latest else f"is past: later digests up to {latest} have its crossings"
                context.log.info(f"nothing sent: the digest of {on} {when}")
                return dg.MaterializeResult(metadata={"outcome": f"nothing sent: {when}"})
            with published_copy.reading(settings.published):  # what was checked is what is sent
                quality = queries.data_quality(settings.published)
                if not quality["accounts"]:
                    return dg.MaterializeResult(metadata={"outcome": "nothing sent: no accounts yet"})
                require_figures_of_the_morning(quality, on, settings.zone)
                if stale := wording.stale_line(quality, settings.stale_after_hours, on, settings.zone):
                    context.log.warning(stale)
                    tell_data_team(project, ways, on, stale, quality["as_of"])
                    return dg.MaterializeResult(metadata={"outcome": f"nothing sent: {stale}"})
                prepare_digest(project, ways, on, context.run_id, context.log.warning)
        sent = ways.send_message(ledger, key, context.log.warning)
        raise_errors(sent, key, f"the digest of {on}")
        said = outcome(sent)
        if before and all(before.get(each.delivery.key) == each.delivery.state for each in sent):
            is_sent = all(each.delivery.state is State.SENT for each in sent)
            said = f"already {'delivered: ' if is_sent else ''}{said}"
        digest = content_of(ledger, key)
        context.log.info(f"digest of {on}: {said}\n{digest_text(digest)}")
        links = [each.delivery.permalink for each in sent if each.delivery.permalink]
        return dg.MaterializeResult(
            metadata={
                "outcome": said,
                "accounts": accounts_in(digest),
                "replies": sum(len(ledger.parts(each.delivery.key)) for each in sent),
                "not_sent_yet": len(exits.stuck(ledger, digest_key(settings.env, ""), settings.now())),
                "key": key,
                **({"permalink": dg.MetadataValue.url(links[0])} if links else {}),
                "message": dg.MetadataValue.md(f"```\n{digest_text(digest)}\n```"),
            }
        )

    return usage_digest


def opened_ways(project: Project, run_id: str = "") -> Ways:
    """The routes and their channels, of the run that sends.

    :raises dagster.Failure: the routes or Slack are not set up as they say.
    """
    ways = project.ways(run_id)
    try:
        for route in ways.routes:
            ways.channel(route.name)
    except ValueError as error:
        raise dg.Failure(str(error), allow_retries=False) from None
    return ways


def raise_errors(sent: Sequence[Sent], key: str, what: str) -> None:
    """:raises dagster.Failure: something of the message was not sent. The other routes have theirs."""
    failed = [each for each in sent if each.error]
    if not failed:
        return
    if is_built_in_alone(sent):
        [only] = failed
        is_over = only.delivery.state in (*DONE, *OVER)
        said = (
            f"{what} is {done(only.delivery)}, but not all of its replies are: {only.error}" if is_over else only.error
        )
    else:
        said = f"{what}: " + "; ".join(f"route {each.delivery.route}: {each.error}" for each in failed)
    raise dg.Failure(said, metadata={"key": key}, allow_retries=False)


def content_of(ledger: Ledger, key: str) -> Mapping[str, Any]:
    """The content of the digest of that key."""
    with ledger.reading() as connection:
        found = decided.find(connection, key)
    assert found is not None, "it was decided"
    digest: Mapping[str, Any] = found.content["digest"]
    return digest


def require_figures_of_the_morning(quality: Mapping[str, Any], on: date, zone: ZoneInfo) -> None:
    """:raises dagster.Failure: the published marts are older than the digest."""
    if quality["as_of"] < digest_due_at(on, zone):
        raise dg.Failure(
            f"the digest of {on} needs marts from its morning, but these are as of {quality['as_of'].isoformat()}."
            " Run the daily job, or materialize the marts and published_copy first",
            allow_retries=False,
        )


def freeze(project: Project, ways: Ways, notice: Message, at: datetime) -> str:
    """Write the notice, decided at `at`, into the ledger, unless one of its key is there; the key."""
    key, ledger = f"{project.settings.env}|{notice.key}", project.ledger()
    with ledger.transaction() as connection:
        if decided.find(connection, key) is None:
            ways.freeze(ledger, connection, notice, at, {})
    return key


def tell_data_team(project: Project, ways: Ways, on: date, line: str, now: datetime) -> None:
    """Say, once a day, why there is no digest yet.

    :raises dagster.Failure: the line could not be delivered. The notices sensor tries again.
    """
    notice = Message(f"{STALE}|{on}", audience="data", title=f"No usage digest yet, {on}", headline=line)
    sent = ways.send_message(project.ledger(), freeze(project, ways, notice, now), dg.get_dagster_logger().warning)
    if errors := [each.error for each in sent if each.error]:
        said = f"{line} The message to the data team failed: {'; '.join(errors)}"
        raise dg.Failure(said, allow_retries=False)


def prepare_digest(project: Project, ways: Ways, on: date, run_id: str, warn: Callable[[str], object]) -> None:
    """Freeze the digest of `on` and the verdict on each of its crossings, in one transaction.

    Owners are looked up at the channels before it, those of all crossings: it is the transaction that tells which are
    news.
    """
    settings, ledger = project.settings, project.ledger()
    figures = read_figures(settings, ledger, on, standing(meter_ledger(settings), settings.now()))
    key = digest_key(settings.env, on.isoformat())
    as_of = figures.quality["as_of"]
    users = ways.owners(ledger, (row["owner"] for row in figures.crossings), warn)
    with ledger.transaction() as connection:
        if decided.find(connection, key):
            return  # another run was faster
        content = compose_digest(figures, ledger, connection, settings, on, warn, run_id)
        message = digest_message(content.digest, content.table)
        ways.freeze(ledger, connection, message, as_of, users, content.narrow, content.subjects)
        ledger.record_crossings(
            connection, [crossing_row(settings.env, verdict, key, as_of) for verdict in content.verdicts]
        )
        known_rules.remember(connection, settings.env, figures.rules, as_of, key)
        withdrawn = [_key_columns(settings.env, each) for each in content.withdrawn]
        ledger.withdraw_crossings(connection, withdrawn, key)


def crossing_row(env: str, verdict: crossings.Verdict, key: str, as_of: datetime) -> dict[str, Any]:
    """A row of the ledger: the verdict, and the delivery that announces it."""
    return {
        **_key_columns(env, verdict.key),
        "crossed_at": verdict.crossed_at,
        "detected_at": as_of,
        "outcome": verdict.outcome,
        "message_key": key,
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
