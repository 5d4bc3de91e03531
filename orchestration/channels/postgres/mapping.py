"""Which rows go into which tables of somebody's Postgres, and which column becomes which: the words. Pure.

The file is the user's, and so are the tables. What is written into them is in `channels/postgres.py`.
"""

import hashlib
import json
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

KEYS = {
    "threshold_crossings": ("account_id", "meter", "period_start", "quota", "threshold"),
    "usage_limit_hits": ("source", "event_id"),
}
"""The marts that are delivered row by row, and what makes a row of theirs the same one, as in the digest."""
DELIVERY_KEY, PAYLOAD = "delivery_key", "payload"
"""What a delivered row has beside the mart's columns: its identity, and all of it as JSON."""
TYPES = {
    "varchar": ("text", "character varying"),
    "bigint": ("bigint", "numeric"),
    "integer": ("integer", "bigint", "numeric"),
    "hugeint": ("numeric",),
    "boolean": ("boolean",),
    "date": ("date",),
    "timestamp": ("timestamp with time zone", "timestamp without time zone"),
    "double": ("double precision",),
    "json": ("jsonb", "json"),
}
"""Types of Postgres that take every value of a mart's type; the first one is for a new table."""


@dataclass(frozen=True)
class Destination:
    """One table of the user's."""

    table: str
    """Its name, `schema.table` or `table`."""
    mart: str
    is_delivered: bool
    """Each row once, never changed; else the table is a copy, replaced as a whole."""
    columns: Mapping[str, str] | None
    """Column of the mart by column of the table; None: those of the same name."""

    def sources(self, mart: Mapping[str, str]) -> dict[str, str]:
        """What a column of the table can be filled from, with its type; `mart` has the mart's columns."""
        return {**mart, DELIVERY_KEY: "varchar", PAYLOAD: "json"} if self.is_delivered else dict(mart)


@dataclass(frozen=True)
class Column:
    """A column of a table, as Postgres describes it."""

    type: str
    is_needed: bool
    """It must have a value, and has no default."""
    is_computed: bool
    """Nobody can write it."""
    is_unique: bool


def parse(text: str) -> list[Destination]:
    """The tables that the file names.

    :raises ValueError: it is not TOML, or says something that is not understood; the message says where and what.
    """
    try:
        tables = tomllib.loads(text.removeprefix("\ufeff"))
    except tomllib.TOMLDecodeError as error:
        raise ValueError(f"is not TOML: {error}") from None
    found = [_destination(name.strip(), _plain(entry)) for name, entry in tables.items()]
    names = [each.table for each in found]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise ValueError(f'["{twice[0]}"] is there twice: name each table once')
    return found


def _plain(entry: object) -> object:
    """The entry without blanks around its words; its keys, which are ours, in small letters."""
    if not isinstance(entry, dict):
        return entry
    plain: dict[str, object] = {}
    for key, value in entry.items():
        name = key.strip().lower() if key.strip().lower() in ("deliver", "copy", "columns") else key
        if name in plain:
            raise ValueError(f"{name!r} is there twice: write it once")
        plain[name] = _stripped(value)
    return plain


def _stripped(value: object) -> object:
    if isinstance(value, dict):
        return {name.strip(): _stripped(each) for name, each in value.items()}
    return value.strip() if isinstance(value, str) else value


def _destination(table: str, entry: object) -> Destination:
    wanted = f'["{table}"]: write deliver = "threshold_crossings" below it, or copy = "utilization_mtd"'
    if not isinstance(entry, dict):
        raise ValueError(f'{table!r} is not a table: name it in brackets and quotes, ["schema.table"]')
    nested = [key for key, value in entry.items() if isinstance(value, dict) and key != "columns"]
    if nested:
        raise ValueError(f'[{table}.{nested[0]}]: put the whole name in quotes, ["{table}.{nested[0]}"]')
    if unknown := sorted(entry.keys() - {"deliver", "copy", "columns"}):
        raise ValueError(f'["{table}"]: {unknown[0]!r} means nothing here; there are deliver, copy and columns')
    marts = [entry[kind] for kind in ("deliver", "copy") if kind in entry]
    if len(marts) != 1 or not isinstance(marts[0], str):
        raise ValueError(wanted)
    is_delivered = "deliver" in entry
    if is_delivered and marts[0] not in KEYS:
        raise ValueError(
            f'["{table}"]: {" and ".join(KEYS)} are delivered row by row, every other mart is copied:'
            f' copy = "{marts[0]}"'
        )
    columns = entry.get("columns")
    is_mapping = isinstance(columns, dict) and columns and all(isinstance(source, str) for source in columns.values())
    if columns is not None and not is_mapping:
        raise ValueError(f'["{table}"]: columns is {{ yours = "the mart\'s", … }}')
    return Destination(table, marts[0], is_delivered, columns)


def match(
    destination: Destination, mart: Mapping[str, str], table: Mapping[str, Column]
) -> tuple[dict[str, str], list[str], list[str]]:
    """(column of the mart by column of the table, what is wrong, what is left out).

    Without a mapping the columns are those of the same name. A mart may then get a column that the table does not
    have: it is in the payload, and named here, and stops nothing.
    """
    sources = destination.sources(mart)
    columns = dict(destination.columns or {name: name for name in sources if name in table})
    wrong = [
        f"column {name}: {destination.mart} has no {source}; it has {', '.join(sources)}"
        for name, source in columns.items()
        if source not in sources
    ]
    wrong += [f"column {name} does not exist" for name in columns if name not in table]
    known = {name: source for name, source in columns.items() if name in table and source in sources}
    for name, source in known.items():
        kind, takes = table[name].type, types(sources[source])
        if table[name].is_computed:
            wrong.append(f"column {name} is computed by Postgres: leave it out")
        elif kind not in takes:
            wrong.append(f"column {name} is {kind}, and {source} needs {' or '.join(takes)}")
    wrong += [
        f"column {name} needs a value: map it, allow null, or give it a default"
        for name, column in table.items()
        if column.is_needed and name not in columns
    ]
    if destination.is_delivered:
        keys = [name for name, source in known.items() if source == DELIVERY_KEY]
        if not keys:
            wrong.append(f"no column has the {DELIVERY_KEY}: without it a row could be there twice")
        elif not table[keys[0]].is_unique:
            wrong.append(f"column {keys[0]} needs a unique constraint of its own, or to be the primary key")
    elif not known:
        wrong.append(f"no column has the name of one of {destination.mart}'s")
    left_out = [] if destination.columns else [name for name in sources if name not in table]
    return known, wrong, left_out


def types(kind: str) -> tuple[str, ...]:
    """Types of Postgres for a type of DuckDB."""
    name = kind.lower()
    if name.startswith("decimal"):
        return "numeric", name.replace("decimal", "numeric")
    return TYPES.get(name, ("text",))


def delivery_key(mart: str, values: Iterable[object]) -> str:
    """The identity of a row: of a length that any index takes, whatever the senders put into their ids."""
    return hashlib.sha256(json.dumps([mart, *map(str, values)]).encode()).hexdigest()
