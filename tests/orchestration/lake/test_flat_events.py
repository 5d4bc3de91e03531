"""Properties as the JSON text of an object, and events without any: they count for the account that they name."""

import json
from typing import Any

import pytest

from orchestration.usage.events import Rejection
from tests.orchestration.lake.world import World
from tests.support.builders import make_event

OWN = {"account_id": "acme", "endpoint": "/v1/é", "status": 503, "sample_weight": 3}
COMPACT = json.dumps(OWN, ensure_ascii=False, separators=(",", ":"))


def call(**fields: object) -> dict[str, Any]:
    return {"event": "api_call", "uuid": "x", "timestamp": "2026-11-19T12:00:00Z", **fields}


@pytest.mark.parametrize("name", ["properties", "data"])
def test_properties_count_when_they_are_the_text_of_an_object(world: World, name: str) -> None:
    """As ClickHouse, PostHog and warehouses export them: before, such a call counted for its distinct_id."""
    world.land(call(distinct_id="user", **{name: json.dumps(OWN)}))
    world.land(call(distinct_id="user", uuid="y", **{name: f" {json.dumps(OWN)}"}), name="blank.ndjson")
    world.ingest()

    columns = "account_id, endpoint, status, sample_weight, properties"
    assert world.calls(columns) == [("acme", "/v1/é", 503, 3, COMPACT)] * 2


def test_event_is_the_same_with_properties_as_text_and_as_object(world: World) -> None:
    world.land(call(properties=json.dumps(OWN)), call(properties=OWN))
    [batch] = world.ingest()

    assert (batch.accepted, batch.duplicates, batch.rejected) == (1, 1, {})


@pytest.mark.parametrize("properties", ["", "text", "{cut", "[1]", "5", '"{}"', "null"])
def test_text_that_is_no_object_says_nothing_of_the_account(world: World, properties: str) -> None:
    world.land(call(distinct_id="user", properties=properties))
    world.ingest()

    assert world.calls("account_id, properties") == [("user", json.dumps(properties))]


def test_text_of_a_quota_is_read(world: World) -> None:
    properties = '{"account_id":"acme","quota":74,"plan":"growth"}'
    world.land({"event": "quota_set", "uuid": "q", "distinct_id": "user", "properties": properties})
    world.ingest()

    assert world.events("account_id, quota, properties") == [("acme", 74, properties)]


@pytest.mark.parametrize("account", ["account_id", "customer_id"])
def test_flat_call_counts_for_its_account(world: World, account: str) -> None:
    fields = {account: "acme", **OWN} if account == "account_id" else {account: "acme", **OWN, "account_id": None}
    world.land(call(distinct_id="user", **fields))
    world.ingest()

    assert world.calls("account_id, endpoint, status, sample_weight") == [("acme", "/v1/é", 503, 3)]
    assert world.calls("properties") == [None]


def test_account_inside_of_properties_goes_before_the_flat_one(world: World) -> None:
    world.land(call(account_id="flat", distinct_id="user", properties={"customer_id": "inside", "endpoint": "/in"}))
    world.ingest()

    assert world.calls("account_id, endpoint") == [("inside", "/in")]


def test_flat_call_is_the_same_from_the_collector(world: World) -> None:
    """Its requests are read one by one, lines by the JSON reader: one event in both ways."""
    flat = call(**OWN, region="eu")
    world.land(flat, {"received_at": "2026-11-19T12:00:00Z", "batch": [flat]})
    [batch] = world.ingest()

    assert (batch.accepted, batch.duplicates, batch.rejected) == (1, 1, {})


def test_flat_event_that_is_no_call_keeps_its_other_fields(world: World) -> None:
    quota = {"event": "quota_set", "id": "q", "account_id": "acme", "quota": None, "plan": "growth", "properties": None}
    limit = {"type": "usage.limit_reached", "id": "l", "account_id": "acme", "metric": "seats", "limit": 5}
    world.land(quota, limit, {"event": "usage.limit_reached", "id": "n", "userId": "acme"})
    world.ingest()

    assert [(event, json.loads(text) if text else None) for event, text in world.events("event_id, properties")] == [
        ("l", {"account_id": "acme", "metric": "seats", "limit": 5}),
        ("n", None),
        ("q", {"account_id": "acme", "quota": None, "plan": "growth"}),
    ]
    assert world.rows("quota", "batches/*/others*.parquet") == [None, None, None]
    assert world.rejected() == []


def test_flat_quota_is_judged_like_any(world: World) -> None:
    world.land({"event": "quota_set", "account_id": "acme"}, {"event": "quota_set", "account_id": "b", "quota": "lots"})
    world.ingest()

    assert world.rejected() == [(1, Rejection.INVALID_QUOTA), (2, Rejection.INVALID_QUOTA)]


def test_columns_of_a_table_stay_properties(world: World) -> None:
    """What landed as CSV before flat events were known comes again as what it was."""
    (world.landing / "a.csv").write_text("event,uuid,account_id,endpoint\napi_call,x,acme,/v1\n")
    world.ingest()

    assert world.calls("account_id, properties") == [("acme", '{"account_id":"acme","endpoint":"/v1"}')]


@pytest.mark.parametrize(("sent", "account"), [(260026.0, "260026"), (1e3, "1000"), (-5.0, "-5"), (7, "7")])
def test_number_is_an_account_when_its_fraction_is_zero(world: World, sent: object, account: str) -> None:
    world.land(make_event(properties={"account_id": sent}))
    world.ingest()

    assert world.calls("account_id") == [account]


def test_number_is_no_account_when_a_double_cannot_hold_it(world: World) -> None:
    world.land(*(make_event(uuid=f"{sent}", properties={"account_id": sent}) for sent in (1e22, 1.5, 1e300)))
    world.ingest()

    assert world.rejected() == [(number, Rejection.INVALID_ACCOUNT) for number in (1, 2, 3)]


def test_number_in_a_table_is_whole_when_its_fraction_is_zero(world: World) -> None:
    """As a column of numbers with gaps leaves a data frame."""
    (world.landing / "a.csv").write_text(
        "event,uuid,account_id,quota,sample_weight\nquota_set,q,acme,1000.0,\napi_call,x,acme,,10.0\n"
    )
    world.ingest()

    assert world.rejected() == []
    assert world.rows("quota", "batches/*/others*.parquet") == [1000]
    assert world.calls("sample_weight") == [10]
