"""Who calls: from a request to the subject, which subjects.csv maps to an account.

The default takes the API key of the request, and names it by its hash. So no key gets into an event, a log or Redis.
An API that knows the account by itself passes a function of its own in place of these.
"""

import hashlib
from collections.abc import Iterable, Mapping
from typing import Any

Scope = Mapping[str, Any]


def subject_of_key(key: str | bytes) -> str:
    """`key_` and 32 hexadecimal digits of the key's SHA-256: what subjects.csv has in its column `subject`."""
    return f"key_{hashlib.sha256(key.encode() if isinstance(key, str) else key).hexdigest()[:32]}"


def by_key(scope: Scope) -> str | None:
    """The subject of an ASGI request by `Authorization: Bearer` or `X-API-Key`; None without a key."""
    headers: Iterable[tuple[bytes, bytes]] = scope["headers"]
    for name, value in headers:
        if name == b"authorization" and value[:7].lower() == b"bearer ":
            return subject_of_key(value[7:].strip())
        if name == b"x-api-key" and value:
            return subject_of_key(value.strip())
    return None


def by_environ_key(environ: Scope) -> str | None:
    """The same of a WSGI request."""
    authorization: str = environ.get("HTTP_AUTHORIZATION", "")
    if authorization[:7].lower() == "bearer ":
        return subject_of_key(authorization[7:].strip().encode("latin-1"))
    key: str = environ.get("HTTP_X_API_KEY", "")
    return subject_of_key(key.strip().encode("latin-1")) if key else None
