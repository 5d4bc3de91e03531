"""`headroom pages` as a process: a link is opened over HTTP, no key is in what it prints, SIGTERM ends it quietly; what
a full disk and an end under load do to a visitor.
"""

import re
import resource
import select
import signal
import socket
import sqlite3
import subprocess
from contextlib import closing
from pathlib import Path

import httpx

from tests.e2e.program import Program, finish
from tests.support.empty_copy import publish
from tests.support.waiting import PATIENCE_SECONDS, wait_until


def test_pages_open_by_a_link_and_end_quietly(tmp_path: Path) -> None:
    program = Program(tmp_path, {"HEADROOM_PAGES_PORT": "0"})
    secret = granted(program)
    process, address = served(program)

    with httpx.Client(base_url=address, trust_env=False) as visitor:
        assert visitor.get("/").status_code == 401
        assert visitor.get("/k/wrong-key").status_code == 401
        entered = visitor.get(f"/k/{secret}")
        assert (entered.status_code, entered.headers["location"]) == (303, "/")
        assert "server" not in entered.headers
        unready = visitor.get("/")
        assert (unready.status_code, "There are no figures yet" in unready.text) == (503, True)
    process.send_signal(signal.SIGTERM)

    result = finish(process)
    assert secret not in result.stdout + result.stderr
    assert "wrong-key" not in result.stdout + result.stderr


def test_full_disk_is_a_sentence_and_an_end_breaks_off_no_answer(tmp_path: Path) -> None:
    program = Program(tmp_path, {"HEADROOM_PAGES_PORT": "0"})
    secret, other_secret = granted(program), granted(program)
    publish(program.data)
    process, address = served(program)
    bearer = {"authorization": f"Bearer {secret}"}

    with httpx.Client(base_url=address, trust_env=False, headers=bearer) as visitor:
        assert visitor.get("/healthz").status_code == 200
        _, hard = resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (0, resource.RLIM_INFINITY))
        refused = visitor.get("/digests")  # the kernel refuses each byte
        assert (refused.status_code, refused.headers["retry-after"]) == (503, "60")
        assert "This view cannot be recorded now, so no figures are shown." in refused.text
        assert visitor.get("/healthz").status_code == 200
        resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (hard, hard))
        assert visitor.get("/digests").status_code == 200

        host, port = address.removeprefix("http://").split(":")
        with (
            closing(sqlite3.connect(program.data / "ledger.sqlite", isolation_level=None)) as other,
            socket.create_connection((host, int(port)), PATIENCE_SECONDS) as waiting,
        ):
            other.execute("begin immediate")  # so that the next view waits for its record
            waiting.sendall(
                f"GET /digests HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {other_secret}\r\n\r\n".encode()
            )
            assert visitor.get("/healthz").status_code == 200  # so the server has read the question before
            process.send_signal(signal.SIGTERM)
            wait_until(lambda: not listens(host, int(port)))
            assert not select.select([waiting], [], [], 0)[0]
            other.execute("rollback")
            assert waiting.recv(12) == b"HTTP/1.1 200"
    finish(process)


def served(program: Program) -> tuple["subprocess.Popen[str]", str]:
    """A process that listens, and its address."""
    process = program.start("pages")
    assert process.stdout
    address = re.search(r"http://[\d.:]+", process.stdout.readline())
    assert address
    return process, address[0]


def listens(host: str, port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex((host, port)) == 0


def granted(program: Program) -> str:
    """The secret of a new link."""
    return program.ask("pages", "grant", "CS team").stdout.split()[0].rpartition("/")[2]
