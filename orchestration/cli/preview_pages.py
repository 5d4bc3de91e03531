"""The pages that `headroom digest --preview` writes: the newest few stay, for each can be drawn once more."""

from datetime import date
from pathlib import Path

KEPT = 30
"""Pages, of so many days that somebody looked at."""


def write(folder: Path, day: date, page: str) -> Path:
    """Write the page of a day, and remove those that were written longest ago."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"digest-{day}.html"
    path.write_text(page, encoding="utf-8")
    others = [each for each in folder.glob("digest-*.html") if each != path]
    others.sort(key=lambda each: each.stat().st_mtime_ns, reverse=True)
    for old in others[KEPT - 1 :]:
        old.unlink(missing_ok=True)
    return path
