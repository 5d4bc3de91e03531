"""E-mail addresses as they may be sent to a mail server: `local@domain`, without names, comments or quotes.

Addresses of accounts are data of somebody else. What is not plainly an address is refused, never repaired.
"""

import re
import unicodedata
from email.headerregistry import Address

import idna

from orchestration.messages.figures import one_line

MOST = 50
"""Recipients of one letter. A mail server takes at least 100 (RFC 5321, 4.5.3.1.8)."""
_NAMED = re.compile(r"\"?(?P<name>[^\"<>]*?)\"?\s*<(?P<address>[^<>]*)>")
_LOCAL = re.compile(r"[^\s@<>()\[\]\\,;:\"]{1,64}")
_DOMAIN = re.compile(r"(?=.{1,253}\Z)[A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])?(\.[A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])?)*")


def mailbox(text: str, name: str = "") -> Address:
    """One address, its domain as ASCII (IDNA 2008).

    :raises ValueError: it is not one.
    """
    local, at, domain = text.strip().rpartition("@")
    try:
        ascii_domain = domain if domain.isascii() else idna.encode(domain, uts46=True).decode()
    except UnicodeError:
        ascii_domain = ""
    is_local = (
        _LOCAL.fullmatch(local)
        and len(local.encode("utf-8", "replace")) <= 64
        and not any(unicodedata.category(sign)[0] in "CZ" for sign in local)
        and all(local.split("."))
    )
    if not (at and is_local and _DOMAIN.fullmatch(ascii_domain)):
        raise ValueError(f"{one_line(text) or 'an empty text'!r} is not an e-mail address")
    return Address(name, local, ascii_domain)


def mailboxes(text: str) -> list[Address]:
    """Each of the addresses once; commas are between them.

    :raises ValueError: one is not an address, or there are none, or too many.
    """
    found: dict[str, Address] = {}
    for part in filter(str.strip, text.split(",")):
        address = mailbox(part)
        found.setdefault(address.addr_spec.casefold(), address)
    if not found:
        raise ValueError("there is no e-mail address to send to")
    if len(found) > MOST:
        raise ValueError(f"{len(found):,} recipients are more than the {MOST} of one e-mail: use a mailing list")
    return list(found.values())


def named(text: str) -> Address:
    """An address with or without a name before it: Usage <usage@…>.

    :raises ValueError: it is not one.
    """
    found = _NAMED.fullmatch(text.strip())
    return mailbox(found["address"], one_line(found["name"])) if found else mailbox(text)


def is_ascii(address: Address) -> bool:
    """Whether every mail server takes it; the others need SMTPUTF8 (RFC 6531)."""
    return address.addr_spec.isascii()
