"""What the figures of a meter count: whole steps of its unit, as the column `unit` of every mart says.

Which meters there are is data (dbt_project/seeds/meters.csv). A meter without decimals counts its unit (tokens, GB),
one with three counts `0.001 GB`. How a figure is written for people is in formatting.py.
"""

from decimal import Decimal

METER = "api-calls"
"""The meter that is billed, as it is called here; at Stripe its event name is a setting."""


def adds_up(aggregation: str) -> bool:
    """Whether usage counted that way adds up hour by hour; else it is a figure that is read, such as seats in use."""
    return aggregation in ("count", "sum")


def name(unit: str) -> str:
    """What is counted, in the plural: GB of `0.001 GB`, tokens of `tokens`."""
    step, _, rest = unit.partition(" ")
    return rest if _is_step(step) else unit


def step(unit: str) -> Decimal:
    """How much of it one of a figure is: 0.001 of `0.001 GB`, 1 of `tokens`."""
    first, _, rest = unit.partition(" ")
    return Decimal(first) if rest and _is_step(first) else Decimal(1)


def steps_of_one(unit: str) -> int:
    """How many of a figure are one whole unit: 1000 of `0.001 GB`."""
    return int(1 / step(unit))


def _is_step(text: str) -> bool:
    return text.startswith("0.") and text.endswith("1") and not text[2:-1].strip("0")
