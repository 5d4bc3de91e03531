"""What `headroom rejected` prints of lines that anybody may have written."""

from pathlib import Path

import duckdb
from typer.testing import CliRunner

from orchestration.cli.main import app


def test_rejected_lines_have_their_loss_and_a_hint_and_are_harmless(data: Path) -> None:
    with duckdb.connect(str(data / "published.duckdb")) as connection:
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

    assert "1 × damaged_file, about 95 events — from here on" in " ".join(said.split())
    assert "1 × invalid_json — " in said
    assert "Several objects are in one line" in said
    assert "\ufffd]0;file\ufffd:3" in said
    assert not {"\x1b", "\x07"} & set(said)
