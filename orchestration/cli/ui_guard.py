"""Holds Dagster's processes for `headroom ui`: when that closes its pipe, or is killed, all of them end.

A file to be run, not to be imported: `python ui_guard.py COMMAND ...` with a pipe as its input, as the first process
of a session of its own. It imports nothing of ours, so that it is there before anything can be killed.
"""

import os
import signal
import subprocess
import sys
import threading
from contextlib import suppress

SECONDS_TO_STOP = 20


def _end_with_the_pipe(child: "subprocess.Popen[bytes]") -> None:
    while os.read(0, 1):  # until the holder of the other end closes it, or the system for a killed one
        pass
    if child.poll() is None:
        child.send_signal(signal.SIGINT)
        with suppress(subprocess.TimeoutExpired):
            child.wait(SECONDS_TO_STOP)
    os.killpg(0, signal.SIGKILL)  # what is left of the session, and this process with it


def main() -> None:
    """Run the command; its status is the status here, and whatever it leaves running is killed."""
    signal.signal(signal.SIGINT, signal.default_int_handler)  # the command must not inherit that it is ignored
    child = subprocess.Popen(sys.argv[1:], stdin=subprocess.DEVNULL)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_the_pipe, args=(child,), daemon=True).start()
    status = child.wait()
    sys.exit(status if status >= 0 else 128 - status)


if __name__ == "__main__":
    main()
