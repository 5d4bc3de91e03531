"""A large JSON object, read member by member and a few rows at a time.

So a million rows need no memory twice, and other threads run meanwhile: `json.loads` of the whole would stop the API
for seconds.
"""

import json
import re
from collections.abc import Iterator
from typing import Any

_decode = json.JSONDecoder().raw_decode
_BLANK = re.compile(r"[ \t\n\r]*")
_COMMA = re.compile(r"[ \t\n\r]*,[ \t\n\r]*")
_COLON = re.compile(r"[ \t\n\r]*:[ \t\n\r]*")
_BETWEEN_ROWS = "],\n["
"""As Headroom writes them. No string of JSON has a line break in it."""
_PIECE_CHARACTERS = 2**14
"""Of rows that are decoded at once: other threads wait 0.2 ms for it."""


class Members:
    """The members of the object that `text` is. Lists named in `lists` come as iterators, to be used up at once."""

    def __init__(self, text: str, lists: frozenset[str]) -> None:
        self._text, self._lists, self._at = text, lists, 0

    def __iter__(self) -> Iterator[tuple[str, Any]]:
        """Name and value of each.

        :raises ValueError: it is not an object in JSON.
        """
        self._open("{")
        while True:
            name, self._at = _decode(self._text, self._at)
            self._pass(_COLON)
            if name in self._lists:
                yield name, self._rows()
            else:
                value, self._at = _decode(self._text, self._at)
                yield name, value
            if not self._goes_on("}"):
                break
        if _BLANK.match(self._text, self._at).end() != len(self._text):  # type: ignore[union-attr] # always matches
            raise ValueError(f"something comes after the end at {self._at}")

    def _rows(self) -> Iterator[Any]:
        self._open("[")
        if self._text.startswith("]", self._at):
            self._at += 1
            return
        yield from self._pieces()
        while True:
            row, self._at = _decode(self._text, self._at)
            yield row
            if not self._goes_on("]"):
                return

    def _pieces(self) -> Iterator[Any]:
        """The rows up to the last few, or up to those in another layout."""
        while (end := self._text.find(_BETWEEN_ROWS, self._at + _PIECE_CHARACTERS)) > 0:
            try:
                rows = json.loads(f"[{self._text[self._at : end + 1]}]")
            except ValueError:  # it reaches beyond this list
                return
            self._at = end + len(_BETWEEN_ROWS) - 1
            yield from rows

    def _goes_on(self, end: str) -> bool:
        if comma := _COMMA.match(self._text, self._at):
            self._at = comma.end()
            return True
        self._pass(_BLANK)
        self._expect(end)
        return False

    def _open(self, start: str) -> None:
        self._pass(_BLANK)
        self._expect(start)
        self._pass(_BLANK)

    def _expect(self, mark: str) -> None:
        if not self._text.startswith(mark, self._at):
            raise ValueError(f"{mark} is missing at {self._at}")
        self._at += 1

    def _pass(self, pattern: re.Pattern[str]) -> None:
        if (found := pattern.match(self._text, self._at)) is None:
            raise ValueError(f"a colon is missing at {self._at}")
        self._at = found.end()
