"""Every line counts as the event that it is, or is in quarantine with a reason."""

import json
from collections import Counter
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestration.lake import landing, parsed_lines
from orchestration.lake.batch import CALL_COLUMNS
from orchestration.usage import events
from orchestration.usage.events import MAX_ACCOUNT_ID_BYTES, Rejection
from orchestration.usage.meters import Meter
from tests.orchestration.lake.world import World
from tests.support.builders import NOW, make_event, make_meter, make_quota

# Rejections


BAD_LINES: list[tuple[object, Rejection]] = [
    (b'{"event": "api_call\xff"}', Rejection.INVALID_UTF8),
    ("not json", Rejection.INVALID_JSON),
    ('{"event": "api_call", "uuid": "cut', Rejection.INVALID_JSON),
    (json.dumps(make_event()) + "{", Rejection.INVALID_JSON),
    ("[" * 100_000, Rejection.INVALID_JSON),
    (b'{"event": "api_call", "uuid": "\x00", "distinct_id": "a"}', Rejection.INVALID_JSON),
    ('{"event": "api_call", "distinct_id": "\\ud800"}', Rejection.INVALID_JSON),
    ('{"event": "api_call", "distinct_id": "a", "properties": {"sample_weight": 0}}', Rejection.INVALID_WEIGHT),
    ("42", Rejection.NOT_AN_OBJECT),
    ('"text"', Rejection.NOT_AN_OBJECT),
    ("null", Rejection.NOT_AN_OBJECT),
    (make_event(event="page_view"), Rejection.UNKNOWN_EVENT),
    (make_event(event="events_dropped", properties={"dropped": 12, "problem": "HTTP 401"}), Rejection.DROPPED),
    (make_event(event=None), Rejection.UNKNOWN_EVENT),
    (make_event(event=["api_call"]), Rejection.UNKNOWN_EVENT),
    (make_event(properties=None), Rejection.MISSING_ACCOUNT),
    (make_event(account=""), Rejection.MISSING_ACCOUNT),
    (make_event(properties={"account_id": ["acme"]}), Rejection.INVALID_ACCOUNT),
    (make_event(properties={"account_id": True}), Rejection.INVALID_ACCOUNT),
    (make_event(properties={"account_id": 1.5}), Rejection.INVALID_ACCOUNT),
    (make_event(account="a" * (MAX_ACCOUNT_ID_BYTES + 1)), Rejection.INVALID_ACCOUNT),
    (make_event(account="é" * (MAX_ACCOUNT_ID_BYTES // 2) + "a"), Rejection.INVALID_ACCOUNT),
    (make_event(at="yesterday"), Rejection.INVALID_TIME),
    (make_quota(quota="lots"), Rejection.INVALID_QUOTA),
]


def test_bad_line_is_in_quarantine_with_its_reason_and_neighbours_count(world: World) -> None:
    lines: list[object] = [make_event(uuid="first")]
    expected: list[tuple[str, int, str, str, datetime]] = []
    for line, reason in BAD_LINES:
        raw = line.decode("utf-8", "backslashreplace") if isinstance(line, bytes) else line
        text = raw if isinstance(raw, str) else json.dumps(raw)
        expected.append(("sub/a.ndjson", len(lines) + 1, reason, text, NOW))
        lines += [line, make_event(uuid=f"after {len(lines) + 1}")]
    world.land(*lines, name="sub/a.ndjson")
    [batch] = world.ingest()

    assert world.rejected("landed_file, line_number, reason, line, rejected_at") == expected
    assert len(world.events()) == batch.accepted == 1 + len(BAD_LINES)
    assert batch.rejected == Counter(reason for _, reason in BAD_LINES)
    assert set(batch.rejected) == set(Rejection) - {
        Rejection.NOT_TEXT,  # in test_rejections.py, as the next
        Rejection.EMPTY_LIST,
        Rejection.TOO_OLD,  # in test_compaction.py, which makes it so
        Rejection.INVALID_ROW,
        Rejection.INVALID_RANGE,
        Rejection.OVERLAPPING_RANGE,
        Rejection.INVALID_CELL,
        Rejection.HELD_FILE,
        Rejection.ID_CONFLICT,
        Rejection.DAMAGED_FILE,
    }


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le"])
def test_file_in_utf_16_counts_like_any_other(world: World, encoding: str) -> None:
    content = "\n".join(json.dumps(make_event(uuid=uuid)) for uuid in ("é", "e"))
    (world.landing / "a.ndjson").write_bytes(content.encode(encoding))
    world.ingest()

    assert world.events("event_id, line_number") == [("e", 2), ("é", 1)]
    assert world.rejected() == []


@pytest.mark.parametrize(
    "line",
    [
        '{"event": "api_call", "uuid": "x", "distinct_id": "a", "properties": {"x": NaN}}',
        '{"event": "api_call", "uuid": "x", "distinct_id": "a",}',
    ],
)
def test_line_is_counted_or_refused_but_never_lost_when_it_is_nearly_json(world: World, line: str) -> None:
    world.land(make_event(uuid="before"), line, make_event(uuid="after"))
    [batch] = world.ingest()

    assert {"before", "after"} <= set(world.events())
    assert len(world.events()) + len(world.rejected()) == batch.lines == 3


@pytest.mark.parametrize(
    "content",
    [
        b"\xef\xbb\xbf%b\n%b\n",
        b"%b\r\n%b\r\n",
        b"%b\n\n\r\n  \t\n%b",
        b"\n %b \n\t%b\t\n",
    ],
    ids=["BOM", "CRLF", "blank lines and no last line break", "spaces"],
)
def test_lines_count_when_the_file_has_other_line_ends_or_blanks(world: World, content: bytes) -> None:
    lines = [json.dumps(make_event(uuid=uuid)).encode() for uuid in ("one", "two")]
    (world.landing / "a.ndjson").write_bytes(content % tuple(lines))
    [batch] = world.ingest()

    assert world.events() == ["one", "two"]
    assert batch.accepted == 2


def test_line_number_counts_blank_lines(world: World) -> None:
    world.land("", make_event(uuid="second"), " ", "fourth", "")
    world.ingest()

    assert world.events("line_number") == [2]
    assert world.rejected("line_number") == [4]


def test_file_is_remembered_when_it_has_only_blank_lines(world: World) -> None:
    world.land("", " ")
    [batch] = world.ingest()

    assert (batch.lines, batch.files[0].is_complete) == (0, True)
    assert world.ingest() == []


def test_long_or_deep_line_counts_when_it_is_an_event(world: World) -> None:
    deep = json.dumps(make_event(uuid="deep"))[:-2] + ', "x": ' + "[" * 100_000 + "]" * 100_000 + "}}"
    world.land(make_event(uuid="long", pad="x" * 5_000_000), deep, make_event(uuid="after"))
    world.ingest()

    assert world.events() == ["after", "deep", "long"]


def test_line_is_refused_when_it_is_longer_than_the_limit(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(landing, "MAX_LINE_BYTES", 1000)
    monkeypatch.setattr(landing, "CHUNK_BYTES", 400)
    world.land(make_event(uuid="before"), make_event(uuid="long") | {"pad": "x" * 2000}, make_event(uuid="after"))
    world.ingest()

    assert world.events() == ["after", "before"]
    [(number, reason, line)] = world.rejected("line_number, reason, line")
    assert (number, reason) == (2, Rejection.INVALID_JSON)
    assert line.endswith(landing.CUT_OFF.decode())


# Fields


@pytest.mark.parametrize(
    ("event", "expected"),
    [
        ({"event": "api_call", "type": "page_view"}, "api_call"),
        ({"event": None, "type": "api_request"}, "api_request"),
    ],
)
def test_name_comes_from_the_first_field_that_is_not_null(
    world: World, event: dict[str, object], expected: str
) -> None:
    world.land({"uuid": "x", "distinct_id": "a", **event})
    world.ingest()

    assert world.events("event_name") == [expected]


@pytest.mark.parametrize("first", range(len(events.ID_FIELDS)))
def test_id_comes_from_the_first_field_that_is_not_null(world: World, first: int) -> None:
    names = events.ID_FIELDS
    ids = {name: None if place < first else name for place, name in enumerate(names)}
    world.land({"event": "api_call", "distinct_id": "a", **ids})
    world.ingest()

    assert world.events() == [names[first]]


@pytest.mark.parametrize("first", range(len(events.ACCOUNT_FIELDS)))
def test_account_comes_from_the_first_field_that_is_not_null(world: World, first: int) -> None:
    names = events.ACCOUNT_FIELDS
    values = {name: None if place < first else name for place, name in enumerate(names)}
    inner = [name for name in names if name.startswith("properties.")]
    properties = {name.removeprefix("properties."): values.pop(name) for name in inner}
    world.land({"event": "api_call", "properties": properties, **values})
    world.ingest()

    assert world.events("account_id") == [names[first]]


def test_account_is_refused_when_the_first_field_is_empty(world: World) -> None:
    world.land({"event": "api_call", "properties": {"account_id": ""}, "distinct_id": "acme"})
    world.ingest()

    assert world.rejected() == [(1, Rejection.MISSING_ACCOUNT)]


@pytest.mark.parametrize("first", range(len(events.TIME_FIELDS)))
def test_time_comes_from_the_first_field_that_is_not_null(world: World, first: int) -> None:
    names = events.TIME_FIELDS
    times = {name: None if place < first else f"2026-11-0{place + 1}" for place, name in enumerate(names)}
    world.land({"event": "api_call", "distinct_id": "a", **times})
    world.ingest()

    assert world.events("event_at") == [datetime(2026, 11, first + 1, tzinfo=UTC)]


@pytest.mark.parametrize("first", range(3))
def test_quota_comes_from_the_first_field_that_is_there(world: World, first: int) -> None:
    names = ["api_quota_monthly", "quota", "limit"]
    properties = {name: place for place, name in enumerate(names) if place >= first}
    world.land({"event": "quota_set", "uuid": "x", "distinct_id": "a", "properties": properties})
    world.ingest()

    assert world.events("quota") == [first]


def test_number_and_its_digits_are_one_account(world: World) -> None:
    world.land(*(make_event(uuid=repr(account), properties={"account_id": account}) for account in (74, "74", "074")))
    world.ingest()

    assert world.events("account_id") == ["074", "74", "74"]


IDS = [
    "'; drop table events; --",
    "{{ 1 + 1 }}{% raw %}",
    "\u202eabc",
    "é",
    "e\u0301",
    "ACME",
    "acme",
    " acme ",
    "q\"uo'te\\",
    "two\nlines",
    "nul\x00byte",
    "\U0001f600",
    "a" * MAX_ACCOUNT_ID_BYTES,
    "12345678901234567890123",
]


def test_ids_stay_byte_for_byte(world: World) -> None:
    world.land(*(make_event(uuid=text, account=text) for text in IDS))
    world.land(*(make_event(uuid=text, account=text) for text in IDS[::-1]), name="b.ndjson")
    world.ingest()

    assert world.events("event_id, account_id") == sorted((text, text) for text in IDS)


def test_numeric_ids_stay_distinct_when_longer_than_a_double(world: World) -> None:
    world.land(*(make_event(uuid=10**22 + number) for number in range(3)))
    world.ingest()

    assert world.events() == [str(10**22 + number) for number in range(3)]


def test_event_keeps_its_other_fields(world: World) -> None:
    properties = {"account_id": "acme", "endpoint": "/v1/é", "status": 503}
    world.land(make_event(uuid="x", source="edge", properties=properties))
    world.ingest()

    [row] = world.events("source, event_name, endpoint, status, properties, landed_file, ingested_at, quota")
    assert row[:4] == ("edge", "api_call", "/v1/é", 503)
    assert json.loads(row[4]) == properties
    assert row[5:] == ("a.ndjson", NOW, None)


@pytest.mark.parametrize("status", ["oops", [], {}, None, 10**30])
def test_call_counts_when_its_status_is_unusable(world: World, status: object) -> None:
    world.land(make_event(properties={"account_id": "a", "status": status}))
    world.ingest()

    assert world.events("status") == [None]


@pytest.mark.parametrize("properties", [None, "text", 5, [1]])
def test_call_counts_when_its_properties_are_no_object(world: World, properties: object) -> None:
    world.land({"event": "api_call", "distinct_id": "acme", "properties": properties})
    world.ingest()

    assert world.events("account_id") == ["acme"]


def test_time_is_the_arrival_when_the_event_has_none(world: World) -> None:
    world.land(make_event(timestamp=None))
    world.ingest()

    assert world.events("event_at") == [NOW]


def test_events_lie_under_their_utc_day(world: World) -> None:
    world.land(make_event(uuid="x", at="2026-11-19T23:30:00-01:00"))
    world.ingest()

    [path] = world.lake.root.glob("batches/000001/calls/*/*")
    assert path.parent.name == "event_date=2026-11-20"


def test_batch_holds_many_event_dates(world: World) -> None:
    times = [f"{year}-{month:02}-01T00:00:00Z" for year in range(2010, 2025) for month in range(1, 13)]
    world.land(*(make_event(at=at) for at in times))
    world.ingest()

    assert len(world.events()) == len(times) == 180


QUOTAS = [(None, None), (0, 0), (74, 74), ("74", 74), ("0", 0), (100.0, 100), (10**15, 10**15), (str(10**15), 10**15)]
BAD_QUOTAS = [
    10**15 + 1,
    -5,
    "-5",
    1.5,
    "1.5",
    True,
    False,
    [1],
    {},
    "lots",
    "",
    " 74",
    "７４",
    "null",
    1e30,
    10**40,
    "9" * 50,
]


def test_quota_is_taken_when_it_is_null_or_a_whole_number(world: World) -> None:
    world.land(*(make_quota(quota=quota, uuid=str(number)) for number, (quota, _) in enumerate(QUOTAS)))
    world.ingest()

    assert dict(world.events("line_number, quota")) == dict(enumerate((expected for _, expected in QUOTAS), 1))
    assert world.rejected() == []


def test_quota_is_refused_when_it_is_anything_else(world: World) -> None:
    world.land(*(make_quota(quota=quota, uuid=str(number)) for number, quota in enumerate(BAD_QUOTAS)))
    world.ingest()

    assert world.rejected() == [(number, Rejection.INVALID_QUOTA) for number in range(1, len(BAD_QUOTAS) + 1)]
    assert world.events() == []


@pytest.mark.parametrize("properties", [{}, {"account_id": "acme", "plan": "growth"}, {"unlimited": True}])
def test_quota_is_refused_when_it_is_missing(world: World, properties: dict[str, object]) -> None:
    world.land({"event": "quota_set", "distinct_id": "acme", "properties": properties})
    world.ingest()

    assert world.rejected() == [(1, Rejection.INVALID_QUOTA)]


def test_limit_of_another_event_is_no_quota(world: World) -> None:
    for number, limit in enumerate((500, "lots")):
        properties = {"account_id": "acme", "limit": limit}
        event = make_event(event="usage.limit_reached", uuid=str(number), properties=properties)
        world.land(event, name=f"{number}.ndjson")
    world.ingest()

    assert world.events("event_name, quota") == [("usage.limit_reached", None)] * 2


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)
FIELDS = ["event", "type", "uuid", "id", "source", "distinct_id", "timestamp", "time", "properties"]
EVENTS = st.dictionaries(st.sampled_from(FIELDS), JSON).map(lambda event: {"event": "quota_set", **event})
PROPERTIES = st.dictionaries(st.sampled_from(["account_id", "quota", "status", "endpoint"]), JSON)


@settings(max_examples=12, deadline=None)
@given(
    lines=st.lists(
        st.binary(max_size=30).map(lambda line: line.replace(b"\n", b"?"))
        | EVENTS
        | st.builds(lambda event, properties: {**event, "properties": properties}, EVENTS, PROPERTIES),
        max_size=8,
    ),
    batch_bytes=st.integers(100, 2000),
    chunk_bytes=st.integers(1, 100),
)
def test_every_line_is_accounted_for_whatever_it_holds(
    tmp_path_factory: pytest.TempPathFactory, lines: list[object], batch_bytes: int, chunk_bytes: int
) -> None:
    world = World(tmp_path_factory.mktemp("world"))
    world.land(make_event(uuid="good"), *lines)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(landing, "CHUNK_BYTES", chunk_bytes)
        batches = world.ingest(batch_bytes)

    blank = sum(isinstance(line, bytes) and not line.removeprefix(b"\xef\xbb\xbf").strip() for line in lines)
    assert sum(batch.lines for batch in batches) == 1 + len(lines) - blank
    assert len(world.events()) == sum(batch.accepted for batch in batches)
    assert len(world.rejected()) == sum(sum(batch.rejected.values()) for batch in batches)
    for batch in batches:
        assert batch.lines == batch.accepted + batch.duplicates + sum(batch.rejected.values())
    assert "good" in world.events()


ODD_TEXTS = st.sampled_from(
    [
        *("", " ", "acme", "1", "01", "1.0", "1e3", "-1", "true", "false", "null", "NaN", "Infinity"),
        *("[1]", "{}", '{"a":1}', "api_call", "api_request", "quota_set", "ü", "\u0000", "'", '"', "x" * 1025),
        *("2026-11-19", "2026-11-19T12:00:00", "2026-11-19T12:00:00+02:00", "today", "1763546400", "1999-12-31"),
        *("2026-11-19 12:00:00 BST", "20261119T120000Z", "2026-11-19 12:00:00,5 UTC", "1763546400000000000"),
    ]
)
ODD = ODD_TEXTS | st.sampled_from([None, True, False, 0, 1, 7, -1, 10**6, 10**6 + 1, 2**63, 2**64, 10**30, 1.0, 1.5])
ODD_VALUES = ODD | st.lists(ODD, max_size=2) | st.dictionaries(st.sampled_from(["a", "account_id"]), ODD, max_size=2)
NAMES = [*events.FIELDS, "account_id", "customer_id", "endpoint", "status"]
ODD_PROPERTIES = st.dictionaries(
    st.sampled_from(["account_id", "customer_id", "sample_weight", "endpoint", "status", "other"]),
    ODD_VALUES,
    max_size=4,
)
TOKENS = make_meter(event_names="llm_request", aggregation="sum", value="n")
ODD_EVENTS = st.builds(
    lambda event, outer, inner, name: {"event": event, "uuid": "u", **outer, name: inner},
    st.sampled_from(["api_call", "api_request", "llm_request"]),
    st.dictionaries(st.sampled_from([*NAMES, "sample_weight"]), ODD_VALUES, max_size=4),
    ODD_PROPERTIES | ODD_PROPERTIES.map(json.dumps) | ODD_VALUES,
    st.sampled_from(events.PROPERTIES_FIELDS),
)


@settings(max_examples=25, deadline=None)
@given(
    lines=st.lists(ODD_EVENTS, min_size=20, max_size=40),
    meters=st.sampled_from([[], [TOKENS], [TOKENS, make_meter(event_names="api_request", filter="other=1")]]),
)
def test_both_ways_of_reading_give_the_same_events(
    tmp_path_factory: pytest.TempPathFactory, lines: list[dict[str, Any]], meters: list[Meter]
) -> None:
    """The fast one, and the exact one on every line."""
    fast, exact = World(tmp_path_factory.mktemp("fast")), World(tmp_path_factory.mktemp("exact"))
    for world in (fast, exact):
        world.meters = meters
        # an id for each, so that none hides another
        world.land(*({**line, "uuid": f"{line['uuid']}-{number}"} for number, line in enumerate(lines)))
    fast.ingest()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            parsed_lines,
            "READ_LINES",
            parsed_lines.READ_LINES.replace("from vouched", "from unvouched").replace(
                "select * replace",
                ", unvouched as (select * replace (false as is_judged) from vouched) select * replace",
            ),
        )
        assert "from unvouched" in parsed_lines.READ_LINES
        exact.ingest()

    columns = ", ".join(CALL_COLUMNS)
    assert fast.calls(columns) == exact.calls(columns)
    assert fast.rejected("*") == exact.rejected("*")


@pytest.mark.parametrize("place", ["outside", "inside"])
def test_weight_is_a_whole_number_of_calls_or_the_line_is_refused(world: World, place: str) -> None:
    good = [(None, 1), (1, 1), (10, 10), ("25", 25), (3.0, 3), (10**6, 10**6)]
    bad = [0, -1, 1.5, "ten", "", True, [2], {"a": 1}, 10**6 + 1, 10**30]
    for number, weight in enumerate([*(weight for weight, _ in good), *bad]):
        event = make_event(uuid=f"{number:02}")
        (event if place == "outside" else event["properties"])["sample_weight"] = weight
        world.land(event, name=f"{number:02}.ndjson")
    world.ingest()

    assert world.calls("event_id, sample_weight") == [(f"{i:02}", weight) for i, (_, weight) in enumerate(good)]
    assert [reason for _, reason in world.rejected()] == [Rejection.INVALID_WEIGHT] * len(bad)
