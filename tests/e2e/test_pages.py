"""`headroom pages` as a process: a link is opened over HTTP, no key is in what it prints, SIGTERM ends it quietly."""

import re
import signal
from pathlib import Path

import httpx

from tests.e2e.program import Program, finish


def test_pages_open_by_a_link_and_end_quietly(tmp_path: Path) -> None:
    program = Program(tmp_path, {"HEADROOM_PAGES_PORT": "0"})
    secret = granted(program)
    process = program.start("pages")
    assert process.stdout
    address = re.search(r"http://[\d.:]+", process.stdout.readline())
    assert address

    with httpx.Client(base_url=address[0], trust_env=False) as visitor:
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


def granted(program: Program) -> str:
    """The secret of a new link."""
    return program.ask("pages", "grant", "CS team").stdout.split()[0].rpartition("/")[2]
