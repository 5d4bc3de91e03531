"""Many readers of one copy while it is swapped, is broken, or asked for too much."""

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import duckdb
import pytest

from orchestration.warehouse import published_copy
from orchestration.warehouse.kept_copy import KeptCopy
from orchestration.warehouse.published_copy import (
    KeptAnswers,
    NothingPublishedError,
    OutdatedCopyError,
    query,
    query_kept,
)

SWAPS, READERS = 50, 3
SLOW = "select count(*) as n from range(1000000000) as a (i), range(1000000) as b (j) where (i * j) % 7 = 3"


@pytest.fixture
def published(tmp_path: Path) -> Path:
    file = tmp_path / "published.duckdb"
    publish(file, 0)
    return file


@pytest.fixture
def kept(published: Path) -> Iterator[KeptCopy]:
    copy = KeptCopy(published)
    yield copy
    copy.close()


def publish(published: Path, *numbers: int) -> None:
    """Swap in copies, one after the other, each of two tables whose rows all have its number."""
    staging = published.with_name(".staging.duckdb")
    with duckdb.connect() as connection:  # one engine for all: to start one takes longer than to write a copy
        for number in numbers:
            connection.execute(f"attach '{staging}' as copy")
            for table in ("one", "other"):
                connection.execute(f"create table copy.{table} as select {number} as number from range(10)")
            connection.execute("detach copy")
            staging.replace(published)


def seen(published: Path, ask: Callable[..., list[dict[str, object]]] = query) -> set[object]:
    """The numbers in the two tables, asked one after the other."""
    return {row["number"] for table in ("one", "other") for row in ask(published, f"select distinct * from {table}")}


def open_copies(published: Path) -> int:
    """Files of copies that this process holds open, swapped out or not."""
    names = (str(published), str(published.with_name(".staging.duckdb")))
    held = (file.readlink() for file in Path("/proc/self/fd").iterdir() if file.is_symlink())
    return sum(str(name).removesuffix(" (deleted)") in names for name in held)


def test_readers_see_one_whole_copy_each_while_it_is_swapped(kept: KeptCopy, published: Path) -> None:
    ended = threading.Event()
    found: list[list[object]] = [[] for _ in range(READERS)]

    def read(mine: list[object]) -> None:
        while not ended.wait(0.005):
            with kept.reading():
                [number] = seen(published) | seen(published, query_kept)  # of one copy, or this fails
            mine.append(number)

    with ThreadPoolExecutor(READERS) as pool:
        reading = [pool.submit(read, mine) for mine in found]
        publish(published, *range(1, SWAPS + 1))
        ended.set()
        for done in reading:
            done.result()
    with kept.reading():
        assert seen(published) == {SWAPS}
    assert all(mine == sorted(mine) for mine in found), "an older copy after a newer one"
    assert all(mine for mine in found)
    assert open_copies(published) == 1


def test_an_old_copy_is_closed_by_its_last_reader(kept: KeptCopy, published: Path) -> None:
    with kept.reading() as old:
        publish(published, 1)
        with kept.reading() as new:
            assert new != old
            assert seen(published) == {1}
        assert seen(published) == {0}
        assert open_copies(published) == 2
    assert open_copies(published) == 1


def test_a_closed_copy_holds_no_file(published: Path) -> None:
    copy = KeptCopy(published)
    with copy.reading():
        copy.close()
        assert seen(published) == {0}
    assert open_copies(published) == 0


def test_a_slow_question_is_interrupted_and_the_next_is_answered(published: Path) -> None:
    copy = KeptCopy(published, most_seconds=0.1)
    with copy.reading(), pytest.raises(duckdb.InterruptException):
        query(published, SLOW)
    for _ in range(3):  # the same connection
        with copy.reading():
            assert seen(published) == {0}
    copy.close()


def test_a_copy_that_vanishes_is_found_again(kept: KeptCopy, published: Path) -> None:
    with kept.reading():
        assert seen(published) == {0}
    published.unlink()
    with pytest.raises(NothingPublishedError, match="no figures yet"), kept.reading():
        pass
    publish(published, 1)
    with kept.reading():
        assert seen(published) == {1}
    assert open_copies(published) == 1


@pytest.mark.parametrize("content", [b"", b"not a database", b"half"])
def test_a_broken_copy_is_refused_until_there_is_a_whole_one(kept: KeptCopy, published: Path, content: bytes) -> None:
    with kept.reading():
        pass
    broken = published.with_name("broken")
    broken.write_bytes(published.read_bytes()[:20_000] if content == b"half" else content)
    broken.replace(published)
    for _ in range(2):
        with pytest.raises(published_copy.UnreadableCopyError), kept.reading():
            seen(published)
    publish(published, 1)
    with kept.reading():
        assert seen(published) == {1}
    assert open_copies(published) == 1


def test_a_copy_of_an_earlier_version_is_refused_with_a_sentence(kept: KeptCopy, published: Path) -> None:
    with kept.reading():
        with pytest.raises(OutdatedCopyError, match="another version"):
            query_kept(published, "select newer_column from one")
        assert seen(published) == {0}


def test_an_answer_is_kept_for_its_copy_alone(kept: KeptCopy, published: Path) -> None:
    sql = "select min(number) + $more as n from one"
    with kept.reading():
        first = query_kept(published, sql, {"more": 0})
        assert query_kept(published, sql, {"more": 0}) is first
        assert query_kept(published, sql, {"more": 5}) == [{"n": 5}]
    publish(published, 1)
    with kept.reading():
        assert query_kept(published, sql, {"more": 0}) == [{"n": 1}]
    assert query_kept(published, sql, {"more": 1}) == [{"n": 2}]  # nothing is kept outside


def test_kept_answers_are_bounded_by_their_rows() -> None:
    answers = KeptAnswers(most_rows=100)
    with duckdb.connect() as connection:

        def ask(rows: int, number: int) -> list[dict[str, object]]:
            return answers.of(connection, "select $n as n from range($rows)", {"n": number, "rows": rows})

        assert ask(11, 0) is not ask(11, 0)  # too long for it
        first = ask(9, 0)
        assert ask(9, 0) is first
        for number in range(1, 11):
            ask(9, number)
        assert ask(9, 0) is not first  # the oldest has gone
        assert ask(9, 10) is ask(9, 10)
