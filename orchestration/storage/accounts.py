"""The accounts file (CSV): its rows, and those that cannot be used."""

import csv
import json
from decimal import Decimal, InvalidOperation
from pathlib import Path

from orchestration.storage.batch import REJECTED_COLUMNS
from orchestration.usage.events import Rejection

ACCOUNT_COLUMNS = {
    "account_id": "varchar",
    "name": "varchar",
    "owner": "varchar",
    "plan": "varchar",
    "mrr": "decimal(18,2)",
    "stripe_customer_id": "varchar",
}
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
                try:
                    mrr = Decimal(row["mrr"]).quantize(Decimal("0.01")) if row.get("mrr") else None
                    has_more_fields_than_names = None in row
                    if not account or account in rows or has_more_fields_than_names or (mrr and abs(mrr) >= 10**15):
                        raise InvalidOperation
                except InvalidOperation:
                    line = json.dumps({key or "": value for key, value in row.items()})
                    rejected.append((path.name, reader.line_num, Rejection.INVALID_ROW, line))
                    continue
                text = [row.get(column) or None for column in ("name", "owner", "plan")]
                rows[account] = (account, *text, mrr, row.get("stripe_customer_id") or None)
        except UnicodeDecodeError as error:
            raise ValueError(f"{path} is not UTF-8 text; export it as UTF-8") from error
        except csv.Error as error:
            raise ValueError(f"{path}, line {reader.reader.line_num}: {error}; look at its quotes") from error
    return list(rows.values()), rejected
