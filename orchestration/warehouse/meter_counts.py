"""What a meter counts of a UTC day, by the lake's files alone: for a look before its row is ever built.

As the models count (stg_meter_values), by the rules of `usage/meters.py`, in whole numbers of the smallest step.
Nothing is changed, and no warehouse is needed.
"""

import time
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb

from orchestration.lake import in_memory, number_sql
from orchestration.lake.batch import literal
from orchestration.lake.lake import MEMORY_LIMIT, Lake
from orchestration.usage.events import FUTURE_TOLERANCE_SECONDS
from orchestration.usage.meters import ENDPOINT, Meter


@dataclass(frozen=True)
class Refused:
    """Values that are not counted, for one reason."""

    reason: str
    events: int
    example: str | None
    """One of them, as it was sent."""


@dataclass(frozen=True)
class Example:
    """An event that counts."""

    event_at: datetime
    account_id: str
    event_name: str
    value: str | None
    """As it was sent; None for count."""


@dataclass(frozen=True)
class AccountCount:
    """What an account has."""

    account_id: str
    events: int
    steps: int


@dataclass(frozen=True)
class DayCount:
    """What a meter counts of a day."""

    day: date
    events: int
    accounts: int
    steps: int
    """Of all accounts together: what adds up as a sum, of a reading the sum of the accounts' last, largest or number of
    different ones."""
    largest: tuple[AccountCount, ...]
    refused: tuple[Refused, ...]
    examples: tuple[Example, ...]
    """The last three."""
    values: Mapping[str, int]
    """How many different ones each property of group_by has."""
    rows: int
    """Events of any name in the files that were read."""
    seconds: float
    """That counting took."""


@dataclass(frozen=True)
class History:
    """What there is to count."""

    events: int
    days: int
    first_day: date | None
    rows: int
    """Events of any name in the same files."""


class MeterCounts:
    """The lake as meters count it at `now`: subjects.csv says of which account, endpoint_weights.csv for how much."""

    def __init__(self, connection: duckdb.DuckDBPyConnection, lake: Path, project: Path, now: datetime) -> None:
        self._connection, self._batches = connection, lake / "batches"
        self._until = now + timedelta(seconds=FUTURE_TOLERANCE_SECONDS)
        self._kept_from = Lake(lake).kept_from()
        subjects, weights = str(lake / "subjects.parquet"), str(project / "seeds" / "endpoint_weights.csv")
        connection.execute(
            "create temp table subjects as select subject, account_id, coalesce(valid_from, '-infinity') as valid_from,"
            " coalesce(valid_until, 'infinity') as valid_until from read_parquet($subjects)",
            {"subjects": subjects},
        )
        connection.execute(
            "create temp table weights as select endpoint, weight, effective_from,"
            " lead(effective_from, 1, date 'infinity') over (partition by endpoint order by effective_from)"
            " as effective_until from read_csv($weights, header = true, delim = ',',"
            " columns = {endpoint: 'varchar', effective_from: 'date', weight: 'bigint'})",
            {"weights": weights},
        )

    def last_day(self) -> date | None:
        """The last UTC day until now with events; None where there is none."""
        return max(self._files_by_day(self._kept_from), default=None)

    def count(self, meter: Meter, day: date, largest: int = 10) -> DayCount:
        """What the meter counts of that day, with so many of its accounts."""
        started = time.perf_counter()
        since = meter.counts_from or day
        files = self._files_by_day(max(self._kept_from, since)).get(day, [])
        self._judge(meter, files)
        [[events]] = self._rows("select count(*) from judged where reason is null")
        refused = self._rows("""
            select reason, count(*), min(value_text) from judged where reason is not null
            group by reason order by count(*) desc, reason
        """)
        self._connection.execute(f"""
            create or replace temp table counted as
            select account_id, count(*) as events, cast({_FIGURES[meter.aggregation]} as hugeint) as steps
            from judged where reason is null group by account_id
        """)
        [[accounts, steps]] = self._rows("select count(*), coalesce(sum(steps), 0) from counted")
        seconds = time.perf_counter() - started
        examples = self._rows("""
            select event_at, account_id, event_name, value_text from judged where reason is null
            order by event_at desc, event_id limit 3
        """)
        return DayCount(
            day=day,
            events=events,
            accounts=accounts,
            steps=int(steps),
            largest=tuple(
                AccountCount(account_id, count, int(figure))
                for account_id, count, figure in self._rows(
                    f"select * from counted order by steps desc, account_id limit {largest}"
                )
            ),
            refused=tuple(Refused(*row) for row in refused),
            examples=tuple(Example(*row) for row in examples),
            values={path: self._values(path) for path in meter.group_by},
            rows=self._row_count(files),
            seconds=seconds,
        )

    def history(self, meter: Meter) -> History:
        """All that the meter would count, from its counts_from on."""
        by_day = self._files_by_day(max(self._kept_from, meter.counts_from or date.min))
        files = [file for files in by_day.values() for file in files]
        [[events, days, first]] = self._rows(
            """
            select count(*), count(distinct cast(event_at as date)), min(cast(event_at as date))
            from read_parquet($files, hive_partitioning = false)
            where list_contains($names, event_name) and event_at <= $until
            """,
            {"files": [self._empty, *files], "names": list(meter.event_names), "until": self._until},
        )
        return History(events, days, first, self._row_count(files))

    def _judge(self, meter: Meter, files: Sequence[str]) -> None:
        """Make the table `judged` of the meter's events: each with its account, the reason where its value is refused,
        else its steps, and for how many units one step counts.
        """
        value, kind = (
            (_text(meter.value), f"json_type(properties, '$.{meter.value}')") if meter.value else ("null", "null")
        )
        reason, steps = "null", "1"
        if meter.aggregation == "unique":
            reason = number_sql.text_refusal("value_text", "kind")
        elif meter.aggregation != "count":
            reason = number_sql.refusal("value_text", str(meter.scale))
            steps = number_sql.steps("value_text", str(meter.scale))
        filtered = [
            f"and coalesce({_text(part.path)} in ({', '.join(map(literal, part.values))}), false)"
            for part in meter.conditions
        ]
        self._connection.execute(
            f"""
            create or replace temp table judged as
            with event as (
                select *, cast({value} as varchar) as value_text, {kind} as kind
                from read_parquet($files, hive_partitioning = false)
                where list_contains($names, event_name) and event_at <= $until {" ".join(filtered)}
            )
            select
                coalesce(subjects.account_id, event.account_id) as account_id, source, event_id, event_name, event_at,
                ingested_at, event.endpoint, properties, value_text,
                {reason} as reason,
                {steps} as steps,
                cast(sample_weight as hugeint) * {"coalesce(weight, 1)" if meter.weights else "1"} as units
            from event
            left join subjects
                on event.account_id = subjects.subject and event_at >= valid_from and event_at < valid_until
            left join weights
                on event.endpoint = weights.endpoint
                and cast(event_at as date) >= effective_from and cast(event_at as date) < effective_until
            """,
            {"files": [self._empty, *files], "names": list(meter.event_names), "until": self._until},
        )

    def _values(self, path: str) -> int:
        place = ENDPOINT if path == ENDPOINT else _text(path)
        [[count]] = self._rows(f"select count(distinct {place}) from judged where reason is null")
        return int(count)

    @property
    def _empty(self) -> str:
        """A file without events, which says what the columns are."""
        return str(self._batches / "000000" / "calls" / "event_date=1970-01-01" / "empty.parquet")

    def _files_by_day(self, since: date) -> dict[date, list[str]]:
        """The lake's files of counted events, of UTC days from `since` until now."""
        found: defaultdict[date, list[str]] = defaultdict(list)
        for path in sorted(self._batches.glob("[0-9]*/calls/event_date=*/*.parquet")):
            day = date.fromisoformat(path.parent.name.partition("=")[2])
            if since <= day <= self._until.astimezone(UTC).date() and str(path) != self._empty:
                found[day].append(str(path))
        return found

    def _row_count(self, files: Sequence[str]) -> int:
        sql = "select coalesce(sum(num_rows), 0) from parquet_file_metadata($files)"
        [[count]] = self._rows(sql, {"files": [self._empty, *files]})
        return int(count)

    def _rows(self, sql: str, parameters: dict[str, Any] | None = None) -> list[Any]:
        return self._connection.execute(sql, parameters or {}).fetchall()


@contextmanager
def meter_counts(lake: Path, project: Path, now: datetime) -> Iterator[MeterCounts]:
    """With a DuckDB in memory, which spills into the lake's folder.

    :raises FileNotFoundError: there is no lake yet.
    :raises duckdb.Error: a file of the lake was made one with others meanwhile; ask again.
    """
    with in_memory.engine(lake / ".explained", MEMORY_LIMIT) as connection:
        yield MeterCounts(connection, lake, project, now)


_LAST = "order by event_at desc, ingested_at desc, event_id desc, source desc"
_FIGURES = {
    "count": "sum(units)",
    "sum": "sum(units * steps)",
    "unique": "count(distinct value_text)",
    "max": "max(steps)",
    "latest": f"first(steps {_LAST})",
}
"""Of an account."""


def _text(path: str) -> str:
    """The property at a path, which is names with points between them, as text."""
    return f"json_extract_string(properties, '$.{path}')"
