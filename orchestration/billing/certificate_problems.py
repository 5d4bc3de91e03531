"""Differences that certificates have found: what finance has to know and to do, one for each customer and period."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime

from orchestration.billing.certificate import Certificate, Status
from orchestration.billing.certificate_store import Certificates
from orchestration.billing.meter_ledger import MeterLedger, meter_ledger
from orchestration.billing.usage_query import LOOK_BACK
from orchestration.billing.verdict import money
from orchestration.settings import Settings


@dataclass(frozen=True)
class CertificateProblem:
    """A customer's period that is not invoiced as it was counted."""

    stripe_customer_id: str
    period_start: datetime
    period_end: datetime
    invoice_ids: str | None
    """None: there is no invoice yet, or none at all."""
    units: int
    """Counted."""
    invoice_units: int | None
    missing_amount: int | None
    """In the currency's minor unit, by the catalog's prices; less than 0 was charged too much. None: not known."""
    currency: str | None
    cause: str
    advice: str
    final_at: datetime
    is_before_final: bool

    @property
    def money(self) -> str:
        """For people; empty where it is not known."""
        if self.missing_amount is None or self.currency is None:
            return ""
        words = "too little" if self.missing_amount > 0 else "too much"
        return f"{money(abs(self.missing_amount), self.currency.upper())} {words}" if self.missing_amount else ""

    @property
    def key(self) -> str:
        """The same as long as it is the same difference. Before the invoice is final, figures still move."""
        what = "before" if self.is_before_final else f"{self.units}/{self.invoice_units}/{self.missing_amount}"
        return f"{self.stripe_customer_id}|{self.period_start:%Y-%m-%dT%H:%M:%SZ}|{what}"


def certificate_problems(ledger: MeterLedger, now: datetime) -> list[CertificateProblem]:
    """What differs, the most money first, then the most units."""
    found = [_problem(each, now) for each in Certificates(ledger).open(now - LOOK_BACK)]
    return sorted(
        found,
        key=lambda each: (-abs(each.missing_amount or 0), -abs(each.units - (each.invoice_units or 0)), each.key),
    )


def settle_certificates(config: Settings, clock: Callable[[], datetime], name: str, note: str) -> list[Certificate]:
    """People have dealt with the differences of a customer (cus_…) or an invoice (in_…), and say how. They come back
    only with other figures.
    """
    certificates, now = Certificates(meter_ledger(config)), clock()
    found = [
        replace(each, status=Status.SETTLED, certified_at=now, difference=f"{note} (was: {each.difference})")
        for each in certificates.open(now - LOOK_BACK)
        if name in (each.stripe_customer_id, *(each.invoice_ids or "").split())
    ]
    for each in found:
        certificates.save(each)
    return found


def _problem(certificate: Certificate, now: datetime) -> CertificateProblem:
    known = (certificate.expected_amount, certificate.invoice_amount)
    missing = None if None in known else (known[0] or 0) - (known[1] or 0)
    return CertificateProblem(
        stripe_customer_id=certificate.stripe_customer_id,
        period_start=certificate.period_start,
        period_end=certificate.period_end,
        invoice_ids=certificate.invoice_ids,
        units=certificate.units,
        invoice_units=certificate.invoice_units,
        missing_amount=missing,
        currency=certificate.currency,
        cause=certificate.difference or "",
        advice=certificate.advice,
        final_at=certificate.final_at,
        is_before_final=now < certificate.final_at,
    )
