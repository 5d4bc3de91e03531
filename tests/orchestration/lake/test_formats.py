"""What a file is: its bytes say so, whatever its name."""

import gzip
import io
from pathlib import Path

import pytest

from orchestration.lake import formats, landing
from orchestration.lake.formats import UnknownFormatError
from orchestration.lake.landed_file import LandedFile
from orchestration.lake.sources import Folder, Skipped
from tests.orchestration.lake.test_content import EVENTS, as_csv, as_parquet, land_bytes, ndjson, zst
from tests.orchestration.lake.world import World
from tests.support.builders import make_event

ONE = b'{"event": "api_call", "properties": {"account_id": "acme"}}'
FOUND = [
    (b"", "ndjson"),
    (ONE, "ndjson"),
    (ONE + b"\n" + ONE + b"\n", "ndjson"),
    (b"\xef\xbb\xbf" + ONE, "ndjson"),
    (b"\n \n" + ONE, "ndjson"),
    (b"[" + ONE + b"," + ONE + b"]\n" + ONE, "ndjson"),
    (ONE + ONE + b"\n" + ONE + b"\n", "ndjson"),
    (b'half a line"}\n' + ONE + b"\n", "ndjson"),
    (bytes(100) + b"\n" + ONE + b"\n", "ndjson"),
    (b'{"event": "api_ca\n' + ONE + b"\n", "ndjson"),
    (b'{"event": "api_call",\n' + ONE + b"\n", "ndjson"),
    (ONE + ONE, "json"),
    (b"[\n" + ONE + b",\n" + ONE + b"\n]\n", "json"),
    (b"[" + ONE + b",\n" + ONE + b"]\n", "json"),
    (b'{\n  "event": "api_call",\n  "properties": {}\n}\n', "json"),
    (b'{\n  "event": "api_call",\n', "json"),
    (ONE + b"\r" + ONE + b"\r", "json"),
    (ONE.replace(b"}}", b'}, "x": "' + b"x" * 70_000 + b'"}') + b"\n", "ndjson"),
    (b"event,account_id\n", "csv"),
    (b"sep=;\r\nevent;account_id\r\n", "csv"),
    (b'"EVENT","ACCOUNT_ID"\n', "csv"),
    (b"event\taccount_id\napi_call\tacme\n", "csv"),
    ("event,account_id\napi_call,acme\n".encode("utf-16"), "csv-utf-16"),
    (ONE.decode().encode("utf-16-le"), "ndjson-utf-16"),
    (as_parquet(EVENTS), "parquet"),
]


@pytest.mark.parametrize("name", ["a", "a.ndjson", "a.CSV.GZ", "a.parquet", "a.log.1"])
@pytest.mark.parametrize(("data", "expected"), FOUND, ids=range(len(FOUND)))
def test_format_is_that_of_the_bytes_whatever_the_name(data: bytes, expected: str, name: str) -> None:
    assert formats.find_format(io.BytesIO(data), name) == expected
    if expected != "parquet":
        assert formats.find_format(io.BytesIO(gzip.compress(data)), name) == f"{expected}.gz"
        assert formats.find_format(io.BytesIO(zst(data)), name) == f"{expected}.zst"


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"hello\n", "is text without JSON or a CSV header"),
        (b"PK\x03\x04 and more", "is a ZIP archive or an Excel workbook"),
        (gzip.compress(gzip.compress(ONE)), "is compressed twice"),
        (gzip.compress(as_parquet(EVENTS)), "is compressed twice"),
        (b"account_id,timestamp\nacme,2026-11-20\n", "is a CSV whose first line names no column event or type"),
        (b"customer;date\nacme;2026-11-20\n", "is a CSV whose first line names neither event nor account"),
        (
            "event,account_id\napi_call,z\xfcrich\n".encode("latin-1"),
            "such as z\xfcrich in Latin-1: export it as UTF-8",
        ),
        (b"\x00\x01\x02\x03" * 100, "is data of an unknown kind"),
    ],
    ids=["text", "zip", "gzip twice", "parquet in gzip", "no event", "no account", "latin-1", "binary"],
)
def test_file_of_no_known_format_is_refused_with_what_to_do(data: bytes, words: str) -> None:
    with pytest.raises(UnknownFormatError, match=r"^(is|has) ") as refused:
        formats.find_format(io.BytesIO(data), "a.csv.gz")
    assert words in str(refused.value)


def test_bytes_beside_accounts_in_another_encoding_do_not_refuse_a_file() -> None:
    note = "event,account_id,note\napi_call,acme,z\xfcrich\n".encode("latin-1")
    damaged = b"event,account_id\napi_call,z\xc3\xbcrich\napi_call,z\xc3\n"
    for data in (note, damaged):
        assert formats.find_format(io.BytesIO(data), "a") == "csv"


@pytest.mark.parametrize(
    "name", ["a.json", "a.log", "a.log.gz", "a.ndjson.1", "a", "A.NDJSON", "a.json.gz", "a.ndjson.gz", "a.ndjson"]
)
@pytest.mark.parametrize("is_compressed", [True, False])
def test_events_count_under_any_name_that_a_shipper_gives(world: World, name: str, is_compressed: bool) -> None:
    data = ndjson([make_event(uuid="one"), make_event(uuid="two")])
    land_bytes(world, name, gzip.compress(data) if is_compressed else data)
    world.ingest()

    assert world.events() == ["one", "two"]
    assert (world.rejected(), world.skipped) == ([], [])
    assert [file.format for file in world.known().values()] == ["ndjson.gz" if is_compressed else "ndjson"]
    assert world.ingest() == []


def test_refused_file_is_opened_again_only_when_it_changed(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    land_bytes(world, "a.bin", b"\0\1\2\3" * 100)
    world.ingest()
    with monkeypatch.context() as patch:
        patch.setattr(Folder, "open", None)
        assert world.ingest() == []
        [skipped] = world.skipped
    assert skipped.reason.startswith("is data of an unknown kind")

    land_bytes(world, "a.bin", ndjson([make_event(uuid="one")]))
    world.ingest()
    assert (world.events(), world.skipped) == (["one"], [])


def test_refused_files_are_examined_again_by_a_version_that_reads_more(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(formats, "REFUSED", "refused 0")
    land_bytes(world, "a.bin", b"\0\1\2\3" * 100)
    world.ingest()
    monkeypatch.undo()

    assert len(world.ingest()) == 1
    assert world.ingest() == []


def test_file_that_was_read_by_its_name_is_read_on(tmp_path: Path) -> None:
    folder = Folder(tmp_path)
    path = tmp_path / "a.csv.gz"
    path.write_bytes(gzip.compress(as_csv(EVENTS[:1]), mtime=0))
    [before] = landing.plan(folder, folder.scan()[0], {})
    assert isinstance(before, LandedFile)
    known = {"a.csv.gz": LandedFile(**{**vars(before), "format": None, "is_complete": True, "read_lines": 2})}

    assert list(landing.plan(folder, folder.scan()[0], known)) == []
    with path.open("ab") as stream:
        stream.write(gzip.compress(as_csv(EVENTS[:1]).splitlines(keepends=True)[1]))
    [after] = landing.plan(folder, folder.scan()[0], known)
    assert not isinstance(after, Skipped)
    assert (after.read_lines, after.origin, after.format) == (2, before.origin, "csv.gz")
