"""Random weeks of billing (tests/billing_faults.py), and processes that were killed for real."""

import signal
from pathlib import Path

import pytest

from tests.billing_faults import LINES, MODES, report_of, run_until_killed
from tests.fakes.stripe import FakeStripe
from tests.support import programs
from tests.support.billing_world import HOUR, METERS, SEVEN, World

BLOCKS, SEEDS = 3, 7


@pytest.mark.parametrize("block", range(BLOCKS), ids=lambda block: f"seeds from {SEEDS * block}")
@pytest.mark.parametrize("mode", MODES)
def test_every_hour_is_billed_as_it_was_used_or_is_listed_as_a_problem(mode: str, block: int) -> None:
    for seed in range(SEEDS * block, SEEDS * (block + 1)):
        tally, wrong = report_of((seed, mode))
        assert not wrong
        assert tally["hours: compared"]


@pytest.mark.parametrize("meter", METERS)
@pytest.mark.parametrize("mode", MODES)
def test_every_hour_of_another_meter_is_billed_or_listed(mode: str, meter: str) -> None:
    tally, wrong = report_of((SEEDS * BLOCKS + [*METERS].index(meter), mode), meter)
    assert not wrong
    assert tally["hours: compared"]


@pytest.mark.parametrize(
    ("mode", "line", "meter"),
    [
        ("totals", LINES // 3, ""),
        ("differences", LINES, ""),
        ("differences", LINES // 2, "data"),
        ("totals", LINES // 2, "users"),
        ("differences", LINES // 3, "peak"),
    ],
)
def test_usage_is_billed_once_when_processes_were_killed(tmp_path: Path, mode: str, line: int, meter: str) -> None:
    with FakeStripe() as stripe:
        world = World(tmp_path, stripe, meter=meter)
        stripe.add_meter(world.event_name, MODES[mode])
        ends = []
        for number, customer in enumerate(("cus_a", "cus_b", "cus_c")):
            stripe.add_customer(customer)
            world.usage |= {("a", "cus_a", SEVEN): 5 + number, (customer, customer, SEVEN - HOUR): 3}
            world.publish()
            arguments = (tmp_path, stripe.url, stripe.key, world.now.isoformat(), line + 50 * number, meter)
            ends.append(programs.run(run_until_killed, *arguments).returncode)
            world.now += HOUR
        for _ in range(3):
            world.run()
            world.now += HOUR
        assert -signal.SIGKILL in ends and set(ends) <= {-signal.SIGKILL, 0}
        assert world.totals("cus_a") == {SEVEN - HOUR: 3, SEVEN: 7}
        assert world.totals("cus_b") == world.totals("cus_c") == {SEVEN - HOUR: 3}
        assert world.problems() == {}
