"""What a landed file is, found out from its first bytes. Its name decides only where they leave it open.

A format is a kind (`ndjson`, `json`, `csv`, `parquet`), `-utf-16` where its text is that, and `.gz` or `.zst` where it
is compressed: `ndjson`, `csv-utf-16.gz`. `ndjson` has an event, or a list of them, in each line; `json` is other JSON:
printed over several lines, one array over lines, or objects without line breaks between them. How each is read is in
`content.py` and `readers.py`; the ledger remembers what was found, so that nothing is opened twice for that.
"""

import json
import re
from typing import BinaryIO

from orchestration.lake.dialects import BOM, find_dialect, is_utf16, utf8_of
from orchestration.usage import events

UTF_16 = "-utf-16"
SAMPLE_BYTES = 2**16
"""Looked at: of the file as it is stored, and of what comes out of it."""
REFUSED = "refused 1"
"""In place of a format: no event was looked for in the file. Another number here has all such files examined again."""
_FOREIGN = (
    (b"PK\x03\x04", "a ZIP archive or an Excel workbook: unpack it, export CSV"),
    (b"BZh", "compressed with bzip2: use gzip or zstd"),
    (b"\xfd7zXZ\0", "compressed with xz: use gzip or zstd"),
    (b"\x04\x22\x4d\x18", "compressed with LZ4: use gzip or zstd"),
    (b"\xff\x06\x00\x00sNaPpY", "compressed with Snappy: use gzip or zstd"),
    (b"Obj\x01", "Avro: export NDJSON or Parquet"),
    (b"ORC", "ORC: export NDJSON or Parquet"),
    (b"SQLite format 3\0", "a SQLite database: export NDJSON or CSV"),
    (b"%PDF-", "a PDF: export NDJSON or CSV"),
)
_JSON_NAMES = (".ndjson", ".jsonl", ".json")
_DECODER = json.JSONDecoder()


class UnknownFormatError(ValueError):
    """No event can be read from such a file; the message ends a sentence that begins with its name."""


def is_plain(file_format: str) -> bool:
    """Whether the stored bytes are the content, so that reading can start anywhere."""
    return file_format == "ndjson"


def is_by_row(file_format: str) -> bool:
    """Whether the content is made from rows or items: such a file is known by its stored bytes."""
    return kind_of(file_format) != "ndjson"


def kind_of(file_format: str) -> str:
    return file_format.partition(".")[0]


def compression_of(file_format: str) -> str:
    return file_format.partition(".")[2]


def by_name(path: str) -> str:
    """The format of a file that was read when names decided that."""
    stem, compression = path, ""
    for suffix in (".gz", ".zst"):
        if path.endswith(suffix):
            stem, compression = path.removesuffix(suffix), suffix
    kind = "parquet" if stem.endswith(".parquet") else "csv" if stem.endswith(".csv") else "ndjson"
    return kind + compression


def find_format(stored: BinaryIO, path: str) -> str:
    """Of an open file; leaves it at its beginning.

    :raises UnknownFormatError: there is no way to read events from it.
    :raises OSError: it cannot be read.
    """
    sample = _read(stored, SAMPLE_BYTES)
    stored.seek(0)
    if sample.startswith(b"PAR1"):
        return "parquet"
    if sample.startswith(b"\x1f\x8b"):
        return _kind(*_inflated_gzip(sample), _stem(path, ".gz")) + ".gz"
    if sample.startswith(b"\x28\xb5\x2f\xfd") or re.match(rb"[\x50-\x5f]\x2a\x4d\x18", sample):
        return _kind(*_inflated_zstd(sample), _stem(path, ".zst")) + ".zst"
    return _kind(sample, len(sample) < SAMPLE_BYTES, path)


def _stem(path: str, suffix: str) -> str:
    return path[: -len(suffix)] if path.lower().endswith(suffix) else path


def _read(stored: BinaryIO, count: int) -> bytes:
    pieces: list[bytes] = []
    while count > 0 and (piece := stored.read(count)):
        pieces.append(piece)
        count -= len(piece)
    return b"".join(pieces)


def _inflated_gzip(sample: bytes) -> tuple[bytes, bool]:
    import zlib

    inflater = zlib.decompressobj(wbits=31)
    found = b""
    # in small steps: zlib keeps to itself what it inflated in a call that fails
    for start in range(0, len(sample), 512):
        try:
            found += inflater.decompress(sample[start : start + 512], SAMPLE_BYTES - len(found))
        except zlib.error:
            return found, False
        if inflater.eof or len(found) >= SAMPLE_BYTES:
            break
        if inflater.unconsumed_tail:
            return found, False
    return found, inflater.eof and not inflater.unused_data


def _inflated_zstd(sample: bytes) -> tuple[bytes, bool]:
    import zstandard

    inflater = zstandard.ZstdDecompressor().decompressobj()
    found = b""
    for start in range(0, len(sample), 2**11):
        try:
            found += inflater.decompress(sample[start : start + 2**11])
        except zstandard.ZstdError:
            return found, False
        if inflater.eof or len(found) >= SAMPLE_BYTES:
            break
    return found[:SAMPLE_BYTES], inflater.eof and len(found) <= SAMPLE_BYTES and not inflater.unused_data


def _kind(sample: bytes, is_whole: bool, path: str) -> str:
    """Of what was inflated, where it was compressed."""
    for magic, words in _FOREIGN:
        if sample.startswith(magic):
            raise UnknownFormatError(f"is {words}")
    if sample.startswith((b"\x1f\x8b", b"\x28\xb5\x2f\xfd", b"PAR1")):
        raise UnknownFormatError("is compressed twice: compress it once, and Parquet not at all")
    if is_utf16(sample):
        sample = utf8_of(sample)
        return _text_kind(sample, is_whole, path) + UTF_16
    return _text_kind(sample, is_whole, path)


def _text_kind(sample: bytes, is_whole: bool, path: str) -> str:
    text = sample.removeprefix(BOM).lstrip(b" \t\r\n\v\f\x1e")
    if text[:1] in (b"{", b"["):
        return "json" if _is_over_lines(text, is_whole) else "ndjson"
    lines, is_table = text.split(b"\n"), False
    if b"\0" not in text:
        found = find_dialect(text)
        is_table = found.has_columns and by_name(path.lower()).startswith("csv")
        if found.names_an_event:
            if found.problem:
                raise UnknownFormatError(found.problem)
            return "csv"
        if found.names_a_field:
            names = " or ".join(events.NAME_FIELDS)
            raise UnknownFormatError(f"is a CSV whose first line names no column {names}: add one")
    if not text or any(line.lstrip().startswith((b"{", b"[{")) for line in lines):
        return "ndjson"  # which begins with half a line, or with zeros after a crash
    if re.search(rf"({'|'.join(map(re.escape, _JSON_NAMES))})([.-]\d+)*$", path.lower()):
        return "ndjson"  # lines without any JSON: each is in quarantine with its reason
    if is_table:
        needed = "it needs the columns event and account_id"
        raise UnknownFormatError(f"is a CSV whose first line names neither event nor account: {needed}")
    what = "text without JSON or a CSV header" if b"\0" not in text else "data of an unknown kind"
    begun = f" (its name says {path[-3:].lower()}, its bytes do not)" if path.lower().endswith((".gz", ".zst")) else ""
    raise UnknownFormatError(f"is {what}{begun}: land NDJSON, CSV or Parquet, plain or in gzip or zstd")


def _is_over_lines(sample: bytes, is_whole: bool) -> bool:
    """Whether values do not keep to their lines: printed over several, or many in one that is long."""
    text = sample.decode("utf-8", "replace")
    first, line_break, rest = text.partition("\n")
    end = _end_of_value(first)
    if end is not None:
        more = first[end:].lstrip(" \t,")
        if more.startswith("\r") and more.strip():
            return True  # line ends of old Macs
        # in a line of its own, also beside others, a value is read as what it is: see `odd_lines.py`
        return more.startswith(("{", "[")) and not line_break
    if (whole := _end_of_value(text)) is not None:
        return whole > len(first)
    if text.startswith("["):
        begin = len(text) - len(text[1:].lstrip())
        end = _end_of_value(text, begin)
        return end is not None and text[end:].lstrip()[:1] in (",", "]", "")
    # an object that is longer than the sample, or not there to its end yet
    return bool(line_break) and first.rstrip()[-1:] in ("{", "[", ",") and not rest.lstrip().startswith("{")


def _end_of_value(text: str, begin: int = 0) -> int | None:
    try:
        return _DECODER.raw_decode(text, begin)[1]
    except (ValueError, RecursionError):
        return None
