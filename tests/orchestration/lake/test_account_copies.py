"""What stays in use where a file of accounts cannot be read, or lost too much."""

from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from orchestration.lake import account_copies
from orchestration.lake.account_copies import Taken
from orchestration.lake.account_files import ACCOUNTS, CUSTOMERS, SUBJECTS, AccountsFile
from orchestration.usage.events import Rejection
from tests.orchestration.lake.world import World
from tests.support.builders import NOW

HEADER = "account_id,name,mrr,stripe_customer_id,period_kind,period_anchor,period_ends_on\n"
LATER = NOW + timedelta(hours=1)
READ = "What was read 2026-11-20 08:00 UTC counts"


def take(world: World, content: str, kind: AccountsFile = ACCOUNTS, at: datetime = NOW) -> Taken:
    path = world.root / f"{kind.name}.csv"
    path.write_bytes(content.encode())
    with world.lake.writing():
        return world.lake.write_accounts(kind, path, rejected_at=at)


def ranges(*rows: str, kind: AccountsFile = CUSTOMERS) -> str:
    return "\n".join([",".join(kind.columns), *rows, ""])


def problems(world: World, kind: AccountsFile = ACCOUNTS) -> list[tuple[int, str, str, str]]:
    return world.rows("line_number, column_name, value, problem", f"{kind.name}_rejected.parquet")


def customers(world: World) -> list[tuple[str, str]]:
    return world.rows("account_id, stripe_customer_id", "customers.parquet")


def test_bad_cell_has_the_last_good_value_of_its_account_with_its_age(world: World) -> None:
    take(world, HEADER + "acme,Acme,1010.00,cus_1,,,\nbeta,Beta,5,cus_2,,,\n")

    for hours in (1, 2):  # the second copy has the first one's value, and knows how old it is
        take(world, HEADER + "acme,Acme!,lots,cus_1,,,\nbeta,Beta,6,cus_2,,,\n", at=NOW + timedelta(hours=hours))
        assert world.accounts("account_id, name, mrr, stripe_customer_id") == [
            ("acme", "Acme!", Decimal("1010.00"), "cus_1"),
            ("beta", "Beta", Decimal("6.00"), "cus_2"),
        ]
        assert problems(world) == [(2, "mrr", "lots", f"mrr 'lots' is not a number. {READ}: mrr 1010.00.")]
        assert world.lake.accounts_copy(ACCOUNTS).kept_since == NOW
    take(world, HEADER + "acme,Acme!,7,cus_1,,,\nbeta,Beta,6,cus_2,,,\n", at=LATER)
    assert world.lake.accounts_copy(ACCOUNTS).kept_since is None


def test_customer_that_cannot_be_read_stays_the_one_of_before(world: World) -> None:
    take(world, HEADER + "acme,Acme,,cus_1,,,\n")
    take(world, HEADER + "acme,Acme,,cus\x07_2,,,\nbeta,Beta,,cus 3,,,\n", at=LATER)
    assert world.accounts("account_id, stripe_customer_id") == [("acme", "cus_1"), ("beta", None)]
    assert [row[3] for row in problems(world)] == [
        f"stripe_customer_id 'cus\\x07_2' has an invisible character inside. {READ}: stripe_customer_id cus_1.",
        "stripe_customer_id 'cus 3' has a blank inside. No good value is known: it counts as empty.",
    ]


@pytest.mark.parametrize("bad", ["cycle,31.01.2026,", "yearly,2026-01-01,", "cycle,,", "trial,2026-02-01,2026-01-01"])
def test_cells_of_a_period_stay_together_when_one_cannot_be_read(world: World, bad: str) -> None:
    take(world, HEADER + "acme,,,cus_1,trial,2026-01-01,2026-02-01\n")
    take(world, HEADER + f"acme,,,cus_1,{bad}\n", at=LATER)
    assert world.accounts("period_kind, period_anchor, period_ends_on") == [
        ("trial", date(2026, 1, 1), date(2026, 2, 1))
    ]
    [(_, _, _, problem)] = problems(world)
    assert "counts: period_kind trial, period_anchor 2026-01-01, period_ends_on 2026-02-01." in problem


@pytest.mark.parametrize("row", ["acme,Acme, Inc.,,cus_9,,,,", "acme,A,B,1,cus_9,,,"])
def test_account_stays_when_its_row_has_too_many_cells(world: World, row: str) -> None:
    take(world, HEADER + "acme,Acme,,cus_1,,,\nbeta,,,cus_2,,,\n")
    assert not take(world, HEADER + row + "\nbeta,,,cus_2,,,\n", at=LATER).copy.held
    assert world.accounts("account_id, name, stripe_customer_id") == [
        ("acme", "Acme", "cus_1"),
        ("beta", None, "cus_2"),
    ]
    assert problems(world)[0][3].endswith(f"{READ} for acme, 1 row.")


@pytest.mark.parametrize("account", ["", "ac\x00me", "\u200b"])
def test_no_account_goes_while_the_id_of_a_row_cannot_be_read(world: World, account: str) -> None:
    take(world, HEADER + "acme,Acme,,cus_1,,,\nbeta,,,cus_2,,,\n")
    take(world, HEADER + f"{account},Acme,,cus_1,,,\nbeta,,,cus_2,,,\n", at=LATER)
    assert world.accounts("account_id, stripe_customer_id") == [("acme", "cus_1"), ("beta", "cus_2")]
    assert "nothing goes that the file had before" in problems(world)[0][3]


@pytest.mark.parametrize(
    "row",
    ["a,new,1.11.2026,", "a,new,2026-11-01T12:30Z,", "a,,2026-11-01,", "a,new,2026-11-02,2026-11-01", "a,n\x00,,"],
)
def test_account_keeps_its_customers_when_a_row_of_it_cannot_be_read(world: World, row: str) -> None:
    take(world, ranges("a,old,,2026-11-01", "a,new,2026-11-01,", "b,x,,"), CUSTOMERS)
    assert not take(world, ranges("a,old,,", row, "b,y,,"), CUSTOMERS, LATER).copy.held
    assert customers(world) == [("a", "new"), ("a", "old"), ("b", "y")]
    [(line, _, _, problem)] = problems(world, CUSTOMERS)
    assert line == 3
    assert problem.endswith(f"{READ} for a, 2 rows.")


def test_account_is_not_named_by_a_row_that_cannot_be_read(world: World) -> None:
    """Else its usage outside of its good rows would lose the accounts file's customer."""
    take(world, ranges("b,x,,"), CUSTOMERS)
    take(world, ranges("a,old,,2026-11-01", "a,new,soon,", "b,x,,"), CUSTOMERS, LATER)
    assert customers(world) == [("b", "x")]
    assert problems(world, CUSTOMERS)[0][3].endswith("No row of a counts: it has none that was good.")


def test_subject_keeps_its_account_when_its_row_cannot_be_read(world: World) -> None:
    take(world, ranges("key-1,acme,,", "key-2,beta,,", kind=SUBJECTS), SUBJECTS)
    take(world, ranges("key-1,acme,never,", "key-2,beta,,", kind=SUBJECTS), SUBJECTS, LATER)
    assert world.rows("subject, account_id", "subjects.parquet") == [("key-1", "acme"), ("key-2", "beta")]


@pytest.mark.parametrize(
    "header", [" account_id , Name,MRR\u00a0", "\ufeffACCOUNT_ID,name ,mrr", '"account_id ",\tName\t,Mrr']
)
def test_names_of_columns_are_compared_without_case_and_blanks(world: World, header: str) -> None:
    assert not take(world, f"{header}\n acme\u00a0,Acme,5\n").rejected
    assert world.accounts("account_id, name, mrr") == [("acme", "Acme", Decimal(5))]


def test_columns_that_mean_nothing_are_named_once(world: World) -> None:
    first = take(world, "account_id,Region,nmae,\nacme,eu,Acme,\n")
    assert list(first.new_unknown) == list(first.copy.unknown) == ["Region", "nmae"]
    assert not take(world, "account_id,Region,nmae,\nacme,eu,Acme,\n").new_unknown


def many(count: int, first: int = 0, customer: str = "cus_{}") -> str:
    return HEADER + "".join(f"a{i},,,{customer.format(i)},,,\n" for i in range(first, count))


@pytest.mark.parametrize(
    ("before", "after", "reason"),
    [
        (many(30), HEADER, "All that it had is missing: 30 rows."),
        (many(30), many(26), "4 of 30 accounts that it had are missing: a26, a27, a28 and 1 more."),
        (many(30), many(30, first=4), "4 of 30 accounts that it had are missing: a0, a1, a2 and 1 more."),
        (many(30), many(29), "Its last row is missing, as if it were cut: a29."),
        (many(30), many(28), "Its last 2 rows are missing, as if it were cut: a28, a29."),
        (many(2), many(1), "Its last row is missing, as if it were cut: a1."),
        (many(3), many(3).replace(",mrr,", ",m,"), "The column mrr that it had is missing."),
        (many(3), "account_id\na0\na1\na2\n", "The columns name, mrr, stripe_customer_id, period_kind, "),
        (many(30), many(30, customer=""), "30 of 30 rows lost or changed their stripe_customer_id: a0 (cus_0), a1"),
        (many(9), many(9, customer="c{}"), "9 of 9 rows lost or changed their stripe_customer_id: a0 (cus_0), a1"),
        (many(3), many(3).replace("name", "mrr"), "the first line names mrr more than once; name each column once."),
        (many(3), "", "the first line must name the columns, among them account_id"),
    ],
)
def test_file_that_lost_much_is_held_with_its_reason(world: World, before: str, after: str, reason: str) -> None:
    take(world, before)
    accounts = world.accounts("account_id, stripe_customer_id")

    held = take(world, after, at=LATER).copy.held
    assert held
    assert (held.since, held.is_acceptable) == (LATER, "first line" not in reason)
    assert reason in held.reason
    assert world.accounts("account_id, stripe_customer_id") == accounts
    assert world.rows("reason, rejected_at", "accounts_rejected.parquet") == [(Rejection.HELD_FILE, LATER)]
    again = take(world, after, at=LATER + timedelta(hours=9)).copy
    assert again.held == held, "it is held since it was first seen"
    assert again.good.read_at == NOW
    assert not take(world, before, at=LATER).copy.held
    assert world.accounts_rejected() == []


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (many(30), many(30, first=2)),
        (many(40), many(40, first=4)),
        (many(30), many(60)),
        (many(30), many(30).removesuffix("\n")),
        (many(30).removesuffix("\n"), many(30)),
        (many(30, customer=""), many(29, customer="")),
        (many(30), many(30).replace("cus_5,", "cus_50,").replace("cus_6,", ",")),
        (HEADER, many(3)),
        ("account_id,region\na,eu\n", "account_id\na\n"),
    ],
)
def test_file_that_changed_as_people_change_it_is_taken(world: World, before: str, after: str) -> None:
    take(world, before)
    assert not take(world, after, at=LATER).copy.held


@pytest.mark.parametrize(
    ("kind", "before"),
    [
        (ACCOUNTS, "account_id,stripe_customer_id,name\na,cus_1,Ann\nb,cus_22,Bob\nc,cus_333,Cy\n"),
        (ACCOUNTS, "stripe_customer_id,account_id\ncus_1,ann\ncus_22,bob\n"),
        (SUBJECTS, ranges("key-1,acme,,2026-11-01", "key-1,beta,2026-11-01,", "key-2,beta,,", kind=SUBJECTS)),
        (CUSTOMERS, ranges("acme,cus_1,,2026-11-01", "acme,cus_2,2026-11-01,", "beta,cus_33,,")),
    ],
)
@pytest.mark.parametrize("end", ["\n", ""])
def test_file_that_is_cut_anywhere_takes_nothing_from_anybody(
    world: World, kind: AccountsFile, before: str, end: str
) -> None:
    before = before.removesuffix("\n") + end
    take(world, before, kind)
    ids = ["account_id", "stripe_customer_id"] if kind is ACCOUNTS else list(kind.columns)[:2]
    columns = ", ".join([name for name in kind.columns if name != "name"] if end else ids)
    whole = world.rows(columns, f"{kind.name}.parquet")
    for length in range(len(before)):
        copy = take(world, before[:length], kind, LATER).copy
        assert world.rows(columns, f"{kind.name}.parquet") == whole, before[:length]
        assert copy.held or not end or not before[length:].strip(",\n"), before[:length]


def test_accepted_file_is_taken_and_no_other_one(world: World) -> None:
    take(world, many(30))
    held = take(world, many(3)).copy.held
    assert held
    with world.lake.locked():
        account_copies.accept(world.lake.root, ACCOUNTS, held.fingerprint)
    assert take(world, many(2)).copy.held, "another content was not accepted"
    assert take(world, many(3)).copy.held, "nor is it later, without being asked about again"

    with world.lake.locked():
        account_copies.accept(world.lake.root, ACCOUNTS, held.fingerprint)
    assert take(world, many(3)).accepted == 3
    assert world.accounts("account_id") == ["a0", "a1", "a2"]


def test_accepted_file_loses_what_a_row_without_an_id_kept(world: World) -> None:
    take(world, many(5))
    content = HEADER + ",Nobody,,,,,\na0,,,cus_0,,,\n"
    assert take(world, content).accepted == 5
    with world.lake.locked():
        account_copies.accept(world.lake.root, ACCOUNTS, account_copies.fingerprint_of(content.encode()))
    assert take(world, content).accepted == 1


@pytest.fixture
def ends_at() -> Iterator[pytest.MonkeyPatch]:
    with pytest.MonkeyPatch.context() as patch:
        yield patch


@pytest.mark.parametrize("place", [1, 2])
@pytest.mark.parametrize("content", [many(1), HEADER + "a0,,bad,cus_0,,,\na1,,,cus_1,,,\n"], ids=["held", "bad cell"])
def test_run_that_ends_between_two_renames_is_repaired_by_the_next(
    world: World, ends_at: pytest.MonkeyPatch, place: int, content: str
) -> None:
    take(world, many(2).replace("a0,,,", "a0,,5,"))
    rename, count = Path.replace, 0

    def counted(path: Path, target: Path) -> Path:
        nonlocal count
        count += 1
        if count == place:
            raise KeyboardInterrupt
        return rename(path, target)

    ends_at.setattr(Path, "replace", counted)
    with pytest.raises(KeyboardInterrupt):
        take(world, content, at=LATER)
    ends_at.undo()
    assert world.accounts("account_id, mrr") == [("a0", Decimal(5)), ("a1", None)]

    copy = take(world, content, at=LATER).copy
    assert world.accounts("account_id, mrr") == [("a0", Decimal(5)), ("a1", None)]
    assert len(world.accounts_rejected()) == 1
    assert (copy.held is not None) == (content == many(1))


def test_copy_of_an_earlier_headroom_is_what_was_last_good(world: World) -> None:
    take(world, many(5))
    path = world.lake.root / "accounts.parquet"
    pq.write_table(pq.read_table(path).replace_schema_metadata(None), path)
    refused = world.lake.root / "accounts_rejected.parquet"
    pq.write_table(pq.read_table(refused).drop_columns(["column_name", "value", "problem"]), refused)
    assert isinstance(pq.read_table(path), pa.Table)

    held = take(world, many(1), at=datetime.now(UTC)).copy
    assert held.held
    assert len(world.accounts()) == 5
    assert "The column" in str(take(world, "account_id\na0\na1\na2\na3\na4\n").copy.held)
