"""Events of every meter are taken, with what it reads of them; and quotas of several meters in one event."""

import json
from typing import Any

import pytest

from orchestration.usage.events import Rejection
from tests.orchestration.lake.world import World
from tests.support.builders import make_event, make_meter, make_quota

MAIN = make_meter(meter="api-calls", is_main="true", event_names="api_call|api_request", group_by="endpoint")
TOKENS = make_meter(
    meter="tokens", event_names="llm_request", aggregation="sum", value="n", quota_property="token_quota"
)
STORAGE = make_meter(
    meter="storage", event_names="", aggregation="latest", decimals="3", quota_property="quotas.storage"
)
HOSTILE = ("'; drop table judged; --", 'a"b', "größe", "$.x", "a.b*", "{}", "page view", "\\bx", "name\nline")


def flat(event: str = "llm_request", **fields: object) -> dict[str, Any]:
    return {"event": event, "uuid": "x", "timestamp": "2026-11-19T12:00:00Z", "account_id": "acme", **fields}


def properties(world: World) -> list[Any]:
    """Of the calls, in the order of their ids."""
    return [json.loads(text) if text else None for _, text in world.calls("event_id, properties")]


def test_events_of_meters_lie_with_the_calls(world: World) -> None:
    world.meters = [MAIN, TOKENS]
    inside = {"account_id": "acme", "n": 5, "sample_weight": 3}
    world.land(make_event(uuid="1"), make_event(uuid="2", event="llm_request", properties=inside))
    world.land(make_event(uuid="3", event="page_view"), make_quota(uuid="4"), name="b.ndjson")
    [batch] = world.ingest()

    columns = "event_id, event_name, account_id, sample_weight"
    assert world.calls(columns) == [("1", "api_call", "acme", 1), ("2", "llm_request", "acme", 3)]
    assert properties(world)[1] == inside
    assert world.rows("event_id", "batches/*/others*.parquet") == ["4"]
    assert batch.rejected == {Rejection.UNKNOWN_EVENT: 1}


def test_calls_are_taken_also_where_no_meter_counts_them(world: World) -> None:
    world.meters = [TOKENS]
    world.land(make_event(uuid="1"), make_event(uuid="2", event="api_request"))
    world.ingest()

    assert world.calls() == ["1", "2"]


@pytest.mark.parametrize("is_judged", [False, True], ids=["fast", "one by one"])
def test_name_may_be_any_text(world: World, is_judged: bool) -> None:
    world.meters = [MAIN, make_meter(event_names="|".join(HOSTILE))]
    lines = [make_event(uuid=str(number), event=name) for number, name in enumerate(HOSTILE)]
    world.land(*([line] if is_judged else line for line in lines), "{" + HOSTILE[0])
    world.ingest()

    assert world.calls("event_id, event_name") == [(str(number), name) for number, name in enumerate(HOSTILE)]
    assert world.rejected() == [(len(HOSTILE) + 1, Rejection.INVALID_JSON)]


def test_flat_event_keeps_its_properties(world: World) -> None:
    """Also where no meter reads one yet: a meter that is added later counts the history."""
    world.meters = [MAIN, TOKENS, make_meter()]
    event, view = flat(n=5, model="large"), flat("page_view", uuid="y", page="/a")
    world.land(event, {"received_at": "2026-11-19T12:00:00Z", "batch": [event]}, view)
    [batch] = world.ingest()

    assert (batch.accepted, batch.duplicates, batch.rejected) == (2, 1, {})
    assert properties(world) == [
        {"account_id": "acme", "n": 5, "model": "large"},
        {"account_id": "acme", "page": "/a"},
    ]


@pytest.mark.parametrize(
    "cells",
    [
        {"aggregation": "sum", "value": "size.bytes"},
        {"filter": "endpoint=/v1"},
        {"group_by": "endpoint|region"},
        {"aggregation": "unique", "value": "user", "event_names": "api_call|api_request"},
    ],
)
def test_flat_call_keeps_its_properties_where_a_meter_reads_one(world: World, cells: dict[str, str]) -> None:
    world.meters = [MAIN]
    call = flat("api_call", endpoint="/v1", size={"bytes": 5})
    world.land(call)
    world.ingest()
    assert properties(world) == [None]

    world.meters = [MAIN, make_meter(**{"event_names": "api_call", **cells})]
    world.land({**call, "uuid": "y"}, [{**call, "uuid": "z"}], name="b.ndjson")
    world.ingest()
    kept = {"account_id": "acme", "endpoint": "/v1", "size": {"bytes": 5}}
    assert properties(world) == [None, kept, kept]
    assert world.calls("endpoint") == ["/v1"] * 3


def test_event_of_a_row_that_is_added_later_counts_once_after_a_replay(world: World) -> None:
    world.meters = [MAIN]
    world.land(flat(n=5), [flat(uuid="y", n=6), flat(uuid="x", n=5)])
    world.ingest()
    assert world.rejected() == [(1, Rejection.UNKNOWN_EVENT), *[(2, Rejection.UNKNOWN_EVENT)] * 2]

    world.meters = [MAIN, TOKENS]
    batch = world.replay()
    assert batch
    assert (batch.accepted, batch.duplicates, batch.rejected) == (2, 1, {})
    assert [found["n"] for found in properties(world)] == [5, 6]
    assert world.rejected() == []
    world.land(flat(n=5), name="again.ndjson")
    assert world.ingest()[0].duplicates == 1


def test_what_is_in_the_lake_stays_when_a_row_is_removed(world: World) -> None:
    world.meters = [MAIN, TOKENS]
    world.land(flat(n=5))
    world.ingest()
    world.meters = [MAIN]
    world.land(flat(n=5), flat(uuid="y"), name="b.ndjson")
    world.ingest()
    assert world.calls() == ["x"]
    assert world.rejected() == [(1, Rejection.UNKNOWN_EVENT), (2, Rejection.UNKNOWN_EVENT)]

    world.meters = [MAIN, TOKENS]
    batch = world.replay()
    assert batch
    assert (batch.accepted, batch.duplicates) == (1, 1)


def test_id_is_of_one_event_whatever_its_name(world: World) -> None:
    world.meters = [MAIN, TOKENS]
    inside = {"account_id": "acme"}
    world.land(make_event(uuid="x", properties=inside), make_event(uuid="x", event="llm_request", properties=inside))
    world.ingest()

    assert world.calls("event_name") == ["api_call"]
    assert world.rejected() == [(2, Rejection.ID_CONFLICT)]


def test_events_that_a_line_lost_are_counted_by_the_names_of_meters(world: World) -> None:
    world.meters = [MAIN, TOKENS]
    world.land('{"event":"llm_request" {"event":"llm_request" {"event":"api_call" {"event":"page_view"')
    world.ingest()

    assert world.rejected("lost_events") == [3]


def test_stray_quote_costs_its_row_also_between_events_of_meters(world: World) -> None:
    world.meters = [MAIN, TOKENS]
    rows = ['llm_request,"open', "llm_request,one", 'llm_request,two"', "llm_request,three"]
    (world.landing / "a.csv").write_text("\n".join(["event,account_id", *rows, ""]))
    world.ingest()

    assert world.calls("account_id") == ["one", "three", 'two"']


# Quotas

GOOD = [
    ({"token_quota": 10}, None),
    ({"token_quota": None}, None),
    ({"token_quota": "10.0", "quota": 7}, 7),
    ({"quotas": {"storage": 10.5}, "token_quota": 0}, None),
    ({"metric": "storage", "quota": 10.5}, None),
    ({"metric": "STORAGE", "limit": "0.001"}, None),
    ({"metric": "storage", "quota": 10}, 10),
    ({"metric": "storage", "quota": 10**12}, 10**12),
    ({"metric": "tokens", "token_quota": 10, "limit": -5}, None),
    ({"metric": "storage", "quotas": {"storage": 1}, "token_quota": "lots"}, None),
    ({"metric": "no-meter", "quota": 5}, 5),
    ({"api_quota_monthly": 5, "quotas": "none"}, 5),
]
BAD = [
    {"token_quota": 10.5},
    {"token_quota": -1},
    {"token_quota": "lots", "quota": 7},
    {"token_quota": 7, "quota": "lots"},
    {"token_quota": [1]},
    {"token_quota": True},
    {"token_quota": ""},
    {"token_quota": 10**15 + 1},
    {"quota": 10.5},
    {"quotas": {"storage": 10.1234}},
    {"quotas": {"storage": 10**12 + 1}},
    {"metric": "storage", "quota": 10.1234},
    {"metric": "storage", "quota": 10**12 + 1},
    {"metric": "storage", "token_quota": 5},
    {"metric": "no-meter", "quota": 10.5},
    {"metric": "no-meter", "token_quota": 5},
    {"quotas": {"storage": 1e30}},
    {"quotas": "none"},
    {"unlimited": True},
]


def test_quotas_of_several_meters_are_taken(world: World) -> None:
    world.meters = [MAIN, TOKENS, STORAGE]
    for number, (quotas, _) in enumerate(GOOD):
        inside = {"account_id": "acme", **quotas}
        world.land(make_quota(uuid=f"{number:02}", properties=inside), name=f"{number:02}.ndjson")
    world.ingest()

    assert world.rejected() == []
    assert world.events("event_id, quota") == [(f"{number:02}", quota) for number, (_, quota) in enumerate(GOOD)]


def test_quota_is_refused_where_one_of_them_is_wrong(world: World) -> None:
    world.meters = [MAIN, TOKENS, STORAGE]
    world.land(*(make_quota(uuid=f"{n:02}", properties={"account_id": "a", **each}) for n, each in enumerate(BAD)))
    world.ingest()

    assert world.events() == []
    assert world.rejected() == [(number, Rejection.INVALID_QUOTA) for number in range(1, len(BAD) + 1)]


def test_quota_without_a_metric_has_the_places_of_the_main_meter(world: World) -> None:
    main = make_meter(
        meter="storage", is_main="true", aggregation="sum", value="gb", decimals="3", event_names="stored"
    )
    world.meters = [main]
    world.land(make_quota(uuid="1", quota=10.125), make_quota(uuid="2", quota="7.000"), make_quota(quota=0.0001))
    world.ingest()

    assert world.events("event_id, quota") == [("1", None), ("2", 7)]
    assert world.rejected() == [(3, Rejection.INVALID_QUOTA)]
