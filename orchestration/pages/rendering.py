"""Pages as HTML: the templates, and how figures, moments and names look in them. No figure is made here."""

from datetime import date, datetime
from functools import partial
from pathlib import Path
from zoneinfo import ZoneInfo

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from orchestration.messages import advice_words
from orchestration.messages.figures import change, person
from orchestration.messages.message import account_name
from orchestration.pages import drawing
from orchestration.pages.asking import Asked, Page
from orchestration.pages.links import Links
from orchestration.usage import units
from orchestration.usage.formatting import amount, counted, figure, format_pct, noun, printable
from orchestration.warehouse import queries

STYLE = Path(__file__).resolve().parent / "static" / "pages.css"
ROBOTS = "User-agent: *\nDisallow: /\n"
_REFUSED = {401: "A link is needed", 404: "Not found", 429: "Too many tries", 503: "Not available right now"}
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


def refusal(status: int, sentence: str, links: Links, *, is_customers: bool) -> str:
    """A page that says why there is none. Colleagues are led back to the accounts; a customer sees no name of ours."""
    heading = _REFUSED.get(status, "That did not work")
    template = _environment().get_template("refusal.html.jinja")
    has_way_out = status in (400, 404) and not is_customers
    return template.render(
        heading=heading, sentence=sentence, links=links, is_customers=is_customers, has_way_out=has_way_out
    )


def moment(at: datetime | None, zone: ZoneInfo) -> str:
    """20 Nov 2024, 08:00, in that zone, which the foot of the page names; a dash where there is none."""
    return f"{at.astimezone(zone):%-d %b %Y, %H:%M}" if at else "–"


def day(on: date | datetime | None) -> str:
    """20 Nov 2024; a dash where there is none."""
    return f"{on:%-d %b %Y}" if on else "–"


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
        _made.filters |= {"day": day, "pct": format_pct, "person": person, "change": change}
        _made.globals |= {
            "figure": figure,
            "amount": amount,
            "noun": noun,
            "counted": counted,
            "why": advice_words.reasons,
            "account_name": account_name,
            "sparkline": drawing.sparkline,
            "units_name": units.name,
        }
    return _made


_made: Environment | None = None
