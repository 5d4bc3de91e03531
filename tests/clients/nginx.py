"""A real nginx in front of the collector, with nginx's own defaults for what it passes on."""

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.orchestration.collector import loopback
from tests.support.waiting import free_port, wait_until

PROGRAM = shutil.which("nginx", path="/usr/sbin:/usr/local/sbin:/usr/bin:/usr/local/bin:/opt/homebrew/bin")
MAX_BODY_BYTES = 64 << 20
_CONFIGURATION = """
daemon off;
master_process off;
pid {folder}/nginx.pid;
error_log {folder}/error.log;
events {{}}
http {{
    access_log off;
    client_body_temp_path {folder}/bodies;
    proxy_temp_path {folder}/answers;
    fastcgi_temp_path {folder}/unused;
    uwsgi_temp_path {folder}/unused;
    scgi_temp_path {folder}/unused;
    client_max_body_size {max_body_bytes};
    server {{
        listen 127.0.0.1:{port};
        location / {{
            proxy_pass http://127.0.0.1:{collector_port};
            {directives}
        }}
    }}
}}
"""


@contextmanager
def in_front(collector_port: int, folder: Path, directives: str = "") -> Iterator[int]:
    """The port of an nginx that passes all on to the collector. Skips where nginx is not installed."""
    if PROGRAM is None:
        pytest.skip("nginx is not installed: nothing is proved about a proxy in front of the collector")
    folder.mkdir()
    port = free_port()
    given = {"folder": folder, "port": port, "collector_port": collector_port, "directives": directives}
    configuration = folder / "nginx.conf"
    configuration.write_text(_CONFIGURATION.format(max_body_bytes=MAX_BODY_BYTES, **given))
    process = subprocess.Popen([PROGRAM, "-c", str(configuration), "-p", str(folder), "-e", str(folder / "error.log")])
    try:
        wait_until(lambda: process.poll() is not None or _is_ready(port))
        assert process.poll() is None, (folder / "error.log").read_text()
        yield port
    finally:
        process.terminate()
        process.wait()


def _is_ready(port: int) -> bool:
    try:
        return loopback.request(port, "/healthz", method="GET").status == 200
    except OSError:
        return False
