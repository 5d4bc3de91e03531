"""PagerDuty, as routes name it."""

import re

from orchestration.channels.pagerduty.channel import PagerDutyChannel
from orchestration.channels.pagerduty.event import draw
from orchestration.ledger.outbox import Promise
from orchestration.messages.vendor import Target, Vendor
from orchestration.settings import Settings


def open_channel(target: Target, config: Settings) -> PagerDutyChannel:
    """:raises ValueError: the routing key or the address of the API is missing or wrong; a sentence with the remedy."""
    key = (target.secret("routing_key") or "").strip()
    if not re.fullmatch("[0-9A-Za-z]{32}", key):
        raise ValueError(
            f"route {target.route} needs a routing key: the Integration Key (32 letters and digits) of an"
            " Events API v2 integration of a PagerDuty service"
        )
    url = target.secret("api_url")
    if url and not re.match(r"https://|http://(127\.0\.0\.1|localhost|\[::1\])[:/]", url):
        raise ValueError(f"the address of PagerDuty's API of route {target.route} has to begin with https://")
    return PagerDutyChannel(key, url.rstrip("/") if url else None)


VENDOR = Vendor(
    title="PagerDuty",
    promises=(Promise.EXACTLY_ONCE,),
    per_second=2,  # a service's limit is not a number: PagerDuty changes it with the traffic
    open=open_channel,
    draw=draw,
    secrets={"routing_key": "Integration Key of an Events API v2 integration of the service (32 letters and digits)"},
    optional={"api_url": "another address of the API: https://events.eu.pagerduty.com in the EU"},
)
