"""The accounts file (CSV): its rows, and those that cannot be used."""

import csv
import json
from collections.abc import Mapping
from datetime import date
from decimal import Decimal, InvalidOperation
from pathlib import Path

from orchestration.storage.batch import REJECTED_COLUMNS
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
PERIOD_KINDS = ("month", "cycle", "trial", "lifetime")
_WORDS = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}
ACCOUNTS_REJECTED_COLUMNS = {
    name: kind
    for name, kind in REJECTED_COLUMNS.items()
    if name in ("landed_file", "line_number", "reason", "line", "rejected_at")
}


def read_accounts(
    path: Path,
) -> tuple[list[tuple[object, ...]], list[tuple[str, int, str, str]]]:
    rows: dict[str, tuple[object, ...]] = {}
    rejected: list[tuple[str, int, str, str]] = []
    with path.open(encoding="utf-8-sig", newline="") as stream:
        # strict: without it a quote that is never closed swallows the accounts behind it
        reader = csv.DictReader(stream, strict=True)
        try:
            if "account_id" not in (reader.fieldnames or []):
                raise ValueError(
                    f"{path}: the first line must name the columns, among them account_id"
                    f" (and {', '.join(list(ACCOUNT_COLUMNS)[1:])} where known); it names {reader.fieldnames or 'none'}"
                )
            for row in reader:
                account = row["account_id"] or ""
                has_more_fields_than_names = None in row
                try:
                    if not account or account in rows or has_more_fields_than_names:
                        raise ValueError
                    rows[account] = _typed(row)
                except (ValueError, InvalidOperation):
                    line = json.dumps({key or "": value for key, value in row.items()})
                    rejected.append((path.name, reader.line_num, Rejection.INVALID_ROW, line))
        except UnicodeDecodeError as error:
            raise ValueError(f"{path} is not UTF-8 text; export it as UTF-8") from error
        except csv.Error as error:
            raise ValueError(f"{path}, line {reader.reader.line_num}: {error}; look at its quotes") from error
    return list(rows.values()), rejected


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
