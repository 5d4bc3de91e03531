"""OpenMeter's library for Python: the account is the subject."""

from driver_input import EVENTS, KEY, OPTIONS, URL, insist, moment
from openmeter import Client
from openmeter.models import Event

with Client(endpoint=URL, token=KEY) as client:
    events = [
        Event(
            id=event["id"],
            source="my-api",
            specversion="1.0",
            type="api_call",
            subject=event["account"],
            time=moment(event),
            data={"endpoint": "/v1/search", "status": "200"},
        )
        for event in EVENTS
    ]
    if "batch" in OPTIONS:
        insist(lambda: client.events.ingest_events(events))
    else:
        for each in events:
            insist(lambda each=each: client.events.ingest_event(each))
