"""Which account an id belongs to and which customer an account is billed by, through real builds."""

from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pytest

from orchestration.lake.account_files import ACCOUNTS, SUBJECTS
from orchestration.lake.lake import Lake
from orchestration.warehouse import published_copy
from tests.dbt_project import lakes
from tests.dbt_project.builder import Builder
from tests.dbt_project.lakes import Call
from tests.support.builders import land, make_event, make_quota
from tests.support.pipeline import build_marts

NOW = datetime(2026, 11, 20, 8, tzinfo=UTC)
HEADER = "subject,account_id,valid_from,valid_until"
OLD = date(2026, 10, 5)
WELL = {"success", "pass"}


@pytest.fixture
def builder(data: Path) -> Builder:
    return Builder(data)


def map_subjects(data: Path, *rows: str) -> None:
    path = data / "subjects.csv"
    path.write_text("\n".join([HEADER, *rows]) + "\n")
    lake = Lake(data / "lake")
    with lake.writing():
        lake.write_accounts(SUBJECTS, path, rejected_at=NOW)


def counted(builder: Builder) -> dict[str, int]:
    return dict(builder.query("select account_id, sum(calls)::integer from hourly_usage group by account_id"))


def build(builder: Builder, hour: int) -> None:
    statuses = builder.build(NOW.replace(hour=hour))
    assert all(status in ("success", "pass") for status in statuses.values()), statuses


def test_everything_is_counted_again_when_a_mapping_changed_and_only_then(data: Path, builder: Builder) -> None:
    lakes.create(data / "lake")
    at = datetime(2026, 10, 5, 12, tzinfo=UTC)
    lakes.add(data / "lake", [Call("key-1", at, "1"), Call("key-2", at, "2"), Call("acme", at, "3")])
    build(builder, 1)
    assert counted(builder) == {"key-1": 1, "key-2": 1, "acme": 1}

    map_subjects(data, "key-1,acme,,", "key-2,acme,2026-10-05T12:00:01Z,")
    build(builder, 2)
    assert counted(builder) == {"key-2": 1, "acme": 2}

    builder.query(f"update hourly_usage set calls = 1002 where usage_date = date '{OLD}' and account_id = 'acme'")
    builder.query(f"update hourly_usage_by_endpoint set calls = 1002 where usage_date = date '{OLD}' and calls = 2")
    map_subjects(data, "key-2,acme,2026-10-05T14:00:01+02:00,", "key-1,acme,,")
    statuses = builder.build(NOW.replace(hour=3), "stg_subjects", "stg_api_calls", "hourly_usage")
    assert statuses["hourly_usage"] == "success"
    assert counted(builder) == {"key-2": 1, "acme": 1002}, "the same rows in another order are no change"

    map_subjects(data, "key-1,acme,,", "key-2,acme,2026-10-05T12:00:00Z,")
    build(builder, 4)
    assert counted(builder) == {"acme": 3}


def rows(published: Path, sql: str) -> list[tuple[Any, ...]]:
    return [tuple(row.values()) for row in published_copy.query(published, sql)]


def test_usage_moves_to_its_account_and_customer_when_it_is_mapped_late(data: Path) -> None:
    land(
        data / "landing",
        "a.ndjson",
        make_quota("acme", 4),
        make_event("acme", at="2026-11-02T00:00:00Z"),
        *(make_event("key-1", at=f"2026-11-0{day}T23:59:59Z") for day in (1, 2, 3)),
        make_event("key-2", at="2026-11-04T00:00:00Z"),
    )
    (data / "accounts.csv").write_text("account_id,stripe_customer_id\nacme,cus_file\n")
    used = "select account_id, used_mtd from utilization_mtd order by account_id"
    crossed = "select max(threshold_pct) from threshold_crossings where account_id = 'acme'"
    unmapped = "select subject, is_mapped_at_other_times, calls, calls_30d from unmapped_usage order by subject"
    billed = """select stripe_customer_id, sum(billable_units)::integer from billable_usage_hourly
                group by stripe_customer_id order by stripe_customer_id nulls last"""

    published = build_marts(data, data / "landing", NOW)
    assert rows(published, used) == [("acme", 1), ("key-1", 3), ("key-2", 1)]
    assert rows(published, unmapped) == []
    assert rows(published, billed) == [("cus_file", 1), (None, 4)]
    assert rows(published, crossed) == [(None,)]

    (data / "subjects.csv").write_text(f"{HEADER}\nkey-1,acme,2026-11-02,\nkey-1,globex,2026-11-03,\n")
    (data / "customers.csv").write_text(
        "account_id,stripe_customer_id,valid_from,valid_until\n"
        "acme,cus_a,,2026-11-02T23:00Z\nacme,cus_b,2026-11-02T23:00Z,2026-11-03T23:00Z\n"
    )
    published = build_marts(data, data / "landing", NOW)
    assert rows(published, used) == [("acme", 3), ("key-1", 1), ("key-2", 1)]
    assert rows(published, unmapped) == [("key-1", True, 1, 1), ("key-2", False, 1, 1)]
    assert rows(published, "select subjects_unmapped, rejected_lines from data_quality") == [(2, 1)]
    assert rows(published, "select landed_file, line_number, reason from events_rejected") == [
        ("subjects.csv", 3, "overlapping_range_row")
    ]
    assert rows(published, billed) == [("cus_a", 1), ("cus_b", 1), (None, 3)]
    assert rows(published, "select stripe_customer_id from utilization_mtd where account_id = 'acme'") == [(None,)]
    assert rows(published, crossed) == [(50,)]


def test_sampled_units_are_counted_by_weight_in_both_places(data: Path, builder: Builder) -> None:
    (data / "accounts.csv").write_text("account_id,stripe_customer_id\nacme,cus_a\n")
    lakes.create(data / "lake")
    lakes.add(data / "lake", [Call("acme", NOW, "1"), Call("acme", NOW, "2", sample_weight=10)])
    lake = Lake(data / "lake")
    with lake.writing():
        lake.write_accounts(ACCOUNTS, data / "accounts.csv", rejected_at=NOW)
    assert set(builder.build(NOW, "+billable_usage_hourly", "+billing_reconciliation_hourly").values()) <= WELL
    builder.query("update hourly_usage set sampled_units = 3 * sampled_calls")  # as an endpoint weight of 3 does

    nodes = ("billing_reconciliation_hourly", "billed_hours_are_the_counted_ones")
    statuses = {result.status for result in builder.results(NOW, nodes, bill_sampled=True)}
    assert statuses <= WELL
    assert builder.query("select billable_units::integer from billing_reconciliation_hourly") == [(31,)]
