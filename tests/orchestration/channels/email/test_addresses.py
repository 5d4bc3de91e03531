"""Addresses that may be sent to a mail server, and those of somebody else's data that may not."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestration.channels.email.addresses import mailbox, mailboxes, named

WRONG = [
    *("", "a", "a@", "@b", "a@b@c", "a b@c", "a@b c", "a@b,c", "<a@b>", "a@-b", "a@b-", "a@b..c", ".a@b", "a.@b"),
    *("a..b@c", '"a b"@c', "a@[127.0.0.1]", "a@b\r\nRCPT TO:<c@d>", "a\x00@b", "a\u202e@b", "a\u00a0b@c"),
    *("x" * 65 + "@b", "a@" + "b" * 254, "a@b_c", "a@münchen..de", "a(b)@c", "a\\@b", "a:b@c", "a;b@c", "\ud800@b"),
]


@pytest.mark.parametrize("text", WRONG)
def test_text_that_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is not an e-mail address"):
        mailbox(text)


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("anna@example.com", "anna@example.com"),
        (" a.b+c_d@e-f.example ", "a.b+c_d@e-f.example"),
        ("anna@localhost", "anna@localhost"),
        ("anna@straße.example", "anna@xn--strae-oqa.example"),
        ("anna@MÜNCHEN.example", "anna@xn--mnchen-3ya.example"),
        ("anná@example.com", "anná@example.com"),
        ("o'brien@example.com", "o'brien@example.com"),
    ],
)
def test_address_has_a_domain_in_ascii(text: str, address: str) -> None:
    assert mailbox(text).addr_spec == address


@given(st.text())
def test_address_is_one_line_or_refused(text: str) -> None:
    try:
        found = mailbox(text).addr_spec
    except ValueError:
        return
    assert found.isprintable() and not set(found) & set(" <>,;\r\n")


def test_addresses_are_each_taken_once() -> None:
    assert [each.addr_spec for each in mailboxes("a@b, c@d,A@b,")] == ["a@b", "c@d"]


@pytest.mark.parametrize("text", ["", " , ", ",".join(f"a{number}@b" for number in range(51))])
def test_none_or_too_many_addresses_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"there is no e-mail address|more than the 50 of one e-mail"):
        mailboxes(text)


def test_sender_may_have_a_name() -> None:
    found = named("Usage <usage@example.com>")
    assert (found.display_name, found.addr_spec) == ("Usage", "usage@example.com")
    assert named("usage@example.com").display_name == ""
    assert named('"Usage, daily" <usage@example.com>').display_name == "Usage, daily"
    with pytest.raises(ValueError, match="is not an e-mail address"):
        named("Usage")
