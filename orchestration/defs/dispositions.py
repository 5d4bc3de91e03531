"""What people answer to alerts: read from the channels that can be asked, and copied for the models."""

from collections.abc import Callable
from datetime import datetime, timedelta
from logging import Logger

import dagster as dg

from orchestration.defs.resources import OWNERS, Project, clock
from orchestration.defs.sending import Ways
from orchestration.lake import alerts
from orchestration.ledger import decided, dispositions
from orchestration.ledger.dispositions import Kept
from orchestration.ledger.ledger import Delivery, Ledger
from orchestration.ledger.outbox import InDoubtError, RefusedError
from orchestration.messages.dispositions import KINDS, accounts_of, read
from orchestration.messages.vendor import Answering
from orchestration.usage.formatting import counted

EVERY = timedelta(minutes=15)
READ_FOR = timedelta(days=30)
"""So long after a message was sent, its thread is read."""
AT_ONCE = 25
"""Threads of one look, the next one goes on behind them. Slack allows an app of one's own some 50 requests a minute for
conversations.replies (tier 3)."""
AT_MOST = timedelta(seconds=30)
"""For which one look asks: Dagster ends a sensor after a minute."""
FAILURES = 2
"""After so many a look ends: the channel is away, or wants fewer requests."""


@dg.asset(
    group_name="ingest",
    owners=OWNERS,
    kinds={"python", "parquet"},
    description=(
        "The ledger's announced crossings and what people answered to them, as Parquet under `lake/alerts/`, for"
        " alert_outcomes and for snoozes. Replaced as a whole in each run.\n\n"
        "If it fails, run it again. You may delete the folder; the ledger is the original."
    ),
)
def raw_alerts(project: Project) -> dg.MaterializeResult[None]:
    ledger, lake, env = project.ledger(), project.lake(), project.settings.env
    announced, answers = dispositions.alerts(ledger, env), dispositions.answers(ledger, env)
    with lake.locked():
        alerts.write(lake.root, announced, answers)
    return dg.MaterializeResult(metadata={"alerts": len(announced), "answers": len(answers)})


def build_dispositions_sensor(project: Project) -> dg.SensorDefinition:
    """What people answer in the threads of alerts."""
    is_production = project.settings.is_production

    @dg.sensor(
        minimum_interval_seconds=int(EVERY.total_seconds()),
        default_status=dg.DefaultSensorStatus.RUNNING if is_production else dg.DefaultSensorStatus.STOPPED,
        description=(
            "Reads reactions and replies in the threads of alerts: 👀 contacted, ✅ won, ❌ false alarm, 💤 snooze."
            " Asks Slack about the last 30 days. The next run puts the answers into alert_outcomes. Starts no run."
        ),
    )
    def dispositions_sensor(context: dg.SensorEvaluationContext) -> dg.SensorResult:
        said, cursor = look(project, project.ways(), context.cursor or "", clock, context.log)
        return dg.SensorResult(skip_reason=said, cursor=cursor)

    return dispositions_sensor


def look(project: Project, ways: Ways, after: str, now: Callable[[], datetime], log: Logger) -> tuple[str, str]:
    """Read the threads behind that of the key `after`, as many as one look may: what came of it, and the last key.

    A thread that the channel does not give is logged, and its answers of before stay. The next look goes on behind it.
    """
    ledger, until = project.ledger(), now() + AT_MOST
    threads = dispositions.threads(ledger, project.settings.env, KINDS, now() - READ_FOR)
    ordered = [each for each in threads if each.key > after] + [each for each in threads if each.key <= after]
    count, failures, new, withdrawn, unclear = 0, 0, 0, 0, 0
    last = after
    for delivery in ordered:
        if count == AT_ONCE or failures == FAILURES or now() > until:
            break
        last = delivery.key
        try:
            found = _read(ledger, project.settings.env, ways, delivery, now())
        except (RefusedError, InDoubtError, ValueError) as error:
            failures += 1
            log.warning(f"answers to {delivery.key} not read: {error}")
            continue
        if found:
            kept, without = found
            count, unclear = count + 1, unclear + without
            new, withdrawn = new + kept.new, withdrawn + kept.withdrawn
    if unclear:
        log.info(f"{counted(unclear, 'answer')} without an account: name one, such as `won acme`")
    changed = f"{new:,} new or changed, {withdrawn:,} withdrawn, {unclear:,} without an account"
    return f"read {counted(count, 'thread')}: {changed}", last


def _read(ledger: Ledger, env: str, ways: Ways, delivery: Delivery, now: datetime) -> tuple[Kept, int] | None:
    """What a thread changed, and how many answers in it name no account. None: its channel cannot be asked.

    :raises RefusedError, InDoubtError, ValueError: the channel did not say, or is not set up.
    """
    channel = ways.channel(delivery.route)
    if not isinstance(channel, Answering):
        return None
    answers = channel.answers(delivery)
    with ledger.reading() as connection:
        message = decided.find(connection, str(delivery.message))
    accounts = accounts_of(message.content) if message else []
    said, unclear = read(answers, delivery, ledger.parts(delivery.key), accounts, now)
    return dispositions.keep(ledger, env, delivery, said, now), unclear
