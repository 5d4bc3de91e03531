"""What a gate refused is no usage and is never billed, whatever its events say: only errors by account and endpoint see
it. From landed files to the units of the Stripe report, by increments as by a full build.
"""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from orchestration import settings
from orchestration.billing import usage_query
from orchestration.warehouse import duckdb
from tests.dbt_project.builder import COUNTED, Builder
from tests.support.builders import land, make_event, make_quota
from tests.support.pipeline import assert_built, ingest

NOW = datetime(2026, 11, 20, 8, tzinfo=UTC)
NODES = (*COUNTED, "+error_rates", "+billable_usage_hourly", "+billable_meters_hourly")
USED = ("hourly_usage", "daily_usage", "billable_usage_hourly", "billable_meters_hourly", "event_values")


def refused(at: str, name: str, **properties: object) -> dict[str, Any]:
    said = {"account_id": "acme", "endpoint": "/v1/search", "status": 429, "refused_by": "quota", "weight": 5}
    return make_event(at=at, event="api_call_refused", uuid=name, properties={**said, **properties})


CALLS = [
    make_quota("acme", 1_000),
    *(make_event(at=f"2026-11-19T12:00:0{second}Z") for second in range(3)),
    make_event(at="2026-11-19T12:00:08Z", properties={"account_id": "acme", "endpoint": "/v1/search", "status": 429}),
]
REFUSED = [
    refused("2026-11-19T12:00:04Z", "once"),
    refused("2026-11-19T12:00:04Z", "once"),  # sent twice
    refused("2026-11-19T12:00:05Z", "sampled", sample_weight=10),
    refused("2026-11-19T12:00:06Z", "served, it says", status=200),
    refused("2026-11-19T12:00:07Z", "in a text", status="no", weight="lots", total_tokens=10**15, quota=1),
    refused("2026-11-18T03:00:00Z", "nothing but refused", endpoint=None),
    refused("2026-11-19T13:00:00Z", "of a key", account_id="key_1"),
    {
        "type": "api_call_refused",
        "id": "flat",
        "subject": "acme",
        "time": "2026-11-19T12:00:08Z",
        "endpoint": "/v1/search",
    },
]
NOT_TAKEN = [
    refused("2026-11-19T12:00:04Z", "once", endpoint="/v1/other"),
    refused("2026-11-19T12:00:09Z", "weightless", sample_weight=0),
    refused("2026-11-19T12:00:09Z", "heavy", sample_weight=10**6 + 1),
    refused("2026-11-19T12:00:09Z", "nobody", account_id=None),
    refused("yesterday", "when"),
]
LATE = [refused("2026-11-18T03:59:59Z", "late"), refused("2026-11-19T12:30:00Z", "late, too", sample_weight=2)]
ERRORS = """
    select account_id, usage_date::varchar as on, endpoint, calls, calls_with_status, throttled_calls, refused_calls
    from daily_usage_by_endpoint order by all
"""


def test_refused_calls_are_errors_and_never_usage(data: Path) -> None:
    (data / "accounts.csv").write_text("account_id,name,stripe_customer_id\nacme,Acme,cus_a\n")
    (data / "subjects.csv").write_text("subject,account_id,valid_from,valid_until\nkey_1,acme,,\n")
    builder = Builder(data)

    def built(now: datetime, *, full_refresh: bool = False) -> dict[str, list[tuple[Any, ...]]]:
        ingest(data, data / "landing", now)
        assert_built(builder.results(now, NODES, full_refresh=full_refresh))
        duckdb.publish(settings.load().warehouse, settings.load().published)
        return {table: builder.query(f"from {table} order by all") for table in USED}

    def billed() -> dict[str, Any]:
        """What a report to Stripe, or its preview, is made of, and what a statement shows."""
        with usage_query.billable_usage(settings.load().published, NOW - timedelta(days=9), NOW) as usage:
            days = [NOW.date() - timedelta(days=ago) for ago in (1, 2)]
            shown = [each for day in days for each in usage.endpoints(["acme", "key_1"], day)]
            return {"marks": usage.days(), "hours": [usage.hours(day) for day in days], "endpoints": shown}

    land(data / "landing", "calls.ndjson", *CALLS)
    used, units = built(NOW), billed()
    assert units["hours"] == [[("cus_a", datetime(2026, 11, 19, 12, tzinfo=UTC), 4)], []]
    assert builder.query(ERRORS) == [("acme", "2026-11-19", "/v1/search", 4, 4, 1, 0)]

    land(data / "landing", "refused.ndjson", *REFUSED, *NOT_TAKEN)
    assert (built(NOW), billed()) == (used, units)
    assert builder.query(ERRORS) == [
        ("acme", "2026-11-18", "", 0, 1, 1, 1),
        ("acme", "2026-11-19", "/v1/search", 4, 19, 16, 15),
    ]
    land(data / "landing", "late.ndjson", *LATE)
    later = NOW + timedelta(minutes=10)
    by_increments = (built(later), builder.query("from hourly_usage_by_endpoint order by all"))
    assert (by_increments[0], billed()) == (used, units)
    assert [row[-1] for row in builder.query(ERRORS)] == [1, 1, 17]

    assert (
        built(later, full_refresh=True),
        builder.query("from hourly_usage_by_endpoint order by all"),
    ) == by_increments
    [rates] = builder.query("select calls_7d, refused_calls_7d, throttled_ratio_7d from error_rates")
    assert (*rates[:2], float(rates[2])) == (4, 19, 0.869565)
