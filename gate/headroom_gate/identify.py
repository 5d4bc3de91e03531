"""Who calls: from a request to its subject, which subjects.csv maps to an account.

The default takes the API key of the request, and names it by its hash. So no key gets into an event, a log or Redis.
An API that knows the account by itself passes a function of its own in place of these.
"""

import hashlib
from collections.abc import Callable, Iterable, Mapping
from typing import Any

Scope = Mapping[str, Any]
Identify = Callable[[Any], str | list[str] | None]
"""From an ASGI scope, or a WSGI environ, to the subject. Of several, the gate takes the first that has limits."""


def subject_of_key(key: str | bytes) -> str:
    """`key_` and 32 hexadecimal digits of the key's SHA-256: what subjects.csv has in its column `subject`."""
    return f"key_{hashlib.sha256(key.encode() if isinstance(key, str) else key).hexdigest()[:32]}"


def by_key(scope: Scope) -> list[str]:
    """The subjects of an ASGI request, by `Authorization: Bearer` and `X-API-Key`; none without a key."""
    headers: Iterable[tuple[bytes, bytes]] = scope["headers"]
    authorization = key = b""
    for name, value in headers:
        if name == b"authorization":
            authorization = authorization or value
        elif name == b"x-api-key":
            key = key or value
    return _subjects(authorization, key)


def by_environ_key(environ: Scope) -> list[str]:
    """The same of a WSGI request."""
    authorization, key = environ.get("HTTP_AUTHORIZATION", ""), environ.get("HTTP_X_API_KEY", "")
    return _subjects(authorization.encode("latin-1"), key.encode("latin-1"))


def _subjects(authorization: bytes, key: bytes) -> list[str]:
    """Both, because the API alone knows which of them it reads: a made-up one must not hide the other."""
    token = authorization[7:] if authorization[:7].lower() == b"bearer " else b""
    return [subject_of_key(each) for each in (token.strip(), key.strip()) if each]
