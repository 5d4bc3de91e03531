"""Whether a file of accounts lost so much that a person should say so before it is taken. Pure.

Every rule is about what was there and is not any more: new rows and other values are never held. What a person removes
row by row is not held either; billing asks before it takes usage away from a customer.
"""

from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING

from orchestration.lake.account_files import AccountsFile, Reading, Values
from orchestration.lake.cells import strip
from orchestration.lake.sheet import Sheet
from orchestration.usage.formatting import counted

if TYPE_CHECKING:
    from orchestration.lake.account_copies import Copy

FEWEST = 3
"""Rows that may go without a question, however few there are."""
SHARE = 10
"""The same, in percent of what was there."""
LISTED = 3


def find_loss(kind: AccountsFile, before: "Copy", found: Sheet, reading: Reading) -> str:
    """What is missing, in sentences; empty where nothing is that should be asked about."""
    missing = [name for name in before.columns if name not in found.columns]
    if missing and found.columns:
        words = ("column", "is") if len(missing) == 1 else ("columns", "are")
        return f"The {words[0]} {', '.join(missing)} that it had {words[1]} missing."
    rows, left = before.good.rows, reading.rows
    if rows and not left:
        return f"All that it had is missing: {counted(len(rows), 'row')}."
    was, keys = list(dict.fromkeys(row[0] for row in rows)), {row[0] for row in left}
    gone = [key for key in was if key not in keys]
    if _is_much(gone, was):
        return f"{len(gone):,} of {len(was):,} {kind.name} that it had are missing: {_list(gone)}."
    if is_cut(kind, before, found, reading, gone):
        return f"It ends within line {found.rows[-1].line_number:,}, as if it were cut."
    if gone and was[-len(gone) :] == gone and _are_billed(kind, rows, gone):
        word = "row is" if len(gone) == 1 else f"{len(gone):,} rows are"
        return f"Its last {word} missing, as if it were cut: {_list(gone)}."
    pairs, now = list(dict.fromkeys(_pairs(kind, rows))), set(_pairs(kind, left))
    lost = [pair for pair in pairs if pair not in now]
    if pairs and (not now or _is_much(lost, pairs)):
        names = [f"{key} ({owner})" for key, owner in lost]
        return f"{len(lost):,} of {counted(len(pairs), 'row')} lost or changed their {kind.customer}: {_list(names)}."
    return ""


def is_cut(kind: AccountsFile, before: "Copy", found: Sheet, reading: Reading, gone: Collection[object]) -> bool:
    """Whether it ends in the middle of a line; where its last row is as it was, only the line end was left out."""
    if found.ends_a_line or not found.rows:
        return False
    last = found.rows[-1]
    key = strip(last.cells.get(next(iter(kind.columns))))
    was, now = before.good.of(key), [row for row in reading.rows if row[0] == key]
    is_other = bool(was) and now != was
    if before.ends_a_line:
        is_refused = any(refusal.line_number == last.line_number for refusal in reading.refused)
        return bool(gone) or is_refused or is_other
    # Never does it end a line: then it is its last row that must look like a part of what it was.
    customer = strip(last.cells.get(kind.customer))
    is_part = any(str(owner).startswith(customer) and owner != customer for _, owner in _pairs(kind, was))
    is_short = last.has_fewer_cells_than_names and not any(row.has_fewer_cells_than_names for row in found.rows[:-1])
    return is_other and (is_part or is_short)


def _is_much(lost: Sequence[object], was: Sequence[object]) -> bool:
    return len(lost) >= FEWEST and len(lost) * 100 > SHARE * len(was)


def _are_billed(kind: AccountsFile, rows: Sequence[Values], keys: Collection[object]) -> bool:
    """Whether usage of one of them goes to a customer by this file, or to an account."""
    return any(key in set(keys) for key, _ in _pairs(kind, rows))


def _pairs(kind: AccountsFile, rows: Sequence[Values]) -> list[tuple[object, object]]:
    """Each key with its customer, or its account, where it has one."""
    place = list(kind.columns).index(kind.customer)
    return [(row[0], row[place]) for row in rows if row[place] is not None]


def _list(names: Sequence[object]) -> str:
    more = f" and {len(names) - LISTED:,} more" if len(names) > LISTED else ""
    return ", ".join(map(str, names[:LISTED])) + more
