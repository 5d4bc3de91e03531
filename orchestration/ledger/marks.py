"""Marks: short texts that the ledger keeps under names, such as how far something was brought.

A run asks for dozens. So each statement is put together once in a process: that takes as long as to run it twice.
"""

from collections.abc import Collection, Mapping

import sqlalchemy as sa

from orchestration.ledger.tables import marks as table

_IS_NAMED = table.c.name == sa.bindparam("of_name", type_=table.c.name.type)
_VALUE, _DELETION, _INSERTION = (
    sa.select(table.c.value).where(_IS_NAMED),
    sa.delete(table).where(_IS_NAMED),
    table.insert(),
)
_UNCHANGED_DELETION = _DELETION.where(table.c.value == sa.bindparam("of_value", type_=table.c.value.type))


def value(connection: sa.Connection, name: str) -> str | None:
    found: str | None = connection.scalar(_VALUE, {"of_name": name})
    return found


def below(connection: sa.Connection, prefix: str) -> dict[str, str]:
    """All marks whose names begin so, by the rest of their names."""
    query = sa.select(table.c.name, table.c.value).where(table.c.name.startswith(prefix, autoescape=True))
    return {name.removeprefix(prefix): value for name, value in connection.execute(query)}


def put(connection: sa.Connection, values: Mapping[str, str]) -> None:
    """By name, in place of what they were. Called in a transaction that writes."""
    remove(connection, values.keys())
    if values:
        connection.execute(_INSERTION, [{"name": name, "value": value} for name, value in values.items()])


def remove(connection: sa.Connection, names: Collection[str]) -> None:
    if names:
        connection.execute(_DELETION, [{"of_name": name} for name in names])


def remove_unchanged(connection: sa.Connection, values: Mapping[str, str]) -> None:
    """Those that still have that value."""
    if values:
        connection.execute(
            _UNCHANGED_DELETION, [{"of_name": name, "of_value": value} for name, value in values.items()]
        )
