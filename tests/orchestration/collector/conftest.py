"""A collector with a fresh data folder."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.orchestration.collector.loopback import Collecting, settings


@pytest.fixture
def collector(tmp_path: Path) -> Iterator[Collecting]:
    with Collecting(settings(tmp_path)) as running:
        yield running
