"""Rows of the published marts into tables of the user's own Postgres. Which rows and columns, says `mapping.py`.

Nothing is created or altered there: the tables exist, or nothing is written. A delivered row and the memory of it are
the same row, found by its delivery key, so both are there after one commit or neither is: a ledger in another database
could not promise that. A copy replaces all rows in one transaction; readers see the one before until it commits.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from io import StringIO
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql

from orchestration.channels.postgres.mapping import (
    DELIVERY_KEY,
    KEYS,
    PAYLOAD,
    Column,
    Destination,
    delivery_key,
    match,
    parse,
    types,
)
from orchestration.settings import Settings
from orchestration.usage.findings import Finding
from orchestration.warehouse import published_copy

KEEPALIVES = {"keepalives_idle": 30, "keepalives_interval": 10, "keepalives_count": 3}
OPTIONS = {"TimeZone": "UTC", "lock_timeout": "60s", **{f"tcp_{name}": value for name, value in KEEPALIVES.items()}}
ROW_IS_REFUSED = ("22", "23", "54", "P0")
"""Classes of SQLSTATE that are about one row: its data, a constraint, an index entry too large, a trigger that raises.
Everything else would happen to any row."""

DESCRIBE = sa.text("""
    select
        attribute.attname as name,
        format_type(attribute.atttypid, attribute.atttypmod) as type,
        attribute.attnotnull and not attribute.atthasdef and attribute.attidentity = '' as is_needed,
        attribute.attgenerated <> '' or attribute.attidentity = 'a' as is_computed,
        exists (
            select from pg_index as unique_index
            where
                unique_index.indrelid = attribute.attrelid
                and unique_index.indisunique and unique_index.indisvalid and unique_index.indimmediate
                and unique_index.indpred is null
                and unique_index.indnkeyatts = 1 and unique_index.indkey[0] = attribute.attnum
        ) as is_unique
    from pg_attribute as attribute
    where attribute.attrelid = to_regclass(:table) and attribute.attnum > 0 and not attribute.attisdropped
    order by attribute.attnum
""")
ALLOWED = sa.text("""
    select
        class.relkind in ('r', 'p') as is_table,
        array(
            select privilege from unnest(cast(:privileges as text[])) as privilege
            where not has_table_privilege(class.oid, privilege)
        ) as missing
    from pg_class as class where class.oid = to_regclass(:table)
""")


class UnusableDestinationError(RuntimeError):
    """Nothing could be written. The message says where, why and what to do, and holds no password."""


@dataclass
class TableResult:
    """What became of one table."""

    destination: Destination
    rows: int = 0
    """Delivered now, or copied."""
    known: int = 0
    """Delivered before."""
    refused: list[str] = field(default_factory=list)
    """Why Postgres refused a row, for each such row."""


def configured(config: Settings) -> "PostgresTables | None":
    """The tables as they are configured; None without a URL.

    :raises ValueError: a URL without a file of tables, or one that is not understood.
    """
    if config.destination is None:
        return None
    return PostgresTables(config.destination.get_secret_value(), destinations(config))


def destinations(config: Settings) -> list[Destination]:
    """:raises ValueError: there is no file of tables, or it is not understood."""
    path = config.destination_tables_file
    try:
        found = parse(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise ValueError(
            f"{path}: {reason}. It says which rows go into which tables; the README has an example"
        ) from None
    if not found:
        raise ValueError(f'{path}: names no table, such as ["public.crossings"]; the README has an example')
    return found


def statements(published: Path, tables: Sequence[Destination]) -> list[str]:
    """DDL of all tables and of the schemas that they are in, for the owner of the database.

    :raises ValueError: a mart or a column of it does not exist.
    """
    marts, found = published_copy.columns(published), []
    for each in tables:
        mart = marts.get(each.mart)
        if mart is None:
            raise ValueError(f'["{each.table}"]: there is no mart {each.mart}')
        if unknown := [source for source in (each.columns or {}).values() if source not in each.sources(mart)]:
            raise ValueError(f'["{each.table}"]: {each.mart} has no column {unknown[0]}')
        found.append(_statement(each, mart))
    schemas = dict.fromkeys(_table(each, ()).schema or "public" for each in tables)
    quote = postgresql.dialect().identifier_preparer.quote  # type: ignore[no-untyped-call]
    # Every database has public, which its users may not make, even where it exists.
    return [f"create schema if not exists {quote(name)};" for name in schemas if name != "public"] + found


def _statement(each: Destination, mart: Mapping[str, str]) -> str:
    prepare, sources = postgresql.dialect().identifier_preparer, each.sources(mart)  # type: ignore[no-untyped-call]
    columns = each.columns or {name: name for name in sources}
    lines = [f"    {prepare.quote(name)} {types(sources[source])[0]}" for name, source in columns.items()]
    keys = [name for name, source in columns.items() if source == DELIVERY_KEY]
    lines += [f"    primary key ({prepare.quote(name)})" for name in keys[:1]]
    if each.is_delivered and "delivered_at" not in columns:
        lines.append("    delivered_at timestamp with time zone not null default now()")
    return f"create table {prepare.format_table(_table(each, ()))} (\n" + ",\n".join(lines) + "\n);"


class PostgresTables:
    """Tables at `url`, each with what belongs into it."""

    def __init__(self, url: str, tables: Sequence[Destination]) -> None:
        self._tables = tables
        address = sa.make_url(url)
        self._place = f"database {address.database} at {address.query.get('host') or address.host or 'localhost'}"
        options = " ".join(f"-c {name}={value}" for name, value in OPTIONS.items())
        self._engine = sa.create_engine(
            address.set(drivername="postgresql+psycopg2"),
            poolclass=sa.NullPool,
            hide_parameters=True,
            connect_args={"options": options, "connect_timeout": 10, "application_name": "headroom", **KEEPALIVES},
        )

    def check(self, published: Path) -> list[Finding]:
        """Whether every table takes what is meant for it. Writes nothing.

        :raises NothingPublishedError: nothing was built yet.
        """
        marts, found = published_copy.columns(published), []
        try:
            with self._connected() as connection:
                for each in self._tables:
                    columns, wrong, left_out = self._examine(connection, marts, each)
                    found += [Finding(each.table, problem) for problem in wrong]
                    if left_out:
                        words = f"{each.mart} has {', '.join(left_out)}, which the table does not take"
                        found.append(Finding(each.table, words, is_needed=False))
                    if not wrong:
                        verb = "takes each row of" if each.is_delivered else "takes a copy of"
                        found.append(Finding(f"{each.table} {verb} {each.mart}, {len(columns)} columns"))
        except UnusableDestinationError as error:
            return [Finding("Postgres", str(error))]
        return found

    def write(self, published: Path) -> list[TableResult]:
        """Deliver and copy: each table in a transaction of its own, once it was seen that all can take it.

        :raises UnusableDestinationError: a table cannot be written; those named before it may have been.
        :raises NothingPublishedError: nothing was built yet.
        """
        marts = published_copy.columns(published)
        with self._connected() as connection:
            plans, wrong = [], []
            for each in self._tables:
                columns, problems, _ = self._examine(connection, marts, each)
                plans.append((each, columns))
                wrong += [f"{each.table}: {problem}" for problem in problems]
            if wrong:
                raise UnusableDestinationError(f"nothing was written to {self._place}:\n" + "\n".join(wrong))
            connection.rollback()
            done = []
            for each, columns in plans:
                with connection.begin():
                    if each.is_delivered:
                        done.append(_deliver(connection, published, each, columns, list(marts[each.mart])))
                    else:
                        done.append(_copy(connection, published, each, columns))
        return done

    @contextmanager
    def _connected(self) -> Iterator[sa.Connection]:
        try:
            with self._engine.connect() as connection:
                yield connection
        except (sa.exc.DBAPIError, self._engine.dialect.loaded_dbapi.Error) as error:
            reason = str(getattr(error, "orig", error)).strip().partition("\n")[0]
            raise UnusableDestinationError(
                f"{self._place} cannot be written ({reason}): repair that, or HEADROOM_DESTINATION_URL, and run again;"
                " what was delivered stays, and nothing is doubled"
            ) from None

    def _examine(
        self, connection: sa.Connection, marts: Mapping[str, Mapping[str, str]], each: Destination
    ) -> tuple[dict[str, str], list[str], list[str]]:
        if each.mart not in marts:
            return {}, [f"there is no mart {each.mart}"], []
        name = connection.dialect.identifier_preparer.format_table(_table(each, ()))
        privileges = ["insert", "select" if each.is_delivered else "delete"]
        allowed = connection.execute(ALLOWED, {"table": name, "privileges": privileges}).first()
        if allowed is None:
            return {}, [f"does not exist in {self._place}; `headroom postgres --print-ddl` shows it"], []
        if not allowed.is_table:
            return {}, ["is a view or another relation, not a table"], []
        if allowed.missing:
            user = connection.scalar(sa.text("select current_user"))
            return {}, [f"needs a right: grant {', '.join(allowed.missing)} on {name} to {user}"], []
        rows = connection.execute(DESCRIBE, {"table": name})
        return match(each, marts[each.mart], {row.name: Column(*row[1:]) for row in rows})


def _deliver(
    connection: sa.Connection, published: Path, each: Destination, columns: Mapping[str, str], names: list[str]
) -> TableResult:
    """Insert the rows that the table does not know; in one order, so that two runs at once wait for each other."""
    done, parts = TableResult(each), KEYS[each.mart]
    key = next(name for name, source in columns.items() if source == DELIVERY_KEY)
    table = _table(each, columns)
    insert = postgresql.insert(table).on_conflict_do_nothing(index_elements=[key]).returning(table.c[key])
    stored = sa.select(table.c[key]).where(table.c[key] == sa.func.any(sa.bindparam("keys", type_=sa.ARRAY(sa.Text))))
    for chunk in published_copy.chunks(published, each.mart, names, parts):
        rows = {}
        for values in chunk:
            row = dict(zip(names, values, strict=True))
            identity = delivery_key(each.mart, (row[part] for part in parts))
            clean = {name: _writable(value) for name, value in row.items()}
            rows[identity] = {**clean, DELIVERY_KEY: identity, PAYLOAD: json.dumps(clean, default=str)}
        known = set(connection.scalars(stored, {"keys": list(rows)}))
        new = [row for identity, row in rows.items() if identity not in known]
        refused = _insert(connection, insert, columns, new, done)
        done.known += len(rows) - len(new)
        done.refused += [f"{', '.join(str(row[part]) for part in parts)}: {reason}" for row, reason in refused]
    return done


def _insert(
    connection: sa.Connection, insert: Any, columns: Mapping[str, str], rows: list[dict[str, Any]], done: TableResult
) -> list[tuple[dict[str, Any], str]]:
    """The rows that the table refuses, each with the reason. The others are inserted, unless another run just has."""
    if not rows:
        return []
    values = [{name: row[source] for name, source in columns.items()} for row in rows]
    try:
        with connection.begin_nested():
            inserted = len(connection.scalars(insert, values).all())
    except sa.exc.DBAPIError as error:
        diagnosis: Any = getattr(error.orig, "diag", None)
        if not str(getattr(diagnosis, "sqlstate", "")).startswith(ROW_IS_REFUSED):
            raise
        if len(rows) == 1:
            return [(rows[0], str(diagnosis.message_primary))]
        half = len(rows) // 2
        return [
            *_insert(connection, insert, columns, rows[:half], done),
            *_insert(connection, insert, columns, rows[half:], done),
        ]
    done.rows += inserted
    done.known += len(rows) - inserted
    return []


def _copy(connection: sa.Connection, published: Path, each: Destination, columns: Mapping[str, str]) -> TableResult:
    """Replace all rows. The lock lets readers pass, and a second run only when this one is over."""
    done, prepare = TableResult(each), connection.dialect.identifier_preparer
    table = prepare.format_table(_table(each, ()))
    connection.exec_driver_sql(f"lock table {table} in share row exclusive mode")
    connection.exec_driver_sql(f"delete from {table}")
    copy = f"copy {table} ({', '.join(map(prepare.quote_identifier, columns))}) from stdin"
    cursor = connection.connection.cursor()
    for chunk in published_copy.chunks(published, each.mart, list(columns.values())):
        lines = ("\t".join(map(_field, row)) for row in chunk)
        cursor.copy_expert(copy, StringIO("\n".join(lines)))
        done.rows += len(chunk)
    return done


def _table(each: Destination, columns: Sequence[str] | Mapping[str, str]) -> sa.TableClause:
    schema, _, name = each.table.rpartition(".") if "." in each.table else ("", "", each.table)
    return sa.table(name, *map(sa.column, columns), schema=schema or None)


def _writable(value: Any) -> Any:
    """Postgres has no NUL in a text."""
    return value.replace("\0", "\ufffd") if isinstance(value, str) else value


_ESCAPED = str.maketrans({"\\": r"\\", "\t": r"\t", "\n": r"\n", "\r": r"\r", "\0": "\ufffd"})


def _field(value: Any) -> str:
    if value is None:
        return r"\N"
    return value.translate(_ESCAPED) if isinstance(value, str) else str(value)
