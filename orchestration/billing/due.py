"""Which of the ledger's reports are to be sent: those that are prepared, and once more those in doubt."""

from collections.abc import Collection, Mapping
from datetime import datetime

import sqlalchemy as sa

from orchestration.billing.meter_ledger import MeterLedger
from orchestration.billing.metering import ReportState
from orchestration.billing.report_rows import TABLE, is_newest
from orchestration.billing.revisions import Report


def prepared(
    ledger: MeterLedger,
    limit: int,
    since: datetime | None = None,
    without: Collection[str] = (),
    closing: Mapping[str, datetime] | None = None,
) -> list[Report]:
    """Those that are prepared, oldest hour first, of customers other than those `without`.

    `since`: only of hours from then on. `closing`: only of these customers, and of hours before the last of theirs.
    """
    conditions = [TABLE.state == ReportState.PREPARED]
    if since:
        conditions.append(TABLE.hour_start >= since)
    if without:
        conditions.append(TABLE.stripe_customer_id.not_in(sorted(without)))
    if closing is not None:
        conditions.append(TABLE.stripe_customer_id.in_(sorted(closing)))
        conditions.append(TABLE.hour_start < max(closing.values()))
    return ledger.reports(*conditions, limit=limit)


def doubtful(ledger: MeterLedger, since: datetime | None = None) -> list[Report]:
    """Those in doubt, oldest hour first. `since`: only those whose first attempt was made from then on."""
    first = [TABLE.first_attempt_at >= since] if since else []
    return ledger.reports(TABLE.state == ReportState.SENDING, *first)


def old(ledger: MeterLedger, since: datetime) -> list[Report]:
    """Those that the others leave out because of `since`."""
    is_prepared = sa.and_(TABLE.state == ReportState.PREPARED, TABLE.hour_start < since)
    is_doubtful = sa.and_(TABLE.state == ReportState.SENDING, TABLE.first_attempt_at < since)
    return ledger.reports(sa.or_(is_prepared, is_doubtful))


def unsent(ledger: MeterLedger, closing: Mapping[str, datetime]) -> list[Report]:
    """What is not known to be at Stripe, or waits for approval, of these customers and the hours before theirs."""
    if not closing:
        return []
    states = (ReportState.WAITING, ReportState.PREPARED, ReportState.SENDING)
    found = ledger.reports(
        TABLE.state.in_(states),
        TABLE.stripe_customer_id.in_(sorted(closing)),
        TABLE.hour_start < max(closing.values()),
        is_newest(),
    )
    return [report for report in found if report.hour_start < closing[report.stripe_customer_id]]


def is_all_sent(ledger: MeterLedger) -> bool:
    """Whether no report waits to be sent, and none is in doubt."""
    return not ledger.reports(TABLE.state.in_((ReportState.PREPARED, ReportState.SENDING)), limit=1)
