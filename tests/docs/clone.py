"""A clone of this repository in which the steps of a page run, in one bash, as a reader runs them.

Everything in it is this checkout, but for `data/` and the programs in `.venv/bin`. Vendors are the fakes on loopback.
"""

import json
import os
import shlex
import shutil
import signal
import socketserver
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from orchestration.settings import PROJECT_ROOT
from tests.docs.tutorial import Step
from tests.e2e.program import INHERITED, NOBODY
from tests.support import forks
from tests.support.waiting import RUN_SECONDS, free_port

NOW = "2026-11-20T09:00:00Z"
"""The morning of the sample in docs/examples/start."""
PORTS = {"8080": "HEADROOM_COLLECT_PORT", "8090": "HEADROOM_PAGES_PORT"}
OWN = {".git", ".venv", ".env", "data"}
END = "--- end of the step:"


@dataclass(frozen=True)
class Answer:
    status: int
    text: str


@dataclass
class Clone:
    folder: Path
    environment: dict[str, str] = field(default_factory=dict)
    ports: dict[str, str] = field(default_factory=lambda: {port: str(free_port()) for port in PORTS})

    def __post_init__(self) -> None:
        programs = self.folder / ".venv" / "bin"
        programs.mkdir(parents=True)
        for path in PROJECT_ROOT.iterdir():
            if path.name not in OWN:
                (self.folder / path.name).symlink_to(path)
        client = [sys.executable, "-S", "-E", str(Path(__file__).with_name("headroom_client.py"))]
        _write_program(programs / "headroom", client)
        for name in ("python", "dbt"):
            _write_program(programs / name, [str(Path(sys.executable).with_name(name))])
        inherited = {name: os.environ[name] for name in INHERITED if name in os.environ}
        self.environment = {
            **inherited,
            "PATH": f"{programs}:{os.environ['PATH']}",
            "PYTHONPATH": str(PROJECT_ROOT),
            "HEADROOM_DATA": str(self.data),
            "HEADROOM_NOW": NOW,
            "SLACK_API_URL": NOBODY,
            "STRIPE_API_BASE": NOBODY,
            **{variable: self.ports[port] for port, variable in PORTS.items()},
            **self.environment,
        }

    @property
    def data(self) -> Path:
        return self.folder / "data"

    def follow(self, steps: Sequence[Step]) -> list[Answer]:
        """Type the commands one after the other, and end what they left running."""
        lines = ["exec 2>&1"]
        for step in steps:
            lines += [_whole(self._here(step.command), self._here(step.answer)), f'printf "\\n{END} %s\\n" $?']
        with _forks() as address, tempfile.NamedTemporaryFile("w+") as output:
            shell = subprocess.Popen(
                ["bash", "--norc", "-c", "\n".join(lines)],
                cwd=self.folder,
                env={**self.environment, "TUTORIAL_SOCKET": str(address)},
                stdin=subprocess.DEVNULL,
                stdout=output,
                start_new_session=True,
            )
            try:
                shell.wait(RUN_SECONDS)
            finally:
                with suppress(ProcessLookupError):
                    os.killpg(shell.pid, signal.SIGKILL)
            output.seek(0)
            return list(_answers(output.read()))

    def _here(self, text: str) -> str:
        for port, own in self.ports.items():
            text = text.replace(f":{port}", f":{own}")
        return text

    def shown(self, answer: str) -> str:
        """An answer with the ports of the page."""
        for port, own in self.ports.items():
            answer = answer.replace(f":{own}", f":{port}")
        return answer.replace(str(self.folder), "/srv/headroom")


def again(clone: Clone, data: Path, **environment: str) -> Clone:
    """The clone once more, in the same place, with that data: what the published copy reads has the place in it."""
    shutil.rmtree(clone.folder)
    other = Clone(clone.folder, environment)
    shutil.copytree(data, other.data)
    return other


def _whole(command: str, answer: str) -> str:
    """A command in the background is ready for the next one when it has said the last line of its answer."""
    if not command.endswith(" &"):
        return command
    awaited = shlex.quote(answer.splitlines()[-1] if answer else "")
    until = f'until grep --quiet --fixed-strings -- {awaited} "$said"; do sleep 0.1; done'
    return f'said=$(mktemp); {{ {command} }} >"$said" 2>&1; {until}; cat "$said"'


def _write_program(path: Path, command: Sequence[str]) -> None:
    path.write_text(f'#!/bin/sh\nexec {shlex.join(command)} "$@"\n')
    path.chmod(0o755)


def _answers(output: str) -> Iterator[Answer]:
    text = ""
    for line in output.splitlines():
        if line.startswith(END):
            yield Answer(int(line.removeprefix(END)), text.strip("\n"))
            text = ""
        else:
            text += f"{line}\n"


@contextmanager
def _forks() -> Iterator[Path]:
    """Where `headroom_client.py` asks for forks, one at a time."""
    with tempfile.TemporaryDirectory() as folder:
        address = Path(folder) / "socket"
        with socketserver.UnixStreamServer(str(address), _Forked) as server:
            thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
            thread.start()
            try:
                yield address
            finally:
                server.shutdown()
                thread.join()


class _Forked(socketserver.StreamRequestHandler):
    def handle(self) -> None:
        asked = json.loads(self.rfile.readline())
        fork = forks.start(PROJECT_ROOT, asked["arguments"], asked["environment"], RUN_SECONDS, Path(asked["folder"]))
        stdout, stderr = fork.communicate()
        answer = {"stdout": stdout, "stderr": stderr, "status": fork.returncode}
        self.wfile.write(json.dumps(answer).encode() + b"\n")
