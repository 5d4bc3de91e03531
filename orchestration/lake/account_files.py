"""The files that say who the accounts are (CSV): what counts of them, and what does not, with the reason. Pure.

The accounts file says what an account is, the subjects file which account an id in the events belongs to, the
customers file which Stripe customer an account is billed by; the last two say from when until when.

What cannot be read never takes anything away: a cell has the value that was last good for its account, a row of which
an id or a time cannot be read leaves its account, or its subject, as it was. What was good is in the lake's copy, which
`account_copies.py` keeps.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime

from orchestration.lake import cells
from orchestration.lake.sheet import Row, Sheet
from orchestration.lake.typed_rows import TypedRows, Values
from orchestration.usage.events import Rejection

ACCOUNT_COLUMNS = {
    "account_id": "varchar",
    "name": "varchar",
    "owner": "varchar",
    "csm": "varchar",
    "contact_email": "varchar",
    "slack_channel": "varchar",
    "segment": "varchar",
    "plan": "varchar",
    "mrr": "decimal(18,2)",
    "renewal_on": "date",
    "stripe_customer_id": "varchar",
    "is_trial": "boolean",
    "is_internal": "boolean",
    "is_test": "boolean",
    "snoozed_until": "date",
    "period_kind": "varchar",
    "period_anchor": "date",
    "period_ends_on": "date",
}
"""Only the first one must be there. What they mean is in stg_accounts.yml."""
SUBJECT_COLUMNS = {
    "subject": "varchar",
    "account_id": "varchar",
    "valid_from": "timestamptz",
    "valid_until": "timestamptz",
}
"""All of them must be there, here and below: a misspelt valid_until would be an open one."""
CUSTOMER_COLUMNS = {
    "account_id": "varchar",
    "stripe_customer_id": "varchar",
    "valid_from": "timestamptz",
    "valid_until": "timestamptz",
}
PERIOD_KINDS = ("month", "cycle", "trial", "lifetime", "stripe")
PERIOD = ("period_kind", "period_anchor", "period_ends_on")
"""They belong together: where one cannot be read, the last good ones of all three count."""
WHOLE = "*"
"""In place of a column: all of the key's rows."""
NOBODY_UNTIL = datetime(1970, 1, 1, 1, tzinfo=UTC)
"""End of the hour that a customer has whose row could never be read: long before any usage."""
_EARLIEST, _LATEST = datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC)


@dataclass(frozen=True)
class Refusal:
    """What does not count of a file, and why; without a column a whole row."""

    line_number: int
    reason: str
    line: str
    column: str | None
    value: str | None
    problem: str
    """What is wrong, and what counts instead. For people."""


@dataclass(frozen=True)
class Good:
    """What was last good: the rows in use, and since when they are no more what the file says."""

    rows: TypedRows
    read_at: datetime | None = None
    """When they were read. None: the lake has read no such file yet."""
    kept: Mapping[str, Mapping[str, datetime]] = field(default_factory=dict)
    """By key and column, or `WHOLE`: when what is kept of it was read."""

    def read(self, key: str, column: str) -> datetime | None:
        """When the value in use was in the file."""
        kept = self.kept.get(key, {})
        return kept.get(column) or kept.get(WHOLE) or self.read_at


@dataclass
class Reading:
    """What counts of a file."""

    rows: TypedRows
    refused: list[Refusal] = field(default_factory=list)
    kept: dict[str, dict[str, datetime]] = field(default_factory=dict)
    """As in `Good`: what is not what the file says."""
    has_row_of_anybody: bool = False
    """Whether the key of a row cannot be read."""

    def keep(self, key: str, columns: Sequence[str], good: Good) -> None:
        for column in columns:
            if at := good.read(key, column):
                self.kept.setdefault(key, {})[column] = at

    def refuse(self, row: Row, reason: str, problem: str, column: str | None = None) -> None:
        value = row.cells.get(column, "") if column else None
        self.refused.append(Refusal(row.line_number, reason, row.text, column, value, problem))


@dataclass(frozen=True)
class AccountsFile:
    """A kind of file. Its name is that of its copy in the lake, too; a key is what the first column has."""

    name: str
    columns: Mapping[str, str]
    needed: Sequence[str]
    customer: str
    """Column of the customer who is billed, or of the account that is: not one of them goes by accident."""
    read: Callable[[Sheet, Good, bool], Reading]
    """Of a sheet and what was last good; whether keys may go although an id cannot be read."""


def read_accounts(sheet: Sheet, good: Good, may_lose: bool) -> Reading:
    reading, seen = Reading(TypedRows(ACCOUNT_COLUMNS)), set[str]()
    broken: dict[str, Row] = {}
    for row in sheet.rows:
        account = _key(row, "account_id", Rejection.INVALID_ROW, reading, bool(good.rows) and not may_lose)
        if account is None:
            continue
        if row.has_more_cells_than_names:
            broken.setdefault(account, row)
            problem = f"The row has more cells than the first line has names. {_rows_count(account, good)}."
            reading.refuse(row, Rejection.INVALID_ROW, problem)
        elif account in seen:
            reading.refuse(row, Rejection.INVALID_ROW, f"{account} is there twice: the first row counts.", "account_id")
        else:
            seen.add(account)
            reading.rows.append(_typed(account, row, good, reading))
    for account in broken:
        if account not in seen and (last := good.rows.of(account)):
            reading.rows.extend(last)
            reading.keep(account, [WHOLE], good)
    return _without_loss(reading, good, may_lose)


def read_subjects(sheet: Sheet, good: Good, may_lose: bool) -> Reading:
    return _read_ranges(sheet, good, may_lose, SUBJECT_COLUMNS)


def read_customers(sheet: Sheet, good: Good, may_lose: bool) -> Reading:
    return _read_ranges(sheet, good, may_lose, CUSTOMER_COLUMNS, is_billing=True)


ACCOUNTS = AccountsFile("accounts", ACCOUNT_COLUMNS, ["account_id"], "stripe_customer_id", read_accounts)
SUBJECTS = AccountsFile("subjects", SUBJECT_COLUMNS, list(SUBJECT_COLUMNS), "account_id", read_subjects)
CUSTOMERS = AccountsFile("customers", CUSTOMER_COLUMNS, list(CUSTOMER_COLUMNS), "stripe_customer_id", read_customers)
ACCOUNTS_FILES = (ACCOUNTS, SUBJECTS, CUSTOMERS)


def _typed(account: str, row: Row, good: Good, reading: Reading) -> Values:
    """The row's values in the order of `ACCOUNT_COLUMNS`, those that cannot be read as they were."""
    values: dict[str, object] = {}
    bad: dict[str, str] = {}
    for name, kind in ACCOUNT_COLUMNS.items():
        text = row.cells.get(name)
        try:
            is_id = name == "account_id" or (name == "stripe_customer_id" and cells.strip(text))
            values[name] = cells.identifier(text, has_blanks=name == "account_id") if is_id else cells.value(text, kind)
        except ValueError as error:
            bad[name] = str(error)
    if not bad.keys() & set(PERIOD) and (problem := _period_problem(*(values[name] for name in PERIOD))):
        bad["period_kind"] = problem
    last = good.rows.of(account) if bad else []
    before = dict(zip(ACCOUNT_COLUMNS, last[0], strict=True)) if last else dict.fromkeys(ACCOUNT_COLUMNS)
    for name, problem in bad.items():
        group = PERIOD if name in PERIOD else (name,)
        values |= {each: before[each] for each in group}
        reading.keep(account, group if last else (), good)
        at = good.read(account, name) if last else None
        words = f"{name} {row.cells.get(name, '')!r} {problem}. {_value_counts(group, before, at)}"
        reading.refuse(row, Rejection.INVALID_CELL, words, name)
    return tuple(values[name] for name in ACCOUNT_COLUMNS)


def _period_problem(kind: object, anchor: object, end: object) -> str:
    if kind not in (None, *PERIOD_KINDS):
        return f"is none of {', '.join(PERIOD_KINDS)}"
    if kind in ("cycle", "trial") and not isinstance(anchor, date):
        return "needs a period_anchor"
    if kind == "trial" and not (isinstance(anchor, date) and isinstance(end, date) and anchor < end):
        return "needs a period_ends_on after its period_anchor"
    return ""


def _read_ranges(
    sheet: Sheet, good: Good, may_lose: bool, columns: Mapping[str, str], *, is_billing: bool = False
) -> Reading:
    """What belongs to what, half open from valid_from to valid_until; of rows that overlap, the first one counts.

    A key of which a row cannot be read has the rows that were last good, and none of this file.
    """
    owned, owner = list(columns)[:2]
    reading = Reading(TypedRows(columns))
    usable: list[tuple[Row, str, str, datetime | None, datetime | None]] = []
    broken: dict[str, Row] = {}
    for row in sheet.rows:
        key = _key(row, owned, Rejection.INVALID_RANGE, reading, bool(good.rows) and not may_lose)
        if key is None:
            continue
        column, problem, found = _range(row, owner, is_billing=is_billing)
        if found:
            usable.append((row, key, *found))
        else:
            broken.setdefault(key, row)
            value = f"{column} {row.cells.get(column, '')!r}" if column else "The row"
            words = f"{value} {problem}. {_rows_count(key, good)}."
            reading.refuse(row, Rejection.INVALID_RANGE, words, column)
    has_good = good.read_at is not None
    ranges: dict[str, list[tuple[datetime, datetime]]] = {}
    for row, key, value, start, end in usable:
        if has_good and key in broken:
            continue
        first, behind = start or _EARLIEST, end or _LATEST
        taken = ranges.setdefault(key, [])
        if any(first < other_behind and other < behind for other, other_behind in taken):
            words = f"A row before it says to whom {key} belongs at that time, and counts: end that one."
            reading.refuse(row, Rejection.OVERLAPPING_RANGE, words)
            continue
        taken.append((first, behind))
        reading.rows.append((key, value, start, end))
    for key, row in broken.items():
        if has_good and (last := good.rows.of(key)):
            reading.rows.extend(last)
            reading.keep(key, [WHOLE], good)
        elif not has_good and is_billing and key not in ranges:
            # named, so that the accounts file's customer does not get what may be another's
            reading.rows.append((key, cells.strip(row.cells.get(owner)) or "unknown", None, NOBODY_UNTIL))
    return _without_loss(reading, good, may_lose)


def _range(
    row: Row, owner: str, *, is_billing: bool
) -> tuple[str | None, str, tuple[str, datetime | None, datetime | None] | None]:
    """(column, what is wrong with it, nothing) or the owner and the bounds."""
    if row.has_more_cells_than_names:
        return None, "has more cells than the first line has names", None
    column = owner
    try:
        value = cells.identifier(row.cells.get(owner), has_blanks=not is_billing)
        column = "valid_from"
        start = cells.moment(row.cells.get(column), is_hourly=is_billing)
        column = "valid_until"
        end = cells.moment(row.cells.get(column), is_hourly=is_billing)
        if (end or _LATEST) <= (start or _EARLIEST):
            raise ValueError("is not after valid_from")
    except ValueError as error:
        return column, str(error), None
    return None, "", (value, start, end)


def _key(row: Row, column: str, reason: str, reading: Reading, is_all_kept: bool) -> str | None:
    """The row's key; None, and the row refused, where it has none that can be read."""
    try:
        return cells.identifier(row.cells.get(column))
    except ValueError as error:
        words = "The row does not count."
        if not row.is_blank:
            reading.has_row_of_anybody = True
            if is_all_kept:
                words = "It may be of any: until it is repaired, nothing goes that the file had before."
        reading.refuse(row, reason, f"{column} {row.cells.get(column, '')!r} {error}. {words}", column)
        return None


def _without_loss(reading: Reading, good: Good, may_lose: bool) -> Reading:
    """Where the key of a row cannot be read, all keys stay that were there: the row may be of any of them."""
    if reading.has_row_of_anybody and not may_lose:
        present = set(reading.rows.column(0).to_pylist())
        for row in good.rows:
            if row[0] not in present:
                reading.rows.append(row)
                reading.keep(str(row[0]), [WHOLE], good)
    return reading


def _rows_count(key: str, good: Good) -> str:
    """What counts in place of a row that cannot be read."""
    count = len(good.rows.of(key))
    if not good.read_at:
        return "The row does not count"
    if not count:
        return f"No row of {key} counts: it has none that was good"
    at = good.read(key, WHOLE)
    return f"What was read {at:%Y-%m-%d %H:%M} UTC counts for {key}, {count} row{'s' * (count > 1)}"


def _value_counts(group: Sequence[str], before: Mapping[str, object], at: datetime | None) -> str:
    if at is None:
        return "No good value is known: it counts as empty."
    values = ", ".join(f"{name} {'empty' if before[name] is None else before[name]}" for name in group)
    return f"What was read {at:%Y-%m-%d %H:%M} UTC counts: {values}."
