"""A monitor on loopback that expects signs of life: it keeps who asked for its address."""

import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Self


class Monitor:
    """Answers each request with `status`."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        """Paths, in order."""
        self.status = 200
        monitor = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                monitor.asked.append(self.path)
                self.send_response(monitor.status)
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        self._server = HTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
        self.url = f"http://127.0.0.1:{self._server.server_port}/ping/s3cr3t"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
