"""What `headroom rejected` prints of lines that anybody may have written, and what a run says of Stripe."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from orchestration.cli.main import app
from orchestration.cli.tables import stripe_sentence
from tests.support.duckdb_file import opened


def test_rejected_lines_have_their_loss_and_a_hint_and_are_harmless(data: Path) -> None:
    with opened(data / "published.duckdb") as connection:
        connection.execute(
            """create table events_rejected as
            select chr(27) || ']0;file' || chr(7) as landed_file, 3 as line_number, 0 as item, reason, line,
                null::varchar as problem, timestamp '2026-11-20 08:00:00' as rejected_at, lost_events
            from (values
                ('damaged_file', 'the gzip data is damaged', 95),
                ('invalid_json', '{"event": "' || chr(27) || '[2J"}{"event": "api_call"}', 1)
            ) as t (reason, line, lost_events)"""
        )
    said = CliRunner().invoke(app, ["rejected"]).stdout

    assert "1 × damaged_file, about 95 events — the file cannot be read from here on" in " ".join(said.split())
    assert "1 × invalid_json — " in said
    assert "Several objects are in one line: put a line break after each." in said
    assert "\ufffd]0;file\ufffd:3" in said
    assert not {"\x1b", "\x07"} & set(said)


@pytest.mark.parametrize(
    ("reports", "customers", "sent", "words"),
    [
        (0, 0, {"taken": 2173}, "took 2,173 customer-hours, 0 new and 2,173 from earlier runs"),
        (3, 1, {"taken": 5}, "took 5 customer-hours, 3 new of 1 customer and 2 from earlier runs"),
        (1, 1, {"taken": 1}, "took 1 of 1 new customer-hour of 1 customer"),
        (3, 2, {"taken": 1, "refused": 2}, "took 1 of 3 new customer-hours of 2 customers, 2 refused"),
        (0, 0, {"taken": 0, "in_doubt": 1}, "nothing new to report, 1 in doubt"),
        (0, 0, {}, "nothing new to report"),
        (2, 1, {}, "would send 2 customer-hours of 1 customer"),
    ],
)
def test_sentence_of_stripe_adds_up(reports: int, customers: int, sent: dict[str, int], words: str) -> None:
    assert stripe_sentence({"reports": reports, "customers": customers, **sent}) == words
