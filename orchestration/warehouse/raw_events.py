"""The events behind an hour's units of a meter that adds up, one by one: from the lake, by the accounts, customers and
weights of the published copy. Memory is bounded, however many they are.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from orchestration.lake import number_sql
from orchestration.lake.batch import literal
from orchestration.lake.lake import MEMORY_LIMIT
from orchestration.usage.meters import Meter
from orchestration.warehouse.published_copy import aware, connected

ROWS = 10_000
"""In memory at a time."""


@dataclass(frozen=True)
class RawEvent:
    """One counted event, and where it came from."""

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
    """Events that it stands for."""
    units: int
    """Steps of the meter that are billed for it."""
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
    published: Path, lake: Path, customer: str, start: datetime, end: datetime, bills_sampled: bool, meter: Meter
) -> Iterator[RawEvent]:
    """What the meter, which adds up, counts of the customer's accounts in `[start, end)`, whole UTC hours, in the order
    of the times.

    :raises NothingPublishedError: no run has published anything yet.
    :raises duckdb.Error: a file of the lake was made one with others meanwhile; ask again.
    """
    files = _files(lake, start, end)
    if not files:
        return
    with connected(published) as connection:
        connection.execute(f"set memory_limit = '{MEMORY_LIMIT}'")
        window = {"start": _naive(start), "end": _naive(end)}
        parameters = {"files": files, "customer": customer, "sampled": int(bills_sampled), **window}
        connection.execute(_events(meter), {**parameters, "names": list(meter.event_names)})
        while rows := connection.fetchmany(ROWS):
            for row in rows:
                values: list[Any] = list(map(aware, row))
                yield RawEvent(*values)


def _files(lake: Path, start: datetime, end: datetime) -> list[str]:
    """The lake's files of counted events of these UTC days."""
    day, last, found = start.date(), (end - timedelta(microseconds=1)).date(), []
    while day <= last:
        found += sorted((lake / "batches").glob(f"[0-9]*/calls/event_date={day}/*.parquet"))
        day += timedelta(days=1)
    return [str(path) for path in found]


def _naive(moment: datetime) -> datetime:
    return moment.astimezone(UTC).replace(tzinfo=None)


def _events(meter: Meter) -> str:
    """As stg_meter_values and the billable marts count, whose sums they are."""
    owned = (
        "billable_usage_hourly" if meter.is_main
        else f"(select * from billable_meters_hourly where meter = {literal(meter.name)})"
    )  # fmt: skip
    steps = number_sql.steps(_text(meter.value), str(meter.scale)) if meter.value else "1"
    counted = [f"coalesce({_text(each.path)} in ({', '.join(map(literal, each.values))}), false)" for each in
               meter.conditions]  # fmt: skip
    if meter.counts_from:
        counted.append(f"event_at >= timestamptz '{meter.counts_from}'")
    weight = "coalesce(weights.weight, 1)" if meter.weights else "1"
    return EVENTS.format(owned=owned, steps=steps, counted=" and ".join(["true", *counted]), weight=weight)


def _text(path: str) -> str:
    return f"json_extract_string(properties, '$.{path}')"


EVENTS = """
    with owned as (
        select distinct account_id, hour_start from {owned} as hours
        where stripe_customer_id = $customer and hour_start >= $start and hour_start < $end
    ),

    weights as (
        select
            endpoint, effective_from, weight,
            lead(effective_from, 1, date '9999-12-31') over (partition by endpoint order by effective_from)
                as effective_until
        from endpoint_weights
    ),

    events as (
        select *, {steps} as steps, cast(event_at at time zone 'UTC' as timestamp) as happened_at
        from read_parquet($files, hive_partitioning = false)
        where list_contains($names, event_name) and {counted}
    )

    select
        events.event_id,
        events.source,
        events.happened_at,
        owned.account_id,
        events.account_id as subject,
        events.endpoint,
        events.status,
        events.sample_weight,
        cast(
            case when events.sample_weight = 1 then 1 else $sampled * events.sample_weight end
            * {weight} * events.steps as bigint
        ) as units,
        events.landed_file,
        events.line_number,
        events.batch,
        cast(events.ingested_at at time zone 'UTC' as timestamp)
    from events
    left join stg_subjects as subjects
        on
            events.account_id = subjects.subject
            and events.happened_at >= subjects.valid_from and events.happened_at < subjects.valid_until
    inner join owned
        on
            owned.account_id = coalesce(subjects.account_id, events.account_id)
            and owned.hour_start = date_trunc('hour', events.happened_at)
    left join weights
        on
            events.endpoint = weights.endpoint
            and cast(events.happened_at as date) >= weights.effective_from
            and cast(events.happened_at as date) < weights.effective_until
    where events.happened_at >= $start and events.happened_at < $end and events.steps is not null
    order by events.happened_at, events.source, events.event_id
"""
