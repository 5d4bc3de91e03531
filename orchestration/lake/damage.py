"""What is wrong with a file from some place on."""


class DamagedError(ValueError):
    """From here on the file cannot be read."""

    def __init__(self, words: str, unread_bytes: int = 0) -> None:
        super().__init__(words)
        self.unread_bytes = unread_bytes
        """Stored bytes from here on, of those that were handed over; what was not yet, `content.py` adds."""


class CutShortError(DamagedError):
    """The end is missing; it may still come."""


LAST_ROW_WAITS = "its last row waits: it has no line break, and may be written only half"
"""It counts with the line break, or once there is evidence that the file is finished: see `endings.py`."""


class OpenEndError(DamagedError):
    """The last row has no line break, and nothing says that its file is finished."""

    def __init__(self) -> None:
        super().__init__(LAST_ROW_WAITS)
