"""Users of a channel by e-mail address, as a route lists them."""

import pytest

from orchestration.messages import people


def test_users_are_listed_by_address() -> None:
    assert people.users("ana@example.com=80, ben@example.com = 90,") == {
        "ana@example.com": "80",
        "ben@example.com": "90",
    }
    assert people.users("") == {}


@pytest.mark.parametrize("listed", ["ana", "ana@example.com", "ana@example.com=@ana", "=80"])
def test_list_of_users_that_is_none_is_refused(listed: str) -> None:
    with pytest.raises(ValueError, match="an e-mail address, =, and the number"):
        people.users(listed)
