"""Slack's payloads as a page that looks like Slack, for a browser without a workspace. Knows blocks, not digests.

The page needs nothing but itself: no script, nothing from elsewhere. Texts are data and appear as text; what this
module does not know how to draw, it shows as JSON.
"""

import csv
import io
import json
import re
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from jinja2 import ChainableUndefined, Environment, FileSystemLoader
from markupsafe import Markup

_MARKUP = re.compile(
    r"```(?P<pre>.+?)```|`(?P<code>[^`\n]+)`|<(?P<link>[^<>\n]+)>"
    r"|(?<!\w)(?:\*(?P<b>[^*\n]+)\*|_(?P<i>[^_\n]+)_|~(?P<s>[^~\n]+)~)(?!\w)",
    re.DOTALL,
)
_SCHEMES = ("https://", "http://", "mailto:")
_TAGS = {tag: Markup(f"<{tag}>{{}}</{tag}>") for tag in ("pre", "code", "b", "i", "s")}  # noqa: S704 - constants


def slack_page(
    title: str,
    status: str,
    payload: Mapping[str, Any],
    replies: Sequence[Mapping[str, Any]],
    users: Mapping[str, str],
    at: datetime,
) -> str:
    """HTML of a message and the replies in its thread; `at` is in the zone of its readers.

    `users` are e-mail addresses by user id: whom Slack shows by name is named by what comes before the @.
    """
    names = {user_id: email.partition("@")[0] for user_id, email in users.items()}
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=ChainableUndefined,  # most fields of a block are optional
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["mrkdwn"] = lambda text: _mrkdwn(text, names)
    environment.filters["user"] = lambda user_id: _user(user_id, names)
    environment.filters["link"] = _anchor
    environment.filters["csv"] = _csv_rows
    environment.filters["json"] = lambda value: json.dumps(value, ensure_ascii=False)  # escaped later, as all texts
    return environment.get_template("page.html").render(
        title=title,
        status=status,
        channel=payload.get("audience", "sales"),
        message=payload["message"],
        replies=replies,
        at=at,
    )


def _csv_rows(content: str) -> list[list[str]]:
    return list(csv.reader(io.StringIO(content.removeprefix("\ufeff"))))


def _user(user_id: str, names: Mapping[str, str]) -> Markup:
    return Markup('<span class="mention">@{}</span>').format(names.get(user_id, user_id))


def _mrkdwn(text: str, names: Mapping[str, str]) -> Markup:
    """Slack's own markup: mentions, links, bold, italic, struck, code."""
    parts, end = [], 0
    for match in _MARKUP.finditer(text):
        kind, inner = str(match.lastgroup), match[str(match.lastgroup)]
        if kind == "link":
            drawn = _link(inner, names)
        else:
            drawn = _TAGS[kind].format(_plain(inner) if kind in ("pre", "code") else _mrkdwn(inner, names))
        parts += [_plain(text[end : match.start()]), drawn]
        end = match.end()
    return Markup().join([*parts, _plain(text[end:])])


def _anchor(element: Mapping[str, Any]) -> Markup | str:
    """A link of a rich_text block."""
    url = str(element.get("url") or "")
    return _address(url, str(element.get("text") or url))


def _link(inner: str, names: Mapping[str, str]) -> Markup | str:
    target, _, label = inner.partition("|")
    if target.startswith("@"):
        return _user(target[1:], names)
    if target.startswith(("#", "!")):
        return Markup('<span class="mention">{}</span>').format(_plain(label or f"@{target[1:]}"))
    if not target.startswith(_SCHEMES):
        return _plain(f"<{inner}>")
    return _address(_plain(target), _plain(label or target))


def _address(url: str, text: str) -> Markup | str:
    return Markup('<a href="{}">{}</a>').format(url, text) if url.startswith(_SCHEMES) else text


def _plain(text: str) -> str:
    """Without the three escapes that Slack knows; the template's own come after."""
    return text.replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&")
