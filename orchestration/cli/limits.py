"""`headroom limits`: what gates know, from the snapshot that the last publication wrote."""

from datetime import UTC, datetime
from typing import Annotated, Any

import typer
from rich.text import Text

from orchestration.cli import tables
from orchestration.cli.configuration import load_settings
from orchestration.cli.console import console, fail
from orchestration.usage.formatting import counted
from orchestration.warehouse import limits

_NAMES = ("Meter", "Plan", "Limit", "Quota", "Used", "Resets")


def show_limits(account: Annotated[str, typer.Argument(help="its id, or an id of subjects.csv")] = "") -> None:
    """Show what gates know: where an account stands against its limits, or how old the snapshot is."""
    config = load_settings()
    path = limits.path_of(config.published)
    try:
        snapshot = limits.read(path)
    except limits.LimitsError as error:
        fail(str(error))
    published_at = datetime.fromisoformat(snapshot["published_at"])
    console.print(
        f"{path}: {counted(len(snapshot['accounts']), 'row')}, published {published_at:%Y-%m-%d %H:%M} UTC,"
        f" data through {snapshot['data_through'] or 'no event yet'}",
        markup=False,
        highlight=False,
        soft_wrap=True,
    )
    if not account:
        return
    owner = _owner(snapshot, account, datetime.now(UTC).timestamp())
    rows = [dict(zip(snapshot["columns"], row, strict=True)) for row in snapshot["accounts"] if row[0] == owner]
    if not rows:
        fail(f"no gate knows {account!r}, so each lets its calls through: there are no limits of such an account")
    if owner != account:
        console.print(f"{account} belongs to {owner}.", markup=False, highlight=False)
    tables.print_columns(_NAMES, [_cells(row) for row in rows], ("Quota", "Used"), ("Plan", "Resets"))


def _owner(snapshot: dict[str, Any], subject: str, now: float) -> str:
    """As a gate finds it: the account that the id belongs to now, else the id itself."""
    for each, account, since, until in snapshot["subjects"]:
        if each == subject and since <= now and (until is None or now < until):
            return str(account)
    return subject


def _cells(row: dict[str, Any]) -> list[Text]:
    quota, resets_at = row["quota"], row["resets_at"]
    resets = "never" if resets_at is None else f"{datetime.fromtimestamp(resets_at, UTC):%Y-%m-%d %H:%M} UTC"
    cells = (
        *(row["meter"], row["plan"] or "", row["limit_kind"] or "not known"),
        *("none" if quota is None else f"{quota:,}", f"{row['used']:,}", resets),
    )
    return [Text(cell) for cell in cells]
