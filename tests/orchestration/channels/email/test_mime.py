"""The letter as bytes: headers that filters and mail programs read, its parts, and hostile texts in it."""

from datetime import UTC, datetime
from email import message_from_bytes, policy
from email.headerregistry import Address
from email.message import EmailMessage
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestration.channels.email.addresses import mailbox, named
from orchestration.channels.email.drawing import draw
from orchestration.channels.email.mime import letter, message_id
from orchestration.messages.message import Message
from tests.support.builders import CHART

SENDER = named("Usage, by Headroom <usage@example.com>")
AT = datetime(2026, 11, 20, 8, tzinfo=UTC)


def make_letter(reply_to: Address | None = None, list_id: str = "", **fields: Any) -> EmailMessage:
    known = {"key": "digest|2026-11-20", "audience": "sales", "title": "Usage digest", "headline": "1 account"}
    payload, _ = draw(Message(**{**known, **fields}), "local", {})
    raw = letter(
        payload,
        SENDER,
        [mailbox("sales@example.com")],
        reply_to,
        list_id,
        "local|digest|2026-11-20|mail",
        AT,
        is_repeated=False,
        is_utf8=False,
    )
    assert raw.isascii()
    assert all(len(line) <= 998 for line in raw.split(b"\r\n"))
    assert b"\n" not in raw.replace(b"\r\n", b"") and b"\r" not in raw.replace(b"\r\n", b"")
    found = message_from_bytes(raw, policy=policy.default)
    assert isinstance(found, EmailMessage)
    assert not found.defects
    return found


def test_headers_are_those_of_a_letter_by_a_program() -> None:
    found = make_letter(reply_to=mailbox("dana@example.com"), list_id="usage.example.com")

    assert dict(found.items()) == {
        "Message-ID": message_id("local|digest|2026-11-20|mail", SENDER),
        "Date": "Fri, 20 Nov 2026 08:00:00 +0000",
        "Subject": "Usage digest",
        "From": '"Usage, by Headroom" <usage@example.com>',
        "To": "sales@example.com",
        "Reply-To": "dana@example.com",
        "Auto-Submitted": "auto-generated",
        "List-Id": "<usage.example.com>",
        "MIME-Version": "1.0",
        "Content-Type": found["Content-Type"],
    }


def test_message_id_is_that_of_the_mark() -> None:
    first, again, other = (message_id(mark, SENDER) for mark in ("a|b", "a|b", "a|b#1"))
    assert first == again != other
    assert first.endswith("@example.com>")


@pytest.mark.parametrize("kind", ["https", "mailto"])
def test_unsubscribe_is_one_click_over_https(kind: str) -> None:
    url = {"https": "https://example.com/u?x=1&y=2", "mailto": "mailto:stop@example.com?subject=stop"}[kind]
    found = make_letter(unsubscribe=url, body="Hello")

    assert found["List-Unsubscribe"] == f"<{url}>"
    assert found["List-Unsubscribe-Post"] == ("List-Unsubscribe=One-Click" if kind == "https" else None)


def test_parts_are_text_html_with_pictures_and_files() -> None:
    found = make_letter(charts=[CHART], table=[{"account": "Ünï"}])

    kinds = [part.get_content_type() for part in found.walk()]
    assert kinds == [
        *("multipart/mixed", "multipart/alternative", "text/plain", "multipart/related", "text/html", "image/png"),
        "text/csv",
    ]
    [picture, file] = [part for part in found.walk() if part.get_content_type() in ("image/png", "text/csv")]
    assert picture["Content-ID"] == "<chart-1>"
    assert picture.get_content_disposition() == "inline"
    assert picture.get_content().startswith(b"\x89PNG")
    assert (file.get_filename(), file.get_content_disposition()) == ("digest-2026-11-20-local.csv", "attachment")
    assert file.get_content().replace("\r\n", "\n") == "\ufeffaccount\nÜnï\n"


def test_letter_without_pictures_and_files_is_text_and_html() -> None:
    assert [part.get_content_type() for part in make_letter().walk()] == [
        *("multipart/alternative", "text/plain", "text/html")
    ]


@given(st.text())
def test_subject_is_one_header_whatever_the_title(title: str) -> None:
    found = make_letter(title=title, body=title)

    assert found.keys() == ["Subject", "Message-ID", "Date", "From", "To", "Auto-Submitted", *found.keys()[-2:]]
    assert found["To"] == "sales@example.com"


@pytest.mark.parametrize(
    "title",
    [
        "A\r\nBcc: evil@example.com\r\n\r\nHello",
        "Ünï 漢字 🚀 " * 20,
        "=?utf-8?q?Bcc=3A?= x",
        "x" * 400,
        'A, B; C <d@e.example> (f) "g" \\',
        ".",
    ],
)
def test_subject_reads_as_its_title(title: str) -> None:
    found = make_letter(title=title)

    shown = " ".join(title.split())
    assert found["Subject"] == (shown if len(shown) <= 150 else f"{shown[:149]}…")
    assert found["Bcc"] is None


def test_text_of_dots_is_kept() -> None:
    found = make_letter(body="Hello\n.\n..\nQUIT")
    text = found.get_body(("plain",))
    assert text
    assert text.get_content().split() == ["Hello", ".", "..", "QUIT"]
