"""A month of billing at a Stripe sandbox: usage goes there by our own plan and sender, and its invoice is compared.

A test clock makes the month pass in minutes. It starts 27 days ago and is moved to the present before usage is
reported: so every hour is in the past of the real clock and of the test clock, whichever of the two Stripe judges by,
which it does not document. Nothing of it is in the installation's ledger: a rehearsal has its own, for as long as it
runs. What is asked of the sandbox is in channels/stripe/rehearsal.py.
"""

import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory

from orchestration.billing import catalog, reporter
from orchestration.billing.catalog_rules import Action, Catalog, CatalogState, Price
from orchestration.billing.meter import Connect, Meter, StoppedError
from orchestration.billing.meter_ledger import MeterLedger
from orchestration.billing.metering import Terms, plan
from orchestration.billing.price_amounts import expected_amount, packages
from orchestration.billing.sandbox import RehearsedInvoice, RehearsedSubscription, Sandbox
from orchestration.ledger.ledger import Ledger
from orchestration.ledger.outbox import InDoubtError, RefusedError
from orchestration.settings import Settings
from orchestration.usage.formatting import counted
from orchestration.usage.periods import utc_hour

LENGTH = timedelta(days=27)
"""From the start of the clock until now: shorter than every month, and than the 35 days that Stripe takes usage for."""
EVERY = timedelta(hours=9)
"""Between two hours with usage."""
HOUR, MINUTE = timedelta(hours=1), timedelta(minutes=1)
LEAST_UNITS = 1_000
ENV = "rehearsal"
POLL_SECONDS = 5.0
PATIENCE = 120
"""Looks at what Stripe does later than it answers: ten minutes."""
REPEATS = 3
"""Runs that send what is in doubt."""


@dataclass(frozen=True)
class RehearsalVendor:
    """How the vendor is reached: what `cli/` plugs in."""

    sandbox: Callable[[Settings], Sandbox]
    """Raises ValueError where the key is a live one, or none."""
    products: catalog.ConnectProducts
    meter: Connect


@dataclass(frozen=True)
class RehearsalStep:
    """Something that was done, in a sentence."""

    subject: str
    words: str
    is_problem: bool = False


@dataclass(frozen=True)
class Comparison:
    """What was reported and what the invoice has."""

    units: int
    invoiced_units: int
    amount: int
    """By the price, each line rounded as Stripe does, in the currency's least unit."""
    invoiced_amount: int
    currency: str
    invoice: str
    lines: tuple[str, ...]
    differences: tuple[str, ...]


Say = Callable[[RehearsalStep], object]


def rehearse(
    config: Settings,
    vendor: RehearsalVendor,
    clock: Callable[[], datetime],
    say: Say,
    *,
    plan_name: str = "",
    deletes_leftovers: bool = False,
    wait: Callable[[float], object] = time.sleep,
) -> Comparison:
    """One month, step by step. The test clock is deleted at the end, and also when it is interrupted.

    :raises ValueError: no test key, or no such plan.
    :raises RefusedError, StoppedError, InDoubtError: Stripe refused a step, or gave no answer.
    :raises NothingPublishedError: no run has published plans yet.
    """
    sandbox = vendor.sandbox(config)
    for each in sandbox.leftovers():
        words = f"{each.clock} of {each.created_at:%Y-%m-%d %H:%M} UTC: a rehearsal was killed or is still running"
        if deletes_leftovers:
            sandbox.delete(each.clock)
        say(
            RehearsalStep(
                "leftover", f"{words}{'; deleted' if deletes_leftovers else '; --delete-leftovers deletes it'}"
            )
        )
    prices = _catalog(config, vendor.products, plan_name, say)
    metered = next(price for price in prices if price.meter)
    meter = vendor.meter(config)
    say(RehearsalStep("meter", f"{meter.id}, reported as {meter.mode}s"))
    now = clock()
    with _clock_at(sandbox, utc_hour(now - LENGTH), say) as test_clock, _own_ledger() as ledger:
        customer = sandbox.customer(test_clock)
        subscription = sandbox.subscribe(customer, [price.id for price in prices], metered.id)
        span = _span(subscription.start, subscription.end)
        say(RehearsalStep("subscription", f"{subscription.id} of {customer} on {metered.lookup_key}, {span}"))
        sandbox.advance(test_clock, now)
        reports = _Reports(MeterLedger(ledger, ENV, config.stripe_meter), meter, customer, clock, wait)
        month = _Month(subscription, reports, metered, say)
        month.report(now)
        sandbox.advance(test_clock, subscription.end + MINUTE)
        finalizes_at = month.report_late(sandbox.invoice(subscription), config.stripe_grace_hours)
        sandbox.advance(test_clock, finalizes_at + MINUTE)
        return month.compare(_final(sandbox, subscription, wait))


class _Month:
    """What is reported in the rehearsed month, and compared at its end."""

    def __init__(self, subscription: RehearsedSubscription, reports: "_Reports", price: Price, say: Say) -> None:
        self._subscription, self._reports, self._price, self._say = subscription, reports, price, say
        self._usage: dict[datetime, int] = {}
        self._late_hour = subscription.start

    def report(self, now: datetime) -> None:
        """Usage of the month, then corrections of two of its hours.

        Both are of the last day: older differences wait until Stripe has confirmed what was sent before.
        """
        self._late_hour = utc_hour(now) - HOUR
        hours = [self._subscription.start]
        while hours[-1] + EVERY < self._late_hour:
            hours.append(hours[-1] + EVERY)
        each = _units_of_a_month(self._price) // len(hours) + 1
        self._usage = {hour: each + 3 + number * 7 % 11 for number, hour in enumerate(hours)}
        self._send("usage", counted(len(hours), "hour"))
        self._usage[hours[-1]] += 13
        self._usage[hours[-2]] -= 3
        self._send("corrections", "one hour raised, one hour lowered")

    def report_late(self, draft: RehearsedInvoice | None, grace_hours: int) -> datetime:
        """Usage that comes when the period has ended; the moment when the invoice becomes final."""
        if draft is None:
            raise StoppedError("Stripe created no invoice at the period's end: is the subscription active?")
        finalizes_at = draft.finalizes_at
        if not draft.is_draft or finalizes_at is None:
            raise StoppedError(
                f"invoice {draft.id} does not become final automatically after a grace period: turn on automatic"
                " finalization in the sandbox's invoice settings"
            )
        grace = finalizes_at - self._subscription.end
        words = f"{draft.id}, final at {finalizes_at:%Y-%m-%d %H:%M} UTC, {grace / HOUR:.0f} h after the period"
        if grace != timedelta(hours=grace_hours):
            words += f"; HEADROOM_STRIPE_GRACE_HOURS is {grace_hours}: compare it with the live account's setting"
        self._say(RehearsalStep("draft", words))
        self._usage[self._late_hour] = 17
        self._send("late usage", "one hour within the grace period")
        return finalizes_at

    def compare(self, invoice: RehearsedInvoice) -> Comparison:
        start, end = self._subscription.start, self._subscription.end
        units = sum(self._usage.values())
        lines = [line for line in invoice.lines if line.item == self._subscription.metered_item]
        amount = expected_amount(self._price, units)
        found_units, found_amount = sum(line.quantity for line in lines), sum(line.amount for line in lines)
        differences = []
        if invoice.is_draft:
            differences.append("the invoice is still a draft")
        if found_units not in (units, packages(self._price, units)):
            differences.append(f"{counted(units, 'unit')} reported, {found_units:,} on the invoice")
        if found_amount != amount:
            differences.append(f"by the price the amount is {amount:,}, on the invoice {found_amount:,}")
        differences += [
            f"line {line.id} is of {_span(line.start, line.end)}, not of {_span(start, end)}"
            for line in lines
            if (line.start, line.end) != (start, end)
        ]
        differences += [
            f"line {line.id} is in {line.currency}, not in {self._price.currency}"
            for line in lines
            if line.currency != self._price.currency
        ]
        return Comparison(
            units,
            found_units,
            amount,
            found_amount,
            self._price.currency,
            invoice.id,
            tuple(line.id for line in lines),
            tuple(differences),
        )

    def _send(self, subject: str, words: str) -> None:
        taken, shown = self._reports.send(self._usage, self._subscription)
        units = sum(self._usage.values())
        said = f"{words}: {counted(taken, 'report')} taken, the meter shows {shown:,} of {counted(units, 'unit')}"
        self._say(RehearsalStep(subject, said, is_problem=shown != units))


class _Reports:
    """Usage of one customer through our planning and our sender, with a ledger of its own."""

    def __init__(
        self,
        ledger: MeterLedger,
        meter: Meter,
        customer: str,
        clock: Callable[[], datetime],
        wait: Callable[[float], object],
    ) -> None:
        self._ledger, self._meter, self._customer, self._clock, self._wait = ledger, meter, customer, clock, wait

    def send(self, usage: Mapping[datetime, int], subscription: RehearsedSubscription) -> tuple[int, int]:
        """Reports that were taken, and what the meter shows of the period once it has added up, or gives up waiting."""
        terms = Terms(ENV, self._ledger.event_name, self._meter.mode, self._clock())
        with self._ledger.ledger.transaction() as connection:
            for day in sorted({hour.date() for hour in usage}):
                hours = [(self._customer, hour, units) for hour, units in usage.items() if hour.date() == day]
                made = plan(hours, self._ledger.recorded(connection, day, self._meter.mode), terms)
                self._ledger.commit(connection, day, "rehearsal", made, terms.now)
        taken = 0
        for _ in range(REPEATS):
            sent = reporter.send_due(self._ledger, self._meter, self._clock)
            taken += sent.taken
            if sent.refused:
                raise RefusedError(str(sent.refusals[0].error))
            if not (sent.stopped or sent.doubtful):
                break
            self._wait(POLL_SECONDS)
        else:
            raise StoppedError(sent.stopped or f"Stripe gave no clear answer to {counted(sent.in_doubt, 'report')}")
        return taken, self._shown(sum(usage.values()), subscription.start, max(usage) + HOUR)

    def _shown(self, units: int, start: datetime, end: datetime) -> int:
        shown = self._meter.total(self._customer, start, end)
        for _ in range(PATIENCE):
            if shown == units:
                break
            self._wait(POLL_SECONDS)
            shown = self._meter.total(self._customer, start, end)
        return shown


@contextmanager
def _own_ledger() -> Iterator[Ledger]:
    """A ledger that nobody else knows, for as long as it is used."""
    with TemporaryDirectory() as folder, closing(Ledger(f"sqlite:///{Path(folder, 'ledger.sqlite')}")) as ledger:
        yield ledger


@contextmanager
def _clock_at(sandbox: Sandbox, at: datetime, say: Say) -> Iterator[str]:
    """A test clock that is deleted whatever happens. What fails meanwhile is what people should read first."""
    clock = sandbox.start(at)
    try:
        say(RehearsalStep("test clock", f"{clock}, starts at {at:%Y-%m-%d %H:%M} UTC"))
        yield clock
    finally:
        try:
            sandbox.delete(clock)
        except (RefusedError, StoppedError, InDoubtError) as error:
            words = f"{clock} may still exist: {error}. To delete it, run `headroom stripe rehearse --delete-leftovers`"
            say(RehearsalStep("test clock", words, is_problem=True))
        else:
            say(RehearsalStep("test clock", f"{clock} deleted, with its customer and invoices"))


def _final(sandbox: Sandbox, subscription: RehearsedSubscription, wait: Callable[[float], object]) -> RehearsedInvoice:
    """The invoice once it is final; the draft where that takes too long."""
    invoice = sandbox.invoice(subscription)
    for _ in range(PATIENCE):
        if invoice and not invoice.is_draft:
            break
        wait(POLL_SECONDS)
        invoice = sandbox.invoice(subscription)
    if invoice is None:
        raise StoppedError("the period's invoice disappeared")
    return invoice


def _catalog(config: Settings, connect: catalog.ConnectProducts, plan_name: str, say: Say) -> list[Price]:
    """The prices of a plan, as Stripe has them, after what was missing was made."""
    products, wanted = connect(config), catalog.wanted(config)
    wanted = _fitting(wanted, products.state(wanted))
    steps = [step for step in products.apply(wanted) if step.action in (Action.MAKE, Action.REPLACE)]
    made = Counter(step.subject.split()[0] for step in steps)
    words = ", ".join(counted(number, kind) for kind, number in made.items())
    say(RehearsalStep("catalog", f"made {words}" if made else "nothing was missing"))
    there = products.state(wanted).prices
    product = _product(wanted, plan_name)
    return [there[price.lookup_key] for price in wanted.prices if price.product == product]


def _fitting(wanted: Catalog, found: CatalogState) -> Catalog:
    """With the meter that is there, where we can report to it."""
    meter = found.meter
    is_usable = meter is not None and meter.formula == "sum" and meter.event_time_window in (None, "hour")
    return replace(wanted, meter=meter) if meter and is_usable else wanted


def _product(wanted: Catalog, plan_name: str) -> str:
    """The product of the plan; without a name, of one whose usage costs most tiers."""
    metered = {price.product: price for price in wanted.prices if price.meter}
    names = [name for name, product in wanted.products.items() if product.id in metered]
    if plan_name:
        if plan_name not in names:
            raise ValueError(f"no plan {plan_name!r} has a metered price: choose one of {', '.join(names)}")
        return wanted.products[plan_name].id
    if not names:
        raise ValueError("no plan has a metered price: `headroom stripe bootstrap` says why")
    return max(metered.values(), key=lambda price: (len(price.tiers), price.unit_amount or 0)).product


def _units_of_a_month(price: Price) -> int:
    """Enough for the last tier."""
    ends = [tier.up_to for tier in price.tiers if tier.up_to is not None]
    return max([LEAST_UNITS, 3 * price.package_units, *(end * 5 // 4 for end in ends)])


def _span(start: datetime, end: datetime) -> str:
    return f"{start:%Y-%m-%d %H:%M} to {end:%Y-%m-%d %H:%M} UTC"
