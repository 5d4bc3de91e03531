"""A warehouse, a Stripe and a clock: what is billed in tests, without dbt, from a published copy written by hand."""

from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, date, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

import duckdb

from orchestration.billing import meter_ledger as meter_ledger_module
from orchestration.billing import read_invoices, reconcile, report, usage_query
from orchestration.billing.confirm import ReconcileResult
from orchestration.billing.meter_ledger import MeterLedger, meter_ledger
from orchestration.billing.read_invoices import InvoiceLook
from orchestration.channels.stripe import connect_invoices, connect_meter
from orchestration.channels.stripe import meter as stripe_channel
from orchestration.ledger.ledger import Ledger
from orchestration.settings import Settings
from orchestration.usage.periods import month_start
from orchestration.warehouse import published_copy
from tests.fakes.stripe import FakeStripe
from tests.fakes.stripe_subscriptions import usage_type
from tests.support import ledgers
from tests.support.duckdb_file import memory, opened

NOW = datetime(2026, 11, 20, 8, 5, tzinfo=UTC)
HOUR = timedelta(hours=1)
DAY = timedelta(days=1)
SEVEN = datetime(2026, 11, 20, 7, tzinfo=UTC)

EMPTY = """
    create or replace table data_quality (as_of timestamp, kept_from date);
    create or replace table account_periods (
        account_id varchar, period_start timestamp, period_end timestamp, source varchar
    );
    create or replace table billable_usage_hourly (
        account_id varchar, stripe_customer_id varchar, hour_start timestamp, billable_units bigint,
        sampled_calls bigint, sampled_units bigint
    );
    create or replace table billable_meters_hourly (
        account_id varchar, stripe_customer_id varchar, meter varchar, stripe_meter varchar, hour_start timestamp,
        calls bigint, billable_units bigint, sampled_calls bigint, sampled_units bigint, last_call_at timestamp
    );
    create or replace table meters (
        meter varchar, is_main boolean, event_names varchar, aggregation varchar, decimals integer, unit varchar,
        unit_singular varchar, is_billed boolean, stripe_meter varchar
    );
    create or replace table stg_accounts (
        account_id varchar, account_name varchar, stripe_customer_id varchar, plan varchar
    );
    create or replace table utilization_mtd (
        account_id varchar, account_name varchar, plan varchar, meter varchar, is_main boolean
    );
    create table if not exists plans (
        plan varchar, meter varchar, base_price decimal(18, 2), currency varchar
    );
    create table if not exists plan_tiers (plan varchar, meter varchar, tier_number integer);
"""

COUNTED = """
    insert into meters values
    ('api-calls', true, 'api_call|api_request', 'count', 0, 'calls', 'call', true, null),
    ('data', false, 'upload', 'sum', 3, 'GB', 'GB', true, 'data-at-stripe'),
    ('peak', false, 'connections', 'max', 0, 'connections', 'connection', true, 'peak-at-stripe'),
    ('seats', false, null, 'latest', 0, 'seats', 'seat', true, 'seats-at-stripe'),
    ('storage', false, null, 'latest', 0, 'GB', 'GB', false, null),
    ('users', false, 'login', 'unique', 0, 'users', 'user', true, 'users-at-stripe')
"""
METERS = {name: f"{name}-at-stripe" for name in ("data", "peak", "seats", "users")}
"""The event names at Stripe of the meters that are billed beside the main one."""


class World:
    """One installation: its usage, its settings, its data folder. Everybody's clock is `now`. An SQLite ledger is there
    already. It is about the usage of one meter, the main one unless `meter` names another.
    """

    def __init__(self, folder: Path, stripe: FakeStripe, *, meter: str = "", **settings: Any) -> None:
        self.folder, self.stripe, self.now, self.settings = folder, stripe, NOW, settings
        self.meter, self.event_name = meter, METERS.get(meter, "api-calls")
        self.usage: dict[tuple[str, str | None, datetime], int] = {}
        """Units of the meter by account, its customer and hour; of a reading, by how much it changed."""
        self.sampled: dict[tuple[str, str | None, datetime], int] = {}
        """Sampled calls beside them, of five units each."""
        self.metered: dict[str, dict[tuple[str, str | None, datetime], int]] = {name: {} for name in METERS}
        """The same of other meters than that."""
        self.kept_from = date(1970, 1, 1)
        self.slept: list[float] = []
        """Seconds that were waited for Stripe, where nobody really does."""
        stripe.clock = lambda: self.now.timestamp()
        self._made: tuple[dict[str, Any], Settings] | None = None
        (folder / "ledger.sqlite").write_bytes(ledgers.empty())

    def clock(self) -> datetime:
        return self.now

    @property
    def config(self) -> Settings:
        defaults = {
            "HEADROOM_DATA": self.folder,
            "STRIPE_API_KEY": self.stripe.key,
            "STRIPE_API_BASE": self.stripe.url,
            "HEADROOM_STRIPE_REQUESTS_PER_SECOND": 100_000,
        }
        wanted = {**defaults, **self.settings}
        if self._made is None or self._made[0] != wanted:
            self._made = wanted, Settings(**wanted, _env_file=None)
        config = self._made[1].model_copy(update={"fixed_now": self.clock()})
        return config.for_meter(self.meter, self.event_name) if self.meter else config

    @property
    def ledger(self) -> MeterLedger:
        return meter_ledger(self.config)

    def publish(self) -> None:
        path = self.config.published
        path.unlink(missing_ok=True)
        with opened(path) as connection:
            self.write(connection)

    def write(self, connection: duckdb.DuckDBPyConnection) -> None:
        """The marts that billing reads, as of now; accounts have calendar months."""
        connection.execute(EMPTY)
        connection.execute("insert into data_quality values (?, ?)", [naive(self.clock()), self.kept_from])
        connection.execute(COUNTED)
        others = {**self.metered, self.meter: self.usage} if self.meter else self.metered
        for name, hours in others.items():
            for (account, customer, hour), change in hours.items():
                connection.execute(
                    "insert into billable_meters_hourly values (?, ?, ?, ?, ?, 0, ?, 0, 0, ?)",
                    [account, customer, name, METERS[name], naive(hour), change, naive(hour)],
                )
        keys = self.usage.keys() | self.sampled.keys()
        rows = [(key[0], key[1], naive(key[2]), self.usage.get(key, 0), self.sampled.get(key, 0)) for key in keys]
        if rows and not self.meter:
            connection.execute(
                "insert into billable_usage_hourly"
                " select *, sampled * 5 from ("
                "select unnest($1), unnest($2), unnest($3), unnest($4), unnest($5) as sampled)",
                [list(column) for column in zip(*rows, strict=True)],
            )
        keys = keys.union(*self.metered.values())
        if not keys:
            return
        month, last, months = month_start(min(key[2] for key in keys)), month_start(self.clock()), []
        while month <= last:
            months.append((naive(month), naive(month := month_start(month + 32 * DAY))))
        connection.execute(
            "insert into account_periods select account_id, starts, ends, 'calendar month'"
            " from (select distinct unnest($1) as account_id)"
            " cross join (select unnest($2) as starts, unnest($3) as ends)",
            [[key[0] for key in keys], *(list(column) for column in zip(*months, strict=True))],
        )

    def run(self, **options: Any) -> report.ReportResult:
        self.publish()
        return report.report_usage(self.config, connect_meter, self.clock, **options)

    def look(self, after: timedelta = timedelta()) -> ReconcileResult:
        self.now += after
        result = reconcile.look_back(self.config, connect_meter, self.clock)
        assert result
        return result

    def read(self) -> InvoiceLook:
        """Stripe's subscriptions and invoices, as far as they are new."""
        look = read_invoices.read_invoices(self.config, connect_meter, connect_invoices, self.clock)
        assert look
        return look

    def totals(self, customer: str) -> dict[datetime, int]:
        """What Stripe bills, by hour."""
        found = self.stripe.totals(customer, self.event_name, at_once=True)
        return {datetime.fromtimestamp(hour, UTC): int(units) for hour, units in found.items()}

    def subscribe(self, customer: str, anchor: datetime | None = None, **options: Any) -> dict[str, Any]:
        """A subscription on the meter, made long ago: a cent for each unit, calendar months or months from `anchor`.

        `options` are those of FakeStripe.subscribe; `price` is another price's id.
        """
        prices: Any = self.stripe.resources["/v1/prices"]
        if "price" not in options and "price_unit" not in prices.objects:
            self.stripe.add_price(self.event_name, number="price_unit")
        price = options.pop("price", "price_unit")
        return self.stripe.subscribe(customer, price, anchor=int(anchor.timestamp()) if anchor else 0, **options)

    def invoice_units(self, customer: str) -> dict[datetime, int]:
        """Units on the customer's final invoices, by the start of the line's period."""
        prices: Any = self.stripe.resources["/v1/prices"]
        units: Counter[datetime] = Counter()
        for invoice in self.stripe.bills(customer):
            for line in invoice["lines"]:
                price = prices.objects[line["pricing"]["price_details"]["price"]]
                if invoice["status_transitions"]["finalized_at"] and usage_type(price) == "metered":
                    units[datetime.fromtimestamp(line["period"]["start"], UTC)] += line["quantity"]
        return dict(units)

    def problems(self) -> dict[tuple[str, datetime], str]:
        """What the ledger says of each hour that is not billed as it should be."""
        return {(row.stripe_customer_id, row.hour_start): str(row.error) for row in self.ledger.problems()}


class QuickWorld(World):
    """The same with its published copy in memory: opening a file takes longer than the rest of a run.

    `connected` takes the place of the published copy's, `open_ledger` that of the meter ledger's Ledger.
    """

    def __init__(self, folder: Path, stripe: FakeStripe, *, meter: str = "", **settings: Any) -> None:
        super().__init__(folder, stripe, meter=meter, **settings)
        self._scratch = ExitStack()
        self.memory = self._scratch.enter_context(memory())
        self._idle: list[duckdb.DuckDBPyConnection] = []
        self._opened: Ledger | None = None

    @contextmanager
    def connected(self, _: Path) -> Iterator[duckdb.DuckDBPyConnection]:
        connection = self._idle.pop() if self._idle else self._connect()
        try:
            yield connection
        finally:
            self._idle.append(connection)

    def _connect(self) -> duckdb.DuckDBPyConnection:
        connection = self._scratch.enter_context(self.memory.cursor())
        connection.execute("use scratch; set TimeZone = 'UTC'")
        return connection

    def open_ledger(self, url: str) -> Ledger:
        self._opened = self._opened or Ledger(url)
        return self._opened

    def publish(self) -> None:
        self.write(self.memory)

    def close(self) -> None:
        """As the end of a process does. What is opened next knows the statements, which take long to put together."""
        if self._opened:
            self._opened.close()

    def end(self) -> None:
        self.close()
        self._scratch.close()


@contextmanager
def quick(world: QuickWorld) -> Iterator[None]:
    """What is quick, in its place; and no waiting, neither for Stripe nor for the disk."""
    try:
        with (
            ledgers.quick_disk(),
            mock.patch.object(published_copy, "connected", world.connected),
            mock.patch.object(usage_query, "connected", world.connected),
            mock.patch.object(meter_ledger_module, "Ledger", world.open_ledger),
            mock.patch.object(stripe_channel, "Pace", partial(stripe_channel.Pace, sleep=world.slept.append)),
        ):
            yield
    finally:
        world.end()


def naive(moment: datetime) -> datetime:
    return moment.astimezone(UTC).replace(tzinfo=None)
