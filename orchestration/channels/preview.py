"""The channel without credentials: sends nothing, shows what would have been sent."""

from io import StringIO
from typing import Any, Literal

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from orchestration.ledger.ledger import Delivery
from orchestration.usage.formatting import printable

SEVERITY_STYLES = {"critical": "bold red", "high": "red", "warm": "yellow", "watch": "cyan"}
NAMES = ("Account", "Owner")
FIGURES = ("Used / quota", "Of cap", "Projected", "MRR")
COLUMNS = ("Account", "Severity", *FIGURES[:2], "14 days", "Crossed", "Hits cap", *FIGURES[2:], "Owner")


class PreviewChannel:
    """Stands in for a channel whose credentials are not set."""

    is_preview = True

    def __init__(self, name: str) -> None:
        self.name = f"{name} (preview)"

    def address(self, delivery: Delivery, parent: Delivery | None) -> str:
        return ""

    def send(self, delivery: Delivery) -> str:
        raise AssertionError("a preview is recorded, never sent")

    def find(self, delivery: Delivery) -> str | None:
        return None


def digest_table(digest: dict[str, Any]) -> Table:
    """The accounts of a digest as a terminal table."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for name in COLUMNS:
        # On a narrow terminal names wrap, so that figures stay whole.
        justify: Literal["left", "right"] = "right" if name in FIGURES else "left"
        table.add_column(name, justify=justify, no_wrap=name not in NAMES, overflow="fold")
    for item in digest["items"]:
        table.add_row(
            Text(printable(item["name"])),
            Text(item["severity"], SEVERITY_STYLES.get(item["severity"], "")),
            f"{item['used']} / {item['quota']}",
            item["pct"],
            item["sparkline"],
            f"{_threshold(item)} {item['crossed_at']}",
            item["hits_cap"],
            item["projected"],
            item["mrr"],
            Text(printable(item["owner"].partition("@")[0])),  # the name is enough here, and fits
        )
    return table


def _threshold(item: dict[str, Any]) -> str:
    # digests that were frozen before thresholds could be a number of units have its percentage
    return str(item["threshold"]) if "threshold" in item else f"{item['threshold_pct']} %"


def print_digest(console: Console, digest: dict[str, Any]) -> None:
    """The digest as it would appear."""
    console.print(Text(f"Usage digest {digest['date']}", "bold"))
    console.print(Text(printable(digest["headline"])))
    if digest["items"]:
        console.print(digest_table(digest))
    # digests that were frozen by earlier versions have neither of these
    for item in digest["items"]:
        if "action" in item:
            todo = " · ".join(filter(None, [item["action"], f"renews {item['renewal']}" if item["renewal"] else ""]))
            notes = [f"Note: {'; '.join(item['caveats'])}"] if item["caveats"] else []
            console.print(Text(printable(item["name"]), "bold"), Text(printable(todo)))
            for line in (*item["details"], *notes):
                console.print(Text(f"  {printable(line)}"))
    for section in digest.get("sections", ()):
        console.print(Text(f"\n{section['title']}", "bold"))
        more = [f"… and {section['more']:,} more"] if section["more"] else []
        for line in (*section["lines"], *more):
            console.print(Text(f"  {printable(line)}"))
    for line in digest.get("told", ()):
        console.print(Text(printable(line)))
    console.print()
    console.print(Text(" · ".join(digest["footer"]), "dim"))
    for link in digest.get("links", ()):
        console.print(Text(f"{link['text']}: {link['url']}", "dim"))


def digest_text(digest: dict[str, Any]) -> str:
    """The same as plain text, for logs and for the asset's page."""
    stream = StringIO()
    print_digest(Console(file=stream, width=160, color_system=None), digest)
    return stream.getvalue()
