"""Prepaid credit: what is left of it once the usage that is on no invoice yet is paid, and when it is used up.

Stripe has the credit and applies it when an invoice becomes final; nothing here changes it. Between two invoices the
usage so far, at the catalog's prices, is taken off what Stripe shows. The forecast takes usage as paid when it happens:
credit that expires before its invoice is final may pay less than that. Amounts are in the currency, such as 19.99.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from decimal import ROUND_HALF_UP, Decimal
from typing import Protocol

from orchestration.billing import meters
from orchestration.settings import Settings
from orchestration.warehouse import published_copy

FOREVER = datetime.max.replace(tzinfo=UTC)
FARTHEST = timedelta(days=3_650)
"""Later than that is never."""
CENT = Decimal("0.01")
SPENDING = """
    select
        lower(overage.currency) as currency,
        overage.period_start,
        overage.period_end,
        overage.overage_value,
        overage.projected_overage_value
    from overage
    inner join stg_accounts as accounts on overage.account_id = accounts.account_id
    where overage.meter in (select unnest($meters)) and accounts.stripe_customer_id = $customer
"""


@dataclass(frozen=True)
class CreditGrant:
    """Credit that a customer was given, and what is left of it at Stripe."""

    id: str
    currency: str
    amount: Decimal
    left: Decimal
    category: str
    """paid or promotional."""
    priority: int
    """The lowest number is used first."""
    effective_at: datetime
    expires_at: datetime | None
    """None: never."""

    @property
    def end(self) -> datetime:
        return self.expires_at or FOREVER

    @property
    def turn(self) -> tuple[int, datetime, bool, datetime]:
        """In which order Stripe uses them: by priority, as it documents; the rest is our assumption."""
        return self.priority, self.end, self.category != "promotional", self.effective_at


class Credits(Protocol):
    """The vendor's prepaid credit. The implementation is in `channels/stripe/credits.py`."""

    requests: int
    """That were made so far."""

    def customers(self) -> set[str]:
        """Those that have grants which were not voided.

        :raises RefusedError, StoppedError: the vendor did not say; the message says why.
        """

    def grants(self, customer: str) -> list[CreditGrant]:
        """Those that were not voided, with what is left of each.

        :raises RefusedError, StoppedError: the vendor did not say; the message says why.
        """


ConnectCredits = Callable[[Settings], Credits]
"""Gives it as the environment configures it; raises ValueError where there is no key, or none that can be used."""


@dataclass(frozen=True)
class Spending:
    """Usage of a customer above what its plans include, in one currency."""

    so_far: Decimal
    """Of the running periods: on no invoice yet."""
    a_day: Decimal | None
    """From now on; None where nothing is known of it."""


@dataclass(frozen=True)
class RemainingCredit:
    """Of a customer in one currency."""

    currency: str
    granted: Decimal
    """What the grants had at first that have something left."""
    at_stripe: Decimal
    remaining: Decimal
    """Once the usage so far is paid."""
    a_day: Decimal | None
    burns_down_at: datetime | None
    """When nothing is left, by use or because it expires; None: never, or not known."""


def remaining_credit(config: Settings, connect: ConnectCredits, customer: str, now: datetime) -> list[RemainingCredit]:
    """A customer's credit by currency; empty where it has none.

    :raises ValueError, RefusedError, StoppedError: the vendor cannot be asked, or did not say.
    :raises NothingPublishedError: no run has published anything yet.
    """
    grants = connect(config).grants(customer)
    if not grants:
        return []
    asked = {"meters": meters.names(config), "customer": customer}
    found = published_copy.query(config.published, SPENDING, asked)
    spending: dict[str, list[Spending]] = {}
    for row in found:
        spent = spending_of(
            row["period_start"], row["period_end"], row["overage_value"], row["projected_overage_value"], now
        )
        spending.setdefault(row["currency"] or "", []).append(spent)
    currencies = sorted({grant.currency for grant in grants})
    return [each for name in currencies if (each := remaining(grants, name, together(spending.get(name, ())), now))]


def spending_of(
    start: datetime, end: datetime, so_far: Decimal | None, projected: Decimal | None, now: datetime
) -> Spending:
    """An account's overage in its period; by the forecast where there is one, else as it was until now."""
    if so_far is None:
        return Spending(Decimal(0), None)
    if projected is not None and end > now:
        return Spending(so_far, _daily(projected - so_far, end - now))
    return Spending(so_far, _daily(so_far, now - start) if now > start else None)


def together(accounts: Iterable[Spending]) -> Spending:
    """Of a customer's accounts: not known for the customer where it is not for one of them."""
    so_far, a_day = Decimal(0), Decimal(0)
    is_known = True
    for account in accounts:
        so_far += account.so_far
        a_day += account.a_day or 0
        is_known = is_known and account.a_day is not None
    return Spending(so_far, a_day if is_known else None)


def remaining(
    grants: Iterable[CreditGrant], currency: str, spending: Spending, now: datetime
) -> RemainingCredit | None:
    """What is left in a currency, and until when; None where nothing is left at Stripe."""
    open_ones = [grant for grant in grants if grant.currency == currency and grant.end > now]
    later = [replace(grant, left=grant.amount) for grant in open_ones if grant.effective_at > now]
    now_usable = [grant for grant in open_ones if grant.effective_at <= now and grant.left > 0]
    usable = sorted(now_usable, key=lambda grant: grant.turn)
    if not usable and not later:
        return None
    at_stripe = sum((grant.left for grant in usable), Decimal(0))
    after = _used(usable, spending.so_far)
    return RemainingCredit(
        currency=currency,
        granted=sum((grant.amount for grant in usable), Decimal(0)),
        at_stripe=at_stripe,
        remaining=max(at_stripe - spending.so_far, Decimal(0)),
        a_day=spending.a_day,
        burns_down_at=None if spending.a_day is None else _end([*after, *later], spending.a_day, now),
    )


def _used(grants: Sequence[CreditGrant], amount: Decimal) -> list[CreditGrant]:
    """What is left of the grants, in the order of their use, after an amount."""
    left = []
    for grant in grants:
        used = min(grant.left, amount)
        amount -= used
        left.append(replace(grant, left=grant.left - used))
    return left


def _end(grants: Sequence[CreditGrant], a_day: Decimal, now: datetime) -> datetime | None:
    """When all of them are used up or expired: from one moment at which something changes to the next."""
    left = {grant.id: grant.left for grant in grants}
    at, last = now, now + FARTHEST
    while at < last:
        open_ones = [grant for grant in grants if left[grant.id] > 0 and grant.end > at]
        if not open_ones:
            return at
        usable = sorted((grant for grant in open_ones if grant.effective_at <= at), key=lambda grant: grant.turn)
        changes = [grant.end for grant in open_ones] + [g.effective_at for g in open_ones if g.effective_at > at]
        until = min([*changes, last])
        if usable and a_day > 0:
            first = usable[0]
            days = min(left[first.id] / a_day, Decimal(FARTHEST.days))
            empty_at = at + timedelta(seconds=int(days * 86_400))
            if empty_at <= until:
                left[first.id], until = Decimal(0), max(empty_at, at)
            else:
                left[first.id] -= a_day * _days(until - at)
        at = until
    return None


def _daily(amount: Decimal, span: timedelta) -> Decimal:
    """An amount a day, to the cent: less than that a day is no forecast."""
    return (max(amount, Decimal(0)) / _days(span)).quantize(CENT, ROUND_HALF_UP)


def _days(span: timedelta) -> Decimal:
    return Decimal(int(span.total_seconds())) / 86_400
