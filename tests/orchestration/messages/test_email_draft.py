"""The draft to a customer: from a template that anybody may edit, whose mistakes are sentences."""

from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from orchestration.messages.account_wording import email_context
from orchestration.messages.email_draft import NAME, DraftError, draft
from tests.support.builders import make_standing


def context_of(**fields: Any) -> dict[str, Any]:
    return email_context(make_standing(account_name="Acme & Söhne <R&D>", **fields), date(2026, 11, 20))


def folder_with(tmp_path: Path, template: str) -> Path:
    (tmp_path / NAME).write_text(template)
    return tmp_path


def test_draft_has_the_accounts_own_numbers() -> None:
    text = draft(
        context_of(
            contact_email="api@acme.example",
            owner="ann@example.com",
            limit_kind="hard",
            next_plan="scale",
            is_staying_cheaper=False,
            mrr=Decimal(7_777),
        ),
        None,
    )

    assert text == (
        "To: api@acme.example\n"
        "Subject: Acme & Söhne <R&D>: 812,345 of 1,000,000 calls used\n\n"
        "Hello,\n\n"
        "your account has used 812,345 of its 1,000,000 calls (81.2 %) of the period until 01 December. If it goes on"
        " like this, the quota is used up on Friday, 27 November; from then on calls are refused.\n\n"
        "The scale plan has room for that. Shall we go through the numbers together?\n\n"
        "Kind regards\n"
        "ann@example.com"
    )


def test_draft_says_that_the_contact_is_missing() -> None:
    assert draft(context_of(), None).startswith("To: nobody yet: the accounts file has no contact_email")


@pytest.mark.parametrize(
    ("fields", "said", "unsaid"),
    [
        ({"used_mtd": 1_000_000, "limit_kind": "hard"}, "Further calls are refused", "If it goes on"),
        ({"used_mtd": 1_000_000, "limit_kind": "soft"}, "The quota is used up.", "refused"),
        ({"is_retry_storm": True, "next_plan": "scale"}, "find out why", "scale"),
        ({"is_staying_cheaper": True, "next_plan": "scale"}, "go through your numbers", "scale"),
        ({"hits_cap_in_period": False}, "(81.2 %)", "used up"),
    ],
)
def test_draft_offers_what_helps(fields: dict[str, Any], said: str, unsaid: str) -> None:
    text = draft(context_of(**fields), None)

    assert said in text
    assert unsaid not in text


def test_template_of_the_user_goes_before(tmp_path: Path) -> None:
    assert draft(context_of(), folder_with(tmp_path, "Dear {{ account }}")) == "Dear Acme & Söhne <R&D>"
    assert draft(context_of(), tmp_path / "empty").startswith("To: ")


@pytest.mark.parametrize(
    ("template", "reason"),
    [
        ("a\n\n{{ acount }}", "line 3: 'acount' is undefined"),
        ("a\n{{ account", "line 2: unexpected end of template"),
        ("{{ 1 / 0 }}", "line 1: division by zero"),
        ("{{ account.__class__.__mro__ }}", "line 1: access to attribute '__class__' of 'str' object is unsafe"),
        ("{{ account + 1 }}", "line 1: "),
        ("{% include 'other' %}", "line 1: 'other' not found in search path"),
    ],
)
def test_mistake_in_a_template_is_a_sentence_with_file_and_line(tmp_path: Path, template: str, reason: str) -> None:
    with pytest.raises(DraftError) as refusal:
        draft(context_of(), folder_with(tmp_path, template))

    assert reason in str(refusal.value)
    assert str(tmp_path) in str(refusal.value)
