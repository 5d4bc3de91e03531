"""How a period's usage is judged: is what was counted on its invoice, and if not, why? Pure: the figures are given."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal

from orchestration.billing.billed_periods import BilledPeriod
from orchestration.billing.catalog_rules import minor_digits
from orchestration.billing.certificate import Status, differences
from orchestration.usage.formatting import counted as in_words

INVOICE_LATE = timedelta(days=1)
"""An invoice that is not there so long after it should be final does not come by itself."""


@dataclass(frozen=True)
class Shown:
    """What Stripe's meter shows of the period."""

    units: int | None = None
    """None: it was not asked, or did not answer for this customer."""
    difference: str = ""
    """From what was counted, by the hour where it is known."""


@dataclass(frozen=True)
class Facts:
    """Of one period, when it is compared."""

    billed: BilledPeriod
    counted: Mapping[datetime, int]
    reported: Mapping[datetime, int]
    errors: Mapping[datetime, str]
    """Of hours, what their newest report says is wrong."""
    under_way: int
    """Hours whose report Stripe took a moment ago, or has still to take."""
    late_units: int
    """Of what was reported, what Stripe took after the invoice was final."""
    expected_amount: int | None
    is_read: bool
    """Whether subscriptions and invoices were read at all."""
    now: datetime

    @property
    def units(self) -> int:
        return sum(self.counted.values())


def judge(facts: Facts, ask: Callable[[], Shown]) -> tuple[Status, str, int | None]:
    """Status, what differs or is awaited, and what Stripe's meter shows, if it was asked."""
    billed = facts.billed
    unreported = differences(facts.counted, facts.reported, "reported", facts.errors)
    if not billed.items and facts.is_read:
        return Status.OPEN, _unbilled(facts), None
    if billed.is_trial:
        return _trial(facts, unreported)
    if billed.is_closed:
        return _invoiced(facts, unreported, ask)
    if unreported:
        return Status.OPEN, unreported, None
    if facts.under_way:
        return Status.AWAITS, f"{_are(facts.under_way, 'hour')} being reported; a later run compares", None
    shown = ask()
    if shown.difference:
        return Status.OPEN, shown.difference, shown.units
    if twice := _twice(billed):
        return Status.OPEN, twice, shown.units
    if billed.is_by_hand:
        words = (
            f"{billed.invoice_ids} is a draft that does not become final automatically: finalize it in Stripe's"
            " Dashboard"
        )
        return Status.AWAITS, words, shown.units
    if facts.now < billed.final_at + INVOICE_LATE or not facts.is_read:
        return Status.AWAITS, "" if facts.is_read else "no run has read Stripe's invoices yet", shown.units
    return Status.OPEN, _no_invoice(facts), shown.units


def _invoiced(facts: Facts, unreported: str, ask: Callable[[], Shown]) -> tuple[Status, str, int | None]:
    billed, units = facts.billed, facts.units
    on_invoice, amount, expected = billed.invoice_units or 0, billed.invoice_amount or 0, facts.expected_amount
    twice, is_equal = _twice(billed), on_invoice == units and not unreported
    told, shown = [], Shown()
    if not is_equal or twice:
        shown = ask()
        why = "; ".join(filter(None, [twice, *_causes(facts, unreported, shown)]))
        told.append(f"{in_words(units, 'unit')} counted, {on_invoice:,} on invoice {billed.invoice_ids}: {why}")
    elif expected is not None and abs(amount - expected) > rounding(billed):
        currency = billed.lines[0].currency.upper()
        told.append(
            f"invoice {billed.invoice_ids} charges {money(amount, currency)} for {in_words(units, 'unit')}, but the"
            f" plan's prices make {money(expected, currency)}"
        )
    return Status.OPEN if told else Status.CERTIFIED, "; ".join(told), shown.units


def _causes(facts: Facts, unreported: str, shown: Shown) -> list[str]:
    missing, reported = facts.units - (facts.billed.invoice_units or 0), sum(facts.reported.values())
    causes = []
    if facts.late_units:
        when = f"{facts.billed.final_at:%Y-%m-%d %H:%M} UTC"
        causes.append(f"{_are(facts.late_units, 'unit')} late for its invoice: Stripe accepted the report after {when}")
    if unreported and facts.units > reported:
        causes.append(f"{_are(facts.units - reported, 'unit')} late for its invoice: {unreported}")
    elif unreported:
        causes.append(unreported)
    if shown.difference:
        causes.append(f"an event was canceled, or another program writes to the meter: {shown.difference}")
    if not causes and missing > 0:
        causes.append(
            "Stripe accepted all of them. They may have reached its meter after the invoice was final. Or the"
            " item's price changed within the period and bills only later usage"
        )
    elif not causes and missing < 0:
        causes.append("the invoice has more than was reported: another program writes to the meter")
    return causes


def _trial(facts: Facts, unreported: str) -> tuple[Status, str, int | None]:
    amount = facts.billed.invoice_amount
    if amount:
        currency = facts.billed.lines[0].currency.upper()
        return Status.OPEN, f"it is a trial, and {facts.billed.invoice_ids} charges {money(amount, currency)}", None
    if facts.now < facts.billed.final_at:
        return Status.AWAITS, "a trial, which Stripe does not bill", None
    return (Status.OPEN, unreported, None) if unreported else (Status.CERTIFIED, "", None)


def _twice(billed: BilledPeriod) -> str:
    """Where more than one item bills the same usage."""
    items = [*billed.items, *(each for each in billed.overlapping if not each.is_trial)]
    if len(items) < 2:
        return ""
    ids = ", ".join(dict.fromkeys(f"{each.subscription_item_id} of {each.subscription_id}" for each in items))
    return f"{len(items)} items bill the same usage ({ids}): keep one of them"


def _unbilled(facts: Facts) -> str:
    billed = facts.billed
    span = f"{billed.start:%Y-%m-%d %H:%M} to {billed.end:%Y-%m-%d %H:%M} UTC"
    return f"no subscription bills the {in_words(facts.units, 'unit')} of {span}"


def _no_invoice(facts: Facts) -> str:
    billed = facts.billed
    void = " ".join(dict.fromkeys(line.invoice_id for line in billed.lines if line.is_void))
    if void:
        return f"{in_words(facts.units, 'unit')} counted, none invoiced: {void} is void"
    if any(item.ends_at and item.ends_at <= billed.end for item in billed.items):
        return (
            f"{in_words(facts.units, 'unit')} counted, none invoiced: {billed.subscription_id} was canceled at"
            " once, without a last invoice"
        )
    return f"{in_words(facts.units, 'unit')} counted, but Stripe has no invoice of {billed.subscription_id} for them"


def _are(count: int, noun: str) -> str:
    return f"{in_words(count, noun)} {'is' if count == 1 else 'are'}"


def rounding(billed: BilledPeriod) -> int:
    """By how much amounts may differ, in the minor unit: each line is rounded for itself."""
    lines = len(billed.billing_lines)
    return 0 if lines < 2 else (lines + 1) // 2


def money(amount: int, currency: str) -> str:
    """An amount of minor units, for people."""
    try:
        digits = minor_digits(currency)
    except ValueError:
        return f"{amount:,} of the smallest unit of {currency}"
    return f"{Decimal(amount).scaleb(-digits):,.{digits}f} {currency}"
