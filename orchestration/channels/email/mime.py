"""A letter as bytes for a mail server: headers, text beside HTML with its pictures, and files.

    multipart/mixed        only with files
      multipart/alternative
        text/plain
        multipart/related  only with pictures
          text/html
          image/png
      text/csv

Everything is seven bits, so that no server on the way has to change it, which would break its DKIM signature.
"""

import base64
import hashlib
from collections.abc import Mapping, Sequence
from datetime import datetime
from email.header import Header
from email.headerregistry import Address
from email.message import EmailMessage
from email.policy import SMTP
from typing import Any

from orchestration.channels.email.drawing import PLACE, REPETITION

ONE_CLICK = "List-Unsubscribe=One-Click"
"""RFC 8058: the https address takes a POST and asks nothing more."""


def message_id(mark: str, sender: Address) -> str:
    """The same for each attempt of a delivery, and no other: servers drop what has one that they know."""
    return f"<{hashlib.sha256(mark.encode()).hexdigest()[:40]}.headroom@{sender.domain}>"


def letter(
    payload: Mapping[str, Any],
    sender: Address,
    to: Sequence[Address],
    reply_to: Address | None,
    list_id: str,
    mark: str,
    at: datetime,
    *,
    is_repeated: bool,
    is_utf8: bool,
) -> bytes:
    """The payload of drawing.py, as written at that moment. `is_utf8`: an address needs SMTPUTF8 (RFC 6532)."""
    message = EmailMessage(policy=SMTP.clone(cte_type="7bit", utf8=is_utf8))
    message["Message-ID"] = message_id(mark, sender)
    message["Date"] = at
    message["From"] = sender
    message["To"] = list(to)
    if reply_to:
        message["Reply-To"] = reply_to
    message["Auto-Submitted"] = "auto-generated"  # RFC 3834: no answer by a program
    if list_id:
        message["List-Id"] = f"<{list_id}>"
    if payload["unsubscribe"]:
        message["List-Unsubscribe"] = f"<{payload['unsubscribe']}>"
        if payload["unsubscribe"].startswith("https://"):
            message["List-Unsubscribe-Post"] = ONE_CLICK
    _add_body(message, payload, is_repeated)
    return _subject(payload["subject"]) + message.as_bytes()


def _subject(text: str) -> bytes:
    """By the older class of headers: EmailMessage loses blanks of a long one beyond ASCII (CPython 92081, 144156)."""
    charset = "us-ascii" if text.isascii() and "=?" not in text else "utf-8"
    return f"Subject: {Header(text, charset, header_name='Subject').encode(linesep=SMTP.linesep)}\r\n".encode()


def _add_body(message: EmailMessage, payload: Mapping[str, Any], is_repeated: bool) -> None:
    text, html = payload["text"], payload["html"]
    if is_repeated:
        text, html = f"{REPETITION}\n\n{text}", html.replace(PLACE, f"<p>{REPETITION}</p>", 1)
    message.set_content(text)
    message.add_alternative(html, subtype="html")
    page = message.get_payload()[1]  # type: ignore[index]
    assert isinstance(page, EmailMessage)
    for image in payload["images"]:
        content = base64.b64decode(image["base64"])
        cid = f"<{image['cid']}>"
        page.add_related(content, "image", "png", cid=cid, filename=image["name"], disposition="inline")
    for file in payload["files"]:
        content = file["content"].encode()
        message.add_attachment(
            content, maintype="text", subtype="csv", filename=file["name"], params={"charset": "utf-8"}
        )
