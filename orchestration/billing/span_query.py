"""Units of many customers' stretches of time, asked of the published copy at once."""

from collections.abc import Sequence
from datetime import UTC, datetime

import duckdb

Span = tuple[str, datetime, datetime]
"""A customer, and `[start, end)`."""


def units_within(connection: duckdb.DuckDBPyConnection, spans: Sequence[Span], sampled: int) -> list[int]:
    """Billable units of the hours that begin in each; sampled calls count `sampled` times."""
    if not spans:
        return []
    customers, starts, ends = zip(*((who, _naive(start), _naive(end)) for who, start, end in spans), strict=True)
    parameters = {"customers": list(customers), "starts": list(starts), "ends": list(ends), "sampled": sampled}
    return [units for (units,) in connection.execute(UNITS_WITHIN, parameters).fetchall()]


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
