"""`headroom limits`: what gates know of an account, in a table."""

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from orchestration.cli.main import app
from orchestration.warehouse import limits

SNAPSHOT = {
    "published_at": "2026-11-20T08:00:00Z",
    "data_through": "2026-11-20T07:59:58Z",
    "columns": limits.COLUMNS,
    "accounts": [
        ["acme", "api-calls", "team", "hard", 1000, 812, 1793491200, 1796083200],
        ["<b>[red]", "api-calls", None, None, None, 0, 0, None],
    ],
    "subjects": [["key_1", "acme", 0, None], ["key_0", "acme", 0, 1]],
}


@pytest.fixture
def snapshot(data: Path) -> None:
    (data / "limits.json").write_text(json.dumps(SNAPSHOT))


def ask(*arguments: str) -> Any:
    return CliRunner().invoke(app, ["limits", *arguments])


@pytest.mark.usefixtures("snapshot")
@pytest.mark.parametrize(
    ("account", "said"),
    [
        ("", ["2 rows, published 2026-11-20 08:00 UTC, data through 2026-11-20T07:59:58Z"]),
        ("acme", ["team", "hard", "1,000", "812", "2026-12-01 00:00 UTC"]),
        ("key_1", ["key_1 belongs to acme.", "812"]),
        ("<b>[red]", ["not known", "none", "never"]),
    ],
)
def test_limits_of_an_account_are_shown(account: str, said: list[str]) -> None:
    shown = ask(account)
    assert shown.exit_code == 0
    assert [each for each in said if each not in shown.stdout] == []


@pytest.mark.usefixtures("snapshot")
@pytest.mark.parametrize("account", ["globex", "key_0"])
def test_account_that_no_gate_knows_is_said(account: str) -> None:
    assert f"no gate knows '{account}', so each lets its calls through" in ask(account).stderr


def test_snapshot_that_is_missing_is_said(data: Path) -> None:
    assert "does not exist yet: `headroom run` writes it" in ask("acme").stderr
