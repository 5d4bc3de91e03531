"""Requests to the collector, as real clients send them."""

import json
from typing import Any

from orchestration.usage.events import Rejection
from tests.event_shapes.case import RequestCase, call, line

AT = "2026-11-19T12:00:00Z"
ACME, GLOBEX = "api_call of acme, at its arrival", "api_call of globex, at its arrival"
BEARER = {"Authorization": "Bearer <key>"}
ONE, TWO = '{"accepted":1,"quarantined":0}', '{"accepted":2,"quarantined":0}'


def attribute(key: str, value: str) -> dict[str, Any]:
    return {"key": key, "value": {"stringValue": value}}


TAKEN = [
    RequestCase("One event", call(), (ACME,), answer=ONE),
    RequestCase("A list", f"[{call()},{call('globex')}]", (ACME, GLOBEX), answer=TWO),
    RequestCase(
        "An event a line",
        f"{call()}\n{call('globex')}",
        (ACME, GLOBEX),
        path="/syslog",
        answer=TWO,
        note="on any path that is not a library's: syslog-ng, Vector, Fluent Bit (`json_lines`), winston",
    ),
    RequestCase(
        "With a key for the request",
        call(),
        (f"{ACME}, id 7f1c, source my-api",),
        headers={**BEARER, "Idempotency-Key": "7f1c"},
        answer=ONE,
        note="the id of an event that has none; `7f1c-0`, `7f1c-1` in a list",
    ),
    RequestCase(
        "PostHog",
        line(
            api_key="<key>",
            batch=[{"event": "api_call", "distinct_id": "acme", "uuid": "ph-2", "timestamp": AT, "properties": {}}],
        ),
        ("api_call of acme, 2026-11-19 12:00:00, id ph-2",),
        path="/batch/",
        headers={},
        answer='{"status":1}',
    ),
    RequestCase(
        "PostHog, newer protocol",
        line(created_at=AT, batch=[{"event": "api_call", "distinct_id": "acme", "uuid": "ph-3", "timestamp": AT}]),
        ("api_call of acme, 2026-11-19 12:00:00, id ph-3",),
        path="/i/v1/analytics/events",
        answer='{"results":{"ph-3":{"result":"ok"}}}',
    ),
    RequestCase(
        "Segment",
        line(
            batch=[{"type": "track", "event": "api_call", "userId": "acme", "messageId": "sg-2", "timestamp": AT}],
            writeKey="<key>",
        ),
        ("api_call of acme, 2026-11-19 12:00:00, id sg-2",),
        path="/v1/batch",
        headers={},
        answer='{"success":true}',
    ),
    RequestCase(
        "OpenMeter, CloudEvents",
        line(
            specversion="1.0", type="api_call", source="api", id="ce-2", subject="acme", time=AT, data={"status": 200}
        ),
        ("api_call of acme, 2026-11-19 12:00:00, id ce-2, source api, status 200",),
        path="/api/v1/events",
        headers={**BEARER, "Content-Type": "application/cloudevents+json"},
        status=204,
        note="a list as `application/cloudevents-batch+json`",
    ),
    RequestCase(
        "CloudEvents, binary mode",
        line(status=200),
        ("api_call of acme, 2026-11-19 12:00:00, id ce-3, source api, status 200",),
        path="/events",
        headers={
            **BEARER,
            "ce-specversion": "1.0",
            "ce-type": "api_call",
            "ce-source": "api",
            "ce-id": "ce-3",
            "ce-subject": "acme",
            "ce-time": AT,
        },
        answer=ONE,
    ),
    RequestCase(
        "OpenTelemetry logs",
        json.dumps(
            {
                "resourceLogs": [
                    {
                        "scopeLogs": [
                            {
                                "logRecords": [
                                    {
                                        "timeUnixNano": "1795089600000000000",
                                        "eventName": "api_call",
                                        "attributes": [attribute("account_id", "acme")],
                                    }
                                ]
                            }
                        ]
                    }
                ]
            }
        ),
        ("api_call of acme, 2026-11-19 12:00:00",),
        path="/v1/logs",
        headers={**BEARER, "Content-Type": "application/json"},
        answer="{}",
        note="or protobuf; an attribute `log.record.uid` is the id",
    ),
    RequestCase(
        "A line that is no JSON",
        f"{call()}\nupstream connect error",
        (ACME,),
        (Rejection.INVALID_JSON,),
        path="/syslog",
        answer='{"accepted":1,"quarantined":1}',
        note="its neighbours count",
    ),
]
REFUSED = [
    RequestCase("A wrong key", call(), headers={"Authorization": "Bearer wrong"}, status=401),
    RequestCase("No JSON on a library's path", "text", path="/v1/batch", status=400),
    RequestCase("An unknown compression", call(), headers={**BEARER, "Content-Encoding": "br"}, status=415),
]
REQUESTS = [*TAKEN, *REFUSED]
