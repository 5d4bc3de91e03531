"""The short form of `make soak`: three days of one installation, visited six times, whose processes are killed."""

from datetime import timedelta
from pathlib import Path

import pytest

from orchestration.settings import PROJECT_ROOT
from tests.fakes.slack import FakeSlack
from tests.fakes.stripe import FakeStripe
from tests.soak.clock import Clock, NoClockError
from tests.soak.month import START, Code, Month

SEED = 4
MORNING = START + timedelta(hours=13, minutes=6)
"""8:06 in New York."""


def test_killed_processes_leave_counts_stripe_and_messages_right(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    try:
        clock = Clock(tmp_path, START)
    except NoClockError as error:
        pytest.skip(str(error))
    with FakeSlack() as slack, FakeStripe() as stripe:
        month = Month(SEED, tmp_path, slack, stripe, [Code("now", PROJECT_ROOT, START)], clock=clock)
        try:
            month.visit(MORNING, trouble="kill")
            month.recover(MORNING, hours=[1])
            assert month.wrong() == []
            assert sum(number for name, number in month.tally.items() if name.startswith("killed: "))
        finally:
            month.end()
