"""A file of accounts that is as it was costs a hash of it, and comes out as if it had been read again."""

import os
import tracemalloc
from datetime import timedelta
from pathlib import Path

import pytest

from orchestration.lake import account_copies, sheet
from orchestration.lake.account_copies import Taken
from orchestration.lake.account_files import ACCOUNTS, CUSTOMERS, AccountsFile
from orchestration.usage.events import Rejection
from tests.orchestration.lake.world import World
from tests.support.builders import NOW

HEADER = "account_id,name,mrr,stripe_customer_id\n"
GOOD = HEADER + "a,Ann,1,cus_1\nb,Bob,2,cus_2\n"
BAD_CELL = GOOD.replace(",2,", ",two,")
NOBODY = HEADER + ",Nobody,,\na,Ann,1,cus_1\n"
BROKEN = HEADER + "a,Ann,1,cus_1\nb,Bob, Inc.,2,cus_2\nc,Cy,x,cus 3\n"
RANGES = "account_id,stripe_customer_id,valid_from,valid_until\n"


def take(world: World, content: str | None, hour: int = 0, kind: AccountsFile = ACCOUNTS) -> Taken:
    """As in the run of that hour; None: the file is not there."""
    path = world.root / f"{kind.name}.csv"
    if content is None:
        path.unlink(missing_ok=True)
    else:
        path.write_text(content)
    with world.lake.writing():
        return world.lake.write_accounts(kind, path, rejected_at=NOW + timedelta(hours=hour))


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Files that were read as tables."""
    names, read = [], sheet.read

    def noted(name: str, *rest: object) -> sheet.Sheet:
        names.append(Path(name).name)
        return read(name, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(sheet, "read", noted)
    return names


@pytest.mark.parametrize(
    ("kind", "contents"),
    [
        (ACCOUNTS, [GOOD]),
        (ACCOUNTS, [BAD_CELL]),
        (ACCOUNTS, [GOOD, BAD_CELL, GOOD]),
        (ACCOUNTS, [NOBODY]),
        (ACCOUNTS, [GOOD, NOBODY]),
        (ACCOUNTS, [GOOD, BROKEN]),
        (ACCOUNTS, [GOOD, GOOD + "b,Bob, Inc.,2,cus_2\n"]),
        (ACCOUNTS, [BROKEN, GOOD.removesuffix("\n")]),
        (ACCOUNTS, [GOOD, HEADER, GOOD]),
        (ACCOUNTS, [GOOD, "", BAD_CELL]),
        (ACCOUNTS, [None, GOOD, None]),
        (ACCOUNTS, [GOOD.replace("name", "nmae")]),
        (CUSTOMERS, [RANGES + "a,x,,\na,y,,\na,z,soon,\nb,x,,\n"]),
        (CUSTOMERS, [RANGES + "a,x,,\nb,y,,\n", RANGES + "b,y,,\na,x,late,\n,z,,\n"]),
    ],
)
def test_file_comes_out_as_if_it_were_read_each_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: AccountsFile, contents: list[str | None]
) -> None:
    skipping, reading = World(tmp_path / "skipping"), World(tmp_path / "reading")
    monkeypatch.setattr(account_copies, "_judged", lambda _, fingerprint: fingerprint)  # the folders' names differ
    hour = 0
    for content in contents:
        for _ in range(4):
            hour += 1
            found = []
            for world in (skipping, reading):
                with monkeypatch.context() as patch:
                    if world is reading:
                        patch.setattr(account_copies, "_now_judged", lambda _: "read it")
                    taken = take(world, content, hour, kind)
                copy = world.lake.accounts_copy(kind)
                rejected = [
                    [str(value).replace(str(world.root), "") for value in row]
                    for row in world.rows("*", f"{kind.name}_rejected.parquet")
                ]
                held = copy.held and (copy.held.since, copy.held.is_acceptable, copy.held.fingerprint)
                known = (copy.good.read_at, copy.good.kept, copy.columns, copy.unknown, copy.ends_a_line, held)
                figures = (taken.accepted, taken.rejected, list(taken.new_unknown), taken.copy.kept_since)
                found.append((world.rows("*", f"{kind.name}.parquet"), rejected, known, figures))
            assert found[0] == found[1], (hour, content)


def test_file_that_is_as_it_was_is_not_read_again(world: World, reads: list[str]) -> None:
    take(world, GOOD)
    taken = take(world, GOOD, hour=1)
    assert reads == ["accounts.csv"]
    assert (taken.accepted, taken.rejected) == (2, 0)
    assert taken.copy.good.read_at == world.lake.accounts_copy(ACCOUNTS).good.read_at == NOW + timedelta(hours=1)


def test_file_with_bad_cells_is_read_until_two_readings_say_the_same(world: World, reads: list[str]) -> None:
    """The second one knows since when what is kept is kept, the first one has nothing to keep."""
    for hour in range(5):
        assert take(world, BAD_CELL, hour).rejected == 1
    assert len(reads) == 3
    assert world.rows("reason, rejected_at", "accounts_rejected.parquet") == [
        (Rejection.INVALID_CELL, NOW + timedelta(hours=4))
    ]


def test_held_file_is_not_read_again_until_a_person_accepts_it(world: World, reads: list[str]) -> None:
    take(world, GOOD)
    for hour in (1, 2):
        held = take(world, HEADER, hour).copy.held
        assert held
        assert held.since == NOW + timedelta(hours=1)
    assert len(reads) == 2
    with world.lake.locked():
        account_copies.accept(world.lake.root, ACCOUNTS, held.fingerprint)
    assert take(world, HEADER, hour=3).accepted == 0


def test_edit_of_the_same_size_within_one_clock_tick_is_read(world: World) -> None:
    take(world, GOOD)
    path = world.root / "accounts.csv"
    before = path.stat()
    with path.open("r+") as file:  # the same inode
        file.write(GOOD.replace("Ann", "Eve"))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    after = path.stat()
    assert (after.st_size, after.st_mtime_ns, after.st_ino) == (before.st_size, before.st_mtime_ns, before.st_ino)
    with world.lake.writing():
        world.lake.write_accounts(ACCOUNTS, path, rejected_at=NOW)
    assert world.accounts("name") == ["Bob", "Eve"]


def test_unchanged_file_is_read_again_when_the_rules_are_others(
    world: World, reads: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    take(world, GOOD)
    monkeypatch.setattr(account_copies, "_rules", lambda: "of a later version")
    take(world, GOOD)
    take(world, GOOD)
    assert len(reads) == 2


def test_quarantine_is_of_the_file_after_a_killed_run_with_another(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    take(world, GOOD)
    rename = Path.replace

    def ended(path: Path, target: Path) -> Path:
        if path.name == ".accounts.parquet":
            raise KeyboardInterrupt
        return rename(path, target)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Path, "replace", ended)
        take(world, BAD_CELL, hour=1)
    assert len(world.accounts_rejected()) == 1
    assert take(world, GOOD, hour=2).rejected == 0
    assert world.accounts_rejected() == []


def test_memory_of_a_changed_file_is_a_few_times_its_size(world: World) -> None:
    def many(name: str) -> str:
        return HEADER + "".join(
            f"account-{number},{name} {number},{number}.50,cus_{number}\n" for number in range(20_000)
        )

    take(world, many("Before"))
    content = many("After")
    tracemalloc.start()
    try:
        assert take(world, content, hour=1).accepted == 20_000
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 14 * len(content), "Python's own objects alone; as many as one part has, and each id once"
