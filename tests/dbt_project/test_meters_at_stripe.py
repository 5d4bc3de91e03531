"""Meters of each kind, added by data alone, from landed events to Stripe: by a real build of the real project."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from orchestration.billing import catalog, meters, report, statements
from orchestration.channels.stripe import connect_meter, connect_products
from orchestration.settings import load
from orchestration.warehouse import duckdb
from tests.dbt_project.builder import Builder, project_with
from tests.dbt_project.test_meters import METERS, NOW, PLAN_TIERS, PLANS
from tests.fakes.stripe_catalog import CatalogStripe
from tests.support.builders import land, make_event
from tests.support.pipeline import assert_built, ingest

EVENT_NAMES = {name: name for name in ("people", "peak", "uploads", "disk")} | {
    "api-calls": "api-calls",
    "egress": "egress_gb",
}


def event(at: str, name: str, **properties: Any) -> dict[str, Any]:
    said = {"account_id": "acme", **properties}
    return make_event("acme", f"2026-11-20T{at}:00Z", event=name, properties=said, uuid=f"{name} {at}")


EVENTS = [
    *(event("05:10", "download", out={"gb": "0.412"}), event("06:20", "download", out={"gb": 1.5})),
    *(event("05:00", "login", user="u1"), event("05:30", "login", user="u2")),
    *(event("06:00", "login", user="u1"), event("06:59", "login", user="u3")),
    *(event("04:00", "ping", open=2), event("05:05", "ping", open=6), event("06:05", "ping", open=4)),
    *(event("05:40", "api_call", method="POST", region="eu"), event("05:41", "api_call", method="GET", region="eu")),
    *(event("05:45", "disk_read", gb=1.5), event("06:45", "disk_read", gb=1)),
]
LATE = [
    *(event("05:15", "download", out={"gb": 0.001}), event("04:30", "ping", open=3)),
    event("04:40", "login", user="u1"),
]
COUNTED = {
    "api-calls": {5: 2},
    "egress": {5: 412, 6: 1_500},
    "people": {5: 2, 6: 1},
    "peak": {4: 2, 5: 4},
    "uploads": {5: 1},
    "disk": {5: 15, 6: -5},
}
"""By meter and hour of the day, in its steps: worked out by hand."""
WITH_LATE = {**COUNTED, "egress": {5: 413, 6: 1_500}, "people": {4: 1, 5: 1, 6: 1}, "peak": {4: 3, 5: 3}}


def test_meters_of_each_kind_are_at_stripe_as_counted(
    data: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path_factory.mktemp("project")
    project = project_with(folder, meters=METERS, plans=PLANS, plan_tiers=PLAN_TIERS)
    (data / "accounts.csv").write_text("account_id,name,plan,stripe_customer_id\nacme,Acme,pro,cus_a\n")
    land(data / "landing", "events.ndjson", *EVENTS)
    now = NOW
    with CatalogStripe() as stripe:
        stripe.clock = lambda: now.timestamp()
        stripe.add_customer("cus_a")
        for name, value in {"STRIPE_API_KEY": stripe.key, "STRIPE_API_BASE": stripe.url}.items():
            monkeypatch.setenv(name, value)

        def reported() -> dict[str, dict[int, int]]:
            """What Stripe has by hour after a build and two reports."""
            ingest(data, data / "landing", now, project)
            assert_built(Builder(data, project).results(now))
            monkeypatch.setenv("HEADROOM_NOW", now.isoformat())
            duckdb.publish(load().warehouse, load().published)
            for _ in catalog.make(meters.each_meter(load()), connect_products):
                pass
            for each in [*meters.each_meter(load())] * 2:
                sent = report.report_usage(each, connect_meter, lambda: now).sent
                assert sent and not sent.stopped
            totals = {meter: stripe.totals("cus_a", name, at_once=True) for meter, name in EVENT_NAMES.items()}
            return {
                meter: {datetime.fromtimestamp(at, UTC).hour: int(units) for at, units in hours.items() if units}
                for meter, hours in totals.items()
            }

        assert reported() == COUNTED
        price = stripe.price("headroom_pro_egress")
        assert [(tier["up_to"], tier["unit_amount_decimal"]) for tier in price["tiers"]] == [
            (2_000, "0"),
            (None, "0.0123456789"),
        ]
        land(data / "landing", "late.ndjson", *LATE)
        now += timedelta(hours=1)
        assert reported() == WITH_LATE
        [told] = statements.statements(meters.settings_of(load(), "egress"), "acme", None)
        assert told.plan and (told.counted_units, told.meter.amount(told.counted_units)) == (1_913, "1.913 GB")
