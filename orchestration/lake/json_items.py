"""JSON that does not keep to its lines, as lines: values over several lines, arrays over lines, many values in one.

Each value, and each element of an array, becomes a line. It has the number of the line where it begins; where the
values before it took that number, because several are in one line, the next free one. So of values without any line
break between them line k is value k, and of an array whose elements begin on lines of their own the number leads to
the place in the file.

What cannot be read is given as it is, up to the next place where a value may begin, and lands in quarantine.
"""

import codecs
import json
import re
from collections.abc import Iterable, Iterator

from orchestration.lake.csv_rows import MAX_ROW_BYTES
from orchestration.lake.damage import CutShortError
from orchestration.lake.readers import STEP_BYTES

_BETWEEN = re.compile(r"[ \t\r\n\x0b\x0c\x1e\ufeff,]*")
_NEXT_IN_LINE = re.compile(r"\}[\s,]*(?=\{)")
_LITERALS = re.compile(r"[^\s,\]\[{}\"]+")
_DECODER = json.JSONDecoder()
_FAR = 2**16
"""From an error to the end of what was read so far: then more of the file would not mend it."""


def item_lines(pieces: Iterable[bytes]) -> Iterator[bytes]:
    """A line for each value, behind as many empty ones as bring it to its number.

    :raises CutShortError: the last value, or the array around it, has no end.
    """
    items = _Items(pieces)
    lines: list[str] = []
    size = 0
    for text, line in items.read():
        blanks = max(0, line - 1 - items.given)
        items.given += blanks + 1
        while blanks > STEP_BYTES:  # not all of them in memory at once
            yield "".join(lines).encode("utf-8", "surrogateescape") + b"\n" * STEP_BYTES
            lines, size, blanks = [], 0, blanks - STEP_BYTES
        lines.append("\n" * blanks + text.replace("\n", " ").replace("\r", " ") + "\n")
        size += len(lines[-1])
        if size > STEP_BYTES:
            yield "".join(lines).encode("utf-8", "surrogateescape")
            lines, size = [], 0
    if lines:
        yield "".join(lines).encode("utf-8", "surrogateescape")
    if items.is_cut:
        raise CutShortError("the JSON ends in the middle")


class _Items:
    """The values of a text, read as it comes."""

    def __init__(self, pieces: Iterable[bytes]) -> None:
        self._pieces = iter(pieces)
        self._decoder = codecs.getincrementaldecoder("utf-8")("surrogateescape")
        self._text, self._at, self._line, self._counted = "", 0, 1, 0
        self._is_all = False
        self._indent: str | None = None
        """In front of a value that begins on a line of its own; None while each is in the line of another."""
        self.given = 0
        """Lines so far."""
        self.is_cut = False

    def read(self) -> Iterator[tuple[str, int]]:
        """(text, number of the line where it begins) of each value."""
        is_in_array = False
        while True:
            self._at = self._match_end(_BETWEEN)
            if self._at >= len(self._text):
                if self._more():
                    continue
                self.is_cut = is_in_array
                return
            letter = self._text[self._at]
            if letter == "[" and not is_in_array:
                line, is_in_array = self._line_of(self._at), True
                self._at += 1
                if self._peek() == "]":
                    is_in_array = False
                    self._at = self._text.index("]", self._at) + 1
                    yield "[]", line
                continue
            if letter == "]" and is_in_array:
                is_in_array = False
                self._at += 1
                continue
            end = self._end()
            if end is None and self._is_all and self._is_unfinished():
                self.is_cut = True
                return
            if end is None:
                end, is_in_array = self._next_place(), False
            begin, self._at = self._at, end
            line = self._line_of(begin)
            yield self._text[begin:end][:MAX_ROW_BYTES], line

    def _end(self) -> int | None:
        """Behind the value that begins here; None where it cannot be read."""
        self._note_indent()
        while True:
            try:
                end = _DECODER.raw_decode(self._text, self._at)[1]
            except json.JSONDecodeError as error:
                is_open = error.msg.startswith("Unterminated string")
                if not is_open and len(self._text) - error.pos > _FAR:
                    return None
            except RecursionError:
                return None
            else:
                # the rest of a number may still come
                if end < len(self._text) or self._text[self._at] in '{["' or self._is_all:
                    if self._indent is None and "\n" in self._text[self._at : end]:
                        self._indent = ""
                    return end
            if len(self._text) - self._at > MAX_ROW_BYTES or not self._more():
                return None

    def _is_unfinished(self) -> bool:
        """Whether the text ends within the value, and no other one begins behind it."""
        return self._next_place() >= len(self._text)

    def _next_place(self) -> int:
        """Where reading can go on behind a value that cannot be read: at a line like that of the first value."""
        if self._indent is not None:
            next_line = re.compile(rf"\n{self._indent}(?=\{{)")
            found = next_line.search(self._text, self._at + 1)
        else:
            found = _NEXT_IN_LINE.search(self._text, self._at + 1)
        if found:
            return found.end()
        if self._text[self._at] not in '{["':
            literal = _LITERALS.match(self._text, self._at)
            return literal.end() if literal else self._at + 1
        return len(self._text)

    def _note_indent(self) -> None:
        start = self._text.rfind("\n", 0, self._at) + 1
        before = self._text[start : self._at]
        if self._indent is None and start and not before.strip() and self._text[self._at] == "{":
            self._indent = re.escape(before)

    def _peek(self) -> str:
        while True:
            at = self._match_end(re.compile(r"\s*"))
            if at < len(self._text):
                return self._text[at]
            if not self._more():
                return ""

    def _match_end(self, pattern: re.Pattern[str]) -> int:
        found = pattern.match(self._text, self._at)
        return found.end() if found else self._at

    def _line_of(self, at: int) -> int:
        self._line += self._text.count("\n", self._counted, at)
        self._counted = at
        return self._line

    def _more(self) -> bool:
        """Read on; False at the end. What was read of the text before the place is forgotten."""
        if self._is_all:
            return False
        self._line_of(self._at)
        kept = self._text[self._at :]
        added: list[str] = []
        wanted = max(STEP_BYTES, len(kept))  # doubled, so that a long value is not looked through again for each piece
        while wanted > 0:
            piece = next(self._pieces, None)
            if piece is None:
                self._is_all = True
                added.append(self._decoder.decode(b"", True))
                break
            added.append(self._decoder.decode(piece))
            wanted -= len(piece)
        self._text, self._at, self._counted = kept + "".join(added), 0, 0
        return bool(added)
