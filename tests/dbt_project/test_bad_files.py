"""Bad files of accounts, through real builds, to a loopback Stripe: they move no unit, and take none away."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from orchestration import settings
from orchestration.billing import report
from orchestration.channels.stripe import connect_meter
from orchestration.warehouse import published_copy
from tests.fakes.stripe import FakeStripe
from tests.support.builders import land, make_event
from tests.support.pipeline import build_marts

NOW = datetime(2026, 11, 20, 8, 5, tzinfo=UTC)
ACCOUNTS = "account_id,mrr,stripe_customer_id\n" + "".join(f"a{i},1,cus_{i}\n" for i in range(5))
CUSTOMERS = "account_id,stripe_customer_id,valid_from,valid_until\na0,cus_new,2026-11-01,\n"
BILLED = ("+billing_reconciliation_hourly", "+billable_meters_hourly", "+events_rejected", "+data_quality")
"""What billing reads."""


@pytest.fixture
def stripe(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeStripe]:
    with FakeStripe() as stripe:
        for customer in ("cus_new", *(f"cus_{i}" for i in range(5))):
            stripe.add_customer(customer)
        stripe.add_meter("api-calls", "hour")
        monkeypatch.setenv("STRIPE_API_KEY", stripe.key)
        monkeypatch.setenv("STRIPE_API_BASE", stripe.url)
        yield stripe


def billed(data: Path, stripe: FakeStripe, hours: int, monkeypatch: pytest.MonkeyPatch) -> dict[str, int]:
    """Units that Stripe has of each customer after a whole run, so many hours after the first one."""
    now = NOW + timedelta(hours=hours)
    stripe.clock = now.timestamp
    monkeypatch.setenv("HEADROOM_NOW", now.isoformat())
    build_marts(data, data / "landing", now, *BILLED)
    report.report_usage(settings.load(), connect_meter, lambda: now)
    customers = ("cus_new", *(f"cus_{i}" for i in range(5)))
    return {name: sum(map(int, stripe.totals(name, "api-calls", at_once=True).values())) for name in customers}


def test_bad_files_of_accounts_move_no_unit_at_stripe(
    data: Path, stripe: FakeStripe, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each of them did: a bad time moved units to cus_0, a bad mrr or a cut file took its customers to 0."""
    events = [make_event(f"a{i}", at=f"2026-11-20T06:{n:02}:00Z") for i in range(5) for n in range(3)]
    land(data / "landing", "a.ndjson", *events)
    (data / "accounts.csv").write_text(ACCOUNTS)
    (data / "customers.csv").write_text(CUSTOMERS)
    before = billed(data, stripe, 0, monkeypatch)
    assert before == {"cus_new": 3, "cus_0": 0, "cus_1": 3, "cus_2": 3, "cus_3": 3, "cus_4": 3}

    (data / "customers.csv").write_text(CUSTOMERS.replace("2026-11-01", "1.11.2026"))
    (data / "accounts.csv").write_text(ACCOUNTS.replace("a1,1,", "a1,lots,").replace("cus_2\n", "cus\x00_2\n"))
    assert billed(data, stripe, 1, monkeypatch) == before
    said = published_copy.query(
        data / "published.duckdb", "select landed_file, column_name from events_rejected order by all"
    )
    assert [tuple(row.values()) for row in said] == [
        ("accounts.csv", "mrr"),
        ("accounts.csv", "stripe_customer_id"),
        ("customers.csv", "valid_from"),
    ]

    (data / "accounts.csv").write_text(ACCOUNTS[: ACCOUNTS.index("a1") + 3])
    (data / "customers.csv").write_text(CUSTOMERS.partition("\n")[0])
    assert billed(data, stripe, 2, monkeypatch) == before
