"""The picture of an account's period: complete days, the quota as a line, the projection with its band."""

import struct
import zlib
from typing import Any

from orchestration.messages.picture import BAND, HEIGHT, INK, LIMIT, LINE, MARGIN, THICK, WIDTH, picture
from tests.support.builders import CHART


def pixels(image: bytes) -> list[list[bytes]]:
    """The lines of a PNG as this module writes it: a palette, one chunk of data, no filter."""
    assert image.startswith(b"\x89PNG\r\n\x1a\n")
    chunks, rest = {}, image[8:]
    while rest:
        length, name = struct.unpack(">I4s", rest[:8])
        assert struct.unpack(">I", rest[8 + length : 12 + length]) == (zlib.crc32(rest[4 : 8 + length]),)
        chunks[name], rest = rest[8 : 8 + length], rest[12 + length :]
    assert list(chunks) == [b"IHDR", b"PLTE", b"IDAT", b"IEND"]
    width, height, *kind = struct.unpack(">IIBBBBB", chunks[b"IHDR"])
    assert kind == [8, 3, 0, 0, 0], "8 bits of each pixel are a place in the palette"
    palette, raw = chunks[b"PLTE"], zlib.decompress(chunks[b"IDAT"])
    assert len(raw) == height * (width + 1)
    lines = [raw[start : start + width + 1] for start in range(0, len(raw), width + 1)]
    assert {line[0] for line in lines} == {0}
    return [[palette[3 * place : 3 * place + 3] for place in line[1:]] for line in lines]


def columns(**fields: Any) -> list[list[bytes]]:
    """The columns of the picture without its margin, each from the bottom up."""
    drawn = [line[MARGIN:-MARGIN] for line in pixels(picture({**CHART, **fields}))[MARGIN:-MARGIN]]
    return [[line[x] for line in reversed(drawn)] for x in range(WIDTH)]


def test_usage_ends_with_the_last_complete_day_at_its_height() -> None:
    drawn = columns()
    today = WIDTH * 3 // 30

    used = [sum(pixel == INK for pixel in column) for column in drawn]
    assert used[today - 1] == round(40 * (HEIGHT - 1) / 160) + 1
    assert used[:today] == sorted(used[:today])
    assert set(used[today:]) == {0}


def test_quota_is_a_line_over_the_whole_period() -> None:
    height = round(100 * (HEIGHT - 1) / 160)

    assert all([y for y, pixel in enumerate(column) if pixel == LIMIT] == [height - 1, height] for column in columns())


def test_projection_ends_within_its_band() -> None:
    last = columns()[-1]
    heights = [round(units * (HEIGHT - 1) / 160) for units in (130, 145, 160)]
    band = [y for y, pixel in enumerate(last) if pixel in (BAND, LINE)]

    assert (min(band), max(band)) == (heights[0], heights[2])
    line = [y for y, pixel in enumerate(last) if pixel == LINE]
    assert line == list(range(heights[1] - THICK, heights[1] + THICK + 1))


def test_chart_without_a_forecast_or_without_usage_is_drawn() -> None:
    assert not {BAND, LINE} & {pixel for column in columns(projected=None, low=None, high=None) for pixel in column}
    assert INK not in {pixel for column in columns(used=[0], projected=0, low=0, high=0) for pixel in column}


def test_period_that_is_over_has_no_projection() -> None:
    assert not {BAND, LINE} & {pixel for column in columns(days=3) for pixel in column}
