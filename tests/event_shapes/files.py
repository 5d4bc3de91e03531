"""Landing files: how events are written into them, and what is not read."""

import csv
import gzip
import io
from functools import partial

import pyarrow as pa
import pyarrow.parquet as pq
import zstandard

from orchestration.usage.events import Rejection
from tests.event_shapes.case import FileCase, call

ACME, GLOBEX = "api_call of acme, at its arrival", "api_call of globex, at its arrival"
BOTH = (ACME, GLOBEX)
LINES = f"{call()}\n{call('globex')}\n"
SPREAD = f"[\n{call()},\n{call('globex')}\n]\n"
PRINTED = """{
  "event": "api_call",
  "properties": {"account_id": "acme"}
}
{
  "event": "api_call",
  "properties": {"account_id": "globex"}
}
"""
TABLE = "event,account_id\napi_call,acme\napi_call,globex\n"
FULL_TABLE = """event,uuid,timestamp,account_id,endpoint,status
api_call,0b9c2a53,2026-11-19T12:00:00Z,acme,/v1/search,200
quota_set,51fe7d10,2026-11-01,acme,,
"""


def as_parquet(data: bytes, kind: pa.DataType) -> bytes:
    """The rows of a CSV as Parquet, its cells being text or bytes."""
    rows = list(csv.DictReader(io.StringIO(data.decode())))
    columns = {name: pa.array([row[name].encode() for row in rows], pa.binary()).cast(kind) for name in rows[0]}
    stream = io.BytesIO()
    pq.write_table(pa.table(columns), stream)
    return stream.getvalue()


def in_two_members(data: bytes) -> bytes:
    return b"".join(gzip.compress(each, mtime=0) for each in data.splitlines(keepends=True))


def encoded(data: bytes, encoding: str) -> bytes:
    return data.decode().encode(encoding)


NDJSON = [
    FileCase("An event a line", LINES, BOTH, note="NDJSON, JSON Lines; the last line break may be missing"),
    FileCase("A list a line", f"[{call()},{call('globex')}]\n", BOTH),
    FileCase("One list over lines", SPREAD, BOTH, file="export.json"),
    FileCase("Printed over lines", PRINTED, BOTH, file="export.json"),
    FileCase(
        "Without line breaks", call() + call("globex"), BOTH, file="delivery-stream-1", note="as Firehose writes them"
    ),
]
SAME = [
    FileCase("CR as line ends", LINES, BOTH, stored=lambda data: data.replace(b"\n", b"\r")),
    FileCase("With a byte order mark", LINES, BOTH, stored=partial(encoded, encoding="utf-8-sig")),
    FileCase("UTF-16", LINES, BOTH, stored=partial(encoded, encoding="utf-16")),
    FileCase("gzip", LINES, BOTH, file="events.ndjson.gz", stored=partial(gzip.compress, mtime=0)),
    FileCase("gzip in several members", LINES, BOTH, file="events.gz", stored=in_two_members),
    FileCase("zstd", LINES, BOTH, file="events.ndjson.zst", stored=zstandard.ZstdCompressor().compress),
    FileCase("gzip without its name", LINES, BOTH, file="app.log.1", stored=partial(gzip.compress, mtime=0)),
]
TABLES = [
    FileCase(
        "CSV",
        FULL_TABLE.replace("account_id,endpoint", "account_id,api_quota_monthly,endpoint")
        .replace("acme,,", "acme,1000,,")
        .replace("acme,/v1", "acme,,/v1"),
        (
            "api_call of acme, 2026-11-19 12:00:00, id 0b9c2a53, endpoint /v1/search, status 200",
            "quota_set of acme, 2026-11-01 00:00:00, id 51fe7d10, quota 1000",
        ),
        file="events.csv",
    ),
    FileCase("Semicolons", TABLE.replace(",", ";"), BOTH, file="export.csv"),
    FileCase("Tabs", TABLE.replace(",", "\t"), BOTH, file="export.tsv"),
    FileCase("Bars", TABLE.replace(",", "|"), BOTH, file="export.txt"),
    FileCase("For Excel", "sep=;\n" + TABLE.replace(",", ";"), BOTH, file="export.csv"),
    FileCase("Capitals", TABLE.replace("event,account_id", '"EVENT","ACCOUNT_ID"'), BOTH, file="snowflake.csv"),
    FileCase(
        "Put together",
        "event,account_id\napi_call,acme\nevent,account_id\napi_call,globex\n",
        BOTH,
        file="all.csv",
        note="a header that comes again is not an event",
    ),
    FileCase("CSV in UTF-16", TABLE, BOTH, file="excel.csv", stored=partial(encoded, encoding="utf-16")),
    FileCase(
        "A column of properties",
        'event,properties\napi_call,"{""account_id"": ""acme"", ""status"": 200}"\n',
        (f"{ACME}, status 200",),
        file="export.csv",
    ),
    FileCase("Parquet", TABLE, BOTH, file="events.parquet", stored=partial(as_parquet, kind=pa.string())),
    FileCase(
        "Parquet, text as binary",
        "event,account_id\napi_call,zürich\n",
        ("api_call of zürich, at its arrival",),
        file="part-00000.snappy.parquet",
        stored=partial(as_parquet, kind=pa.binary()),
    ),
]
REFUSED = [
    FileCase(
        "Latin-1 in an account",
        "event,account_id\napi_call,zürich\n",
        file="export.csv",
        stored=partial(encoded, encoding="latin-1"),
        refused="export it as UTF-8",
    ),
    FileCase(
        "No column for the name",
        "account_id,timestamp\nacme,2026-11-19\n",
        file="export.csv",
        refused="names no column event or type",
    ),
    FileCase(
        "A ZIP archive", "PK…", file="export.zip", stored=lambda _: b"PK\x03\x04 and more", refused="is a ZIP archive"
    ),
    FileCase(
        "Compressed twice",
        LINES,
        file="events.ndjson.gz.gz",
        stored=lambda data: gzip.compress(gzip.compress(data)),
        refused="is compressed twice",
    ),
    FileCase("Text", "GET /v1/search 200\n", file="access.log", refused="is text without JSON or a CSV header"),
]
DAMAGED = [
    FileCase(
        "A stray quote",
        'event,account_id\napi_call,"ac"me\napi_call,globex\n',
        (GLOBEX,),
        (Rejection.INVALID_JSON,),
        file="export.csv",
    ),
    FileCase(
        "Half a line among others",
        f"{call()[:25]}\n{call('globex')}\n",
        (GLOBEX,),
        (Rejection.INVALID_JSON,),
    ),
    FileCase(
        "Cut off",
        LINES,
        (ACME, GLOBEX),
        (Rejection.DAMAGED_FILE,),
        file="events.ndjson.gz",
        stored=lambda data: gzip.compress(data, mtime=0)[:-4],
    ),
]
FILES = [*NDJSON, *SAME, *TABLES, *REFUSED, *DAMAGED]
