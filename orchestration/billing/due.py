"""Which of the ledger's reports are to be sent: those that are prepared, and once more those in doubt."""

from collections.abc import Collection, Mapping
from datetime import datetime

import sqlalchemy as sa

from orchestration.billing.meter_ledger import MeterLedger
from orchestration.billing.metering import ReportState
from orchestration.billing.report_rows import TABLE
from orchestration.billing.report_statements import BEFORE, IS_NEWEST, SINCE
from orchestration.billing.revisions import Report

_IS_PREPARED, _IS_DOUBTFUL = TABLE.state == ReportState.PREPARED, TABLE.state == ReportState.SENDING
_IS_WAITING = TABLE.state.in_((ReportState.PREPARED, ReportState.SENDING))
_IS_UNSENT = TABLE.state.in_((ReportState.WAITING, ReportState.PREPARED, ReportState.SENDING))
_OF = TABLE.stripe_customer_id.in_(sa.bindparam("customers", expanding=True))
_OF_OTHERS = TABLE.stripe_customer_id.not_in(sa.bindparam("without", expanding=True))
_BEGUN = sa.bindparam("begun", type_=TABLE.first_attempt_at.type)
_BEGUN_SINCE = TABLE.first_attempt_at >= _BEGUN
_IS_OLD = sa.or_(sa.and_(_IS_PREPARED, BEFORE), sa.and_(_IS_DOUBTFUL, TABLE.first_attempt_at < _BEGUN))


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
    conditions = [_IS_PREPARED]
    if since:
        conditions.append(SINCE)
    if without:
        conditions.append(_OF_OTHERS)
    if closing is not None:
        conditions += [_OF, BEFORE]
    customers, last = sorted(closing or ()), max((closing or {}).values(), default=None)
    values = {"since": since, "without": sorted(without), "customers": customers, "before": last}
    return ledger.reports(*conditions, limit=limit, **values)


def doubtful(ledger: MeterLedger, since: datetime | None = None) -> list[Report]:
    """Those in doubt, oldest hour first. `since`: only those whose first attempt was made from then on."""
    if since is None:
        return ledger.reports(_IS_DOUBTFUL)
    return ledger.reports(_IS_DOUBTFUL, _BEGUN_SINCE, begun=since)


def old(ledger: MeterLedger, since: datetime) -> list[Report]:
    """Those that the others leave out because of `since`."""
    return ledger.reports(_IS_OLD, before=since, begun=since)


def unsent(ledger: MeterLedger, closing: Mapping[str, datetime]) -> list[Report]:
    """What is not known to be at Stripe, or waits for approval, of these customers and the hours before theirs."""
    if not closing:
        return []
    last = max(closing.values())
    found = ledger.reports(_IS_UNSENT, _OF, BEFORE, IS_NEWEST, customers=sorted(closing), before=last)
    return [report for report in found if report.hour_start < closing[report.stripe_customer_id]]


def is_all_sent(ledger: MeterLedger) -> bool:
    """Whether no report waits to be sent, and none is in doubt."""
    return not ledger.reports(_IS_WAITING, limit=1)
