"""The billing of an account's period: what was counted, reported and invoiced. It asks Stripe nothing."""

from typing import Any, NamedTuple

from orchestration.billing import meters, statements
from orchestration.billing.catalog_rules import in_major
from orchestration.billing.certificate import Certificate
from orchestration.billing.certificate_store import Certificates
from orchestration.billing.meter_ledger import MeterLedger
from orchestration.billing.metering import ReportState
from orchestration.messages.account_wording import Row
from orchestration.messages.figures import money
from orchestration.pages.asking import Asked
from orchestration.settings import Settings
from orchestration.usage.formatting import amount, counted
from orchestration.warehouse import account_page_queries as questions
from orchestration.warehouse.published_copy import query

CERTIFICATES = 6
"""Periods that have ended, the newest."""


class _Sums(NamedTuple):
    """Of the running period, over all accounts of the customer. Units are the meter's steps."""

    counted: int
    reported: int
    hours: int
    confirmed: int
    """Hours of which Stripe confirmed what was counted."""
    is_reported: bool


def billing(asked: Asked, row: Row) -> dict[str, Any]:
    """Why the meter is not billed, or what was counted and reported in the running period, and the certificates."""
    if not row["is_billed"]:
        return {"reason": f"Usage of {row['meter']} is not billed through Headroom."}
    if row["stripe_customer_id"] is None:
        return {"reason": "Not billed through Headroom: the account has no Stripe customer."}
    try:
        config = meters.settings_of(asked.settings, row["meter"])
    except LookupError:
        return {"reason": f"Usage of {row['meter']} has no meter at Stripe: stripe_meter in meters.csv names it."}
    customer, unit = row["stripe_customer_id"], row["unit"]
    [owners] = query(asked.settings.published, questions.CUSTOMER_ACCOUNTS, {"stripe_customer_id": customer})
    reports = MeterLedger(asked.ledger, config.env, config.stripe_meter)
    counted_units, reported_units, hours, confirmed, is_reported = (
        _by_the_mart(asked, row) if row["is_main"] else _by_the_ledger(config, reports, row)
    )
    figures = [
        ("Counted", amount(counted_units, unit), f"in {counted(hours, 'hour')} with usage"),
        ("Reported to Stripe", amount(reported_units, unit), ""),
        ("Confirmed by Stripe", f"{confirmed:,} of {counted(hours, 'hour')}", ""),
    ]
    return {
        "reason": "",
        "customer": customer,
        "accounts": owners["accounts"],
        "figures": figures,
        "is_reported": is_reported,
        "periods": [_certified(each, unit) for each in Certificates(reports).of_customer(customer, CERTIFICATES)],
    }


def _by_the_mart(asked: Asked, row: Row) -> _Sums:
    """Of the main meter, whose reports the warehouse has."""
    period = {name: row[name] for name in ("stripe_customer_id", "period_start", "period_end")}
    [sums] = query(asked.settings.published, questions.BILLED_SO_FAR, period)
    return _Sums(
        sums["billable_units"] or 0,
        sums["reported_units"] or 0,
        sums["hours"],
        sums["confirmed_hours"],
        bool(sums["reported_hours"]),
    )


def _by_the_ledger(config: Settings, reports: MeterLedger, row: Row) -> _Sums:
    """Of another meter, whose reports are in the ledger alone."""
    found = statements.billed(config, reports, row["stripe_customer_id"], row["period_start"], row["period_end"])
    return _Sums(
        sum(hour.counted_units for hour in found),
        sum(hour.reported_units for hour in found),
        len(found),
        sum(hour.state is ReportState.CONFIRMED and hour.counted_units == hour.reported_units for hour in found),
        any(hour.state not in (None, ReportState.PREVIEWED) for hour in found),
    )


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
