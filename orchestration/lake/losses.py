"""Whether a file of accounts lost so much that a person should say so before it is taken. Pure.

Every rule is about what was there and is not any more: new rows and other values are never held. What a person removes
row by row is not held either; billing asks before it takes usage away from a customer.
"""

from collections.abc import Collection, Sequence, Sized
from typing import TYPE_CHECKING, Any

import pyarrow.compute as pc

from orchestration.lake.account_files import AccountsFile, Reading
from orchestration.lake.cells import strip
from orchestration.lake.sheet import Row, Sheet
from orchestration.lake.typed_rows import TypedRows
from orchestration.usage.formatting import counted

if TYPE_CHECKING:
    from orchestration.lake.account_copies import Copy

FEWEST = 3
"""Rows that may go without a question, however few there are."""
SHARE = 10
"""The same, in percent of what was there."""
LISTED = 3
BETWEEN = "\0"
"""Key and customer, in one text. No key has it: cells.py."""


def find_loss(kind: AccountsFile, before: "Copy", found: Sheet, reading: Reading) -> str:
    """What is missing, in sentences; empty where nothing is that should be asked about."""
    missing = [name for name in before.columns if name not in found.columns]
    if missing and found.columns:
        words = ("column", "is") if len(missing) == 1 else ("columns", "are")
        return f"The {words[0]} {', '.join(missing)} that it had {words[1]} missing."
    rows, left = before.good.rows, reading.rows
    if rows and not left:
        return f"All that it had is missing: {counted(len(rows), 'row')}."
    was = rows.column(0).unique()
    gone = _missing(was, left.column(0))
    if _is_much(gone, was):
        return f"{len(gone):,} of {len(was):,} {kind.name} that it had are missing: {_list(gone)}."
    if torn := find_torn_row(kind, before, found, reading, gone):
        return f"It ends within line {torn.line_number:,}, as if it were cut."
    if gone and was[len(was) - len(gone) :].to_pylist() == gone and _are_billed(kind, rows, gone):
        word = "row is" if len(gone) == 1 else f"{len(gone):,} rows are"
        return f"Its last {word} missing, as if it were cut: {_list(gone)}."
    pairs, now = _pairs(kind, rows).unique(), _pairs(kind, left)
    lost = _missing(pairs, now)
    if pairs and (not now or _is_much(lost, pairs)):
        names = ["{} ({})".format(*pair.split(BETWEEN, 1)) for pair in lost]
        return f"{len(lost):,} of {counted(len(pairs), 'row')} lost or changed their {kind.customer}: {_list(names)}."
    return ""


def find_torn_row(
    kind: AccountsFile, before: "Copy", found: Sheet, reading: Reading, gone: Collection[object]
) -> Row | None:
    """The last row, where the file ends in the middle of it; where it is as it was, only the line end was left out."""
    if found.ends_a_line or not (last := found.last_row):
        return None
    key = strip(last.cells.get(next(iter(kind.columns))))
    was, now = before.good.rows.of(key), reading.rows.of(key)
    is_other = bool(was) and now != was
    if before.ends_a_line:
        is_refused = any(refusal.line_number == last.line_number for refusal in reading.refused)
        return last if gone or is_refused or is_other else None
    # Never does it end a line: then it is its last row that must look like a part of what it was.
    customer, place = strip(last.cells.get(kind.customer)), list(kind.columns).index(kind.customer)
    owners = [str(row[place]) for row in was if row[place] is not None]
    is_part = any(owner.startswith(customer) and owner != customer for owner in owners)
    is_short = last.has_fewer_cells_than_names and sum(row.has_fewer_cells_than_names for row in found.rows) == 1
    return last if is_other and (is_part or is_short) else None


def _missing(was: Any, now: Any) -> list[str]:
    """Arrow's values that are not there any more, in their order. As sets of Python they would take a tenth of a GB."""
    missing: list[str] = was.filter(pc.invert(pc.is_in(was, value_set=now))).to_pylist()
    return missing


def _is_much(lost: Sized, was: Sized) -> bool:
    return len(lost) >= FEWEST and len(lost) * 100 > SHARE * len(was)


def _are_billed(kind: AccountsFile, rows: TypedRows, keys: Sequence[str]) -> bool:
    """Whether usage of one of them goes to a customer by this file, or to an account."""
    billed = {pair.partition(BETWEEN)[0] for pair in _pairs(kind, rows).to_pylist()}
    return not billed.isdisjoint(keys)


def _pairs(kind: AccountsFile, rows: TypedRows) -> Any:
    """Each key with its customer, or its account, where it has one."""
    owners = rows.column(list(kind.columns).index(kind.customer))
    return pc.binary_join_element_wise(rows.column(0), owners, BETWEEN).drop_null()


def _list(names: Sequence[object]) -> str:
    more = f" and {len(names) - LISTED:,} more" if len(names) > LISTED else ""
    return ", ".join(map(str, names[:LISTED])) + more
