"""What every answer says to browsers: run no script, load nothing from elsewhere, tell nobody where it came from."""

from collections.abc import Sequence

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

CUSTOMER_PATHS = ("/u/",)
_POLICY = (
    "default-src 'none'; style-src 'self'; img-src 'self' data:; form-action 'self'; base-uri 'none';"
    " frame-ancestors {ancestors}"
)


class Headers:
    """Adds them to each answer. `ancestors` are origins whose pages may embed a customer's page, and no other page."""

    def __init__(self, app: ASGIApp, ancestors: Sequence[str] = ()) -> None:
        self._app, self._ancestors = app, " ".join(ancestors)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        is_customers = scope["path"].startswith(CUSTOMER_PATHS)
        ancestors = self._ancestors if is_customers and self._ancestors else "'none'"

        async def send_with(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers["content-security-policy"] = _POLICY.format(ancestors=ancestors)
                headers["x-content-type-options"] = "nosniff"
                headers["referrer-policy"] = "no-referrer"
                headers["x-robots-tag"] = "noindex, nofollow"
                headers["cross-origin-opener-policy"] = "same-origin"
                headers["permissions-policy"] = "camera=(), geolocation=(), microphone=()"
                headers.setdefault("cache-control", "private, no-store")
                headers.add_vary_header("Cookie, Authorization")
            await send(message)

        await self._app(scope, receive, send_with)
