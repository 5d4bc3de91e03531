"""The JSON Schema says what `usage/events.py` says: names, aliases and bounds cannot drift apart."""

import json
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from orchestration.collector.app import SCHEMA
from orchestration.usage import events
from tests.orchestration.collector.loopback import Collecting, request
from tests.support.builders import make_event, make_quota

DOCUMENT: dict[str, Any] = json.loads(SCHEMA.read_text())
DEFINITIONS: dict[str, Any] = DOCUMENT["$defs"]


def is_valid(event: object) -> bool:
    return bool(Draft202012Validator(DOCUMENT).is_valid(event))


def call(**fields: object) -> dict[str, object]:
    return {"event": "api_call", "distinct_id": "acme", **fields}


def test_schema_is_valid_and_is_served(collector: Collecting) -> None:
    Draft202012Validator.check_schema(DOCUMENT)
    reply = request(collector.port, "/v1/schema.json", method="GET")
    assert (reply.json, reply.headers["content-type"]) == (DOCUMENT, "application/schema+json")


def test_names_are_those_of_the_vocabulary() -> None:
    assert tuple(DEFINITIONS["name"]["examples"]) == events.EVENT_NAMES
    assert DEFINITIONS["meteredName"]["not"]["enum"] == [
        events.API_CALL_REFUSED,
        *events.OTHER_EVENTS,
        events.EVENTS_DROPPED,
    ]
    assert tuple(DEFINITIONS["apiCall"]["anyOf"][0]["properties"]["event"]["enum"]) == events.API_CALL
    for name in events.EVENT_NAMES:
        for field in events.NAME_FIELDS:
            assert is_valid({field: name, "subject": "acme", "data": {"quota": 1}})


def test_every_alias_of_the_vocabulary_is_known() -> None:
    known = dict.fromkeys(events.ID_FIELDS, "#/$defs/id") | dict.fromkeys(events.TIME_FIELDS, "#/$defs/time")
    for alias in (*events.ACCOUNT_FIELDS, *events.WEIGHT_FIELDS):
        known[alias] = "#/$defs/account" if alias in events.ACCOUNT_FIELDS else "#/$defs/sampleWeight"
    found = {name: schema.get("$ref") for name, schema in DOCUMENT["properties"].items()}
    own = DEFINITIONS["properties"]["properties"]
    found |= {f"properties.{name}": schema.get("$ref") for name, schema in own.items()}
    assert {name: reference for name, reference in found.items() if reference in known.values()} == known
    quotas = [f"properties.{option['required'][0]}" for option in DEFINITIONS["withQuota"]["anyOf"]]
    assert tuple(quotas) == events.QUOTA_FIELDS
    assert {*events.NAME_FIELDS, *events.PROPERTIES_FIELDS, events.SOURCE_FIELD} <= DOCUMENT["properties"].keys()


@pytest.mark.parametrize("definition", ["account", "id", "time"])
def test_description_lists_the_aliases_in_their_order(definition: str) -> None:
    fields = {"account": events.ACCOUNT_FIELDS, "id": events.ID_FIELDS, "time": events.TIME_FIELDS}[definition]
    text = DEFINITIONS[definition]["description"]
    positions = [text.index(f"`{field}`") for field in fields]
    assert positions == sorted(positions)


def test_bounds_are_those_of_the_vocabulary() -> None:
    assert DEFINITIONS["quota"]["anyOf"][1]["maximum"] == events.MAX_QUOTA
    assert DEFINITIONS["account"]["maxLength"] == events.MAX_ACCOUNT_ID_BYTES
    assert DEFINITIONS["sampleWeight"]["maximum"] == events.MAX_SAMPLE_WEIGHT
    assert DEFINITIONS["time"]["anyOf"][4]["minimum"] == events.EARLIEST_TIME.timestamp()
    patterns = [option["pattern"] for option in DEFINITIONS["time"]["anyOf"][1:3]]
    assert patterns == [f"^{pattern}$" for pattern in (events.ISO_TIME, events.BASIC_ISO_TIME)]


@pytest.mark.parametrize(
    "event",
    [
        make_event(),
        make_quota(),
        make_quota(quota=None),
        make_quota(quota=0),
        make_quota(quota="1000"),
        make_quota(quota=10**15),
        {"event": "usage.limit_reached", "userId": 7},
        {"type": "api_request", "subject": "acme", "id": "1", "source": "s", "specversion": "1.0", "data": {}},
        {"type": "quota_set", "data": {"customer_id": "acme", "limit": 5}},
        {"type": "track", "event": "api_call", "userId": "acme", "messageId": "m", "context": {}},
        {"event": None, "type": "api_call", "userId": "acme"},
        call(timestamp=1_700_000_000),
        call(timestamp=1_700_000_000_000.5),
        call(timestamp="1700000000123456"),
        call(timestamp="2026-11-20"),
        call(timestamp="20261120T081500Z"),
        call(timestamp=1_795_089_600_123_456_789),
        {"event": "api_call", "account_id": "acme", "endpoint": "/v1"},
        {"event": "api_call", "customer_id": 7},
        {"event": "api_call", "properties": '{"account_id": "acme"}'},
        {"event": "quota_set", "account_id": "acme", "quota": 5},
        {"event": "quota_set", "data": '{"account_id": "acme", "quota": 5}'},
        call(properties={"sample_weight": 1_000_000, "anything": [1]}),
        call(sample_weight=10),
        call(distinct_id=None, properties={"account_id": 42}),
        # whether a meter counts it is data
        {"event": "page_view", "distinct_id": "acme"},
        {"type": "llm_request", "subject": "acme", "data": {"total_tokens": 5}},
        make_quota(properties={"account_id": "acme", "token_quota_monthly": 5}),
        make_quota(properties={"account_id": "acme", "metric": "storage", "quota": 10.5}),
        {"event": "quota_set", "account_id": "acme", "token_quota_monthly": 5},
    ],
)
def test_good_event_is_valid(event: object) -> None:
    assert is_valid(event)


@pytest.mark.parametrize(
    "event",
    [
        7,
        [],
        {},
        {"event": "api_call"},
        {"event": "page_view"},
        {"event": "", "distinct_id": "acme"},
        {"event": "events_dropped", "distinct_id": "acme"},
        {"event": "quota_set", "type": "api_call", "distinct_id": "acme"},
        make_quota(properties={"account_id": "acme", "metric": "storage", "quota": -10.5}),
        make_quota(properties={"account_id": "acme", "metric": "storage"}),
        {"distinct_id": "acme"},
        call(distinct_id=None),
        call(distinct_id=""),
        call(distinct_id=1.5),
        call(distinct_id={"a": 1}),
        call(distinct_id="x" * 1025),
        call(timestamp="yesterday"),
        call(timestamp="2026-11-20T08:15:00 BST"),
        {"event": "api_call", "account_id": None},
        {"event": "quota_set", "account_id": "acme", "quota": 5, "properties": {}},
        call(timestamp=5),
        call(timestamp=True),
        call(properties={"sample_weight": 0}),
        call(properties={"sample_weight": 1_000_001}),
        call(sample_weight=1.5),
        call(properties="text"),
        make_quota(quota=-1),
        make_quota(quota=1.5),
        make_quota(quota=10**15 + 1),
        make_quota(quota="many"),
        {"event": "quota_set", "distinct_id": "acme"},
        {"event": "quota_set", "distinct_id": "acme", "properties": {}},
    ],
)
def test_bad_event_is_invalid(event: object) -> None:
    assert not is_valid(event)


def test_every_definition_is_described() -> None:
    for name in ("name", "id", "account", "time", "sampleWeight", "quota", "properties", "apiCall", "limitReached"):
        assert DEFINITIONS[name]["description"].endswith("."), name
