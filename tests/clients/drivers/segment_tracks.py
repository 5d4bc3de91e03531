"""Segment's library for Python."""

from driver_input import EVENTS, KEY, OPTIONS, URL, moment
from segment.analytics.client import Client

problems: list[object] = []
client = Client(KEY, host=URL, gzip="gzip" in OPTIONS, on_error=lambda error, batch: problems.append(error))
for event in EVENTS:
    client.track(
        "a person of the account",
        "api_call",
        {"account_id": event["account"], "endpoint": "/v1/search", "status": 200},
        timestamp=moment(event),
        message_id=event["id"],
    )
client.flush()
client.shutdown()
assert not problems, problems
