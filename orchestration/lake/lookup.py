"""What a scan found against what is remembered: which files to look at, and which known ones each may go on from.

Asks for what is remembered of the files that changed, never for all. What decides among them is `identity.py`.
"""

import hashlib
from collections.abc import Callable, Iterable

from orchestration.lake import formats, identity
from orchestration.lake.identity import Equals
from orchestration.lake.landed_file import LandedFile
from orchestration.lake.remembered import Remembered
from orchestration.lake.sources import SourceFile

HEAD_BYTES = 512
"""By so much of its beginning a content is found again under whatever name, or by its first line if it is shorter."""


def heads_of(beginning: bytes) -> list[str]:
    """Hashes by which a content with this beginning is found; the first one is remembered of it, where there is one."""
    heads = [beginning[:HEAD_BYTES]] if len(beginning) >= HEAD_BYTES else []
    line_end = beginning.find(b"\n", 0, HEAD_BYTES) + 1
    heads += [beginning[:line_end]] if line_end else []
    return [hashlib.sha256(head).hexdigest() for head in heads]


class Lookup:
    """One plan's questions, each asked once."""

    def __init__(
        self, found: Iterable[SourceFile], known: Remembered, begins_with: Callable[[SourceFile, LandedFile], bool]
    ) -> None:
        self._begins_with = begins_with
        self._still_there: dict[str, bool] = {}
        self._known = known
        stamps = known.stamps()

        def is_known(file: SourceFile) -> bool:
            stamp = stamps.get(file.path)
            return stamp is not None and stamp.inode == file.inode and stamp.stored_bytes <= file.stored_bytes

        self.refused = {each.path: each for each in known.refused()}
        outdated = {path for path, file in self.refused.items() if file.format != formats.REFUSED}
        self.there = identity.one_each(found, is_known, self._own)
        news = [
            file
            for file in self.there.values()
            if (stamp := stamps.get(file.path)) is None
            or not stamp.is_of(file)
            or not stamp.is_complete
            or file.path in outdated
        ]
        self.before = {each.path: each for each in self._find("path", [file.path for file in news])}
        self._emptied = [each for each in self.before.values() if not self.is_in_place(each)]
        self._emptied = [each for each in self._emptied if self.there[each.path].stored_bytes < each.stored_bytes]
        self.emptied = {each.path for each in self._emptied}
        # Names that stand for another file by now come last: what is known of the file that had them is still needed.
        self.news = sorted(
            (file for file in news if file.stored_bytes),
            key=lambda file: file.path in self.before and not self.is_in_place(self.before[file.path]),
        )
        moved = self._find("inode", {file.inode for file in self.news})
        self._by_inode = {each.inode: each for each in moved if not self.is_in_place(each)}
        unknown = [file.path for file in self.news if file.path not in self.before]
        names = set().union(*map(identity.former_names, unknown)) if unknown else set()
        self._by_name = {each.path: each for each in self._find("path", names)}
        self._damaged = (
            [each for each in known.damaged() if each.is_damaged and not each.is_refused] if self.news else []
        )
        self._by_head: dict[str, list[LandedFile]] = {}
        self._equals: dict[str, Equals] = {}
        self._owners: dict[str, str] = {}

    def is_in_place(self, file: LandedFile) -> bool:
        return identity.is_in_place(file, self.there)

    def is_still_there(self, file: LandedFile) -> bool:
        """The same, where its content says so: a new file often has the inode of one that was removed."""
        now = self.there.get(file.path)
        if not now or not self.is_in_place(file) or now == file.found:
            return now is not None and now == file.found
        if file.path not in self._still_there:
            try:
                self._still_there[file.path] = self._begins_with(now, file)
            except (OSError, ValueError):
                self._still_there[file.path] = True
        return self._still_there[file.path]

    def earlier(self, file: SourceFile, heads: Iterable[str] = ()) -> list[LandedFile]:
        """The known files that `file` may be by now, grown, renamed, compressed or repaired."""
        before, by_inode = self.before.get(file.path), self._by_inode.get(file.inode)
        named = [self._by_name[name] for name in identity.former_names(file.path) if name in self._by_name]
        named = [each for each in named if not self.is_still_there(each)]
        likely = [each for each in (before, by_inode, *self._emptied, *self._damaged, *named) if each]
        for head in heads:
            if head not in self._by_head:
                same = self._find("head_sha256", [head])
                self._by_head[head] = [each for each in same if self.there.get(each.path) != each.found]
            others = (each for each in self._by_head[head] if each.path != file.path)
            likely += [each for each in others if not self.is_still_there(each)]
        return [each for each in likely if identity.goes_on(each, file, self.there)]

    def equals(self, sha256: str) -> Equals:
        """The files with that content."""
        if sha256 not in self._equals:
            self._equals[sha256] = Equals()
            self._equals[sha256].add(self._find("sha256", [sha256]))
        return self._equals[sha256]

    def owner(self, origin: str, path: str) -> str:
        """The path whose new lines go on with that origin: of two files that have it, the one that was read further.

        Two files that go on from one content have different lines with the same numbers.
        """
        if origin not in self._owners:
            owning = [each for each in self._find("origin", [origin]) if self.is_in_place(each) and not each.is_damaged]
            self._owners[origin] = max(owning, key=lambda each: each.read_lines).path if owning else path
        return self._owners[origin]

    def uncounted(self) -> list[LandedFile]:
        """The copies that are there beside what they are copies of."""
        copies = [each for each in self._known.copies() if self.there.get(each.path) == each.found]
        firsts = {each.path: each for each in self._find("path", {each.copy_of for each in copies})}
        return [
            each
            for each in copies
            if (first := firsts.get(str(each.copy_of))) and self.is_in_place(first) and first.inode != each.inode
        ]

    def _own(self, paths: list[str]) -> set[str]:
        """The path of which most was read, and not of a copy."""
        known = self._find("path", paths)
        best = max(known, key=lambda each: (each.copy_of is None, each.read_lines, each.path), default=None)
        return {best.path} if best else set()

    def _find(self, column: str, values: Iterable[object]) -> list[LandedFile]:
        return [each for each in self._known.find(column, values) if not each.is_refused]
