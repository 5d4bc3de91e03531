"""Numbers, percentages and names as people read them: on every surface the same. Wording is in `messages/`."""

import re
from collections.abc import Sequence
from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal

from orchestration.usage import units


def counted(count: int, noun: str, plural: str = "", sign: str = "") -> str:
    """So many of something: 1 call, 2 calls. With `sign` "+" a difference: +1 call, -2 calls."""
    return f"{count:{sign},} {noun if abs(count) == 1 else plural or noun + 's'}"


def figure(count: int, unit: str) -> str:
    """A meter's figure to its last step, without the unit: 1,240,000 of tokens, 3.412 for 3,412 of `0.001 GB`."""
    exact = f"{count * units.step(unit):,f}"
    return exact.rstrip("0").rstrip(".") if "." in exact else exact


def amount(count: int, unit: str, singular: str = "") -> str:
    """The same with its unit: 1 call, 2 calls, 3.412 GB. Without a `singular` it is the plural without its s."""
    return f"{figure(count, unit)} {noun(count, unit, singular)}"


def noun(count: int, unit: str, singular: str = "") -> str:
    """What so many of a figure are: call, calls, GB."""
    plural = units.name(unit)
    return (singular or plural.removesuffix("s")) if count == units.steps_of_one(unit) else plural


def format_pct(pct: Decimal | None, ci95_pct: Decimal | None = None, decimals: int = 1) -> str:
    """A percentage for people, cut off and never rounded up: 79.96 is shown as 79.9 %, never as 80.0 %
    (docs/meaning/definitions.md#utilization).

    With half the width of its 95 % interval, in percent of itself, where sampled calls make it an estimate
    (docs/meaning/definitions.md#sampled-events).
    """
    if pct is None:
        return "–"
    band = f" ± {(pct * ci95_pct / 100).quantize(Decimal('0.1'), ROUND_CEILING):,}" if ci95_pct else ""
    return f"{pct.quantize(Decimal(1).scaleb(-decimals), ROUND_FLOOR):,}{band} %"


def sparkline(days: Sequence[int]) -> str:
    """Usage of complete days as bars, the largest day full height; zero is the lowest bar."""
    bars, top = "▁▂▃▄▅▆▇█", max(days, default=0)
    return "".join(bars[value * 7 // top] if top else bars[0] for value in days)


_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")
"""What moves a cursor, rings, colours, or turns the direction of writing."""


def printable(text: str, *, keeps_lines: bool = False) -> str:
    """Names are data: their control characters do not reach the terminal. `keeps_lines` spares tabs and line ends."""
    return _CONTROL.sub(lambda found: found[0] if keeps_lines and found[0] in "\t\n" else "\ufffd", text)
