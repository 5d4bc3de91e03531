"""One request to a vendor over HTTP, and what its answer means for a delivery. For vendors without a client.

What a server says clearly is a refusal; what it says of itself (5xx), a broken answer, or none leaves the request in
doubt. Nothing of an address, a header or a body is quoted: they may hold secrets.
"""

import logging
import ssl
import time
from collections.abc import Callable, Collection, Mapping
from functools import cache
from typing import Any

import httpx

from orchestration.ledger.outbox import ForbiddenError, InDoubtError, RefusedError

TIMEOUT_SECONDS = 10
MAX_WAIT_SECONDS = 8
"""Longest Retry-After that is waited for, once. With it, two tries stay below half of the outbox's ATTEMPT_LIMIT."""
for _name in ("httpx", "httpcore"):  # they log URLs and headers, and the URL of a webhook or a bot is a secret
    logging.getLogger(_name).setLevel(logging.WARNING)


@cache
def certificates() -> ssl.SSLContext:
    """Whom to trust. Read once a process: httpx would read the file again for each request, 30 ms each time."""
    return httpx.create_ssl_context()


def request(
    method: str,
    url: str,
    *,
    vendor: str,
    what: str,
    remedy: Callable[[int, Any], str],
    json: Any = None,
    content: bytes | None = None,
    headers: Mapping[str, str] | None = None,
    forbidden: Collection[int] = (),
    sleep: Callable[[float], object] = time.sleep,
) -> httpx.Response:
    """The answer, of status 2xx. `vendor` and `what` name both sides in errors; `remedy` says what to do about a
    refusal, by its status and its body as JSON (None where it is none), or raises an error of its own. One of a status
    in `forbidden` is for good.

    A 429 is the one refusal that is repeated, if the wait is short: it did nothing. Redirects are not followed.

    :raises RefusedError: the vendor did not take it. A ForbiddenError: and never will.
    :raises InDoubtError: it may have.
    """
    for is_last in (False, True):
        try:
            answer = httpx.request(
                method,
                url,
                json=json,
                content=content,
                headers=dict(headers or {}),
                timeout=TIMEOUT_SECONDS,
                verify=certificates(),
            )
        except (httpx.ConnectError, httpx.ConnectTimeout, httpx.UnsupportedProtocol, httpx.InvalidURL) as error:
            raise RefusedError(
                f"{vendor} could not be reached for {what} ({type(error).__name__}): run again"
            ) from None
        except httpx.HTTPError as error:
            raise InDoubtError(f"no usable answer from {vendor} for {what} ({type(error).__name__})") from None
        if answer.status_code == 429 and not is_last and (wait := _wait(answer)) is not None:
            sleep(wait)
            continue
        break
    if answer.is_success:
        return answer
    if answer.status_code >= 500:
        raise InDoubtError(f"{vendor} failed (HTTP {answer.status_code}) for {what}")
    if answer.status_code == 429:
        raise RefusedError(f"{vendor} takes no more messages for the moment ({what}): run again in a minute")
    refusal = ForbiddenError if answer.status_code in forbidden else RefusedError
    raise refusal(
        f"{vendor} refused (HTTP {answer.status_code}) for {what}: {remedy(answer.status_code, _json(answer))}"
    )


def _wait(answer: httpx.Response) -> float | None:
    """Seconds of its Retry-After; None where they are too many. The header, or `retry_after` of the body as JSON."""
    said = answer.headers.get("Retry-After")
    if said is None:
        body = _json(answer)
        found = (
            body.get("retry_after", (body.get("parameters") or {}).get("retry_after")) if isinstance(body, dict) else 1
        )
        said = str(found)
    try:
        seconds = float(said)
    except ValueError:
        return None
    return seconds if 0 <= seconds <= MAX_WAIT_SECONDS else None


def _json(answer: httpx.Response) -> Any:
    try:
        return answer.json()
    except ValueError:
        return None
