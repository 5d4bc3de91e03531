"""The processes of a soak's installation: those that `machine.py` forks, the collector, and the command line."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import Any, TextIO

from tests.soak.soak_asking import SOCKET, ask_for, is_child
from tests.support.waiting import RUN_SECONDS, free_port, wait_until

HERE = Path(__file__).parent
KEY = "hr_key_of_the_soak"
WORKERS = ("run", "dbt")


@dataclass
class Machine:
    """The machine of one version of the project, and all that runs on it."""

    code: Path
    folder: Path
    environment: Mapping[str, str]
    started: dict[int, str] = field(default_factory=dict)
    """What kind of process each id is, or was."""

    def __post_init__(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir(parents=True)
        self.environment = {
            **self.environment,
            "PYTHONPATH": f"{self.code}{os.pathsep}{HERE}",
            SOCKET: str(self.folder / "socket"),
        }
        self._errors = (self.folder / "machine.log").open("w")
        self._process = self._program(str(HERE / "machine.py"), str(self.folder), errors=self._errors)
        assert self._process.stdout
        said = self._process.stdout.readline()
        assert said == "ready\n", (self.folder / "machine.log").read_text()
        self._reader = threading.Thread(target=self._note, daemon=True)
        self._reader.start()
        self._server: tuple[TextIO, TextIO] | None = None
        self._collector: subprocess.Popen[str] | None = None
        self._port = free_port()

    def _program(self, *command: str, errors: Any = subprocess.STDOUT) -> "subprocess.Popen[str]":
        return subprocess.Popen(
            [sys.executable, *command],
            cwd=self.code,
            env=dict(self.environment),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            start_new_session=True,
        )

    def _note(self) -> None:
        assert self._process.stdout
        for line in self._process.stdout:
            pid, kind = line.split()
            self.started[int(pid)] = kind

    # Dagster

    def look(self, parts: str = "all") -> dict[str, Any]:
        """One look of the server, which is started where it does not run; what it says of it.

        `parts` may be "schedules": the sensors, which look every half a minute, have not come to it yet.

        :raises DownError: it cannot work now.
        """
        if self._server is None:
            to_it, from_it = os.pipe(), os.pipe()
            ask_for({"kind": "server"}, [to_it[0], from_it[1]], self.environment[SOCKET])
            os.close(to_it[0])
            os.close(from_it[1])
            self._server = os.fdopen(to_it[1], "w"), os.fdopen(from_it[0])
            self._hear()
        with suppress(OSError):
            self._server[0].write(f"{parts}\n")
            self._server[0].flush()
        said: dict[str, Any] = json.loads(self._hear())
        return said

    def _hear(self) -> str:
        assert self._server
        line = self._server[1].readline()
        if not line:
            self._hang_up()
            raise DownError("the server ended")
        return line

    def _hang_up(self) -> None:
        for end in self._server or ():
            with suppress(OSError):
                end.close()
        self._server = None

    def working(self, *kinds: str) -> list[int]:
        """The processes of these kinds that live."""
        wanted = kinds or WORKERS
        return [pid for pid, kind in list(self.started.items()) if kind in wanted and is_child(pid, self._process.pid)]

    def worked_seconds(self) -> float:
        """Of the processor, by runs and dbt that live."""
        ticks = 0
        for pid in self.working():
            with suppress(OSError):
                fields = Path("/proc", str(pid), "stat").read_text().rpartition(")")[2].split()
                ticks += sum(map(int, fields[11:15]))
        return ticks / os.sysconf("SC_CLK_TCK")

    def kill(self, *kinds: str) -> int:
        """SIGKILL to all of these kinds; how many there were."""
        killed = 0
        for pid in self.working(*kinds):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
                killed += 1
        wait_until(lambda: not self.working(*kinds))
        if "server" in kinds:
            self._hang_up()
        if "collector" in kinds and self._collector:
            self._collector.kill()
            self._collector.communicate()
            self._collector, killed = None, killed + 1
        return killed

    # The rest

    def send(self, events: list[dict[str, Any]]) -> bool:
        """The events in one request to the collector, which is started where it does not run; whether it took them."""
        for _ in range(2):
            if self._collector is None:
                self.environment = {
                    **self.environment,
                    "HEADROOM_COLLECT_PORT": str(self._port),
                    "HEADROOM_COLLECT_KEYS": KEY,
                    "HEADROOM_COLLECT_SEAL_SECONDS": "0.2",
                }
                self._collector = self._program("-m", "orchestration.cli.main", "collect", errors=self._errors)
                wait_until(lambda: self._is_listening() or self._collector_has_ended())
                if self._collector_has_ended():
                    return False
            connection = HTTPConnection("127.0.0.1", self._port, timeout=30)
            try:
                headers = {"Authorization": f"Bearer {KEY}"}
                connection.request("POST", "/v1/analytics/soak/", json.dumps(events), headers)
                return connection.getresponse().status == 200
            except (OSError, HTTPException):
                if not self._collector_has_ended():
                    return False
            finally:
                connection.close()
        return False

    def _is_listening(self) -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self._port)) == 0

    def _collector_has_ended(self) -> bool:
        if self._collector and self._collector.poll() is not None:
            self._collector.communicate()
            self._collector = None
        return self._collector is None

    def command(self, *arguments: str) -> str:
        """`python -m …` to its end, which must be a good one; what it printed."""
        done = subprocess.run(
            [sys.executable, "-m", *arguments],
            cwd=self.code,
            env=dict(self.environment),
            capture_output=True,
            text=True,
            timeout=RUN_SECONDS,
            check=False,
        )
        assert done.returncode == 0, (arguments, done.stdout, done.stderr)
        return done.stdout

    def end(self) -> None:
        self.kill("server", "collector", *WORKERS)
        self._process.kill()
        self._process.communicate()
        self._reader.join()
        self._errors.close()


class DownError(RuntimeError):
    """The server ended: killed, or for want of something."""
