"""A webhook, as routes name it."""

import base64
import re
from urllib.parse import urlsplit

from orchestration.channels.webhook.channel import WebhookChannel
from orchestration.channels.webhook.event import draw
from orchestration.ledger.outbox import Promise
from orchestration.messages.vendor import Target, Vendor
from orchestration.settings import Settings

SECRET_BYTES = range(24, 65)
"""Of a secret, by the specification."""


def open_channel(target: Target, config: Settings) -> WebhookChannel:
    """:raises ValueError: the address or the secret is missing or wrong; a sentence with the remedy."""
    del config
    url = (target.secret("url") or "").strip()
    if not _is_address(url):
        raise ValueError(f"route {target.route} needs the address of its webhook: set its `url` to https://…")
    secrets = (target.secret("secret") or "").split()
    if not secrets or not all(map(_is_secret, secrets)):
        raise ValueError(
            f"route {target.route} needs a secret: whsec_ and 24 to 64 random bytes as base64. Make one by"
            ' `echo "whsec_$(openssl rand -base64 32)"`'
        )
    return WebhookChannel(url, secrets, target.promise)


def _is_address(url: str) -> bool:
    try:
        found = urlsplit(url)
        return found.scheme in ("http", "https") and bool(found.hostname) and (found.port is None or found.port > 0)
    except ValueError:
        return False


def _is_secret(text: str) -> bool:
    if not re.fullmatch(r"whsec_[A-Za-z0-9+/]+={0,2}", text):
        return False
    try:
        return len(base64.b64decode(text.removeprefix("whsec_"), validate=True)) in SECRET_BYTES
    except ValueError:
        return False


VENDOR = Vendor(
    title="webhook",
    promises=(Promise.EXACTLY_ONCE, Promise.AT_MOST_ONCE),
    per_second=10,
    open=open_channel,
    draw=draw,
    secrets={
        "url": "the address that takes the POST: https://…",
        "secret": "whsec_ and random bytes as base64; two of them with a space between, while one replaces the other",
    },
)
