"""A webhook: one POST, signed with the library of Standard Webhooks. The ledger repeats it, not the request.

Its webhook-id is the delivery's at every attempt. The specification has receivers use it as their idempotency key: one
that does so takes each message exactly once.
"""

import hashlib
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlsplit

import httpx
from standardwebhooks import Webhook

from orchestration.channels.http import TIMEOUT_SECONDS, request
from orchestration.channels.webhook import event
from orchestration.ledger.ledger import Delivery, State
from orchestration.ledger.outbox import Promise, RefusedError
from orchestration.usage.findings import Finding

GONE = 410
"""Of the specification: the receiver wants no more of these, and the sender stops."""
_REMEDIES = {
    400: "its log says what it does not understand",
    401: "check that it has the route's `secret`",
    403: "check that it has the route's `secret`",
    404: "correct the route's `url`",
    405: "correct the route's `url`: it has to take a POST",
    GONE: "it wants no more of these, so remove the route",
    413: "raise the size that it takes to 1 MB",
}


class WebhookChannel:
    """Posts to `url`, with a signature by each of `secrets`: two while one replaces the other."""

    name = "webhook"
    is_preview = False

    def __init__(
        self,
        url: str,
        secrets: Sequence[str],
        promise: Promise = Promise.EXACTLY_ONCE,
        sleep: Callable[[float], object] = time.sleep,
    ) -> None:
        self.promise = promise
        self._url, self._sleep = url, sleep
        self._signers = [Webhook(secret) for secret in secrets]

    def address(self, delivery: Delivery, parent: Delivery | None) -> str:
        """The receiver, and a digest of its URL, which may hold secrets.

        :raises RefusedError: an attempt in doubt went to another one, which alone would know the delivery again.
        """
        parts = urlsplit(self._url)
        place = f"{parts.scheme}://{parts.hostname}{parts.path}".encode()
        address = f"{parts.scheme}://{parts.hostname}#{hashlib.sha256(place).hexdigest()[:8]}"
        if delivery.state is State.SENDING and delivery.address and delivery.address != address:
            raise RefusedError(
                f"{delivery.key} may have arrived at {delivery.address}, and the route's `url` is another one now. Set"
                " that one again, or decide by `headroom deliveries`"
            )
        return address

    def send(self, delivery: Delivery) -> str:
        """The receipt is the webhook-id."""
        body, number = event.body(delivery), webhook_id(delivery.mark)
        now = datetime.now(UTC)  # the library takes any other zone for UTC
        headers = {
            "Content-Type": "application/json",
            "webhook-id": number,
            "webhook-timestamp": str(int(now.timestamp())),
            "webhook-signature": " ".join(signer.sign(number, now, body) for signer in self._signers),
        }
        request(
            "POST",
            self._url,
            vendor="the webhook's receiver",
            what=delivery.key,
            remedy=_remedy,
            content=body.encode(),
            headers=headers,
            forbidden=(GONE,),
            sleep=self._sleep,
        )
        return number

    def find(self, delivery: Delivery) -> None:
        """A receiver is not asked; it knows the webhook-id again."""

    def check(self) -> list[Finding]:
        """Whether the receiver answers. It gets a HEAD, which nobody takes for a message."""
        place = f"receiver at {urlsplit(self._url).hostname}"
        try:
            status = httpx.head(self._url, timeout=TIMEOUT_SECONDS).status_code
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            return [Finding(place, f"no answer ({type(error).__name__}): check the route's `url`, and that it runs")]
        failing = f"it fails (HTTP {status}): its log says why" if status >= 500 else ""
        findings = [Finding(place, _REMEDIES[GONE] if status == GONE else failing)]
        if self._url.startswith("http://"):
            findings.append(Finding("encryption", "anybody on the way can read it: use https://", is_needed=False))
        return findings


def webhook_id(mark: str) -> str:
    """The same for each attempt of a delivery. It has no dot, which would let signatures be mistaken."""
    return f"msg_{hashlib.sha256(mark.encode()).hexdigest()[:32]}"


def _remedy(status: int, body: Any) -> str:
    if 300 <= status < 400:
        return "it leads to another address: set that one as the route's `url`"
    return _REMEDIES.get(status, "its log says why")
