"""The service that proxies ask, behind a client and behind a real nginx."""

import shutil
import socket
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import uvicorn
from starlette.testclient import TestClient

from headroom_gate import Gate, Limits
from headroom_gate.check import check_app, from_environment
from tests.gate.world import Captured, make_account, make_gate, make_snapshot
from tests.support.waiting import free_port, wait_until

NGINX = shutil.which("nginx", path="/usr/sbin:/usr/local/sbin:/usr/bin:/usr/local/bin:/opt/homebrew/bin")


def by_account(scope: Any) -> str | None:
    return dict(scope["headers"]).get(b"account", b"").decode() or None


def check_client(folder: Path, used: int, events: Captured | None = None) -> TestClient:
    app = check_app(make_gate(folder, make_account(used=used), events=events), by_account)
    return TestClient(app, headers={"account": "acme"})


def test_check_allows_with_200_and_the_fields(tmp_path: Path) -> None:
    answer = check_client(tmp_path, 812).get("/check/v1/search?q=1")
    assert (answer.status_code, answer.content) == (200, b"")
    assert answer.headers["x-ratelimit-remaining"] == "183"


def test_check_of_envoy_refuses_with_429_and_the_problem(tmp_path: Path) -> None:
    answer = check_client(tmp_path, 998).post("/check/v1/search")
    assert (answer.status_code, answer.headers["x-gate-status"]) == (429, "429")
    assert answer.json()["violated-policies"] == ["quota"]


def test_check_of_nginx_refuses_with_403_and_says_the_status_meant(tmp_path: Path) -> None:
    answer = check_client(tmp_path, 998).get("/check?refused=403", headers={"x-original-uri": "/v1/search?q=1"})
    assert (answer.status_code, answer.headers["x-gate-status"]) == (403, "429")


def test_check_weighs_an_encoded_path_as_the_api_reads_it(tmp_path: Path) -> None:
    client = check_client(tmp_path, 0)
    asked = [client.get("/check", headers={"x-original-uri": "/v1/%73earch?q=%2F"}), client.get("/check/v1/%73earch")]
    assert [answer.headers["x-ratelimit-remaining"] for answer in asked] == ["995", "990"]


def test_call_behind_a_proxy_is_metered_without_a_status(tmp_path: Path) -> None:
    events = Captured()
    check_client(tmp_path, 0, events).get("/check/v1/search")
    assert events == [{"account_id": "acme", "event": "api_call", "endpoint": "/v1/search", "weight": 5}]


def test_check_without_a_key_allows(tmp_path: Path) -> None:
    assert check_client(tmp_path, 1000).get("/check", headers={"account": ""}).status_code == 200


def test_metrics_and_health_have_their_paths(tmp_path: Path) -> None:
    client = check_client(tmp_path, 0)
    client.get("/check/v1/search")
    assert 'headroom_gate_calls_total{reason="ok"} 1' in client.get("/metrics").text
    assert [client.get(path).status_code for path in ("/healthz", "/other")] == [200, 404]


def test_service_is_set_up_by_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "limits.json"
    path.write_text(make_snapshot())
    monkeypatch.setenv("HEADROOM_GATE_LIMITS", str(path))
    monkeypatch.setenv("HEADROOM_GATE_REDIS", "redis://127.0.0.1:9/0")
    monkeypatch.setenv("HEADROOM_GATE_EVENTS", "http://127.0.0.1:9/")
    monkeypatch.setenv("HEADROOM_GATE_SPOOL", str(tmp_path / "spool"))
    assert TestClient(from_environment()).get("/healthz").status_code == 200
    assert (tmp_path / "spool").is_dir()


@pytest.mark.parametrize(("fail", "status"), [("", 200), ("open", 200), ("closed", 503)])
def test_service_without_limits_fails_as_the_environment_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fail: str, status: int
) -> None:
    monkeypatch.setenv("HEADROOM_GATE_LIMITS", str(tmp_path / "limits.json"))
    monkeypatch.setenv("HEADROOM_GATE_FAIL", fail)
    with TestClient(from_environment()) as client:
        assert client.get("/check/", headers={"x-api-key": "sk_live_4711"}).status_code == status


def test_service_with_another_way_to_fail_does_not_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEADROOM_GATE_LIMITS", str(tmp_path / "limits.json"))
    monkeypatch.setenv("HEADROOM_GATE_FAIL", "shut")
    with pytest.raises(ValueError, match="HEADROOM_GATE_FAIL is 'shut'"):
        from_environment()


def test_service_that_ends_sends_the_events_that_wait(tmp_path: Path) -> None:
    class Waiting(Captured):
        is_closed = False

        def close(self) -> None:
            self.is_closed = True

    events = Waiting()
    with TestClient(check_app(make_gate(tmp_path, events=events), by_account)) as client:
        assert client.get("/check/", headers={"account": "acme"}).status_code == 200
        assert not events.is_closed
    assert events.is_closed


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
    server {{
        listen 127.0.0.1:{port};
        {servers}
    }}
}}
"""


def snippet_of_the_docs() -> str:
    """The part of docs/gate/index.md that people copy, as it is there."""
    page = (Path(__file__).parents[2] / "docs" / "gate" / "index.md").read_text()
    return page.partition("```nginx\n")[2].partition("```")[0]


@contextmanager
def serving(app: Any) -> Iterator[int]:
    server = uvicorn.Server(uvicorn.Config(app, log_level="critical", lifespan="off"))
    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
        thread.start()
        try:
            wait_until(lambda: server.started)
            yield listening.getsockname()[1]
        finally:
            server.should_exit = True
            thread.join()


async def api(scope: Any, receive: Any, send: Any) -> None:
    """Answers 403 itself on one path."""
    status = 403 if scope["path"] == "/forbidden" else 200
    await send({"type": "http.response.start", "status": status, "headers": []})
    await send({"type": "http.response.body", "body": b"the API's own answer"})


@contextmanager
def nginx(folder: Path, gate_port: int, api_port: int) -> Iterator[str]:
    if NGINX is None:
        pytest.skip("nginx is not installed: nothing is proved about auth_request")
    port, configuration = free_port(), folder / "nginx.conf"
    servers = snippet_of_the_docs().replace("gate:8091", f"127.0.0.1:{gate_port}")
    servers = servers.replace("api:8000", f"127.0.0.1:{api_port}")
    configuration.write_text(_CONFIGURATION.format(folder=folder, port=port, servers=servers))
    process = subprocess.Popen([NGINX, "-c", str(configuration), "-p", str(folder), "-e", str(folder / "error.log")])
    try:
        wait_until(lambda: process.poll() is not None or _listens(port))
        assert process.poll() is None, (folder / "error.log").read_text()
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait()


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def test_nginx_answers_503_where_a_closed_gate_has_no_limits(tmp_path: Path) -> None:
    limits = Limits(tmp_path / "limits.json")
    limits.close()
    with (
        serving(check_app(Gate(limits, fail="closed"), by_account)) as gate_port,
        serving(api) as api_port,
        nginx(tmp_path, gate_port, api_port) as url,
    ):
        refused = httpx.get(f"{url}/v1/search", headers={"account": "acme"})
    assert (refused.status_code, refused.headers["retry-after"]) == (503, "30")
    assert refused.json() == {"status": 503, "violated-policies": []}


def test_nginx_answers_as_the_gate_says(tmp_path: Path) -> None:
    gate = make_gate(tmp_path, make_account(used=992))
    with (
        serving(check_app(gate, by_account)) as gate_port,
        serving(api) as api_port,
        nginx(tmp_path, gate_port, api_port) as url,
        httpx.Client(base_url=url, headers={"account": "acme"}) as client,
    ):
        allowed, forbidden, refused = (client.get(path) for path in ("/v1/search?q=1", "/forbidden", "/v1/search"))

    assert (allowed.status_code, allowed.text) == (200, "the API's own answer")
    assert allowed.headers["x-ratelimit-remaining"] == "3"
    assert (forbidden.status_code, forbidden.text) == (403, "the API's own answer")
    assert (refused.status_code, refused.headers["ratelimit"]) == (429, '"quota";r=2;t=1814400')
    assert refused.headers["retry-after"] == "1814400"
    assert refused.json()["violated-policies"] == ["quota"]
