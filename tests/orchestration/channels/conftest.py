"""A loopback Stripe, its client, and a published copy with plans: for all tests of what stands at Stripe."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from stripe import StripeClient

from orchestration.channels.stripe import client as stripe_client
from orchestration.settings import PROJECT_ROOT, load
from orchestration.warehouse.price_list import SEEDS
from tests.fakes.stripe_catalog import CatalogStripe
from tests.support.duckdb_file import opened

TABLES = """
    create table stg_accounts (
        account_id varchar, account_name varchar, stripe_customer_id varchar, plan varchar, is_internal boolean,
        is_test boolean
    );
    create table billable_meters_hourly (account_id varchar, meter varchar);
    create table overage (account_id varchar, meter varchar, plan varchar, included_units bigint, missing varchar);
    create table account_periods (
        account_id varchar, period_start timestamp, period_end timestamp, source varchar
    );
"""


@pytest.fixture
def stripe(monkeypatch: pytest.MonkeyPatch, data: Path) -> Iterator[CatalogStripe]:
    for name in ("HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    with CatalogStripe() as server:
        monkeypatch.setenv("STRIPE_API_KEY", server.key)
        monkeypatch.setenv("STRIPE_API_BASE", server.url)
        monkeypatch.setenv("HEADROOM_STRIPE_REQUESTS_PER_SECOND", "1000")  # this one has no limit to keep to
        yield server


@pytest.fixture
def client(stripe: CatalogStripe) -> StripeClient:
    client = stripe_client.connect(load())
    assert client
    return client


@pytest.fixture
def published(data: Path) -> Path:
    """A published copy with the price list, and no account yet."""
    path = data / "published.duckdb"
    seeds = PROJECT_ROOT / "dbt_project" / "seeds"
    with opened(path) as connection:
        for seed, types in SEEDS.items():
            connection.execute(f"create table {seed} as from read_csv('{seeds / seed}.csv', types = {types})")
        connection.execute(TABLES)
    return path
