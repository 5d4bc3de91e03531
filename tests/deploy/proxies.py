"""The examples of proxies in deploy/, started by the real programs, with ports, names and files of the test."""

import shutil
import socket
import ssl
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.client import HTTPSConnection
from pathlib import Path

import pytest

from orchestration.settings import PROJECT_ROOT
from tests.support.waiting import PATIENCE_SECONDS, free_port, wait_until

DEPLOY = PROJECT_ROOT / "deploy"
SYSTEM_PATH = "/usr/sbin:/usr/local/sbin:/usr/bin:/usr/local/bin:/opt/homebrew/bin"


def program(name: str) -> str:
    found = shutil.which(name, path=SYSTEM_PATH)
    if found is None:
        pytest.skip(f"{name} is not installed: nothing is proved about its example in deploy/")
    return found


@dataclass(frozen=True)
class Answer:
    status: int
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True)
class Proxy:
    """One that runs, with TLS."""

    port: int
    folder: Path
    logs: tuple[str, ...] = field(default=("access.log", "error.log", "proxy.log"))

    def ask(
        self, method: str, path: str, body: bytes | None = None, address: str = "127.0.0.1", **headers: str
    ) -> Answer:
        """A request on a connection of its own, from that address."""
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        connection = HTTPSConnection(
            "localhost", self.port, timeout=PATIENCE_SECONDS, context=context, source_address=(address, 0)
        )
        try:
            connection.request(method, path, body, headers)
            response = connection.getresponse()
            return Answer(response.status, {k.lower(): v for k, v in response.getheaders()}, response.read())
        finally:
            connection.close()

    def logged(self) -> str:
        """All that it has written."""
        return "".join(path.read_text() for name in self.logs if (path := self.folder / name).exists())


@contextmanager
def nginx(
    example: str, name: str, folder: Path, ports: Mapping[str, int], changed: Mapping[str, str] | None = None
) -> Iterator[Proxy]:
    """With that example of `deploy/` for `name`.example.com, and these changes of its text. `ports` are where its
    upstreams are, by their addresses.
    """
    found, openssl, port = program("nginx"), program("openssl"), free_port()
    key, certificate = folder / "key", folder / "certificate"
    subprocess.run(
        [
            *(openssl, "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"),
            *("-days", "1", "-subj", "/CN=localhost", "-keyout", str(key), "-out", str(certificate)),
        ],
        check=True,
        capture_output=True,
    )
    text = (DEPLOY / example).read_text()
    [log] = {line.split()[1] for line in text.splitlines() if line.strip().startswith("access_log")}
    for here, there in {
        f"/etc/nginx/{name}.example.com.pem": str(certificate),
        f"/etc/nginx/{name}.example.com.key": str(key),
        log: str(folder / "access.log"),
        "listen 443": f"listen 127.0.0.1:{port}",
        **{f"{address};": f"127.0.0.1:{there};" for address, there in ports.items()},
        **(changed or {}),
    }.items():
        assert here in text, here
        text = text.replace(here, there)
    unused = "".join(
        f"{name}_temp_path {folder}/{name};" for name in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    configuration = folder / "nginx.conf"
    configuration.write_text(
        f"daemon off; master_process off; pid {folder}/pid; events {{}} http {{ {unused} {text} }}"
    )
    command = [found, "-c", str(configuration), "-p", str(folder), "-e", str(folder / "error.log")]
    with _running(command, port, folder):
        yield Proxy(port, folder)


@contextmanager
def caddy(example: str, name: str, folder: Path, upstream: str, there: int) -> Iterator[Proxy]:
    """With that example of `deploy/` for `name`.example.com, whose `upstream` is at the port `there`."""
    found, port = program("caddy"), free_port()
    text = (DEPLOY / example).read_text()
    options = "\n{\n\tadmin off\n\tskip_install_trust\n\tauto_https disable_redirects\n"
    text = text.replace("\n{\n", options) if "\n{\n" in text else f"{options}}}\n{text}"
    site, address = f"\n{name}.example.com {{\n", f"reverse_proxy {upstream} "
    for here in (site, address):
        assert text.count(here) == 1, here
    text = text.replace(site, f"\nlocalhost:{port} {{\n\tbind 127.0.0.1\n\ttls internal\n")
    configuration = folder / "Caddyfile"
    configuration.write_text(text.replace(address, f"reverse_proxy 127.0.0.1:{there} "))
    with _running([found, "run", "--config", str(configuration), "--adapter", "caddyfile"], port, folder):
        yield Proxy(port, folder)


@contextmanager
def _running(command: list[str], port: int, folder: Path) -> Iterator[None]:
    log = folder / "proxy.log"
    with log.open("wb") as stream:
        process = subprocess.Popen(
            command, stdout=stream, stderr=stream, env={"HOME": str(folder), "PATH": SYSTEM_PATH}, cwd=folder
        )
    try:
        wait_until(lambda: process.poll() is not None or _listens(port))
        assert process.poll() is None, log.read_text()
        yield
    finally:
        process.terminate()
        process.wait()


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
