"""The CloudEvents library for Python, with requests as its documentation does."""

import requests
from cloudevents.http import CloudEvent, to_binary, to_structured
from driver_input import EVENTS, KEY, OPTIONS, URL, insist


def send(event: CloudEvent) -> None:
    headers, body = to_binary(event) if "binary" in OPTIONS else to_structured(event)
    answer = requests.post(
        f"{URL}/events", data=body, headers={**headers, "Authorization": f"Bearer {KEY}"}, timeout=30
    )
    answer.raise_for_status()


for event in EVENTS:
    attributes = {"id": event["id"], "source": "my-api", "type": "api_call", "time": event["time"]}
    cloud_event = CloudEvent(attributes, {"account_id": event["account"], "endpoint": "/v1/search", "status": 200})
    insist(lambda cloud_event=cloud_event: send(cloud_event))
