"""Names of accounts as messages have them."""

import pytest

from orchestration.messages.message import account_name

BLANKS = ["", " ", "\t", "\u00a0", "\u200b", "\u2060", "\ufeff", "\u202e", "\x00", " \u200b\n ", "\u3000"]


@pytest.mark.parametrize("blank", [None, *BLANKS], ids=ascii)
def test_account_has_a_name_that_can_be_seen_whatever_it_is_called(blank: str | None) -> None:
    assert account_name({"account_name": blank, "account_id": "acme"}) == "acme"
    assert account_name({"account_name": blank, "account_id": blank}) == "account without a name"
