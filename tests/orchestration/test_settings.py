"""The environment: defaults, refusals, and where relative paths lead."""

import os
import re
from pathlib import Path

import pytest
from pydantic import SecretStr, ValidationError

from orchestration.settings import PROJECT_ROOT, READ_BY_OTHERS, ConfigurationError, Settings, load, unread


def test_defaults_need_no_environment() -> None:
    config = load()
    assert config.data == PROJECT_ROOT / "data"
    assert config.landing == PROJECT_ROOT / "data" / "landing"
    assert config.accounts_csv == PROJECT_ROOT / "data" / "accounts.csv"
    assert config.timezone == "UTC"
    assert not config.is_production


@pytest.mark.parametrize("name", [".", "..", "lake", "lake/batches", "link"])
def test_landing_folder_is_refused_where_headroom_keeps_its_own_files(
    data: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    (data / "link").symlink_to(data)
    monkeypatch.setenv("HEADROOM_LANDING", str(data / name))
    with pytest.raises(ValueError, match="where Headroom keeps its own files, so it would read them as new events"):
        load()
    for allowed in ("landing", "lake-of-events", "../landing"):
        monkeypatch.setenv("HEADROOM_LANDING", str(data / allowed))
        load()


@pytest.mark.parametrize(
    ("path", "named"),
    [
        ("a?b", "?"),
        ("a#b", "#"),
        ("[x]", "["),
        ("a*b", "*"),
        ("a\\b#", "\\ and #"),
        ("a\nb", r"'\n'"),
        ("a\udce9b", r"'\udce9'"),
    ],
)
def test_data_folder_that_libraries_cut_short_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, path: str, named: str
) -> None:
    monkeypatch.setenv("HEADROOM_DATA", str(tmp_path / path / "data"))
    with pytest.raises(ValidationError) as refused:
        load()
    assert f"because of the {named} in its path. Rename the folder" in str(refused.value)
    assert not list(tmp_path.iterdir())


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


def test_calls_that_somebody_still_asks_for_have_to_be_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    assert load().lake_keep_days is None
    monkeypatch.setenv("HEADROOM_LAKE_KEEP_DAYS", "400")
    assert load().lake_keep_days == 400
    monkeypatch.setenv("HEADROOM_LAKE_KEEP_DAYS", "399")
    with pytest.raises(ValidationError, match="a year in which customers dispute"):
        load()


@pytest.mark.parametrize("lake", ["s3://bucket/in", "s3://bucket/in/lake/"])
def test_lake_inside_of_landing_is_refused(monkeypatch: pytest.MonkeyPatch, lake: str) -> None:
    monkeypatch.setenv("HEADROOM_LANDING_URL", "s3://bucket/in")
    monkeypatch.setenv("HEADROOM_LAKE_URL", "s3://bucket/in-lake")
    load()
    monkeypatch.setenv("HEADROOM_LAKE_URL", lake)
    with pytest.raises(ValidationError, match="its own prefix"):
        load()


def test_collected_events_that_nothing_would_read_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEADROOM_LANDING_URL", "s3://bucket/landing")
    monkeypatch.setenv("HEADROOM_COLLECT_URL", "s3://bucket/landing/")
    load()
    monkeypatch.setenv("HEADROOM_COLLECT_URL", "s3://bucket/landing-too")
    with pytest.raises(ValidationError, match="put it inside"):
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

    sales = dict.fromkeys(("sales", "cs", "engineering"), "C0SALES")
    assert channels == {**sales, "data": "C0DATA", "finance": "C0DATA"}


def test_channels_are_listed_with_commas(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEADROOM_SLACK_ALLOWED_CHANNELS", "C0SALES, C0DATA,")

    assert load().slack_allowed_channels == ["C0SALES", "C0DATA"]
    assert load().slack_shared_channels == []


def test_example_file_names_every_variable() -> None:
    from orchestration.settings import Settings

    example = (PROJECT_ROOT / ".env.example").read_text()
    for field in Settings.model_fields.values():
        assert f"\n{field.alias}=" in example, field.alias


PASSWORD = "s3cr3t"


@pytest.mark.parametrize("name", ["HEADROOM_LEDGER_URL", "HEADROOM_DAGSTER_POSTGRES_URL", "HEADROOM_DESTINATION_URL"])
@pytest.mark.parametrize(
    "url",
    [
        f"{PASSWORD}",
        f"mysql://u:{PASSWORD}@host/db",
        f"postgresql://u:x@{PASSWORD}@host/db",
        f"postgresql://u:/{PASSWORD}@host/db",
        f"postgresql://u:1/{PASSWORD}@host/db",
        f"postgresql://u:{PASSWORD}@host:port/db",
        f"postgresql://u:{PASSWORD}@host/",
    ],
)
def test_url_of_postgres_is_refused_in_a_sentence_without_its_password(
    monkeypatch: pytest.MonkeyPatch, name: str, url: str
) -> None:
    monkeypatch.setenv(name, url)
    with pytest.raises(ValidationError, match=r"use postgresql://user:password@host:5432/database") as caught:
        load()
    assert name in str(caught.value)
    assert PASSWORD not in str(caught.value)


@pytest.mark.parametrize(
    "url",
    [
        f"{PASSWORD}",
        f"clickhouse://u:{PASSWORD}@host/database",
        f"http://u:x@{PASSWORD}@host/database",
        f"http://u:/{PASSWORD}@host/database",
        f"http://u:{PASSWORD}@host:port/database",
        f"http://u:{PASSWORD}@host",
        f"http://u:{PASSWORD}@host/data-base",
        f"http://u:{PASSWORD}@host/database?cluser=main",
    ],
)
def test_url_of_clickhouse_is_refused_in_a_sentence_without_its_password(
    monkeypatch: pytest.MonkeyPatch, url: str
) -> None:
    monkeypatch.setenv("HEADROOM_CLICKHOUSE_URL", url)
    with pytest.raises(ValidationError, match=r"HEADROOM_CLICKHOUSE_URL\n.*use http://user:password@host") as caught:
        load()
    assert PASSWORD not in str(caught.value)


def test_clickhouse_is_refused_in_a_sentence_without_its_adapter(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("HEADROOM_CLICKHOUSE_URL", f"http://u:{PASSWORD}@host/database")
    assert PASSWORD not in repr(load())
    monkeypatch.setattr("orchestration.settings.find_spec", lambda name: None)
    with pytest.raises(ValidationError, match=r"dbt-clickhouse is not installed: pip install '\.\[clickhouse\]'"):
        load()


def test_ledger_is_on_postgres_where_that_is_set(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert load().ledger_url == f"sqlite:///{data / 'ledger.sqlite'}"
    monkeypatch.setenv("HEADROOM_LEDGER_URL", f"postgresql://u:{PASSWORD}%40@host/db")
    assert load().ledger_url == f"postgresql://u:{PASSWORD}%40@host/db"
    assert PASSWORD not in repr(load())


def test_files_of_an_earlier_version_are_closed_to_others(data: Path) -> None:
    (data / "lake").mkdir()
    for name in ("ledger.sqlite", "warehouse.duckdb", "published.duckdb"):
        (data / name).touch()
    (data / "published.duckdb").chmod(0o444)
    load().export()

    modes = {path.name: f"{path.stat().st_mode & 0o777:o}" for path in data.iterdir()}
    files = {"ledger.sqlite": "640", "warehouse.duckdb": "640", "published.duckdb": "440"}
    assert modes == {**files, "lake": "750", "landing": "755"}
    (data / "new").touch()
    assert (data / "new").stat().st_mode & 0o777 == 0o640


def test_storage_of_dagster_is_exported_for_dagster_yaml(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = load()
    monkeypatch.setenv("HEADROOM_DAGSTER_POSTGRES_URL", "set by a test before, and unset after it")
    config.postgres_dagster = SecretStr("postgresql://host/db")
    for name in ("DAGSTER_HOME", "DAGSTER_EVENT_BATCH_SIZE", "DBT_SEND_ANONYMOUS_USAGE_STATS", "DO_NOT_TRACK"):
        monkeypatch.setenv(name, "")
    config.export()
    assert os.environ["HEADROOM_DAGSTER_POSTGRES_URL"] == "postgresql://host/db"


@pytest.mark.parametrize(
    ("name", "nearest"),
    [
        ("HEADROOM_TIMEZNE", "HEADROOM_TIMEZONE"),
        ("HEADROOM_SLACK_BOT_TOKEN", "SLACK_BOT_TOKEN"),
        ("HEADROOM_STRIPE_API_KEY", "STRIPE_API_KEY"),
        ("headroom_bill_sample", "HEADROOM_BILL_SAMPLED"),
    ],
)
def test_misspelled_variable_is_refused(monkeypatch: pytest.MonkeyPatch, name: str, nearest: str) -> None:
    monkeypatch.setenv(name, "marked-secret")
    with pytest.raises(ConfigurationError, match=f"{name.upper()} .environment. .*Headroom reads {nearest}$") as caught:
        load()
    assert "marked-secret" not in str(caught.value)


def test_variables_of_others_are_let_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HEADROOM_SERVICE_HOST", "HEADROOM_COLLECTOR_SERVICE_PORT_HTTP", "HEADROOM_PORT_80_TCP_ADDR"):
        monkeypatch.setenv(name, "10.0.0.1")
    monkeypatch.setenv("HEADROOM_COLLECTOR_PORT", "tcp://10.0.0.1:80")
    monkeypatch.setenv("STRIPE_WEBHOOK_SECRET", "whsec_x")
    monkeypatch.setenv("TIMEZONE", "Europe/Berlin")
    load()
    assert unread() == []


@pytest.mark.parametrize("place", ["environment", ".env"])
def test_names_of_fields_are_variables_of_others(env_file: Path, monkeypatch: pytest.MonkeyPatch, place: str) -> None:
    theirs = {"ENV": "production", "data": "elsewhere", "TIMEZONE": "Europe/Vienna", "STRIPE_GRACE_HOURS": "{}"}
    if place == "environment":
        for name, value in theirs.items():
            monkeypatch.setenv(name, value)
    else:
        env_file.write_text("".join(f"{name}={value}\n" for name, value in theirs.items()))
    config = Settings()
    assert (config.env, config.data, config.timezone) == ("local", PROJECT_ROOT / "data", "UTC")
    assert Settings(env="staging").env == "staging"


def test_other_names_of_our_tokens_are_named_until_ours_are_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STRIPE_SECRET_KEY", "sk_test_x")
    assert [(each.name, each.nearest) for each in unread()] == [("STRIPE_SECRET_KEY", "STRIPE_API_KEY")]
    monkeypatch.setenv("STRIPE_API_KEY", "sk_test_x")
    assert unread() == []


def test_every_variable_of_the_deployment_and_of_dbt_is_known() -> None:
    known = {field.alias for field in Settings.model_fields.values()}
    folders = ("deploy", "dbt_project", "orchestration/collector/snippets")
    files = [path for folder in folders for path in (PROJECT_ROOT / folder).rglob("*") if path.is_file()]
    texts = [path.read_text(errors="replace") for path in files if path.suffix != ".duckdb"]
    names = {name for text in texts for name in re.findall(r"\bHEADROOM_[A-Z_]*[A-Z]\b", text)}
    assert "HEADROOM_DATA" in names
    assert [name for name in sorted(names - known) if not READ_BY_OTHERS.fullmatch(name)] == []


@pytest.fixture
def env_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A `.env`, for the settings to read."""
    path = tmp_path / ".env"
    monkeypatch.setattr(Settings, "model_config", {**Settings.model_config, "env_file": path})
    return path


def test_sources_of_the_configuration_are_known(env_file: Path, data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    env_file.write_text("# comment\n\nHEADROOM_TIMEZONE=Europe/Berlin\nHEADROOM_PORT=\n\nexport HEADROOM_DATA=x\n")
    config = load()
    assert config.timezone == "Europe/Berlin"
    assert config.sources == {"HEADROOM_TIMEZONE": ".env, line 3", "HEADROOM_DATA": "environment"}


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"HEADROOM_PORT=1\nsecret words without a name\n", r"\.env, line 2: not NAME=value"),
        (b"HEADROOM_PORT=1\nSLACK_BOT_TOKEN='secret\n", r"\.env, line 2: not NAME=value; .*an open quotation mark"),
        ("SLACK_BOT_TOKEN=sécret".encode("latin-1"), r"\.env is not UTF-8 text"),
        (b"TIMEZONE=secret\n", r"TIMEZONE \(\.env, line 1\) has no effect: Headroom reads HEADROOM_TIMEZONE"),
        (b"\nSLACK_TOKEN=secret\n", r"SLACK_TOKEN \(\.env, line 2\) has no effect: Headroom reads SLACK_BOT_TOKEN"),
    ],
)
def test_broken_env_file_is_refused_by_its_line(env_file: Path, content: bytes, words: str) -> None:
    env_file.write_bytes(content)
    with pytest.raises(ConfigurationError, match=words) as caught:
        load()
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("env", ["prod", "Production", "PRODUCTION", "produktion", "live", "pro|duction", ""])
def test_environment_that_means_production_is_refused(monkeypatch: pytest.MonkeyPatch, env: str) -> None:
    monkeypatch.setenv("HEADROOM_ENV", "staging")
    assert not load().is_production
    monkeypatch.setenv("HEADROOM_ENV", env)
    if env:
        with pytest.raises(ValidationError, match="HEADROOM_ENV"):
            load()
    else:
        assert load().env == "local"


def test_messages_link_the_page_of_an_account_before_the_crm(monkeypatch: pytest.MonkeyPatch) -> None:
    assert load().account_url is None
    monkeypatch.setenv("HEADROOM_CRM_URL", "https://crm.example.com/{account_id}")
    assert load().account_url == "https://crm.example.com/{account_id}"
    monkeypatch.setenv("HEADROOM_PAGES_URL", "https://usage.example.com/pages/")
    assert load().account_url == "https://usage.example.com/pages/accounts/?id={account_id}"
