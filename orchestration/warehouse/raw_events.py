"""The calls behind an hour's units, one by one: from the lake, by the accounts, customers and weights of the published
copy. Memory is bounded, however many they are.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from orchestration.lake.lake import MEMORY_LIMIT
from orchestration.usage.events import API_CALL
from orchestration.warehouse.published_copy import aware, connected

ROWS = 10_000
"""In memory at a time."""


@dataclass(frozen=True)
class RawEvent:
    """One accepted call, and where it came from."""

    event_id: str
    """The event's own id; where it has none, its line in the file that `source` names."""
    source: str
    """Where the id is unique: what the event says, or its landed file; empty where it says nothing."""
    event_at: datetime
    account_id: str
    subject: str
    """The id that the event carries; the account's own, unless subjects.csv maps it."""
    endpoint: str | None
    status: int | None
    sample_weight: int
    """Calls that it stands for."""
    units: int
    """That are billed for it."""
    landed_file: str
    """As it was called when it was read, relative to the landing folder, or its address in the bucket. The file may be
    gone since: the lake keeps the event.
    """
    line_number: int
    batch: int
    """Of the lake, which brought it."""
    ingested_at: datetime
    """When it came to the collector, or its file was read."""


def raw_events(
    published: Path, lake: Path, customer: str, start: datetime, end: datetime, bills_sampled: bool
) -> Iterator[RawEvent]:
    """The calls of the customer's accounts in `[start, end)`, whole UTC hours, in the order of their times.

    :raises NothingPublishedError: no run has published anything yet.
    :raises duckdb.Error: a file of the lake was made one with others meanwhile; ask again.
    """
    files = _files(lake, start, end)
    if not files:
        return
    with connected(published) as connection:
        connection.execute(f"set memory_limit = '{MEMORY_LIMIT}'")
        window = {"start": _naive(start), "end": _naive(end)}
        parameters = {
            "files": files,
            "names": list(API_CALL),
            "customer": customer,
            "sampled": int(bills_sampled),
            **window,
        }
        connection.execute(EVENTS, parameters)
        while rows := connection.fetchmany(ROWS):
            for row in rows:
                values: list[Any] = list(map(aware, row))
                yield RawEvent(*values)


def _files(lake: Path, start: datetime, end: datetime) -> list[str]:
    """The lake's files of calls of these UTC days."""
    day, last, found = start.date(), (end - timedelta(microseconds=1)).date(), []
    while day <= last:
        found += sorted((lake / "batches").glob(f"[0-9]*/calls/event_date={day}/*.parquet"))
        day += timedelta(days=1)
    return [str(path) for path in found]


def _naive(moment: datetime) -> datetime:
    return moment.astimezone(UTC).replace(tzinfo=None)


# As stg_api_calls and billable_usage_hourly count, whose sums they are.
EVENTS = """
    with owned as (
        select distinct account_id, hour_start from billable_usage_hourly
        where stripe_customer_id = $customer and hour_start >= $start and hour_start < $end
    ),

    weights as (
        select
            endpoint, effective_from, weight,
            lead(effective_from, 1, date '9999-12-31') over (partition by endpoint order by effective_from)
                as effective_until
        from endpoint_weights
    ),

    calls as (
        select *, cast(event_at at time zone 'UTC' as timestamp) as happened_at
        from read_parquet($files, hive_partitioning = false)
        where list_contains($names, event_name)  -- those of other meters lie beside them
    )

    select
        calls.event_id,
        calls.source,
        calls.happened_at,
        owned.account_id,
        calls.account_id as subject,
        calls.endpoint,
        calls.status,
        calls.sample_weight,
        case when calls.sample_weight = 1 then 1 else $sampled * calls.sample_weight end * coalesce(weights.weight, 1)
            as units,
        calls.landed_file,
        calls.line_number,
        calls.batch,
        cast(calls.ingested_at at time zone 'UTC' as timestamp)
    from calls
    left join stg_subjects as subjects
        on
            calls.account_id = subjects.subject
            and calls.happened_at >= subjects.valid_from and calls.happened_at < subjects.valid_until
    inner join owned
        on
            owned.account_id = coalesce(subjects.account_id, calls.account_id)
            and owned.hour_start = date_trunc('hour', calls.happened_at)
    left join weights
        on
            calls.endpoint = weights.endpoint
            and cast(calls.happened_at as date) >= weights.effective_from
            and cast(calls.happened_at as date) < weights.effective_until
    where calls.happened_at >= $start and calls.happened_at < $end
    order by calls.happened_at, calls.source, calls.event_id
"""
