"""A process that sends events by one of our snippets."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from orchestration.settings import PROJECT_ROOT
from tests.clients import installed
from tests.orchestration.collector import loopback

SNIPPETS = PROJECT_ROOT / "orchestration" / "collector" / "snippets"
DRIVERS = Path(__file__).parent / "drivers"
SECONDS = 60
TYPESCRIPT = installed.node("typescript@7.0.2", "@types/node@26.6.7")
CHECKED = ("--erasableSyntaxOnly", "--noUnusedLocals", "--noFallthroughCasesInSwitch", "--noImplicitReturns")
AS_NODE_20_RUNS_IT = ("--target", "es2022")


@dataclass(frozen=True)
class Producer:
    """A driver of one of the snippets, and how it is started."""

    program: tuple[str, ...]
    snippet: Path

    @contextmanager
    def started(self, port: int, captures: list[dict[str, Any]], **options: Any) -> Iterator["subprocess.Popen[str]"]:
        driver_input = {
            "url": f"http://127.0.0.1:{port}/v1/analytics/my-api/",
            "key": loopback.KEY,
            "events": [],
            "snippet": str(self.snippet),
            "captures": captures,
            **options,
        }
        process = subprocess.Popen(
            self.program,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={"PATH": os.environ["PATH"]},
        )
        assert process.stdin is not None
        process.stdin.write(json.dumps(driver_input))
        process.stdin.close()
        process.stdin = None
        try:
            yield process
        finally:
            process.kill()
            process.communicate()

    def run(self, port: int, captures: list[dict[str, Any]], **options: Any) -> dict[str, Any]:
        """Capture, close within `close_seconds`, and return what the snippet says then."""
        with self.started(port, captures, **{"close_seconds": SECONDS, **options}) as process:
            return last_words(process)


PYTHON = Producer((sys.executable, "-S", str(DRIVERS / "snippet.py")), SNIPPETS / "headroom_events.py")


def last_words(process: "subprocess.Popen[str]") -> dict[str, Any]:
    """The last words of a producer."""
    stdout, stderr = process.communicate(timeout=SECONDS)
    assert process.returncode == 0, stderr
    words: dict[str, Any] = json.loads(stdout.splitlines()[-1]) if stdout else {}
    return words


def compile_in_new_project(typescript: installed.Packages, folder: Path, *options: str) -> Path:
    """With the strict defaults that `tsc --init` writes, and stricter."""
    try:
        modules = typescript.install() / "node_modules"
        tsc = (installed.node_program(), str(modules / "typescript" / "bin" / "tsc"))
    except installed.NotInstalledError as reason:
        pytest.skip(f"TypeScript cannot be installed: {reason}")
    (folder / "node_modules").symlink_to(modules)
    (folder / "package.json").write_text('{"type": "module"}')
    shutil.copy(SNIPPETS / "headroom-events.ts", folder)
    for arguments in (["--init"], ["--project", ".", *CHECKED, *options]):
        outcome = subprocess.run([*tsc, *arguments], capture_output=True, text=True, cwd=folder)
        assert outcome.returncode == 0, outcome.stdout
    return folder / "headroom-events.js"
