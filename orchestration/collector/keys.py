"""Who may send: keys in a header or in the body, and signed webhooks.

Keys are compared in constant time with every configured one, and never leave this process: not in an answer, not in
a log, not in a stored line (`scrub`). Which requests need a key is decided in `app.py`: all that bring events.
"""

import base64
import binascii
import hashlib
import hmac
import re
import secrets
from collections.abc import Mapping, Sequence
from enum import Enum
from typing import Any

from orchestration.collector.answers import RefusedError
from orchestration.collector.body_keys import BODY_FIELDS, candidates
from orchestration.settings import Settings

TOLERANCE_SECONDS = 300
"""How old, or how far ahead of our clock, a webhook's signature may be (Standard Webhooks)."""
MIN_KEY_LENGTH = 16
REMOVED = b"[key removed]"
_ALLOWED = re.compile(r"(?=.*[A-Za-z])[A-Za-z0-9._~+/=:@-]+")


class Proof(Enum):
    """What a request's headers say about who sent it."""

    KEY = "a right key in a header"
    IN_BODY = "nothing: the key must be in the body"
    SIGNATURE = "a signature, to be checked against the body"


class Keys:
    """The keys and webhook secrets of one process."""

    def __init__(self, keys: Sequence[str], webhook_secrets: Sequence[str] = ()) -> None:
        for key in keys:
            if len(key) < MIN_KEY_LENGTH or not _ALLOWED.fullmatch(key):
                raise ValueError(
                    f"HEADROOM_COLLECT_KEYS has a key that is shorter than {MIN_KEY_LENGTH} characters, without a "
                    f"letter, or with others than letters, digits and ._~+/=:@-; a good one is {new_key()}"
                )
        self._keys = [key.encode() for key in keys]
        self._secrets = [_webhook_secret(secret) for secret in webhook_secrets]
        if not self._keys and not self._secrets:
            raise ValueError(
                "The collector needs a key, so that not everybody can send events. "
                f"Here is a new one, put it into .env:\nHEADROOM_COLLECT_KEYS={new_key()}"
            )
        escaped = [key.replace(b"/", rb"\/") for key in self._keys if b"/" in key]  # as PHP writes JSON
        self._written = [*self._keys, *escaped]

    @classmethod
    def of(cls, settings: Settings) -> "Keys":
        """The keys in the settings.

        :raises ValueError: there is none, or one that cannot be used; the message says what to put into `.env`.
        """
        return cls(_listed(settings.collect_keys), _listed(settings.collect_webhook_secrets))

    def check_headers(self, headers: Mapping[bytes, bytes]) -> Proof:
        """What the headers prove; a wrong key is refused here, before the body is read."""
        if self._secrets and b"webhook-signature" in headers:
            return Proof.SIGNATURE
        authorization, own = headers.get(b"authorization"), headers.get(b"x-api-key")
        if authorization is None and own is None:
            if self._keys:
                return Proof.IN_BODY
            raise self._refusal()
        given = [_credential(authorization)] if authorization is not None else []
        if own is not None:
            given.append(own.strip())
        if not self._is_any(given):
            raise self._refusal()
        return Proof.KEY

    def check_text(self, body: bytes) -> None:
        """Refuse a body that has a right key nowhere, before it is parsed."""
        if not self._is_any(list(candidates(body))):
            raise self._refusal()

    def check_body(self, root: Any) -> None:
        """Refuse a body that is no object with a right key in it."""
        values = [root.get(name) for name in BODY_FIELDS] if isinstance(root, dict) else []
        if not self._is_any([value.encode(errors="replace") for value in values if isinstance(value, str)]):
            raise self._refusal()

    def check_signature(self, headers: Mapping[bytes, bytes], body: bytes, now_seconds: float) -> None:
        """Refuse a webhook whose signature over id, time and the body as received is not ours, or is too old."""
        identity, sent_at = headers.get(b"webhook-id", b""), headers.get(b"webhook-timestamp", b"")
        is_recent = sent_at.isdigit() and len(sent_at) < 16 and abs(now_seconds - int(sent_at)) <= TOLERANCE_SECONDS
        given = [part[3:] for part in headers[b"webhook-signature"].split() if part.startswith(b"v1,")]
        is_ours = False
        for secret in self._secrets:
            digest = hmac.new(secret, b"%b.%b.%b" % (identity, sent_at, body), hashlib.sha256).digest()
            expected = base64.b64encode(digest)
            for signature in given:
                is_ours |= hmac.compare_digest(expected, signature)
        if not identity or not is_recent or not is_ours:
            raise RefusedError(
                401,
                "signature",
                "the webhook's signature is missing, wrong, or more than 5 minutes off our clock: sign "
                "webhook-id.webhook-timestamp.body with a secret of HEADROOM_COLLECT_WEBHOOK_SECRETS",
            )

    def scrub(self, text: bytes) -> bytes:
        """The same text without any of the keys."""
        for key in self._written:
            if key in text:
                text = text.replace(key, REMOVED)
        return text

    def _is_any(self, given: Sequence[bytes]) -> bool:
        is_right = False
        for value in given:
            for key in self._keys:
                is_right |= hmac.compare_digest(key, value)
        return is_right

    @staticmethod
    def _refusal() -> RefusedError:
        return RefusedError(
            401,
            "key",
            "no valid key: send one of HEADROOM_COLLECT_KEYS as `Authorization: Bearer <key>`, as the user name of "
            "Basic, as `X-API-Key`, or as api_key, writeKey or token in the body",
            (b"www-authenticate", b"Bearer"),
        )


def new_key() -> str:
    """A key for `.env`."""
    return f"hr_{secrets.token_hex(20)}"


def _credential(authorization: bytes) -> bytes:
    scheme, _, value = authorization.strip().partition(b" ")
    kind = scheme.lower()
    if kind == b"bearer":
        return value.strip()
    if kind == b"basic":
        try:
            return base64.b64decode(value.strip(), validate=True).partition(b":")[0]
        except binascii.Error:
            return b""
    return b""


def _webhook_secret(secret: str) -> bytes:
    try:
        decoded = base64.b64decode(secret.removeprefix("whsec_"), validate=True)
    except binascii.Error:
        decoded = b""
    if not secret.startswith("whsec_") or len(decoded) < MIN_KEY_LENGTH:
        example = base64.b64encode(secrets.token_bytes(24)).decode()
        raise ValueError(
            "HEADROOM_COLLECT_WEBHOOK_SECRETS has an entry that is not whsec_ and at least 16 bytes in base64; "
            f"a good one is whsec_{example}"
        )
    return decoded


def _listed(value: Any) -> list[str]:
    text = value.get_secret_value() if value is not None else ""
    return [entry.strip() for entry in text.split(",") if entry.strip()]
