"""Events that survive the process: each is in a file before the request is answered, and sent from there.

A file belongs to one process at a time, by a lock on it. A process that starts takes over the files of those that
ended, by kill -9 too, and sends them. An event keeps its id, so one that was sent twice counts once. Files are not
forced to the disk: a crash of the machine may lose the last seconds.
"""

import errno
import fcntl
import json
import logging
import os
import secrets
import threading
import time
import urllib.error
import urllib.request
import uuid
from datetime import UTC, datetime
from http.client import HTTPException
from pathlib import Path

logger = logging.getLogger("headroom_gate")
_REFUSED_FOR_GOOD = (400, 413, 415, 422)
"""The events are at fault; any other refusal is of the key, the address or the moment."""
_OPEN, _FULL, _REFUSED = ".open", ".ndjson", ".refused"


class SpooledEvents:
    """Takes events as HeadroomEvents of the snippet does. Gates of one machine may share a `folder`."""

    def __init__(
        self,
        url: str,
        key: str,
        folder: str | Path,
        *,
        file_bytes: int = 256 * 1024,  # about 1,000 events: what is sent at a time
        max_age_seconds: float = 1.0,
        folder_bytes: int = 1024**3,  # beyond this events are dropped, and counted
    ) -> None:
        if not url.startswith(("http://", "https://")):
            raise ValueError(f"{url!r} is not an address of a collector, such as https://headroom.example.com/v1/…")
        self._url, self._headers = url, {"Authorization": f"Bearer {key.strip()}", "Content-Type": "application/json"}
        self._folder, self._file_bytes = Path(folder), file_bytes
        self._max_age_seconds, self._folder_bytes = max_age_seconds, folder_bytes
        self._folder.mkdir(parents=True, exist_ok=True)
        self._closing = threading.Event()
        self._start_over()
        os.register_at_fork(after_in_child=self._start_over)

    def _start_over(self) -> None:
        """After a fork the open file stays with the parent, which has its lock."""
        if (inherited := getattr(self, "_file", None)) is not None:
            os.close(inherited)
        self.dropped = 0
        self.problem = ""
        """What went wrong last; empty if nothing."""
        self._lock, self._pid = threading.Lock(), os.getpid()
        self._file: int | None = None
        self._path = Path()
        self._size, self._opened_at = 0, 0.0
        self._waiting_bytes = 0
        self._thread: threading.Thread | None = None

    def capture(self, account_id: str, event: str = "api_call", **properties: object) -> None:
        """Write an event. It survives the process when this returns.

        :raises OSError: it cannot be written; the gate counts that, and the request goes on.
        """
        if self._pid != os.getpid():
            self._start_over()
        now = datetime.now(UTC).isoformat()
        fields = {"event": event, "uuid": str(uuid.uuid4()), "timestamp": now}
        line = json.dumps(fields | {"properties": {"account_id": account_id, **properties}}).encode() + b"\n"
        with self._lock:
            if self._waiting_bytes > self._folder_bytes:
                self.dropped += 1
                return
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="headroom-spool", daemon=True)
                self._thread.start()
            if self._file is None:
                self._open()
            assert self._file is not None
            if os.write(self._file, line) < len(line):
                os.ftruncate(self._file, self._size)
                raise OSError(errno.ENOSPC, "the folder of events is full", str(self._path))
            self._size += len(line)
            if self._size >= self._file_bytes:
                self._finish()

    def flush(self) -> bool:
        """Send all files that no other process has; whether nothing is left of them."""
        with self._lock:
            self._finish()
        return self._send_all()

    def close(self) -> None:
        """Finish the open file, and send once more. What cannot be sent stays for the next start."""
        self._closing.set()
        self.flush()

    def _open(self) -> None:
        while True:
            self._path = self._folder / f"{time.time_ns()}-{secrets.token_hex(4)}{_OPEN}"
            file = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND, 0o600)
            fcntl.flock(file, fcntl.LOCK_EX)
            if os.fstat(file).st_nlink:
                break
            os.close(file)  # before it had its lock, another process took it for one that was left
        self._file, self._size, self._opened_at = file, 0, time.monotonic()

    def _finish(self) -> None:
        if self._file is not None:
            self._path.rename(self._path.with_suffix(_FULL))
            os.close(self._file)
            self._file = None
            self._waiting_bytes += self._size

    def _run(self) -> None:
        wait_seconds = self._max_age_seconds
        while not self._closing.wait(wait_seconds):
            with self._lock:
                if self._file is not None and time.monotonic() - self._opened_at >= self._max_age_seconds:
                    self._finish()
            is_sent = self._send_all()
            wait_seconds = self._max_age_seconds if is_sent else min(30.0, max(1.0, wait_seconds * 2))

    def _send_all(self) -> bool:
        is_sent, waiting_bytes = True, 0
        for path in sorted([*self._folder.glob(f"*{_FULL}"), *self._folder.glob(f"*{_OPEN}")]):
            try:
                with path.open("rb") as file:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    # after a look at the name: another process may have sent it before the lock was free
                    if path.exists() and not (is_sent and self._send(path, file.read())):
                        # the files after one that was not received wait for the next time
                        is_sent, waiting_bytes = False, waiting_bytes + path.stat().st_size
            except (BlockingIOError, FileNotFoundError):
                continue  # another process writes or sends it
            except OSError as error:
                is_sent, self.problem = False, repr(error)
        self._waiting_bytes = waiting_bytes + sum(map(_size, self._folder.glob(f"*{_REFUSED}")))
        return is_sent

    def _send(self, path: Path, raw: bytes) -> bool:
        """Post a file, and remove it once it is received. One that the collector refuses for good is put aside."""
        whole = raw[: raw.rfind(b"\n") + 1]  # a line without an end was never acknowledged
        status = self._post(b"[" + b",".join(whole.splitlines()) + b"]") if whole else 200
        if 200 <= status < 300:
            self.problem = ""
            path.unlink()
        elif status in _REFUSED_FOR_GOOD:
            logger.error("the collector refuses %s for good: %s", path, self.problem)
            path.rename(path.with_suffix(_REFUSED))
        else:
            return False
        return True

    def _post(self, body: bytes) -> int:
        request = urllib.request.Request(self._url, body, self._headers)  # noqa: S310 - an address of the operator's
        try:
            with _OPENER.open(request, timeout=10) as answer:
                return int(answer.status)
        except urllib.error.HTTPError as error:
            with error:
                self.problem = f"HTTP {error.code} {error.reason}"
                return error.code
        except (OSError, HTTPException, ValueError) as error:  # the last of a key that no header can have
            self.problem = repr(error)
            return 0


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:  # an operator took it away
        return 0


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    """urllib would follow with a GET without the events, and take its 200 for a success."""

    def redirect_request(self, *_: object) -> None:
        return None


_OPENER = urllib.request.build_opener(_NoRedirects)
