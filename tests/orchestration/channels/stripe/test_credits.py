"""Prepaid credit as the real SDK reads it, and what `headroom stripe explain` says of it."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from stripe import StripeClient

from orchestration.billing.meter import StoppedError
from orchestration.billing.read_credit import read_credit
from orchestration.channels.stripe import connect_credits
from orchestration.channels.stripe.credits import StripeCredits
from orchestration.cli.console import console
from orchestration.cli.stripe_credit import print_credit
from orchestration.ledger.outbox import RefusedError
from orchestration.settings import load
from tests.fakes.stripe_catalog import CatalogStripe
from tests.support.duckdb_file import memory, opened

NOW = datetime(2026, 11, 20, tzinfo=UTC)
DAY = timedelta(days=1)
UNIX = int(NOW.timestamp())
OVERAGE = """
    create or replace table overage as select
        'acme' as account_id, 'api-calls' as meter, 'USD' as currency, timestamp '2026-11-01' as period_start,
        timestamp '2026-12-01' as period_end, 30.00 as overage_value, 140.00 as projected_overage_value
"""


@pytest.fixture
def customer(published: Path, stripe: CatalogStripe, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Has used 30.00 this month, and uses 10.00 a day."""
    monkeypatch.setenv("HEADROOM_NOW", NOW.isoformat())
    stripe.clock = lambda: UNIX
    stripe.add_customer("cus_1")
    with opened(published) as connection:
        connection.execute("insert into stg_accounts values ('acme', 'Acme', 'cus_1', 'starter', false, false)")
        connection.execute(OVERAGE)
    yield "cus_1"


def said(customer: str) -> str:
    with console.capture() as captured:
        print_credit(load(), customer)
    return captured.get()


def test_grants_are_read_with_what_is_left_of_each(customer: str, stripe: CatalogStripe, client: StripeClient) -> None:
    for number in range(12):
        stripe.credits.grant(customer, 1_000 + number, currency="jpy" if number else "usd", priority=number)
    gone = stripe.credits.grant(customer, 5, expires_at=UNIX + 86_400, category="promotional")
    stripe.credits.objects[gone["id"]]["voided_at"] = UNIX

    found = StripeCredits(client).grants(customer)

    assert len(found) == 12
    [first] = [grant for grant in found if grant.currency == "usd"]
    assert (first.amount, first.left, first.priority, first.expires_at) == (Decimal(10), Decimal(10), 0, None)
    assert {grant.left for grant in found if grant.currency == "jpy"} == {Decimal(1_000 + n) for n in range(1, 12)}


def test_errors_are_sentences(customer: str, stripe: CatalogStripe, client: StripeClient) -> None:
    stripe.keys[stripe.key] = {"billing_meter_read"}
    with pytest.raises(RefusedError, match="give the key the permission credit_grant_read"):
        StripeCredits(client).grants(customer)
    stripe.is_down = True
    with pytest.raises(StoppedError, match="no answer from Stripe"):
        StripeCredits(client).grants(customer)


def test_explain_says_what_is_left_and_until_when(customer: str, stripe: CatalogStripe) -> None:
    assert said(customer) == ""
    stripe.credits.grant(customer, 10_000)
    stripe.credits.grant(customer, 2_000, expires_at=UNIX + 5 * 86_400)
    assert said(customer) == (
        "Prepaid credit: 90.00 USD left of 120.00, after 30.00 of usage that is not invoiced yet. At 10.00 USD"
        " a day it runs out or expires about 2026-11-29.\n"
    )


def test_explain_goes_on_when_stripe_does_not_say(
    customer: str, stripe: CatalogStripe, monkeypatch: pytest.MonkeyPatch
) -> None:
    stripe.is_down = True
    assert said(customer).startswith("Prepaid credit unknown: no answer from Stripe")
    monkeypatch.delenv("STRIPE_API_KEY")
    assert said(customer) == ""


def test_all_credit_is_read_once_a_day_into_the_lake(customer: str, stripe: CatalogStripe) -> None:
    for name in ("cus_2", "cus_3"):
        stripe.add_customer(name)
    grant = stripe.credits.grant(customer, 10_000)
    voided = stripe.credits.grant("cus_3", 10_000)
    stripe.credits.objects[voided["id"]]["voided_at"] = UNIX
    config = load()
    credit = config.lake / "prepaid_credit" / "credit.parquet"

    assert read_credit(config, connect_credits, lambda: NOW) == 1
    with memory() as connection:
        connection.execute("set TimeZone = 'UTC'")
        [row] = connection.execute(f"select * exclude read_at from '{credit}'").fetchall()
        assert row == ("cus_1", "usd", Decimal("70.00"), NOW + 7 * DAY)
    assert read_credit(config, connect_credits, lambda: NOW + DAY / 2) is None, "it was read today"

    stripe.is_down = True
    with pytest.raises(StoppedError, match="no answer from Stripe"):
        read_credit(config, connect_credits, lambda: NOW + DAY)
    stripe.is_down = False
    stripe.credits.objects[grant["id"]]["voided_at"] = UNIX
    assert read_credit(config, connect_credits, lambda: NOW + DAY) == 0
    assert pq.read_metadata(credit).num_rows == 0
