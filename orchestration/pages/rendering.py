"""Pages as HTML: the templates, and how figures, moments and names look in them. No figure is made here."""

from collections.abc import Mapping, Sequence
from datetime import date, datetime
from functools import partial
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from orchestration.messages.figures import person
from orchestration.messages.message import account_name
from orchestration.pages import drawing
from orchestration.pages.asking import Asked, Page
from orchestration.pages.links import Links
from orchestration.usage import units
from orchestration.usage.formatting import amount, counted, figure, format_pct, printable
from orchestration.warehouse import queries

STYLE = Path(__file__).resolve().parent / "static" / "pages.css"
ROBOTS = "User-agent: *\nDisallow: /\n"
_TEMPLATES = Path(__file__).resolve().parent / "templates"


def render(page: Page, asked: Asked, name: str) -> str:
    """The whole document. `name` is the page's place in the menu."""
    return (
        _environment()
        .get_template(f"{page.template}.html.jinja")
        .render(
            page.values,
            title=page.title,
            here=name,
            links=asked.links,
            visitor=asked.visitor,
            parameters=asked.parameters,
            quality=queries.data_quality(asked.settings.published),
            moment=partial(moment, zone=asked.settings.zone),
            zone=asked.settings.zone.key,
            now=asked.now,
        )
    )


def refusal(status: int, sentence: str, links: Links) -> str:
    """A page that says why there is none."""
    return _environment().get_template("refusal.html.jinja").render(status=status, sentence=sentence, links=links)


def moment(at: datetime | None, zone: ZoneInfo) -> str:
    """20 Nov 2024, 08:00, in that zone, which the foot of the page names; a dash where there is none."""
    return f"{at.astimezone(zone):%-d %b %Y, %H:%M}" if at else "–"


def day(on: date | datetime | None) -> str:
    """20 Nov 2024; a dash where there is none."""
    return f"{on:%-d %b %Y}" if on else "–"


def _days(days: Sequence[Mapping[str, Any]], unit: str) -> Markup:
    """Usage by UTC day."""
    names = [f"{day(each['utc_day'])}: {amount(each['units'], unit)}" for each in days]
    return drawing.bars([each["units"] for each in days], names)


def _environment() -> Environment:
    global _made
    if _made is None:
        _made = Environment(
            loader=FileSystemLoader(_TEMPLATES), autoescape=True, undefined=StrictUndefined, trim_blocks=True,
            lstrip_blocks=True, auto_reload=False,
            finalize=lambda value: printable(value, keeps_lines=True)
            if isinstance(value, str) and not isinstance(value, Markup)
            else value,
        )  # fmt: skip
        _made.filters |= {"day": day, "pct": format_pct, "person": person}
        _made.globals |= {
            "figure": figure,
            "amount": amount,
            "counted": counted,
            "account_name": account_name,
            "sparkline": drawing.sparkline,
            "day_bars": _days,
            "units_name": units.name,
        }
    return _made


_made: Environment | None = None
