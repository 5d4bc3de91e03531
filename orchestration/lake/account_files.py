"""The files that say who the accounts are (CSV): their usable rows, and those that cannot be used.

The accounts file says what an account is, the subjects file which account an id in the events belongs to, the
customers file which Stripe customer an account is billed by; the last two say from when until when.
"""

import csv
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time
from decimal import Decimal, InvalidOperation
from pathlib import Path

from orchestration.lake.batch import REJECTED_COLUMNS
from orchestration.usage.events import Rejection

ACCOUNT_COLUMNS = {
    "account_id": "varchar",
    "name": "varchar",
    "owner": "varchar",
    "csm": "varchar",
    "contact_email": "varchar",
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
_WORDS = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}
ROWS_REJECTED_COLUMNS = {
    name: kind
    for name, kind in REJECTED_COLUMNS.items()
    if name in ("landed_file", "line_number", "reason", "line", "rejected_at")
}
Table = tuple[list[tuple[object, ...]], list[tuple[str, int, str, str]]]
"""The usable rows, and for each other one its file, line number, reason and text."""
Row = dict[str, str | None]


@dataclass(frozen=True)
class AccountsFile:
    """A kind of file. Its name is that of its copy in the lake, too."""

    name: str
    columns: Mapping[str, str]
    read: Callable[[Path], Table]
    """Raises ValueError where the file has no header with the columns that must be there, or is no UTF-8 text."""


def read_accounts(path: Path) -> Table:
    rows: dict[str, tuple[object, ...]] = {}
    rejected: list[tuple[str, int, str, str]] = []
    for line_number, row in _rows(path, ["account_id"], list(ACCOUNT_COLUMNS)[1:]):
        account = row["account_id"] or ""
        try:
            if not account or account in rows or _has_more_fields_than_names(row):
                raise ValueError
            rows[account] = _typed(row)
        except (ValueError, InvalidOperation):
            rejected.append((path.name, line_number, Rejection.INVALID_ROW, _text(row)))
    return list(rows.values()), rejected


def read_subjects(path: Path) -> Table:
    return _read_ranges(path, SUBJECT_COLUMNS)


def read_customers(path: Path) -> Table:
    return _read_ranges(path, CUSTOMER_COLUMNS, is_hourly=True)


ACCOUNTS = AccountsFile("accounts", ACCOUNT_COLUMNS, read_accounts)
SUBJECTS = AccountsFile("subjects", SUBJECT_COLUMNS, read_subjects)
CUSTOMERS = AccountsFile("customers", CUSTOMER_COLUMNS, read_customers)
ACCOUNTS_FILES = (ACCOUNTS, SUBJECTS, CUSTOMERS)


def _read_ranges(path: Path, columns: Mapping[str, str], *, is_hourly: bool = False) -> Table:
    """What belongs to what, half open from valid_from to valid_until; of rows that overlap, the first one counts."""
    owned, owner = list(columns)[:2]
    ranges: dict[str, list[tuple[datetime, datetime]]] = {}
    rows: list[tuple[object, ...]] = []
    rejected: list[tuple[str, int, str, str]] = []
    for line_number, row in _rows(path, list(columns)):
        key, value = row[owned] or "", row[owner] or ""
        try:
            if not key or not value or _has_more_fields_than_names(row):
                raise ValueError
            bounds = [_moment(row.get(name) or "", is_hourly=is_hourly) for name in ("valid_from", "valid_until")]
            start, end = bounds[0] or datetime.min.replace(tzinfo=UTC), bounds[1] or datetime.max.replace(tzinfo=UTC)
            if end <= start:
                raise ValueError
        except (ValueError, OverflowError):
            rejected.append((path.name, line_number, Rejection.INVALID_RANGE, _text(row)))
            continue
        taken = ranges.setdefault(key, [])
        if any(start < other_end and other_start < end for other_start, other_end in taken):
            rejected.append((path.name, line_number, Rejection.OVERLAPPING_RANGE, _text(row)))
            continue
        taken.append((start, end))
        rows.append((key, value, *bounds))
    return rows, rejected


def _moment(text: str, *, is_hourly: bool) -> datetime | None:
    """A date is its midnight, UTC. ValueError or OverflowError where it cannot be read, or is on no full hour."""
    if not text:
        return None
    try:
        moment = datetime.combine(date.fromisoformat(text), time(), UTC)
    except ValueError:
        moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        raise ValueError
    moment = moment.astimezone(UTC)
    if is_hourly and (moment.minute, moment.second, moment.microsecond) != (0, 0, 0):
        raise ValueError
    return moment


def _rows(path: Path, needed: Sequence[str], known: Sequence[str] = ()) -> Iterator[tuple[int, Row]]:
    """The file's rows with their line numbers; ValueError with a sentence where it cannot be read."""
    with path.open(encoding="utf-8-sig", newline="") as stream:
        # strict: without it a quote that is never closed swallows the rows behind it
        reader = csv.DictReader(stream, strict=True)
        try:
            if not set(needed) <= set(reader.fieldnames or []):
                besides = f" (and {', '.join(known)} where known)" if known else ""
                raise ValueError(
                    f"{path}: the first line must name the columns, among them {', '.join(needed)}{besides};"
                    f" it names {reader.fieldnames or 'none'}"
                )
            for row in reader:
                yield reader.line_num, row
        except UnicodeDecodeError as error:
            raise ValueError(f"{path} is not UTF-8 text; export it as UTF-8") from error
        except csv.Error as error:
            raise ValueError(f"{path}, line {reader.reader.line_num}: {error}; look at its quotes") from error


def _has_more_fields_than_names(row: Row) -> bool:
    return None in row


def _text(row: Row) -> str:
    return json.dumps({key or "": value for key, value in row.items()})


def _typed(row: Mapping[str, str | None]) -> tuple[object, ...]:
    """The row's values in the order of `ACCOUNT_COLUMNS`; ValueError or InvalidOperation where one cannot be read."""
    values = {name: _value(row.get(name) or "", kind) for name, kind in ACCOUNT_COLUMNS.items()}
    kind, anchor, end = values["period_kind"], values["period_anchor"], values["period_ends_on"]
    if kind not in (None, *PERIOD_KINDS):
        raise ValueError
    if kind in ("cycle", "trial") and not isinstance(anchor, date):
        raise ValueError
    if kind == "trial" and not (isinstance(anchor, date) and isinstance(end, date) and anchor < end):
        raise ValueError
    return tuple(values.values())


def _value(text: str, kind: str) -> object:
    if not text:
        return None
    if kind == "date":
        return date.fromisoformat(text)
    if kind == "boolean":
        if text.lower() not in _WORDS:
            raise ValueError
        return _WORDS[text.lower()]
    if kind.startswith("decimal"):
        amount = Decimal(text).quantize(Decimal("0.01"))
        if abs(amount) >= 10**15:
            raise ValueError
        return amount
    return text
