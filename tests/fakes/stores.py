"""Object storage for tests: a real S3 API on loopback, and a wire to it that can be made to fail."""

import http.client
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

from tests.support.waiting import PATIENCE_SECONDS, wait_until

BUCKET = "usage"


def variables(endpoint: str) -> dict[str, str]:
    """What a process needs in its environment to speak to the server."""
    return {
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_REGION": "us-east-1",
        "AWS_ENDPOINT": endpoint,
        "AWS_ALLOW_HTTP": "true",
    }


@contextmanager
def running() -> Iterator[str]:
    """A server without buckets; its address."""
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    try:
        yield "http://{}:{}".format(*server.get_host_and_port())
    finally:
        server.stop()


@contextmanager
def bucket(endpoint: str) -> Iterator[Any]:
    """A client of the server with one empty bucket, which is gone afterwards."""
    import boto3

    client = boto3.client(
        "s3", endpoint_url=endpoint, region_name="us-east-1", aws_access_key_id="test", aws_secret_access_key="test"
    )
    client.create_bucket(Bucket=BUCKET)
    try:
        yield client
    finally:
        wait_until(lambda: _is_gone(client))


def _is_gone(client: Any) -> bool:
    """Delete the bucket. The server may still be at the last request of a process that was killed."""
    for key in keys(client):
        client.delete_object(Bucket=BUCKET, Key=key)
    try:
        client.delete_bucket(Bucket=BUCKET)
    except client.exceptions.ClientError as error:
        if error.response["Error"]["Code"] != "BucketNotEmpty":
            raise
        return False
    return True


def keys(client: Any, prefix: str = "") -> list[str]:
    pages = client.get_paginator("list_objects_v2").paginate(Bucket=BUCKET, Prefix=prefix)
    return [entry["Key"] for page in pages for entry in page.get("Contents", [])]


def content(client: Any, key: str) -> bytes:
    found: bytes = client.get_object(Bucket=BUCKET, Key=key)["Body"].read()
    return found


@dataclass
class Wire:
    """Between a client and the server. For each request `fails(method, path)` says what happens to it, if anything.

    refuse: the server never sees it. lose: the server does it, nobody hears of it. cut: half of the answer comes.
    """

    fails: Callable[[str, str], str | None] = lambda method, path: None
    requests: list[tuple[str, str]] = field(default_factory=list)
    before: Callable[[str, str], None] = lambda method, path: None
    """Called before a request is passed on; the test may wait or kill in it."""
    endpoint: str = ""

    @contextmanager
    def to(self, server: str) -> Iterator["Wire"]:
        listening = ThreadingHTTPServer(("127.0.0.1", 0), self._handler(urlsplit(server).netloc))
        listening.daemon_threads = True
        self.endpoint = f"http://127.0.0.1:{listening.server_port}"
        thread = threading.Thread(target=listening.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield self
        finally:
            listening.shutdown()
            thread.join()
            listening.server_close()

    def _handler(self, server: str) -> type[BaseHTTPRequestHandler]:
        wire = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def pass_on(self) -> None:
                body = self.rfile.read(int(self.headers.get("content-length", 0)))
                wire.requests.append((self.command, self.path))
                wire.before(self.command, self.path)
                fault = wire.fails(self.command, self.path)
                self.close_connection = True
                if fault == "refuse":
                    return
                connection = http.client.HTTPConnection(server, timeout=PATIENCE_SECONDS)
                connection.request(self.command, self.path, body, dict(self.headers))
                response = connection.getresponse()
                answer = response.read()
                connection.close()
                if fault == "lose":
                    return
                self.send_response(response.status)
                for name, value in response.getheaders():
                    if name.lower() not in ("transfer-encoding", "content-length", "connection", "date", "server"):
                        self.send_header(name, value)
                length = response.headers["content-length"] if self.command == "HEAD" else len(answer)
                self.send_header("content-length", str(length or 0))
                self.send_header("connection", "close")
                self.end_headers()
                self.wfile.write(answer[: len(answer) // 2] if fault == "cut" else answer)

            do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = pass_on  # noqa: N815 - names of the library

            def log_message(self, *_: object) -> None:
                pass

        return Handler
