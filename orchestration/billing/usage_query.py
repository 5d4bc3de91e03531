"""What is to be billed, asked of the published copy: units by customer and hour, by usage period, and the plans."""

from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path
from typing import Any

import duckdb

from orchestration.billing.first_reports import FirstReports
from orchestration.billing.metering import Terms
from orchestration.billing.owners_query import BILLABLE_ACCOUNTS as BILLABLE_ACCOUNTS
from orchestration.billing.owners_query import CUSTOMERS, METER_USAGE, OWNERS, UNMAPPED
from orchestration.billing.span_query import Span, units_within
from orchestration.warehouse.published_copy import NothingPublishedError, connected, query, rows_of

LOOK_BACK_DAYS = 92
"""How far back usage is compared with what was reported to Stripe: what came too late to be billed is listed."""
LOOK_BACK = timedelta(days=LOOK_BACK_DAYS)


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


class BillableUsage:
    """What is to be billed for the UTC hours in `[start, end)`, from one published copy, whatever is published
    meanwhile. Units of sampled calls count only where `bills_sampled`.
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

    def first_reports(self, terms: Terms, days: Collection[date]) -> FirstReports:
        """Of those days, as far as they are in the window."""
        return FirstReports(self._connection, terms, self._sampled, days, self._end.replace(tzinfo=UTC))

    def unmapped(self, day: date) -> dict[datetime, list[int]]:
        """By hour of a day, the units of each account without a Stripe customer."""
        start = max(datetime.combine(day, time()), self._start)
        end = min(datetime.combine(day, time()) + timedelta(days=1), self._end)
        rows = self._connection.execute(UNMAPPED, {"start": start, "end": end, "sampled": self._sampled}).fetchall()
        return {hour.replace(tzinfo=UTC): units for hour, units in rows}

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
        return rows_of(self._connection, BILLED_PERIODS, window)

    def owners(self, customers: Sequence[str]) -> list[dict[str, Any]]:
        """For each of the customers, whether or not it has usage: its accounts, and the plan that all of them have."""
        return rows_of(self._connection, OWNERS, {"customers": list(customers)})

    def invoiced(
        self, ended_after: datetime, begun_before: datetime, customer: str | None = None
    ) -> list[dict[str, Any]]:
        """Usage periods of customers (all of them, or the one) with usage, that overlap the time between the two:
        start, end and units. One that a changed quota splits is one.
        """
        window = {"ended_after": _naive(ended_after), "begun_before": _naive(begun_before)}
        parameters = {**window, "customer": customer, "sampled": self._sampled}
        return rows_of(self._connection, INVOICED_PERIODS, parameters)

    def of_customers(self, customers: Sequence[str], start: datetime, end: datetime) -> dict[str, dict[datetime, int]]:
        """Units by customer and hour in `[start, end)`."""
        window = {"start": _naive(start), "end": _naive(end)}
        parameters = {**window, "customers": list(customers), "sampled": self._sampled}
        found: dict[str, dict[datetime, int]] = {customer: {} for customer in customers}
        for customer, hour, units in self._connection.execute(BILLED_HOURS, parameters).fetchall():
            found[customer][hour.replace(tzinfo=UTC)] = units
        return found

    def within(self, spans: Sequence[Span]) -> list[int]:
        """Units of each (customer, start, end): of the hours that begin in it."""
        return units_within(self._connection, spans, self._sampled)

    def accounts(self, customer: str, start: datetime, end: datetime) -> list[dict[str, Any]]:
        """What each account of the customer used in the hours in `[start, end)`."""
        window = {"start": _naive(start), "end": _naive(end)}
        return rows_of(self._connection, BILLED_ACCOUNTS, {**window, "customer": customer})

    def endpoints(self, accounts: Sequence[str], day: date) -> list[dict[str, Any]]:
        """What accounts called on a UTC day, and how many units a call of it is."""
        return rows_of(self._connection, ENDPOINTS_OF_DAY, {"accounts": list(accounts), "day": day})

    def finality(self, final_until: datetime, now: datetime) -> tuple[dict[str, datetime], dict[str, datetime]]:
        """By customer with a usage period that ended after `final_until`: where the first of them begins; and, where
        one of them is over, when the last of those ended.
        """
        window = {"start": self._start, "end": self._end, "final_until": _naive(final_until), "now": _naive(now)}
        rows = self._connection.execute(FINALITY, window).fetchall()
        open_since = {customer: start.replace(tzinfo=UTC) for customer, start, _ in rows}
        return open_since, {customer: end.replace(tzinfo=UTC) for customer, _, end in rows if end}

    def customers(self) -> set[str]:
        """Those with usage."""
        rows = self._connection.execute(CUSTOMERS, {"start": self._start, "end": self._end}).fetchall()
        return {customer for (customer,) in rows}


def _naive(moment: datetime) -> datetime:
    return moment.astimezone(UTC).replace(tzinfo=None)


BILLED_ACCOUNTS = """
    select
        hours.account_id,
        min(utilization.account_name) as account_name,
        cast(sum(hours.calls) as bigint) as calls,
        cast(sum(hours.billable_units) as bigint) as billable_units,
        cast(sum(hours.sampled_calls) as bigint) as sampled_calls,
        cast(sum(hours.sampled_units) as bigint) as sampled_units,
        max(hours.last_call_at) as last_call_at
    from billable_usage_hourly as hours
    left join utilization_mtd as utilization
        on hours.account_id = utilization.account_id and utilization.is_main
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
    where usage.usage_date = $day and usage.calls > 0 and list_contains($accounts, usage.account_id)
    order by usage.account_id, usage.calls desc, usage.endpoint
"""


BILLABLE_DAYS = """
    select
        cast(hour_start as date) as usage_date,
        cast(sum(hash(account_id, stripe_customer_id, hour_start, billable_units, sampled_units)) as varchar) as mark
    from billable_usage_hourly
    where stripe_customer_id is not null and hour_start >= $start and hour_start < $end
    group by usage_date order by usage_date
"""


PLANS = "select * from plans order by base_price, plan, meter"


PLAN_TIERS = "select * from plan_tiers order by plan, meter, tier_number"


BILLABLE_HOURS = """
    select stripe_customer_id, hour_start, cast(sum(billable_units + $sampled * sampled_units) as bigint) as units
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


_OPEN = f"""
    select customers.stripe_customer_id, periods.billed_from, periods.period_end
    from (
        select account_id, billed_from, max(period_end) as period_end
        from ({_BILLED}) as parts group by account_id, billed_from
    ) as periods
    inner join (
        select distinct account_id, stripe_customer_id from billable_usage_hourly
        where stripe_customer_id is not null and hour_start >= $start and hour_start < $end
    ) as customers on periods.account_id = customers.account_id
    where periods.period_end > $final_until
"""


FINALITY = f"""
    select
        stripe_customer_id,
        min(billed_from) as open_since,
        max(period_end) filter (where period_end <= $now) as closed_at
    from ({_OPEN}) as periods
    group by stripe_customer_id
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
            hours.billable_units + $sampled * hours.sampled_units as units,
            coalesce(invoices.open_since, $others_since) as open_since
        from billable_usage_hourly as hours
        left join (
            select stripe_customer_id, min(billed_from) as open_since from ({_OPEN}) as periods
            group by stripe_customer_id
        ) as invoices on hours.stripe_customer_id = invoices.stripe_customer_id
        where hours.hour_start >= $since and hours.hour_start < $end
    ) as hours
    where hour_start >= open_since
"""


BILLED_HOURS = """
    select stripe_customer_id, hour_start, cast(sum(billable_units + $sampled * sampled_units) as bigint) as units
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
    with periods as materialized ({_INVOICED})
    select
        hours.stripe_customer_id,
        periods.period_start,
        max(periods.period_end) as period_end,
        cast(sum(hours.billable_units + $sampled * hours.sampled_units) as bigint) as units
    from billable_usage_hourly as hours
    inner join periods
        on
            hours.account_id = periods.account_id
            and hours.hour_start >= periods.period_start
            and hours.hour_start < periods.period_end
    where
        hours.hour_start >= (select min(period_start) from periods)
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
        cast(sum(hours.billable_units + $sampled * hours.sampled_units) as bigint) as units
    from billable_usage_hourly as hours
    inner join ({_BILLED}) as periods
        on
            hours.account_id = periods.account_id
            and hours.hour_start >= periods.period_start
            and hours.hour_start < periods.period_end
    left join utilization_mtd as utilization
        on hours.account_id = utilization.account_id and utilization.is_main
    where hours.stripe_customer_id in (select unnest($customers)) and hours.hour_start < $end
    group by hours.stripe_customer_id, periods.billed_from
    order by hours.stripe_customer_id, periods.billed_from
"""


@contextmanager
def billable_usage(
    published: Path, start: datetime, end: datetime, bills_sampled: bool = False, meter: str = ""
) -> Iterator[BillableUsage]:
    """Of the meter; without one, of the main meter.

    :raises NothingPublishedError: nothing was built yet.
    """
    with connected(published) as connection:
        if not meter:
            yield BillableUsage(connection, start, end, bills_sampled)
            return
        # The others have a table with the same columns: every query asks it in the place of the main meter's.
        usage = METER_USAGE.format(meter=meter.replace("'", "''"))
        connection.execute(f"create or replace temp view billable_usage_hourly as {usage}")
        try:
            yield BillableUsage(connection, start, end, bills_sampled)
        finally:
            connection.execute("drop view temp.billable_usage_hourly")
