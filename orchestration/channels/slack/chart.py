"""A small picture of daily values, as PNG. Few lines instead of a drawing library: bars have no need of one."""

import struct
import zlib
from collections.abc import Sequence

BAR, GAP, MARGIN, HEIGHT = 28, 8, 12, 120
"""In pixels; the height is the largest value's."""
PAPER, RULE, INK, PALE = b"\xff\xff\xff", b"\xd9\xdd\xe2", b"\x2f\x6f\xb0", b"\xa9\xc8\xe6"
"""Red, green, blue."""


def bars(values: Sequence[int]) -> bytes:
    """The values as bars from left to right, the largest of full height, the last one pale: its day still runs."""
    top, width = max(*values, 1), len(values) * (BAR + GAP) - GAP
    inks = [*[INK] * (len(values) - 1), PALE]
    lines = []
    for y in range(HEIGHT, 0, -1):
        ground = RULE if y % 30 == 0 else PAPER
        colours = [ink if value * HEIGHT >= y * top else ground for value, ink in zip(values, inks, strict=True)]
        lines.append((ground * GAP).join(colour * BAR for colour in colours))
    blank = [PAPER * width] * MARGIN
    lines = [PAPER * MARGIN + line + PAPER * MARGIN for line in (*blank, *lines, RULE * width, RULE * width, *blank)]
    header = struct.pack(">IIBBBBB", width + 2 * MARGIN, len(lines), 8, 2, 0, 0, 0)  # 8 bits of each of three colours
    pixels = zlib.compress(b"".join(b"\0" + line for line in lines))
    chunks = ((b"IHDR", header), (b"IDAT", pixels), (b"IEND", b""))
    packed = (
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data)) for name, data in chunks
    )
    return b"\x89PNG\r\n\x1a\n" + b"".join(packed)
