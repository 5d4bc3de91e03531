"""Collectors to test against: a real one in a thread, the real program in a process, and clients of both."""

import gzip
import http.client
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import uvloop

from orchestration.collector import server
from orchestration.collector.keys import Keys
from orchestration.settings import PROJECT_ROOT, Settings
from tests.support.waiting import PATIENCE_SECONDS, wait_until

KEY = "hr_marked_key_of_the_tests_4711"
OTHER_KEY = "hr_another/marked~key=0815"
BEARER = {"Authorization": f"Bearer {KEY}"}

_PROGRAM = """
from orchestration.settings import load
from orchestration.collector.server import serve
from orchestration.collector.spool import HungWriterError
try:
    raise SystemExit(serve(load()))
except (ValueError, HungWriterError) as error:
    raise SystemExit(str(error))
"""


@dataclass(frozen=True)
class Reply:
    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


def request(
    port: int,
    path: str,
    body: object = None,
    headers: Mapping[str, str] | None = None,
    method: str = "POST",
    chunks: bool = False,
) -> Reply:
    """One request on a connection of its own. What is not bytes is sent as JSON."""
    data = body if isinstance(body, bytes | type(None)) else json.dumps(body).encode()
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE_SECONDS)
    try:
        if chunks and data is not None:
            parts = iter([data[start : start + 7] for start in range(0, len(data), 7)])
            connection.request(method, path, parts, dict(headers or {}), encode_chunked=True)
        else:
            connection.request(method, path, data, dict(headers or {}))
        response = connection.getresponse()
        return Reply(response.status, {k.lower(): v for k, v in response.getheaders()}, response.read())
    finally:
        connection.close()


def post(port: int, body: object, path: str = "/v1/analytics/demo/", **headers: str) -> Reply:
    """An authorized POST."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return request(port, path, body, {**BEARER, **named})


def raw_connection(port: int) -> socket.socket:
    return socket.create_connection(("127.0.0.1", port), timeout=PATIENCE_SECONDS)


def read_all(connection: socket.socket) -> bytes:
    """Everything until the server closes; a reset counts as a close."""
    received = b""
    try:
        while part := connection.recv(65536):
            received += part
    except ConnectionResetError:
        pass
    return received


def read_reply(connection: socket.socket) -> bytes:
    """One answer with a Content-Length."""
    received = b""
    while b"\r\n\r\n" not in received:
        part = connection.recv(65536)
        assert part, received
        received += part
    head, _, body = received.partition(b"\r\n\r\n")
    found = re.search(rb"content-length: (\d+)", head.lower())
    while found and len(body) < int(found[1]):
        body += connection.recv(65536)
    return head + b"\r\n\r\n" + body


def head(path: str = "/v1/analytics/demo/", *lines: str, key: bool = True) -> bytes:
    """A request line and headers, and the empty line."""
    own = [f"Authorization: Bearer {KEY}"] if key else []
    return "\r\n".join([f"POST {path} HTTP/1.1", "Host: localhost", *own, *lines, "", ""]).encode()


def stored(folder: Path) -> list[dict[str, Any]]:
    """The lines of all sealed segments."""
    return [json.loads(line) for path in sorted(folder.glob("*.ndjson")) for line in path.read_bytes().splitlines()]


def events(folder: Path) -> list[Any]:
    """The events of all sealed segments."""
    return [event for line in stored(folder) for event in line.get("batch", [])]


def settings(data: Path, **changes: object) -> Settings:
    """The defaults with a key, on a data folder, on any free port. Time alone seals no segment, however slow it is."""
    names = {"keys": f"{KEY},{OTHER_KEY}", "port": 0, "seal_seconds": 3600, **changes}
    return Settings(**{"HEADROOM_DATA": data, **{f"HEADROOM_COLLECT_{k.upper()}": v for k, v in names.items()}})


class Loop(uvloop.Loop):
    """A loop whose clock can be set forward, for limits of time that no slow machine may reach by itself."""

    ahead_seconds = 0.0

    def time(self) -> float:
        return super().time() + self.ahead_seconds


@dataclass
class Collecting:
    """A collector in a thread of this process, so that tests can put a full disk under it."""

    settings: Settings
    port: int = 0

    @property
    def folder(self) -> Path:
        return self.settings.landing / server.FOLDER

    def __enter__(self) -> "Collecting":
        self._bound = socket.create_server(("127.0.0.1", 0))
        self.port = self._bound.getsockname()[1]
        self._loop = Loop()
        self._ready = threading.Event()
        self._failure: list[BaseException] = []
        self._thread = threading.Thread(target=self._run)
        self._thread.start()
        self._ready.wait()
        wait_until(lambda: self._failure or request(self.port, "/healthz", method="GET").status == 200)
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        """Stop as SIGTERM does; everything is sealed then."""
        if self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._stopping.hurry)
            self._thread.join()
        self._bound.close()
        if self._failure:
            raise self._failure[0]

    def _run(self) -> None:
        async def main() -> None:
            self._stopping = server.Stopping()
            self._ready.set()
            await server.run(self.settings, Keys.of(self.settings), self._bound, self._stopping)

        try:
            uvloop.run(main(), loop_factory=lambda: self._loop)
        except BaseException as error:  # noqa: BLE001 - raised again in the test's own thread
            self._failure.append(error)
            self._ready.set()

    def let_pass(self, seconds: float) -> None:
        """From now on it is so much later for the collector."""
        self._loop.ahead_seconds += seconds

    def finished(self) -> list[Any]:
        """Stop, and return the events that are stored."""
        self.stop()
        return events(self.folder)

    def figure(self, sample: str) -> float:
        """A value of /metrics."""
        page = request(self.port, "/metrics", method="GET").body.decode()
        found = re.search(rf"^{re.escape(sample)} (\S+)$", page, re.MULTILINE)
        return float(found[1]) if found else 0.0

    def wait_for(self, sample: str, value: float) -> None:
        """Until it is the value. Few connections may be allowed, and the one that asked before may still count."""

        def is_there() -> bool:
            with suppress(ConnectionError):
                return self.figure(sample) == value
            return False

        wait_until(is_there)


@dataclass
class Program:
    """The collector as a process of its own."""

    data: Path
    environment: dict[str, str] = field(default_factory=dict)
    log: str = ""
    before: str = ""
    """Python that runs first, to break what no test can break from outside."""

    @property
    def folder(self) -> Path:
        return self.data / "landing" / server.FOLDER

    def start(self) -> int:
        """Start, and return the port."""
        inherited = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
        own = {"HEADROOM_DATA": str(self.data), "HEADROOM_COLLECT_PORT": "0", "HEADROOM_COLLECT_KEYS": KEY}
        self.process = subprocess.Popen(
            [
                sys.executable,
                "-c",
                self.before + _PROGRAM,
            ],
            cwd=PROJECT_ROOT,
            env={**inherited, **own, **self.environment},
            stderr=subprocess.PIPE,
            text=True,
        )
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.log += line
            if found := re.search(r"http://[^ ]+:(\d+) ", line):
                self.port = int(found[1])
                return self.port
        raise AssertionError(self.log)

    def read_log_until(self, words: str) -> str:
        """The next line with these words."""
        for line in self.process.stderr or []:
            self.log += line
            if words in line:
                return line
        raise AssertionError(self.log)

    def stop(self, name: int = signal.SIGTERM) -> int:
        """Send a signal, and return the exit status."""
        self.process.send_signal(name)
        return self.wait()

    def wait(self) -> int:
        _, rest = self.process.communicate(timeout=PATIENCE_SECONDS)
        self.log += rest
        return self.process.returncode

    def memory_bytes(self, name: str = "VmHWM") -> int:
        """Of the process: VmHWM is the most that it ever had, VmRSS what it has."""
        text = Path(f"/proc/{self.process.pid}/status").read_text()
        found = re.search(rf"{name}:\s+(\d+) kB", text)
        assert found
        return int(found[1]) * 1024

    @contextmanager
    def running(self) -> Iterator[int]:
        port = self.start()
        try:
            yield port
        finally:
            if self.process.poll() is None:
                self.stop(signal.SIGKILL)


def zipped(data: bytes) -> bytes:
    return gzip.compress(data, mtime=0)
