"""What finance sees of the usage that goes to Stripe: why an hour was billed as it was, and statements of a customer's
billing period. Reads the live ledger and the published copy; asks Stripe nothing.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote

from orchestration.billing import meters, usage_query
from orchestration.billing.catalog import plans_by_name
from orchestration.billing.catalog_rules import in_major
from orchestration.billing.certificate_store import Certificates
from orchestration.billing.invoicing import InvoiceLine, Invoicing, SubscriptionPeriod
from orchestration.billing.meter_ledger import MeterLedger, meter_ledger
from orchestration.billing.metering import Mode, ReportState
from orchestration.billing.revisions import Report, reports_at_stripe, units_at_stripe
from orchestration.billing.statement import BilledHour, Statement
from orchestration.billing.usage_query import BillableUsage
from orchestration.settings import Settings
from orchestration.usage.meters import Meter
from orchestration.usage.periods import calendar_month, utc_hour
from orchestration.usage.spreadsheet import SpreadsheetWriter
from orchestration.warehouse import queries

AT_A_TIME = 50
"""Customers whose hours are in memory together."""
EVER = datetime(1970, 1, 1, tzinfo=UTC)
Row = TypeVar("Row", SubscriptionPeriod, InvoiceLine)


@dataclass(frozen=True)
class Explanation:
    """Why a customer was billed what it was billed in the hours in `[start, end)`."""

    stripe_customer_id: str
    start: datetime
    end: datetime
    meter: Meter
    """Whose steps the units are."""
    as_of: datetime
    accounts: list[dict[str, Any]]
    """What each used in these hours: calls, billable_units, sampled_calls, sampled_units, last_call_at."""
    endpoints: list[dict[str, Any]]
    """What they called on the whole UTC day, and the weight of a call; empty unless calls are counted."""
    hours: list[BilledHour]
    revisions: list[Report]


def explain(config: Settings, name: str, start: datetime, end: datetime) -> list[Explanation]:
    """Why the Stripe customers of `name` were billed what they were billed in these hours of a UTC day.

    Of several customers, those with usage or a report in them.

    :raises UnknownAccountError: nothing goes by that name; the message has the nearest ones.
    :raises NothingPublishedError: no run has published anything yet.
    :raises NotKeptError: the calls of that time are not kept any more.
    """
    queries.must_have(config.published, start.date())
    ledger = meter_ledger(config)
    explained, meter, has_endpoints = [], meters.reported(config), meters.is_of_calls(config)
    with _usage(config) as (usage, as_of):
        for customer in _customers(config, ledger, name):
            accounts = usage.accounts(customer, start, end)
            revisions = ledger.of_customer(customer, start, end)
            counted = usage.of_customers([customer], start, end)[customer]
            hours = billed_hours(counted, revisions, _mode(ledger), as_of)
            if not hours and end - start == timedelta(hours=1):
                hours = [_billed_hour(start, 0, [], Mode.TOTAL, as_of)]
            names = [account["account_id"] for account in accounts]
            endpoints = usage.endpoints(names, start.date()) if has_endpoints else []
            explained.append(Explanation(customer, start, end, meter, as_of, accounts, endpoints, hours, revisions))
    return [each for each in explained if each.accounts or each.revisions] or explained[:1]


def billed(config: Settings, ledger: MeterLedger, customer: str, start: datetime, end: datetime) -> list[BilledHour]:
    """The hours in `[start, end)` of one customer with usage or a report, of the meter that these settings report.

    :raises NothingPublishedError: no run has published anything yet.
    """
    with _usage(config) as (usage, as_of):
        counted = usage.of_customers([customer], start, end)[customer]
    return billed_hours(counted, ledger.of_customer(customer, start, end), _mode(ledger), as_of)


def statements(config: Settings, name: str, month: datetime | None) -> list[Statement]:
    """Of each Stripe customer of `name`: its billing periods that began in the month, or the one that runs now.

    A customer without usage has calendar months.

    :raises UnknownAccountError: nothing goes by that name; the message has the nearest ones.
    :raises NothingPublishedError: no run has published anything yet.
    :raises NotKeptError: the calls of that time are not kept any more.
    """
    if month:
        queries.must_have(config.published, month.date())
    ledger = meter_ledger(config)
    with _usage(config) as (usage, as_of):
        found: list[Statement] = []
        for customer in _customers(config, ledger, name):
            periods = _periods(usage, month, as_of, customer) or [_calendar_month(customer, month or as_of)]
            found += _statements(config, ledger, usage, periods, as_of)
        return [each for each in found if each.hours] or found[:1]


def write_statements(config: Settings, month: datetime) -> tuple[Path, int]:
    """A CSV of each customer's billing periods that began in the month, and an index of them; the folder, and how many.

    A file of an earlier call that the new index does not name is removed: nobody could tell that it is outdated.

    :raises NothingPublishedError: no run has published anything yet.
    :raises NotKeptError: the calls of that time are not kept any more.
    """
    queries.must_have(config.published, month.date())
    folder, count = config.data / "billing" / f"{month:%Y-%m}", 0
    folder.mkdir(parents=True, exist_ok=True)
    ledger, names = meter_ledger(config), set[str]()
    with (
        _usage(config) as (usage, as_of),
        (folder / ".index.csv").open("w", encoding="utf-8-sig", newline="") as index,
    ):
        rows = SpreadsheetWriter(index)
        rows.write([INDEX_COLUMNS])
        for statement in _statements(config, ledger, usage, _periods(usage, month, as_of), as_of):
            # what a customer is called is anybody's guess: it may not lead out of the folder
            name = f"{quote(statement.stripe_customer_id, safe='')[:200]}_{statement.period_start:%Y-%m-%d}.csv"
            with (folder / name).open("w", encoding="utf-8-sig", newline="") as file:
                SpreadsheetWriter(file).write(table(statement))
            rows.write([_index_row(statement, name)])
            names.add(name)
            count += 1
    (folder / ".index.csv").replace(folder / "index.csv")
    for old in folder.glob("*_????-??-??.csv"):
        if old.name not in names:
            old.unlink()
    return folder, count


COLUMNS = (
    *("hour_start", "units", "reported_units", "stripe_units", "state", "revisions", "identifier"),
    *("first_attempt_at", "sent_at", "confirmed_at", "note"),
    *("amount", "currency", "period_start", "period_end", "subscription_ids", "invoice_ids", "line_ids"),
    *("invoice_units", "invoice_amount"),
)
"""`amount` is what the hour adds at the catalog's prices. Period, ids and what was invoiced are in the total's row."""
INDEX_COLUMNS = (
    *("stripe_customer_id", "period_start", "period_end", "hours", "units", "reported_units", "stripe_units"),
    *("status", "unsettled_hours", "note", "file"),
    *("amount", "currency", "reported_amount", "subscription_ids", "invoice_ids", "line_ids"),
    *("invoice_units", "invoice_amount"),
)


def table(statement: Statement) -> Iterator[Sequence[object]]:
    """The statement as rows of a CSV: names, hours, and the total. Units are whole ones of the meter: 3.412 GB."""
    yield COLUMNS
    whole = partial(meters.in_csv, statement.meter)
    for hour, amount in zip(statement.hours, statement.hourly_amounts, strict=True):
        moments = (hour.first_attempt_at, hour.sent_at, hour.confirmed_at)
        yield (
            _moment(hour.hour_start),
            *map(whole, (hour.counted_units, hour.reported_units, hour.stripe_units)),
            *(hour.state or "unreported", hour.revisions, hour.identifier),
            *(_moment(each) for each in moments),
            "" if hour.is_settled else hour.verdict,
            *(_money(amount), statement.currency, *[""] * 7),
        )
    total = map(whole, (statement.counted_units, statement.reported_units, statement.stripe_units))
    note = statement.certificate.sentence if statement.certificate else ""
    revisions = sum(hour.revisions for hour in statement.hours)
    period = (_moment(statement.period_start), _moment(statement.period_end))
    yield (
        *("total", *total, statement.status, revisions, "", "", "", "", note),
        *(_money(statement.amount), statement.currency, *period, *_invoiced(statement)),
    )


def _invoiced(statement: Statement) -> list[object]:
    """Ids with blanks between, and the sums of the invoice lines; empty where no invoice was read."""
    lines, subscriptions = statement.lines, statement.subscriptions
    return [
        " ".join(dict.fromkeys(each.subscription_id for each in subscriptions)),
        " ".join(dict.fromkeys(line.invoice_id for line in lines)),
        " ".join(line.line_id for line in lines),
        meters.in_csv(statement.meter, sum(line.quantity for line in lines)) if lines else "",
        _money(in_major(sum(line.amount for line in lines), lines[0].currency)) if lines else "",
    ]


def _money(amount: Decimal | None) -> str:
    return "" if amount is None else f"{amount:f}"


def _index_row(statement: Statement, file: str) -> list[object]:
    return [
        statement.stripe_customer_id,
        *(_moment(statement.period_start), _moment(statement.period_end), len(statement.hours)),
        *(meters.in_csv(statement.meter, each) for each in (statement.counted_units, statement.reported_units)),
        meters.in_csv(statement.meter, statement.stripe_units),
        *(statement.status, len(statement.unsettled)),
        *(statement.certificate.sentence if statement.certificate else "", file),
        *(_money(statement.amount), statement.currency, _money(statement.reported_amount), *_invoiced(statement)),
    ]


def _moment(moment: datetime | None) -> str:
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ") if moment else ""


def billed_hours(
    counted: Mapping[datetime, int], revisions: Iterable[Report], mode: Mode, as_of: datetime
) -> list[BilledHour]:
    """Each hour with usage or a report, in order; `revisions` are those of one customer."""
    by_hour: dict[datetime, list[Report]] = {hour: [] for hour in counted}
    for report in revisions:
        by_hour.setdefault(report.hour_start, []).append(report)
    return [_billed_hour(hour, counted.get(hour, 0), reports, mode, as_of) for hour, reports in sorted(by_hour.items())]


def _billed_hour(hour: datetime, counted: int, revisions: Sequence[Report], mode: Mode, as_of: datetime) -> BilledHour:
    newest = revisions[-1] if revisions else None
    stands = next(iter(reports_at_stripe(revisions).values()), None)
    is_confirmed = stands is not None and stands.state is ReportState.CONFIRMED
    return BilledHour(
        hour_start=hour,
        counted_units=counted,
        reported_units=sum(units_at_stripe(revisions, mode).values()),
        stripe_units=stands.stripe_units if stands else None,
        state=newest.state if newest else None,
        revisions=len(revisions),
        identifier=stands.identifier if stands else None,
        first_attempt_at=stands.first_attempt_at if stands else None,
        sent_at=stands.finished_at if stands and not stands.is_in_doubt else None,
        confirmed_at=stands.checked_at if stands and is_confirmed else None,
        error=newest.error if newest else None,
        is_closed=hour < utc_hour(as_of),
    )


def _mode(ledger: MeterLedger) -> Mode:
    """Of the meter that was reported to last; without one nothing stands."""
    return Mode((ledger.mark("meter") or f"none {Mode.TOTAL}").split()[-1])


@contextmanager
def _usage(config: Settings) -> Iterator[tuple[BillableUsage, datetime]]:
    """Usage of all times, and when it was counted."""
    as_of = queries.data_quality(config.published)["as_of"]
    with usage_query.billable_usage(config.published, EVER, as_of, config.bill_sampled, config.billed_meter) as usage:
        yield usage, as_of


def _customers(config: Settings, ledger: MeterLedger, name: str) -> list[str]:
    """A customer that was reported and is in no file any more is one, too."""
    return [name] if ledger.knows(name) else queries.billed_customers(config.published, name)


def _periods(
    usage: BillableUsage, month: datetime | None, as_of: datetime, customer: str | None = None
) -> list[dict[str, Any]]:
    """Billing periods that began in the month, or that ran when usage was counted."""
    start = month or as_of
    end = (start.replace(day=1) + timedelta(days=32)).replace(day=1) if month else as_of
    return [
        period for period in usage.invoiced(start, end, customer) if month is None or period["period_start"] >= start
    ]


def _calendar_month(customer: str, at: datetime) -> dict[str, Any]:
    start, end = (datetime.combine(day, time(), UTC) for day in calendar_month(at.date()))
    return {"stripe_customer_id": customer, "period_start": start, "period_end": end}


def _statements(
    config: Settings,
    ledger: MeterLedger,
    usage: BillableUsage,
    periods: Sequence[Mapping[str, Any]],
    as_of: datetime,
) -> Iterator[Statement]:
    """Some customers at a time, so that memory is bounded."""
    if not periods:
        return
    mode, since = _mode(ledger), min(each["period_start"] for each in periods)
    certificates = Certificates(ledger).since(min(each["period_end"] for each in periods) - timedelta(days=1))
    invoicing, catalogued, meter = Invoicing(ledger), plans_by_name(config), meters.reported(config)
    subscribed, lines = _by_customer(invoicing.periods(since)), _by_customer(invoicing.lines(since))
    for first in range(0, len(periods), AT_A_TIME):
        some = periods[first : first + AT_A_TIME]
        start, end = min(each["period_start"] for each in some), max(each["period_end"] for each in some)
        customers = [each["stripe_customer_id"] for each in some]
        counted = usage.of_customers(customers, start, end)
        plan_of = {(row["stripe_customer_id"], row["period_start"]): row["plan"] for row in usage.periods(customers)}
        for each in some:
            customer, start, end = each["stripe_customer_id"], each["period_start"], each["period_end"]
            units = {hour: units for hour, units in counted[customer].items() if start <= hour < end}
            yield Statement(
                customer,
                start,
                end,
                meter,
                as_of,
                hours=billed_hours(units, ledger.of_customer(customer, start, end), mode, as_of),
                certificate=certificates.get((customer, start)),
                plan=catalogued.get(plan_of.get((customer, start)) or ""),
                subscriptions=[
                    s for s in subscribed.get(customer, ()) if s.period_start < end and s.period_end > start
                ],
                lines=[x for x in lines.get(customer, ()) if x.period_start < end and x.period_end > start],
            )


def _by_customer(rows: Iterable[Row]) -> dict[str, list[Row]]:
    found: dict[str, list[Row]] = {}
    for row in rows:
        found.setdefault(row.stripe_customer_id, []).append(row)
    return found
