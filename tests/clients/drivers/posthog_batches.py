"""PostHog's library for Python."""

from driver_input import EVENTS, KEY, OPTIONS, URL, moment
from posthog import Posthog

problems: list[object] = []
client = Posthog(
    KEY,
    host=URL,
    gzip="gzip" in OPTIONS,
    capture_mode="v1" if "v1" in OPTIONS else None,
    on_error=lambda error, batch: problems.append(error),
)
for event in EVENTS:
    client.capture(
        "api_call",
        distinct_id="a person of the account",
        properties={"account_id": event["account"], "endpoint": "/v1/search", "status": 200},
        timestamp=moment(event),
        uuid=event["id"],
    )
client.shutdown()
assert not problems, problems
