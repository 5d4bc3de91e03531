"""Stretches of time, asked of the published copy: units of many customers at once, and the periods that run."""

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import duckdb

from orchestration.warehouse.published_copy import query

Span = tuple[str, datetime, datetime]
"""A customer, and `[start, end)`."""


def units_within(connection: duckdb.DuckDBPyConnection, spans: Sequence[Span], sampled: int) -> list[int]:
    """Billable units of the hours that begin in each; sampled calls count `sampled` times."""
    if not spans:
        return []
    customers, starts, ends = zip(*((who, _naive(start), _naive(end)) for who, start, end in spans), strict=True)
    parameters = {"customers": list(customers), "starts": list(starts), "ends": list(ends), "sampled": sampled}
    return [units for (units,) in connection.execute(UNITS_WITHIN, parameters).fetchall()]


def running_periods(published: Path, at: datetime) -> dict[str, dict[str, Any]]:
    """By account, its own billing period that runs then: period_start and period_end.

    :raises NothingPublishedError: no run has published anything yet.
    """
    return {row["account_id"]: row for row in query(published, RUNNING_PERIODS, {"at": _naive(at)})}


def _naive(moment: datetime) -> datetime:
    return moment.astimezone(UTC).replace(tzinfo=None)


UNITS_WITHIN = """
    select cast(coalesce(sum(hours.billable_units + $sampled * hours.sampled_units), 0) as bigint) as units
    from (
        select
            unnest($customers) as customer, unnest($starts) as starts, unnest($ends) as ends,
            generate_subscripts($customers, 1) as place
    ) as spans
    left join billable_usage_hourly as hours
        on
            hours.stripe_customer_id = spans.customer
            and hours.hour_start >= spans.starts
            and hours.hour_start < spans.ends
    group by spans.place order by spans.place
"""


RUNNING_PERIODS = """
    select account_id, billed_from as period_start, max(period_end) as period_end
    from (
        select
            account_id,
            period_end,
            max(case when source <> 'quota change' then period_start end)
                over (partition by account_id order by period_start) as billed_from
        from account_periods
    ) as billed
    group by account_id, billed_from
    having billed_from <= $at and max(period_end) > $at
    order by account_id
"""
