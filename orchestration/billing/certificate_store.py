"""The ledger's certificates: one for each customer and usage period that has ended, as it was last compared."""

from collections.abc import Iterable
from dataclasses import asdict
from datetime import datetime

import sqlalchemy as sa

from orchestration.billing.certificate import Certificate, Status
from orchestration.billing.meter_ledger import MeterLedger
from orchestration.ledger.tables import meter_certificates

TABLE = meter_certificates.c


class Certificates:
    """Those of one environment's reports to one meter."""

    def __init__(self, reports: MeterLedger) -> None:
        self._ledger, self._names = reports.ledger, {"env": reports.env, "meter": reports.event_name}
        self._ours = (TABLE.env == reports.env, TABLE.meter == reports.event_name)

    def since(self, ended_after: datetime) -> dict[tuple[str, datetime], Certificate]:
        """By customer and start of the period, those of periods that ended after that moment."""
        columns = [column for column in TABLE if column.name not in self._names]
        with self._ledger.reading() as connection:
            rows = connection.execute(sa.select(*columns).where(*self._ours, TABLE.period_end > ended_after))
            found = [Certificate(**{**row._mapping, "status": Status(row.status)}) for row in rows]
        return {(each.stripe_customer_id, each.period_start): each for each in found}

    def of_customer(self, customer: str, limit: int) -> list[Certificate]:
        """Those of one customer, the newest period first."""
        columns = [column for column in TABLE if column.name not in self._names]
        query = (
            sa.select(*columns)
            .where(*self._ours, TABLE.stripe_customer_id == customer)
            .order_by(TABLE.period_start.desc())
            .limit(limit)
        )
        with self._ledger.reading() as connection:
            return [Certificate(**{**row._mapping, "status": Status(row.status)}) for row in connection.execute(query)]

    def open(self, ended_after: datetime) -> list[Certificate]:
        """Those that differ, of periods that ended after that moment."""
        return [each for each in self.since(ended_after).values() if each.status is Status.OPEN]

    def drop(self, keys: Iterable[tuple[str, datetime]]) -> None:
        """Forget those of customers' periods that are none any more."""
        rows = [{"customer": customer, "start": start} for customer, start in keys]
        if rows:
            key = (
                TABLE.stripe_customer_id == sa.bindparam("customer"),
                TABLE.period_start == sa.bindparam("start", type_=TABLE.period_start.type),
            )
            with self._ledger.transaction() as connection:
                connection.execute(sa.delete(meter_certificates).where(*self._ours, *key), rows)

    def save(self, certificate: Certificate) -> None:
        """In the place of the one before of that customer and period."""
        row = {**asdict(certificate), **self._names}
        key = (TABLE.stripe_customer_id == row["stripe_customer_id"], TABLE.period_start == row["period_start"])
        with self._ledger.transaction() as connection:
            connection.execute(sa.delete(meter_certificates).where(*self._ours, *key))
            connection.execute(sa.insert(meter_certificates), [row])
