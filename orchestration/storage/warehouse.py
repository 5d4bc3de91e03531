"""The warehouse as everyone but dbt sees it: the published copy, and the queries that deliveries are made of.

While dbt writes the warehouse file no other process can open it, so after each build it is copied and swapped in
under the published name. Readers never wait and never see half a build. Nothing here computes a figure: queries
select columns of marts.
"""

import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path
from typing import Any

import duckdb
from filelock import FileLock

Parameters = Sequence[object] | Mapping[str, object]
LOOK_BACK_DAYS = 92
"""How far back usage is compared with what was reported to Stripe: what came too late to be billed is listed."""


class NothingPublishedError(RuntimeError):
    """There is no published copy yet."""


class UnknownAccountError(LookupError):
    """No account, or more than one, goes by that name."""


class NotKeptError(LookupError):
    """Calls of that day are not kept any more: nobody knows what was used."""


def publish(warehouse: Path, published: Path) -> dict[str, int]:
    """Copy the warehouse to `published`, atomically; the rows of each table of its main schema.

    :raises duckdb.IOException: another process writes the warehouse outside the jobs (`dbt build` by hand).
    """
    staging = published.with_name(f".{published.name}")
    with FileLock(warehouse.with_suffix(".lock")):
        duckdb.connect(str(warehouse)).close()  # what a killed build had committed is in the file itself then
        shutil.copyfile(warehouse, staging)
        with duckdb.connect(str(staging)) as connection:
            connection.execute("drop table if exists main.crossing_moments")  # bookkeeping of the next build
            names = connection.execute(
                """select table_name from duckdb_tables()
                   where database_name = current_database() and schema_name = 'main' order by table_name"""
            ).fetchall()
            rows = {name: _count(connection, f'main."{name}"') for (name,) in names}
        staging.replace(published)
    return rows


@contextmanager
def reading(published: Path) -> Iterator[None]:
    """Queries inside are answered from one copy, whatever is published meanwhile; and an engine is started once.

    :raises NothingPublishedError: nothing was built yet.
    """
    with _connected(published) as connection:
        token = _held.set((published, connection))
        try:
            yield
        finally:
            _held.reset(token)


def query(published: Path, sql: str, parameters: Parameters | None = None) -> list[dict[str, Any]]:
    """Rows of a query against the published copy; timestamps come back as aware UTC datetimes.

    :raises NothingPublishedError: nothing was built yet.
    """
    with _connected(published) as connection:
        return _rows(connection, sql, parameters)


def columns(published: Path) -> dict[str, dict[str, str]]:
    """The columns of each published table with their types, in order."""
    found: dict[str, dict[str, str]] = {}
    for row in query(published, _COLUMNS):
        found.setdefault(row["table_name"], {})[row["column_name"]] = row["data_type"]
    return found


def chunks(
    published: Path, table: str, names: Sequence[str], order: Sequence[str] = (), size: int = 10_000
) -> Iterator[list[tuple[Any, ...]]]:
    """These columns of all rows of a published table, so many rows at a time; of one build, whatever is published
    meanwhile.
    """
    selected, by = (", ".join(f'"{name}"' for name in columns) for columns in (names, order))
    with _connected(published) as connection:
        connection.execute(f'select {selected} from main."{table}" {"order by " if by else ""}{by}')
        while rows := connection.fetchmany(size):
            yield [tuple(map(_aware, row)) for row in rows]


def inspect(warehouse: Path, tables: Sequence[str]) -> tuple[dict[str, int], dict[str, Any]]:
    """Rows of the named tables right after a build, and the row of data_quality where it is one of them."""
    with (
        FileLock(warehouse.with_suffix(".lock")),
        duckdb.connect(str(warehouse), read_only=True) as connection,
    ):
        rows = {table: _count(connection, f'main."{table}"') for table in tables}
        return rows, _rows(connection, DATA_QUALITY)[0] if "data_quality" in rows else {}


def data_quality(published: Path) -> dict[str, Any]:
    """The one row of the mart of that name, from the published copy."""
    [row] = query(published, DATA_QUALITY)
    return row


def kept_from(published: Path) -> date:
    """The first UTC day that there are figures of."""
    return data_quality(published).get("kept_from") or date.min


def must_have(published: Path, day: date) -> None:
    """There are figures of that UTC day.

    :raises NotKeptError: there are not; the message says what to do.
    """
    if day < (first := kept_from(published)):
        raise NotKeptError(
            f"calls of before {first} are not kept (HEADROOM_LAKE_KEEP_DAYS), so what was used on {day} cannot be told:"
            " ask from a later day on, or restore a backup that has it into another HEADROOM_DATA and ask there"
        )


def dispensable_before(published: Path, now: datetime, keep_days: int) -> tuple[date | None, str]:
    """The UTC day before which nobody needs calls any more, and which account's usage period holds it back, in words.

    That is so many days before today, or before the newest call where that is older: a clock that is wrong removes
    nothing. None where nothing was published, or there is no call.
    """
    try:
        found = query(published, NEEDED_SINCE)
    except NothingPublishedError:
        return None, ""
    if not found:
        return None, ""
    [row] = found
    wanted = min(now, row["data_through"]).date() - timedelta(days=keep_days)
    if row["since"] >= wanted:
        return wanted, ""
    return row["since"], f"account {row['account_id']}, whose usage period began on {row['since']}"


def standing(published: Path, since: datetime) -> list[dict[str, Any]]:
    """Rows of STANDING: the accounts that a digest may speak of, with their units since the hour of `since`."""
    return query(published, STANDING, {"since": since.astimezone(UTC).replace(tzinfo=None)})


def usage(published: Path, name: str, start: date, end: date) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """The rows of utilization_mtd of an account, that of its calls first, and its calls on each UTC day in
    `[start, end)` that had begun when it was built, zeros included.

    `name` is the account's id or, in any case of its letters, its id or name.

    :raises UnknownAccountError: there is none, or more than one; the message names the nearest ones.
    :raises NotKeptError: some of the days are not kept any more.
    """
    must_have(published, start)
    with _connected(published) as connection:
        account = _account(connection, name)
        parameters = {"account_id": account["account_id"], "as_of": account["as_of"].date(), "start": start, "end": end}
        meters = _rows(connection, METERS, {"account_id": account["account_id"]})
        return meters, _rows(connection, USAGE_BY_DAY, parameters)


def _account(connection: duckdb.DuckDBPyConnection, name: str) -> dict[str, Any]:
    rows = _rows(connection, ACCOUNTS_NAMED, {"name": name})
    found = [row for row in rows if row["account_id"] == name] or rows
    if len(found) == 1:
        return found[0]
    if found:
        raise UnknownAccountError(f"{len(found):,} accounts are called {name!r}; give an id: {_listed(found)}")
    nearest = _rows(connection, ACCOUNTS_NEAREST, {"name": name})
    advice = f"the nearest: {_listed(nearest)}" if nearest else "there are no accounts yet"
    raise UnknownAccountError(f"there is no account {name!r}; {advice}")


def billed_customers(published: Path, name: str) -> list[str]:
    """The Stripe customers that `name` stands for: one of these itself, or those of an account, by its id or name.

    :raises UnknownAccountError: there is none, or the account has none; the message says what to do.
    """
    with _connected(published) as connection:
        if _rows(connection, CUSTOMERS_OF, {"account_id": None, "customer": name}):
            return [name]
        account = _account(connection, name)
        rows = _rows(connection, CUSTOMERS_OF, {"account_id": account["account_id"], "customer": None})
    if not rows:
        raise UnknownAccountError(
            f"account {_listed([account])} has no Stripe customer: its usage is counted and not billed. Name one in the"
            " accounts file (stripe_customer_id), or in the customers file"
        )
    return [row["stripe_customer_id"] for row in rows]


UTILIZATION = """
    select * from utilization_mtd
    where severity <> 'ok'
    order by hits_cap_on nulls last, pct_of_cap desc nulls last, mrr desc nulls last, account_id, meter
"""

CROSSINGS = """
    select
        crossings.account_id, crossings.meter, crossings.unit, crossings.period_start, crossings.period_end,
        crossings.threshold, crossings.crossed_at, crossings.cause, crossings.quota, crossings.used,
        crossings.pct_of_cap, utilization.ci95_pct,
        case when crossings.period_start = utilization.period_start then utilization.severity
            else crossings.severity end as severity,
        utilization.account_name, utilization.owner, utilization.plan, utilization.mrr, utilization.renewal_on,
        utilization.limit_kind,
        utilization.projected_eom, utilization.hits_cap_on, utilization.hits_cap_in_period,
        crossings.period_start = utilization.period_start as is_current_period
    from threshold_crossings as crossings
    join utilization_mtd as utilization using (account_id, meter)
    where
        crossings.is_in_digest and not utilization.is_internal and not utilization.is_test
        -- when the snooze is over, they are news
        and coalesce(utilization.snoozed_until <= cast(utilization.as_of as date), true)
"""

STANDING = """
    select
        utilization.*,
        overage.currency, overage.cost_of_waiting, overage.projected_overage_value, overage.next_plan_delta,
        overage.is_refused, overage.is_refused_on_next_plan,
        quotas.previous_quota, quotas.effective_at as quota_since,
        coalesce(storms.is_retry_storm, false) as is_retry_storm,
        coalesce(errors.has_enough_calls_7d, false) as has_enough_calls_7d,
        momentum.momentum_word,
        case when utilization.meter = 'api-calls' then coalesce(since_then.used_since, 0) end as used_since
    from utilization_mtd as utilization
    left join overage using (account_id, meter)
    left join period_quotas as quotas
        on quotas.account_id = utilization.account_id and quotas.meter = utilization.meter and quotas.is_current
    left join retry_storms as storms on storms.account_id = utilization.account_id and utilization.meter = 'api-calls'
    left join error_rates as errors on errors.account_id = utilization.account_id and utilization.meter = 'api-calls'
    left join momentum on momentum.account_id = utilization.account_id and utilization.meter = 'api-calls'
    left join (
        select hours.account_id, sum(hours.units)::bigint as used_since
        from hourly_usage as hours
        join utilization_mtd as counted on counted.account_id = hours.account_id and counted.meter = 'api-calls'
        where hours.hour_start >= date_trunc('hour', $since::timestamp) and hours.hour_start >= counted.period_start
        group by hours.account_id
    ) as since_then on since_then.account_id = utilization.account_id
    where
        not utilization.is_internal and not utilization.is_test
        and (
            utilization.severity <> 'ok' or utilization.hits_cap_in_period or momentum.momentum_word = 'dropping'
            or quotas.effective_at >= $since
        )
    order by utilization.account_id, utilization.meter
"""

TOP_ENDPOINTS = """
    select account_id, endpoint, sum(calls)::bigint as calls,
        sum(sum(calls)) over (partition by account_id)::bigint as all_calls
    from daily_usage_by_endpoint
    where
        usage_date > (select max(usage_date) from daily_usage_by_endpoint) - 7
        and account_id in (select account_id from threshold_crossings where is_in_digest and meter = 'api-calls')
    group by account_id, endpoint
    qualify row_number() over (partition by account_id order by sum(calls) desc, endpoint) <= 3
    order by account_id, calls desc, endpoint
"""

USED_BY = """
    select account_id, account_name, meter, period_start, quota, used_mtd as used, pct_of_cap
    from utilization_mtd
    where list_contains($accounts, account_id) and not is_internal and not is_test
    order by account_id, meter
"""

DAILY_CALLS = """
    select account_id, list(calls order by usage_date) as calls from daily_usage
    where usage_date > (select max(usage_date) from daily_usage) - 14 group by account_id
"""

CRITICAL_HARD_CAPS = """
    select account_id, meter, recommended_action from utilization_mtd
    where severity = 'critical' and limit_kind = 'hard'
"""

WEEKLY_CHANGES = """
    select changes.*, accounts.account_name, accounts.owner, accounts.csm, accounts.mrr
    from weekly_changes as changes
    join utilization_mtd as accounts on accounts.account_id = changes.account_id and accounts.meter = 'api-calls'
    where not accounts.is_internal and not accounts.is_test
    order by abs(changes.calls - changes.calls_week_before) desc, changes.account_id
"""

CAP_HITS = """
    select outcomes.*, accounts.account_name, accounts.owner, accounts.mrr
    from cap_hit_outcomes as outcomes
    join utilization_mtd as accounts on accounts.account_id = outcomes.account_id and accounts.meter = 'api-calls'
    where not accounts.is_internal and not accounts.is_test
    order by accounts.mrr desc nulls last, outcomes.used desc, outcomes.account_id
"""

ACCOUNTS_NAMED = """
    select * from utilization_mtd
    where
        meter = 'api-calls'
        and (account_id = $name or lower(account_id) = lower($name) or lower(account_name) = lower($name))
    order by account_id
"""

METERS = """
    select * from utilization_mtd where account_id = $account_id order by meter <> 'api-calls', meter
"""

ACCOUNTS_NEAREST = """
    select account_id, account_name
    from utilization_mtd, (select lower($name)) as given (name)
    where meter = 'api-calls'
    order by
        not contains(lower(account_id), name) and not contains(lower(coalesce(account_name, '')), name),
        greatest(
            jaro_winkler_similarity(lower(account_id), name),
            jaro_winkler_similarity(lower(coalesce(account_name, '')), name)
        ) desc,
        account_id
    limit 3
"""

USAGE_BY_DAY = """
    select $account_id as account_id, days.usage_date, coalesce(daily.calls, 0) as calls,
        coalesce(daily.units, 0) as units,
        days.usage_date < $as_of as is_complete
    from (
        select cast(unnest(generate_series($start, least($end - 1, $as_of), interval 1 day)) as date) as usage_date
    ) as days
    left join daily_usage as daily on daily.usage_date = days.usage_date and daily.account_id = $account_id
    order by days.usage_date
"""

DATA_QUALITY = "select * from data_quality"

_COLUMNS = """
    select columns.table_name, columns.column_name, columns.data_type
    from duckdb_columns() as columns
    semi join duckdb_tables() as tables using (database_name, schema_name, table_name)
    where columns.database_name = current_database() and columns.schema_name = 'main'
    order by columns.table_name, columns.column_index
"""

CUSTOMERS_OF = """
    select distinct stripe_customer_id
    from (
        select account_id, stripe_customer_id from stg_customers
        union all
        select account_id, stripe_customer_id from stg_accounts
    ) as customers
    where stripe_customer_id is not null and (account_id = $account_id or stripe_customer_id = $customer)
    order by stripe_customer_id
"""

BILLED_ACCOUNTS = """
    select
        hours.account_id,
        min(utilization.account_name) as account_name,
        cast(sum(hours.calls) as bigint) as calls,
        cast(sum(hours.billable_units) as bigint) as billable_units,
        cast(sum(hours.sampled_calls) as bigint) as sampled_calls,
        max(hours.last_call_at) as last_call_at
    from billable_usage_hourly as hours
    left join utilization_mtd as utilization
        on hours.account_id = utilization.account_id and utilization.meter = 'api-calls'
    where hours.stripe_customer_id = $customer and hours.hour_start >= $start and hours.hour_start < $end
    group by hours.account_id order by billable_units desc, hours.account_id
"""

ENDPOINTS_OF_DAY = """
    select
        usage.account_id,
        usage.endpoint,
        usage.calls,
        coalesce(
            (
                select arg_max(weights.weight, weights.effective_from) from endpoint_weights as weights
                where weights.endpoint = usage.endpoint and weights.effective_from <= usage.usage_date
            ),
            1
        ) as weight
    from daily_usage_by_endpoint as usage
    where usage.usage_date = $day and list_contains($accounts, usage.account_id)
    order by usage.account_id, usage.calls desc, usage.endpoint
"""

BILLABLE_DAYS = """
    select
        cast(hour_start as date) as usage_date,
        cast(sum(hash(account_id, stripe_customer_id, hour_start, billable_units, sampled_calls)) as varchar) as mark
    from billable_usage_hourly
    where stripe_customer_id is not null and hour_start >= $start and hour_start < $end
    group by usage_date order by usage_date
"""

PLANS = "select * from plans order by base_price, plan, meter"

PLAN_TIERS = "select * from plan_tiers order by plan, meter, tier_number"

BILLABLE_ACCOUNTS = """
    select
        accounts.account_id, accounts.account_name, accounts.stripe_customer_id,
        coalesce(overage.plan, accounts.plan) as plan, overage.included_units,
        coalesce(overage.missing = 'quota unknown', true) as is_quota_unknown
    from stg_accounts as accounts
    left join overage on overage.account_id = accounts.account_id and overage.meter = 'api-calls'
    where
        accounts.stripe_customer_id is not null
        and not coalesce(accounts.is_internal, false) and not coalesce(accounts.is_test, false)
    order by accounts.stripe_customer_id, accounts.account_id
"""

BILLABLE_HOURS = """
    select stripe_customer_id, hour_start, cast(sum(billable_units + $sampled * sampled_calls) as bigint) as units
    from billable_usage_hourly where hour_start >= $start and hour_start < $end
    group by stripe_customer_id, hour_start order by stripe_customer_id, hour_start
"""

_BILLED = """
    select
        account_id,
        period_start,
        period_end,
        max(case when source <> 'quota change' then period_start end)
            over (partition by account_id order by period_start) as billed_from
    from account_periods
"""  # a quota change that resets usage begins no invoice

OPEN_SINCE = f"""
    select customers.stripe_customer_id, min(periods.billed_from) as open_since
    from ({_BILLED}) as periods
    inner join (
        select distinct account_id, stripe_customer_id from billable_usage_hourly
        where stripe_customer_id is not null and hour_start >= $start and hour_start < $end
    ) as customers on periods.account_id = customers.account_id
    where periods.period_end > $final_until
    group by customers.stripe_customer_id
"""

NEEDED_SINCE = f"""
    select periods.account_id, cast(periods.billed_from as date) as since, quality.data_through
    from ({_BILLED}) as periods
    cross join data_quality as quality
    where periods.period_end > quality.as_of - interval {LOOK_BACK_DAYS} day and quality.data_through is not null
    order by since, periods.account_id limit 1
"""

BILLABLE_UNITS = f"""
    select
        cast(coalesce(sum(units) filter (where stripe_customer_id is not null), 0) as bigint),
        cast(coalesce(sum(units) filter (where stripe_customer_id is null), 0) as bigint)
    from (
        select
            hours.stripe_customer_id,
            hours.hour_start,
            hours.billable_units + $sampled * hours.sampled_calls as units,
            coalesce(invoices.open_since, $others_since) as open_since
        from billable_usage_hourly as hours
        left join ({OPEN_SINCE}) as invoices on hours.stripe_customer_id = invoices.stripe_customer_id
        where hours.hour_start >= $since and hours.hour_start < $end
    ) as hours
    where hour_start >= open_since
"""


class BillableUsage:
    """What is to be billed for the UTC hours in `[start, end)`, from one published copy, whatever is published
    meanwhile. Sampled calls count only where `bills_sampled`.
    """

    def __init__(
        self, connection: duckdb.DuckDBPyConnection, start: datetime, end: datetime, bills_sampled: bool
    ) -> None:
        self._connection, self._start, self._end = connection, _naive(start), _naive(end)
        self._sampled = int(bills_sampled)

    def days(self) -> dict[date, str]:
        """UTC days with usage of customers; the text is another one as soon as any of a day's usage is."""
        return dict(self._connection.execute(BILLABLE_DAYS, {"start": self._start, "end": self._end}).fetchall())

    def hours(self, day: date) -> list[tuple[str | None, datetime, int]]:
        """(Stripe customer, hour, units) of a day; the customer is None for accounts without one."""
        start = max(datetime.combine(day, time()), self._start)
        end = min(datetime.combine(day, time()) + timedelta(days=1), self._end)
        window = {"start": start, "end": end, "sampled": self._sampled}
        rows = self._connection.execute(BILLABLE_HOURS, window).fetchall()
        return [(customer, hour.replace(tzinfo=UTC), units) for customer, hour, units in rows]

    def units(self, since: datetime, final_until: datetime, others_since: datetime) -> tuple[int, int]:
        """Units from `since` on, of customers and of accounts without one, in usage periods that ended after
        `final_until`; of whoever has none, from `others_since` on.
        """
        window = {"start": self._start, "end": self._end, "final_until": _naive(final_until), "sampled": self._sampled}
        bounds = {"since": _naive(since), "others_since": _naive(others_since)}
        [row] = self._connection.execute(BILLABLE_UNITS, {**window, **bounds}).fetchall()
        return row[0], row[1]

    def periods(self, customers: Sequence[str]) -> list[dict[str, Any]]:
        """Units of each of the customers' usage periods so far, with the plan that all its accounts have, or None."""
        window = {"end": self._end, "sampled": self._sampled, "customers": list(customers)}
        return _rows(self._connection, BILLED_PERIODS, window)

    def invoiced(
        self, ended_after: datetime, begun_before: datetime, customer: str | None = None
    ) -> list[dict[str, Any]]:
        """Usage periods of customers (all of them, or the one) with usage, that overlap the time between the two:
        start, end and units. One that a changed quota splits is one.
        """
        window = {"ended_after": _naive(ended_after), "begun_before": _naive(begun_before)}
        parameters = {**window, "customer": customer, "sampled": self._sampled}
        return _rows(self._connection, INVOICED_PERIODS, parameters)

    def of_customers(self, customers: Sequence[str], start: datetime, end: datetime) -> dict[str, dict[datetime, int]]:
        """Units by customer and hour in `[start, end)`."""
        window = {"start": _naive(start), "end": _naive(end)}
        parameters = {**window, "customers": list(customers), "sampled": self._sampled}
        found: dict[str, dict[datetime, int]] = {customer: {} for customer in customers}
        for customer, hour, units in self._connection.execute(BILLED_HOURS, parameters).fetchall():
            found[customer][hour.replace(tzinfo=UTC)] = units
        return found

    def accounts(self, customer: str, start: datetime, end: datetime) -> list[dict[str, Any]]:
        """What each account of the customer used in the hours in `[start, end)`."""
        window = {"start": _naive(start), "end": _naive(end)}
        return _rows(self._connection, BILLED_ACCOUNTS, {**window, "customer": customer})

    def endpoints(self, accounts: Sequence[str], day: date) -> list[dict[str, Any]]:
        """What accounts called on a UTC day, and how many units a call of it is."""
        return _rows(self._connection, ENDPOINTS_OF_DAY, {"accounts": list(accounts), "day": day})

    def open_since(self, final_until: datetime) -> dict[str, datetime]:
        """By customer, where the first of its usage periods begins that ended after `final_until`."""
        window = {"start": self._start, "end": self._end, "final_until": _naive(final_until)}
        rows = self._connection.execute(OPEN_SINCE, window).fetchall()
        return {customer: start.replace(tzinfo=UTC) for customer, start in rows}


BILLED_HOURS = """
    select stripe_customer_id, hour_start, cast(sum(billable_units + $sampled * sampled_calls) as bigint) as units
    from billable_usage_hourly
    where stripe_customer_id in (select unnest($customers)) and hour_start >= $start and hour_start < $end
    group by stripe_customer_id, hour_start order by stripe_customer_id, hour_start
"""

_INVOICED = f"""
    select account_id, billed_from as period_start, max(period_end) as period_end
    from ({_BILLED}) as parts
    group by account_id, billed_from
    having max(period_end) > $ended_after and billed_from < $begun_before
"""

INVOICED_PERIODS = f"""
    select
        hours.stripe_customer_id,
        periods.period_start,
        max(periods.period_end) as period_end,
        cast(sum(hours.billable_units + $sampled * hours.sampled_calls) as bigint) as units
    from billable_usage_hourly as hours
    inner join ({_INVOICED}) as periods
        on
            hours.account_id = periods.account_id
            and hours.hour_start >= periods.period_start
            and hours.hour_start < periods.period_end
    where
        hours.hour_start >= (select min(period_start) from ({_INVOICED}) as all_periods)
        and hours.stripe_customer_id is not null
        and ($customer is null or hours.stripe_customer_id = $customer)
    group by hours.stripe_customer_id, periods.period_start
    order by hours.stripe_customer_id, periods.period_start
"""

BILLED_PERIODS = f"""
    select
        hours.stripe_customer_id,
        periods.billed_from as period_start,
        max(periods.period_end) as period_end,
        count(distinct hours.account_id) as accounts,
        min(coalesce(utilization.account_name, hours.account_id)) as account_name,
        case when count(distinct coalesce(utilization.plan, '')) = 1 then min(utilization.plan) end as plan,
        cast(sum(hours.billable_units + $sampled * hours.sampled_calls) as bigint) as units
    from billable_usage_hourly as hours
    inner join ({_BILLED}) as periods
        on
            hours.account_id = periods.account_id
            and hours.hour_start >= periods.period_start
            and hours.hour_start < periods.period_end
    left join utilization_mtd as utilization
        on hours.account_id = utilization.account_id and utilization.meter = 'api-calls'
    where hours.stripe_customer_id in (select unnest($customers)) and hours.hour_start < $end
    group by hours.stripe_customer_id, periods.billed_from
    order by hours.stripe_customer_id, periods.billed_from
"""


@contextmanager
def billable_usage(
    published: Path, start: datetime, end: datetime, bills_sampled: bool = False
) -> Iterator[BillableUsage]:
    """:raises NothingPublishedError: nothing was built yet."""
    with _connected(published) as connection:
        yield BillableUsage(connection, start, end, bills_sampled)


def _naive(moment: datetime) -> datetime:
    return moment.astimezone(UTC).replace(tzinfo=None)


_held: ContextVar[tuple[Path, duckdb.DuckDBPyConnection] | None] = ContextVar("_held", default=None)


@contextmanager
def _connected(published: Path) -> Iterator[duckdb.DuckDBPyConnection]:
    held = _held.get()
    if held and held[0] == published:
        yield held[1]
        return
    if not published.exists():
        raise NothingPublishedError(f"{published} does not exist yet: `headroom run` builds and publishes it")
    # Attached, not opened: opened, it would be shared with every reader in this process that still holds an older copy.
    with duckdb.connect() as connection:
        connection.execute(f"attach '{_quoted(published)}' as \"{published.stem}\" (read_only)")
        connection.execute(f'use "{published.stem}"')
        connection.execute("set TimeZone = 'UTC'")
        yield connection


def _rows(
    connection: duckdb.DuckDBPyConnection, sql: str, parameters: Parameters | None = None
) -> list[dict[str, Any]]:
    connection.execute(sql, parameters)
    columns = [column[0] for column in connection.description or []]
    return [dict(zip(columns, map(_aware, row), strict=True)) for row in connection.fetchall()]


def _aware(value: object) -> object:
    return value.replace(tzinfo=UTC) if isinstance(value, datetime) and value.tzinfo is None else value


def _listed(rows: Sequence[Mapping[str, Any]]) -> str:
    names = [
        f"{row['account_id']} ({row['account_name']})" if row["account_name"] else row["account_id"] for row in rows
    ]
    return ", ".join(names[:10]) + (" …" if len(names) > 10 else "")


def _count(connection: duckdb.DuckDBPyConnection, relation: str) -> int:
    [[count]] = connection.execute(f"select count(*) from {relation}").fetchall()
    return int(count)


def _quoted(path: Path) -> str:
    return str(path).replace("'", "''")
