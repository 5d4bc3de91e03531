"""`headroom db`, and what the other commands say of a ledger that has not been upgraded."""

import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from orchestration.cli import main
from orchestration.ledger import migrate
from tests.fakes.postgres import Postgres

NEWEST = f"  {migrate.HEAD}: "


def run(*arguments: str) -> tuple[int, str]:
    result = CliRunner().invoke(main.app, ["db", *arguments])
    return result.exit_code, result.output


@pytest.mark.parametrize("database", ["sqlite", "postgres"])
def test_upgrade_check_shows_what_upgrade_then_does(
    data: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, database: str
) -> None:
    if database == "postgres":
        server: Postgres = request.getfixturevalue("postgres")
        monkeypatch.setenv("HEADROOM_LEDGER_URL", server.database())

    for _ in range(2):
        status, said = run("upgrade", "--check")
        assert status == 1
        assert NEWEST in said
        assert "missing: run `headroom db upgrade`" in said

    status, said = run("upgrade")
    assert status == 0
    assert NEWEST in said
    assert said.endswith("migrations done\n")

    assert [run("upgrade", "--check"), run("upgrade")] == [(0, said.split("\n")[0] + "\nup to date\n")] * 2


def test_ledger_that_was_not_upgraded_is_refused_in_a_sentence(
    data: Path, postgres: Postgres, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HEADROOM_LEDGER_URL", postgres.database())
    monkeypatch.setenv("DAGSTER_HOME", "")
    monkeypatch.setattr(sys, "argv", ["headroom", "deliveries"])

    with pytest.raises(SystemExit) as ended:
        main.main()

    assert ended.value.code == 1
    assert "has no tables yet: run `headroom db upgrade`" in capsys.readouterr().err
