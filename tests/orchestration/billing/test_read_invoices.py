"""Subscriptions and invoices into the ledger: only what is new is read, and all of a look is saved or nothing."""

import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from orchestration.billing import invoicing, read_invoices
from orchestration.billing.certificate import Status
from orchestration.billing.certificate_store import Certificates
from orchestration.billing.certify import certify
from orchestration.billing.invoicing import Invoicing
from orchestration.billing.lake_copy import copy_ledger
from orchestration.billing.meter import StoppedError
from orchestration.channels.stripe import connect_meter
from orchestration.channels.stripe import invoices as stripe_invoices
from orchestration.ledger.engines import BusyError
from tests.fakes.stripe import FakeStripe
from tests.support.billing_world import DAY, HOUR, QuickWorld, World, quick
from tests.support.duckdb_file import memory
from tests.support.killing import KilledError, at_line

START, END = datetime(2026, 11, 1, tzinfo=UTC), datetime(2026, 12, 1, tzinfo=UTC)
FIRST = START + 10 * HOUR
FILES = {read_invoices.__file__, invoicing.__file__, stripe_invoices.__file__}


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with FakeStripe() as stripe:
        stripe.add_meter("api-calls", "hour")
        stripe.add_customer("cus_a")
        made = QuickWorld(tmp_path, stripe)
        made.usage = {("a", "cus_a", FIRST): 5}
        with quick(made):
            yield made


def lists(world: World, since: int) -> list[str]:
    """Paths of the lists that were read since that request."""
    paths = [request.path.removeprefix("/v1/") for request in world.stripe.requests[since:]]
    return [path for path in paths if path in ("subscriptions", "invoices")]


def state(world: World) -> tuple[object, ...]:
    """What is known, without when it was seen."""
    store = Invoicing(world.ledger)
    periods = [replace(each, seen_at=START) for each in store.periods(START - 90 * DAY)]
    return periods, [replace(each, seen_at=START) for each in store.lines(START - 90 * DAY)]


def test_only_what_is_new_is_read(world: World) -> None:
    world.subscribe("cus_a")
    world.run()
    world.read()
    since = len(world.stripe.requests)
    world.now += HOUR
    assert world.read().requests == 0, "nothing ended, and all was read today"
    world.now += DAY
    assert lists(world, since) == []
    world.read()
    assert lists(world, since) == ["subscriptions", "subscriptions", "invoices", "invoices"], "all, and void ones"

    world.now = END - HOUR
    world.read()
    since, world.now = len(world.stripe.requests), END + timedelta(minutes=5)
    assert world.read().periods == 1
    assert lists(world, since) == ["subscriptions", "subscriptions", "invoices"], "the period ended"
    [line] = Invoicing(world.ledger).lines(START)
    assert (line.is_draft, line.finalizes_at) == (True, END + HOUR)
    since, world.now = len(world.stripe.requests), END + HOUR
    world.read()
    assert lists(world, since) == ["invoices"], "until it is final"
    [line] = Invoicing(world.ledger).lines(START)
    assert (line.quantity, line.finalized_at) == (5, END + HOUR)
    since, world.now = len(world.stripe.requests), END + 2 * HOUR
    world.read()
    assert lists(world, since) == []


def test_periods_that_were_never_current_are_known_by_their_invoices(world: World) -> None:
    """Such as those from before the first look."""
    world.subscribe("cus_a")
    world.run()
    world.now = END + 5 * DAY
    world.read()
    periods = [(each.period_start, each.period_end) for each in Invoicing(world.ledger).periods(START)]
    assert periods == [(START, END), (END, END + 31 * DAY)]


def test_all_pages_of_lists_and_their_items_and_lines_are_read(world: World) -> None:
    """Of a subscription with more items, and an invoice with more lines, than an answer shows."""
    for number in range(101):
        world.stripe.add_customer(f"cus_{number}")
        world.subscribe(f"cus_{number}")
    plain = [world.stripe.add_price(number=f"price_{number}")["id"] for number in range(12)]
    world.stripe.subscribe("cus_a", *plain, "price_unit")
    world.run()
    world.now = END + HOUR
    world.read()
    store = Invoicing(world.ledger)
    assert len({each.stripe_customer_id for each in store.periods(END)}) == 102
    assert {line.stripe_customer_id: line.quantity for line in store.lines(START)}["cus_a"] == 5


def test_deleted_draft_is_forgotten(world: World) -> None:
    world.subscribe("cus_a")
    world.run()
    world.now = END + timedelta(minutes=5)
    world.read()
    [draft] = world.stripe.bills("cus_a")
    del world.stripe.invoices.objects[draft["id"]]
    world.now += HOUR
    world.read()
    assert Invoicing(world.ledger).lines(START) == []


def test_invoice_of_an_item_that_was_not_known_is_read_later(world: World) -> None:
    """It began, and met its threshold, between two looks at all subscriptions."""
    world.run()
    world.read()
    world.now += HOUR
    world.subscribe("cus_a", billing_thresholds={"amount_gte": 3, "reset_billing_cycle_anchor": False})
    world.usage["a", "cus_a", FIRST + HOUR] = 9
    world.run()
    world.now += 2 * HOUR
    world.read()
    world.now += DAY
    world.read()
    assert [line.quantity for line in Invoicing(world.ledger).lines(START)] == [14]


def test_stripe_that_fails_saves_nothing_and_says_so(world: World) -> None:
    world.subscribe("cus_a")
    world.run()
    world.stripe.before = lambda request: setattr(world.stripe, "is_down", request.path == "/v1/invoices")
    with pytest.raises(StoppedError, match="about invoices"):
        world.read()
    assert state(world) == ([], [])
    world.stripe.before, world.stripe.is_down = (lambda _: None), False
    world.read()
    assert state(world)[0] != []


def test_key_that_may_not_read_invoices_says_which_permission(world: World) -> None:
    world.run()
    world.stripe.keys[world.stripe.key] = {"billing_meter_read", "subscription_read"}
    with pytest.raises(StoppedError, match="HTTP 403 for reading invoices"):
        world.read()


def test_look_that_is_killed_anywhere_is_made_again(world: World) -> None:
    """Between any two lines, also between reading and saving: all of it is known, or nothing is."""
    world.subscribe("cus_a")
    world.run()
    world.read()
    before, world.now = state(world), END + timedelta(hours=2)
    copies = {path: path.read_bytes() for path in world.folder.glob("ledger.sqlite*")}
    world.read()
    after = state(world)
    assert before != after

    def kill() -> None:
        raise KilledError

    line, killed = 1, 0
    while True:
        for path in world.folder.glob("ledger.sqlite*"):
            path.unlink()
        for path, content in copies.items():
            path.write_bytes(content)
        sys.settrace(at_line(line, FILES, kill))
        try:
            world.read()
        except KilledError:
            killed += 1
        else:
            break
        finally:
            sys.settrace(None)
        assert state(world) in (before, after), f"line {line}"
        world.read()
        assert state(world) == after, f"line {line}"
        line += 7
    assert killed > 20


def test_two_looks_at_once_are_one(world: World) -> None:
    world.subscribe("cus_a")
    world.run()
    reached, go = threading.Event(), threading.Event()

    def hold(request: object) -> None:
        reached.set()
        go.wait(30)

    world.stripe.before = hold
    first = threading.Thread(target=world.read)
    first.start()
    assert reached.wait(30)
    world.stripe.before = lambda _: None
    with pytest.raises(BusyError):
        world.read()
    go.set()
    first.join()
    assert len(Invoicing(world.ledger).periods(START)) == 1


def test_300_requests_certify_305_customers_while_all_is_confirmed(world: World) -> None:
    """Each with an hour to confirm, and all of their periods end together."""
    world.stripe.grace_hours = 6
    world.settings = {"HEADROOM_STRIPE_GRACE_HOURS": 6, "HEADROOM_STRIPE_READS_PER_DAY": 300}
    names = [f"cus_{number}" for number in range(305)]
    for name in names:
        world.stripe.add_customer(name)
        world.subscribe(name)
    world.usage = {(name, name, END - 3 * HOUR): 5 for name in names}
    for minutes in (-115, -55, 5, 65, 305, 365):
        world.now = END + timedelta(minutes=minutes)
        world.run()
        world.read()
        world.look()
        result = certify(world.config, connect_meter, world.clock)
        assert result
    found = Certificates(world.ledger).since(START)
    assert {key[0] for key, each in found.items() if each.status is Status.CERTIFIED} == set(names)
    for day in ("2026-11-30", "2026-12-01"):
        assert int(world.ledger.mark(f"reads|{day}") or 0) <= 300


def test_models_get_the_periods_with_the_copy_of_the_ledger(world: World) -> None:
    made = world.subscribe("cus_a")
    world.run()
    world.read()
    copy_ledger(world.config)
    copied = world.config.lake / "subscription_periods" / "periods.parquet"
    with memory() as connection:
        connection.execute("set TimeZone = 'UTC'")
        rows = connection.execute(f"select * from '{copied}'").fetchall()
    item = made["items"][0]["id"]
    assert rows == [("cus_a", made["id"], item, "", START, END, "active", False, None)]
