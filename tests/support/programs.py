"""Programs that tests start and kill, each in a fork of one process that has imported their module: the imports take
longer than most of them run.

A fork is a process with its own connections, and ends as a program does. Run as a program, this is the process that
forks; `run` asks it.
"""

import atexit
import gc
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable
from functools import cache
from importlib import import_module
from pathlib import Path

from tests.support.waiting import RUN_SECONDS

ROOT = Path(__file__).parents[2]


def run(program: Callable[..., None], *arguments: object) -> "subprocess.CompletedProcess[str]":
    """A function of a module, called in a process with this one's environment, and the arguments as texts.

    The status is that of Popen: negative after a signal. SIGALRM ends what takes longer than RUN_SECONDS.
    """
    process = _process(program.__module__)
    assert process.stdin
    assert process.stdout
    with tempfile.TemporaryDirectory() as folder:
        files = [Path(folder, "stdout"), Path(folder, "stderr")]
        request = [program.__name__, [*map(str, files)], [*map(str, arguments)], {**os.environ}]
        process.stdin.write(json.dumps(request) + "\n")
        process.stdin.flush()
        status = int(process.stdout.readline())
        return subprocess.CompletedProcess(program.__name__, status, *(file.read_text() for file in files))


@cache
def _process(module: str) -> "subprocess.Popen[str]":
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.support.programs", module],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    )
    atexit.register(process.communicate)
    return process


def main(name: str) -> None:
    module = import_module(name)
    gc.collect()
    gc.freeze()
    for line in sys.stdin:
        program, files, arguments, environment = json.loads(line)
        if not (child := os.fork()):
            for number, file in enumerate(files, 1):
                os.dup2(os.open(file, os.O_WRONLY | os.O_CREAT, 0o600), number)
            os.environ.clear()
            os.environ.update(environment)
            signal.alarm(int(RUN_SECONDS))
            _end(getattr(module, program), arguments)
        sys.stdout.write(f"{os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])}\n")
        sys.stdout.flush()


def _end(program: Callable[..., None], arguments: list[str]) -> None:
    status = 1
    try:
        program(*arguments)
        status = 0
    except SystemExit as error:
        status = int(error.code or 0)
    except BaseException:  # noqa: BLE001 - the process ends here
        sys.excepthook(*sys.exc_info())
    finally:
        sys.stdout.flush()
        os._exit(status)


if __name__ == "__main__":
    main(sys.argv[1])
