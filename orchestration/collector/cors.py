"""Browsers on other sites (CORS): which pages may send events with `fetch`. Off without HEADROOM_COLLECT_CORS_ORIGINS.

A browser shows a page only the answers that allow the page's origin, and asks with OPTIONS before it sends a key in a
header. There are no cookies here, so `Access-Control-Allow-Credentials` is never sent.
"""

import re
from collections.abc import Mapping, Sequence

from orchestration.collector.answers import Answer
from orchestration.settings import Settings

ANY_ORIGIN = "*"
REMEMBERED_SECONDS = 7200
"""How long a browser need not ask again; Chrome remembers no longer."""
_ORIGIN = re.compile(r"https?://[^/\s,*]+")
_HEADERS = (
    b"authorization, content-encoding, content-type, idempotency-key, x-api-key, "
    b"ce-id, ce-source, ce-specversion, ce-subject, ce-time, ce-type"
)
PREFLIGHT = Answer(
    204,
    b"",
    (b"access-control-allow-methods", b"POST"),
    (b"access-control-allow-headers", _HEADERS),
    (b"access-control-max-age", b"%d" % REMEMBERED_SECONDS),
)
"""To a browser that asks whether a page may send; which page, the lines of its origin say."""


class Origins:
    """The pages that may send events."""

    def __init__(self, origins: Sequence[str]) -> None:
        """:raises ValueError: one is not an origin; the message says what to write."""
        for origin in origins:
            if origin != ANY_ORIGIN and not _ORIGIN.fullmatch(origin):
                raise ValueError(
                    f"HEADROOM_COLLECT_CORS_ORIGINS has {origin!r}, which is not an origin: "
                    "write https://app.example.com, several with commas, or * for every page"
                )
        self._is_any = ANY_ORIGIN in origins
        self._origins = {origin.lower().encode() for origin in origins}

    @classmethod
    def of(cls, settings: Settings) -> "Origins | None":
        """The pages in the settings, if there are any.

        :raises ValueError: one is not an origin.
        """
        listed = (settings.collect_cors_origins or "").split(",")
        origins = [entry.strip().rstrip("/") for entry in listed if entry.strip()]
        return cls(origins) if origins else None

    def header_lines(self, origin: bytes) -> bytes:
        """What every answer to a page of this origin says, as whole lines."""
        vary = b"" if self._is_any else b"vary: origin\r\n"  # a cache must not show one page's answer to another
        if not self._is_any and origin.lower() not in self._origins:
            return vary
        shown = ANY_ORIGIN.encode() if self._is_any else origin
        return b"access-control-allow-origin: %b\r\naccess-control-expose-headers: retry-after\r\n%b" % (shown, vary)

    def is_preflight(self, headers: Mapping[bytes, bytes]) -> bool:
        """Whether a browser asks with this OPTIONS request."""
        return b"origin" in headers and b"access-control-request-method" in headers
