"""What `headroom doctor` finds of `limits.json`: whether gates have the figures of the published copy."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

from orchestration.settings import Settings
from orchestration.usage.findings import Finding
from orchestration.warehouse import limits, published_copy

WRITTEN_WITHIN = timedelta(minutes=10)
"""After a publication. For a million accounts it takes a few seconds."""


def examine(config: Settings) -> Iterator[Finding]:
    """Nothing where there is no snapshot yet, or a run may just be writing it. There is a published copy."""
    path = limits.path_of(config.published)
    made_of = limits.copy_of(path)
    age_seconds = datetime.now(UTC).timestamp() - config.published.stat().st_mtime
    if made_of is None or age_seconds < WRITTEN_WITHIN.total_seconds():
        return
    if made_of == published_copy.version_of(config.published):
        yield Finding(f"{path.name}: of the published copy")
        return
    yield Finding(
        f"{path.name}: of the previous copy",
        f"gates get older figures than the published copy has. `headroom run` writes {path}, or its log says why not",
    )
