"""Dagster's UI, scheduler and sensors as processes of their own, from `headroom ui` until Ctrl-C.

What they print passes through here: Dagster writes each event of each run to the terminal, 70 lines a run, and its
configuration has no level for the runs that people start in the UI. All of it is in the UI.
"""

import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from types import FrameType

from filelock import FileLock, Timeout

from orchestration import settings
from orchestration.cli import run, ui_guard
from orchestration.cli.console import console, print_log
from orchestration.messages import environment
from orchestration.messages.environment import Cause
from orchestration.settings import Settings

DAGSTER = """
import runpy, warnings, dagster
warnings.simplefilter("ignore")  # it warns of its own command otherwise
runpy.run_module("dagster", run_name="__main__")
"""
PORTS = 100
_ESCAPE = re.compile(r"\x1b\[[0-9;]*m")
_RECORD = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d [+-]\d{4} - [\w.-]+ - (?P<level>[A-Z]+) - (?P<message>.*)")
_OF_RUN = re.compile(
    r"(?P<job>\w+) - (?P<run_id>[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}) - (?:\d+ - )?"
    r"(?:(?P<step>[a-z]\w*) - )?(?:(?P<event>[A-Z_]+) - )?(?P<text>.*)"
)
_STYLES = {"WARNING": "yellow", "ERROR": "red", "CRITICAL": "red"}


def serve(config: Settings) -> int:
    """Serve the UI until SIGINT, SIGTERM or SIGHUP, or until it ends by itself; the exit status.

    Only one on a data folder: two daemons would start each run twice.
    """
    run.make_dagster_home(config)
    if config.postgres_dagster:
        with run.dagster_instance():
            pass  # a Postgres that is away is a sentence here; Dagster's own processes print hundreds of lines
    served_at = config.dagster_home / "ui.url"
    lock = FileLock(config.dagster_home / "ui.lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        where = served_at.read_text() if served_at.exists() else "another port"
        print_log(
            f"headroom: `headroom ui` already serves {config.data} on {where}. Open it, or stop it and start again",
            "red",
        )
        return 1
    try:
        return _serve(config, served_at)
    finally:
        served_at.unlink(missing_ok=True)
        lock.release()


def _serve(config: Settings, served_at: Path) -> int:
    port = _free_port(config.port)
    if port is None:
        print_log(f"headroom: port {config.port} and those after it are taken; set HEADROOM_PORT", "red")
        return 1
    if port != config.port:
        console.print(f"Port {config.port} is taken; using {port}.")
    url, stopped = f"http://127.0.0.1:{port}", threading.Event()
    served_at.write_text(url)

    def stop(_signal: int, _frame: FrameType | None) -> None:
        stopped.set()

    # Handlers first: in a shell without job control SIGINT starts out ignored, and would stay so in the child.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, stop)
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # a closed window ends it, except under nohup
        signal.signal(signal.SIGHUP, stop)
    dagster = [sys.executable, "-c", DAGSTER, "dev", "--log-level", "warning", "-h", "127.0.0.1", "-p", str(port)]
    server = subprocess.Popen(
        [sys.executable, "-P", ui_guard.__file__, *dagster],
        cwd=settings.PROJECT_ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        start_new_session=True,
    )
    reader = threading.Thread(target=_pass_on, args=(server, url, config), daemon=True)
    reader.start()
    console.print(f"Dagster's UI is starting on {url} (Ctrl-C stops it)")
    announced = False
    while server.poll() is None and not stopped.is_set():
        if not announced and _answers(port):
            console.print(f"Ready: {url}")
            announced = True
        time.sleep(0.3)
    _stop(server)
    reader.join(5)
    return 0 if stopped.is_set() else server.returncode or 1


def worth_reading(
    lines: Iterable[str], url: str, explain: Callable[[str], str | None] = lambda _: None
) -> Iterator[tuple[str, str]]:
    """Of what Dagster prints, what a person at the terminal wants to know; each line with its style.

    `explain` has a sentence for some errors.

    Of a run: its warnings, and for each failed step the reason without the stack. Of Dagster itself: warnings and
    errors, whole. What is no log record, such as the traceback of a crash, follows the record before it; before the
    first one it is shown.
    """
    is_shown, is_of_run, is_in_stack, style = True, False, False, ""
    for line in lines:
        text = _ESCAPE.sub("", line).rstrip()
        if record := _RECORD.match(text):
            style = _STYLES.get(record["level"], "")
            run = _OF_RUN.match(record["message"])
            is_of_run, is_in_stack = run is not None, False
            is_shown = bool(style) and not (run and _says_nothing_new(run["event"], run["text"]))
            is_shown &= "(dagster.yaml) in the current folder" not in text  # that is for `dagster dev` by hand
            if run:
                what = f" failed at {run['step']}" if run["event"] == "STEP_FAILURE" else f": {run['text']}"
                text = f"headroom: {run['job']}{what}  {url}/runs/{run['run_id']}"
        elif text.startswith("Traceback (most recent call last)"):
            is_shown, is_of_run, style = True, False, "red"
        elif is_of_run:
            if text == "Stack Trace:":
                is_in_stack = True
            elif text.startswith("The above exception was "):
                is_in_stack = False
                continue
            if is_in_stack or not text or "DagsterExecutionStepExecutionError" in text:
                continue
            text = "  " + (explain(text) or text.removeprefix("dagster._core.definitions.events.Failure: "))
        if is_shown:
            yield text, style


def _says_nothing_new(event: str | None, text: str) -> bool:
    """The failed step has said why: the end of its run, and the steps that wait for it, repeat it."""
    return (event == "RUN_FAILURE" and "Steps failed: " in text) or text.endswith("Not executing.")


def _pass_on(server: "subprocess.Popen[str]", url: str, config: Settings) -> None:
    assert server.stdout is not None

    def explain(text: str) -> str | None:
        return environment.sentence([Cause("Error", text)], config)

    for text, style in worth_reading(server.stdout, url, explain):
        with suppress(OSError):  # the terminal is gone; a full pipe would hold Dagster up
            print_log(text, style)


def _free_port(wanted: int) -> int | None:
    return next((port for port in range(wanted, min(wanted + PORTS, 65536)) if _can_bind(port)), None)


def _can_bind(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        with suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return True
    return False


def _answers(port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(0.2)
        return probe.connect_ex(("127.0.0.1", port)) == 0


def _stop(server: "subprocess.Popen[str]") -> None:
    """Have the guard end Dagster, and end whatever is left of their process group."""
    assert server.stdin is not None
    server.stdin.close()
    with suppress(subprocess.TimeoutExpired):
        server.wait(ui_guard.SECONDS_TO_STOP + 5)
    with suppress(ProcessLookupError):
        os.killpg(server.pid, signal.SIGKILL)
    server.wait()
