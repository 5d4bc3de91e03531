"""A difference between an invoice and the count, for finance. Sent once, and again with other figures."""

from datetime import datetime

from orchestration.messages.message import Line, Message, Section
from orchestration.usage.formatting import counted

AUDIENCE = "finance"
KIND = "invoice"
"""What the key of each begins with."""


def invoice_message(
    key: str,
    customer: str,
    period: tuple[datetime, datetime],
    invoices: str | None,
    units: int,
    invoice_units: int | None,
    money: str,
    cause: str,
    advice: str,
) -> Message:
    """The notice of one customer's period."""
    start, end = period
    on = "not invoiced yet" if invoice_units is None else f"{invoice_units:,} on the invoice"
    head = f"{customer}: {counted(units, 'unit')} counted, {on}"
    facts = [f"Period: {start:%Y-%m-%d %H:%M} to {end:%Y-%m-%d %H:%M} UTC"]
    facts += [f"Invoice: {invoices}"] if invoices else []
    facts += [f"Money: {money}"] if money else []
    facts += [f"Why: {cause}", f"Next: {advice}"]
    return Message(
        key=f"{KIND}|{key}",
        audience=AUDIENCE,
        title="An invoice differs from the count",
        headline=f"{head}. {advice}",
        sections=[Section("", [Line(fact) for fact in facts])],
        footer=["`headroom stripe problems` lists all differences. This one is sent again only if its figures change"],
    )
