"""The lake into ClickHouse: a table for each dbt source of the lake, read from its Parquet by the server itself.

Calls come in by batch, each exactly once: a batch is loaded when it is in `loaded_batches`; calls of a later one were
left by a load that was killed, and are removed before anything is loaded. All other sources are few rows, and are
replaced as a whole by an exchange of tables, so that nobody ever sees one empty or half.

Calls of days that the lake does not keep any more are removed.

Where there is a cluster, calls lie in `raw_events_shard` on each node, by account, and `raw_events` reads all of them.
The lake stays the truth: the database may be dropped at any time, and comes back with the next run.
"""

import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import date
from pathlib import Path

from filelock import FileLock

from orchestration.lake.account_files import ACCOUNT_COLUMNS, CUSTOMER_COLUMNS, SUBJECT_COLUMNS
from orchestration.lake.alerts import ALERT_COLUMNS, DISPOSITION_COLUMNS
from orchestration.lake.batch import CALL_COLUMNS, OTHER_COLUMNS, QUARANTINE_COLUMNS
from orchestration.lake.lake import SINCE_EVER, Lake
from orchestration.lake.manifests import Batch
from orchestration.lake.meter_reports import METER_REPORT_COLUMNS
from orchestration.lake.prepaid_credit import PREPAID_CREDIT_COLUMNS
from orchestration.lake.subscription_periods import SUBSCRIPTION_PERIOD_COLUMNS
from orchestration.usage.formatting import counted
from orchestration.warehouse.clickhouse.client import ClickHouse, ClickHouseError

CALLS_AT_A_TIME = 10_000_000
"""Loaded by one statement: what a kill costs."""
FOLDERS_NAMED = 1000
"""At most: a statement has a limit. Of more batches at once, all folders are looked into."""
TYPES = {
    "varchar": "String",
    "bigint": "Int64",
    "integer": "Int32",
    "boolean": "Bool",
    "date": "Date32",
    "timestamptz": "DateTime64(6, 'UTC')",
    "decimal(18,2)": "Decimal(18, 2)",
}
NEVER_NULL = {
    *("source", "event_id", "event_name", "account_id", "subject", "event_at", "ingested_at", "sample_weight", "batch"),
    *("hour_start", "revision", "units", "state", "kept_from"),
    *("subscription_item_id", "period_start", "period_end"),
}
"""Only such columns can be sorted by, and the others cost a byte more per row."""
OTHERS = {
    "raw_other_events": (OTHER_COLUMNS, ["batches/*/others*.parquet"]),
    "rejected_lines": (
        QUARANTINE_COLUMNS,
        ["batches/*/rejected*.parquet", "{accounts,subjects,customers}_rejected.parquet"],
    ),
    "raw_accounts": (ACCOUNT_COLUMNS, ["accounts.parquet"]),
    "raw_subjects": (SUBJECT_COLUMNS, ["subjects.parquet"]),
    "raw_customers": (CUSTOMER_COLUMNS, ["customers.parquet"]),
    "raw_meter_reports": (METER_REPORT_COLUMNS, ["meter_reports/*/*.parquet"]),
    "raw_subscription_periods": (SUBSCRIPTION_PERIOD_COLUMNS, ["subscription_periods/periods.parquet"]),
    "raw_prepaid_credit": (PREPAID_CREDIT_COLUMNS, ["prepaid_credit/credit.parquet"]),
    "raw_alerts": (ALERT_COLUMNS, ["alerts/alerts.parquet"]),
    "raw_dispositions": (DISPOSITION_COLUMNS, ["alerts/dispositions.parquet"]),
    "kept_from": ({"kept_from": "date"}, ["kept_from.parquet"]),
}
"""All sources but the calls: their columns, and their files in the lake."""
DAYS = {
    # A date ends in 2149, a call may say that it is of the year 9998.
    "raw_events": "event_date Date default toDate(least(event_at, toDateTime64('2149-06-06', 6, 'UTC')), 'UTC')",
    "raw_meter_reports": "hour_date Date default toDate(hour_start, 'UTC')",
}
"""Columns that the lake has in the names of its folders."""


def load(server: ClickHouse, lake: Lake, seen_at: str, lock: Path, say: Callable[[str], object]) -> None:
    """Bring the server's tables up to the lake, which it finds at `seen_at`. Waits for a build, which holds `lock`.

    :raises ClickHouseError: the server is away or refuses, or does not find the lake. The next load puts all right.
    """
    if set(seen_at) & set("*?{}"):
        raise ClickHouseError(f"{server.place} would take {seen_at} for a pattern: move the lake, without * ? {{ or }}")
    with FileLock(lock):
        server.require_settings()
        _create(server)
        _end_statements(server)
        last = _last_loaded(server, lake, say)
        _remove_half_loaded(server, last)
        for table, (columns, files) in OTHERS.items():
            _replace(server, table, columns, [_files(seen_at, name, columns) for name in files])
        for batches in _pieces(lake.batches(after=last)):
            _add(server, lake, seen_at, last, batches)
            last = batches[-1].number
            say(f"ClickHouse has the lake up to batch {last}")
        _remove_old(server, lake.kept_from())


def lag(server: ClickHouse, lake: Lake, seen_at: str) -> int:
    """How many batches of the lake are not loaded.

    :raises ClickHouseError: the server is away or refuses, or does not find the lake.
    """
    batches = lake.batches()
    if batches:
        server.ask(f"select count() from {_files(seen_at, 'accounts.parquet', ACCOUNT_COLUMNS)}", database="system")
    tables = server.ask(
        f"select name from system.tables where database = '{server.address.database}' and name = 'loaded_batches'",
        database="system",
    )
    loaded = server.ask("select batch, fingerprint from loaded_batches") if tables else []
    known = {row["batch"]: row["fingerprint"] for row in loaded}
    return sum(1 for batch in batches if known.get(batch.number) != lake.fingerprint(batch.number))


def _create(server: ClickHouse) -> None:
    """The tables of calls, where they are not there. One with these columns and of another engine will do as well: who
    wants replicas makes it beforehand.
    """
    database, cluster = server.address.database, server.address.cluster
    # Models read days, and within a day one account after the other. Months, so that a batch makes few parts.
    server.everywhere(f"create database if not exists {database}")
    server.everywhere(
        f"create table if not exists {database}.{_calls_table(server)} ({_columns(CALL_COLUMNS, 'raw_events')},"
        " index by_batch batch type minmax)"
        " engine = MergeTree partition by toYYYYMM(event_date) order by (event_date, account_id, event_at)"
    )
    if cluster:
        server.ask(
            "create table if not exists raw_events as raw_events_shard"
            f" engine = Distributed({_literal(cluster)}, {database}, raw_events_shard, cityHash64(account_id))"
        )
    server.ask(
        "create table if not exists loaded_batches"
        " (batch Int64, fingerprint String, loaded_at DateTime64(6, 'UTC') default now64(6))"
        " engine = MergeTree order by batch"
    )


def _end_statements(server: ClickHouse) -> None:
    """Of a load or a build that was killed, or whose answer was lost: the server would go on with them."""
    ours = f"startsWith(initial_query_id, {_literal(_query_ids(server))})"
    dbt = f"http_user_agent like '%dbt-clickhouse%' and current_database = '{server.address.database}'"
    server.everywhere(f"kill query where {ours} or ({dbt}) sync")


def _last_loaded(server: ClickHouse, lake: Lake, say: Callable[[str], object]) -> int:
    """The last batch that is loaded as a whole; -1 where none is. Forgets them all where the lake is another one."""
    rows = server.ask("select batch, fingerprint from loaded_batches order by batch desc limit 1")
    if rows and lake.fingerprint(rows[0]["batch"]) != rows[0]["fingerprint"]:
        say("ClickHouse has another lake's events: loading everything again")
        server.ask("truncate table loaded_batches")
        rows = []
    return int(rows[0]["batch"]) if rows else -1


def _remove_half_loaded(server: ClickHouse, last: int) -> None:
    table = f"{server.address.database}.{_calls_table(server)}"
    if last < 0:
        server.everywhere(f"truncate table {table}")
    elif _count(server, "raw_events", last):
        server.everywhere(f"alter table {table} delete where batch > {last} settings mutations_sync = 2")


def _remove_old(server: ClickHouse, kept_from: date) -> None:
    """Calls of days that the lake does not keep; until then the models leave them out."""
    if server.ask(f"select 1 from raw_events where event_date < '{kept_from}' limit 1"):
        table = f"{server.address.database}.{_calls_table(server)}"
        server.everywhere(f"alter table {table} delete where event_date < '{kept_from}' settings mutations_sync = 2")


def _replace(server: ClickHouse, table: str, columns: Mapping[str, str], sources: Sequence[str]) -> None:
    new = f"{table}__new"
    server.ask(f"drop table if exists {new}")
    for name in (new, table):
        server.ask(
            f"create table if not exists {name} ({_columns(columns, table)}) engine = MergeTree order by tuple()"
        )
    for source in sources:
        _insert(server, new, columns, source)
    server.ask(f"exchange tables {new} and {table}")
    server.ask(f"drop table {new}")


def _add(server: ClickHouse, lake: Lake, seen_at: str, last: int, batches: Sequence[Batch]) -> None:
    """Load the calls of these batches, those after `last`, and remember that they are loaded."""
    # Not only the batches' own folders: rows may have been moved to that of a later one.
    names = [f"{batch.number:06d}" for batch in lake.batches(after=last)]
    folders = f"{{{','.join(names)}}}" if len(names) <= FOLDERS_NAMED else "*"
    source = _files(seen_at, f"batches/{folders}/calls/*/*.parquet", CALL_COLUMNS)
    until = batches[-1].number
    _insert(server, "raw_events", CALL_COLUMNS, f"{source} where batch > {last} and batch <= {until}")
    wanted = sum(batch.accepted for batch in batches)
    if lake.kept_from() > SINCE_EVER:  # of older batches calls are gone
        wanted = lake.count(last, until)
    found = _count(server, "raw_events", last) + _count(server, "raw_other_events", last, until)
    if found != wanted:
        raise ClickHouseError(
            f"{server.place}: of batches {last + 1} to {until} it has {counted(found, 'event')} and the lake"
            f" {wanted:,}. Run again to load them again. If the numbers still differ, {seen_at} there is not"
            f" {lake.root} here"
        )
    rows = ", ".join(f"({batch.number}, '{lake.fingerprint(batch.number)}')" for batch in batches)
    server.ask(f"insert into loaded_batches (batch, fingerprint) values {rows}")


def _insert(server: ClickHouse, table: str, columns: Mapping[str, str], source: str) -> None:
    names = ", ".join(columns)
    server.ask(
        f"insert into {table} ({names}) select {names} from {source}",
        query_id=f"{_query_ids(server)}{uuid.uuid4().hex}",  # one of its own: the server lets go of the last one late
        distributed_foreground_insert=1,  # an answer means that the rows are on their nodes
        max_partitions_per_insert_block=0,  # years may come at once
        insert_deduplicate=0,  # on replicas, what was removed and comes again would be taken for a repetition
        async_insert=0,
    )


def _pieces(batches: Sequence[Batch]) -> Iterator[list[Batch]]:
    piece: list[Batch] = []
    for batch in batches:
        if piece and sum(each.accepted for each in piece) + batch.accepted > CALLS_AT_A_TIME:
            yield piece
            piece = []
        piece.append(batch)
    if piece:
        yield piece


def _count(server: ClickHouse, table: str, after: int, until: int | None = None) -> int:
    end = "" if until is None else f" and batch <= {until}"
    return int(server.ask(f"select count() as rows from {table} where batch > {after}{end}")[0]["rows"])


def _calls_table(server: ClickHouse) -> str:
    """Where calls lie on a node."""
    return "raw_events_shard" if server.address.cluster else "raw_events"


def _files(seen_at: str, pattern: str, columns: Mapping[str, str]) -> str:
    function = "s3" if "://" in seen_at else "file"
    return f"{function}({_literal(f'{seen_at}/{pattern}')}, 'Parquet', {_literal(_columns(columns))})"


def _columns(columns: Mapping[str, str], table: str = "") -> str:
    listed = [
        f"{name} {TYPES[kind] if name in NEVER_NULL else f'Nullable({TYPES[kind]})'}" for name, kind in columns.items()
    ]
    return ", ".join([*listed, DAYS[table]] if table in DAYS else listed)


def _query_ids(server: ClickHouse) -> str:
    return f"headroom-load-{server.address.database}-"


def _literal(text: str) -> str:
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"
