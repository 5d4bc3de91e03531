"""What each batch says of itself: which bytes of which landing files it holds."""

import json
from dataclasses import dataclass, field
from pathlib import Path

from orchestration.lake.landed_file import LandedFile

NAME = "manifest.json"


@dataclass
class Batch:
    """One committed batch: its manifest."""

    number: int
    ingested_at: str
    files: list[LandedFile] = field(default_factory=list)
    lines: int = 0
    accepted: int = 0
    duplicates: int = 0
    rejected: dict[str, int] = field(default_factory=dict)
    generation: int = 0
    """Counts the replays of the quarantine: rows of `rejected.parquet` hold as long as there is no later one."""

    def as_json(self) -> str:
        """What `from_json` reads."""
        return json.dumps({**vars(self), "files": [vars(file) for file in self.files]})

    @classmethod
    def from_json(cls, text: str) -> "Batch":
        content = json.loads(text)
        return cls(**{**content, "files": [LandedFile(**file) for file in content["files"]]})


def after(batches: Path, number: int) -> list[Batch]:
    """The batches with a number above that, oldest first."""
    names = sorted((path.name for path in batches.glob("[0-9]*") if int(path.name) > number), key=int)
    return [Batch.from_json((batches / name / NAME).read_text()) for name in names]


def of(batches: Path, number: int) -> Batch | None:
    """The batch of that number, None where there is none."""
    try:
        return Batch.from_json((batches / f"{number:06d}" / NAME).read_text())
    except FileNotFoundError:
        return None
