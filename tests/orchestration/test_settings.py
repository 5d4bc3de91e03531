"""The environment: defaults, refusals, and where relative paths lead."""

from pathlib import Path

import pytest
from pydantic import ValidationError

from orchestration.settings import PROJECT_ROOT, load


def test_defaults_need_no_environment() -> None:
    config = load()
    assert config.data == PROJECT_ROOT / "data"
    assert config.landing == PROJECT_ROOT / "data" / "landing"
    assert config.accounts_csv == PROJECT_ROOT / "data" / "accounts.csv"
    assert config.timezone == "UTC"
    assert not config.is_production


def test_landing_is_in_the_data_folder_unless_named(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert load().landing == data / "landing"
    monkeypatch.setenv("HEADROOM_LANDING", "elsewhere")
    assert load().landing == PROJECT_ROOT / "elsewhere"


@pytest.mark.parametrize("name", ["accounts", "subjects", "customers"])
def test_files_of_accounts_are_in_the_data_folder_unless_named(
    data: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    assert getattr(load(), f"{name}_csv") == data / f"{name}.csv"
    monkeypatch.setenv(f"HEADROOM_{name.upper()}", "elsewhere.csv")
    assert getattr(load(), f"{name}_csv") == PROJECT_ROOT / "elsewhere.csv"


def test_fixed_clock_is_refused_in_production(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEADROOM_NOW", "2026-11-20T08:00:00Z")
    assert load().now().isoformat() == "2026-11-20T08:00:00+00:00"
    monkeypatch.setenv("HEADROOM_ENV", "production")
    with pytest.raises(ValidationError, match="HEADROOM_NOW is refused"):
        load()


def test_fixed_clock_needs_an_offset(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEADROOM_NOW", "2026-11-20T08:00:00")
    with pytest.raises(ValidationError, match="offset"):
        load()


def test_unknown_zone_is_refused_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEADROOM_TIMEZONE", "Mars/Olympus")
    with pytest.raises(ValidationError, match="Mars/Olympus"):
        load()


def test_empty_variables_count_as_unset(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLACK_BOT_TOKEN", "")
    monkeypatch.setenv("HEADROOM_NOW", "")
    assert load().slack_bot_token is None
    assert load().fixed_now is None


def test_secrets_are_not_in_the_text_of_the_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLACK_BOT_TOKEN", "xoxb-marked-secret")
    monkeypatch.setenv("STRIPE_API_KEY", "sk_test_marked-secret")
    assert "marked-secret" not in repr(load())


def test_audience_reads_in_the_channel_of_sales_unless_it_has_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEADROOM_SLACK_CHANNEL", "C0SALES")
    monkeypatch.setenv("HEADROOM_SLACK_CHANNEL_DATA", "C0DATA")

    channels = load().slack_channels

    assert channels == {"sales": "C0SALES", "cs": "C0SALES", "engineering": "C0SALES", "data": "C0DATA"}


def test_channels_are_listed_with_commas(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEADROOM_SLACK_ALLOWED_CHANNELS", "C0SALES, C0DATA,")

    assert load().slack_allowed_channels == ["C0SALES", "C0DATA"]
    assert load().slack_shared_channels == []


def test_example_file_names_every_variable() -> None:
    from orchestration.settings import Settings

    example = (PROJECT_ROOT / ".env.example").read_text()
    for field in Settings.model_fields.values():
        assert f"\n{field.alias}=" in example, field.alias
