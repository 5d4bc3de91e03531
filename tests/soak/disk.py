"""A disk that a soak makes full."""

import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

BYTES = 3 * 2**30


@contextmanager
def disk(folder: Path) -> Iterator[tuple[Callable[[int | None], object], str]]:
    """A disk of its own for the folder: what changes its size; or why there is none, where it cannot be made."""
    folder.mkdir()

    def resize(size: int | None) -> None:
        options = f"remount,size={size or BYTES}"
        subprocess.run(["mount", "-o", options, str(folder)], check=True, capture_output=True)

    try:
        command = ["mount", "-t", "tmpfs", "-o", f"size={BYTES},mode=755", "tmpfs", str(folder)]
        subprocess.run(command, check=True, capture_output=True, text=True)
    except (OSError, subprocess.CalledProcessError) as error:
        said = getattr(error, "stderr", "") or str(error)
        yield resize, f"a disk of its own needs the right to mount one: {said.strip()}"
        return
    try:
        yield resize, ""
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=False)
