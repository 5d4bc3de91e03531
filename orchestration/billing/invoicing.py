"""What Stripe's subscriptions and invoices say of usage: the periods that are billed, and the lines of each invoice.

Stripe is the authority: the ledger keeps what was read, so that a look reads only what is new. What follows from it is
in finality.py and billed_periods.py; when it is read, in read_invoices.py.
"""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime
from typing import Any, Protocol

import sqlalchemy as sa

from orchestration.billing.meter_ledger import MeterLedger
from orchestration.ledger.tables import invoice_lines, subscription_periods
from orchestration.settings import Settings

DRAFT, VOID = "draft", "void"
"""States of an invoice that matter here; one in another is final."""


@dataclass(frozen=True)
class SubscriptionPeriod:
    """One billing period of a subscription's metered item, to the second: half open."""

    stripe_customer_id: str
    subscription_id: str
    subscription_item_id: str
    price_id: str
    currency: str
    period_start: datetime
    period_end: datetime
    status: str
    """Of the subscription, as Stripe says."""
    is_trial: bool
    has_threshold: bool
    """An amount from which on it is invoiced within the period."""
    ends_at: datetime | None
    """When the subscription ends, or ended."""
    seen_at: datetime


@dataclass(frozen=True)
class InvoiceLine:
    """Usage on an invoice. One of a price with tiers has a line for each tier."""

    line_id: str
    invoice_id: str
    invoice_status: str
    stripe_customer_id: str
    subscription_item_id: str
    period_start: datetime
    period_end: datetime
    """Not after the invoice was made: one that an amount triggers within a period bills what was used until then."""
    quantity: int
    amount: int
    """In the currency's minor unit."""
    currency: str
    finalizes_at: datetime | None
    """When Stripe is going to finalize it; None where it is final, or people do that."""
    finalized_at: datetime | None
    seen_at: datetime

    @property
    def is_void(self) -> bool:
        return self.invoice_status == VOID

    @property
    def is_draft(self) -> bool:
        return self.invoice_status == DRAFT


@dataclass(frozen=True)
class InvoiceReading:
    """What one list of invoices has: of how many invoices, and their lines of the meter."""

    created_at: Mapping[str, datetime] = field(default_factory=dict)
    """By id, of all that were read, also of those without a line of the meter."""
    drafts: Collection[str] = ()
    """Ids of those that are not final, with a line of the meter."""
    lines: Sequence[InvoiceLine] = ()


class Invoices(Protocol):
    """The vendor's subscriptions and invoices. The implementation is in `channels/stripe/invoices.py`."""

    requests: int
    """How many were made so far."""

    def subscriptions(
        self, meter_id: str, now: datetime, begun_since: datetime | None, ended_since: datetime
    ) -> tuple[list[SubscriptionPeriod], dict[str, str]]:
        """The current period of each item on the meter, and the lookup keys of their prices by id.

        Of subscriptions that run, or those among them whose period began since then, and those that ended since then.

        :raises StoppedError: Stripe could not be asked.
        """

    def invoices(self, items: Mapping[str, str], now: datetime, created_since: datetime) -> InvoiceReading:
        """Invoices that were made since then. `items` are the subscription items on the meter, with their customers.

        :raises StoppedError: Stripe could not be asked.
        """

    def voided(self, created_since: datetime) -> set[str]:
        """Ids of those among them that are void.

        :raises StoppedError: Stripe could not be asked.
        """


ConnectInvoices = Callable[[Settings], Invoices]
"""Gives them as the environment configures them; raises StoppedError or ValueError where they cannot be read."""


def _query(table: sa.Table, *order: str) -> sa.Select[Any]:
    """Rows of a meter whose period ended after a moment: of the parameters `env`, `meter` and `ended_after`."""
    names = ("env", "meter")
    ended_after = sa.bindparam("ended_after", type_=table.c.period_end.type)
    ours = [table.c[name] == sa.bindparam(name) for name in names]
    columns = [column for column in table.c if column.name not in names]
    return (
        sa.select(*columns).where(*ours, table.c.period_end > ended_after).order_by(*(table.c[name] for name in order))
    )


# Put together once: that takes longer than the answer.
_PERIODS = _query(subscription_periods, "stripe_customer_id", "period_start")
_LINES = _query(invoice_lines, "stripe_customer_id", "period_start", "line_id")


class Invoicing:
    """The subscription periods and invoice lines of one meter that were read so far."""

    def __init__(self, reports: MeterLedger) -> None:
        self._ledger, self._names = reports.ledger, {"env": reports.env, "meter": reports.event_name}

    def periods(self, ended_after: datetime) -> list[SubscriptionPeriod]:
        """Those that end after that moment, by customer and start."""
        return [SubscriptionPeriod(**row) for row in self._rows(_PERIODS, ended_after)]

    def lines(self, ended_after: datetime) -> list[InvoiceLine]:
        """Those of periods that end after that moment, by customer, start and id."""
        return [InvoiceLine(**row) for row in self._rows(_LINES, ended_after)]

    def save(
        self,
        periods: Iterable[SubscriptionPeriod],
        lines: Iterable[InvoiceLine],
        read: Collection[str] = (),
        gone: Collection[SubscriptionPeriod] = (),
    ) -> None:
        """In the place of what was known of the same item and start, and of the same line.

        No other line of the invoices in `read` stays, and none of the periods in `gone`.
        """
        with self._ledger.transaction() as connection:
            self._delete(connection, invoice_lines, [{"invoice_id": number} for number in sorted(read)])
            key = ["subscription_item_id", "period_start"]
            self._delete(
                connection, subscription_periods, [{name: getattr(each, name) for name in key} for each in gone]
            )
            self._replace(connection, subscription_periods, key, periods)
            self._replace(connection, invoice_lines, ["line_id"], lines)

    def _rows(self, query: sa.Select[Any], ended_after: datetime) -> list[dict[str, Any]]:
        with self._ledger.reading() as connection:
            return [
                dict(row._mapping) for row in connection.execute(query, {**self._names, "ended_after": ended_after})
            ]

    def _replace(
        self,
        connection: sa.Connection,
        table: sa.Table,
        key: Sequence[str],
        rows: Iterable[SubscriptionPeriod] | Iterable[InvoiceLine],
    ) -> None:
        written = [{**asdict(row), **self._names} for row in rows]
        if written:
            self._delete(connection, table, [{name: row[name] for name in key} for row in written])
            connection.execute(sa.insert(table), written)

    def _delete(self, connection: sa.Connection, table: sa.Table, keys: Sequence[Mapping[str, Any]]) -> None:
        if keys:
            ours = [table.c[name] == value for name, value in self._names.items()]
            named = [table.c[name] == sa.bindparam(f"of_{name}", type_=table.c[name].type) for name in keys[0]]
            connection.execute(
                sa.delete(table).where(*ours, *named),
                [{f"of_{name}": value for name, value in key.items()} for key in keys],
            )
