"""Lines that are nearly NDJSON, repaired when they are read one by one; a line stays a line, with its number.

Found with searches of bytes, so that a million good lines cost nothing in Python.
"""

import json
import re

from orchestration.lake.dialects import BOM

_SEVERAL = re.compile(rb"\}[ \t]*(?=\{)")
_VISIBLE = re.compile(r"\S")
_DECODER = json.JSONDecoder()


def mended(lines: bytes) -> bytes:
    """The lines without byte order marks at their beginnings, which files have that were put together, and with a
    list in place of several objects in one line, as writers leave them that forget line breaks."""
    lines = lines.removeprefix(BOM)
    if b"\n" + BOM in lines:
        lines = lines.replace(b"\n" + BOM, b"\n")
    if not _SEVERAL.search(lines):
        return lines
    parts: list[bytes] = []
    done = 0
    while found := _SEVERAL.search(lines, done):
        start, end = lines.rfind(b"\n", done, found.start()) + 1 or done, lines.find(b"\n", found.end())
        parts += (lines[done:start], _as_list(lines[start:end]))
        done = end
    return b"".join((*parts, lines[done:]))


def _as_list(line: bytes) -> bytes:
    text, at, values = line.decode("utf-8", "surrogateescape").strip(), 0, list[str]()
    while at < len(text):
        try:
            end = _DECODER.raw_decode(text, at)[1]
        except (ValueError, RecursionError):
            return line
        values.append(text[at:end])
        more = _VISIBLE.search(text, end)
        at = more.start() if more else len(text)
    return f"[{','.join(values)}]".encode("utf-8", "surrogateescape") if len(values) > 1 else line
