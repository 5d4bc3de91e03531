"""A batch fits into memory, and lies where it belongs."""

import json

import pytest

from orchestration.lake import lake as lake_module
from tests.orchestration.lake.world import World
from tests.support.builders import make_event


@pytest.mark.parametrize(
    ("is_event", "line_bytes", "lines", "memory"),
    [(False, 10**6, 80, "400MB"), (True, 10**6, 80, "600MB"), (True, 5 * 10**6, 20, lake_module.MEMORY_LIMIT)],
)
def test_batch_fits_into_memory_when_its_lines_are_large(
    world: World, monkeypatch: pytest.MonkeyPatch, is_event: bool, line_bytes: int, lines: int, memory: str
) -> None:
    monkeypatch.setattr(lake_module, "MEMORY_LIMIT", memory)
    pad = "x" * line_bytes
    with (world.landing / "a.ndjson").open("w") as stream:
        for number in range(lines):
            event = make_event(uuid=str(number), properties={"account_id": "a", "pad": pad})
            stream.write((json.dumps(event) if is_event else pad) + "\n")
    [batch] = world.ingest()

    assert (batch.lines, batch.accepted) == (lines, lines * is_event)
