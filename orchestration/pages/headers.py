"""Around each answer: what it says to browsers, how long an address may be, and what becomes of a fault.

Run no script, load nothing from elsewhere, tell nobody where you came from, keep nothing for others.
"""

import logging
import traceback
from collections.abc import Callable, Sequence

from starlette.datastructures import MutableHeaders
from starlette.responses import PlainTextResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

CUSTOMER_PATHS = ("/u/",)
MOST_BYTES = 8_192
"""Of a path with its parameters: an id of 1,024 bytes takes 3,072."""
_POLICY = "; ".join(
    (
        "default-src 'none'",
        "style-src 'self'",
        "img-src 'self' data:",
        "form-action 'self'",
        "base-uri 'none'",
        "frame-ancestors {ancestors}",
    )
)

logger = logging.getLogger("headroom.pages")


class Headers:
    """Adds them to each answer. `ancestors` are origins whose pages may embed a customer's page, and no other page.

    `root` is what a proxy puts before the paths; one that passes it on, and one that strips it, both work.
    """

    def __init__(
        self, app: ASGIApp, ancestors: Sequence[str], root: str, vary: str, failed: Callable[[str], Response]
    ) -> None:
        self._app, self._ancestors, self._root, self._vary = app, " ".join(ancestors), root, vary
        self._failed = failed

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        path = scope["path"]
        if self._root and path.startswith(f"{self._root}/"):
            path = path[len(self._root) :]
            scope = {**scope, "path": path}
        is_customers = path.startswith(CUSTOMER_PATHS)
        ancestors = self._ancestors if is_customers and self._ancestors else "'none'"
        has_begun = False

        async def send_with(message: Message) -> None:
            nonlocal has_begun
            if message["type"] == "http.response.start":
                has_begun = True
                headers = MutableHeaders(scope=message)
                headers["content-security-policy"] = _POLICY.format(ancestors=ancestors)
                headers["x-content-type-options"] = "nosniff"
                headers["referrer-policy"] = "no-referrer"
                headers["x-robots-tag"] = "noindex, nofollow"
                headers["cross-origin-opener-policy"] = "same-origin"
                headers["permissions-policy"] = "camera=(), geolocation=(), microphone=()"
                headers.setdefault("cache-control", "private, no-store")
                headers.add_vary_header(self._vary)
            await send(message)

        if len(scope.get("raw_path") or b"") + len(scope.get("query_string") or b"") > MOST_BYTES:
            await PlainTextResponse("The address is too long.\n", 414)(scope, receive, send_with)
            return
        try:
            await self._app(scope, receive, send_with)
        except Exception:
            logger.error("%s failed\n%s", redacted(path), traceback.format_exc().replace(path, redacted(path)))
            if has_begun:
                raise
            await self._failed(path)(scope, receive, send_with)


def redacted(path: str) -> str:
    """A path for logs: without the key that a link has in it."""
    return f"{path[:3]}…" if path.startswith(("/k/", "/u/")) else path
