"""Events in JSON, one a line: their names, fields and times; and lines that do not count, by reason."""

import json

from orchestration.usage.events import Rejection
from tests.event_shapes.case import Case, call, line

AT = "2026-11-19T12:00:00Z"
CALL = "api_call of acme, at its arrival"


def call_at(time: str) -> str:
    return f"api_call of acme, {time}"


EVENTS = [
    Case("The least", call(), (CALL,)),
    Case(
        "All fields",
        line(
            event="api_call",
            uuid="0b9c",
            source="gateway",
            timestamp=AT,
            properties={"account_id": "acme", "endpoint": "/v1/a", "status": 200, "sample_weight": 10},
        ),
        ("api_call of acme, 2026-11-19 12:00:00, id 0b9c, source gateway, for 10 calls, endpoint /v1/a, status 200",),
    ),
    Case(
        "The other name of a call",
        line(event="api_request", distinct_id="acme"),
        ("api_request of acme, at its arrival",),
    ),
    Case(
        "A quota",
        line(event="quota_set", timestamp=AT, properties={"account_id": "acme", "api_quota_monthly": 100_000}),
        ("quota_set of acme, 2026-11-19 12:00:00, quota 100000",),
    ),
    Case(
        "A quota without a limit",
        line(event="quota_set", timestamp=AT, properties={"account_id": "globex", "quota": None}),
        ("quota_set of globex, 2026-11-19 12:00:00, unlimited",),
    ),
    Case(
        "Quotas of several meters",
        line(
            event="quota_set",
            timestamp=AT,
            properties={"account_id": "acme", "api_quota_monthly": 100_000, "token_quota_monthly": 5_000_000},
        ),
        ("quota_set of acme, 2026-11-19 12:00:00, quota 100000",),
        note="`quota_property` in `meters.csv` names the second",
    ),
    Case(
        "A quota of a meter",
        line(event="quota_set", timestamp=AT, properties={"account_id": "acme", "metric": "seats", "quota": 25}),
        ("quota_set of acme, 2026-11-19 12:00:00, quota 25",),
    ),
    Case(
        "An event of another meter",
        line(
            event="llm_request",
            uuid="7d21",
            timestamp=AT,
            properties={"account_id": "acme", "model": "large", "total_tokens": 1834},
        ),
        ("llm_request of acme, 2026-11-19 12:00:00, id 7d21",),
        note="`event_names` in `meters.csv` has its name, and `value` its property",
    ),
    Case(
        "A refusal by the product",
        line(event="usage.limit_reached", timestamp=AT, properties={"account_id": "acme"}),
        ("usage.limit_reached of acme, 2026-11-19 12:00:00",),
    ),
    Case(
        "A call that a gate refused",
        line(
            event="api_call_refused",
            uuid="rf-1",
            timestamp=AT,
            properties={"account_id": "acme", "endpoint": "/v1/a", "status": 429, "refused_by": "quota"},
        ),
        ("api_call_refused of acme, 2026-11-19 12:00:00, id rf-1, endpoint /v1/a, status 429",),
        note="it is not usage: no meter counts it, and nothing bills it",
    ),
    Case(
        "PostHog",
        line(event="api_call", distinct_id="user-1", uuid="ph-1", timestamp=AT, properties={"account_id": "acme"}),
        ("api_call of acme, 2026-11-19 12:00:00, id ph-1",),
        note="`properties.account_id` goes before `distinct_id`",
    ),
    Case(
        "Segment",
        line(type="track", event="api_call", userId="acme", messageId="sg-1", timestamp=AT, properties={"status": 429}),
        ("api_call of acme, 2026-11-19 12:00:00, id sg-1, status 429",),
    ),
    Case(
        "CloudEvents, OpenMeter",
        line(
            specversion="1.0", type="api_call", source="api", id="ce-1", subject="acme", time=AT, data={"status": 200}
        ),
        ("api_call of acme, 2026-11-19 12:00:00, id ce-1, source api, status 200",),
    ),
    Case(
        "Flat, without properties",
        line(level="info", event="api_call", account_id="acme", endpoint="/v1/search", timestamp=AT),
        ("api_call of acme, 2026-11-19 12:00:00, endpoint /v1/search",),
    ),
    Case(
        "Properties as text",
        line(event="api_call", distinct_id="user-1", properties=json.dumps({"account_id": "acme", "status": 200})),
        (f"{CALL}, status 200",),
        note="as ClickHouse and warehouses export them",
    ),
    Case(
        "A number as account",
        line(event="api_call", properties={"customer_id": 4711}),
        ("api_call of 4711, at its arrival",),
    ),
    Case(
        "A list in one line",
        f"[{call()},{call('globex')}]",
        (CALL, "api_call of globex, at its arrival"),
    ),
]

TIMES = [
    Case("RFC 3339", "2026-11-19T12:00:00Z", (call_at("2026-11-19 12:00:00"),)),
    Case("with an offset", "2026-11-19T14:30:00+02:30", (call_at("2026-11-19 12:00:00"),)),
    Case("with a blank before it", "2026-11-19 14:00:00 +0200", (call_at("2026-11-19 12:00:00"),)),
    Case("in small letters", "2026-11-19t12:00:00z", (call_at("2026-11-19 12:00:00"),)),
    Case("with a fraction", "2026-11-19T12:00:00.123456Z", (call_at("2026-11-19 12:00:00.123456"),)),
    Case("with a comma", "2026-11-19T12:00:00,5Z", (call_at("2026-11-19 12:00:00.5"),)),
    Case("without an offset", "2026-11-19 12:00:00", (call_at("2026-11-19 12:00:00"),), note="UTC"),
    Case("a date", "2026-11-19", (call_at("2026-11-19 00:00:00"),), note="its beginning"),
    Case("ISO 8601, compact", "20261119T120000Z", (call_at("2026-11-19 12:00:00"),)),
    Case("seconds since 1970", 1795089600, (call_at("2026-11-19 12:00:00"),)),
    Case("milliseconds", 1795089600123, (call_at("2026-11-19 12:00:00.123"),)),
    Case("microseconds", 1795089600123456, (call_at("2026-11-19 12:00:00.123456"),)),
    Case("nanoseconds", 1795089600123456789, (call_at("2026-11-19 12:00:00.123456"),)),
    Case("digits alone", "20261119120000", reasons=(Rejection.INVALID_TIME,)),
    Case("a zone by its letters", "2026-11-19 12:00:00 BST", reasons=(Rejection.INVALID_TIME,)),
    Case("day and month in doubt", "11/12/2026 12:00", reasons=(Rejection.INVALID_TIME,)),
    Case("before 2000", "1999-12-31T23:59:59Z", reasons=(Rejection.INVALID_TIME,)),
    Case("more than a year ahead", "2028-01-01T00:00:00Z", reasons=(Rejection.INVALID_TIME,)),
]

REFUSED = [
    Case("half a line", call()[:25], reasons=(Rejection.INVALID_JSON,)),
    Case("text", "upstream connect error", reasons=(Rejection.INVALID_JSON,)),
    Case("JSON that is no event", "42", reasons=(Rejection.NOT_AN_OBJECT,)),
    Case("an empty list", "[]", reasons=(Rejection.EMPTY_LIST,)),
    Case("another name", line(event="page_view", distinct_id="acme"), reasons=(Rejection.UNKNOWN_EVENT,)),
    Case(
        "what a producer lost",
        line(event="events_dropped", properties={"dropped": 12, "problem": "HTTP 400"}),
        reasons=(Rejection.DROPPED,),
    ),
    Case("no account", line(event="api_call", properties={"status": 200}), reasons=(Rejection.MISSING_ACCOUNT,)),
    Case("a list as account", line(event="api_call", distinct_id=["acme"]), reasons=(Rejection.INVALID_ACCOUNT,)),
    Case(
        "a quota in words",
        line(event="quota_set", distinct_id="acme", properties={"quota": "lots"}),
        reasons=(Rejection.INVALID_QUOTA,),
    ),
    Case(
        "a weight of nothing",
        line(event="api_call", distinct_id="acme", sample_weight=0),
        reasons=(Rejection.INVALID_WEIGHT,),
    ),
    Case(
        "an id that was another event's",
        call(uuid="0001") + "\n" + call("globex", uuid="0001"),
        ("api_call of acme, at its arrival, id 0001",),
        reasons=(Rejection.ID_CONFLICT,),
    ),
]
