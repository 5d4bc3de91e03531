import json
from dataclasses import replace
from typing import Any

import pytest

from orchestration.channels.pagerduty.event import LINES, LINKS, draw
from orchestration.messages.message import Line, Message, Section
from tests.fakes.pagerduty import MAX_BYTES, MAX_SUMMARY_CHARACTERS

MESSAGE = Message(
    key="critical|2026-11-20T08:00:00Z",
    audience="sales",
    title="Hard quota alert · Fri 20 Nov 08:00 UTC",
    headline="Acme: out of quota, calls are refused, and 1 other",
    sections=[
        Section(
            "Refused",
            [
                Line("1.0 M of 1.0 M (100 %)", "ingrid@example.com", "Ingrid", "Acme", "https://crm.example.com/acme"),
                Line("99 of 100 (99 %)", "", "no owner", "Bolt", "javascript:alert(1)"),
            ],
        )
    ],
    footer=["The next digest marks them as alerted"],
)


def event_of(message: Message) -> dict[str, Any]:
    payload, replies = draw(message, "prod", {})
    assert replies == []
    event: dict[str, Any] = payload["event"]
    return event


def make_long(name: str, lines: int) -> Message:
    url = f"https://crm.example.com/{'a' * 1500}"
    return replace(
        MESSAGE,
        headline=name * 20,
        sections=[
            Section(f"Group {number}", [Line(name, "", name, name, f"{url}{number}-{n}") for n in range(lines)])
            for number in range(3)
        ],
        footer=[name],
    )


def test_event_has_a_summary_the_facts_and_links_to_accounts() -> None:
    assert event_of(MESSAGE) == {
        "payload": {
            "summary": "Acme: out of quota, calls are refused, and 1 other",
            "severity": "critical",
            "source": "headroom prod",
            "class": "critical",
            "custom_details": {
                "title": "Hard quota alert · Fri 20 Nov 08:00 UTC",
                "Refused": ["Acme · 1.0 M of 1.0 M (100 %) · Ingrid", "Bolt · 99 of 100 (99 %) · no owner"],
                "notes": ["The next digest marks them as alerted"],
            },
        },
        "links": [{"href": "https://crm.example.com/acme", "text": "Acme"}],
    }


@pytest.mark.parametrize(
    ("severity", "key", "shown"),
    [
        ("critical", "crossing|acme", "critical"),
        ("high", "crossing|acme", "error"),
        ("warm", "crossing|acme", "warning"),
        ("watch", "crossing|acme", "info"),
        ("", "critical|2026-11-20T08:00:00Z", "critical"),
        ("", "failure|2026-11-20", "warning"),
    ],
)
def test_severity_is_one_of_pagerdutys_four(severity: str, key: str, shown: str) -> None:
    event = event_of(replace(MESSAGE, severity=severity, key=key))

    assert event["payload"]["severity"] == shown


@pytest.mark.parametrize("name", ["n" * 1024, "\U0001f680" * 1024, "a\nb\u202e" * 300], ids=["long", "emoji", "lines"])
def test_event_stays_within_pagerdutys_limits_and_counts_what_it_omits(name: str) -> None:
    event = event_of(make_long(name, 60))

    assert len(event["payload"]["summary"]) <= MAX_SUMMARY_CHARACTERS
    assert len(json.dumps(event, ensure_ascii=False).encode()) < MAX_BYTES / 1.5
    details = event["payload"]["custom_details"]
    lines = [line for number in range(3) for line in details[f"Group {number}"]]
    assert len(lines) == LINES + 2
    assert details["Group 1"][-1] == "… and 20 more"
    assert details["Group 2"] == ["… and 60 more"]
    assert len(event["links"]) == LINKS
    assert not any("\n" in line or "\u202e" in line for line in lines)


def test_letter_is_the_text_of_the_event() -> None:
    letter = replace(MESSAGE, headline="", sections=[], footer=[], body="Dear Acme,\nyou are out of calls.")

    event = event_of(letter)

    assert event["payload"]["summary"] == letter.title
    assert event["payload"]["custom_details"] == {"title": letter.title, "text": letter.body}
