"""A message as an event: what is in it, and numbers and texts that every JSON reader takes alike."""

import json
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestration.channels.webhook import event
from orchestration.channels.webhook.event import LARGEST, draw
from orchestration.messages.message import Line, Message, Section
from tests.support.builders import CHART, make_digest


def make_data(**fields: Any) -> dict[str, Any]:
    known = {"key": "weekly|2026-W47", "audience": "cs", "title": "Week 47", "headline": "1 dropping"}
    payload, replies = draw(Message(**{**known, **fields}), "production", {})
    assert replies == []
    assert payload["type"] == f"headroom.{fields.get('key', 'weekly|').partition('|')[0]}"
    data: dict[str, Any] = json.loads(json.dumps(payload["data"], allow_nan=False))
    return data


def test_event_has_all_of_the_message() -> None:
    line = Line("−60 %", "dana@example.com", "Dana", "Cedar", "https://crm/1", account_id="c1", meter="api-calls")
    data = make_data(
        sections=[Section("Dropping (1)", [line])],
        footer=["Data through 08:00"],
        table=[{"account": "acme", "used": 1}],
        notification="Cedar drops",
        charts=[CHART],
        severity="high",
        reply_to="dana@example.com",
        unsubscribe="https://example.com/u",
    )

    assert data == {
        "environment": "production",
        "key": "weekly|2026-W47",
        "audience": "cs",
        "severity": "high",
        "is_test": False,
        "title": "Week 47",
        "headline": "1 dropping",
        "notification": "Cedar drops",
        "body": "",
        "sections": [
            {
                "heading": "Dropping (1)",
                "lines": [
                    {
                        "text": "−60 %",
                        "owner": "dana@example.com",
                        "owner_name": "Dana",
                        "name": "Cedar",
                        "url": "https://crm/1",
                        "account_id": "c1",
                        "meter": "api-calls",
                    }
                ],
            }
        ],
        "footer": ["Data through 08:00"],
        "charts": [CHART],
        "digest": None,
        "table_rows": 1,
        "table": [{"account": "acme", "used": 1}],
        "reply_to": "dana@example.com",
        "unsubscribe": "https://example.com/u",
    }


def test_digest_is_in_the_event_as_it_is() -> None:
    digest = make_digest(2)
    assert make_data(key="digest|2026-11-20", digest=digest)["digest"] == digest


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (LARGEST, LARGEST),
        (-LARGEST, -LARGEST),
        (LARGEST + 1, str(LARGEST + 1)),
        (-(2**63), str(-(2**63))),
        (Decimal("1E+3"), "1000"),
        (Decimal("0.10"), "0.10"),
        (0.5, 0.5),
        (float("nan"), None),
        (True, True),
        (None, None),
        (date(2026, 11, 20), "2026-11-20"),
        (datetime(2026, 11, 20, 8, tzinfo=UTC), "2026-11-20T08:00:00+00:00"),
        ("\ud800x", "?x"),
        (["a", ("b",)], ["a", ["b"]]),
    ],
)
def test_value_is_one_that_every_reader_takes_alike(value: object, said: object) -> None:
    assert make_data(table=[{"value": value}])["table"] == [{"value": said}]


@given(st.text(), st.integers())
def test_event_is_json_whatever_the_names_are(text: str, number: int) -> None:
    data = make_data(title=text, sections=[Section(text, [Line(text, name=text)])], table=[{text: number}])
    assert data["title"] == text
    assert int(data["table"][0][text]) == number


def test_table_is_cut_where_the_event_would_be_too_large(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(event, "MOST_BYTES", 2_000)
    data = make_data(table=[{"account": "x" * 100}] * 50)

    assert data["table_rows"] == 50
    assert 5 < len(data["table"]) < 20
    assert len(json.dumps(data, separators=(",", ":"))) <= 2_000
