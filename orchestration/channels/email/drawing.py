"""A message as a letter: subject, text, HTML, pictures and a table. Frozen in the ledger as it is; MIME is mime.py's.

The HTML needs nothing from elsewhere, for mail programs block it and it would say who reads. Its styles are in the
elements; a style sheet for dark screens is the one exception. Gmail cuts off a letter above 102 KB, so fewer accounts
are in one that grows beyond `HTML_BYTES`: the table has all.
"""

import base64
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, Template

from orchestration.channels.email import plain
from orchestration.channels.email.parts import Fact, clean, inert, parts, printable, safe_url
from orchestration.messages import charts
from orchestration.messages.message import Message
from orchestration.messages.picture import HEIGHT, MARGIN, WIDTH, picture
from orchestration.messages.vendor import Drawn
from orchestration.usage.formatting import counted
from orchestration.usage.spreadsheet import spreadsheet

HTML_BYTES = 90_000
SUBJECT_CHARACTERS = 150
FACTS = (200, 100, 50, 25, 10, 5, 0)
"""Of a part, at most: the first number with which there is room for all parts."""
ROWS = 20_000
"""Of the table: a file of some 4 MB, where a mail server takes 10 MB (Postfix's message_size_limit)."""
REPETITION = "This may be a repetition."
PLACE = "<!-- repetition -->"
"""Where the HTML says so; escaped texts cannot hold it."""


def draw(message: Message, env: str, mentions: Mapping[str, str]) -> Drawn:
    """The letter as data, without replies: `subject`, `text`, `html`, `images` (`cid`, `name`, `base64`),
    `files` (`name`, `content`), `reply_to` and `unsubscribe`. Nobody is mentioned; owners are named.
    """
    del mentions
    title = clean(message.title, SUBJECT_CHARACTERS) or "Headroom"
    frame: dict[str, Any] = {"title": inert(title), "place": PLACE, "unsubscribe": safe_url(message.unsubscribe)}
    frame |= {"chart_width": WIDTH + 2 * MARGIN, "chart_height": HEIGHT + 2 * MARGIN}
    images: list[dict[str, str]] = []
    if message.body:
        body = printable(message.body).strip()
        if message.unsubscribe in body:
            frame["unsubscribe"] = ""
        text = plain.letter(body, frame["unsubscribe"])
        html = _html({**frame, "paragraphs": [each.splitlines() for each in body.split("\n\n") if each.strip()]})
    else:
        text, html, images = _notice(message, frame)
    payload = {"subject": title, "text": text, "html": html, "images": images, "files": list(_files(message, env))}
    return {**payload, "reply_to": clean(message.reply_to), "unsubscribe": safe_url(message.unsubscribe)}, []


def _notice(message: Message, frame: dict[str, Any]) -> tuple[str, str, list[dict[str, str]]]:
    digest = message.digest or {}
    footer = [inert(shown) for line in message.footer or digest.get("footer", ()) if (shown := clean(line))]
    if left := len(message.table[ROWS:]):
        footer.append(f"The table leaves out {counted(left, 'account')} after the first {ROWS:,}")
    frame |= {
        "preview": inert(clean(message.notification or digest.get("notification"))),
        "headline": [inert(shown) for line in (message.headline, *digest.get("notices", ())) if (shown := clean(line))],
        "footer": footer,
        "links": [each for each in digest.get("links", ()) if safe_url(each["url"])],
        "unsubscribe": safe_url(message.unsubscribe),
    }
    for most in FACTS:
        drawn = parts(message, most)
        html = _html({**frame, "parts": drawn})
        if len(html.encode()) <= HTML_BYTES:
            break
    return plain.notice(frame, drawn), html, [_image(fact) for part in drawn for fact in part.facts if fact.cid]


def _image(fact: Fact) -> dict[str, str]:
    assert fact.chart, "a picture is of a chart"
    return {
        "cid": fact.cid,
        "name": f"{fact.cid}.png",
        "base64": base64.b64encode(picture(fact.chart)).decode(),
    }


def _html(values: Mapping[str, Any]) -> str:
    return _template().render(values)


@cache
def _template() -> Template:
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent), autoescape=True, trim_blocks=True, lstrip_blocks=True
    )
    return environment.get_template("letter.html", globals={"alternative": charts.alternative})


def _files(message: Message, env: str) -> Iterator[dict[str, str]]:
    if message.table and not message.body:
        name = "".join(sign if sign.isascii() and (sign.isalnum() or sign in "._-") else "-" for sign in message.key)
        yield {"name": f"{name[:100]}-{env}.csv", "content": spreadsheet(message.table[:ROWS])}
