"""How the text of a table is written: its encoding, what separates its cells, and which columns its header names.

Found out from the beginning of the text, always the same for the same beginning. What the columns mean is in
`readers.py`.
"""

import codecs
import csv
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from orchestration.usage import events

BOM = b"\xef\xbb\xbf"
OUTER_FIELDS = events.FIELDS
"""Columns that are fields of the event itself. All others are its properties, with or without `properties.`"""
_INNER_FIELDS = tuple(
    dict.fromkeys(
        name.removeprefix("properties.")
        for name in (*events.ACCOUNT_FIELDS, *events.WEIGHT_FIELDS, *events.QUOTA_FIELDS, "endpoint", "status")
        if name not in OUTER_FIELDS
    )
)
_SEPARATORS = (",", ";", "\t", "|")
_PLAIN_NAMES = {name.lower(): name for name in (*OUTER_FIELDS, *_INNER_FIELDS, "properties")}
_IDENTIFYING = {name.lower() for name in (*events.NAME_FIELDS, *events.ID_FIELDS, *events.ACCOUNT_FIELDS)} | {
    name.removeprefix("properties.") for name in events.ACCOUNT_FIELDS
}


_SEPARATOR_LINE = re.compile(rb"sep=(.)(\r\n|\n|\r|$)", re.IGNORECASE)
"""What Excel takes for a hint, and no row."""


@dataclass(frozen=True)
class Dialect:
    """Of a table."""

    separator: str
    names_an_event: bool
    names_a_field: bool
    has_columns: bool = True
    problem: str = ""
    """Why no row can be read rightly, where that is seen from the beginning."""


def find_dialect(text: bytes) -> Dialect:
    """Of text that begins with its header, perhaps with a line `sep=;` above it."""
    said = _SEPARATOR_LINE.match(text)
    first = _first_row(text[said.end() :] if said else text)
    separators = (said[1].decode("latin-1"),) if said else _SEPARATORS
    known, columns = False, 1
    for separator in separators:
        names = [folded(name) for name in _cells(first, separator)]
        if any(name in events.NAME_FIELDS for name in names):
            return Dialect(separator, True, True, problem=_problem(text, separator, names))
        columns = max(columns, len(names))
        known |= len(names) > 1 and any(name in OUTER_FIELDS or name in _INNER_FIELDS for name in names)
    return Dialect(separators[0], False, known, columns > 1)


def is_separator_line(line: bytes) -> bool:
    return _SEPARATOR_LINE.match(line) is not None


def folded(name: str) -> str:
    """The name of a column as the events have it, whatever its capitals."""
    plain = name.strip().strip('"').lower().removeprefix("properties.")
    return _PLAIN_NAMES.get(plain, plain)


def columns_of(header: list[str]) -> list[str]:
    """The header's names, those of known fields as the events have them where the header has other capitals.

    Where one of its names is that of an event as it is, the others are what they are: `Type` is a property there.
    """
    names = [name.strip() for name in header]
    if any(name in events.NAME_FIELDS for name in names):
        return names
    return [_PLAIN_NAMES.get(name.lower().removeprefix("properties."), name) for name in names]


def is_utf16(sample: bytes) -> bool:
    """By its byte order mark, or by the zeros in an ASCII character at its beginning."""
    return sample.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) or _order(sample) is not None


def utf8_of(sample: bytes) -> bytes:
    return b"".join(utf8_pieces([sample]))


def utf8_pieces(pieces: Iterable[bytes]) -> Iterator[bytes]:
    """Text in UTF-16 as UTF-8, with U+FFFD for what is none."""
    decoder: codecs.IncrementalDecoder | None = None
    start = b""
    for piece in pieces:
        if decoder is None:
            start += piece
            if len(start) < 4:
                continue
            decoder, piece = _decoder(start), start
        if text := decoder.decode(piece):
            yield text.encode()
    if decoder is None:
        decoder = _decoder(start)
        yield decoder.decode(start).encode()
    if rest := decoder.decode(b"", True):
        yield rest.encode()


def _decoder(start: bytes) -> codecs.IncrementalDecoder:
    return codecs.getincrementaldecoder(_order(start) or "utf-16")("replace")


def _order(sample: bytes) -> str | None:
    head = sample[:4]
    if len(head) < 4 or head.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return None
    if head[1] == head[3] == 0 and head[0] and head[2]:
        return "utf-16-le"
    return "utf-16-be" if head[0] == head[2] == 0 and head[1] and head[3] else None


def _first_row(text: bytes) -> str:
    line = text.lstrip(b"\r\n").splitlines()[:1]
    return line[0].decode("utf-8", "replace") if line else ""


def _cells(line: str, separator: str) -> list[str]:
    try:
        return next(csv.reader([line], delimiter=separator), [])
    except (csv.Error, TypeError):
        return []


def _problem(text: bytes, separator: str, names: list[str]) -> str:
    """Text in another encoding whose accounts cannot be known, such as Latin-1."""
    try:
        text.decode()
    except UnicodeDecodeError as error:
        if error.end >= len(text) - 3 or text.decode("utf-8", "ignore").strip(_ASCII):
            return ""  # the sample ends within a character, or a few bytes of UTF-8 are damaged
    else:
        return ""
    lines = text.decode("utf-8", "surrogateescape").splitlines()
    for row in csv.reader(lines, delimiter=separator):
        for name, cell in zip(names, row, strict=False):
            if name.lower() in _IDENTIFYING and any("\udc80" <= letter <= "\udcff" for letter in cell):
                words = f"has accounts or ids that are not UTF-8 text, such as {_shown(cell)} in Latin-1"
                return f"{words}: export it as UTF-8"
    return ""


_ASCII = "".join(map(chr, range(128)))


def _shown(cell: str) -> str:
    return cell.encode("utf-8", "surrogateescape").decode("latin-1")[:40]
