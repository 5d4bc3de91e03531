"""A real headless Chromium, driven over its DevTools protocol, for the tests that look at pages."""

import base64
import itertools
import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from urllib.request import Request, urlopen

import pytest
from websockets.sync.client import ClientConnection, connect

from tests.support.waiting import PATIENCE_SECONDS

NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")


@contextmanager
def open_browser() -> Iterator["Browser"]:
    """A browser of its own with one page. Tests skip where none is installed."""
    program = next(filter(None, map(shutil.which, NAMES)), None)
    if program is None:
        pytest.skip(f"no browser: none of {', '.join(NAMES)} is installed")
    with TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        flags = [
            *("--headless", "--remote-debugging-port=0", f"--user-data-dir={profile}", "--hide-scrollbars"),
            *("--disable-gpu", "--disable-dev-shm-usage", "--no-first-run", "--disable-background-networking"),
            *(["--no-sandbox"] if os.geteuid() == 0 else []),  # Chromium refuses root otherwise
        ]
        with subprocess.Popen([program, *flags], stderr=subprocess.PIPE, text=True) as process:
            try:
                assert process.stderr is not None
                lines = iter(process.stderr.readline, "")  # empty when the browser has ended
                address = next(filter(None, (re.match(r"DevTools listening on ws://([^/]+)/", line) for line in lines)))
                new = Request(f"http://{address[1]}/json/new", method="PUT")
                with urlopen(new, timeout=PATIENCE_SECONDS) as answer:
                    page = json.load(answer)["webSocketDebuggerUrl"]
                with connect(page, max_size=None) as socket:
                    yield Browser(socket)
            finally:
                process.terminate()


class Browser:
    """A page, driven over its socket."""

    def __init__(self, socket: ClientConnection) -> None:
        self._socket, self._numbers, self._loaded = socket, itertools.count(1), 0
        self.requested: list[str] = []
        """Addresses that pages asked for, without what they carry themselves."""
        self.complaints: list[str] = []
        """What the browser wrote to its console: faults, and what a page's policy forbids."""
        for domain in ("Page", "Network", "Log", "Runtime"):
            self._ask(f"{domain}.enable")

    def open(self, page: Path | str, width: int = 1280, height: int = 900, scheme: str = "light") -> None:
        """Load the page in a window of that size; returns when all of it is there."""
        self.show(width, height, scheme)
        with self._loading():
            self._ask("Page.navigate", url=page if isinstance(page, str) else page.as_uri())

    def show(self, width: int = 1280, height: int = 900, scheme: str = "light", media: str = "") -> None:
        """From now on in a window of that size, by day or night, on a screen or on paper (`media` is "print")."""
        self._ask("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        self._ask("Emulation.setEmulatedMedia", media=media, features=features)

    def without_scripts(self) -> None:
        """From now on no page runs one; `value` still does."""
        self._ask("Emulation.setScriptExecutionDisabled", value=True)

    def press(self, key: str, *, loads: bool = False) -> None:
        """A key of the keyboard, Tab or Enter; one that `loads` a page returns when all of it is there."""
        code = {"Tab": 9, "Enter": 13}[key]
        text = {"text": "\r"} if key == "Enter" else {}
        with self._loading() if loads else nullcontext():
            for event in ("keyDown", "keyUp"):
                self._ask("Input.dispatchKeyEvent", type=event, key=key, code=key, windowsVirtualKeyCode=code, **text)

    def despite_policy(self) -> None:
        """From now on scripts of a test run in pages that forbid scripts."""
        self._ask("Page.setBypassCSP", enabled=True)

    def value(self, expression: str) -> Any:
        """What the expression is in the page."""
        result = self._ask("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in result, result
        return result["result"].get("value")

    def picture(self, path: Path) -> None:
        """What the window shows, as PNG."""
        path.write_bytes(base64.b64decode(self._ask("Page.captureScreenshot", format="png")["data"]))

    @contextmanager
    def _loading(self) -> Iterator[None]:
        before = self._loaded
        yield
        while self._loaded == before:
            self._next()

    def _ask(self, method: str, **parameters: Any) -> dict[str, Any]:
        number = next(self._numbers)
        self._socket.send(json.dumps({"id": number, "method": method, "params": parameters}))
        while (answer := self._next()).get("id") != number:
            pass
        assert "error" not in answer, answer
        result: dict[str, Any] = answer["result"]
        return result

    def _next(self) -> dict[str, Any]:
        message: dict[str, Any] = json.loads(self._socket.recv(timeout=PATIENCE_SECONDS))
        if message.get("method") == "Network.requestWillBeSent":
            url = message["params"]["request"]["url"]
            self.requested += [] if url.startswith("data:") else [url]
        elif message.get("method") == "Page.loadEventFired":
            self._loaded += 1
        elif message.get("method") == "Log.entryAdded":
            self.complaints.append(message["params"]["entry"]["text"])
        return message
