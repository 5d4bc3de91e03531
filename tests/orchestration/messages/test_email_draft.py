"""The draft to a customer: from a template that anybody may edit, whose mistakes are sentences."""

from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from orchestration.messages.email_draft import NAME, DraftError, draft, greeting, letter
from tests.support.builders import make_standing

FRIDAY = date(2026, 11, 20)


def letter_of(**fields: Any) -> dict[str, Any]:
    found = letter(make_standing(**{"account_name": "Acme & Söhne <R&D>", "advice": "call_help", **fields}), FRIDAY)
    assert found is not None
    return found


def text_of(**fields: Any) -> str:
    return draft(letter_of(**fields), None)


def folder_with(tmp_path: Path, template: str) -> Path:
    (tmp_path / NAME).write_text(template)
    return tmp_path


def test_draft_has_the_accounts_own_numbers() -> None:
    text = text_of(
        contact_email="anna.schmidt@acme.example",
        owner="ingrid.lund@example.com",
        limit_kind="hard",
        advice="call_upgrade",
        situation="refused_soon",
        next_plan="scale",
        is_refused=True,
        is_refused_on_next_plan=False,
        mrr=Decimal(7_777),
    )

    assert text == (
        "To: anna.schmidt@acme.example\n"
        "Subject: Acme & Söhne <R&D>: 812,345 of 1,000,000 calls used\n\n"
        "Hello Anna,\n\n"
        "Your account has used 812,345 of its 1,000,000 calls (81.2 %) for the period until 30 November. At the current"
        " rate you will reach your quota on Friday, 27 November. From then on, further calls are refused.\n\n"
        "The scale plan has room for this. Would you like to go over the numbers together?\n\n"
        "Kind regards\n"
        "Ingrid Lund"
    )


def test_draft_about_a_gauge_has_no_period_and_no_rate() -> None:
    seats = {"meter": "seats", "unit": "seats", "used_mtd": 50, "quota": 50, "pct_of_cap": Decimal(100)}

    text = text_of(**seats, limit_kind="hard", situation="no_larger_plan", account_name="Acme")

    assert text == (
        "To: nobody yet: the accounts file has no contact_email for this account\n"
        "Subject: Acme: 50 of 50 seats in use\n\n"
        "Hello Acme team,\n\n"
        "Your account uses 50 of its 50 seats (100.0 %). Your quota is used up, so further seats are refused until the"
        " quota is raised.\n\n"
        "Would you like to talk about a larger quota?\n\n"
        "Kind regards"
    )


def test_draft_about_a_summed_meter_has_its_unit_its_period_and_its_rate() -> None:
    transfer = {"meter": "transfer", "aggregation": "sum", "unit": "0.001 GB", "used_mtd": 8_123, "quota": 10_000}

    text = text_of(**transfer, limit_kind="soft", cost_of_waiting="overage starts", account_name="Acme")

    assert "Subject: Acme: 8.123 of 10 GB used\n" in text
    assert "Your account has used 8.123 of its 10 GB (81.2 %) for the period until 30 November." in text
    assert "you will reach your quota on Friday, 27 November. From then on, further GB are billed as overage." in text


@pytest.mark.parametrize(
    ("advice", "is_written"),
    [
        *((advice, True) for advice in ("call_upgrade", "offer_upgrade", "call_help", "help_first", "tell_overage")),
        *((advice, False) for advice in ("do_not_pitch", "watch", "renewal_talk", "csm_check_in", "none", None)),
    ],
)
def test_draft_is_written_only_where_the_advice_is_to_write(advice: str | None, is_written: bool) -> None:
    assert (letter(make_standing(advice=advice), FRIDAY) is not None) is is_written


USED_UP: dict[str, Any] = {"used_mtd": 1_000_000, "next_plan": "scale", "is_refused_on_next_plan": False}
PITCH = "The scale plan"
OFFER: dict[str, Any] = {"advice": "offer_upgrade", "next_plan": "scale", "is_refused_on_next_plan": False}


@pytest.mark.parametrize(
    ("fields", "said", "unsaid"),
    [
        ({**USED_UP, "limit_kind": "hard"}, "so further calls are refused until the period ends", "At the current"),
        ({**USED_UP, "limit_kind": "hard", "reasons": "over_quota,served_past_limit"}, "quota is used up.", "refused"),
        ({**USED_UP, "limit_kind": "soft", "cost_of_waiting": "overage starts"}, "billed as overage", "refused"),
        ({**USED_UP, "limit_kind": "soft", "cost_of_waiting": ""}, "quota is used up.", "overage"),
        (
            {"limit_kind": "soft", "cost_of_waiting": "overage starts"},
            "From then on, further calls are billed",
            "refused",
        ),
        ({**USED_UP, "limit_kind": "throttle"}, "further calls are slowed down until the period ends", "refused"),
        ({"limit_kind": "throttle", "advice": "tell_overage"}, "calls are slowed down", "next invoice"),
        ({**USED_UP, "limit_kind": "monitor", "advice": "tell_overage"}, "quota is used up.", "next invoice"),
        ({"advice": "help_first", "is_retry_storm": True, "next_plan": "scale"}, "is retries of failed calls", "scale"),
        ({"advice": "help_first", "limit_kind": "hard"}, "Many of your recent calls fail", "refused"),
        ({"advice": "tell_overage", "next_plan": "scale"}, "does not surprise you", "scale"),
        ({"advice": "call_help", "is_trial": True, "next_plan": "scale"}, "go over your trial", "scale"),
        ({"advice": "call_help", "next_plan": "scale"}, "about a larger quota?", "scale"),
        ({**OFFER, "situation": "upgrade_cheaper"}, f"{PITCH} would cost you less.", "room"),
        ({**OFFER, "situation": "refused_soon"}, f"{PITCH} has room for this.", "less"),
        ({**OFFER, "situation": "refused_soon", "is_refused_on_next_plan": True}, "a larger quota?", "scale"),
        ({"hits_cap_in_period": False}, "(81.2 %)", "current rate"),
    ],
)
def test_draft_says_the_consequence_and_offers_what_helps(fields: dict[str, Any], said: str, unsaid: str) -> None:
    text = text_of(**fields)

    assert said in text
    assert unsaid not in text


@pytest.mark.parametrize(
    ("contact", "name"),
    [
        ("anna.schmidt@acme.example", "Anna"),
        ("jörg_müller@acme.example", "Jörg"),
        ("a.schmidt@acme.example", "Acme team"),
        ("api.team@acme.example", "Acme team"),
        ("dev.berlin@acme.example", "Acme team"),
        ("anna@acme.example", "Acme team"),
        ("anna.schmidt2@acme.example", "Acme team"),
        (None, "Acme team"),
    ],
)
def test_draft_greets_a_person_only_where_the_address_names_one(contact: str | None, name: str) -> None:
    assert greeting(make_standing(account_name="Acme", contact_email=contact)) == name


@pytest.mark.parametrize(
    ("period_end", "last_day"),
    [
        (datetime(2026, 12, 1, tzinfo=UTC), "30 November"),
        (datetime(2026, 12, 14, 9, 30, tzinfo=UTC), "14 December"),
        (datetime(9999, 12, 31, tzinfo=UTC), ""),
    ],
)
def test_period_of_a_draft_ends_on_its_last_day(period_end: datetime, last_day: str) -> None:
    assert letter_of(period_end=period_end)["period_ends"] == last_day


def test_letter_has_nothing_internal_and_stays_on_its_lines() -> None:
    found = letter_of(mrr=Decimal(7_777), csm="omar", severity="critical", account_name="Acme\nBcc: all@example.com")

    assert not {"mrr", "csm", "severity", "value", "reasons"} & set(found)
    assert "7777" not in str(found).replace(",", "")
    assert draft(found, None).splitlines()[1] == "Subject: Acme Bcc: all@example.com: 812,345 of 1,000,000 calls used"


def test_letter_says_when_the_cap_is_hit_only_if_it_is_ahead() -> None:
    assert letter_of()["hits_cap"] == "Friday, 27 November"
    assert letter_of(used_mtd=1_000_000)["hits_cap"] == ""
    assert letter_of(hits_cap_in_period=False)["hits_cap"] == ""


def test_template_of_the_user_goes_before(tmp_path: Path) -> None:
    assert draft(letter_of(), folder_with(tmp_path, "Dear {{ account }}")) == "Dear Acme & Söhne <R&D>"
    assert draft(letter_of(), tmp_path / "empty").startswith("To: ")


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
        draft(letter_of(), folder_with(tmp_path, template))

    assert reason in str(refusal.value)
    assert str(tmp_path) in str(refusal.value)
