"""Which file a landed one is: the same under another name, a copy, one that goes on from another, or one of its own.

It matters for events without an id, which are known by file and line. What decides is the content, and where that says
little, because it is short, what else the two have in common. How a content is read is `landing.py`'s business.
"""

import posixpath
import re
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field

from orchestration.lake.landed_file import LandedFile
from orchestration.lake.sources import SourceFile

COPY_BYTES = 4096
"""From here on nobody takes equal contents for chance. Below, 200 hosts may each have landed the same line."""
_COMPRESSION = re.compile(r"\.(gz|zst|gzip|zstd)$", re.IGNORECASE)
# .1 of logrotate, and its dateext: -20261119, .2026-11-19T13, _1764374400
_ROTATION = re.compile(
    r"([._-]\d{6,20}|[._-]\d{4}-?\d\d-?\d\d([T_-]?\d\d([:-]?\d\d)*)?Z?|\.\d{1,5})(?=(\.[a-z]+)?$)", re.IGNORECASE
)


def is_in_place(file: LandedFile, there: Mapping[str, SourceFile]) -> bool:
    """Whether the remembered `file` is still the one at its path, perhaps grown."""
    return file.is_in_place(there.get(file.path))


def rotates(before: str, path: str) -> bool:
    """Whether a log that was called `before` is called `path` after logrotate's or another one's rotation."""
    return posixpath.basename(before) != posixpath.basename(path) and _series(before) == _series(path)


def former_names(path: str) -> set[str]:
    """What a rotated or compressed log may have been called before."""
    names = {path[: match.start()] for match in re.finditer(r"[._-]", path) if match.start()}
    numbered = re.fullmatch(r"(.*\.)(\d{1,5})", _COMPRESSION.sub("", path))
    return names | ({f"{numbered[1]}{int(numbered[2]) - 1}"} if numbered else set())


def compresses(before: str, path: str) -> bool:
    """Whether a log `before` is called `path` once it is compressed."""
    return before != path and _COMPRESSION.sub("", path) == before


def _series(path: str) -> str:
    """What the names of a rotated log have in common; where it is moved to another folder, they have that as well."""
    name = _COMPRESSION.sub("", posixpath.basename(path))
    stem = _ROTATION.sub("", name, count=1)
    return stem if re.search("[a-z]", stem, re.IGNORECASE) else name


def one_each(
    found: Iterable[SourceFile], is_known: Callable[[SourceFile], bool], remembered: Callable[[list[str]], set[str]]
) -> dict[str, SourceFile]:
    """The files by path, each once: of the names of one device and inode the one that is chosen in each scan.

    A name that is known stays, whichever comes besides; then that of the file stands before that of a link.
    """
    there: dict[str, SourceFile] = {}
    names: defaultdict[tuple[int, int], list[SourceFile]] = defaultdict(list)
    for file in found:
        there[file.path] = file
        if file.device:
            names[file.device, file.inode].append(file)
    for same in (each for each in names.values() if len(each) > 1):
        known = [file for file in same if is_known(file)]
        first = remembered([file.path for file in known]) if len(known) > 1 else {file.path for file in known}
        same.sort(key=lambda file: (file.path not in first, file.is_link, file.path))
        for file in same[1:]:
            del there[file.path]
    return there


@dataclass
class Equals:
    """The files with one content, of which a new one with that content may be one."""

    every: list[LandedFile] = field(default_factory=list)
    """Those to prefer come last."""
    planned: set[str] = field(default_factory=set)
    """Paths of those that this plan hands on: nothing of them is remembered yet."""
    _by_mtime: defaultdict[int, list[LandedFile]] = field(default_factory=lambda: defaultdict(list))
    _by_name: defaultdict[str, list[LandedFile]] = field(default_factory=lambda: defaultdict(list))
    _by_series: defaultdict[str, list[LandedFile]] = field(default_factory=lambda: defaultdict(list))

    def add(self, files: Iterable[LandedFile], is_planned: bool = False) -> None:
        for file in sorted(files, key=lambda each: (each.is_complete, each.copy_of is None)):
            self.every.append(file)
            self._by_mtime[file.mtime_ns].append(file)
            self._by_name[posixpath.basename(file.path)].append(file)
            self._by_series[_series(file.path)].append(file)
            if is_planned:
                self.planned.add(file.path)

    def same(
        self, file: SourceFile, emptied: Collection[str], is_still_there: Callable[[LandedFile], bool]
    ) -> LandedFile | None:
        """The file that `file` was before it was renamed, moved, compressed, or copied to be emptied."""
        for former in reversed((*self._by_series[_series(file.path)], *self._by_mtime[file.mtime_ns])):
            if compresses(former.path, file.path):
                return former
            if former.path in self.planned or not (rotates(former.path, file.path) or _has_its_time(former, file)):
                continue
            if not is_still_there(former):
                return former
        return next((each for each in self.every if each.path in emptied), None) if emptied else None

    def copied(
        self, file: SourceFile, extent: Callable[[], tuple[int, int]], is_still_there: Callable[[LandedFile], bool]
    ) -> LandedFile | None:
        """The file that `file` is a copy of; `extent` says how many bytes and lines the content has."""
        if not self.every:
            return None
        size_bytes, lines = extent()
        if size_bytes >= COPY_BYTES:
            return self.every[-1]
        likely = [each for each in self._by_mtime[file.mtime_ns] if _has_its_time(each, file)]
        if lines > 1:
            likely += self._by_name[posixpath.basename(file.path)]
            # moved, as a store does it and one file system to another
            likely += [each for each in self.every if each.path not in self.planned and not is_still_there(each)]
        return likely[-1] if likely else None


def _has_its_time(former: LandedFile, file: SourceFile) -> bool:
    """Whether both were written to in one moment, as renaming and moving keep it. Not by the whole second: so exact
    are some file systems, and stores.
    """
    return former.mtime_ns == file.mtime_ns and bool(file.mtime_ns % 10**9) and "://" not in file.path


def goes_on(former: LandedFile, file: SourceFile, there: Mapping[str, SourceFile]) -> bool:
    """Whether `file`, if it begins with the content of `former`, is the same one, grown, renamed or repaired."""
    if former.size_bytes >= COPY_BYTES or former.is_damaged or former.path == file.path or former.inode == file.inode:
        return True
    now = there.get(former.path)
    return rotates(former.path, file.path) or (now is not None and now.stored_bytes < former.stored_bytes)
