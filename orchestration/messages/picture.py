"""A small picture of the figures of charts.py, as PNG: usage so far, the quota as a line, the projection with its band.

Few lines instead of a drawing library, and no letters: `charts.alternative` has the words.
"""

import struct
import zlib
from collections.abc import Mapping
from typing import Any

WIDTH, HEIGHT, MARGIN = 640, 200, 16
"""In pixels, without the margin on all sides."""
PAPER, RULE, INK, BAND = b"\xff\xff\xff", b"\xe6\xe9\xed", b"\x2f\x6f\xb0", b"\xcf\xe1\xf2"
LINE, LIMIT = b"\x7f\xa9\xd3", b"\xc0\x30\x38"
"""Red, green, blue: of the projection, and of the quota."""
COLOURS = (PAPER, RULE, INK, BAND, LINE, LIMIT)
"""The file has them once, and of each pixel the place in this list."""
THICK = 2
"""Pixels of a line on each side of its middle."""


def picture(chart: Mapping[str, Any]) -> bytes:
    """The chart of charts.py: a column of pixels for each moment of the period, the highest figure on top."""
    used, quota, days = chart["used"], chart["quota"], chart["days"]
    end = chart["projected"] if chart["projected"] is not None else used[-1]
    low, high = (chart[name] if chart[name] is not None else end for name in ("low", "high"))
    top = max(used[-1], quota, end, high, 1)
    columns = []
    for x in range(WIDTH):
        at = (x + 1) * days / WIDTH
        if at <= len(used):
            columns.append(_past(_height(_used_at(used, at), top), _height(quota, top)))
        elif chart["projected"] is None:
            columns.append(_past(0, _height(quota, top)))
        else:
            share = (at - len(used)) / max(days - len(used), 1)
            low_y, line_y, high_y = (_height(used[-1] + (goal - used[-1]) * share, top) for goal in (low, end, high))
            columns.append(_ahead(low_y, line_y, high_y, _height(quota, top)))
    return _png(columns)


def _used_at(used: list[int], at: float) -> float:
    """The usage at a moment in days: between the ends of two days on a straight line."""
    day = int(at)
    before = used[day - 1] if day else 0
    return before + (used[day] - before) * (at - day) if day < len(used) else float(used[-1])


def _height(value: float, top: int) -> int:
    return round(value * (HEIGHT - 1) / top)


def _past(used: int, quota: int) -> bytes:
    column = _ground()
    if used > 0:
        _paint(column, INK, 0, used)
    _paint(column, LIMIT, quota - THICK + 1, quota)
    return bytes(column)


def _ahead(low: int, line: int, high: int, quota: int) -> bytes:
    column = _ground()
    _paint(column, BAND, low, high)
    _paint(column, LINE, line - THICK, line + THICK)
    _paint(column, LIMIT, quota - THICK + 1, quota)
    return bytes(column)


def _ground() -> bytearray:
    """A column from the bottom up, with a rule every fifty pixels."""
    column = bytearray([COLOURS.index(PAPER)]) * HEIGHT
    column[::50] = bytes([COLOURS.index(RULE)]) * len(column[::50])
    return column


def _paint(column: bytearray, colour: bytes, first: int, last: int) -> None:
    """The pixels from the first to the last one, as far as the column has them."""
    first, count = max(first, 0), min(last, HEIGHT - 1) + 1 - max(first, 0)
    if count > 0:
        column[first : first + count] = bytes([COLOURS.index(colour)]) * count


def _png(columns: list[bytes]) -> bytes:
    """The columns, each from the bottom up, with a margin."""
    paper, pixels = bytes([COLOURS.index(PAPER)]), b"".join(columns)
    blank, side = paper * (WIDTH + 2 * MARGIN), paper * MARGIN
    rows = [side + pixels[y::HEIGHT] + side for y in range(HEIGHT - 1, -1, -1)]
    lines = [blank] * MARGIN + rows + [blank] * MARGIN
    header = struct.pack(">IIBBBBB", len(blank), len(lines), 8, 3, 0, 0, 0)  # 8 bits, a place in the palette
    data = zlib.compress(b"".join(b"\0" + line for line in lines))
    chunks = ((b"IHDR", header), (b"PLTE", b"".join(COLOURS)), (b"IDAT", data), (b"IEND", b""))
    packed = (
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data)) for name, data in chunks
    )
    return b"\x89PNG\r\n\x1a\n" + b"".join(packed)
