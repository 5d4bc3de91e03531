"""How all of a soak asks its machine for processes. Imports nothing of the project, of which there may be two."""

import json
import os
import socket
from collections.abc import Sequence
from pathlib import Path
from typing import Any

SOCKET = "HEADROOM_SOAK_SOCKET"


def ask_for(what: dict[str, Any], descriptors: Sequence[int] = (), address: str | None = None) -> int:
    """The process id of a new process of that kind, whose standard input and output are these."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(address or os.environ[SOCKET])
        socket.send_fds(connection, [json.dumps(what).encode() + b"\n"], list(descriptors))
        return int(connection.makefile().readline())


def is_child(pid: int, parent: int) -> bool:
    """Whether this is a living process that the parent started, and not another one that has its number now."""
    try:
        state, starter = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[:2]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state != "Z" and int(starter) == parent
