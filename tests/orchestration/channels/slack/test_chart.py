import struct
import zlib

from orchestration.channels.slack.chart import BAR, GAP, HEIGHT, INK, MARGIN, PALE, bars


def pixels(picture: bytes) -> list[list[bytes]]:
    """The lines of a PNG as this module writes it: one chunk of data, no filter."""
    assert picture.startswith(b"\x89PNG\r\n\x1a\n")
    chunks, rest = {}, picture[8:]
    while rest:
        length, name = struct.unpack(">I4s", rest[:8])
        assert struct.unpack(">I", rest[8 + length : 12 + length]) == (zlib.crc32(rest[4 : 8 + length]),)
        chunks[name], rest = rest[8 : 8 + length], rest[12 + length :]
    assert list(chunks) == [b"IHDR", b"IDAT", b"IEND"]
    width, height = struct.unpack(">II", chunks[b"IHDR"][:8])
    raw = zlib.decompress(chunks[b"IDAT"])
    assert len(raw) == height * (3 * width + 1)
    lines = [raw[start + 1 : start + 3 * width + 1] for start in range(0, len(raw), 3 * width + 1)]
    return [[line[at : at + 3] for at in range(0, 3 * width, 3)] for line in lines]


def heights(values: list[int]) -> list[tuple[int, int]]:
    """Of each bar: its pixels in ink and in the colour of a day that still runs."""
    picture = pixels(bars(values))
    columns = [MARGIN + n * (BAR + GAP) + BAR // 2 for n in range(len(values))]
    return [(sum(line[x] == INK for line in picture), sum(line[x] == PALE for line in picture)) for x in columns]


def test_bars_are_as_high_as_their_values_and_the_last_one_is_pale() -> None:
    assert heights([0, 5, 10, 4]) == [(0, 0), (HEIGHT // 2, 0), (HEIGHT, 0), (0, 48)]


def test_picture_of_one_day_or_of_no_calls_is_drawn() -> None:
    assert heights([7]) == [(0, HEIGHT)]
    assert heights([0, 0]) == [(0, 0), (0, 0)]


def test_picture_has_a_margin_on_all_sides() -> None:
    picture = pixels(bars([3, 3]))

    assert len({colour for line in (*picture[:MARGIN], *picture[-MARGIN:]) for colour in line}) == 1
    assert len({colour for line in picture for colour in (*line[:MARGIN], *line[-MARGIN:])}) == 1
