"""Where the collector has no disk: each group of lines is one object of a bucket. No asyncio here.

    <time>-<host>-<random>-<number>.ndjson    complete as soon as it is there, never changed again

The random part is the process's, the number counts its groups: any number of collectors can put into one prefix. As
segments do, everything here runs in one thread at a time.
"""

import errno
import logging
import re
import secrets
import socket
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

SUFFIX = ".ndjson"
TRY_SECONDS = 10
"""How long a put is repeated. One that hangs is given up after 30 s, the library's own limit: setting another one here
would undo what the store's variables say of the connection."""

logger = logging.getLogger("headroom.collector")


class ObjectWriter:
    """Puts groups of lines into a bucket, for the spool."""

    segment = None
    """Nothing is ever open."""
    is_settled = True

    def __init__(self, url: str) -> None:
        """:raises ValueError: the address cannot be used; the message says what to look at."""
        from obstore.exceptions import BaseError
        from obstore.store import from_url  # only who uses a bucket pays for the import

        self.place = url.rstrip("/")
        self.sealed_count = 0
        self._put_count = 0
        host = re.sub(r"[^A-Za-z0-9-]+", "-", socket.gethostname())[:64]
        self._process = f"{host}-{secrets.token_hex(6)}"
        patience: Any = {"max_retries": 3, "retry_timeout": timedelta(seconds=TRY_SECONDS)}
        try:
            self._store: Any = from_url(self.place, retry_config=patience)
        except (BaseError, ValueError) as error:
            raise ValueError(f"HEADROOM_COLLECT_URL={url} cannot be used: {_first_line(error)}") from error

    def prepare(self) -> None:
        """Nothing: what a killed process had not put was not acknowledged."""

    def recover(self) -> None:
        """Nothing, for the same reason."""

    def commit(self, lines: Sequence[bytes]) -> None:
        """Put the lines as one object.

        :raises OSError: the store did not say that it has them; it may nevertheless.
        """
        self._put_count += 1
        moment = datetime.now(UTC).strftime("%Y%m%dT%H%M%S.%fZ")
        # Where an answer is lost the put is repeated, under the same name and with the same lines.
        self._put(f"{moment}-{self._process}-{self._put_count:06d}{SUFFIX}", b"".join(lines))
        self.sealed_count += 1

    def probe(self) -> None:
        """Find out whether the store takes something. The object's name is one that ingest does not look at.

        :raises OSError: it does not.
        """
        self._put(".probe", b"")

    def seal(self, _: object = None) -> None:
        """Nothing: an object is complete."""

    def settle(self) -> None:
        """Nothing."""

    def _put(self, name: str, content: bytes) -> None:
        import obstore
        from obstore.exceptions import BaseError

        try:
            obstore.put(self._store, name, content, use_multipart=False)
        except (BaseError, OSError) as error:
            logger.warning("%s/%s was not put: %s", self.place, name, _first_line(error))
            raise OSError(errno.EIO, "the bucket does not take them") from error  # clients need not know where it is


def _first_line(error: BaseException) -> str:
    return str(error).strip().partition("\n")[0]
