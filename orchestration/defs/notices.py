"""The other messages: weekly, monthly, and critical crossings at once. One pattern: decide, freeze, send, each once.

Each asset looks at the published copy, which only a build without a failed check replaces, and at its clock: from old
figures nothing new follows. What is due is decided by the ledger, which knows what was decided before; so a run that
was missed is made good by the next one, and materializing again sends nothing.
"""

from collections.abc import Callable
from logging import Logger

import dagster as dg

from orchestration.billing.certificate_problems import CertificateProblem, certificate_problems
from orchestration.billing.meter_ledger import meter_ledger
from orchestration.billing.meters import each_meter
from orchestration.defs.account_alerts import account_alerts
from orchestration.defs.digest import STALE, crossing_row, freeze, opened_ways, raise_errors
from orchestration.defs.resources import OWNERS, Project, clock
from orchestration.defs.sending import Ways, outcome
from orchestration.ledger import decided, restored
from orchestration.ledger import rules as known_rules
from orchestration.ledger.ledger import Ledger
from orchestration.messages import critical, crossings, invoices, monthly, overdue, rules, weekly
from orchestration.messages.message import Message, of_json
from orchestration.warehouse import published_copy, queries

Decide = Callable[[Project, Ways, Callable[[str], object]], str]
"""Freeze what is due in the ledger: its key, or in words why there is nothing."""


def decide_weekly(project: Project, ways: Ways, *_: object) -> str:
    settings = project.settings
    quality = queries.data_quality(settings.published)
    changes = published_copy.query(settings.published, queries.WEEKLY_CHANGES)
    notice = weekly.weekly_message(
        changes, quality["data_through"], quality["as_of"], settings.zone, settings.account_url
    )
    return notice if isinstance(notice, str) else freeze(project, ways, notice, quality["as_of"])


def decide_monthly(project: Project, ways: Ways, *_: object) -> str:
    settings = project.settings
    quality = queries.data_quality(settings.published)
    if not quality["accounts"]:
        return "no accounts yet"
    outcomes = published_copy.query(settings.published, queries.CAP_HITS)
    alerts = published_copy.query(settings.published, queries.ALERT_OUTCOMES)
    notice = monthly.monthly_message(outcomes, quality["as_of"], settings.zone, settings.account_url, alerts)
    return freeze(project, ways, notice, quality["as_of"])


def decide_critical(project: Project, ways: Ways, warn: Callable[[str], object]) -> str:
    """The verdicts are those of the digest, recorded with the notice in one transaction: it will not tell them again.

    Without a digest before there is no memory of what is old; the first one makes it.
    """
    settings, ledger = project.settings, project.ledger()
    if not settings.critical_at_once:
        return "crossings wait for the digest: HEADROOM_CRITICAL_AT_ONCE is not set"
    if restored.copied_at(ledger, clock()):  # its key is its moment, by which none that was sent can be found
        return "crossings wait for the digest: the restored ledger does not know which were announced"
    as_of = queries.data_quality(settings.published)["as_of"]
    caps = published_copy.query(settings.published, queries.CRITICAL_HARD_LIMITS)
    rows = critical.candidates(published_copy.query(settings.published, queries.CROSSINGS), caps)
    users = ways.owners(ledger, (row["owner"] for row in rows), warn)
    with ledger.transaction() as connection:
        before = decided.last_digest_at(connection, settings.env)
        if before is None:
            return "the first digest comes first"
        announced = ledger.announced(connection, settings.env)
        on = as_of.astimezone(settings.zone).date()
        known = known_rules.known(connection, settings.env)
        news, verdicts = rules.judge(rows, announced, on, settings.zone, before, known)
        # which rules changed is the digest's to say, and so are the verdicts that follow from it
        verdicts = [verdict for verdict in verdicts if verdict.outcome is not crossings.Outcome.RULE_CHANGED]
        if not news:
            return "no hard quota was crossed since the last digest"
        notice = critical.critical_message(news, as_of, settings.zone, settings.account_url)
        key = f"{settings.env}|{notice.key}"
        if decided.find(connection, key):
            return "crossings wait for the digest: this moment already has a notice"  # the clock stands still
        ways.freeze(ledger, connection, notice, as_of, users)
        ledger.record_crossings(connection, [crossing_row(settings.env, verdict, key, as_of) for verdict in verdicts])
    return key


def build(name: str, kind: str, decide: Decide, description: str) -> dg.AssetsDefinition:
    """The asset that sends one kind of notice."""

    @dg.asset(
        name=name,
        deps=["published_copy"],
        group_name="messages",
        owners=OWNERS,
        kinds={"slack"},
        description=f"{description}\n\nSent once; without SLACK_BOT_TOKEN it is a preview, stored in the ledger.",
    )
    def notice(context: dg.AssetExecutionContext, project: Project) -> dg.MaterializeResult[None]:
        prefix, ledger, ways = f"{project.settings.env}|{kind}|", project.ledger(), opened_ways(project)
        key = decide(project, ways, context.log.warning)
        ways.send_waiting(ledger, prefix, context.log, but=key)
        if not key.startswith(prefix):
            return dg.MaterializeResult(metadata={"outcome": f"nothing sent: {key}"})
        before = {each.key: each.state for each in decided.deliveries_of(ledger, key)}
        sent = ways.send_message(ledger, key, context.log.warning)
        raise_errors(sent, key, key)
        is_repeated = bool(sent) and all(before.get(each.delivery.key) == each.delivery.state for each in sent)
        text = message_of(ledger, key)
        context.log.info(f"{key}: {outcome(sent)}\n{text}")
        return dg.MaterializeResult(
            metadata={
                "outcome": f"{'already ' if is_repeated else ''}{outcome(sent)}",
                "key": key,
                "message": dg.MetadataValue.md(f"```\n{text}\n```"),
            }
        )

    return notice


weekly_digest = build(
    "weekly_digest",
    "weekly",
    decide_weekly,
    "The accounts whose usage changed in the last complete ISO week, for customer success: dropping, dormant,"
    " growing, new. From weekly_changes, due at the first 8am after the week.",
)
monthly_digest = build(
    "monthly_digest",
    "monthly",
    decide_monthly,
    "Outcomes of the accounts that reached their quota in the last usage period, and of the month's alerts, for sales."
    " From cap_hit_outcomes and alert_outcomes, due at the first 8am of a month.",
)
critical_alert = build(
    "critical_alert",
    "critical",
    decide_critical,
    "Critical crossings of hard quotas, hourly, if HEADROOM_CRITICAL_AT_ONCE is set. Calls are refused, or will be"
    " within a day. The next digest marks them as alerted.",
)


@dg.asset(
    deps=["stripe_certificates"],
    group_name="billing",
    owners=OWNERS,
    kinds={"slack"},
    description=(
        "Differences between invoices and counts, for finance: one message for each customer, period and difference."
        " Goes to HEADROOM_SLACK_CHANNEL_FINANCE, or else to the data team's channel.\n\n"
        "Sent once, and again only if the figures change. Without SLACK_BOT_TOKEN it is a preview, stored in the"
        " ledger."
    ),
)
def invoice_differences(context: dg.AssetExecutionContext, project: Project) -> dg.MaterializeResult[None]:
    ways = opened_ways(project)
    differences = tell_invoice_differences(project, ways, context.log)
    waiting = project.ledger().waiting(f"{project.settings.env}|{invoices.KIND}|")
    return dg.MaterializeResult(metadata={"differences": differences, "not_sent_yet": len(waiting)})


def tell_invoice_differences(project: Project, ways: Ways, log: Logger) -> int:
    """Freeze a message for each difference that has none yet, and send what was not sent; how many there are."""
    ledger, now = project.ledger(), clock()
    found = [each for one in each_meter(project.settings) for each in certificate_problems(meter_ledger(one), now)]
    keys = [freeze(project, ways, _invoice_message(each), now) for each in found]
    for key in keys:
        for sent in ways.send_message(ledger, key, log.warning):
            if sent.error:
                log.warning(sent.error)
    ways.send_waiting(ledger, f"{project.settings.env}|{invoices.KIND}|", log)
    return len(found)


def message_of(ledger: Ledger, key: str) -> str:
    """The message of that key as plain lines."""
    with ledger.reading() as connection:
        found = decided.find(connection, key)
    if found is None or "title" not in found.content:  # of a version before routes
        return ""
    message = of_json(found.content)
    return "\n".join([message.title, *message.lines])


def _invoice_message(problem: CertificateProblem) -> Message:
    return invoices.invoice_message(
        problem.key,
        problem.stripe_customer_id,
        (problem.period_start, problem.period_end),
        problem.invoice_ids,
        problem.units,
        problem.invoice_units,
        problem.money,
        problem.cause,
        problem.advice,
    )


BY_KIND = {
    "weekly": weekly_digest,
    "monthly": monthly_digest,
    "critical": critical_alert,
    "crossing": account_alerts,
}
"""The assets that send notices, by what their keys begin with. Jobs and the code location take them from here."""
KINDS = (*BY_KIND, "limit_hit", invoices.KIND, "run_failure", "failing", overdue.KIND, STALE)
"""What any notice's key begins with."""
