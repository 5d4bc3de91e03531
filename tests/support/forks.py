"""`headroom` in forks of a process that has imported everything and parsed the models: that takes as long as the rest
of a small run.

Each fork is a process with its own environment, files and connections, and ends as a program does. Its dbt is a fork
of it, where production starts a program. Run as a program, this is the process that forks; `run` asks it.
"""

import atexit
import gc
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import cache, partial
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NoReturn

from orchestration.warehouse import dbt


def start(
    root: Path, arguments: Sequence[str], environment: Mapping[str, str], seconds: float, folder: Path | None = None
) -> "Fork":
    """A command of the checkout in `root`, in a session of its own, in that folder if not there. SIGALRM ends what
    takes longer than so many seconds.
    """
    request = {"arguments": arguments, "environment": {**environment}, "folder": str(folder or "."), "seconds": seconds}
    return Fork(root, request)


def call(root: Path, function: Callable[..., object], *arguments: str | int, seconds: float) -> int:
    """The exit status of a fork that calls this function of a module, with the environment of this process."""
    name = [function.__module__, function.__name__]
    request = {"call": name, "arguments": arguments, "environment": {**os.environ}, "seconds": seconds}
    fork = Fork(root, request)
    sys.stderr.write("".join(fork.communicate()))
    assert fork.returncode is not None
    return fork.returncode


class Fork:
    """A process that was started here: as much of Popen as the tests ask for."""

    def __init__(self, root: Path, request: dict[str, Any]) -> None:
        self._process = _process(root)
        self._folder = Path(tempfile.mkdtemp())
        self._files = [self._folder / "stdout", self._folder / "stderr"]
        self.pid = self._ask({**request, "files": [str(file) for file in self._files]})
        self.returncode: int | None = None

    def poll(self, options: int = os.WNOHANG) -> int | None:
        """The status when it has ended: that of Popen, negative after a signal."""
        if self.returncode is None:
            self.returncode = self._ask({"wait": self.pid, "options": options})
        return self.returncode

    def communicate(self, timeout: float | None = None) -> tuple[str, str]:
        """What it wrote to stdout and stderr, to its end, which SIGALRM brings. Once."""
        self.poll(options=0)
        stdout, stderr = (file.read_text() for file in self._files)
        shutil.rmtree(self._folder)
        return stdout, stderr

    def _ask(self, request: dict[str, Any]) -> Any:
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        return json.loads(self._process.stdout.readline())


@cache
def _process(root: Path) -> "subprocess.Popen[str]":
    names = [name for name in ("PATH", "HOME", "LANG") if name in os.environ]
    process = subprocess.Popen(
        [sys.executable, __file__],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=root,
        env={"PYTHONPATH": str(root), **{name: os.environ[name] for name in names}, **dbt.QUIET},
        start_new_session=True,  # a Ctrl-C in the terminal is for the tests, and they end it
    )
    atexit.register(process.communicate)
    return process


class Started:
    """The process of dbt as `warehouse/dbt.py` starts it: a fork, or the real one where a thread could hold a lock."""

    def __new__(cls, command: Sequence[str], **options: Any) -> Any:
        return super().__new__(cls) if threading.active_count() == 1 else subprocess.Popen(command, **options)

    def __init__(self, command: Sequence[str], *, env: Mapping[str, str], **_: object) -> None:
        (its_stdin, stdin), (stdout, its_stdout) = os.pipe(), os.pipe()
        sys.stdout.flush()  # or both processes have what is in it
        self.pid = os.fork()
        if not self.pid:
            _take_over(its_stdin, its_stdout)
            os.environ.update(env)
            self._work(command[3:])
        os.close(its_stdin)
        os.close(its_stdout)
        self.stdin, self.stdout = os.fdopen(stdin, "w"), os.fdopen(stdout)
        self._status: int | None = None

    def poll(self, options: int = os.WNOHANG) -> int | None:
        if self._status is None and (ended := os.waitpid(self.pid, options))[0]:
            self._status = os.waitstatus_to_exitcode(ended[1])
        return self._status

    def wait(self) -> int | None:
        return self.poll(0)

    def _work(self, arguments: Sequence[str]) -> None:
        from orchestration.warehouse import dbt_worker

        gc.disable()
        sys.argv = ["dbt_worker", *arguments]
        try:
            dbt_worker.main()
        finally:
            os._exit(1)


OPEN_FILES = Path("/proc/self/fd")
_kept: set[Path] = set()
"""Files that the libraries hold from their import on."""


def _take_over(*descriptors: int) -> None:
    """Make them stdin, stdout and stderr, as far as they go. Of other open files only the libraries' stay."""
    for number, descriptor in enumerate(descriptors):
        os.dup2(descriptor, number)
    for path in {*OPEN_FILES.iterdir()} - _kept:
        with suppress(OSError):  # that of the folder itself
            os.close(int(path.name))
    sys.stdin = os.fdopen(0, closefd=False)  # the one before may have read ahead


def main() -> None:
    import dagster as dg

    from orchestration import definitions
    from orchestration.cli import main as cli
    from orchestration.defs import dagster_migrations
    from orchestration.warehouse import dbt_worker
    from orchestration.warehouse.duckdb import DuckDbEngine

    folder, place = Path("dbt_project").resolve(), Path(tempfile.mkdtemp())
    own = dbt.DbtProject(folder, place / DuckDbEngine.dbt_folder, place / "warehouse.duckdb")
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # whatever dbt prints must not look like an answer
    parse, parsed = dbt_worker.parse, dbt_worker.parse(own)
    assert parsed.success, parsed.exception
    key = own.parse_key

    def known(project: dbt.DbtProject) -> Any:
        """What was parsed already, unless the project is another one, or a file of it has changed."""
        with project.parse_lock:
            is_found = project.find_parse()
        is_same = is_found and (project.folder, project.target.name) == (folder, own.target.name)
        return parsed if is_same and project.parse_key == key else parse(project)

    dbt_worker.parse = known
    dbt.subprocess = SimpleNamespace(Popen=Started, PIPE=None)
    assert definitions
    dagster_migrations.keep()
    with tempfile.TemporaryDirectory() as home, dg.DagsterInstance.local_temp(home):
        pass  # what Dagster imports and reads for its first home
    _kept.update(OPEN_FILES.iterdir())
    gc.collect()
    gc.freeze()
    gc.enable()  # the module of the worker does without
    for line in sys.stdin:
        request = json.loads(line)
        answer = _ended(**request) if "wait" in request else _forked(request, cli.main)
        print(json.dumps(answer), file=answers)
    shutil.rmtree(place)
    os._exit(0)


def _forked(request: dict[str, Any], command: Callable[[], object]) -> int:
    """The id of the process of the request, which has its own session, files and environment already.

    What a function needs is imported here, for the next one that calls it as well.
    """
    if "call" in request:
        module, function = request["call"]
        command = partial(getattr(import_module(module), function), *request["arguments"])
    begun, its_begun = os.pipe()
    if not (pid := os.fork()):
        begin(request)  # which closes the pipe
        end(command)
    os.close(its_begun)
    os.read(begun, 1)
    os.close(begun)
    return pid


def _ended(wait: int, options: int) -> int | None:
    """The status of that process, or None while it runs."""
    pid, status = os.waitpid(wait, options)
    return os.waitstatus_to_exitcode(status) if pid else None


def begin(request: dict[str, Any]) -> None:
    """The process becomes that of the command."""
    os.setsid()
    flags = os.O_WRONLY | os.O_CREAT
    _take_over(os.open(os.devnull, os.O_RDONLY), *(os.open(file, flags, 0o600) for file in request["files"]))
    os.environ.clear()
    os.environ.update(request["environment"])
    os.chdir(request.get("folder", "."))
    time.tzset()
    signal.alarm(int(request["seconds"]))
    sys.argv = ["headroom", *map(str, request["arguments"])]


def end(command: Callable[[], object]) -> NoReturn:
    """Run it, and end as the program does but for taking all apart that was imported, which takes seconds."""
    status = 0
    try:
        command()
    except SystemExit as error:
        status = error.code if isinstance(error.code, int) else 0
    except BaseException:  # noqa: BLE001 - the process ends here
        traceback.print_exc()
        status = 1
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    sys.stdout.flush()
    os._exit(status)


if __name__ == "__main__":
    main()
