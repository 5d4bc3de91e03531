"""The short form of `make soak`: a morning of one installation, whose server and run are killed together."""

from datetime import timedelta
from pathlib import Path

import pytest

from orchestration.settings import PROJECT_ROOT
from tests.fakes.slack import FakeSlack
from tests.fakes.stripe import FakeStripe
from tests.soak.clock import Clock, NoClockError
from tests.soak.month import HOUR, START, Code, Month

SEED = 4
MORNING = START + 13 * HOUR
"""8am in New York."""


def test_run_killed_with_its_server_leaves_all_figures_right(tmp_path: Path) -> None:
    try:
        clock = Clock(tmp_path, START)
    except NoClockError as error:
        pytest.skip(str(error))
    with FakeSlack() as slack, FakeStripe() as stripe:
        month = Month(SEED, tmp_path, slack, stripe, [Code("now", PROJECT_ROOT, START)], clock=clock)
        try:
            month.begin(MORNING - timedelta(minutes=9))
            month.visit(MORNING + timedelta(minutes=1), kinds=["server", "run"])
            assert month.tally["killed: server and run"] == 1
            assert month.wrong() == []
        finally:
            month.end()
