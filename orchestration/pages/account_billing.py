"""The billing of an account's period: what was counted, reported and invoiced. It asks Stripe nothing."""

from typing import Any

from orchestration.billing.catalog_rules import in_major
from orchestration.billing.certificate import Certificate
from orchestration.billing.certificate_store import Certificates
from orchestration.billing.meter_ledger import MeterLedger
from orchestration.messages.account_wording import Row
from orchestration.messages.figures import money
from orchestration.pages.asking import Asked
from orchestration.usage.formatting import amount, counted
from orchestration.warehouse import account_page_queries as questions
from orchestration.warehouse.published_copy import query

CERTIFICATES = 6
"""Periods that have ended, the newest."""


def billing(asked: Asked, row: Row) -> dict[str, Any]:
    """Why the meter is not billed, or what was counted and reported in the running period, and the certificates."""
    if reason := _not_billed(asked, row):
        return {"reason": reason}
    published, customer = asked.settings.published, row["stripe_customer_id"]
    period = {"period_start": row["period_start"], "period_end": row["period_end"]}
    [sums] = query(published, questions.BILLED_SO_FAR, {"stripe_customer_id": customer, **period})
    [owners] = query(published, questions.CUSTOMER_ACCOUNTS, {"stripe_customer_id": customer})
    unit, hours = row["unit"], sums["hours"]
    certificates = Certificates(MeterLedger(asked.ledger, asked.settings.env, asked.settings.stripe_meter))
    figures = [
        ("Counted", amount(sums["billable_units"] or 0, unit), f"in {counted(hours, 'hour')} with usage"),
        ("Reported to Stripe", amount(sums["reported_units"] or 0, unit), ""),
        ("Confirmed by Stripe", f"{sums['confirmed_hours']:,} of {counted(hours, 'hour')}", ""),
    ]
    return {
        "reason": "",
        "customer": customer,
        "accounts": owners["accounts"],
        "figures": figures,
        "is_reported": bool(sums["reported_hours"]),
        "periods": [_certified(each, unit) for each in certificates.of_customer(customer, CERTIFICATES)],
    }


def _not_billed(asked: Asked, row: Row) -> str:
    billed = asked.settings.billed_meter
    if (row["meter"] != billed) if billed else not row["is_main"]:
        if row["is_billed"]:
            return f"Usage of {row['meter']} has a Stripe meter of its own. This page shows that of the main meter."
        return f"Usage of {row['meter']} is not billed through Headroom."
    if row["stripe_customer_id"] is None:
        return "Not billed through Headroom: the account has no Stripe customer."
    return ""


def _certified(each: Certificate, unit: str) -> dict[str, Any]:
    invoiced = ""
    if each.invoice_amount is not None and each.currency:
        invoiced = money(in_major(each.invoice_amount, each.currency), each.currency.upper())
    return {
        "start": each.period_start,
        "end": each.period_end,
        "counted": amount(each.units, unit),
        "reported": amount(each.reported_units, unit),
        "invoiced": "–" if each.invoice_units is None else amount(each.invoice_units, unit),
        "money": invoiced,
        "status": str(each.status),
        "sentence": each.sentence,
    }
