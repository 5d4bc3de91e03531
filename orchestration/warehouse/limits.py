"""`limits.json`: where each account stands against its limits, for the gates at the doors of APIs.

A gate loads it in place of the marts: what is counted and how it is weighed, the rates of plans, and a row for each
account and meter. Each publication writes it beside the published copy, whichever engine built the marts. The
format is in docs/gate/limits.md; a change that an older gate would misread has another `version`.
"""

import gzip
import json
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol

import duckdb
from filelock import FileLock

from orchestration.warehouse import published_copy
from orchestration.warehouse.published_copy import Parameters

VERSION = 1
NAME = "limits.json"
COLUMNS = ("account_id", "meter", "plan", "limit_kind", "quota", "used", "period_start", "resets_at")
COMPRESSION = 1
"""Level of gzip: level 5 takes half as long again and saves a tenth."""
_ROWS = 50_000
"""Read and written at a time: about 4 MB."""
_HEAD_CHARACTERS = 1_000
"""In which a snapshot says of which copy it is."""
_MEMORY_LIMIT = "700MB"
"""Of the engine. What needs more memory goes to a folder beside the copy."""

# A gate sees one request at a time and nothing of its answer: it cannot add up tokens, and reads no other property.
_GATE_METERS = """
    select meter from meters
    where aggregation = 'count' and coalesce(event_names, '') <> '' and coalesce(filter, '') = ''
"""
GATE_METERS = f"""
    select meter, unit, string_split(event_names, '|') as events, is_main, coalesce(weights, '') <> '' as is_weighted
    from meters
    where meter in ({_GATE_METERS})
    order by is_main desc, meter
"""
GATE_WEIGHTS = """
    select endpoint, effective_from::varchar as effective_from, weight::varchar as weight
    from endpoint_weights
    order by endpoint, effective_from
"""
GATE_PLANS = """
    select
        plan,
        min(rate) filter (limit_kind <> 'throttle')::varchar as rate_limit_per_second,
        min(rate) filter (limit_kind = 'throttle')::varchar as throttle_per_second
    from (
        -- a gate refuses a snapshot with a rate of 0, which plans_can_be_priced finds
        select plan, limit_kind, nullif(rate_limit_per_second, 0) as rate from plans
    )
    group by plan
    order by plan
"""
GATE_DATA = "select data_through from data_quality"
GATE_ACCOUNTS = f"""
    select json_array(
        account_id, meter, plan, limit_kind,
        case quota_state when 'limited' then quota when 'blocked' then 0 end,
        coalesce(used_mtd, 0),
        epoch(period_start)::bigint,
        case when year(period_end) < 9999 then epoch(period_end)::bigint end
    )::varchar as row
    from utilization_mtd
    where meter in ({_GATE_METERS})
    order by account_id, meter
"""
GATE_SUBJECTS = """
    select json_array(
        subject, account_id,
        epoch(valid_from)::bigint,
        case when year(valid_until) < 9999 then epoch(valid_until)::bigint end
    )::varchar as row
    from stg_subjects
    order by subject, valid_from
"""


class _Sink(Protocol):
    def write(self, data: bytes, /) -> int: ...


class LimitsError(ValueError):
    """`limits.json` is missing or unreadable. The message says what to do."""


@dataclass(frozen=True)
class Written:
    """What a publication wrote."""

    path: Path
    accounts: int
    """Rows: one for each account and meter."""
    size_bytes: int
    compressed_bytes: int


def path_of(published: Path) -> Path:
    """Where the snapshot of that copy is; compressed, it is beside it under the same name with .gz."""
    return published.with_name(NAME)


def compressed(path: Path) -> Path:
    return path.with_name(f"{path.name}.gz")


def write(published: Path, env: str, usage_url: str | None) -> Written:
    """The snapshot of the copy that is published now, in place of the one before; a kill leaves one of the two.

    Of two publications at once, the last to write has the newest copy: a lock lets one of them in at a time.

    :raises duckdb.Error: the copy cannot be read, or another version of Headroom built it.
    :raises NothingPublishedError: nothing was built yet.
    """
    path = path_of(published)
    with FileLock(path.with_suffix(".lock")):
        version, made_at = published_copy.version_of(published), published.stat().st_mtime
        with published_copy.attached_for_now(published, _MEMORY_LIMIT) as connection:
            connection.execute("set enable_progress_bar = false")
            head = {
                "version": VERSION,
                "published_at": f"{datetime.fromtimestamp(made_at, UTC):%Y-%m-%dT%H:%M:%SZ}",
                "copy": version,
                **_head(connection),
                "env": env,
                "usage_url": usage_url,
                "columns": COLUMNS,
            }
            staged = path.with_name(f".{path.name}"), path.with_name(f".{path.name}.gz")
            with staged[0].open("wb") as plain, staged[1].open("wb") as raw:
                # without a name and a time in it, the same snapshot has the same bytes
                with gzip.GzipFile("", "wb", COMPRESSION, raw, mtime=0) as packed:
                    accounts = _write(connection, head, (plain, packed))
                for file in (plain, raw):
                    file.flush()
                    os.fsync(file.fileno())
        sizes = [file.stat().st_size for file in staged]
        staged[1].replace(compressed(path))
        staged[0].replace(path)
    return Written(path, accounts, *sizes)


def read(path: Path) -> dict[str, Any]:
    """The whole snapshot.

    :raises LimitsError: there is none, or it cannot be read.
    """
    try:
        found: dict[str, Any] = json.loads(path.read_bytes())
    except FileNotFoundError:
        raise LimitsError(f"{path} does not exist yet: `headroom run` writes it") from None
    except (OSError, ValueError) as error:
        raise LimitsError(f"{path} cannot be read ({error}): `headroom run` writes it again") from None
    return found


def copy_of(path: Path) -> str | None:
    """The version of the copy that the snapshot was made of, from its first bytes; None where there is none."""
    try:
        with path.open(encoding="utf-8", errors="replace") as file:
            found = re.search('"copy": "([^"]*)"', file.read(_HEAD_CHARACTERS))
    except FileNotFoundError:
        return None
    return found[1] if found else ""


def _head(connection: duckdb.DuckDBPyConnection) -> dict[str, Any]:
    def rows(sql: str, parameters: Parameters | None = None) -> list[dict[str, Any]]:
        return published_copy.rows_of(connection, sql, parameters)

    weights = [[row["endpoint"], row["effective_from"], row["weight"]] for row in rows(GATE_WEIGHTS)]
    through = max((row["data_through"] for row in rows(GATE_DATA) if row["data_through"]), default=None)
    return {
        "data_through": f"{through:%Y-%m-%dT%H:%M:%SZ}" if through else None,
        "meters": {
            row["meter"]: {
                "unit": row["unit"],
                "events": row["events"],
                "is_main": row["is_main"],
                "weights": weights if row["is_weighted"] else [],
            }
            for row in rows(GATE_METERS)
        },
        "plans": {
            row["plan"]: {name: value for name, value in row.items() if name != "plan" and value is not None}
            for row in rows(GATE_PLANS)
        },
    }


def _write(connection: duckdb.DuckDBPyConnection, head: dict[str, Any], files: tuple[_Sink, ...]) -> int:
    def say(text: str) -> None:
        for file in files:
            file.write(text.encode())

    def listed(sql: str) -> int:
        count = 0
        for rows in _texts(connection, sql):
            say((",\n" if count else "\n") + ",\n".join(rows))
            count += len(rows)
        return count

    say(f'{json.dumps(head, ensure_ascii=False)[:-1]}, "accounts": [')
    accounts = listed(GATE_ACCOUNTS)
    say('],\n"subjects": [')
    listed(GATE_SUBJECTS)
    say("]}\n")
    return accounts


def _texts(connection: duckdb.DuckDBPyConnection, sql: str) -> Iterator[list[str]]:
    for batch in connection.sql(sql).to_arrow_reader(_ROWS):
        if batch.num_rows:
            yield batch.column(0).to_pylist()
