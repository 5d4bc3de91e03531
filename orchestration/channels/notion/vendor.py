"""Notion, as routes name it."""

import re

from orchestration.channels.notion.blocks import draw
from orchestration.channels.notion.channel import NotionChannel
from orchestration.ledger.outbox import Promise
from orchestration.messages.vendor import Target, Vendor
from orchestration.settings import Settings


def open_channel(target: Target, config: Settings) -> NotionChannel:
    """:raises ValueError: the token or the address of the API is missing or wrong; a sentence with the remedy."""
    token = (target.secret("token") or "").strip()
    if not token:
        raise ValueError(f"route {target.route} needs a token: the secret (ntn_…) of an internal integration of Notion")
    url = target.secret("api_url")
    if url and not re.match(r"https://|http://(127\.0\.0\.1|localhost|\[::1\])[:/]", url):
        raise ValueError(f"the address of Notion's API of route {target.route} has to begin with https://")
    return NotionChannel(token, target.to, url.rstrip("/") if url else None)


VENDOR = Vendor(
    title="Notion",
    promises=(Promise.EXACTLY_ONCE,),
    per_second=3,  # of an integration, on average: "Request limits"
    open=open_channel,
    draw=draw,
    secrets={"token": "secret (ntn_…) of an internal integration that the database is connected to"},
    optional={"api_url": "another address of Notion's API"},
    address="the id of the database or of its data source: 32 letters and digits of its URL",
)
