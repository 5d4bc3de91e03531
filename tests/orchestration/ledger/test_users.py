from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from orchestration.ledger.ledger import Ledger
from orchestration.ledger.outbox import InDoubtError, RefusedError
from orchestration.ledger.users import MAX_AGE, mentions
from tests.support.builders import NOW

DANA, ALEX = "dana@example.com", "alex@example.com"


class Directory:
    """A channel's users, and who was asked for."""

    def __init__(self, **users: str) -> None:
        self.users = {f"{name}@example.com": user for name, user in users.items()}
        self.asked: list[str] = []
        self.error: Exception | None = None

    def __call__(self, email: str) -> str | None:
        self.asked.append(email)
        if self.error:
            raise self.error
        return self.users.get(email)


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    ledger = Ledger(f"sqlite:///{tmp_path}/ledger.sqlite")
    yield ledger
    ledger.close()


Find = Callable[..., dict[str, str]]


@pytest.fixture
def find(ledger: Ledger) -> Find:
    def find(directory: Directory, *owners: str | None, after: timedelta = timedelta(0)) -> dict[str, str]:
        return mentions(ledger, "slack", owners, directory, NOW + after, said.append)

    said.clear()
    return find


said: list[str] = []


def test_owner_is_looked_up_once_a_week(find: Find) -> None:
    directory = Directory(dana="U0DANA", alex="U0ALEX")

    for after in (timedelta(0), MAX_AGE):
        assert find(directory, DANA, ALEX, DANA, after=after) == {DANA: "U0DANA", ALEX: "U0ALEX"}
    assert directory.asked == [ALEX, DANA]

    directory.users[DANA] = "U0OTHER"
    assert find(directory, DANA, after=MAX_AGE + timedelta(seconds=1)) == {DANA: "U0OTHER"}
    assert directory.asked == [ALEX, DANA, DANA]


@pytest.mark.parametrize("owner", ["Dana Reyes", "", None, "dana@", "@dana", "<!channel>", "a b@example.com"])
def test_owner_who_is_no_address_is_not_looked_up(find: Find, owner: str | None) -> None:
    directory = Directory(dana="U0DANA")

    assert find(directory, owner) == {}
    assert directory.asked == []


def test_stranger_is_asked_for_again_and_one_who_left_is_forgotten(find: Find) -> None:
    directory = Directory()
    assert find(directory, DANA) == {}
    directory.users[DANA] = "U0DANA"
    assert find(directory, DANA) == {DANA: "U0DANA"}
    directory.users.clear()

    assert find(directory, DANA, after=2 * MAX_AGE) == {}


@pytest.mark.parametrize("error", [RefusedError("add the scope"), InDoubtError("no answer")], ids=str)
def test_known_owners_are_mentioned_when_the_channel_cannot_be_asked(find: Find, error: Exception) -> None:
    directory = Directory(dana="U0DANA")
    find(directory, DANA)
    directory.error = error

    assert find(directory, DANA, ALEX, "zoe@example.com", after=2 * MAX_AGE) == {DANA: "U0DANA"}
    assert directory.asked == [DANA, ALEX]  # once it failed, nobody else is asked for
    assert said == [f"owners are named and not mentioned: {error}"]
