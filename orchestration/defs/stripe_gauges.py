"""The billed meters but the main one to Stripe, each reported, compared and certified by itself.

The asset is called stripe_gauges since it had gauges alone; another key would begin another history.
"""

from collections.abc import Iterator

import dagster as dg

from orchestration.billing import certify, reconcile, report
from orchestration.billing.certificate_problems import certificate_problems
from orchestration.billing.meter import StoppedError
from orchestration.billing.meter_ledger import meter_ledger
from orchestration.billing.meters import others
from orchestration.billing.read_invoices import read_invoices
from orchestration.channels.stripe import connect_invoices, connect_meter
from orchestration.defs.resources import OWNERS, Project, clock
from orchestration.ledger.engines import BusyError
from orchestration.ledger.outbox import RefusedError
from orchestration.settings import Settings
from orchestration.usage.formatting import counted


class GaugeRun(dg.Config):
    """What people decide for one run."""

    approve: str = ""
    """The code of what waits for approval, as `headroom stripe --meter NAME plan` shows it: sends it."""


@dg.asset(
    deps=["published_copy"],
    group_name="billing",
    owners=OWNERS,
    kinds={"stripe"},
    check_specs=[
        dg.AssetCheckSpec(
            "gauges_billed_as_counted",
            asset="stripe_gauges",
            description=(
                "Stripe has every meter as it was counted, by hour and on the invoices. `headroom stripe --meter NAME"
                " problems` says why not and what to do."
            ),
        )
    ],
    description=(
        "Reports every meter but the main one that is billed in meters.csv. Compares each with Stripe's meter and with"
        " the invoices. What adds up (count, sum) is reported by hour. A reading (latest, max, unique) is"
        " reported as hourly changes, which add up to it.\n\n"
        "Meters are independent: one that fails does not delay the others. For the plan, problems and statements of"
        " one: `headroom stripe --meter seats plan`, and so on."
    ),
)
def stripe_gauges(
    context: dg.AssetExecutionContext, config: GaugeRun, project: Project
) -> Iterator[dg.MaterializeResult[None] | dg.AssetCheckResult]:
    figures: dict[str, str] = {}
    failed, problems = [], []
    for each in others(project.settings):
        try:
            figures[each.billed_meter] = _brought_to_stripe(each, config.approve, context.log)
        except BusyError as error:
            figures[each.billed_meter] = f"nothing sent: {error}, and sends what is new"
        except (StoppedError, RefusedError, ValueError, LookupError) as error:
            failed.append(f"{each.billed_meter}: {error}")
        ledger = meter_ledger(each)
        problems += [f"{each.billed_meter}, {row.place}: {row.error}" for row in ledger.problems(50)]
        problems += [f"{each.billed_meter}, {row.stripe_customer_id}: {row.cause}" for row in
                     certificate_problems(ledger, clock())]  # fmt: skip
    if failed:
        raise dg.Failure("; ".join(failed), metadata=dict(figures), allow_retries=False)
    yield dg.MaterializeResult(metadata=figures or {"outcome": "meters.csv bills no other meter"})
    yield dg.AssetCheckResult(
        passed=not problems,
        severity=dg.AssetCheckSeverity.ERROR,
        metadata={"problems": dg.MetadataValue.md("\n".join(f"- {line}" for line in problems[:50]))},
    )


def _brought_to_stripe(config: Settings, approved: str, log: dg.DagsterLogManager) -> str:
    """What was done, in a sentence.

    :raises BusyError, StoppedError, RefusedError, ValueError: it could not be done; nothing is lost.
    """
    outcome = report.report_usage(config, connect_meter, clock, approved)
    if outcome.planned.waiting.question:
        log.warning(f"{config.billed_meter}: {outcome.planned.waiting.question}")
    if outcome.sent is None:
        return f"{counted(outcome.planned.change.reports, 'customer-hour')} previewed: set STRIPE_API_KEY to send"
    reconcile.look_back(config, connect_meter, clock)
    read_invoices(config, connect_meter, connect_invoices, clock)
    compared = certify.certify(config, connect_meter, clock)
    if outcome.alarm or outcome.sent.stopped:
        raise StoppedError(outcome.alarm or outcome.sent.stopped)
    certified = compared.certified if compared else 0
    return f"{outcome.sent.taken:,} taken, {outcome.sent.refused:,} refused; {certified:,} invoices certified"
