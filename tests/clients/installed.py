"""The real clients from PyPI and npm, each in a folder of its own outside the repository; kept from run to run."""

import os
import shutil
import subprocess
import sys
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path

CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "headroom-clients"
INSTALL_SECONDS = 300


class NotInstalledError(Exception):
    """It cannot be had here; the message says why."""


@dataclass(frozen=True)
class Packages:
    """What one driver needs, with pinned versions, from one package manager."""

    names: tuple[str, ...]
    is_python: bool

    @cache  # noqa: B019 - a handful of values that live as long as the tests
    def install(self) -> Path:
        """Install unless that was done before, and return the folder.

        :raises NotInstalledError: there is no package manager, no network, or no such version.
        """
        if not self.names:
            return CACHE
        version = f"python{sys.version_info.major}.{sys.version_info.minor}" if self.is_python else "node"
        folder = CACHE / version / "+".join(self.names).replace("/", "-")
        if folder.exists():
            return folder
        unfinished = folder.with_name(f".{folder.name}.{os.getpid()}")
        unfinished.mkdir(parents=True)
        try:
            _run([*(_pip() if self.is_python else _npm(unfinished)), *self.names], unfinished)
            with suppress(OSError):  # another process was faster
                unfinished.rename(folder)
        finally:
            shutil.rmtree(unfinished, ignore_errors=True)
        return folder


def python(*names: str) -> Packages:
    return Packages(names, is_python=True)


def node(*names: str) -> Packages:
    return Packages(names, is_python=False)


def node_program() -> str:
    """The path of Node.js.

    :raises NotInstalledError: there is none.
    """
    if found := shutil.which("node"):
        return found
    raise NotInstalledError("Node.js is not installed")


def _pip() -> list[str]:
    return [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--pre", "--target", "."]


def _npm(folder: Path) -> list[str]:
    node_program()
    npm = shutil.which("npm")
    if npm is None:
        raise NotInstalledError("npm is not installed")
    (folder / "package.json").write_text('{"private": true}')
    return [npm, "install", "--no-audit", "--no-fund", "--ignore-scripts", "--save-exact", "--loglevel=error"]


def _run(command: list[str], folder: Path) -> None:
    try:
        subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True, timeout=INSTALL_SECONDS)
    except subprocess.CalledProcessError as error:
        lines = error.stderr.strip().splitlines()
        raise NotInstalledError(" / ".join(lines[-3:])) from None
    except subprocess.TimeoutExpired:
        raise NotInstalledError(f"no answer within {INSTALL_SECONDS} s") from None
