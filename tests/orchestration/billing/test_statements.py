"""What finance sees: the ledger's copy in the lake, why an hour was billed as it was, statements."""

import csv
import io
import re
import shutil
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from typer.testing import CliRunner

from orchestration.billing import certify, changed_reports, lake_copy, reconcile
from orchestration.billing.invoicing import InvoiceLine, Invoicing, SubscriptionPeriod
from orchestration.billing.lake_copy import LedgerCopyResult
from orchestration.billing.meter_ledger import MeterLedger
from orchestration.channels.stripe import connect_meter
from orchestration.cli.console import console
from orchestration.cli.main import app
from tests.fakes.stripe import FakeStripe
from tests.support.billing_world import HOUR, NOW, SEVEN, World
from tests.support.duckdb_file import memory, opened
from tests.support.statement_world import StatementWorld

DAY = timedelta(days=1)
runner = CliRunner()


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    monkeypatch.setenv("HEADROOM_DATA", str(tmp_path))
    monkeypatch.setenv("HEADROOM_NOW", NOW.isoformat())
    with FakeStripe() as stripe:
        stripe.add_meter("api-calls", "hour")
        for customer in ("cus_a", "cus_b"):
            stripe.add_customer(customer)
        yield StatementWorld(tmp_path, stripe)


def output_of(*arguments: str, status: int = 0) -> str:
    result = runner.invoke(app, ["stripe", *arguments])
    assert result.exit_code == status, result.output
    return re.sub(r"\s+", " ", result.output)


def copied(world: World) -> list[tuple[str, int, int, str]]:
    with memory() as connection:
        return connection.execute(
            f"""select stripe_customer_id, revision, units, state from '{world.config.lake}/meter_reports/*/*.parquet'
                order by stripe_customer_id, hour_start, revision"""
        ).fetchall()


def test_copy_has_what_the_ledger_has_and_writes_only_days_that_changed(world: World) -> None:
    assert lake_copy.copy_ledger(world.config) == LedgerCopyResult(days=0, rows=0, is_whole=True)
    assert copied(world) == []

    world.usage = {("a", "cus_a", SEVEN): 5, ("a", "cus_a", SEVEN - DAY): 3, ("b", "cus_b", SEVEN): 1}
    world.run()
    assert lake_copy.copy_ledger(world.config) == LedgerCopyResult(days=2, rows=3, is_whole=False)
    assert lake_copy.copy_ledger(world.config) == LedgerCopyResult(days=0, rows=0, is_whole=False)

    world.usage["a", "cus_a", SEVEN] = 6
    world.run()
    assert lake_copy.copy_ledger(world.config) == LedgerCopyResult(days=1, rows=3, is_whole=False)
    assert copied(world) == [
        ("cus_a", 1, 3, "sent"),
        ("cus_a", 1, 5, "sent"),
        ("cus_a", 2, 6, "sent"),
        ("cus_b", 1, 1, "sent"),
    ]

    world.now += HOUR
    reconcile.look_back(world.config, connect_meter, lambda: world.now)
    lake_copy.copy_ledger(world.config)
    assert {state for *_, state in copied(world)} == {"confirmed"}


def test_statement_is_refused_and_not_empty_when_its_calls_are_not_kept(world: World) -> None:
    world.usage = {("a1", "cus_a", SEVEN): 5}
    world.run()
    world.usage, world.kept_from = {("a1", "cus_a", SEVEN + 31 * DAY): 2}, (SEVEN + DAY).date()
    world.now += 31 * DAY
    world.publish()
    for command in (
        ["explain", "cus_a", "2026-11-20T07"],
        ["statement", "cus_a", "--period", "2026-11"],
        ["statements", "--period", "2026-11"],
    ):
        assert "calls before 2026-11-21 are not kept" in output_of(*command, status=1)
    assert not (world.folder / "billing").exists()
    assert "2 units" in output_of("explain", "cus_a", "2026-12-21T07")
    assert "billing period 01 Dec 2026" in output_of("statement", "cus_a")


def test_copy_is_made_again_when_it_is_gone_or_of_another_ledger(world: World) -> None:
    world.usage = {("a", "cus_a", SEVEN): 5, ("a", "cus_a", SEVEN - DAY): 3}
    world.run()
    lake_copy.copy_ledger(world.config)
    backup = world.folder / "backup.sqlite"
    with world.ledger.ledger.transaction() as connection:
        connection.exec_driver_sql("commit")
        connection.exec_driver_sql(f"vacuum into '{backup}'")
        connection.exec_driver_sql("begin")

    shutil.rmtree(world.config.lake / "meter_reports")
    assert lake_copy.copy_ledger(world.config).is_whole
    assert len(copied(world)) == 2

    world.usage["a", "cus_a", SEVEN] = 6
    world.usage["a", "cus_a", SEVEN - 2 * DAY] = 1
    world.run()
    lake_copy.copy_ledger(world.config)
    assert len(copied(world)) == 4
    for path in world.folder.glob("ledger.sqlite*"):
        path.unlink()
    backup.rename(world.folder / "ledger.sqlite")
    assert lake_copy.copy_ledger(world.config) == LedgerCopyResult(days=2, rows=2, is_whole=True)
    assert [units for _, _, units, _ in copied(world)] == [3, 5]


def test_copy_killed_before_the_ledger_knows_is_made_again(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.usage = {("a", "cus_a", SEVEN): 5}
    world.run()
    with monkeypatch.context() as patch:
        patch.setattr(changed_reports, "note_copied", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            lake_copy.copy_ledger(world.config)
    assert lake_copy.copy_ledger(world.config).rows == 1
    assert len(copied(world)) == 1


def test_change_during_a_copy_is_left_for_the_next(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.usage = {("a", "cus_a", SEVEN): 5}
    lake_copy.copy_ledger(world.config)
    world.run()
    rows_of = changed_reports.rows_of

    def meanwhile(ledger: MeterLedger, *arguments: object) -> object:
        yield from rows_of(ledger, *arguments)  # type: ignore[arg-type]
        world.usage["a", "cus_a", SEVEN] = 6
        world.run()

    with monkeypatch.context() as patch:
        patch.setattr(changed_reports, "rows_of", meanwhile)
        lake_copy.copy_ledger(world.config)
    assert len(copied(world)) == 1
    lake_copy.copy_ledger(world.config)
    assert len(copied(world)) == 2


def test_subscription_periods_of_the_ledger_are_copied(world: World) -> None:
    start, end = datetime(2026, 10, 17, 14, 0, 7, tzinfo=UTC), datetime(2026, 11, 17, 14, 0, 7, tzinfo=UTC)
    period = SubscriptionPeriod(
        *("cus_a", "sub_a", "si_a", "price_a", "usd", start, end, "active"),
        is_trial=False,
        has_threshold=False,
        ends_at=end,
        seen_at=world.now,
    )
    Invoicing(world.ledger).save([period], [])
    assert lake_copy.copy_ledger(world.config).periods == 1

    with memory() as connection:
        connection.execute("set TimeZone = 'UTC'")
        file = world.config.lake / "subscription_periods" / "periods.parquet"
        assert connection.execute(f"from '{file}'").fetchall() == [
            ("cus_a", "sub_a", "si_a", "", start, end, "active", False, end)
        ]


def confirmed(world: World) -> None:
    world.run()
    world.now += HOUR
    reconcile.look_back(world.config, connect_meter, lambda: world.now)


@pytest.mark.parametrize("name", ["a1", "acme corp", "cus_a", "a2"])
def test_hour_is_explained_in_one_step(world: World, name: str) -> None:
    world.usage = {("a1", "cus_a", SEVEN): 1200, ("a2", "cus_a", SEVEN): 4, ("b", "cus_b", SEVEN): 1}
    confirmed(world)
    text = output_of("explain", name, "2026-11-20T07")

    assert "cus_a, Fri 20 Nov 2026 07:00 to 08:00 UTC" in text
    assert "Acme Corp (a1) 600 1,200 0 0 07:59:00" in text
    assert "Acme Labs (a2) 2 4 0" in text
    assert "/search 2,400 (of 5 units each), (none named) 3" in text
    [report] = world.ledger.of_customer("cus_a", SEVEN, SEVEN + HOUR)
    assert report.identifier in text
    assert "Stripe showed 1,204 units for 07:00" in text
    assert "2026-11-20 07:00 UTC: 1,204 units counted, reported and confirmed by Stripe" in text
    assert "Globex" not in text


def test_every_revision_of_an_hour_is_shown_with_what_became_of_it(world: World) -> None:
    world.usage = {("a1", "cus_a", SEVEN): 5}
    world.run()
    world.usage["a1", "cus_a", SEVEN] = 3
    world.run()
    world.usage["a1", "cus_a", SEVEN] = 4
    world.publish()
    text = output_of("explain", "a1", "2026-11-20T07")

    assert "07:00 1 5 5" in text
    assert "07:00 2 3 3" in text
    assert "4 units counted now, 3 reported: +1 since then, which the next run reports" in text


def test_day_is_explained_hour_by_hour_where_it_is_not_as_it_should_be(world: World) -> None:
    world.usage = {("a1", "cus_a", SEVEN): 5, ("a1", "cus_a", SEVEN - HOUR): 6}
    confirmed(world)
    assert "11 units counted, reported and confirmed by Stripe in 2 hours" in output_of("explain", "a1", "2026-11-20")
    for event in world.stripe.events:
        event.payload["value"] = "7"
    world.usage["a1", "cus_a", SEVEN] = 6
    world.run()
    text = output_of("explain", "a1", "2026-11-20")
    assert "2026-11-20 07:00 UTC: 6 units counted and reported; sent 2026-11-20 09:05 UTC, not confirmed yet" in text
    assert "2026-11-20 06:00 UTC: 6 units" not in text


def test_hour_without_anything_is_explained_too(world: World) -> None:
    world.usage = {("a1", "cus_a", SEVEN): 5}
    world.run()
    assert "2026-11-20 03:00 UTC: nothing counted and nothing reported" in output_of("explain", "a1", "2026-11-20T03")


def test_customer_that_no_file_names_any_more_is_explained_from_the_ledger(world: World) -> None:
    world.usage = {("a1", "cus_a", SEVEN): 5}
    world.run()
    world.usage = {("a1", "cus_b", SEVEN): 5}
    world.run()
    text = output_of("explain", "cus_a", "2026-11-20T07")
    assert "The customer's accounts have no usage here." in text
    assert "0 units counted and reported" in text
    assert "5 units counted and reported" in output_of("explain", "a1", "2026-11-20T07")


def test_what_cannot_be_explained_is_said_in_a_sentence(world: World) -> None:
    assert "does not exist yet" in output_of("explain", "a1", "2026-11-20T07", status=1)
    world.usage = {("a1", "cus_a", SEVEN): 5, ("c", None, SEVEN): 1}
    world.publish()
    assert "there is no account 'acme'; the nearest: a1 (Acme Corp), a2 (Acme Labs)" in output_of(
        "explain", "acme", "2026-11-20T07", status=1
    )
    assert "c (Free Rider) has no Stripe customer: its usage is counted and not billed" in output_of(
        "statement", "c", status=1
    )
    output_of("explain", "a1", "2026-11-20T7pm", status=2)
    output_of("explain", "a1", "yesterday", status=2)


def test_statement_has_every_hour_and_the_totals(world: World) -> None:
    first = datetime(2026, 11, 1, tzinfo=UTC)
    world.usage = {
        ("a1", "cus_a", first): 1000,
        ("a1", "cus_a", first - HOUR): 7,
        ("a1", "cus_a", SEVEN): 5,
        ("b", "cus_b", SEVEN): 2,
    }
    confirmed(world)
    world.usage["a1", "cus_a", SEVEN] = 6
    world.publish()
    text = output_of("statement", "Acme Corp")
    assert "cus_a, billing period 01 Nov 2026 00:00 to 01 Dec 2026 00:00 UTC" in text
    assert "2026-11-01 00:00 1,000 1,000 1,000 1 confirmed" in text
    assert "Total 1,006 1,005 1,005" in text
    assert "2026-11-20 07:00 UTC: 6 units counted now, 5 reported: +1 since then" in text
    assert "No certificate: running." in text
    assert "10-31" not in text

    rows = list(csv.DictReader(io.StringIO(runner.invoke(app, ["stripe", "statement", "cus_a", "--csv"]).output)))
    assert [(row["hour_start"], row["units"], row["reported_units"], row["stripe_units"]) for row in rows] == [
        ("2026-11-01T00:00:00Z", "1000", "1000", "1000"),
        ("2026-11-20T07:00:00Z", "6", "5", "5"),
        ("total", "1006", "1005", "1005"),
    ]
    assert rows[0]["note"] == ""
    assert "+1 since then" in rows[1]["note"]


def test_statement_of_a_month_without_usage_is_empty(world: World) -> None:
    world.usage = {("a1", "cus_a", SEVEN): 5}
    world.run()
    text = output_of("statement", "a1", "--period", "2026-02")
    assert "billing period 01 Feb 2026 00:00 to 01 Mar 2026 00:00 UTC" in text
    assert "Total 0 0 0" in text


def test_statements_are_a_file_for_each_customer_and_an_index(world: World) -> None:
    world.usage = {
        ("a1", "cus_a", SEVEN): 5,
        ("a2", "cus_a", SEVEN): 1,
        ("b", "../cus b", SEVEN): 2,
        ("c", None, SEVEN): 9,
    }
    world.publish()
    folder = world.folder / "billing" / "2026-11"
    folder.mkdir(parents=True)
    (folder / "cus_gone_2026-11-01.csv").touch()  # of an earlier call, when that customer had usage
    assert "Wrote 2 statements" in output_of("statements", "--period", "2026-11")

    with (folder / "index.csv").open(encoding="utf-8-sig") as file:
        index = list(csv.DictReader(file))
    assert [(row["stripe_customer_id"], row["units"], row["status"], row["unsettled_hours"]) for row in index] == [
        ("../cus b", "2", "running", "1"),
        ("cus_a", "6", "running", "1"),
    ]
    assert {path.name for path in folder.iterdir()} == {"index.csv", *(row["file"] for row in index)}
    assert [row["file"] for row in index] == ["..%2Fcus%20b_2026-11-01.csv", "cus_a_2026-11-01.csv"]
    assert len((folder / "cus_a_2026-11-01.csv").read_text().splitlines()) == 3
    assert "Wrote 0 statements" in output_of("statements", "--period", "2026-10")


def test_statement_shows_its_certificate(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.usage = {("a1", "cus_a", SEVEN): 5}
    confirmed(world)
    world.now = datetime(2026, 12, 1, 1, 30, tzinfo=UTC)
    world.publish()
    with opened(world.config.published) as connection:
        connection.execute(
            "update account_periods set period_start = timestamp '2026-11-01', period_end = timestamp '2026-12-01'"
        )
    result = certify.certify(world.config, connect_meter, lambda: world.now)
    assert result
    assert len(result.awaiting) == 1
    monkeypatch.setenv("HEADROOM_NOW", world.now.isoformat())
    text = output_of("statement", "a1", "--period", "2026-11")
    assert "Waits for its invoice. Compared 2026-12-01 01:30 UTC" in text
    assert "No invoice yet" in text


def invoiced(world: World) -> None:
    """A subscription's period to the second, and two lines of one invoice for it, as Stripe was read."""
    start, end = datetime(2026, 11, 1, 14, 0, 7, tzinfo=UTC), datetime(2026, 12, 1, 14, 0, 7, tzinfo=UTC)
    of_customer = {"stripe_customer_id": "cus_a", "subscription_item_id": "si_1", "currency": "usd"}
    period = {**of_customer, "period_start": start, "period_end": end, "seen_at": end}
    subscribed = SubscriptionPeriod(
        **period,
        subscription_id="sub_1",
        price_id="price_1",
        status="active",
        is_trial=False,
        has_threshold=False,
        ends_at=None,
    )
    on_invoice = {**period, "invoice_id": "in_1", "invoice_status": "paid", "finalizes_at": None}
    lines = [
        InvoiceLine(**on_invoice, line_id=f"il_{number}", quantity=units, amount=cents, finalized_at=end + HOUR)
        for number, units, cents in ((1, 500, 0), (2, 704, 44_880))
    ]
    Invoicing(world.ledger).save([subscribed], lines)


def test_statement_has_units_and_money_and_the_invoice_with_its_ids(world: World) -> None:
    world.usage = {("a1", "cus_a", SEVEN - HOUR): 500, ("a2", "cus_a", SEVEN): 704}
    confirmed(world)
    assert "No invoice yet" in output_of("statement", "cus_a")
    invoiced(world)
    text = output_of("statement", "cus_a")
    assert (
        "Usage on plan starter (500 units included), without the base price: 448.80 USD for what was counted, 448.80"
        " USD for what was reported."
    ) in text
    assert "Subscription sub_1, item si_1: period 2026-11-01 14:00:07 to 2026-12-01 14:00:07 UTC" in text
    assert (
        "Invoice in_1 (paid, final since 2026-12-01 15:00 UTC), line il_2: period 2026-11-01 14:00:07 to 2026-12-01"
        " 14:00:07 UTC, 704 units, 448.80 USD"
    ) in text
    assert "Total invoiced: 1,204 units, 448.80 USD" in text
    assert "No invoice yet" not in text


def test_statement_as_csv_has_money_by_hour_and_ids_at_the_end(world: World) -> None:
    world.usage = {("a1", "cus_a", SEVEN - HOUR): 600, ("a2", "cus_a", SEVEN): 604}
    confirmed(world)
    invoiced(world)
    rows = list(csv.DictReader(io.StringIO(runner.invoke(app, ["stripe", "statement", "cus_a", "--csv"]).output)))
    assert [(row["amount"], row["currency"]) for row in rows] == [
        ("63.75", "USD"),
        ("385.05", "USD"),
        ("448.80", "USD"),
    ]
    total = rows[-1]
    assert (total["period_start"], total["period_end"]) == ("2026-11-01T00:00:00Z", "2026-12-01T00:00:00Z")
    assert (total["subscription_ids"], total["invoice_ids"], total["line_ids"]) == ("sub_1", "in_1", "il_1 il_2")
    assert (total["invoice_units"], total["invoice_amount"]) == ("1204", "448.80")
    output_of("statements", "--period", "2026-11")
    with (world.folder / "billing" / "2026-11" / "index.csv").open(encoding="utf-8-sig") as file:
        [index] = csv.DictReader(file)
    assert (index["amount"], index["reported_amount"], index["line_ids"]) == ("448.80", "448.80", "il_1 il_2")
    assert index["file"] == "cus_a_2026-11-01.csv"


def test_amount_of_a_customer_without_a_plan_is_unknown(world: World) -> None:
    world.usage = {("b", "cus_b", SEVEN): 5}
    world.run()
    assert "Amount unknown: the customer's accounts have no plan of the catalog" in output_of("statement", "cus_b")


@pytest.mark.parametrize("columns", ["80", "100"])
def test_ids_are_whole_on_a_narrow_terminal(world: World, monkeypatch: pytest.MonkeyPatch, columns: str) -> None:
    world.usage = {("a1", "cus_a", SEVEN): 600}
    confirmed(world)
    [report] = world.ledger.of_customer("cus_a", SEVEN, SEVEN + HOUR)
    monkeypatch.setattr(console, "_width", int(columns))
    for command in (["statement", "cus_a"], ["explain", "cus_a", "2026-11-20T07"]):
        assert report.identifier in output_of(*command)
