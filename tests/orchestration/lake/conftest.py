"""Fixtures for the tests of the store."""

from pathlib import Path

import pytest

from tests.orchestration.lake.world import World


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)
