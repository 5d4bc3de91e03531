"""Shell blocks of the pages that send an event work when they are pasted."""

import os
import re
import shlex
import shutil
import subprocess
import sys
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tests.orchestration.lake.world import World
from tests.support.waiting import PATIENCE_SECONDS, free_port

ROOT = Path(__file__).parents[1]
PAGES = ("README.md", "docs/data-in/http.md")
BLOCK = re.compile(r"^```sh\n(.*?)^```", re.MULTILINE | re.DOTALL)
"""A block of `console` shows prompts and answers, and is not for pasting."""


def sending_blocks() -> list[tuple[str, str]]:
    """Page and text of the blocks that start a collector."""
    return [
        (page, block)
        for page in PAGES
        for block in BLOCK.findall((ROOT / page).read_text(encoding="utf-8"))
        if "headroom collect" in block
    ]


def test_some_page_shows_how_to_send_an_event() -> None:
    assert "README.md" in {page for page, _ in sending_blocks()}


@pytest.mark.parametrize(("page", "block"), sending_blocks(), ids=[page for page, _ in sending_blocks()])
def test_block_that_sends_an_event_works_when_pasted(page: str, block: str, tmp_path: Path) -> None:
    for program in ("bash", "curl", "openssl"):
        if shutil.which(program) is None:
            pytest.skip(f"{program} is not installed: nothing is proved about the example of {page}")
    port = free_port()
    block = block.replace(":8080", f":{port}").replace(".venv/bin/headroom", "headroom")
    assert f":{port}" in block
    headroom = tmp_path / "bin" / "headroom"
    headroom.parent.mkdir()
    headroom.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m orchestration.cli.main "$@"\n')
    headroom.chmod(0o755)
    environment = {
        "PATH": f"{headroom.parent}:{os.environ['PATH']}",
        "HEADROOM_DATA": str(tmp_path),
        "HEADROOM_COLLECT_PORT": str(port),
    }
    shell = subprocess.run(
        ["bash", "--norc"],
        input=f"{block}wait\n",
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=PATIENCE_SECONDS,
    )
    assert '{"accepted":1,"quarantined":0}' in shell.stdout, shell.stderr

    world = World(tmp_path)
    world.ingest(now=datetime.now(UTC))
    assert Counter(world.calls("account_id")) == {"acme": 1}
