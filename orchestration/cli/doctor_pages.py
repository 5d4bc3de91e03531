"""The part of `headroom doctor` that looks at the pages: where people reach them, who may open them, and until when."""

import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from shlex import quote
from urllib.parse import urlsplit

import duckdb

from orchestration.ledger import check, page_keys
from orchestration.ledger.ledger import Ledger
from orchestration.ledger.page_keys import PageKey
from orchestration.settings import Settings
from orchestration.usage.findings import Finding
from orchestration.usage.formatting import counted, printable
from orchestration.warehouse.page_queries import UNKNOWN_ACCOUNTS
from orchestration.warehouse.published_copy import LockedCopyError, NothingPublishedError, query

LISTED = 5
ENDS_SOON = timedelta(days=14)
"""In which people can still get another link."""


def examine(config: Settings, is_ledger_usable: bool) -> Iterator[Finding]:
    """Findings of the pages; none where nobody has set them up."""
    keys: list[PageKey] = []
    if is_ledger_usable and check.exists(config.ledger_url):
        ledger = Ledger(config.ledger_url)
        keys = page_keys.listed(ledger)
        ledger.close()
    if not (keys or config.pages_url or config.pages_trust_header):
        return
    now = datetime.now(UTC)  # as the pages themselves: keys end by the real clock
    valid = [key for key in keys if key.is_valid(now)]
    yield from _address(config)
    if config.pages_url and is_ledger_usable and not valid and not config.pages_trust_header:
        words = 'messages link there, and nobody can open it: `headroom pages grant "CS team"` prints a link'
        yield Finding("pages", words, is_needed=False)
    yield from _ending(valid, now)
    yield from _without_account(config, valid)
    if valid:
        yield Finding(f"pages: {counted(len(valid), 'valid key')}")


def _address(config: Settings) -> Iterator[Finding]:
    url = urlsplit(config.pages_url or "")
    subject = "HEADROOM_PAGES_URL"
    if config.pages_frames and url.scheme != "https":
        words = "browsers keep no cookie in an embedded page without TLS: set it to https://…, or unset"
        yield Finding(subject, f"{words} HEADROOM_PAGES_FRAME_ANCESTORS", is_needed=False)
    elif url.scheme == "http" and not _is_inside(url.hostname or ""):
        words = (
            "keys travel readable over http: put a proxy with TLS in front (docs/operate/deploy.md#the-pages), and set"
            " https://…"
        )
        yield Finding(subject, words, is_needed=False)
    if re.search("/[ku]/.", url.path):
        words = "it is the address of a link: set it to where the pages begin, and revoke that link's key"
        yield Finding(subject, words, is_needed=False)
    elif "//" in url.path:
        yield Finding(subject, f"the path {url.path!r} opens nothing: use one such as /usage", is_needed=False)


def _is_inside(host: str) -> bool:
    """Whether a name or an address is this machine's, or of a network that nobody reaches from outside."""
    try:
        return ip_address(host).is_private
    except ValueError:
        return "." not in host or host.endswith((".localhost", ".local", ".internal", ".lan"))


def _ending(valid: list[PageKey], now: datetime) -> Iterator[Finding]:
    """Keys that end soon, but for those in whose place there is another one already."""
    later = {(key.name, key.account_id) for key in valid if key.expires_at - now >= ENDS_SOON}
    ending = [key for key in valid if key.expires_at - now < ENDS_SOON and (key.name, key.account_id) not in later]
    for key in sorted(ending, key=lambda each: each.expires_at)[:LISTED]:
        whose = (
            quote(printable(key.name)) if key.account_id is None else f"--account {quote(printable(key.account_id))}"
        )
        words = f"ends on {key.expires_at:%Y-%m-%d %H:%M} UTC. Send a new link: `headroom pages grant {whose}`"
        yield Finding(_subject(key), words, is_needed=False)
    if len(ending) > LISTED:
        more = counted(len(ending) - LISTED, "more key")
        yield Finding(
            "page keys", f"{more} end within {counted(ENDS_SOON.days, 'day')}: `headroom pages list`", is_needed=False
        )


def _without_account(config: Settings, valid: list[PageKey]) -> Iterator[Finding]:
    accounts = sorted({key.account_id for key in valid if key.account_id is not None})
    if not accounts:
        return
    try:
        unknown = {row["account_id"] for row in query(config.published, UNKNOWN_ACCOUNTS, {"accounts": accounts})}
    except (NothingPublishedError, LockedCopyError, duckdb.Error):
        return  # as the published copy's own finding says
    lost = [key for key in valid if key.account_id in unknown]
    for key in lost[:LISTED]:
        account = printable(key.account_id or "")
        words = (
            f"its account {account!r} has no figures. End it with `headroom pages revoke {key.id}`, and grant a link"
        )
        yield Finding(_subject(key), f"{words} for the account's present id", is_needed=False)
    if len(lost) > LISTED:
        more = counted(len(lost) - LISTED, "more key")
        yield Finding("page keys", f"{more} of accounts without figures: `headroom pages list`", is_needed=False)


def _subject(key: PageKey) -> str:
    return f"page key {key.id} of {printable(key.name)}"
