"""Formats: the same events in any of them are the same rows, and damage costs no more than what it hit."""

import csv
import gzip
import io
import json
import os
import re
import struct
import subprocess
import sys
import time
import zlib
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from orchestration.lake import endings, readers
from orchestration.lake.damage import DamagedError
from orchestration.usage.events import Rejection
from tests.orchestration.lake.world import World
from tests.support.builders import make_event, make_quota

EVENTS: list[dict[str, Any]] = [
    make_event("acme", uuid="one"),
    make_event('quote " comma , line\nbreak', uuid="two", source="gateway"),
    make_event("acme", uuid=None, at="2026-11-18T23:59:59+02:00"),
    make_event("ümlaut ‮", uuid="four", properties={"account_id": "ümlaut ‮", "sample_weight": 10}),
    make_quota("acme", 5000),
    make_quota("unlimited", None),
]
COLUMNS = "event_name, source, event_id, account_id, event_at, quota, line_number"


def ndjson(events: list[dict[str, Any]]) -> bytes:
    return b"".join(json.dumps(event).encode() + b"\n" for event in events)


def flat(event: dict[str, Any]) -> dict[str, Any]:
    return {**{name: value for name, value in event.items() if name != "properties"}, **event["properties"]}


def as_csv(events: list[dict[str, Any]]) -> bytes:
    rows = [flat(event) for event in events]
    text = io.StringIO()
    writer = csv.DictWriter(text, sorted({name for row in rows for name in row}))
    writer.writeheader()
    writer.writerows({name: "null" if value is None else value for name, value in row.items()} for row in rows)
    return text.getvalue().encode()


def as_parquet(events: list[dict[str, Any]], **columns: Any) -> bytes:
    rows = [{**event, "properties": json.dumps(event["properties"])} for event in events]
    names = sorted({name for row in rows for name in row})
    table = pa.table({name: [row.get(name) for row in rows] for name in names} | columns)
    buffer = io.BytesIO()
    pq.write_table(table, buffer)
    return buffer.getvalue()


def zst(data: bytes) -> bytes:
    return zstandard.ZstdCompressor().compress(data)


def settle(path: Path) -> Path:
    """As if nobody had written to it for days."""
    moment = time.time() - endings.QUIET_SECONDS - 1
    os.utime(path, (moment, moment))
    return path


def land_bytes(world: World, name: str, data: bytes) -> Path:
    path = world.landing / name
    path.write_bytes(data)
    return settle(path)


@pytest.mark.parametrize(
    ("name", "encode"),
    [
        ("a.jsonl", ndjson),
        ("a.ndjson.gz", lambda events: gzip.compress(ndjson(events))),
        ("a.ndjson.zst", lambda events: zst(ndjson(events))),
        ("a.parquet", as_parquet),
        ("a.csv", as_csv),
        ("a.csv.gz", lambda events: gzip.compress(as_csv(events))),
        ("a.csv.zst", lambda events: zst(as_csv(events))),
    ],
)
def test_events_are_the_same_in_every_format(
    tmp_path: Path, name: str, encode: Callable[[list[dict[str, Any]]], bytes]
) -> None:
    plain, world = World(tmp_path / "plain"), World(tmp_path / "world")
    land_bytes(plain, "a.ndjson", ndjson(EVENTS))
    land_bytes(world, name, encode(EVENTS))
    plain.ingest()
    world.ingest()

    is_csv = ".csv" in name  # where a quoted line break makes the row two lines, and the header is line 1
    columns = "event_name, account_id, event_at, quota" if is_csv else COLUMNS.replace("source, ", "")
    assert world.events(columns) == plain.events(columns)
    assert world.calls("sample_weight, endpoint, status") == plain.calls("sample_weight, endpoint, status")
    assert world.rejected() == plain.rejected() == []
    assert world.ingest() == []


def test_line_of_a_csv_row_is_that_of_its_beginning(world: World) -> None:
    land_bytes(world, "a.csv", b'event,account_id,note\napi_call,one,"a\nb"\n\nnothing,two,\napi_call,three,\n')
    world.ingest()

    assert world.events("account_id, line_number") == [("one", 2), ("three", 6)]
    assert world.rejected() == [(5, "unknown_event")]


def test_csv_row_of_another_width_is_in_quarantine_as_it_is(world: World) -> None:
    land_bytes(world, "a.csv", b"event,account_id\napi_call,one\napi_call,two,three\napi_call\napi_call,four\n")
    world.ingest()

    assert world.events("account_id") == ["four", "one"]
    assert world.rejected("line_number, reason, line") == [
        (3, "invalid_json", "api_call,two,three"),
        (4, "invalid_json", "api_call"),
    ]


def test_parquet_takes_times_and_structs_as_they_are_typed(world: World) -> None:
    at = pa.array([1_763_539_200_000_000, 1_763_539_200_000_000], pa.timestamp("us", "Europe/Berlin"))
    inside = pa.array(
        [{"account_id": "7", "status": 200}, None], pa.struct({"account_id": pa.string(), "status": pa.int32()})
    )
    table = pa.table({"event": ["api_call"] * 2, "timestamp": at, "properties": inside, "distinct_id": [None, "8"]})
    pq.write_table(table, world.landing / "a.parquet")
    world.ingest()

    assert [str(row) for row in world.events("account_id || ' ' || event_at")] == [
        "7 2025-11-19 08:00:00+00",
        "8 2025-11-19 08:00:00+00",
    ]


def test_parquet_takes_text_in_binary_columns(world: World) -> None:
    ids = [b"z\xc3\xbcrich", b"plain", b"\xff'\\\x00a", None]
    inside = pa.array([{"account_id": value} for value in ids], pa.struct({"account_id": pa.binary()}))
    for name, columns in {
        "flat": {"account_id": pa.array(ids, pa.binary())},
        "large": {"account_id": pa.array(ids, pa.large_binary())},
        "json": {"properties": pa.array(['{"account_id": "zürich"}'.encode()] * 4, pa.binary())},
        "fixed": {"account_id": pa.array([b"z\xc3\xbc", b"abc", b"\xff\x00a", None], pa.binary(3))},
        "struct": {"properties": inside.slice(0, 2)},
    }.items():
        count = 2 if name == "struct" else 4
        pq.write_table(pa.table({"event": [b"api_call"] * count, **columns}), world.landing / name)
    world.ingest()

    found = world.calls("landed_file, account_id")
    assert {account for file, account in found if file in ("flat", "large")} == {
        "zürich",
        "plain",
        "\\xFF\\x27\\x5C\\x00a",
    }
    assert {account for file, account in found if file == "fixed"} == {"zü", "abc", "\\xFF\\x00a"}
    assert {account for file, account in found if file == "json"} == {"zürich"}
    assert {account for file, account in found if file == "struct"} == {"zürich", "plain"}


def test_several_compressed_parts_in_one_file_are_one_content(world: World) -> None:
    parts = [ndjson([event]) for event in EVENTS[:2]]
    land_bytes(world, "a.ndjson.gz", b"".join(map(gzip.compress, parts)) + b"\0" * 100)
    land_bytes(world, "b.ndjson.zst", b"".join(map(zst, [ndjson([make_event(uuid=f"b{n}")]) for n in range(2)])))
    world.ingest()

    assert world.events() == ["b0", "b1", "one", "two"]
    assert world.rejected() == []


# Damage


MANY = [make_event(f"account-{number}", uuid=f"{number:04}") for number in range(2000)]


@pytest.mark.parametrize(
    ("name", "compress"),
    [("a.ndjson.gz", lambda data: gzip.compress(data, 1)), ("a.ndjson.zst", zst), ("a.csv.gz", gzip.compress)],
)
@pytest.mark.parametrize("kind", ["cut", "corrupt"])
def test_what_comes_before_the_damage_counts_and_one_row_says_where(
    world: World, name: str, compress: Callable[[bytes], bytes], kind: str
) -> None:
    whole = compress(as_csv(MANY) if ".csv" in name else ndjson(MANY))
    half = len(whole) // 2
    damaged = whole[:half] if kind == "cut" else whole[:half] + bytes(b ^ 0xFF for b in whole[half : half + 50])
    land_bytes(world, name, damaged)
    land_bytes(world, "neighbour.ndjson", ndjson([make_event(uuid="neighbour")]))
    world.ingest()

    counted = world.events()
    assert counted[-1] == "neighbour"
    assert counted[:-1] == [f"{number:04}" for number in range(len(counted) - 1)]
    if name != "a.ndjson.zst":  # of which a block of 128 KiB is lost
        assert len(counted) > 500
    refused = world.rejected("reason, landed_file, line_number")
    [(_, file, line_number)] = [row for row in refused if row[0] == Rejection.DAMAGED_FILE]
    assert file == name
    assert line_number >= len(counted) + (".csv" in name)
    # beside it, the line that was torn, or those that a few damaged bytes made unreadable
    assert len(refused) <= (2 if kind == "cut" else 20)
    assert world.ingest() == []

    land_bytes(world, name, whole)
    world.ingest()
    assert world.events() == [*(event["uuid"] for event in MANY), "neighbour"]


@pytest.mark.parametrize(("name", "compress"), [("a.gz", gzip.compress), ("a.zst", zst)])
def test_damage_says_about_how_many_bytes_it_cost(world: World, name: str, compress: Callable[[bytes], bytes]) -> None:
    land_bytes(world, name, compress(ndjson(EVENTS)) + b"\xff" * 100_000)
    world.ingest()

    [words] = world.rejected("line")
    [lost_bytes] = re.findall(r"data is damaged \(.*\): about ([\d,]+) bytes lost, as stored$", words)
    assert 97_000 < int(lost_bytes.replace(",", "")) < 103_000


@pytest.mark.parametrize(
    "data", [b"", b"\x1f\x8b", b"no gzip at all\n", b"\x28\xb5\x2f\xfd", b"PAR1", Random(4711).randbytes(500)]
)
@pytest.mark.parametrize("name", ["a.ndjson.gz", "a.ndjson.zst", "a.parquet", "a.csv"])
def test_file_that_is_something_else_stops_nothing(world: World, name: str, data: bytes) -> None:
    land_bytes(world, name, data)
    land_bytes(world, "b.ndjson", ndjson([make_event(uuid="good")]))
    world.ingest()

    assert world.events() == ["good"]
    refused = [*world.rejected("landed_file"), *(entry.path for entry in world.skipped)]
    assert set(refused) == ({name} if data else set())
    assert world.ingest() == []


@pytest.mark.parametrize("name", ["a.ndjson.gz", "a.ndjson.zst", "a.parquet", "a.csv"])
def test_file_without_its_end_is_left_while_somebody_may_be_writing(world: World, name: str) -> None:
    whole = {
        "a.ndjson.gz": gzip.compress(ndjson(EVENTS)),
        "a.ndjson.zst": zst(ndjson(EVENTS)),
        "a.parquet": as_parquet(EVENTS),
        "a.csv": as_csv(EVENTS),
    }[name]
    path = world.landing / name
    path.write_bytes(whole[:-10])
    soon = time.time() + 3600
    os.utime(path, (soon, soon))  # written to just now, however slow the test is
    world.ingest()
    assert len(world.events()) == (len(EVENTS) - 1 if name == "a.csv" else 0)  # of which the whole rows are good
    assert world.rejected() == []
    assert [entry.path for entry in world.skipped] == [name]

    path.write_bytes(whole)
    world.ingest()
    assert len(world.events()) == len(EVENTS)
    assert world.rejected() == []


@pytest.mark.parametrize("cut", [0.3, 0.6])
def test_growing_gzip_counts_each_line_once(world: World, cut: float) -> None:
    """As a producer writes that flushes now and then and is slow in between."""
    compressor = zlib.compressobj(wbits=31)
    first = compressor.compress(ndjson(MANY[:1000])) + compressor.flush(zlib.Z_SYNC_FLUSH)
    whole = first + compressor.compress(ndjson(MANY[1000:])) + compressor.flush()
    for size in (int(len(first) * cut), len(first), len(whole)):
        land_bytes(world, "a.ndjson.gz", whole[:size])
        world.ingest()

    assert world.events() == [event["uuid"] for event in MANY]


def gzip_of(start: bytes, block: bytes, times: int) -> bytes:
    """One member with the start, and the block so many times, which is compressed once."""
    deflate, checksum = zlib.compressobj(1, wbits=-zlib.MAX_WBITS), zlib.crc32(start)
    for _ in range(times):
        checksum = zlib.crc32(block, checksum)
    first, repeated = (deflate.compress(part) + deflate.flush(zlib.Z_FULL_FLUSH) for part in (start, block))
    end = struct.pack("<II", checksum, (len(start) + times * len(block)) % 2**32)
    return b"\x1f\x8b\x08" + bytes(6) + b"\xff" + first + repeated * times + deflate.flush() + end


@pytest.mark.parametrize("name", ["bomb.ndjson.gz", "bomb.ndjson.zst", "open.csv"])
def test_memory_stays_bounded_whatever_comes_out_of_a_file(tmp_path: Path, name: str) -> None:
    """2 GB of the same byte in one line, and a quote that is never closed."""
    world = World(tmp_path)
    path = world.landing / name
    with path.open("wb") as stream:
        if name.endswith(".gz"):
            stream.write(gzip_of(b"{", bytes(2**20), 2048))
        elif name.endswith(".zst"):
            with zstandard.ZstdCompressor().stream_writer(stream, closefd=False) as writer:
                writer.write(b"{")
                for _ in range(2048):
                    writer.write(bytes(2**20))
        else:
            stream.write(b'event,account_id\napi_call,acme\napi_call,"open')
            for _ in range(400):
                stream.write(b"x" * 2**20)
    settle(path)
    land_bytes(world, "good.ndjson", ndjson([make_event(uuid="good")]))
    program = (
        "import sys; from pathlib import Path; from tests.orchestration.lake.world import World;"
        "World(Path(sys.argv[1])).ingest(); print(Path('/proc/self/status').read_text())"
    )
    done = subprocess.run([sys.executable, "-c", program, tmp_path], capture_output=True, text=True, check=True)

    peak_kib = int(re.findall(r"VmHWM:\s+(\d+) kB", done.stdout)[0])  # of this program, not of what started it
    assert peak_kib * 2**10 < 600 * 2**20
    assert "good" in world.events()
    assert len(world.rejected()) == 1


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(st.binary(max_size=400), max_size=6), st.integers(1, 64), st.data())
def test_inflating_gives_back_what_was_compressed(parts: list[bytes], step: int, data: st.DataObject) -> None:
    for compress, inflate in ((gzip.compress, readers.gunzip), (zst, readers.unzstd)):
        stored = b"".join(map(compress, parts))
        pieces = [stored[start : start + step] for start in range(0, len(stored), step)]
        assert b"".join(inflate(pieces)) == b"".join(parts)
        if not stored:
            continue
        cut = data.draw(st.integers(0, len(stored) - 1))
        got = bytearray()
        try:
            for piece in inflate([stored[:cut]]):
                got += piece
        except DamagedError:
            pass
        assert b"".join(parts).startswith(bytes(got))


@settings(max_examples=150, deadline=None)
@given(
    st.lists(
        st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=8), min_size=2, max_size=2), max_size=8
    ),
    st.integers(1, 50),
)
def test_rows_of_a_csv_come_back_as_lines_of_json(rows: list[list[str]], step: int) -> None:
    text = io.StringIO()
    writer = csv.writer(text, quoting=csv.QUOTE_ALL)
    writer.writerows([["event", "note"], *rows])
    stored = text.getvalue().encode()
    pieces = [stored[start : start + step] for start in range(0, len(stored), step)]
    lines = b"".join(readers.csv_lines(pieces, lambda: True)).split(b"\n")

    found = [json.loads(line) for line in lines if line]
    assert [event.get("event", "") for event in found] == [event for event, _ in rows]
    notes = [event.get("properties", {}).get("note", "") for event in found]
    assert notes == [None if note == "null" else note for _, note in rows]
