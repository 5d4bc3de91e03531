"""Ends of a process at any line of the code under test."""

import sys
from collections.abc import Callable
from types import FrameType
from typing import Any


class KilledError(BaseException):
    """Stands for SIGKILL: nothing in the code under test catches it."""


def at_line(line: int, files: set[str], act: Callable[[], object]) -> Callable[[FrameType, str, object], Any]:
    """A trace function that acts once, before that many lines of the files were run."""
    left = line

    def trace(frame: FrameType, event: str, _: object) -> Any:
        nonlocal left
        if frame.f_code.co_filename not in files:
            return None
        if event == "line":
            left -= 1
            if left == 0:
                sys.settrace(None)  # what is left to run is traced for nobody
                act()
        return trace

    return trace
