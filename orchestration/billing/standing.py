"""How far what was counted is at Stripe: confirmed, sent and not confirmed yet, not sent yet, or billed otherwise."""

from datetime import datetime

import sqlalchemy as sa

from orchestration.billing.certificate_store import Certificates
from orchestration.billing.meter_ledger import PROBLEMS, MeterLedger
from orchestration.billing.metering import ReportState
from orchestration.billing.report_rows import TABLE
from orchestration.billing.report_statements import IS_NEWEST
from orchestration.billing.usage_query import LOOK_BACK
from orchestration.usage.standing import Standing

DONE = (ReportState.CONFIRMED, ReportState.SUPERSEDED, ReportState.SETTLED, ReportState.PREVIEWED)


def standing(ledger: MeterLedger, now: datetime | None = None) -> Standing | None:
    """None: nothing was ever sent there, or was to be. `now`: with the periods whose certificate differs."""
    if ledger.live_since() is None:
        return None
    moments = (TABLE.finished_at, TABLE.first_attempt_at, TABLE.created_at)
    since = sa.func.min(sa.func.coalesce(*moments, type_=TABLE.created_at.type), type_=TABLE.created_at.type)
    query = (
        sa.select(TABLE.state, sa.func.count(), since)
        .where(ledger.is_ours, TABLE.state.not_in(DONE), IS_NEWEST)
        .group_by(TABLE.state)
    )
    counts: dict[str, int] = {}
    firsts: dict[str, datetime] = {}
    with ledger.ledger.reading() as connection:
        for state, count, first in connection.execute(query):
            kind = _kind(ReportState(state))
            counts[kind] = counts.get(kind, 0) + count
            firsts[kind] = min(firsts.get(kind, first), first)
    return Standing(
        periods=len(Certificates(ledger).open(now - LOOK_BACK)) if now else 0,
        misbilled=counts.get("misbilled", 0),
        for_approval=counts.get("for approval", 0),
        for_approval_since=firsts.get("for approval"),
        unsent=counts.get("unsent", 0),
        unsent_since=firsts.get("unsent"),
        unconfirmed=counts.get("unconfirmed", 0),
        unconfirmed_since=firsts.get("unconfirmed"),
    )


def _kind(state: ReportState) -> str:
    if state is ReportState.WAITING:
        return "for approval"
    if state in PROBLEMS:
        return "misbilled"
    return "unconfirmed" if state in (ReportState.SENDING, ReportState.SENT) else "unsent"
