"""The files that say who the accounts are become tables of the lake."""

import csv
import re
from datetime import date
from decimal import Decimal

import pytest

from orchestration.lake import account_copies, sheet
from orchestration.lake.account_files import ACCOUNTS, CUSTOMERS, SUBJECTS, AccountsFile
from orchestration.usage.events import Rejection
from tests.orchestration.lake.world import World
from tests.support.builders import NOW

NEVER = "1970-01-01 01:00:00+00"
"""End of the only hour of a customer whose rows could never be read."""
HEADER = "account_id,name,owner,plan,mrr,stripe_customer_id\n"


def write_accounts(world: World, content: str | bytes, kind: AccountsFile = ACCOUNTS) -> tuple[int, int]:
    path = world.root / f"{kind.name}.csv"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with world.lake.writing():
        taken = world.lake.write_accounts(kind, path, rejected_at=NOW)
    return taken.accepted, taken.rejected


@pytest.mark.parametrize("mark", ["", "\ufeff"])
@pytest.mark.parametrize("line_end", ["\n", "\r\n"])
def test_accounts_are_taken_over_when_the_file_is_good(world: World, mark: str, line_end: str) -> None:
    content = mark + HEADER + 'acme,"Acme, ""Inc"".",Zoë,growth,1200.50,cus_1\n 74 ,,,,,\n\n'

    assert write_accounts(world, content.replace("\n", line_end)) == (2, 0)
    assert world.accounts("account_id, name, owner, plan, mrr, stripe_customer_id") == [
        ("74", None, None, None, None, None),
        ("acme", 'Acme, "Inc".', "Zoë", "growth", Decimal("1200.50"), "cus_1"),
    ]


def test_accounts_need_no_more_than_their_id(world: World) -> None:
    assert write_accounts(world, "region,account_id\neu,acme\nus\n") == (1, 1)
    assert world.accounts("account_id, name, mrr, is_trial, period_kind") == [("acme", None, None, None, None)]


@pytest.mark.parametrize(
    "row",
    [
        "acme,Twice,,,,",
        ",Nobody,,,,",
        "b\x00d,Bad,,,1,",
        ",,,,,",
        "bad,Bad, Inc.,Zoë,,10,cus_1",
    ],
)
def test_account_row_is_in_quarantine_when_it_is_unusable(world: World, row: str) -> None:
    assert write_accounts(world, f"{HEADER}acme,Acme,,,,\n{row}\nlast,Last,,,1,\n") == (2, 1)
    assert world.accounts("account_id, name") == [("acme", "Acme"), ("last", "Last")]
    assert world.accounts_rejected() == [("accounts.csv", 3, Rejection.INVALID_ROW)]


@pytest.mark.parametrize("mrr", ["lots", "NaN", "Infinity", "1e15", "1e999999999", '"1,010"', "$5", "1.0.0"])
def test_bad_mrr_costs_its_own_cell_only(world: World, mrr: str) -> None:
    assert write_accounts(world, f"{HEADER}acme,Acme,,,{mrr},cus_1\n") == (1, 1)
    assert world.accounts("account_id, name, mrr, stripe_customer_id") == [("acme", "Acme", None, "cus_1")]
    assert world.rows("line_number, reason, column_name, value", "accounts_rejected.parquet") == [
        (2, Rejection.INVALID_CELL, "mrr", mrr.strip('"'))
    ]


@pytest.mark.parametrize(
    "mrr",
    ["1,010.00", "1.010,00", "1010,00", "1 010", "1\u00a0010,0", "1'010.00", " +1010.00\u00a0", "1010."],
)
def test_mrr_is_read_when_it_can_only_be_one_number(world: World, mrr: str) -> None:
    assert write_accounts(world, f'{HEADER}acme,,,,"{mrr}",\n') == (1, 0)
    assert world.accounts("mrr") == [Decimal("1010.00")]


@pytest.mark.parametrize(("mrr", "expected"), [("0.005", "0.00"), ("1e-400", "0.00"), ("-5", "-5.00"), ("1e3", "1000")])
def test_mrr_is_in_cents_when_it_has_more_or_fewer_digits(world: World, mrr: str, expected: str) -> None:
    assert write_accounts(world, f"{HEADER}acme,,,,{mrr},\n") == (1, 0)
    assert world.accounts("mrr")[0] == Decimal(expected)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "it names none"),
        ("acme,Acme\n", "it names \\['acme', 'Acme'\\]"),
        ("name;account_id\n", "must name the columns, among them account_id"),
        (HEADER.encode() + b"acme,Caf\xe9,,,,\n", "is not UTF-8"),
        (HEADER.encode("utf-16"), "is not UTF-8"),
        (HEADER + 'acme,"Acme,,,,\nother,Other,,,,\n', "line 3: .*quotes"),
        (HEADER + "acme," + "x" * 200_000 + ",,,,\n", "line 2: "),
    ],
    ids=["empty", "no header", "semicolons", "latin-1", "utf-16", "open quote", "huge field"],
)
def test_accounts_file_is_refused_with_a_sentence_when_it_cannot_be_read(
    world: World, content: str | bytes, message: str
) -> None:
    csv.field_size_limit(8 << 20)  # as the reader of events leaves it, in the same process
    with pytest.raises(ValueError, match=message) as raised:
        write_accounts(world, content)
    assert type(raised.value) is ValueError
    assert "accounts.csv" in str(raised.value)

    write_accounts(world, HEADER + "old,,,,,\n")
    assert write_accounts(world, content) == (1, 1)
    assert [account[0] for account in world.accounts()] == ["old"]
    [(reason, problem)] = world.rows("reason, problem", "accounts_rejected.parquet")
    assert reason == Rejection.HELD_FILE
    assert re.search(message, problem)
    assert "accounts.csv" in problem
    assert problem.endswith("Headroom goes on with the 1 row that it read 2026-11-20 08:00 UTC. Repair the file.")


def test_accounts_are_gone_only_when_a_person_accepts_that_the_file_is(world: World) -> None:
    write_accounts(world, HEADER + "acme,,,,,\n")
    with world.lake.writing():
        held = world.lake.write_accounts(ACCOUNTS, None, rejected_at=NOW).copy.held
        assert held
        assert held.reason == "The file has disappeared."
        assert world.accounts("account_id") == ["acme"]
        account_copies.accept(world.lake.root, ACCOUNTS, held.fingerprint)
        assert world.lake.write_accounts(ACCOUNTS, None, rejected_at=NOW).accepted == 0

    assert world.accounts() == world.accounts_rejected() == []


def test_account_says_who_cares_for_it_and_when_its_period_runs(world: World) -> None:
    header = (
        "account_id,csm,contact_email,slack_channel,segment,renewal_on,is_trial,is_internal,snoozed_until,period_kind,"
        "period_anchor"
    )
    row = "acme,Zoë,it@acme.example,C0ACME,mid market,2027-01-31,yes,0,2026-12-01,cycle,2024-02-29"

    assert write_accounts(world, f"{header}\n{row}\nbeta,,,,,,,,,,\n") == (2, 0)
    assert world.accounts(header)[0] == (
        *("acme", "Zoë", "it@acme.example", "C0ACME", "mid market", date(2027, 1, 31), True, False, date(2026, 12, 1)),
        *("cycle", date(2024, 2, 29)),
    )


@pytest.mark.parametrize(
    "row",
    [
        "maybe,,,,",
        ",yearly,,,",
        ",cycle,,,",
        ",cycle,31.01.2026,,",
        ",cycle,2026-02-30,,",
        ",trial,2026-01-01,,",
        ",trial,2026-01-02,2026-01-02,",
        ",,,,2027-13-01",
    ],
)
def test_unreadable_flag_date_or_period_costs_its_own_cells_only(world: World, row: str) -> None:
    header = "account_id,is_trial,period_kind,period_anchor,period_ends_on,renewal_on"

    assert write_accounts(world, f"{header}\nbad,{row}\ngood,1,trial,2026-01-01,2026-01-15,\n") == (2, 1)
    assert world.accounts(header)[0] == ("bad", None, None, None, None, None)
    assert world.accounts_rejected() == [("accounts.csv", 2, Rejection.INVALID_CELL)]


KINDS = pytest.mark.parametrize("kind", [SUBJECTS, CUSTOMERS], ids=["subjects", "customers"])


def write_ranges(world: World, kind: AccountsFile, *rows: str) -> tuple[int, int]:
    return write_accounts(world, "\n".join([",".join(kind.columns), *rows]) + "\n", kind)


def ranges(world: World, kind: AccountsFile) -> list[tuple[object, ...]]:
    names = ", ".join(list(kind.columns)[:2])
    bounds = "cast(valid_from as varchar), cast(valid_until as varchar)"
    return world.rows(f"{names}, {bounds}", f"{kind.name}.parquet")


def rejected_rows(world: World, kind: AccountsFile) -> list[tuple[object, ...]]:
    return world.rows("landed_file, line_number, reason", f"{kind.name}_rejected.parquet")


@KINDS
def test_range_is_taken_over_in_utc_without_blanks_around_its_ids(world: World, kind: AccountsFile) -> None:
    rows = ["a,x,,2026-11-01", "a,y,2026-11-01,2026-11-02T02:00:00+02:00", "a,z,2026-11-02T05:00Z,", " A ,ä,,"]

    assert write_ranges(world, kind, *rows) == (4, 0)
    assert sorted(ranges(world, kind), key=lambda row: str(row[1])) == [
        ("a", "x", None, "2026-11-01 00:00:00+00"),
        ("a", "y", "2026-11-01 00:00:00+00", "2026-11-02 00:00:00+00"),
        ("a", "z", "2026-11-02 05:00:00+00", None),
        ("A", "ä", None, None),
    ]


@KINDS
@pytest.mark.parametrize(
    "row",
    [
        ",x,,",
        "b,,,",
        "b",
        "b,x,2026-11-01,2026-11-01",
        "b,x,2026-11-02,2026-11-01",
        "b,x,2026-11-01T00:00:00,",
        "b,x,1.11.2026,",
        "b,x,2026-02-30,",
        "b,x,,soon",
        "b,x,,9999-12-31T23:00:00-12:00",
        "b,x,,,more",
    ],
)
def test_range_is_in_quarantine_when_it_is_unusable(world: World, kind: AccountsFile, row: str) -> None:
    names = ["a", "c"]
    if kind is CUSTOMERS and row.startswith("b"):  # named, so that it does not get the accounts file's customer
        names.insert(1, "b")

    assert write_ranges(world, kind, "a,x,,", row, "c,x,,") == (len(names), 1)
    assert [found[0] for found in ranges(world, kind)] == names
    assert {found[3] for found in ranges(world, kind) if found[0] == "b"} <= {NEVER}
    assert rejected_rows(world, kind) == [(f"{kind.name}.csv", 3, Rejection.INVALID_RANGE)]


@KINDS
@pytest.mark.parametrize(
    ("row", "is_refused"),
    [
        ("a,y,2026-11-02,2026-11-03", True),
        ("a,y,2026-11-01,2026-11-02T01:00Z", True),
        ("a,y,2026-11-03T23:00Z,", True),
        ("a,y,,", True),
        ("a,x,2026-11-02,2026-11-04", True),
        ("a,y,,2026-11-02", False),
        ("a,y,2026-11-04,", False),
        ("A,y,,", False),
    ],
)
def test_range_is_in_quarantine_when_one_before_it_overlaps(
    world: World, kind: AccountsFile, row: str, is_refused: bool
) -> None:
    assert write_ranges(world, kind, "a,x,2026-11-02,2026-11-04", row) == (2 - is_refused, int(is_refused))
    assert rejected_rows(world, kind) == [(f"{kind.name}.csv", 3, Rejection.OVERLAPPING_RANGE)] * is_refused


def test_row_in_quarantine_takes_no_time_from_the_next(world: World) -> None:
    assert write_ranges(world, SUBJECTS, "a,,,", "a,x,,2026-11-01", "a,y,,", "a,z,2026-11-01,") == (2, 2)
    assert [row[1] for row in ranges(world, SUBJECTS)] == ["x", "z"]


@pytest.mark.parametrize("time", ["12:30:00Z", "12:00:01Z", "12:00:00.000001Z", "12:00:00+05:30"])
@pytest.mark.parametrize("row", ["a,x,2026-11-01T{},", "a,x,,2026-11-01T{}"])
def test_customer_changes_only_on_a_full_utc_hour(world: World, row: str, time: str) -> None:
    assert write_ranges(world, CUSTOMERS, row.format(time), "b,x,2026-11-01T17:30:00+05:30,") == (2, 1)
    assert [found for found in ranges(world, CUSTOMERS) if found[0] == "a"] == [("a", "x", None, NEVER)]
    assert rejected_rows(world, CUSTOMERS) == [("customers.csv", 2, Rejection.INVALID_RANGE)]
    assert write_ranges(world, SUBJECTS, row.format(time)) == (1, 0)


@KINDS
def test_ranges_file_is_refused_with_a_sentence_when_a_column_is_missing(world: World, kind: AccountsFile) -> None:
    """A misspelt valid_until would be an open one."""
    names = ", ".join(kind.columns)
    with pytest.raises(ValueError, match=f"{kind.name}.csv: the first line must name the columns, among them {names};"):
        write_accounts(world, ",".join(kind.columns).replace("valid_until", "valid_to") + "\n", kind)


def test_accounts_file_in_latin_1_is_refused_with_its_line() -> None:
    words = r"accounts.csv is not UTF-8 text: line 3 has 'zürich,Zürich AG' if it is Latin-1; export it as UTF-8"
    content = "account_id,name\nacme,Acme\nzürich,Zürich AG\n".encode("latin-1")
    with pytest.raises(ValueError, match=words):
        sheet.read("accounts.csv", content, ACCOUNTS.columns, ACCOUNTS.needed)
