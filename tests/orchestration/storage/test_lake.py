"""The lake: whatever lands is counted once, or is in quarantine with a reason; no kill changes that."""

import json
import sqlite3
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from random import Random
from typing import Any

import duckdb
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestration.storage import lake as lake_module
from orchestration.storage import landing
from orchestration.storage.lake import BATCH_BYTES, Batch, Lake
from orchestration.storage.landing import LandedFile
from orchestration.storage.places import Folder, Skipped
from orchestration.usage.events import MAX_ACCOUNT_ID_BYTES, Rejection
from tests.builders import NOW, land, make_event, make_quota

NOON = datetime(2026, 11, 19, 12, tzinfo=UTC)


class World:
    """A landing folder and a lake, whose manifests stand in for the ledger."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.landing = root / "landing"
        self.lake = Lake(root / "lake")
        self.skipped: list[Skipped] = []
        self.landing.mkdir(parents=True, exist_ok=True)

    def land(self, *lines: object, name: str = "a.ndjson") -> Path:
        return land(self.landing, name, *lines)

    def ingest(self, batch_bytes: int = BATCH_BYTES, now: datetime = NOW) -> list[Batch]:
        batches: list[Batch] = []
        with self.lake.writing():
            for _ in range(1000):
                batch, self.skipped = self.lake.ingest(Folder(self.landing), self.known(), now, batch_bytes)
                if batch is None:
                    return batches
                batches.append(batch)
        raise AssertionError("ingestion never comes to an end")

    def known(self) -> dict[str, LandedFile]:
        return {file.path: file for batch in self.lake.batches() for file in batch.files}

    def rows(self, columns: str, *files: str) -> list[Any]:
        with duckdb.connect() as connection:
            connection.execute("set TimeZone = 'UTC'")
            sources = [str(self.lake.root / file) for file in files]
            found = connection.execute(
                f"select {columns} from read_parquet(?, hive_partitioning = false, union_by_name = true) order by all",
                [sources],
            ).fetchall()
        return [row[0] if len(row) == 1 else row for row in found]

    def events(self, columns: str = "event_id") -> list[Any]:
        return self.rows(columns, "batches/*/calls/*/*.parquet", "batches/*/others.parquet")

    def rejected(self, columns: str = "line_number, reason") -> list[Any]:
        return self.rows(columns, "batches/*/rejected.parquet")

    def accounts(self) -> list[Any]:
        return self.rows("*", "accounts.parquet")

    def accounts_rejected(self) -> list[Any]:
        return self.rows("landed_file, line_number, reason", "accounts_rejected.parquet")


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


# Rejections


BAD_LINES: list[tuple[object, Rejection]] = [
    (b'{"event": "api_call\xff"}', Rejection.INVALID_UTF8),
    ("not json", Rejection.INVALID_JSON),
    ('{"event": "api_call", "uuid": "cut', Rejection.INVALID_JSON),
    (json.dumps(make_event()) * 2, Rejection.INVALID_JSON),
    ("[" * 100_000, Rejection.INVALID_JSON),
    (b'{"event": "api_call", "uuid": "\x00", "distinct_id": "a"}', Rejection.INVALID_JSON),
    ('{"event": "api_call", "distinct_id": "\\ud800"}', Rejection.INVALID_JSON),
    ("[" * 50_000 + "]" * 50_000, Rejection.NOT_AN_OBJECT),
    ("42", Rejection.NOT_AN_OBJECT),
    ('"text"', Rejection.NOT_AN_OBJECT),
    ("null", Rejection.NOT_AN_OBJECT),
    (make_event(event="page_view"), Rejection.UNKNOWN_EVENT),
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


def test_bad_line_is_in_quarantine_with_its_reason_when_its_neighbours_count(world: World) -> None:
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
    assert set(batch.rejected) == set(Rejection) - {Rejection.INVALID_ROW}


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le"])
def test_file_in_utf_16_is_in_quarantine_line_for_line(world: World, encoding: str) -> None:
    content = "\n".join(json.dumps(make_event(uuid=uuid)) for uuid in ("é", "e"))
    (world.landing / "a.ndjson").write_bytes(content.encode(encoding))
    world.land(make_event(uuid="good"), name="b.ndjson")
    world.ingest()

    assert world.events() == ["good"]
    assert len(world.rejected()) == 2


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


@pytest.mark.parametrize(
    ("is_event", "line_bytes", "lines", "memory"),
    [(False, 10**6, 80, "400MB"), (True, 10**6, 80, "400MB"), (True, 5 * 10**6, 20, lake_module.MEMORY_LIMIT)],
)
def test_batch_fits_into_memory_when_its_lines_are_large(
    world: World, monkeypatch: pytest.MonkeyPatch, is_event: bool, line_bytes: int, lines: int, memory: str
) -> None:
    monkeypatch.setattr(lake_module, "MEMORY_LIMIT", memory)
    pad = "x" * line_bytes
    with (world.landing / "a.ndjson").open("w") as stream:
        for number in range(lines):
            event = make_event(uuid=str(number), properties={"account_id": "a", "pad": pad})
            stream.write((json.dumps(event) if is_event else pad) + "\n")
    [batch] = world.ingest()

    assert (batch.lines, batch.accepted) == (lines, lines * is_event)


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


@pytest.mark.parametrize("first", range(3))
def test_id_comes_from_the_first_field_that_is_not_null(world: World, first: int) -> None:
    names = ["uuid", "messageId", "id"]
    ids = {name: None if place < first else name for place, name in enumerate(names)}
    world.land({"event": "api_call", "distinct_id": "a", **ids})
    world.ingest()

    assert world.events() == [names[first]]


@pytest.mark.parametrize("first", range(5))
def test_account_comes_from_the_first_field_that_is_not_null(world: World, first: int) -> None:
    names = ["account_id", "customer_id", "distinct_id", "userId", "subject"]
    values = {name: None if place < first else name for place, name in enumerate(names)}
    properties = {name: values.pop(name) for name in names[:2]}
    world.land({"event": "api_call", "properties": properties, **values})
    world.ingest()

    assert world.events("account_id") == [names[first]]


def test_account_is_refused_when_the_first_field_is_empty(world: World) -> None:
    world.land({"event": "api_call", "properties": {"account_id": ""}, "distinct_id": "acme"})
    world.ingest()

    assert world.rejected() == [(1, Rejection.MISSING_ACCOUNT)]


@pytest.mark.parametrize("first", range(3))
def test_time_comes_from_the_first_field_that_is_not_null(world: World, first: int) -> None:
    names = ["timestamp", "time", "originalTimestamp"]
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


def test_numbers_as_ids_are_told_apart_when_they_have_more_digits_than_a_double(world: World) -> None:
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


TIMES: list[tuple[object, datetime | None]] = [
    ("2026-11-19T12:00:00Z", NOON),
    ("2026-11-19T14:30:00+02:30", NOON),
    ("2026-11-19T04:00:00-0800", NOON),
    ("2026-11-19 12:00:00", NOON),
    ("2026-11-19T12:00", NOON),
    ("2026-11-19", NOON.replace(hour=0)),
    ("2026-11-19T12:00:00.123456Z", NOON.replace(microsecond=123456)),
    ("2026-11-19T23:59:59.9999999Z", datetime(2026, 11, 19, 23, 59, 59, 999999, UTC)),
    (1795089600, NOON),
    ("1795089600", NOON),
    (1795089600.5, NOON.replace(microsecond=500000)),
    (1795089600000, NOON),
    ("1795089600123", NOON.replace(microsecond=123000)),
    (1795089600123456, NOON.replace(microsecond=123456)),
    ("2000-01-01T00:00:00Z", datetime(2000, 1, 1, tzinfo=UTC)),
    ("2000-01-01T01:00:00+02:00", None),
    ("1999-12-31T23:59:59.999999Z", None),
    (946684799, None),
    ("9999-06-01T00:00:00Z", None),
    ("9998-12-31T00:00:00Z", datetime(9998, 12, 31, tzinfo=UTC)),
    ("infinity", None),
    ("-infinity", None),
    ("epoch", None),
    ("today", None),
    ("now", None),
    ("", None),
    (0, None),
    (-1795089600, None),
    (1795089600123456789, None),
    (True, None),
    ({}, None),
    ("2026-02-30T00:00:00Z", None),
    ("2026-11-19T12:00:00Z; drop table", None),
]


def test_time_is_read_or_refused(world: World) -> None:
    world.land(*(make_event(uuid=str(number), timestamp=time) for number, (time, _) in enumerate(TIMES, 1)))
    world.ingest()

    read = {number: at for number, (_, at) in enumerate(TIMES, 1) if at}
    assert dict(world.events("line_number, event_at")) == read
    refused = set(range(1, len(TIMES) + 1)) - set(read)
    assert world.rejected() == [(number, Rejection.INVALID_TIME) for number in sorted(refused)]


def test_time_is_the_arrival_when_the_event_has_none(world: World) -> None:
    world.land(make_event(timestamp=None))
    world.ingest()

    assert world.events("event_at") == [NOW]


def test_events_lie_under_their_utc_day(world: World) -> None:
    world.land(make_event(uuid="x", at="2026-11-19T23:30:00-01:00"))
    world.ingest()

    [path] = world.lake.root.glob("batches/000001/events/*/*")
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

    blank = sum(isinstance(line, bytes) and not line.strip() for line in lines)
    assert sum(batch.lines for batch in batches) == 1 + len(lines) - blank
    assert len(world.events()) == sum(batch.accepted for batch in batches)
    assert len(world.rejected()) == sum(sum(batch.rejected.values()) for batch in batches)
    for batch in batches:
        assert batch.lines == batch.accepted + batch.duplicates + sum(batch.rejected.values())
    assert "good" in world.events()


# Identity


def test_equal_lines_are_two_calls_when_they_have_no_id(world: World) -> None:
    world.land(make_event(uuid=None), make_event(uuid=None), make_event(uuid=""))
    world.ingest()

    assert world.events("event_id") == ["1", "2", "3"]
    [source] = set(world.events("source"))
    assert source.startswith("a.ndjson#")


def test_events_without_ids_count_once_when_the_ledger_is_lost(world: World) -> None:
    world.land(make_event(uuid=None), make_event(uuid=None))
    world.ingest()
    with world.lake.writing():
        batch, _ = world.lake.ingest(world.landing, {}, NOW)

    assert batch is not None
    assert (batch.accepted, batch.duplicates) == (0, 2)
    assert len(world.events()) == 2


def test_events_without_ids_count_once_when_the_file_grows_in_the_middle_of_a_line(world: World) -> None:
    line = json.dumps(make_event(uuid=None)).encode()
    path = world.landing / "a.ndjson"
    for content in (line + b"\n" + line[:20], line + b"\n" + line, line + b"\n" + line + b"\n" + line):
        path.write_bytes(content)
        world.ingest()

    assert world.events("event_id, line_number") == [("1", 1), ("2", 2), ("3", 3)]
    assert world.rejected("line_number, reason, line") == [(2, Rejection.INVALID_JSON, line[:20].decode().strip())]


@pytest.mark.parametrize("batch_bytes", [1, BATCH_BYTES])
@pytest.mark.parametrize("name", ["a.ndjson", "b.ndjson"])
def test_event_counts_once_when_its_id_comes_again(world: World, name: str, batch_bytes: int) -> None:
    events = [make_event(uuid="x"), make_event(uuid="x", account="other", at="2026-10-01T00:00:00Z")]
    if name == "a.ndjson":
        world.land(*events)
    else:
        world.land(events[0])
        world.land(events[1], name=name)
    batches = world.ingest(batch_bytes)

    assert world.events("event_id, account_id") == [("x", "acme")]
    assert sum(batch.duplicates for batch in batches) == 1
    assert sum(batch.accepted for batch in batches) == 1


def test_event_counts_once_when_it_comes_again_in_a_later_run(world: World) -> None:
    world.land(make_event(uuid="x"))
    world.ingest()
    twins = [make_event(uuid="y"), make_event(uuid="y"), make_event(uuid="x", at="yesterday")]
    world.land(make_event(uuid="x"), *twins, name="b.ndjson")
    [batch] = world.ingest()

    assert world.events() == ["x", "y"]
    assert (batch.accepted, batch.duplicates, batch.rejected) == (1, 2, {"invalid_time": 1})


def test_id_names_two_events_when_their_sources_differ(world: World) -> None:
    sources = [None, "", "one", "two", "two"]
    world.land(*({**make_event(uuid="x"), "source": source} for source in sources))
    world.ingest()

    assert world.events("source, event_id") == [("", "x"), ("one", "x"), ("two", "x")]


def test_good_event_counts_when_its_twin_before_it_is_invalid(world: World) -> None:
    world.land(make_event(uuid="x", at="yesterday"), make_event(uuid="x"), make_event(uuid="x", account=""))
    world.ingest()

    assert world.events("event_id, line_number") == [("x", 2)]
    assert [number for number, _ in world.rejected()] == [1, 3]


# Batches


@settings(max_examples=12, deadline=None)
@given(
    sizes=st.lists(st.integers(0, 6), min_size=1, max_size=4),
    batch_bytes=st.integers(1, 2000),
    chunk_bytes=st.integers(1, 300),
)
def test_every_event_counts_once_whatever_the_sizes(
    tmp_path_factory: pytest.TempPathFactory, sizes: list[int], batch_bytes: int, chunk_bytes: int
) -> None:
    world = World(tmp_path_factory.mktemp("world"))
    for file, size in enumerate(sizes):
        world.land(*(make_event(uuid=f"{file}-{line}") for line in range(size)), name=f"{file}.ndjson")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(landing, "CHUNK_BYTES", chunk_bytes)
        world.ingest(batch_bytes)

    expected = [(f"{file}-{line}", line + 1) for file, size in enumerate(sizes) for line in range(size)]
    assert world.events("event_id, line_number") == sorted(expected)


def test_batch_ends_at_its_limit_when_no_file_ends_with_a_line_break(world: World) -> None:
    for name in "abc":
        (world.landing / f"{name}.ndjson").write_text(json.dumps(make_event(uuid=name)))

    assert [len(batch.files) for batch in world.ingest(batch_bytes=200)] == [2, 1]


def test_file_is_hashed_once_when_the_backlog_takes_many_batches(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in "abcd":
        world.land(make_event(uuid=name), name=f"{name}.ndjson")
    hashed: list[str] = []
    hash_file = landing._hash
    monkeypatch.setattr(
        landing, "_hash", lambda folder, file, sizes: hashed.append(file.path) or hash_file(folder, file, sizes)
    )

    assert len(world.ingest(batch_bytes=1)) == 4
    assert hashed == ["a.ndjson", "b.ndjson", "c.ndjson", "d.ndjson"]


def test_ingestion_ends_when_a_file_never_stops_growing(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    path = world.land(make_event(uuid="0"))
    write_events = Lake._write_events

    def grow(lake: Lake, *arguments: Any) -> None:
        write_events(lake, *arguments)
        with path.open("a") as stream:
            stream.write(json.dumps(make_event(uuid=f"behind {path.stat().st_size}")) + "\n")

    monkeypatch.setattr(Lake, "_write_events", grow)
    assert len(world.ingest()) == 1
    assert len(world.ingest()) == 1
    monkeypatch.undo()
    world.ingest()
    assert len(world.events()) == 3


def test_ingestion_ends_when_a_half_read_file_became_unreadable(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.land(make_event(uuid="one"), make_event(uuid="two"))
    monkeypatch.setattr(landing, "CHUNK_BYTES", 150)
    with world.lake.writing():
        world.lake.ingest(world.landing, {}, NOW, batch_bytes=1)
    world.land(make_event(uuid="other"), name="b.ndjson")
    opened = landing._opened

    @contextmanager
    def refuse(folder: Path, file: LandedFile) -> Iterator[Any]:
        if file.path == "a.ndjson":
            raise PermissionError(13, "Permission denied")
        with opened(folder, file) as stream:
            yield stream

    monkeypatch.setattr(landing, "_opened", refuse)
    assert len(world.ingest()) == 1
    assert world.skipped == [Skipped("a.ndjson", "cannot be read: Permission denied")]
    monkeypatch.undo()
    world.ingest()
    assert world.events() == ["one", "other", "two"]


def test_skipped_things_are_reported_when_nothing_is_new(world: World) -> None:
    world.land("a,b", name="a.csv")

    assert world.ingest() == []
    assert world.skipped == [Skipped("a.csv", "is not one of .ndjson, .jsonl")]
    assert world.lake.batches() == []


def test_manifest_says_which_bytes_it_holds_when_it_is_read_back(world: World) -> None:
    path = world.land(make_event(uuid="x"), make_event(uuid="x"), "bad")
    [batch] = world.ingest()

    assert world.lake.batches() == [batch]
    [file] = batch.files
    assert (file.path, file.read_bytes, file.read_lines, file.is_complete) == ("a.ndjson", path.stat().st_size, 3, True)
    assert (batch.number, batch.ingested_at, batch.lines) == (1, NOW.isoformat(), 3)
    assert (batch.accepted, batch.duplicates, batch.rejected) == (1, 1, {"invalid_json": 1})


def test_batches_are_those_after_a_number_in_order(world: World) -> None:
    for name in "abc":
        world.land(make_event(uuid=name), name=f"{name}.ndjson")
        world.ingest()
    for old, new in (("000003", "1000000"), ("000002", "999999")):
        (world.lake.root / "batches" / old).rename(world.lake.root / "batches" / new)

    assert [batch.files[0].path for batch in world.lake.batches()] == ["a.ndjson", "b.ndjson", "c.ndjson"]
    assert [batch.number for batch in world.lake.batches(after=1)] == [2, 3]
    assert world.lake.batches(after=1_000_000) == []


def test_lake_can_be_queried_when_nothing_was_ingested(world: World) -> None:
    with world.lake.writing():
        pass

    assert world.events("*") == world.rejected("*") == world.accounts() == world.accounts_rejected() == []


@pytest.mark.parametrize("name", ["o'clock", "data [1]", "a*b?", 'quo"te', "é"])
def test_lake_works_when_its_folder_has_an_odd_name(tmp_path: Path, name: str) -> None:
    world = World(tmp_path / name)
    for file in "ab":
        world.land(make_event(uuid="x"), "bad", name=f"{file}.ndjson")
        world.ingest()

    assert sum(batch.accepted for batch in world.lake.batches()) == 1
    assert len(list(world.lake.root.glob("batches/00000[12]/events/*/*.parquet"))) == 1


# Accounts


HEADER = "account_id,name,owner,plan,mrr,stripe_customer_id\n"


def write_accounts(world: World, content: str | bytes) -> tuple[int, int]:
    path = world.root / "accounts.csv"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with world.lake.writing():
        return world.lake.write_accounts(path, rejected_at=NOW)


@pytest.mark.parametrize("mark", ["", "\ufeff"])
@pytest.mark.parametrize("line_end", ["\n", "\r\n"])
def test_accounts_are_taken_over_when_the_file_is_good(world: World, mark: str, line_end: str) -> None:
    content = mark + HEADER + 'acme,"Acme, ""Inc"".",Zoë,growth,1200.50,cus_1\n 74 ,,,,,\n\n'

    assert write_accounts(world, content.replace("\n", line_end)) == (2, 0)
    assert world.accounts() == [
        (" 74 ", None, None, None, None, None),
        ("acme", 'Acme, "Inc".', "Zoë", "growth", Decimal("1200.50"), "cus_1"),
    ]


def test_accounts_need_no_more_than_their_id(world: World) -> None:
    assert write_accounts(world, "region,account_id\neu,acme\nus\n") == (1, 1)
    assert world.accounts() == [("acme", None, None, None, None, None)]


@pytest.mark.parametrize(
    "row",
    [
        "acme,Twice,,,,",
        ",Nobody,,,,",
        "bad,Bad,,,lots,",
        "bad,Bad,,,NaN,",
        "bad,Bad,,,Infinity,",
        "bad,Bad,,,1e15,",
        "bad,Bad,,,1e999999999,",
        "bad,Bad, Inc.,Zoë,,10,cus_1",
    ],
)
def test_account_row_is_in_quarantine_when_it_is_unusable(world: World, row: str) -> None:
    assert write_accounts(world, f"{HEADER}acme,Acme,,,,\n{row}\nlast,Last,,,1,\n") == (2, 1)
    assert [account[:2] for account in world.accounts()] == [("acme", "Acme"), ("last", "Last")]
    assert world.accounts_rejected() == [("accounts.csv", 3, Rejection.INVALID_ROW)]


@pytest.mark.parametrize(("mrr", "expected"), [("0.005", "0.00"), ("1e-400", "0.00"), ("-5", "-5.00"), ("1e3", "1000")])
def test_mrr_is_in_cents_when_it_has_more_or_fewer_digits(world: World, mrr: str, expected: str) -> None:
    assert write_accounts(world, f"{HEADER}acme,,,,{mrr},\n") == (1, 0)
    assert world.accounts()[0][4] == Decimal(expected)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "it names none"),
        ("acme,Acme\n", "it names \\['acme', 'Acme'\\]"),
        ("name;account_id\n", "must name the columns, among them account_id"),
        (HEADER.encode() + b"acme,Caf\xe9,,,,\n", "is not UTF-8"),
        (HEADER.encode("utf-16"), "is not UTF-8"),
        (HEADER + 'acme,"Acme,,,,\nother,Other,,,,\n', "line 3: .*quotes"),
        (HEADER + "acme," + "x" * 200_000 + ",,,,\n", "line 2: "),
    ],
    ids=["empty", "no header", "semicolons", "latin-1", "utf-16", "open quote", "huge field"],
)
def test_accounts_file_is_refused_with_a_sentence_when_it_cannot_be_read(
    world: World, content: str | bytes, message: str
) -> None:
    write_accounts(world, HEADER + "old,,,,,\n")

    with pytest.raises(ValueError, match=message) as raised:
        write_accounts(world, content)
    assert type(raised.value) is ValueError
    assert "accounts.csv" in str(raised.value)
    assert [account[0] for account in world.accounts()] == ["old"]


def test_accounts_are_gone_when_the_file_is(world: World) -> None:
    write_accounts(world, HEADER + "acme,,,,,\n,,,,,\n")
    with world.lake.writing():
        assert world.lake.write_accounts(None, rejected_at=NOW) == (0, 0)

    assert world.accounts() == world.accounts_rejected() == []


# Crashes. The script forks one process for each attempt; an attempt does what defs/ingest.py does.

SCRIPT = """
import dataclasses, json, os, shutil, signal, sys, tempfile, time
from pathlib import Path
from orchestration.delivery.ledger import Ledger
from orchestration.storage import lake as lake_module
from orchestration.storage import landing as landing_module
from orchestration.storage.lake import Lake
from orchestration.storage.landing import LandedFile
from tests.builders import NOW

landing_module.CHUNK_BYTES = 300
folder = tempfile.TemporaryDirectory()
empty = Path(folder.name, "ledger.sqlite")  # its migrations take most of the time of an attempt
Ledger(f"sqlite:///{empty}").close()


def ingest(data, landing):
    lake, ledger = Lake(data / "lake"), Ledger(f"sqlite:///{data / 'ledger.sqlite'}")
    record = lambda batch: ledger.record_files(batch.number, [dataclasses.asdict(file) for file in batch.files])
    with lake.writing():
        for batch in lake.batches(after=ledger.last_batch()):
            record(batch)
        known = {file["path"]: LandedFile(**file) for file in ledger.landed_files()}
        while True:
            batch, _ = lake.ingest(landing, known, NOW, batch_bytes=1200)
            if batch is None:
                break
            record(batch)
            known.update({file.path: file for file in batch.files})
        lake.write_accounts(None, rejected_at=NOW)


def killed(kind, place):
    count = 0

    def step():
        nonlocal count
        count += 1
        if count == place:
            os.kill(os.getpid(), signal.SIGKILL)

    def stepping(function):
        def call(*args, **kwargs):
            step()
            result = function(*args, **kwargs)
            step()
            return result
        return call

    if kind == "calls":
        os.fsync = stepping(os.fsync)
        for owner, names in (
            (Path, ("rename", "replace", "mkdir", "write_text")),
            (Ledger, ("record_files",)),
            (lake_module, ("_copy",)),
        ):
            for name in names:
                setattr(owner, name, stepping(getattr(owner, name)))
    if kind == "lines":
        lake_module.THREADS = 1  # all in the traced thread, so that the steps are the same each time
        def trace(frame, event, _):
            if "orchestration/storage/" not in frame.f_code.co_filename:
                return None
            if event == "line":
                step()
            return trace
        sys.settrace(trace)
    return lambda: count


def attempt(data, landing, kind, place):
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        code = 1
        try:
            total = killed(kind, place)
            ingest(data, landing)
            sys.settrace(None)
            os.write(writing, str(total()).encode())
            code = 0
        finally:
            os._exit(code)
    os.close(writing)
    return child, reading


def finish(child, reading):
    _, status = os.waitpid(child, 0)
    total = os.read(reading, 20).decode()
    os.close(reading)
    return {"status": os.waitstatus_to_exitcode(status), "steps": int(total or 0)}


for line in sys.stdin:
    request = json.loads(line)
    data, landing = Path(request["data"]), Path(request["landing"])
    data.mkdir(exist_ok=True)
    if not (data / empty.name).exists():
        shutil.copy(empty, data)
    started = time.monotonic()
    children = [attempt(data, landing, request["kind"], request["place"])
                for _ in range(request.get("processes", 1))]
    if request["kind"] == "delay":
        time.sleep(request["place"])
        os.kill(children[0][0], signal.SIGKILL)
    answers = [finish(*child) for child in children]
    print(json.dumps([{**answer, "seconds": time.monotonic() - started} for answer in answers]), flush=True)
"""

KILLS = 10
"""Places between the first step and the last, the same in each run."""
Attempt = Callable[..., list[dict[str, Any]]]
ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture(scope="module")
def attempt() -> Iterator[Attempt]:
    """Ingest `landing` into `data` in a process that is killed at the given place, or in several at once."""
    with subprocess.Popen(
        [sys.executable, "-c", SCRIPT], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT
    ) as process:
        assert process.stdin
        assert process.stdout

        def ask(data: Path, landing: Path, kind: str = "", place: float = 0, processes: int = 1) -> Any:
            request = {"data": str(data), "landing": str(landing), "kind": kind, "place": place, "processes": processes}
            assert process.stdin
            assert process.stdout
            process.stdin.write(json.dumps(request) + "\n")
            process.stdin.flush()
            return json.loads(process.stdout.readline())

        yield ask
        process.stdin.close()


@pytest.fixture(scope="module")
def landed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Files that take several batches, with duplicates, refused lines, events without ids, a copy, a cut line."""
    folder = tmp_path_factory.mktemp("landing")
    calls = [make_event(uuid=f"{number % 9}", at=f"2026-11-{number + 1:02}T00:00:00Z") for number in range(10)]
    land(folder, "a.ndjson", *calls, "bad", make_event(uuid=None), make_event(uuid=None))
    land(folder, "b.ndjson", make_event(uuid="0"), make_quota(quota=-1), make_quota(), make_event(uuid=None))
    land(folder, "c.ndjson", make_event(uuid="0"), make_quota(quota=-1), make_quota(), make_event(uuid=None))
    (folder / "d.ndjson").write_text(json.dumps(make_event(uuid="last")) + '\n{"event": "api_c')
    return folder


def outcome(data: Path) -> dict[str, Any]:
    """All that the lake and the ledger hold."""
    world = World(data)
    with closing(sqlite3.connect(data / "ledger.sqlite")) as ledger:
        files = ledger.execute("select * from landed_files order by path").fetchall()
    return {
        "events": world.events("*"),
        "rejected": world.rejected("*"),
        "accounts": world.accounts(),
        "files": files,
        "batches": world.lake.batches(),
    }


@pytest.fixture(scope="module")
def undisturbed(attempt: Attempt, landed: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What an ingestion without a kill leaves, and how many steps and seconds it takes."""
    data = tmp_path_factory.mktemp("undisturbed")
    [answer] = attempt(data, landed)
    assert answer["status"] == 0
    result = outcome(data)
    assert len(result["events"]) == 9 + 2 + 1 + 1 + 1
    assert len(result["rejected"]) == 1 + 1 + 1
    assert len(result["batches"]) >= 3
    return {"outcome": result, "seconds": answer["seconds"]}


@pytest.fixture(scope="module", params=["calls", "lines"])
def steps(request: pytest.FixtureRequest, attempt: Attempt, landed: Path, tmp_path_factory: Any) -> tuple[str, int]:
    [answer] = attempt(tmp_path_factory.mktemp("counted"), landed, request.param, -1)
    assert answer["status"] == 0
    return request.param, answer["steps"]


def test_kill_at_any_step_changes_no_figure(
    attempt: Attempt, landed: Path, undisturbed: dict[str, Any], steps: tuple[str, int], tmp_path: Path
) -> None:
    kind, total = steps
    assert total > 100
    for number in range(KILLS):
        place = 1 + number * (total - 1) // (KILLS - 1)
        data = tmp_path / str(number)
        assert attempt(data, landed, kind, place)[0]["status"] == -9, place
        assert attempt(data, landed)[0]["status"] == 0, place
        assert outcome(data) == undisturbed["outcome"], place


def test_kills_in_a_row_change_no_figure(
    attempt: Attempt, landed: Path, undisturbed: dict[str, Any], tmp_path: Path
) -> None:
    # the place is further on each time, so that some attempts commit a batch and some die over an earlier leftover
    kills = 0
    while attempt(tmp_path, landed, "calls", 3 + 7 * kills)[0]["status"] == -9:
        kills += 1
    assert kills >= 3
    assert outcome(tmp_path) == undisturbed["outcome"]


@pytest.mark.parametrize("seed", range(20))
def test_kill_after_any_time_changes_no_figure(
    attempt: Attempt, landed: Path, undisturbed: dict[str, Any], tmp_path: Path, seed: int
) -> None:
    attempt(tmp_path, landed, "delay", Random(seed).random() * undisturbed["seconds"])
    assert attempt(tmp_path, landed)[0]["status"] == 0

    assert outcome(tmp_path) == undisturbed["outcome"]


@pytest.mark.parametrize("processes", [2, 4])
def test_landing_files_count_once_when_processes_ingest_at_once(
    attempt: Attempt, landed: Path, undisturbed: dict[str, Any], tmp_path: Path, processes: int
) -> None:
    answers = attempt(tmp_path, landed, processes=processes)

    assert [answer["status"] for answer in answers] == [0] * processes
    assert outcome(tmp_path) == undisturbed["outcome"]


def test_half_written_batch_is_invisible_to_readers(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.land(make_event(uuid="one"), "bad")
    seen: list[Any] = []

    def look(path: Path, target: Path) -> Path:
        seen.append((world.events(), world.rejected(), world.lake.batches()))
        raise OSError("killed")

    with world.lake.writing():
        pass
    monkeypatch.setattr(Path, "rename", look)
    with pytest.raises(OSError, match="killed"):
        world.ingest()
    assert seen == [([], [], [])]
    assert (world.events(), world.rejected()) == ([], [])
    monkeypatch.undo()
    world.ingest()
    assert world.events() == ["one"]


def test_batch_is_synced_as_a_whole_before_it_is_committed(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.land(make_event(uuid="one"))
    done: list[str] = []
    rename = Path.rename

    def renamed(path: Path, target: Path) -> Path:
        done.append(f"commit {target.name}")
        return rename(path, target)

    monkeypatch.setattr(lake_module, "_sync", lambda path: done.append(path.name))
    monkeypatch.setattr(Path, "rename", renamed)
    world.ingest()

    assert ".accounts.parquet" in done
    before, after = done[: done.index("commit 000001")], done[done.index("commit 000001") + 1 :]
    assert {"manifest.json", "rejected.parquet", "events", "event_date=2026-11-19", "000001"} <= set(before)
    assert any(name.endswith(".parquet") and name != "rejected.parquet" for name in before)
    assert after == ["batches"]


def test_lake_can_be_queried_when_its_creation_was_killed(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    def die(path: Path) -> None:
        raise KeyboardInterrupt

    for name in ("_sync", "_copy"):
        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr(lake_module, name, lambda *_: die(Path()))
            with world.lake.writing():
                pass
    (world.lake.root / "batches").mkdir(exist_ok=True)
    with world.lake.writing():
        pass
    assert world.accounts() == world.events() == []
