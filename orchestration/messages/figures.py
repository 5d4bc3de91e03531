"""Figures and names as a message has them: short where one reads standing up, exact in the thread.

Exact figures of all surfaces are in usage/formatting.py. A short one is cut off, never rounded up: 99.96 % of a quota
is not 100 %, and 999,999 calls are not a million.
"""

import re
import unicodedata
from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal

from orchestration.usage import units

SHORT_FROM = 10_000
"""Below it a figure is short enough as it is."""
NAME_CHARACTERS = 60
_METER = re.compile(r" \([^()]{1,30}\)$")
"""Of a name in a message, so that a long one does not push out what follows."""
SYMBOLS = {"USD": "$", "EUR": "€", "GBP": "£"}
_TURNS = re.compile("[\u202a-\u202e\u2066-\u2069]")
"""Unicode's embeddings, overrides and isolates of writing direction: one that is not closed turns a line's figures."""
_LOCAL_NAME = re.compile("[A-Za-z]{2,}(?:[._-][A-Za-z]{2,})*")


def short(count: int, unit: str = "") -> str:
    """A figure of that unit, cut off: 9,999 or 982 k or 1.24 M; with decimals 3.4, and all of them below one."""
    exact = count * units.step(unit)
    whole = int(exact)
    if abs(exact) < SHORT_FROM:
        shown = exact if abs(exact) < 1 else exact.quantize(Decimal("0.1"), ROUND_FLOOR)
        return f"{whole:,}" if shown == whole else f"{shown.normalize():,f}"
    if abs(exact) < 1_000_000:
        return f"{whole // 1_000} k"
    scale, letter = (10**6, "M") if abs(exact) < 10**9 else (10**9, "bn")
    amount = (Decimal(whole) / scale).quantize(Decimal("0.01"), ROUND_FLOOR)
    return f"{amount:,.1f} {letter}" if amount == amount.quantize(Decimal("0.1")) else f"{amount:,} {letter}"


def percent(pct: Decimal | None, ci95_pct: Decimal | None = None) -> str:
    """A percentage, cut off: decimals only below ten and just below the cap. 79.96 is 79 %, 99.96 is 99.9 %.

    With half the width of its 95 % interval, in points, where sampled calls make it an estimate.
    """
    if pct is None:
        return "–"
    is_fine = pct < 10 or 99 <= pct < 100
    shown = pct.quantize(Decimal("0.1") if is_fine else Decimal(1), ROUND_FLOOR)
    if is_fine and shown == shown.to_integral_value():
        shown = shown.quantize(Decimal(1))
    band = f" ± {(pct * ci95_pct / 100).quantize(Decimal(1), ROUND_CEILING):,}" if ci95_pct else ""
    return f"{shown:,}{band} %"


def change(pct: Decimal | None) -> str:
    """How much more or less, with its sign: +30 %, −51 %."""
    if pct is None:
        return "–"
    return f"{'−' if pct < 0 else '+'}{percent(abs(pct))}"


def money(amount: Decimal, currency: str | None, *, is_signed: bool = False) -> str:
    """An amount as people write it: $450, −€12.50, 450 CHF. Cents only where there are some."""
    value = abs(amount)
    digits = f"{value:,.0f}" if value == value.to_integral_value() else f"{value:,.2f}"
    sign = "−" if amount < 0 else "+" if is_signed and amount else ""
    symbol = SYMBOLS.get(currency or "")
    return f"{sign}{symbol}{digits}" if symbol else f"{sign}{digits} {currency or ''}".strip()


def sums(amounts: list[tuple[str | None, Decimal]]) -> str:
    """What comes together in each currency: +$900 and +€40."""
    totals: dict[str, Decimal] = {}
    for currency, amount in amounts:
        totals[currency or ""] = totals.get(currency or "", Decimal(0)) + amount
    return " and ".join(money(total, currency, is_signed=True) for currency, total in sorted(totals.items()) if total)


def one_line(text: object, characters: int = NAME_CHARACTERS) -> str:
    """A text of somebody else's on one line, no longer than that, and without what would turn a line's figures around.

    It is empty where nothing of it can be seen: Slack refuses a message for a name of one blank.
    """
    words = " ".join(_TURNS.sub("", str(text or "")).split())
    if not any(unicodedata.category(sign)[0] not in "CZ" for sign in words):
        return ""
    return words if len(words) <= characters else f"{words[: characters - 1]}…"


def short_name(name: str, characters: int) -> str:
    """The name of an item, no longer than that. Its meter in brackets stays: Acme Tradi… (seats)."""
    if len(name) <= characters:
        return name
    meter = found[0] if (found := _METER.search(name)) else ""
    return f"{name.removesuffix(meter)[: characters - len(meter) - 1]}…{meter}"


def person(address: str | None) -> str:
    """The name of an owner: what an e-mail address says of it. Addresses are not printed."""
    local = one_line(address).partition("@")[0].strip()
    if _LOCAL_NAME.fullmatch(local) and "@" in str(address):
        return " ".join(part.capitalize() for part in re.split("[._-]", local))
    return local
