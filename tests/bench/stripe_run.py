"""One run of the reporting to Stripe, or of the bare SDK, as a process of its own. Writes its figures as JSON."""

import json
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb
import sqlalchemy as sa

from orchestration.billing import report
from orchestration.billing import report_rows as rows
from orchestration.billing.meter_ledger import meter_ledger
from orchestration.billing.metering import Mode, ReportState
from orchestration.billing.reporter import SendResult
from orchestration.channels.stripe import connect_meter
from orchestration.ledger.tables import meter_reports
from orchestration.settings import Settings

NOW = datetime.now(UTC).replace(minute=5, second=0, microsecond=0)
HOUR = NOW.replace(minute=0) - timedelta(hours=1)
HOURS = 720
KEY = "sk_test_fake"


def customer(number: int) -> str:
    return f"cus_{number:06}"


def settings(home: Path, **fields: Any) -> Settings:
    return Settings(HEADROOM_DATA=home, HEADROOM_NOW=NOW, HEADROOM_STRIPE_MAX_CHANGED_CUSTOMERS=10**9, **fields)


def publish(config: Settings, rows: str) -> None:
    """What the marts would say; `rows` selects account_id, stripe_customer_id, hour_start, billable_units."""
    config.published.unlink(missing_ok=True)
    now = f"timestamp '{NOW:%Y-%m-%d %H:%M:%S}'"
    with duckdb.connect(str(config.published)) as connection:
        connection.execute(f"create table data_quality as select {now} as as_of")
        connection.execute("create table meters as select 'api-calls' as meter, true as is_main, true as is_billed")
        connection.execute(
            f"create table billable_usage_hourly as select *, 0 as sampled_calls, 0 as sampled_units from ({rows})"
        )
        connection.execute(
            f"create table account_periods as select distinct account_id, {now} - interval 40 day as period_start,"
            f" {now} + interval 1 day as period_end, 'calendar month' as source from billable_usage_hourly"
        )


def report_step(step: str, home: Path, url: str, accounts: int, billed: int, per_second: float) -> dict[str, float]:
    """Seconds of the plan with its commit, and of the sending."""
    config = settings(home, STRIPE_API_KEY=KEY, STRIPE_API_BASE=url, HEADROOM_STRIPE_REQUESTS_PER_SECOND=per_second)
    more = "case when i % 100 = 0 then 1 else 0 end" if step == "corrected" else "0"
    publish(
        config,
        f"select 'account-' || i as account_id, case when i < {billed} then printf('cus_%06d', i) end as"
        f" stripe_customer_id, timestamp '{HOUR:%Y-%m-%d %H:%M:%S}' as hour_start,"
        f" 1 + i % 97 + {more} as billable_units from range({accounts}) as t (i)",
    )
    moments = [time.perf_counter()]

    def progress(sent: SendResult) -> None:
        if len(moments) == 1:
            moments.append(time.perf_counter())

    started = time.perf_counter()
    outcome = report.report_usage(config, connect_meter, lambda: datetime.now(UTC), progress=progress)
    ended = time.perf_counter()
    expected = {"first": billed, "again": 0, "corrected": billed // 100}[step]
    assert outcome.sent, outcome
    assert (outcome.sent.taken, outcome.sent.stopped) == (expected, ""), outcome
    planned = moments[-1] if len(moments) > 1 else ended
    return {"plan": planned - started, "send": ended - planned}


def send_bare(url: str, count: int) -> dict[str, float]:
    import stripe

    client = stripe.StripeClient(KEY, base_addresses={"api": url}, http_client=stripe.RequestsClient(timeout=10))

    def send(number: int) -> None:
        parameters: Any = {
            "event_name": "api-calls",
            "identifier": f"bare-{count}-{number}",
            "timestamp": int(HOUR.timestamp()),
            "payload": {"stripe_customer_id": customer(number), "value": str(1 + number % 97)},
        }
        client.v1.billing.meter_events.create(parameters)

    started = time.perf_counter()
    with ThreadPoolExecutor(8) as pool:
        for _ in pool.map(send, range(count)):
            pass
    return {"plan": 0, "send": time.perf_counter() - started}


def plan_over_history(home: Path, count: int) -> dict[str, float]:
    """Seconds of a plan when nothing changed, when one day did, and when one of the reports is in doubt."""
    config = settings(home)
    ledger = meter_ledger(config)
    customers = count // HOURS

    def usage(first_day: int) -> str:
        return (
            "select 'account-' || c as account_id, printf('cus_%06d', c) as stripe_customer_id,"
            f" timestamp '{HOUR:%Y-%m-%d %H:%M:%S}' - to_hours(h) as hour_start,"
            f" 1 + (c + h) % 97 + case when h < 24 and c = 0 then {first_day} else 0 end as billable_units"
            f" from range({customers}) as a (c), range({HOURS}) as b (h)"
        )

    publish(config, usage(0))
    names = {f"cus_{number:06d}": number for number in range(customers)}
    with ledger.ledger.transaction() as connection:
        numbers = rows.know(connection, ledger.env, ledger.event_name, names)
        newest = int(HOUR.timestamp()) // 3600
        for hour in range(HOURS):
            reports = [
                (newest - hour, numbers[name], units, units, f"{c * HOURS + hour:020}".encode())
                for name, c in names.items()
                for units in (1 + (c + hour) % 97,)
            ]
            rows.insert_first(connection, ledger.env, ledger.event_name, ReportState.CONFIRMED, NOW, reports)
    _plan(config)  # notes what each day was planned from
    found = {"nothing": _plan(config)}
    publish(config, usage(1))
    found["one day"] = _plan(config)
    with ledger.ledger.transaction() as connection:
        doubtful = (meter_reports.c.customer_id == 1, meter_reports.c.hour_start == HOUR)
        connection.execute(sa.update(meter_reports).where(*doubtful).values(state=ReportState.SENDING))
    found["in doubt"] = _plan(config)
    return found


def _plan(config: Settings) -> float:
    started = time.perf_counter()
    with report._planning(config, meter_ledger(config), Mode.TOTAL) as planning:
        planning.commit(planning.look_ahead())
    return time.perf_counter() - started


def main(step: str, home: str, *arguments: str) -> None:
    *rest, figures = arguments
    if step == "history":
        found = plan_over_history(Path(home), int(rest[0]))
    elif step == "bare":
        found = send_bare(rest[0], int(rest[2]))
    else:
        url, accounts, billed, per_second = rest
        found = report_step(step, Path(home), url, int(accounts), int(billed), float(per_second))
    Path(figures).write_text(json.dumps(found))


if __name__ == "__main__":
    main(*sys.argv[1:])
