"""What Stripe's subscriptions and invoices say of usage: the periods that are billed, and the lines of each invoice.

Stripe is the authority: the ledger keeps what was read, so that a look reads only what is new.
"""

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from orchestration.billing.meter_ledger import MeterLedger
from orchestration.ledger.tables import invoice_lines, subscription_periods


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
    quantity: int
    amount: int
    """In the currency's minor unit."""
    currency: str
    finalizes_at: datetime | None
    """When Stripe is going to finalize it; None where it is final, or people do that."""
    finalized_at: datetime | None
    seen_at: datetime


class Invoicing:
    """The subscription periods and invoice lines of one meter that were read so far."""

    def __init__(self, reports: MeterLedger) -> None:
        self._ledger, self._names = reports.ledger, {"env": reports.env, "meter": reports.event_name}

    def periods(self, ended_after: datetime) -> list[SubscriptionPeriod]:
        """Those that end after that moment, by customer and start."""
        table = subscription_periods.c
        rows = self._rows(
            subscription_periods, table.period_end > ended_after, order=[table.stripe_customer_id, table.period_start]
        )
        return [SubscriptionPeriod(**row) for row in rows]

    def lines(self, ended_after: datetime) -> list[InvoiceLine]:
        """Those of periods that end after that moment, by customer, start and id."""
        table = invoice_lines.c
        order = [table.stripe_customer_id, table.period_start, table.line_id]
        return [InvoiceLine(**row) for row in self._rows(invoice_lines, table.period_end > ended_after, order=order)]

    def save(self, periods: Iterable[SubscriptionPeriod], lines: Iterable[InvoiceLine]) -> None:
        """In the place of what was known of the same item and start, and of the same line."""
        with self._ledger.transaction() as connection:
            self._replace(connection, subscription_periods, ["subscription_item_id", "period_start"], periods)
            self._replace(connection, invoice_lines, ["line_id"], lines)

    def _rows(
        self, table: sa.Table, *conditions: sa.ColumnElement[bool], order: Sequence[sa.Column[Any]]
    ) -> list[dict[str, Any]]:
        columns = [column for column in table.c if column.name not in self._names]
        ours = [table.c[name] == value for name, value in self._names.items()]
        with self._ledger.reading() as connection:
            found = connection.execute(sa.select(*columns).where(*ours, *conditions).order_by(*order))
            return [dict(row._mapping) for row in found]

    def _replace(
        self,
        connection: sa.Connection,
        table: sa.Table,
        key: Sequence[str],
        rows: Iterable[SubscriptionPeriod] | Iterable[InvoiceLine],
    ) -> None:
        written = [{**asdict(row), **self._names} for row in rows]
        if written:
            ours = [table.c[name] == value for name, value in self._names.items()]
            named = [table.c[name] == sa.bindparam(f"of_{name}", type_=table.c[name].type) for name in key]
            keys = [{f"of_{name}": row[name] for name in key} for row in written]
            connection.execute(sa.delete(table).where(*ours, *named), keys)
            connection.execute(sa.insert(table), written)
