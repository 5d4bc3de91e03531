"""Every environment variable that Headroom reads, typed, with its unit and its default.

Nothing else in the project reads the environment. A variable belongs here as soon as somebody who runs
Headroom may want to change it; numbers that define what a figure means belong to the dbt project instead.

This module is long because each variable is explained where it is declared, and there is one place to look for them.
"""

import os
import re
import stat
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from difflib import get_close_matches
from functools import cache, cached_property
from importlib.util import find_spec
from io import StringIO
from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path
from typing import Literal, Self
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo, available_timezones

from dotenv import dotenv_values
from dotenv.parser import parse_stream
from pydantic import Field, PrivateAttr, SecretStr, field_validator, model_validator
from pydantic_settings import BaseSettings, EnvSettingsSource, PydanticBaseSettingsSource, SettingsConfigDict

PROJECT_ROOT = Path(__file__).resolve().parent.parent
# Strictly: of a password with a bare @ or / in it a piece would become the host, which messages name.
CLICKHOUSE_URL = re.compile(r"https?://([^\s:/?#@]+(:[^\s:/?#@]*)?@)?[\w.-]+(:\d+)?/[A-Za-z_]\w*(\?cluster=[\w.-]+)?")
UNWRITABLE = re.compile(r"[\x00-\x1f\x7f\ud800-\udfff]")
"""Control characters, and bytes of a path that are not UTF-8."""
FOR_OTHERS = 0o027
"""What neither the group may do (write) nor anybody else (anything) with files of the data folder."""

LAKE_KEEP_DAYS = 400
"""The least that a lake may keep calls of."""

READ_BY_OTHERS = re.compile(
    "HEADROOM_(WAREHOUSE|CLICKHOUSE_(HOST|PORT|DATABASE|USER|PASSWORD|SECURE|CLUSTER)"  # dbt_project/profiles.yml
    "|URL|KEY"  # the clients in collector/snippets
    "|GATE_.*"  # an API with a gate, as in collector/snippets/examples/gate_main.py
    "|(COLLECT|PAGES)_BIND"  # deploy/compose.yaml
    "|TEST_.*"
    r"|ROUTE_\w+"  # Settings.secret, by the names of the routes
    # Kubernetes sets them in every pod beside a Service called headroom, or headroom-collect.
    "|(.*_)?SERVICE_(HOST|PORT.*)|(.*_)?PORT_[0-9]+_(TCP|UDP).*)"
)
"""Variables whose names begin like ours, which the settings do not read."""
OTHER_NAMES = {
    "SLACK_TOKEN": "SLACK_BOT_TOKEN",
    "SLACK_API_TOKEN": "SLACK_BOT_TOKEN",
    "SLACK_CHANNEL": "HEADROOM_SLACK_CHANNEL",
    "SLACK_CHANNEL_ID": "HEADROOM_SLACK_CHANNEL",
    "STRIPE_KEY": "STRIPE_API_KEY",
    "STRIPE_SECRET": "STRIPE_API_KEY",
    "STRIPE_SECRET_KEY": "STRIPE_API_KEY",
}
"""Names that other programs give to what we read by another one."""
PRODUCTION = {"prod", "prd", "live"}
"""What people write and mean `production`."""


class ConfigurationError(ValueError):
    """The configuration cannot be used. `problems` has a sentence for each thing that is wrong, without secrets."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__(". ".join(problems))
        self.problems = problems


@dataclass(frozen=True)
class Unread:
    """A variable that is set and that nothing reads."""

    name: str
    source: str
    """Where it is set, for people."""
    nearest: str | None
    """The variable that was probably meant."""
    is_misspelled: bool
    """It can only have been meant for us."""

    def __str__(self) -> str:
        instead = f"Headroom reads {self.nearest}" if self.nearest else "correct the name, or remove it"
        return f"{self.name} ({self.source}) has no effect: {instead}"


class _Variables(EnvSettingsSource):
    """What pydantic-settings found in the environment, or in `.env`: the variables of our names.

    By itself it reads a field by the field's name, too, so that somebody else's ENV=production would be ours. And it
    asks of each field whether its text is JSON, which takes four fifths of the time. Each of ours is one value.
    """

    def __init__(self, settings: type[BaseSettings], found: PydanticBaseSettingsSource) -> None:
        super().__init__(settings)
        assert isinstance(found, EnvSettingsSource)
        self.env_vars = found.env_vars

    def __call__(self) -> dict[str, str]:
        values = {name: self.env_vars.get(name.lower()) for name in _names()}
        return {name: value for name, value in values.items() if value is not None}


class Settings(BaseSettings):
    """The configuration of one process. Relative paths are relative to the project's root."""

    model_config = SettingsConfigDict(
        env_file=PROJECT_ROOT / ".env",
        env_ignore_empty=True,
        extra="ignore",
        populate_by_name=True,
        hide_input_in_errors=True,  # what is wrong may be a secret
    )

    env: str = Field(
        "local",
        alias="HEADROOM_ENV",
        pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$",  # it begins the keys of deliveries
        description="a short word; `production` starts the schedules",
    )
    data: Path = Field(
        Path("data"), alias="HEADROOM_DATA", description="folder of lake, warehouse, ledger and Dagster's storage"
    )
    postgres_ledger: SecretStr | None = Field(
        None,
        alias="HEADROOM_LEDGER_URL",
        description="the ledger's postgresql://user:password@host/database; default: an SQLite file in HEADROOM_DATA",
    )
    postgres_dagster: SecretStr | None = Field(
        None,
        alias="HEADROOM_DAGSTER_POSTGRES_URL",
        description="Postgres of Dagster's runs, events and schedules; default: SQLite files in HEADROOM_DATA",
    )
    destination: SecretStr | None = Field(
        None,
        alias="HEADROOM_DESTINATION_URL",
        description="Postgres of yours that gets rows of the marts; without it, nothing is delivered",
    )
    destination_tables: Path | None = Field(
        None,
        alias="HEADROOM_DESTINATION_TABLES",
        description="TOML file: which rows go into which tables there; default: destination.toml in HEADROOM_DATA",
    )
    clickhouse_url: SecretStr | None = Field(
        None,
        alias="HEADROOM_CLICKHOUSE_URL",
        description="http://user:password@host:8123/database?cluster=name that builds the marts; default: DuckDB",
    )
    clickhouse_lake: str | None = Field(
        None,
        alias="HEADROOM_CLICKHOUSE_LAKE",
        description="the lake as that server finds it: a folder, s3://… or https://…; default: the lake's own folder",
    )
    landing_folder: Path | None = Field(
        None,
        alias="HEADROOM_LANDING",
        description="folder of event files; default: landing in HEADROOM_DATA",
    )
    landing_url: str | None = Field(
        None,
        alias="HEADROOM_LANDING_URL",
        pattern=r"^(s3|gs|az)://[^/]+",
        description="a bucket with more event files, which is only read: s3://bucket/prefix, gs://… or az://…",
    )
    landing_copies: Literal["once", "count"] = Field(
        "once",
        alias="HEADROOM_LANDING_COPIES",
        description="`count`: landed files that are copies of others count as well, where their events have no ids",
    )
    landing_keep_days: int | None = Field(
        None,
        alias="HEADROOM_LANDING_KEEP_DAYS",
        ge=2,
        description="days after which landed files that the lake holds whole are deleted, at least 2; default: never",
    )
    lake_url: str | None = Field(
        None,
        alias="HEADROOM_LAKE_URL",
        pattern=r"^(s3|gs|az)://[^/]+",
        description="the lake's home in a bucket, s3://bucket/prefix; the data folder then has a copy that may be lost",
    )
    lake_keep_days: int | None = Field(
        None,
        alias="HEADROOM_LAKE_KEEP_DAYS",
        description="UTC days that the lake keeps calls of, more where a usage period is longer; default: all",
    )
    accounts: Path | None = Field(
        None, alias="HEADROOM_ACCOUNTS", description="CSV file of accounts; default: accounts.csv in HEADROOM_DATA"
    )
    subjects: Path | None = Field(
        None,
        alias="HEADROOM_SUBJECTS",
        description="CSV file of ids and accounts; default: subjects.csv in HEADROOM_DATA",
    )
    customers: Path | None = Field(
        None,
        alias="HEADROOM_CUSTOMERS",
        description="CSV file of accounts and Stripe customers; default: customers.csv in HEADROOM_DATA",
    )
    timezone: str = Field("UTC", alias="HEADROOM_TIMEZONE", description="IANA zone of the business day and of 8am")
    # A producer that lands a file a day, two hours after midnight, leaves data 26 hours old just before the next one.
    # When one is missed, the data is 32 hours old at 8am.
    stale_after_hours: int = Field(
        26, alias="HEADROOM_STALE_AFTER_HOURS", ge=1, description="age of the newest call from which data is stale"
    )
    fixed_now: datetime | None = Field(
        None, alias="HEADROOM_NOW", description="a fixed clock for tests and replays, ISO 8601 with offset"
    )
    port: int = Field(3000, alias="HEADROOM_PORT", ge=1, le=65535, description="first port tried for the UI")
    ui_url: str | None = Field(
        None,
        alias="HEADROOM_UI_URL",
        pattern=r"^https?://[^\s<>|]+$",
        description="address at which people open Dagster's UI, for links in messages",
    )
    crm_url: str | None = Field(
        None,
        alias="HEADROOM_CRM_URL",
        pattern=r"^https?://[^\s<>|]*(\{account_id\}|\{account_name\})[^\s<>|]*$",
        description="address of an account in your CRM, with {account_id} or {account_name} in it, for links to it",
    )
    heartbeat_url: SecretStr | None = Field(
        None,
        alias="HEADROOM_HEARTBEAT_URL",
        description="address of a monitor, asked for after each good hourly run and the digest",
    )
    routes: Path | None = Field(
        None,
        alias="HEADROOM_ROUTES",
        description="TOML file: which message goes to whom by which channel; default: routes.toml in HEADROOM_DATA",
    )
    templates: Path | None = Field(
        None, alias="HEADROOM_TEMPLATES", description="folder with templates in place of Headroom's own"
    )
    slack_bot_token: SecretStr | None = Field(
        None, alias="SLACK_BOT_TOKEN", description="token of your Slack app; without it, messages are previews"
    )
    slack_api_url: str | None = Field(None, alias="SLACK_API_URL", description="another address of Slack's API")
    slack_channel: str | None = Field(
        None, alias="HEADROOM_SLACK_CHANNEL", description="channel id of the digest, and of whatever has no other"
    )
    slack_channel_cs: str | None = Field(
        None, alias="HEADROOM_SLACK_CHANNEL_CS", description="channel id for customer success"
    )
    slack_channel_engineering: str | None = Field(
        None, alias="HEADROOM_SLACK_CHANNEL_ENGINEERING", description="channel id for engineering"
    )
    slack_channel_data: str | None = Field(
        None, alias="HEADROOM_SLACK_CHANNEL_DATA", description="channel id for the data team: failed runs"
    )
    slack_channel_finance: str | None = Field(
        None, alias="HEADROOM_SLACK_CHANNEL_FINANCE", description="channel id for finance: invoices that differ"
    )
    slack_allowed: str = Field(
        "",
        alias="HEADROOM_SLACK_ALLOWED_CHANNELS",
        description="channel ids with commas; if set, nothing is posted to any other channel",
    )
    slack_shared: str = Field(
        "",
        alias="HEADROOM_SLACK_SHARED_CHANNELS",
        description="ids of channels that another company may read (Slack Connect), with commas",
    )
    slack_files: bool = Field(
        True,
        alias="HEADROOM_SLACK_FILES",
        description="whether charts and the table of accounts go into the digest's thread",
    )
    critical_at_once: bool = Field(
        False,
        alias="HEADROOM_CRITICAL_AT_ONCE",
        description="whether critical accounts with a hard limit are announced hourly, not only at 8am",
    )
    stripe_api_key: SecretStr | None = Field(
        None, alias="STRIPE_API_KEY", description="key of Stripe's API; without it, reports are previews"
    )
    stripe_api_base: str | None = Field(None, alias="STRIPE_API_BASE", description="another address of Stripe's API")
    stripe_meter: str = Field(
        "api-calls",
        alias="HEADROOM_STRIPE_METER",
        min_length=1,
        max_length=100,
        description="event name of the main meter at Stripe",
    )
    # Stripe's own default; longer is a setting of the invoices there, which the API does not show.
    stripe_grace_hours: int = Field(
        1, alias="HEADROOM_STRIPE_GRACE_HOURS", ge=0, le=72, description="hours for which Stripe keeps invoices open"
    )
    stripe_requests_per_second: float = Field(
        20,
        alias="HEADROOM_STRIPE_REQUESTS_PER_SECOND",
        gt=0,
        description="requests a second; Stripe allows 25 in a sandbox, 100 in live mode",
    )
    stripe_reads_per_day: int = Field(
        300,
        alias="HEADROOM_STRIPE_READS_PER_DAY",
        ge=0,
        description="requests a day that compare; Stripe allows 10,000 a month, and more with more payments",
    )
    stripe_max_change_pct: int = Field(
        10,
        alias="HEADROOM_STRIPE_MAX_CHANGE_PCT",
        ge=0,
        description="percent of the units that can still be billed; people approve larger corrections",
    )
    stripe_max_changed_customers: int = Field(
        100,
        alias="HEADROOM_STRIPE_MAX_CHANGED_CUSTOMERS",
        ge=0,
        description="customers that a run may correct; people approve corrections for more",
    )
    bill_sampled: bool = Field(
        False,
        alias="HEADROOM_BILL_SAMPLED",
        description="whether sampled calls are billed, too, though they are an estimate",
    )

    pages_host: str = Field(
        "127.0.0.1",
        alias="HEADROOM_PAGES_HOST",
        description="address that the pages listen on; 0.0.0.0 is all of IPv4, :: all of IPv4 and IPv6",
    )
    pages_port: int = Field(
        8090, alias="HEADROOM_PAGES_PORT", ge=0, le=65535, description="port of the pages; 0 takes any free one"
    )
    pages_url: str | None = Field(
        None,
        alias="HEADROOM_PAGES_URL",
        pattern=r"^https?://[^/\s?#]+(/[^\s?#]*)?$",
        description="address at which people reach the pages: messages link each account to its page there",
    )
    pages_trust_header: str | None = Field(
        None,
        alias="HEADROOM_PAGES_TRUST_HEADER",
        pattern=r"^[A-Za-z0-9-]+$",
        description="header in which a login proxy names its user; needs HEADROOM_PAGES_TRUST_FROM",
    )
    pages_trust_from: str = Field(
        "",
        alias="HEADROOM_PAGES_TRUST_FROM",
        description="addresses or networks of proxies, several with commas: they alone name users and addresses",
    )
    pages_frame_ancestors: str = Field(
        "",
        alias="HEADROOM_PAGES_FRAME_ANCESTORS",
        description="sites that may embed a customer's page: https://app.example.com, several with commas",
    )
    pages_export: Path | None = Field(
        None,
        alias="HEADROOM_PAGES_EXPORT",
        description="folder that each hourly and daily run writes the pages to, as files",
    )

    collect_host: str = Field(
        "127.0.0.1",
        alias="HEADROOM_COLLECT_HOST",
        description="address that the collector listens on; 0.0.0.0 is all of IPv4, :: all of IPv4 and IPv6",
    )
    collect_port: int = Field(
        8080, alias="HEADROOM_COLLECT_PORT", ge=0, le=65535, description="port of the collector; 0 takes any free one"
    )
    collect_keys: SecretStr | None = Field(
        None,
        alias="HEADROOM_COLLECT_KEYS",
        description="who may send events: `key` or `name:key`, several with commas. SIGHUP reads them again from .env",
    )
    collect_keys_file: Path | None = Field(
        None,
        alias="HEADROOM_COLLECT_KEYS_FILE",
        description="file of more keys, one a line, read again at SIGHUP; lines that begin with # are comments",
    )
    collect_webhook_secrets: SecretStr | None = Field(
        None,
        alias="HEADROOM_COLLECT_WEBHOOK_SECRETS",
        description="secrets of Standard Webhooks, whsec_…, several with commas",
    )
    collect_url: str | None = Field(
        None,
        alias="HEADROOM_COLLECT_URL",
        pattern=r"^(s3|gs|az)://[^/]+",
        description="a bucket for events in place of the landing folder: HEADROOM_LANDING_URL, or a prefix in it",
    )
    collect_wait_ms: int = Field(
        1000,
        alias="HEADROOM_COLLECT_WAIT_MS",
        ge=1,
        le=5_000,
        description="milliseconds for which requests wait for others, to share an object of the bucket",
    )
    collect_cors_origins: str | None = Field(
        None,
        alias="HEADROOM_COLLECT_CORS_ORIGINS",
        description="sites that may send from a browser: https://app.example.com, several with commas, or *",
    )
    collect_seal_seconds: float = Field(
        10, alias="HEADROOM_COLLECT_SEAL_SECONDS", gt=0, description="seconds after which a segment is handed to ingest"
    )
    collect_max_body_bytes: int = Field(
        6 * 2**20,  # PostHog's libraries close a batch at 5 MiB, after an event of up to 900 KiB
        alias="HEADROOM_COLLECT_MAX_BODY_BYTES",
        ge=1,
        le=7 * 2**20,  # ingest cuts a line off at 8 MiB
        description="bytes of one request, as sent and unpacked",
    )
    collect_max_events: int = Field(
        10_000, alias="HEADROOM_COLLECT_MAX_EVENTS", ge=1, description="events, or lines, of one request"
    )
    collect_max_pending_bytes: int = Field(
        64 * 2**20,
        alias="HEADROOM_COLLECT_MAX_PENDING_BYTES",
        ge=1,
        description="bytes of all requests that are being read or wait for the disk",
    )
    collect_max_connections: int = Field(
        2000,
        alias="HEADROOM_COLLECT_MAX_CONNECTIONS",
        ge=1,
        description="connections at once; idle ones make room, more get 503",
    )
    collect_workers: int = Field(
        1,
        alias="HEADROOM_COLLECT_WORKERS",
        ge=1,
        le=64,
        description="processes that share the port; each has the limits of bytes and connections for itself",
    )
    collect_access_log: Literal["off", "text", "json"] = Field(
        "off",
        alias="HEADROOM_COLLECT_ACCESS_LOG",
        description="a line on standard output for each request but probes",
    )
    collect_grace_seconds: float = Field(
        0,
        alias="HEADROOM_COLLECT_GRACE_SECONDS",
        ge=0,
        description="seconds of service after SIGTERM, while /readyz answers 503; a second signal ends them",
    )
    collect_stop_seconds: float = Field(
        10,
        alias="HEADROOM_COLLECT_STOP_SECONDS",
        gt=0,
        description="seconds after these for which a stop waits for requests under way and for the disk",
    )
    collect_request_seconds: float = Field(
        30,
        alias="HEADROOM_COLLECT_REQUEST_SECONDS",
        gt=0,
        description="seconds for sending a request, and for taking the answer",
    )
    collect_idle_seconds: float = Field(
        75,
        alias="HEADROOM_COLLECT_IDLE_SECONDS",
        gt=0,
        description="seconds that a connection stays open between requests",
    )

    @field_validator("timezone")
    @classmethod
    def _zone_exists(cls, value: str) -> str:
        try:
            ZoneInfo(value)
        except (KeyError, OSError, ValueError) as error:
            names = {name.lower(): name for name in available_timezones()}
            near = get_close_matches(value.lower(), names, 1) or ["europe/berlin"]
            raise ValueError(f"{value!r} is not an IANA time zone; use a name such as {names[near[0]]}") from error
        return value

    @field_validator("env")
    @classmethod
    def _production_is_spelled_out(cls, value: str) -> str:
        word = value.lower()
        if value != "production" and (word in PRODUCTION or get_close_matches(word, ["production"], cutoff=0.8)):
            raise ValueError(f"{value!r} would leave the schedules off; write production")
        return value

    @field_validator("postgres_ledger", "postgres_dagster", "destination")
    @classmethod
    def _is_postgres_url(cls, value: SecretStr | None) -> SecretStr | None:
        # Strictly: of a password with a bare @ or / in it a piece would become the host, which messages name.
        try:
            parts = urlsplit(value.get_secret_value()) if value else None
            is_good = parts is None or (
                parts.scheme == "postgresql"
                and parts.netloc.count("@") <= 1
                and "@" not in parts.path
                and len(parts.path) > 1
                and parts.port != 0
            )
        except ValueError:
            is_good = False
        if not is_good:
            raise ValueError(
                "use postgresql://user:password@host:5432/database, and in the password %40 for @, %3A for :,"
                " %2F for /, %25 for %, %23 for #, %3F for ?"
            )
        return value

    @field_validator("heartbeat_url")
    @classmethod
    def _is_web_address(cls, value: SecretStr | None) -> SecretStr | None:
        if value and not re.fullmatch(r"https?://[\w.-]+(:\d+)?(/[!-~]*)?", value.get_secret_value()):
            raise ValueError("use the address that your monitor gives you, https://host/path")
        return value

    @field_validator("pages_trust_from")
    @classmethod
    def _are_networks(cls, value: str) -> str:
        for each in _listed(value):
            try:
                is_good = ip_network(each, strict=False).prefixlen > 0
            except ValueError:
                is_good = False
            if not is_good:
                raise ValueError(f"{each!r} is not a proxy's address or network: use 10.0.0.7 or 10.0.0.0/24")
        return value

    @field_validator("pages_frame_ancestors")
    @classmethod
    def _are_origins(cls, value: str) -> str:
        for each in _listed(value):
            if not re.fullmatch(r"https?://(\*\.)?[A-Za-z0-9.-]+(:\d+)?", each):
                raise ValueError(f"{each!r} is not a site: use https://app.example.com, without a path")
        return value

    @model_validator(mode="after")
    def _login_proxy_has_addresses(self) -> Self:
        if self.pages_trust_header and not self.pages_trusted:
            raise ValueError(
                "HEADROOM_PAGES_TRUST_HEADER needs HEADROOM_PAGES_TRUST_FROM: name the addresses of the login proxy, or"
                " anybody could name a user"
            )
        return self

    @field_validator("clickhouse_url")
    @classmethod
    def _is_clickhouse_url(cls, value: SecretStr | None) -> SecretStr | None:
        if value is None:
            return None
        if not CLICKHOUSE_URL.fullmatch(value.get_secret_value()):
            raise ValueError(
                "use http://user:password@host:8123/database or https://…, with ?cluster=name for shards. In the"
                " password, write %40 for @, %3A for :, %2F for /, %25 for %, %23 for #, %3F for ?"
            )
        if find_spec("dbt.adapters.clickhouse") is None:
            raise ValueError("dbt-clickhouse is not installed: pip install '.[clickhouse]' in the clone, or unset it")
        return value

    @field_validator("lake_keep_days")
    @classmethod
    def _nobody_asks_for_older_calls(cls, value: int | None) -> int | None:
        if value is not None and value < LAKE_KEEP_DAYS:
            raise ValueError(
                f"keep at least {LAKE_KEEP_DAYS} days. These cover current periods, the 92 days that are compared"
                " with Stripe, and a year in which customers dispute charges"
            )
        return value

    @field_validator("fixed_now")
    @classmethod
    def _clock_is_aware(cls, value: datetime | None) -> datetime | None:
        if value is not None and value.tzinfo is None:
            raise ValueError("HEADROOM_NOW needs an offset, such as 2026-11-20T08:00:00Z")
        return value

    @model_validator(mode="after")
    def _production_has_a_running_clock(self) -> Self:
        if self.is_production and self.fixed_now is not None:
            raise ValueError("HEADROOM_NOW is refused when HEADROOM_ENV=production: unset one of the two")
        return self

    @model_validator(mode="after")
    def _places_are_apart(self) -> Self:
        if self.lake_url and self.landing_url and _is_below(self.lake_url, self.landing_url):
            raise ValueError(
                "HEADROOM_LAKE_URL is inside HEADROOM_LANDING_URL, so Headroom would read the lake as new events."
                " Give each its own prefix"
            )
        if self.collect_url and self.landing_url and not _is_below(self.collect_url, self.landing_url):
            raise ValueError(
                "HEADROOM_COLLECT_URL is outside of HEADROOM_LANDING_URL, so that nothing would read it: put it inside"
            )
        return self

    @model_validator(mode="after")
    def _paths_are_absolute(self) -> Self:
        self.data = _absolute(self.data)
        self.landing_folder = _absolute(self.landing_folder) if self.landing_folder else None
        self.destination_tables = _absolute(self.destination_tables) if self.destination_tables else None
        self.accounts = _absolute(self.accounts) if self.accounts else None
        self.subjects = _absolute(self.subjects) if self.subjects else None
        self.customers = _absolute(self.customers) if self.customers else None
        self.collect_keys_file = _absolute(self.collect_keys_file) if self.collect_keys_file else None
        self.routes = _absolute(self.routes) if self.routes else None
        self.templates = _absolute(self.templates) if self.templates else None
        self.pages_export = _absolute(self.pages_export) if self.pages_export else None
        return self

    @model_validator(mode="after")
    def _data_folder_has_a_usable_path(self) -> Self:
        # Dagster's storage and the ledger end at ?, dbt's database at ? and #; DuckDB takes \ for a slash; and Dagster
        # looks for dagster.yaml by a glob: below a [ or * it finds none, and works with other settings, in silence.
        if unusable := [each for each in str(self.data) if each in "?#*[\\" or UNWRITABLE.match(each)]:
            named = " and ".join(repr(each) if UNWRITABLE.match(each) else each for each in dict.fromkeys(unusable))
            raise ValueError(
                f"HEADROOM_DATA is {str(self.data)!r}, and Headroom cannot keep files there because of the {named}"
                " in its path. Rename the folder, or set HEADROOM_DATA to another one"
            )
        return self

    @model_validator(mode="after")
    def _landing_is_no_place_of_our_own(self) -> Self:
        landing, data = self.landing.resolve(), self.data.resolve()
        if data.is_relative_to(landing) or landing.is_relative_to(data / "lake"):
            raise ValueError(
                f"HEADROOM_LANDING is {self.landing}, where Headroom keeps its own files, so it would read them as"
                f" new events. Name a folder for events only, such as {self.data / 'landing'}"
            )
        return self

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """The environment goes before `.env`."""
        return init_settings, _Variables(settings_cls, env_settings), _Variables(settings_cls, dotenv_settings)

    _billed_meter: str = PrivateAttr("")
    _sources: dict[str, str] = PrivateAttr(default_factory=dict)

    @property
    def sources(self) -> Mapping[str, str]:
        """Where each variable that is set was found, for people. Those with their defaults are not in it."""
        return self._sources

    @property
    def billed_meter(self) -> str:
        """Which of our meters these settings report to Stripe, to its meter `stripe_meter`; empty is the main one."""
        return self._billed_meter

    def for_meter(self, meter: str, event_name: str) -> Self:
        """The same settings, for another of our meters and the event name of its own at Stripe."""
        copied = self.model_copy(update={"stripe_meter": event_name})
        copied._billed_meter = meter
        return copied

    def secret(self, variable: str) -> str | None:
        """What that variable holds, of the environment or of `.env`; None where it is not set. For secrets of routes,
        whose variables have the names that people give to routes.
        """
        value = os.environ.get(variable)
        path = Path(str(self.model_config.get("env_file") or os.devnull))
        if not value and path.is_file():
            value = dotenv_values(path, encoding="utf-8-sig").get(variable)
        return value or None

    @property
    def is_production(self) -> bool:
        return self.env == "production"

    def now(self) -> datetime:
        """The clock, in UTC: read once by whoever starts a piece of work and passed on from there."""
        return (self.fixed_now or datetime.now(UTC)).astimezone(UTC)

    @property
    def account_url(self) -> str | None:
        """Where messages link an account, with {account_id} in it: its page, or else the CRM."""
        # not in the path: browsers would take the id `..` for a folder
        return f"{self.pages_url.rstrip('/')}/accounts/?id={{account_id}}" if self.pages_url else self.crm_url

    @cached_property
    def zone(self) -> ZoneInfo:
        return ZoneInfo(self.timezone)

    @property
    def landing(self) -> Path:
        return self.landing_folder or self.data / "landing"

    @property
    def accounts_csv(self) -> Path:
        return self.accounts or self.data / "accounts.csv"

    @property
    def subjects_csv(self) -> Path:
        return self.subjects or self.data / "subjects.csv"

    @property
    def customers_csv(self) -> Path:
        return self.customers or self.data / "customers.csv"

    def accounts_file(self, name: str) -> tuple[Path | None, Path]:
        """The path that is set for accounts, subjects or customers, and the one at which the file is looked for."""
        named: Path | None = getattr(self, name)
        return named, named or self.data / f"{name}.csv"

    @property
    def destination_tables_file(self) -> Path:
        return self.destination_tables or self.data / "destination.toml"

    @property
    def routes_file(self) -> Path:
        return self.routes or self.data / "routes.toml"

    @property
    def lake(self) -> Path:
        return self.data / "lake"

    @property
    def warehouse(self) -> Path:
        return self.data / "warehouse.duckdb"

    @property
    def lake_at_clickhouse(self) -> str:
        return (self.clickhouse_lake or str(self.lake)).rstrip("/")

    @property
    def build_lock(self) -> Path:
        """Held by whoever builds the marts, on either engine, or must not be disturbed by a build."""
        return self.warehouse.with_suffix(".lock")

    @property
    def published(self) -> Path:
        return self.data / "published.duckdb"

    @property
    def runs(self) -> Path:
        """A file for each of Dagster's runs that works now, locked by its process."""
        return self.data / "runs"

    @property
    def slack_channels(self) -> dict[str, str]:
        """Channel id by audience; one without a channel of its own reads in that of sales."""
        sales = self.slack_channel or ""
        return {
            "sales": sales,
            "cs": self.slack_channel_cs or sales,
            "engineering": self.slack_channel_engineering or sales,
            "data": self.slack_channel_data or sales,
            "finance": self.slack_channel_finance or self.slack_channel_data or sales,
        }

    @property
    def pages_trusted(self) -> list[IPv4Network | IPv6Network]:
        return [ip_network(each, strict=False) for each in _listed(self.pages_trust_from)]

    @property
    def pages_frames(self) -> list[str]:
        return _listed(self.pages_frame_ancestors)

    @property
    def slack_allowed_channels(self) -> list[str]:
        return _listed(self.slack_allowed)

    @property
    def slack_shared_channels(self) -> list[str]:
        return _listed(self.slack_shared)

    @property
    def ledger_url(self) -> str:
        """Holds a password where it is on Postgres: never for messages."""
        if self.postgres_ledger:
            return self.postgres_ledger.get_secret_value()
        return f"sqlite:///{self.data / 'ledger.sqlite'}"

    @property
    def dagster_home(self) -> Path:
        return self.data / "dagster"

    @property
    def dbt_project(self) -> Path:
        return PROJECT_ROOT / "dbt_project"

    def export(self) -> None:
        """Write what dbt's profile and Dagster look up by themselves into this process's environment."""
        os.environ["HEADROOM_DATA"] = str(self.data)
        os.environ["DAGSTER_HOME"] = str(self.dagster_home)
        os.environ.setdefault("DAGSTER_EVENT_BATCH_SIZE", "1000")  # what a run announces at its start, in one go
        if self.postgres_dagster:  # dagster.yaml names the variable, which may come from .env
            os.environ["HEADROOM_DAGSTER_POSTGRES_URL"] = self.postgres_dagster.get_secret_value()
        os.environ["DBT_SEND_ANONYMOUS_USAGE_STATS"] = "false"
        os.environ["DAGSTER_DISABLE_TELEMETRY"] = "1"
        os.environ["DO_NOT_TRACK"] = "1"
        keep_new_files_private()
        self._keep_old_files_private()

    def _keep_old_files_private(self) -> None:
        """What earlier versions made for everybody to read. Of the lake its folder, for it may have 100,000 files."""
        for path in (self.data / "ledger.sqlite", self.lake, self.warehouse, self.published):
            with suppress(OSError):  # it does not exist, or is another user's
                mode = stat.S_IMODE(path.stat().st_mode)
                if mode & FOR_OTHERS:
                    path.chmod(mode & ~FOR_OTHERS)


def keep_new_files_private() -> None:
    """Files that this process makes from now on, and its children, have mode 0640 or less: names and MRR of customers
    are in them.
    """
    os.umask(os.umask(FOR_OTHERS) | FOR_OTHERS)


def _listed(value: str) -> list[str]:
    return [part.strip() for part in value.split(",") if part.strip()]


def _is_below(url: str, parent: str) -> bool:
    return f"{url.rstrip('/')}/".startswith(f"{parent.rstrip('/')}/")


def _absolute(path: Path) -> Path:
    return (PROJECT_ROOT / path.expanduser()).resolve()


def load() -> Settings:
    """Settings from the environment and `.env`.

    :raises pydantic.ValidationError: a value is not usable; the message names the variable.
    :raises ConfigurationError: `.env` cannot be read, or a name is misspelled.
    """
    found = sources()
    if misspelled := [str(each) for each in _unread(found) if each.is_misspelled]:
        raise ConfigurationError(misspelled)
    config = Settings()
    config._sources = {name: source for name, source in found.items() if name in _names()}
    return config


def unread() -> list[Unread]:
    """Variables that look like ours, and have no effect.

    :raises ConfigurationError: `.env` cannot be read.
    """
    return list(_unread(sources()))


@cache
def _names() -> frozenset[str]:
    return frozenset(str(field.alias) for field in Settings.model_fields.values())


def sources() -> dict[str, str]:
    """Where each variable is set, by its name in capitals: those of the environment go before the file's.

    :raises ConfigurationError: `.env` cannot be read.
    """
    path = Settings.model_config.get("env_file")
    found = _lines_of(Path(str(path))) if path else {}
    return found | {
        name.upper(): "environment"
        for name, value in os.environ.items()
        if value and not (name not in _names() and value.startswith(("tcp://", "udp://")))  # Kubernetes, see above
    }


def _lines_of(path: Path) -> dict[str, str]:
    """The variables of `.env`, each with its place there."""
    if not path.exists():
        return {}
    try:
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise ConfigurationError([f"{path} cannot be read ({error.strerror}): let this user read it"]) from None
    except UnicodeDecodeError:
        raise ConfigurationError([f"{path} is not UTF-8 text: save it as UTF-8"]) from None
    bindings = list(parse_stream(StringIO(text)))
    # What a line has may be a secret: only its number is said.
    if broken := [str(binding.original.line) for binding in bindings if binding.error]:
        lines = f"line{'s' * (len(broken) > 1)} {', '.join(broken)}"
        raise ConfigurationError([f"{path}, {lines}: not NAME=value; correct it, or check for an open quotation mark"])
    return {
        binding.key.upper(): f"{path.name}, line {binding.original.line + _empty_lines(binding.original.string)}"
        for binding in bindings
        if binding.key and binding.value
    }


def _empty_lines(text: str) -> int:
    """A binding begins with the empty lines before it."""
    return text[: len(text) - len(text.lstrip())].count("\n")


def _unread(sources: Mapping[str, str]) -> Iterator[Unread]:
    names = _names()
    short = {name.removeprefix("HEADROOM_"): name for name in sorted(names)}
    for name, source in sorted(sources.items()):
        if name in names or READ_BY_OTHERS.fullmatch(name):
            continue
        if name.startswith("HEADROOM_"):
            near = get_close_matches(name.removeprefix("HEADROOM_"), short, 1, 0.8)
            yield Unread(name, source, short[near[0]] if near else None, bool(near))
        elif name in OTHER_NAMES or (source != "environment" and name in short):
            meant = OTHER_NAMES.get(name) or short[name]
            if meant not in sources:
                yield Unread(name, source, meant, source != "environment")
