"""Who may send: keys in a header or in the body, and signed webhooks.

Keys are compared in constant time with every configured one, and never leave this process: not in an answer, not in
a log, not in a stored line (`scrub`). What may be seen of a key is its name: `acme:<key>` is named acme, one without a
name is named after its hash. Which requests need a key is decided in `app.py`: all that bring events.
"""

import base64
import binascii
import hashlib
import hmac
import re
import secrets
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any

from orchestration.collector import escapes
from orchestration.collector.answers import RefusedError
from orchestration.collector.body_keys import BODY_FIELDS, candidates
from orchestration.settings import Settings

TOLERANCE_SECONDS = 300
"""How old, or how far ahead of our clock, a webhook's signature may be (Standard Webhooks)."""
MIN_KEY_LENGTH = 16
REMOVED = b"[key removed]"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_ALLOWED = re.compile(r"(?=.*[A-Za-z])[A-Za-z0-9._~+/=:@-]+")


@dataclass(frozen=True)
class Sender:
    """Whose key a request brought: what is kept of it."""

    name: str
    is_named: bool = False
    """By the operator. Only then events without a source get this one: a name from a hash ends with its key, and the
    events of a client that repeats them with its next key would count twice."""


class Proof(Enum):
    """What else a request's headers may say about who sent it."""

    IN_BODY = "nothing: the key must be in the body"
    SIGNATURE = "a signature, to be checked against the body"


class Keys:
    """The keys and webhook secrets of one process. An entry is a key, or a name and a key with a colon between them."""

    def __init__(self, entries: Sequence[str], webhook_secrets: Sequence[str] = ()) -> None:
        self._senders: dict[bytes, Sender] = {}
        for entry in entries:
            name, _, key = entry.partition(":")
            if key and _NAME.fullmatch(name) and _is_good(key):
                self._senders[key.encode()] = Sender(name, is_named=True)
            elif not _is_good(entry):
                raise ValueError(
                    f"HEADROOM_COLLECT_KEYS has an invalid key. A key has at least {MIN_KEY_LENGTH} characters,"
                    f" among them a letter, and only letters, digits and ._~+/=:@-. A good one is {new_key()}"
                )
            # A colon may also be part of a key that has no name.
            self._senders.setdefault(
                entry.encode(), self._senders.get(key.encode()) or Sender(_name_of(entry.encode()))
            )
        self._keys = list(self._senders)
        self._secrets = [_webhook_secret(secret) for secret in webhook_secrets]
        self._webhooks = [Sender(f"webhook-{_digest(secret)}") for secret in self._secrets]
        if not self._keys and not self._secrets:
            raise ValueError(
                "The collector needs a key, so that only your producers can send events. "
                f"Put this new one into .env:\nHEADROOM_COLLECT_KEYS={new_key()}"
            )
        self._spellings = [(key, escapes.spellings(key)) for key in self._keys]

    @classmethod
    def of(cls, settings: Settings) -> "Keys":
        """The keys in the settings.

        :raises ValueError: there is none, or one that cannot be used; the message says what to put into `.env`.
        """
        entries = [*_listed(settings.collect_keys), *_lines(settings.collect_keys_file)]
        return cls(entries, _listed(settings.collect_webhook_secrets))

    @property
    def names(self) -> list[str]:
        """Of all keys and webhook secrets."""
        return sorted({sender.name for sender in (*self._senders.values(), *self._webhooks)})

    def check_headers(self, headers: Mapping[bytes, bytes]) -> Proof | Sender:
        """Whose key is in the headers, or what they prove instead; a wrong key is refused here, before the body."""
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
        return self._sender(given)

    def check_text(self, body: bytes) -> None:
        """Refuse a body that has a right key nowhere, before it is parsed."""
        self._sender(candidates(body))

    def check_body(self, root: Any) -> Sender:
        """Refuse a body that is no object with a right key in it."""
        values = [root.get(name) for name in BODY_FIELDS] if isinstance(root, dict) else []
        return self._sender([value.encode(errors="replace") for value in values if isinstance(value, str)])

    def check_signature(self, headers: Mapping[bytes, bytes], body: bytes, now_seconds: float) -> Sender:
        """Refuse a webhook whose signature over id, time and the body as received is not ours, or is too old."""
        identity, sent_at = headers.get(b"webhook-id", b""), headers.get(b"webhook-timestamp", b"")
        is_recent = sent_at.isdigit() and len(sent_at) < 16 and abs(now_seconds - int(sent_at)) <= TOLERANCE_SECONDS
        given = [part[3:] for part in headers[b"webhook-signature"].split() if part.startswith(b"v1,")]
        found: Sender | None = None
        for secret, sender in zip(self._secrets, self._webhooks, strict=True):
            digest = hmac.new(secret, b"%b.%b.%b" % (identity, sent_at, body), hashlib.sha256).digest()
            expected = base64.b64encode(digest)
            for signature in given:
                if hmac.compare_digest(expected, signature):
                    found = sender
        if not identity or not is_recent or found is None:
            raise RefusedError(
                401,
                "signature",
                "the webhook's signature is missing, wrong, or more than 5 minutes off our clock. Sign"
                " webhook-id.webhook-timestamp.body with a secret of HEADROOM_COLLECT_WEBHOOK_SECRETS",
            )
        return found

    def scrub(self, text: bytes) -> bytes:
        """The same text without any of the keys, also where JSON writes their characters as escapes."""
        searched = escapes.written_out(text)
        for key, spellings in self._spellings:
            if key in searched:
                text = spellings.sub(REMOVED, text)
        return text

    def _sender(self, given: Iterable[bytes]) -> Sender:
        """Whose key is the first of the given ones that is right. It is compared with every key."""
        for value in given:
            found: bytes | None = None
            for key in self._keys:
                if hmac.compare_digest(key, value):
                    found = key
            if found is not None:
                return self._senders[found]
        raise self._refusal()

    @staticmethod
    def _refusal() -> RefusedError:
        return RefusedError(
            401,
            "key",
            "no valid key: send one of HEADROOM_COLLECT_KEYS. Send it as `Authorization: Bearer <key>`, as the"
            " user name of Basic, or as `X-API-Key`. Or as api_key, writeKey or token in the body",
            (b"www-authenticate", b"Bearer"),
        )


def new_key() -> str:
    """A key for `.env`."""
    return f"hr_{secrets.token_hex(20)}"


def _is_good(key: str) -> bool:
    return len(key) >= MIN_KEY_LENGTH and _ALLOWED.fullmatch(key) is not None


def _name_of(secret: bytes) -> str:
    return f"key-{_digest(secret)}"


def _digest(secret: bytes) -> str:
    """Eight digits tell keys apart, and do not tell the key."""
    return hashlib.sha256(secret).hexdigest()[:8]


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


def _lines(path: Path | None) -> list[str]:
    if path is None:
        return []
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        words = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise ValueError(f"HEADROOM_COLLECT_KEYS_FILE={path} cannot be read ({words})") from error
    return [line.strip() for line in lines if line.strip() and not line.strip().startswith("#")]


def _listed(value: Any) -> list[str]:
    text = value.get_secret_value() if value is not None else ""
    return [entry.strip() for entry in text.split(",") if entry.strip()]
