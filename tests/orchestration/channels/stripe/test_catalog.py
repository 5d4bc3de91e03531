"""The real SDK against a loopback Stripe: what stands there after any number of runs, killed or not."""

import signal
import subprocess
import sys
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
import stripe as sdk
from typer.testing import CliRunner, Result

from orchestration.billing.catalog_rules import Catalog, catalog_of, compare
from orchestration.channels.stripe import catalog
from orchestration.channels.stripe import client as stripe_client
from orchestration.cli.main import app
from orchestration.ledger.outbox import InDoubtError, RefusedError
from orchestration.settings import PROJECT_ROOT, load
from orchestration.usage.pricing import Plan, Tier
from tests.fakes.slack import LOST_AFTER, LOST_BEFORE, Fault
from tests.fakes.stripe import FAILED_AFTER, FAILED_BEFORE, Request
from tests.fakes.stripe_catalog import CatalogStripe

PLANS = [
    Plan("free", "api-calls", "USD", Decimal(0), 100, "hard", "none"),
    Plan("pro", "api-calls", "USD", Decimal(49), 500, "soft", "flat", Decimal("0.6375")),
    Plan(
        "grown",
        "api-calls",
        "USD",
        Decimal(499),
        10_000,
        "soft",
        "graduated",
        tiers=(Tier(10_000, Decimal("0.000000000825")), Tier(None, Decimal("0.0475"), Decimal("12.5"))),
    ),
    Plan("use", "api-calls", "USD", Decimal(5), 0, "soft", "package", package_units=1_000, package_price=Decimal(2)),
    Plan("large", "api-calls", "USD", Decimal(5), 10**6, "soft", "package", package_units=10, package_price=Decimal(1)),
]
WANTED = catalog_of(PLANS, "api-calls", "api-calls")
PRICES = "/v1/prices"
runner = CliRunner()


def apply(client: sdk.StripeClient, wanted: Catalog = WANTED) -> list[str]:
    return [step.subject for step in catalog.apply(client, wanted)]


def actions(client: sdk.StripeClient, wanted: Catalog = WANTED) -> dict[str, str]:
    """What is left to do, and why, by subject."""
    steps = compare(wanted, catalog.catalog_state(client, wanted))
    return {step.subject: f"{step.action}: {step.words}" for step in steps if step.action != "stands"}


def object_counts(stripe: CatalogStripe) -> dict[str, int]:
    return {
        "meters": len(stripe.meters.objects),
        "products": len(stripe.products.objects),
        "prices": len(stripe.prices.objects),
    }


ALL = {"meters": 1, "products": 5, "prices": 9}


def test_catalog_is_made_from_nothing_and_then_left_as_it_is(stripe: CatalogStripe, client: sdk.StripeClient) -> None:
    done = apply(client)
    posts = sum(request.method == "POST" for request in stripe.requests)
    assert (len(done), posts, object_counts(stripe)) == (15, 15, ALL)
    assert list(actions(client)) == ["plan large"]  # what Stripe has no price for
    assert apply(client) == []
    assert sum(request.method == "POST" for request in stripe.requests) == posts


def test_stripe_gets_the_meter_and_prices_to_the_last_place(stripe: CatalogStripe, client: sdk.StripeClient) -> None:
    apply(client)
    [meter] = stripe.meters.objects.values()
    assert (meter["event_name"], meter["event_time_window"]) == ("api-calls", "hour")
    assert meter["default_aggregation"] == {"formula": "sum"}
    base, grown, use = (stripe.price(f"headroom_{key}") for key in ("pro_base", "grown_api-calls", "use_api-calls"))
    assert (base["unit_amount"], base["recurring"]["usage_type"], base["product"]) == (4900, "licensed", "headroom_pro")
    assert grown["recurring"] == {
        "interval": "month",
        "interval_count": 1,
        "meter": meter["id"],
        "usage_type": "metered",
    }
    tiers = [(tier["up_to"], tier["unit_amount_decimal"], tier["flat_amount"]) for tier in grown["tiers"]]
    assert (grown["tiers_mode"], tiers) == (
        "graduated",
        [(10_000, "0", None), (20_000, "0.0000000825", None), (None, "4.75", 1250)],
    )
    assert (use["unit_amount"], use["transform_quantity"]) == (200, {"divide_by": 1_000, "round": "up"})
    assert stripe.price("headroom_free_api-calls")["unit_amount"] == 0


def test_no_telemetry_is_sent_and_nothing_is_repeated(stripe: CatalogStripe, client: sdk.StripeClient) -> None:
    stripe.then(LOST_BEFORE, path="/v1/products")
    with pytest.raises(RefusedError, match="no answer from Stripe"):
        actions(client)
    assert stripe.counts()["GET /v1/products"] == 1
    assert sdk.enable_telemetry is False


def changed(**fields: Any) -> Catalog:
    return catalog_of(
        [replace(plan, **fields) if plan.name == "pro" else plan for plan in PLANS], "api-calls", "api-calls"
    )


def test_changed_price_is_a_new_one_and_the_old_one_stays(stripe: CatalogStripe, client: sdk.StripeClient) -> None:
    apply(client)
    before = stripe.price("headroom_pro_base")["id"]
    dearer = changed(base_price=Decimal(59))
    [words] = [words for subject, words in actions(client, dearer).items() if subject == "price headroom_pro_base"]
    assert words.startswith("replace: unit_amount should be 5900 and is 4900. Stripe cannot change a price")
    assert f"existing subscriptions keep {before}" in words

    assert apply(client, dearer) == ["price headroom_pro_base"]
    assert (stripe.price("headroom_pro_base")["unit_amount"], stripe.prices.objects[before]["active"]) == (5900, True)
    assert apply(client, dearer) == []


def test_price_that_is_changed_back_the_same_day_is_made_again(stripe: CatalogStripe, client: sdk.StripeClient) -> None:
    apply(client)
    for base in (59, 49, 59, 49):
        wanted = changed(base_price=Decimal(base))
        assert apply(client, wanted) == ["price headroom_pro_base"]
        assert stripe.price("headroom_pro_base")["unit_amount"] == base * 100
        assert list(actions(client, wanted)) == ["plan large"]


@pytest.mark.parametrize(
    "fields",
    [
        {"unit_price": Decimal("0.637500000001")},
        {"included_units": 501},
        {"included_units": 0},
        {"pricing": "none"},
        {"pricing": "package", "included_units": 0, "package_units": 7, "package_price": Decimal(1)},
        {"currency": "EUR"},
    ],
)
def test_every_part_of_a_price_is_compared(
    stripe: CatalogStripe, client: sdk.StripeClient, fields: dict[str, Any]
) -> None:
    apply(client)
    wanted = changed(**fields)
    assert "price headroom_pro_api-calls" in apply(client, wanted)
    assert list(actions(client, wanted)) == ["plan large"]


def test_packages_that_are_rounded_down_are_not_ours(stripe: CatalogStripe, client: sdk.StripeClient) -> None:
    apply(client)
    stripe.price("headroom_use_api-calls")["transform_quantity"]["round"] = "down"
    assert apply(client) == ["price headroom_use_api-calls"]
    assert stripe.price("headroom_use_api-calls")["transform_quantity"]["round"] == "up"


def test_prices_are_found_when_there_are_more_than_a_request_may_name(
    stripe: CatalogStripe, client: sdk.StripeClient
) -> None:
    plans = [replace(PLANS[1], name=f"plan-{number}") for number in range(8)]
    wanted = catalog_of(plans, "api-calls", "api-calls")
    assert len(apply(client, wanted)) == 25
    assert actions(client, wanted) == {}


def test_what_people_made_by_hand_stays_and_is_not_taken_for_ours(
    stripe: CatalogStripe, client: sdk.StripeClient
) -> None:
    for _ in range(2):
        stripe.products.add(name="pro")
    stripe.add_meter("api-calls", "hour", status="inactive")
    stripe.prices.add(
        product="prod_1", lookup_key="pro", unit_amount=1, unit_amount_decimal="1", currency="usd", recurring=None
    )
    by_hand = stripe.prices.add(
        product="prod_1",
        lookup_key="headroom_pro_base",
        unit_amount=4900,
        unit_amount_decimal="4900",
        currency="usd",
        recurring={"interval": "month", "interval_count": 3, "usage_type": "licensed", "meter": None},
    )
    words = actions(client)["price headroom_pro_base"]
    assert words.startswith(
        "replace: product should be headroom_pro and is prod_1, interval should be 1 month and is 3 months."
        " Stripe cannot change a price: a new one takes the lookup key, and existing subscriptions keep price_"
    )
    apply(client)
    assert object_counts(stripe) == {"meters": 2, "products": 7, "prices": 11}
    assert (by_hand["active"], by_hand["lookup_key"]) == (True, None)
    assert apply(client) == []


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        (
            {"event_time_window": None, "default_aggregation": {"formula": "count"}},
            "event_time_window should be hour and is None, formula should be sum and is count",
        ),
        ({"event_time_window": "day"}, "event_time_window should be hour and is day"),
        (
            {"event_time_window": "hour", "default_aggregation": {"formula": "last"}},
            "formula should be sum and is last",
        ),
        ({"event_time_window": "hour", "value_settings": {"event_payload_key": "v"}}, "value_key should be value"),
    ],
)
def test_meter_that_counts_otherwise_stops_everything(
    stripe: CatalogStripe, client: sdk.StripeClient, fields: dict[str, Any], said: str
) -> None:
    stripe.add_meter("api-calls", **fields)
    with pytest.raises(RefusedError, match=f"meter api-calls: {said}.*or set HEADROOM_STRIPE_METER to another"):
        apply(client)
    assert object_counts(stripe) == {"meters": 1, "products": 0, "prices": 0}


def test_meter_that_adds_up_is_taken_and_gets_the_prices(stripe: CatalogStripe, client: sdk.StripeClient) -> None:
    meter = stripe.add_meter("api-calls", None)
    done = apply(client)
    assert (len(done), object_counts(stripe)) == (14, ALL)
    assert stripe.price("headroom_pro_api-calls")["recurring"]["meter"] == meter["id"]
    steps = [step for step in compare(WANTED, catalog.catalog_state(client, WANTED)) if "meter" in step.subject]
    [(subject, action)] = [(step.subject, step.action) for step in steps]
    assert (subject, action) == ("meter api-calls, which adds up (no event_time_window)", "stands")


def test_archived_product_is_left_to_people_and_archived_price_is_replaced(
    stripe: CatalogStripe, client: sdk.StripeClient
) -> None:
    apply(client)
    stripe.products.objects["headroom_pro"]["active"] = False
    stripe.price("headroom_pro_base")["active"] = False
    found = actions(client)
    assert found["product headroom_pro"] == "by hand: is archived: unarchive it in Stripe's Dashboard"
    assert found["price headroom_pro_base"].startswith("replace: is_active should be True and is False")
    assert apply(client) == ["price headroom_pro_base"]


@pytest.mark.parametrize("fault", [LOST_BEFORE, LOST_AFTER, FAILED_BEFORE, FAILED_AFTER])
@pytest.mark.parametrize("path", ["/v1/billing/meters", "/v1/products", PRICES])
def test_run_after_a_failure_makes_what_is_missing_and_nothing_twice(
    stripe: CatalogStripe, client: sdk.StripeClient, fault: Fault, path: str
) -> None:
    # each list is read first, so the fault is put behind it
    stripe.before = lambda request: fail_first(stripe, request, path, fault)
    with pytest.raises(InDoubtError, match="run `headroom stripe bootstrap --apply` again"):
        apply(client)
    apply(client)
    assert object_counts(stripe) == ALL
    assert list(actions(client)) == ["plan large"]


def test_two_runs_at_once_replace_a_price_once(stripe: CatalogStripe, client: sdk.StripeClient) -> None:
    apply(client)
    dearer = changed(base_price=Decimal(59))
    refusals = []

    def run_another(request: Request) -> None:
        if (request.method, request.path) == ("POST", PRICES):
            stripe.before = nothing
            with pytest.raises(InDoubtError) as refusal:
                apply(client, dearer)
            refusals.append(str(refusal.value))

    stripe.before = run_another
    assert apply(client, dearer) == ["price headroom_pro_base"]
    assert refusals[0].startswith("Stripe failed (HTTP 409)")
    assert len(stripe.prices.objects) == ALL["prices"] + 1
    assert apply(client, dearer) == []


def fail_first(stripe: CatalogStripe, request: Request, path: str, fault: Fault) -> None:
    """The first POST to the path meets the fault."""
    if (request.method, request.path) == ("POST", path):
        stripe.then(fault, path=path)
        stripe.before = lambda _: None


@pytest.mark.parametrize(
    ("granted", "said"),
    [
        (set(), "for the meters: give the key the permission billing_meter_read in Stripe's"),
        ({"billing_meter_read", "product_read", "plan_read"}, "for the meter api-calls: give the key the permission"),
        (
            {"billing_meter_write", "product_write", "plan_read"},
            "for the price headroom_free_base: give the key the permission plan_write",
        ),
    ],
)
def test_catalog_names_the_permission_that_a_restricted_key_lacks(
    stripe: CatalogStripe, monkeypatch: pytest.MonkeyPatch, granted: set[str], said: str
) -> None:
    stripe.keys["rk_test_few"] = granted
    monkeypatch.setenv("STRIPE_API_KEY", "rk_test_few")
    client = stripe_client.connect(load())
    assert client
    with pytest.raises(RefusedError, match=f"Stripe refused with HTTP 403 {said}") as refusal:
        apply(client)
    assert "rk_test" not in str(refusal.value)


@pytest.mark.parametrize(
    ("fault", "error", "said"),
    [
        (Fault(status=429, body='{"error": {"message": "x"}}'), RefusedError, "no more requests for the moment"),
        (Fault(status=401, body='{"error": {"message": "sk_test_x"}}'), RefusedError, "STRIPE_API_KEY is not valid"),
        (
            Fault(status=400, body='{"error": {"message": "No such thing"}}'),
            RefusedError,
            "headroom_free: No such thing",
        ),
        (Fault(status=503, body="<html>"), InDoubtError, r"Stripe failed \(HTTP 503\): what is made stays"),
        (Fault(status=200, body="<html>"), InDoubtError, r"Stripe failed \(HTTP 200\)"),
        (Fault(status=200, body="{}", is_cut_off=True), InDoubtError, "no answer from Stripe"),
    ],
)
def test_refusals_and_doubts_read_as_sentences(
    stripe: CatalogStripe, client: sdk.StripeClient, fault: Fault, error: type[Exception], said: str
) -> None:
    stripe.before = lambda request: fail_first(stripe, request, "/v1/products", fault)
    with pytest.raises(error, match=said):
        apply(client)


def bootstrap(*arguments: str, status: int = 0) -> Result:
    result = runner.invoke(app, ["stripe", "bootstrap", *arguments])
    assert result.exit_code == status, result.output
    return result


def test_plan_is_the_default_and_changes_nothing(published: Path, stripe: CatalogStripe) -> None:
    shown = bootstrap().stdout
    assert bootstrap("--plan").stdout == shown
    assert "make     price headroom_growth_api-calls: is missing" in shown
    assert "by hand  plan enterprise: Stripe's packages start at the first unit" in shown
    assert {request.method for request in stripe.requests} == {"GET"}

    applied = bootstrap("--apply").stdout
    assert "made     price headroom_growth_api-calls\n" in applied
    assert "stands   price headroom_growth_api-calls\n" in applied
    assert object_counts(stripe) == {"meters": 1, "products": 6, "prices": 10}
    assert "make " not in bootstrap().stdout


@pytest.mark.parametrize(
    ("environment", "said"),
    [
        ({"STRIPE_API_KEY": ""}, "STRIPE_API_KEY is not set"),
        ({"STRIPE_API_KEY": "sk_live_1"}, "is a live key and HEADROOM_ENV is 'local'"),
        ({"STRIPE_API_KEY": "sk_test_wrong"}, "STRIPE_API_KEY is not valid"),
    ],
)
def test_bootstrap_fails_in_a_sentence(
    published: Path,
    stripe: CatalogStripe,
    monkeypatch: pytest.MonkeyPatch,
    environment: dict[str, str],
    said: str,
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert said in bootstrap("--apply", status=1).stderr
    assert not stripe.products.objects


def test_bootstrap_works_before_anything_was_published(data: Path, stripe: CatalogStripe) -> None:
    shown = bootstrap().stdout
    assert "No run has published yet: these plans come from dbt_project/seeds/plans.csv, checked as" in shown
    assert "make     price headroom_growth_api-calls: is missing" in shown
    assert "made     meter api-calls\n" in bootstrap("--apply").stdout
    assert object_counts(stripe) == {"meters": 1, "products": 6, "prices": 10}
    assert not list(data.glob("*.duckdb"))


def test_bootstrap_makes_the_same_before_and_after_the_first_run(published: Path, stripe: CatalogStripe) -> None:
    aside = published.rename(published.with_suffix(".aside"))
    bootstrap("--apply")
    aside.rename(published)
    after = bootstrap().stdout
    assert "No run has published yet" not in after
    assert "make " not in after
    assert "replace " not in after


def test_bootstrap_is_finished_by_the_next_run_when_killed_at_any_place(published: Path, stripe: CatalogStripe) -> None:
    """Each process is killed with its third request that makes something, in turn before and after it is applied."""
    killed = 0
    while status := killed_at(stripe, 3, is_applied=killed % 2 == 1):
        assert status == -signal.SIGKILL
        killed += 1
    assert killed >= 5
    assert object_counts(stripe) == {"meters": 1, "products": 6, "prices": 10}
    assert "make " not in bootstrap().stdout


def killed_at(stripe: CatalogStripe, number: int, *, is_applied: bool) -> int:
    """The exit status of a process that is killed with its POST of that number."""
    command = [sys.executable, "-m", "orchestration.cli.main", "stripe", "bootstrap", "--apply"]
    process = subprocess.Popen(command, cwd=PROJECT_ROOT, stdout=subprocess.DEVNULL)
    seen = 0

    def kill(request: Request) -> None:
        nonlocal seen
        seen += request.method == "POST"
        if seen == number and request.method == "POST":
            if not is_applied:
                stripe.then(LOST_BEFORE, path=request.path)
            process.kill()
            process.wait()

    stripe.before, stripe.after = (nothing, kill) if is_applied else (kill, nothing)
    return process.wait()


def nothing(_: Request) -> None:
    pass
