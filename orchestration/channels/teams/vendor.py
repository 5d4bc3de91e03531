"""Microsoft Teams, as routes name it."""

import re

from orchestration.channels.teams.channel import TeamsChannel
from orchestration.channels.teams.drawing import draw
from orchestration.ledger.outbox import Promise
from orchestration.messages.vendor import Target, Vendor
from orchestration.settings import Settings

_URL = r"https://[!-~]+|http://(127\.0\.0\.1|localhost)[:/][!-~]*"


def open_channel(target: Target, config: Settings) -> TeamsChannel:
    """:raises ValueError: the URL or an option is missing or wrong; a sentence with the remedy."""
    url = (target.secret("url") or "").strip()
    if not re.fullmatch(_URL, url):
        raise ValueError(
            f"route {target.route} needs the URL of a workflow of Teams, from its trigger"
            " “When a Teams webhook request is received”"
        )
    mentions = target.options.get("mentions", "off")
    if mentions not in ("on", "off"):
        raise ValueError(f"route {target.route}: the option mentions is on or off")
    return TeamsChannel(url, target.promise, has_mentions=mentions == "on")


VENDOR = Vendor(
    title="Microsoft Teams",
    promises=(Promise.AT_LEAST_ONCE, Promise.AT_MOST_ONCE),
    per_second=1,  # four requests a second of a webhook, 100 a minute of a workflow's connection
    open=open_channel,
    draw=draw,
    secrets={"url": "URL of a workflow, from its trigger “When a Teams webhook request is received”"},
    options={
        "mentions": "on mentions owners; each of them needs the same address in Teams, else the workflow may fail",
    },
)
