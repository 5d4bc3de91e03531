"""The link of a draft, as a mail program takes it apart again."""

from email.message import EmailMessage
from urllib.parse import parse_qs, unquote, urlsplit

import pytest

from orchestration.messages import mailto

HEADERS = "To: ann.lee@acme.example\nSubject: Your quota: 96 % & rising? Ünï #1\n\n"
BODY = "Dear Ann,\n\n96 % of 1,000 calls are used; 2 + 2 = 4 & more.\n"


def opened(link: str) -> EmailMessage:
    """What a mail program makes of the link (RFC 6068)."""
    parts, message = urlsplit(link), EmailMessage()
    fields = parse_qs(parts.query, strict_parsing=True)
    message["To"], message["Subject"] = unquote(parts.path), fields["subject"][0]
    message.set_content(fields.get("body", [""])[0])
    return message


def test_link_has_the_address_the_subject_and_the_text() -> None:
    link = mailto.link(HEADERS + BODY)

    assert link.startswith("mailto:ann.lee@acme.example?")
    assert not set(link) & set(" \n<>\"'")
    message = opened(link)
    assert message["To"] == "ann.lee@acme.example"
    assert message["Subject"] == "Your quota: 96 % & rising? Ünï #1"
    assert message.get_content().strip() == BODY.strip()


def test_long_text_is_left_out_and_the_rest_stays() -> None:
    message = opened(mailto.link(HEADERS + "word " * 1_000))
    assert message["Subject"] == "Your quota: 96 % & rising? Ünï #1"
    assert message.get_content().strip() == ""


def test_there_is_no_link_where_even_the_subject_is_too_long() -> None:
    assert mailto.link(f"To: ann@acme.example\nSubject: {'x' * 2_000}\n\nHello") == ""


@pytest.mark.parametrize(
    "to",
    [
        "",
        " ",
        "the contact in the CRM",
        "a@b.example, c@d.example",
        "a@b.example?bcc=x@y.example",
        "a@b.example&cc=x",
        "<a@b.example>",
    ],
)
def test_there_is_no_link_without_one_plain_address(to: str) -> None:
    assert mailto.link(f"To: {to}\nSubject: Hello\n\nText") == ""


def test_there_is_no_link_for_a_text_without_headers() -> None:
    assert mailto.link("Dear Ann,\n\nhello") == ""
