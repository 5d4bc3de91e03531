"""Usage to Stripe, and the comparison of what Stripe took with what it shows."""

from collections.abc import Iterator

import dagster as dg

from orchestration.billing import catalog, certify, reconcile, report
from orchestration.billing.certificate_problems import CertificateProblem, certificate_problems
from orchestration.billing.meter import StoppedError
from orchestration.billing.meter_ledger import meter_ledger
from orchestration.billing.meters import each_meter, is_main_billed
from orchestration.billing.read_credit import read_credit
from orchestration.billing.read_invoices import read_invoices
from orchestration.billing.report import ReportResult
from orchestration.billing.reporter import SendResult
from orchestration.billing.revisions import Report
from orchestration.billing.standing import standing
from orchestration.channels.stripe import connect_credits, connect_invoices, connect_meter, connect_products
from orchestration.defs.resources import OWNERS, Project, clock
from orchestration.ledger.engines import BusyError
from orchestration.ledger.outbox import RefusedError
from orchestration.usage.standing import Standing
from orchestration.warehouse.published_copy import NothingPublishedError

LISTED = 50
"""Hours that are listed one by one; `headroom stripe problems` has all."""
NOT_BILLED = "nothing to do: meters.csv does not bill the main meter"
AS_EVER = "1"
"""Their data is not versioned, as that of published_copy is not: a run of some of them leaves the rest in sync."""


class StripeRun(dg.Config):
    """What people decide for one run."""

    approve: str = ""
    """The code of what waits for approval, as `headroom stripe plan` shows it: sends it."""
    retry_refused: bool = False
    """Sends again what Stripe refused less than a day ago, after a repair."""


@dg.asset(
    deps=["published_copy"],
    code_version=AS_EVER,
    group_name="billing",
    owners=OWNERS,
    kinds={"stripe"},
    description=(
        "Reports usage to Stripe: the billable units of each customer and closed UTC hour. Headroom first records"
        " the difference between the marts and the ledger, then sends each hour once. It sends an hour again only"
        " if its total changed. Refused reports are listed and retried after a day.\n\n"
        "If it fails, no usage is lost. The message says what to do, and waiting_usage_schedule tries again within"
        " minutes. A customer without an answer from Stripe does not delay the others.\n\n"
        "Some usage waits for approval, and the rest is sent. Causes are a correction above the limits, a customer"
        " without an account, and an unusually large hour. Look at `headroom stripe plan`, then launch this asset"
        " with `approve` in its config.\n\n"
        "Without STRIPE_API_KEY it is a preview: recorded, not sent. Accounts without a Stripe customer are"
        " counted here and listed in utilization_mtd."
    ),
)
def stripe_usage(context: dg.AssetExecutionContext, config: StripeRun, project: Project) -> dg.MaterializeResult[None]:
    def progress(sent: SendResult) -> None:
        context.log.info(f"{sent.taken:,} reports taken, {sent.refused:,} refused, {sent.in_doubt:,} in doubt")

    if not is_main_billed(project.settings):
        return dg.MaterializeResult(metadata={"outcome": NOT_BILLED})
    try:
        outcome = report.report_usage(
            project.settings, connect_meter, clock, config.approve, config.retry_refused, progress
        )
    except BusyError as error:
        return dg.MaterializeResult(metadata={"outcome": f"nothing sent: {error}, and sends what is new"})
    except (StoppedError, RefusedError, ValueError) as error:
        raise dg.Failure(str(error), allow_retries=False) from None
    metadata = _figures(outcome)
    if outcome.planned.waiting.question:
        context.log.warning(outcome.planned.waiting.question)
    if outcome.alarm:
        raise dg.Failure(f"{outcome.alarm}.", metadata=metadata, allow_retries=False)
    if outcome.sent and outcome.sent.stopped:
        raise dg.Failure(
            f"{outcome.sent.stopped}. The ledger keeps the rest, and the next run sends it.",
            metadata=metadata,
            allow_retries=False,
        )
    return dg.MaterializeResult(metadata=metadata)


def _figures(outcome: ReportResult) -> dict[str, dg.MetadataValue]:
    planned, sent = outcome.planned, outcome.sent
    change, (start, end) = planned.change, planned.window
    figures = {
        "outcome": "sent" if sent else "previewed: set STRIPE_API_KEY to send",
        "reports": change.reports,
        "customers": len(change.hours),
        "units": change.net_units,
        "corrected_units": change.corrected_units,
        "corrected_customers": len(change.corrected_customers),
        "units_waiting_for_approval": planned.waiting.units,
        "too_late": change.held,
        "units_in_window": planned.units,
        "units_without_customer": planned.unbilled_units,
        "window": f"{start.isoformat()} to {end.isoformat()}",
    }
    if planned.waiting.question:
        figures |= {"approval": planned.waiting.question}
    if sent:
        figures |= {"taken": sent.taken, "refused": sent.refused, "in_doubt": sent.in_doubt}
        figures |= {"refusals": "\n".join(f"{r.place}: {r.error}" for r in sent.refusals)} if sent.refusals else {}
    return {
        name: dg.MetadataValue.text(v) if isinstance(v, str) else dg.MetadataValue.int(v) for name, v in figures.items()
    }


@dg.asset(
    deps=["stripe_usage"],
    code_version=AS_EVER,
    group_name="billing",
    owners=OWNERS,
    kinds={"stripe"},
    check_specs=[
        dg.AssetCheckSpec(
            "billed_as_counted",
            asset="stripe_parity",
            description=(
                "Stripe bills every customer-hour as counted. Fails for hours that Stripe refused, that came too"
                " late, or whose total at Stripe differs. Each problem says why and what to do.\n\n"
                "`headroom stripe problems` lists them with their money, and `headroom stripe settle` marks one as"
                " resolved. Hours that are not sent or not confirmed yet do not fail the check; the metadata counts"
                " them."
            ),
        )
    ],
    description=(
        "Compares the reports with the hourly totals that Stripe shows later, in whole units. This finds losses that"
        " Stripe did not report: for a deleted customer it answers 200. The longest-waiting hours come first, at most"
        " HEADROOM_STRIPE_READS_PER_DAY a day. A missing total is sent once more."
    ),
)
def stripe_parity(
    context: dg.AssetExecutionContext, project: Project
) -> Iterator[dg.MaterializeResult[None] | dg.AssetCheckResult]:
    try:
        is_billed = is_main_billed(project.settings)
        looked = reconcile.look_back(project.settings, connect_meter, clock) if is_billed else None
    except BusyError as error:
        context.log.info(f"not compared: {error}")
        looked = None
    except (StoppedError, ValueError) as error:
        raise dg.Failure(str(error), allow_retries=False) from None
    ledger = meter_ledger(project.settings)
    problems, counted = ledger.problems(LISTED + 1), standing(ledger)
    figures = {}
    if looked:
        names = ("confirmed", "waiting", "lost", "mismatched", "reads", "customers_left")
        figures = {name: dg.MetadataValue.int(getattr(looked, name)) for name in names}
        if looked.stopped:
            context.log.warning(looked.stopped)
    yield dg.MaterializeResult(metadata=figures)
    yield dg.AssetCheckResult(
        passed=not problems,
        severity=dg.AssetCheckSeverity.ERROR,
        metadata={
            "hours": f"more than {LISTED}" if len(problems) > LISTED else str(len(problems)),
            **(_under_way(counted) if counted else {}),
            **({"problems": _listed(problems[:LISTED])} if problems else {}),
        },
    )


@dg.asset(
    deps=["published_copy"],
    code_version=AS_EVER,
    group_name="billing",
    owners=OWNERS,
    kinds={"stripe"},
    description=(
        "Reads Stripe's subscription periods and the meter's invoice lines into the ledger, with the time when"
        " each invoice becomes final. Reads all subscriptions once a day, and in each run those whose period just"
        " ended. Reads invoices from the oldest that is not final. Reads prepaid credit once a day.\n\n"
        "Subscription periods have priority over the accounts' own: the period in which an hour begins bills its"
        " usage.\n\n"
        "If it fails, it saves nothing and the next run reads again; the message says what to do. The key needs"
        " permission to read subscriptions and invoices."
    ),
)
def stripe_invoices(context: dg.AssetExecutionContext, project: Project) -> dg.MaterializeResult[None]:
    if project.settings.stripe_api_key and not is_main_billed(project.settings):
        return dg.MaterializeResult(metadata={"outcome": NOT_BILLED})
    try:
        look = read_invoices(project.settings, connect_meter, connect_invoices, clock)
    except BusyError as error:
        return dg.MaterializeResult(metadata={"outcome": f"not read: {error}"})
    except (StoppedError, ValueError) as error:
        raise dg.Failure(str(error), allow_retries=False) from None
    if look is None:
        return dg.MaterializeResult(metadata={"outcome": "not read: STRIPE_API_KEY is not set"})
    try:
        read_credit(project.settings, connect_credits, clock)
    except (StoppedError, RefusedError, ValueError, NothingPublishedError) as error:
        context.log.warning(f"prepaid credit not read: {error}")
    left = "HEADROOM_STRIPE_READS_PER_DAY is used up for today" if look.is_left else "read"
    figures = {"changed_periods": look.periods, "lines": look.lines, "requests": look.requests}
    return dg.MaterializeResult(metadata={"outcome": left, **figures})


@dg.asset(
    deps=["stripe_invoices", "stripe_parity"],
    code_version=AS_EVER,
    group_name="billing",
    owners=OWNERS,
    kinds={"stripe"},
    check_specs=[
        dg.AssetCheckSpec(
            "invoiced_as_counted",
            asset="stripe_certificates",
            description=(
                "Every customer's period is invoiced as counted. Each difference says why, what to do, and until"
                " when. `headroom stripe problems` lists them with the hours, and `headroom stripe settle` marks one"
                " as resolved."
            ),
        )
    ],
    description=(
        "For each customer whose subscription period ended within the last 34 days: whether the invoice has the"
        " counted usage.\n\n"
        "Compares counts, reports and Stripe's meter twice: soon after the period's end, and within an hour of the"
        " final invoice. Differences can still be repaired then. Once the invoice is final, its lines are compared"
        " by units and amount. If all are equal, the period is certified; later usage opens it again.\n\n"
        "Also lists usage that no subscription bills. `headroom stripe statement` prints a customer's certificate."
    ),
)
def stripe_certificates(
    context: dg.AssetExecutionContext, project: Project
) -> Iterator[dg.MaterializeResult[None] | dg.AssetCheckResult]:
    settings = project.settings
    is_billed = settings.stripe_api_key is None or is_main_billed(settings)
    try:
        compared = certify.certify(settings, connect_meter, clock) if is_billed else None
        outcome = (
            NOT_BILLED if not is_billed else "compared" if compared else "previewed: set STRIPE_API_KEY to compare"
        )
    except BusyError as error:
        compared, outcome = None, f"not compared: {error}"
    except (StoppedError, ValueError) as error:
        raise dg.Failure(str(error), allow_retries=False) from None
    figures = {}
    if compared:
        figures = {"certified": compared.certified, "open": len(compared.open), "awaiting": len(compared.awaiting)}
        figures |= {"reads": compared.reads, "left_for_later": compared.left}
        if compared.stopped:
            context.log.warning(compared.stopped)
    problems = certificate_problems(meter_ledger(settings), clock())
    yield dg.MaterializeResult(metadata={"outcome": outcome, **figures})
    yield dg.AssetCheckResult(
        passed=not problems,
        severity=dg.AssetCheckSeverity.ERROR,
        metadata={
            "periods": len(problems),
            **({"differences": _differences(problems[:LISTED])} if problems else {}),
        },
    )


def _differences(problems: list[CertificateProblem]) -> dg.MetadataValue:
    return dg.MetadataValue.table(
        [
            dg.TableRecord(
                {
                    "customer": each.stripe_customer_id,
                    "period (UTC)": f"{each.period_start:%Y-%m-%d %H:%M} to {each.period_end:%Y-%m-%d %H:%M}",
                    "invoice": each.invoice_ids or "",
                    "counted": each.units,
                    "invoiced": "" if each.invoice_units is None else str(each.invoice_units),
                    "money": each.money,
                    "why": each.cause,
                    "what to do": each.advice,
                }
            )
            for each in problems
        ]
    )


def _under_way(counted: Standing) -> dict[str, dg.MetadataValue]:
    """Hours that are neither confirmed nor a problem."""
    kinds = {
        "not_sent_yet": (counted.unsent, counted.unsent_since),
        "not_confirmed_yet": (counted.unconfirmed, counted.unconfirmed_since),
    }
    return {
        name: dg.MetadataValue.text(f"{hours:,}" + (f", since {since:%Y-%m-%d %H:%M} UTC" if since else ""))
        for name, (hours, since) in kinds.items()
    }


def _listed(problems: list[Report]) -> dg.MetadataValue:
    return dg.MetadataValue.table(
        [
            dg.TableRecord(
                {
                    "customer": report.stripe_customer_id,
                    "hour (UTC)": f"{report.hour_start:%Y-%m-%d %H:%M}",
                    "units": report.units,
                    "state": str(report.state),
                    "why, and what to do": report.error or "",
                    "identifier": report.identifier,
                }
            )
            for report in problems
        ]
    )


@dg.asset_check(
    asset="stripe_usage",
    description=(
        "Meter, products, prices and subscriptions at Stripe match the plans. Each billed customer has exactly one"
        " subscription to the meter, anchored at a full UTC hour. Otherwise usage is billed twice or not at all.\n\n"
        "Runs daily. `headroom stripe check` says the same, and `headroom stripe bootstrap` creates missing parts."
    ),
)
def catalogue_at_stripe(project: Project) -> dg.AssetCheckResult:
    settings = project.settings
    if settings.stripe_api_key is None:
        return dg.AssetCheckResult(passed=True, metadata={"outcome": "not asked: STRIPE_API_KEY is not set"})
    try:
        findings = [finding for finding in catalog.check(each_meter(settings), connect_products) if finding.problem]
    except (StoppedError, RefusedError, ValueError) as error:
        return dg.AssetCheckResult(passed=False, metadata={"outcome": str(error)})
    needed = any(finding.is_needed for finding in findings)
    listed = "\n".join(f"- {finding.subject}: {finding.problem}" for finding in findings[:LISTED])
    return dg.AssetCheckResult(
        passed=not findings,
        severity=dg.AssetCheckSeverity.ERROR if needed else dg.AssetCheckSeverity.WARN,
        metadata={"findings": len(findings), "problems": dg.MetadataValue.md(listed)},
    )
