"""The guard of Dagster's processes, with commands that do not want to end."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.waiting import PATIENCE_SECONDS, wait_until

GUARD = "from orchestration.cli import ui_guard; ui_guard.SECONDS_TO_STOP = 0.1; ui_guard.main()"
DEAF = "trap '' INT TERM; sleep 600 & echo $$ $! >{pids}.new; mv {pids}.new {pids}; wait; wait"
HOLDER = """
import subprocess, sys, time
subprocess.Popen({command!r}, stdin=subprocess.PIPE, start_new_session=True)
print("started", flush=True)
time.sleep(600)
"""


def is_alive(pid: int) -> bool:
    listed = subprocess.run(["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True, check=False).stdout
    return listed.strip()[:1] not in ("", "Z")


@pytest.mark.parametrize("how", ["killed", "closes"])
def test_all_end_with_the_holder_of_the_pipe(tmp_path: Path, how: str) -> None:
    pids = tmp_path / "pids"
    command = [sys.executable, "-c", GUARD, "sh", "-c", DEAF.format(pids=pids)]
    if how == "killed":
        holder = subprocess.Popen([sys.executable, "-c", HOLDER.format(command=command)], stdout=subprocess.DEVNULL)
    else:
        holder = subprocess.Popen(command, stdin=subprocess.PIPE, start_new_session=True)
    wait_until(pids.exists)
    group = [int(pid) for pid in pids.read_text().split()]
    assert len(group) == 2
    assert all(map(is_alive, group))

    if how == "killed":
        holder.send_signal(signal.SIGKILL)
    else:
        assert holder.stdin is not None
        holder.stdin.close()

    holder.wait(PATIENCE_SECONDS)
    wait_until(lambda: not any(map(is_alive, group)))


@pytest.mark.parametrize(("command", "status"), [("exit 7", 7), ("kill -9 $$", 128 + signal.SIGKILL)])
def test_status_is_that_of_the_command(command: str, status: int) -> None:
    read, write = os.pipe()
    try:
        guarded = subprocess.run([sys.executable, "-c", GUARD, "sh", "-c", command], stdin=read, check=False)
    finally:
        os.close(read)
        os.close(write)

    assert guarded.returncode == status
