"""What `headroom stripe check` finds, with the real SDK at a loopback Stripe, and what that means for the invoices."""

from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from stripe import StripeClient
from typer.testing import CliRunner, Result

from orchestration.billing.catalog import billed_catalog, wanted
from orchestration.billing.meters import each_meter
from orchestration.channels.stripe import catalog as stripe_catalog
from orchestration.channels.stripe import check as stripe_check
from orchestration.channels.stripe.check import catalogue_findings
from orchestration.cli.main import app
from orchestration.settings import load
from orchestration.usage.findings import Finding
from tests.fakes.slack import Fault
from tests.fakes.stripe_catalog import CatalogStripe
from tests.support.duckdb_file import opened

NOW = 1_795_262_400  # 2026-11-21 12:00 UTC
STARTER = ("headroom_starter_base", "headroom_starter_api-calls")
runner = CliRunner()


@pytest.fixture
def stripe_with_catalog(published: Path, stripe: CatalogStripe, client: StripeClient) -> Iterator[CatalogStripe]:
    """A Stripe with our catalog, and cus_1."""
    for _ in stripe_catalog.apply(client, wanted(load())):
        pass
    stripe.add_customer("cus_1")
    stripe.requests.clear()
    return stripe


def add_account(published: Path, account: str, customer: str | None = "cus_1", **fields: Any) -> None:
    row = {"plan": "starter", "included_units": 500, "missing": "", "is_internal": False, "is_test": False, **fields}
    with opened(published) as connection:
        values = [account, account, customer, row["plan"], row["is_internal"], row["is_test"]]
        connection.execute("insert into stg_accounts values (?, ?, ?, ?, ?, ?)", values)
        values = [account, "api-calls", row["plan"], row["included_units"], row["missing"]]
        connection.execute("insert into overage values (?, ?, ?, ?, ?)", values)


def findings(client: StripeClient) -> list[Finding]:
    config = load()
    return catalogue_findings(client, [billed_catalog(each) for each in each_meter(config)], config.now())


def problems(client: StripeClient) -> list[str]:
    """Without those that are always there: what Stripe has no price for."""
    found = [finding for finding in findings(client) if finding.problem and not finding.subject.startswith("plan ")]
    return [f"{finding.subject} {finding.problem}" for finding in found]


def test_customer_with_base_and_metered_price_of_the_plan_is_fine(
    published: Path, stripe_with_catalog: CatalogStripe, client: StripeClient
) -> None:
    add_account(published, "acme")
    stripe_with_catalog.subscribe("cus_1", *STARTER)
    assert problems(client) == []
    assert Finding("1 of 1 customer with one item on api-calls") in findings(client)


def test_subscription_is_billed_in_trial_or_late_but_not_when_canceled(
    published: Path, stripe_with_catalog: CatalogStripe, client: StripeClient
) -> None:
    for number, status in enumerate(("trialing", "past_due", "canceled", "paused"), 1):
        stripe_with_catalog.add_customer(f"cus_{number}")
        stripe_with_catalog.subscribe(f"cus_{number}", *STARTER, status=status)
        add_account(published, status, f"cus_{number}")
    assert [problem.split(":")[0] for problem in problems(client)] == [
        "customer cus_3 (canceled) has no active item on the meter api-calls, so its usage is not billed",
        "customer cus_4 (paused) has no active item on the meter api-calls, so its usage is not billed",
    ]


def test_customer_without_an_item_on_the_meter_is_named_with_its_accounts(
    published: Path, stripe_with_catalog: CatalogStripe, client: StripeClient
) -> None:
    add_account(published, "acme")
    add_account(published, "acme-eu")
    stripe_with_catalog.subscribe("cus_1", STARTER[0])
    [problem] = problems(client)
    assert problem == (
        "customer cus_1 (acme, acme-eu) has no active item on the meter api-calls, so its usage is not billed:"
        " add the metered price of its plan to its subscription"
    )


def test_item_on_another_meter_is_a_problem(
    published: Path, stripe_with_catalog: CatalogStripe, client: StripeClient
) -> None:
    other = stripe_with_catalog.add_meter("old-calls", status="inactive")
    recurring = {"interval": "month", "interval_count": 1, "usage_type": "metered", "meter": other["id"]}
    stripe_with_catalog.prices.add("price_old", product="headroom_starter", currency="usd", recurring=recurring)
    add_account(published, "acme")
    stripe_with_catalog.subscribe("cus_1", STARTER[0], "price_old")
    [problem] = problems(client)
    assert f"has no active item on the meter api-calls, only on {other['id']}, so its usage is not billed" in problem


def test_each_billed_meter_of_a_plan_needs_one_item(
    published: Path, stripe_with_catalog: CatalogStripe, client: StripeClient
) -> None:
    sell_storage(published)
    for each in each_meter(load()):
        for _ in stripe_catalog.apply(client, wanted(each)):
            pass
    storage = stripe_with_catalog.price("headroom_starter_storage")
    assert [(tier["up_to"], tier["unit_amount_decimal"]) for tier in storage["tiers"]] == [(500, "0"), (None, "0.002")]
    add_account(published, "acme")
    add_account(published, "other", "cus_2", plan="growth", included_units=10_000)
    stripe_with_catalog.add_customer("cus_2")
    stripe_with_catalog.subscribe("cus_1", *STARTER)
    stripe_with_catalog.subscribe("cus_2", "headroom_growth_base", "headroom_growth_api-calls")
    [problem] = problems(client)
    assert problem.startswith(
        "customer cus_1 (acme) has no active item on the meter storage-at-stripe, only on api-calls, so its usage"
    )
    assert Finding("0 of 1 customer with one item on storage-at-stripe") in findings(client)
    assert Finding("2 of 2 customers with one item on api-calls") in findings(client)
    subjects = [finding.subject for finding in findings(client)]
    assert subjects.count("product headroom_starter") == 1
    stripe_with_catalog.subscribe("cus_1", "headroom_starter_storage")
    assert problems(client) == []


def sell_storage(published: Path) -> None:
    """The plan starter sells gigabytes too: half a GB is included, each more costs 0.02 USD; counted by 0.001 GB."""
    with opened(published) as connection:
        connection.execute(
            "update meters set is_billed = true, decimals = 3, stripe_meter = 'storage-at-stripe'"
            " where meter = 'storage'"
        )
        connection.execute(
            "insert into plans by name select * replace ('storage' as meter, 0.5 as included_units, 0.02 as unit_price)"
            " from plans where plan = 'starter' and meter = 'api-calls'"
        )


@pytest.mark.parametrize("is_one_subscription", [True, False])
def test_two_items_on_the_meter_bill_twice(
    published: Path, stripe_with_catalog: CatalogStripe, client: StripeClient, is_one_subscription: bool
) -> None:
    add_account(published, "acme")
    if is_one_subscription:
        one = two = stripe_with_catalog.subscribe("cus_1", *STARTER, STARTER[1])["id"]
    else:
        two, one = (
            stripe_with_catalog.subscribe("cus_1", *STARTER)["id"],
            stripe_with_catalog.subscribe("cus_1", STARTER[1])["id"],
        )
    [problem] = problems(client)
    assert f"has 2 items on the meter api-calls ({one}, {two}), so its usage is billed that many times" in problem


def test_customers_that_stripe_does_not_have_are_named(
    published: Path, stripe_with_catalog: CatalogStripe, client: StripeClient
) -> None:
    add_account(published, "acme", "cus_unknown")
    add_account(published, "gone")
    stripe_with_catalog.delete_customer("cus_1")
    assert [problem.split(":")[0] for problem in problems(client)] == [
        "customer cus_1 (gone) is deleted or unknown at Stripe, so its usage is not billed",
        "customer cus_unknown (acme) is deleted or unknown at Stripe, so its usage is not billed",
    ]


def test_only_some_customers_are_asked_for_one_by_one(
    published: Path, stripe_with_catalog: CatalogStripe, client: StripeClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stripe_check, "LOOKED_UP", 1)
    for number in (1, 2):
        add_account(published, f"acme-{number}", f"cus_unknown{number}")
    assert [problem.split(":")[0] for problem in problems(client)] == [
        "customer cus_unknown1 (acme-1) is deleted or unknown at Stripe, so its usage is not billed",
        "customer cus_unknown2 (acme-2) has no active item on the meter api-calls, so its usage is not billed",
    ]


def test_internal_and_test_accounts_and_unmapped_ones_are_not_billed(
    published: Path, stripe_with_catalog: CatalogStripe, client: StripeClient
) -> None:
    add_account(published, "ours", is_internal=True)
    add_account(published, "probe", is_test=True)
    add_account(published, "unmapped", None)
    assert problems(client) == []
    assert Finding("0 of 0 customers with one item on api-calls") in findings(client)


@pytest.mark.parametrize(("anchor", "is_told"), [(NOW, False), (NOW + 1, True), (NOW + 1_800, True)])
def test_period_that_begins_within_an_hour_is_a_problem(
    published: Path, stripe_with_catalog: CatalogStripe, client: StripeClient, anchor: int, is_told: bool
) -> None:
    add_account(published, "acme")
    number = stripe_with_catalog.subscribe("cus_1", *STARTER, anchor=anchor)["id"]
    told = [f"customer cus_1 (acme) {number} begins its periods within an hour" in each for each in problems(client)]
    assert told == [True] * is_told


def test_base_and_metered_price_are_those_of_the_plan(
    published: Path, stripe_with_catalog: CatalogStripe, client: StripeClient
) -> None:
    add_account(published, "acme")
    stripe_with_catalog.subscribe("cus_1", "headroom_growth_base", "headroom_growth_api-calls")
    base, usage = problems(client)
    assert base.endswith("is on the plan starter and has no item with its base price (headroom_starter_base)")
    assert usage.endswith("and pays for usage by headroom_growth: use headroom_starter_api-calls")


def test_free_plan_needs_no_item_and_a_plan_by_hand_any_metered_price(
    published: Path, stripe_with_catalog: CatalogStripe, client: StripeClient
) -> None:
    stripe_with_catalog.add_customer("cus_2")
    add_account(published, "free", plan="free", included_units=100)
    add_account(published, "large", "cus_2", plan="scale", included_units=100_000)
    stripe_with_catalog.subscribe("cus_1", "headroom_free_api-calls")
    stripe_with_catalog.subscribe("cus_2", "headroom_scale_base", "headroom_growth_api-calls")
    assert problems(client) == []


def test_account_period_that_is_not_the_subscriptions_is_told(
    published: Path, clock: CatalogStripe, client: StripeClient
) -> None:
    add_account(published, "acme")
    with opened(published) as connection:
        row = ["acme", datetime(2026, 11, 1), datetime(2026, 12, 1), "calendar month"]  # noqa: DTZ001 - as dbt writes it
        connection.execute("insert into account_periods values (?, ?, ?, ?)", row)
    made = clock.subscribe("cus_1", *STARTER, anchor=1_792_245_600)  # 2026-10-17 14:00 UTC
    [said] = problems(client)
    assert said.split(". The quota")[0] == (
        "customer cus_1 (acme) the account's billing period is 2026-11-01 00:00 to 2026-12-01 00:00 UTC, and that of"
        f" {made['id']} 2026-11-17 14:00 to 2026-12-17 14:00 UTC"
    )
    assert "The quota follows the account's period" in said


def test_trials_ends_and_thresholds_are_told(published: Path, clock: CatalogStripe, client: StripeClient) -> None:
    for number in range(1, 4):
        clock.add_customer(f"cus_{number}")
        add_account(published, f"a{number}", f"cus_{number}")
    clock.subscribe("cus_1", *STARTER, trial_end=NOW + 86_400)
    ending = clock.subscribe("cus_2", *STARTER)
    clock.cancel(ending["id"], at_period_end=True)
    clock.subscribe("cus_3", *STARTER, billing_thresholds={"amount_gte": 1_000, "reset_billing_cycle_anchor": False})
    said = [problem.partition(" sub_")[2].partition(" ")[2] for problem in problems(client)]
    assert sorted(said, reverse=True) == [
        "is in a trial until 2026-11-22 12:00 UTC: Stripe bills none of its usage before then",
        "ends at 2026-12-01 00:00 UTC, and Stripe bills no later usage: create another subscription that starts then",
    ]
    assert any(finding.subject.startswith("1 subscription with a billing threshold") for finding in findings(client))


def test_accounts_of_one_customer_are_on_one_plan(
    published: Path, stripe_with_catalog: CatalogStripe, client: StripeClient
) -> None:
    add_account(published, "acme")
    add_account(published, "acme-eu", plan="growth")
    stripe_with_catalog.subscribe("cus_1", *STARTER)
    assert problems(client)[0].startswith(
        "customer cus_1 (acme, acme-eu) has accounts on growth and starter, whose usage"
    )


def replaced(stripe: CatalogStripe, lookup_key: str, **before: Any) -> tuple[str, str]:
    """Ids of a price that was other than the catalog's, and of that which has taken over its lookup key."""
    price = stripe.price(lookup_key)
    older = stripe.prices.add("price_old", **{k: v for k, v in price.items() if k not in ("id", "object")})
    older |= {"lookup_key": None, **before}
    return older["id"], price["id"]


def test_subscription_on_a_replaced_price_is_named_with_what_to_do(
    published: Path, stripe_with_catalog: CatalogStripe, client: StripeClient
) -> None:
    tiers = stripe_with_catalog.price(STARTER[1])["tiers"]
    older, newer = replaced(stripe_with_catalog, STARTER[1], tiers=[tiers[0], {**tiers[1], "unit_amount_decimal": "1"}])
    add_account(published, "acme", included_units=500)
    number = stripe_with_catalog.subscribe("cus_1", STARTER[0], older)["id"]
    [problem] = problems(client)
    assert problem == (
        f"customer cus_1 (acme) pays for its usage by {older}, which was replaced or is a special price: tiers should"
        f" be (to 500 0, above 63.75) and is (to 500 0, above 1). In {number}, change the item's price to {newer}"
        " (headroom_starter_api-calls). If you agreed to the old terms, add a plan with them to plans.csv. Then"
        " move the account from starter to it"
    )
    assert [finding.is_needed for finding in findings(client) if "price_old" in finding.problem] == [True]


def test_replaced_base_price_is_told_and_fails_nothing(
    published: Path, stripe_with_catalog: CatalogStripe, client: StripeClient
) -> None:
    older, newer = replaced(stripe_with_catalog, STARTER[0], unit_amount_decimal="3900", unit_amount=3900)
    add_account(published, "acme")
    stripe_with_catalog.subscribe("cus_1", older, STARTER[1])
    [finding] = [finding for finding in findings(client) if older in finding.problem]
    assert "pays for its base price by price_old" in finding.problem
    assert "unit_amount should be 4900 and is 3900. In sub_" in finding.problem
    assert f"change the item's price to {newer} (headroom_starter_base)" in finding.problem
    assert not finding.is_needed


def test_another_price_with_the_same_terms_is_fine(
    published: Path, stripe_with_catalog: CatalogStripe, client: StripeClient
) -> None:
    older, _ = replaced(stripe_with_catalog, STARTER[1], active=False)
    add_account(published, "acme", included_units=2_000)  # what another price includes is not known
    stripe_with_catalog.subscribe("cus_1", STARTER[0], older)
    stripe_with_catalog.subscribe("cus_elsewhere", "price_old")
    assert problems(client) == []
    assert stripe_with_catalog.counts()[f"GET /v1/prices/{older}"] == 1


@pytest.mark.parametrize(
    ("quotas", "told"),
    [([500], None), ([1_000], "cus_1 1,000, not 500"), ([None], "cus_1 all, not 500"), ([500, 500], "cus_1 1,000")],
)
def test_quotas_are_reported_when_the_price_includes_another_number(
    published: Path,
    stripe_with_catalog: CatalogStripe,
    client: StripeClient,
    quotas: list[int | None],
    told: str | None,
) -> None:
    for number, quota in enumerate(quotas):
        add_account(published, f"acme-{number}", included_units=quota)
    stripe_with_catalog.subscribe("cus_1", *STARTER)
    found = [finding for finding in findings(client) if "have quotas that differ" in finding.problem]
    assert [(told or "-") in finding.problem for finding in found] == ([True] if told else [])
    assert not any(finding.is_needed for finding in found)


def test_unknown_quota_is_not_compared(
    published: Path, stripe_with_catalog: CatalogStripe, client: StripeClient
) -> None:
    add_account(published, "acme", included_units=None, missing="quota unknown")
    stripe_with_catalog.subscribe("cus_1", *STARTER)
    assert problems(client) == []


def test_all_subscriptions_are_read_in_pages_of_a_hundred(
    published: Path, stripe_with_catalog: CatalogStripe, client: StripeClient
) -> None:
    for number in range(250):
        stripe_with_catalog.add_customer(f"cus_{number}")
        stripe_with_catalog.subscribe(f"cus_{number}", *STARTER)
        if number % 50 == 0:
            add_account(published, f"account-{number}", f"cus_{number}")
    assert problems(client) == []
    counts = stripe_with_catalog.counts()
    assert counts["GET /v1/subscriptions"] == 3
    assert sum(counts.values()) < 12


def test_items_beyond_the_first_ten_of_a_subscription_are_read(
    published: Path, stripe_with_catalog: CatalogStripe, client: StripeClient
) -> None:
    add_account(published, "acme")
    stripe_with_catalog.subscribe("cus_1", *["headroom_free_base"] * 11, *STARTER)
    assert problems(client) == []


def test_refusal_of_a_question_is_a_finding(
    published: Path, stripe_with_catalog: CatalogStripe, client: StripeClient
) -> None:
    add_account(published, "acme", "cus_2")
    stripe_with_catalog.then(Fault(status=400, body='{"error": {"message": "Not now."}}'), path="/v1/customers/cus_2")
    said = "Stripe refused with HTTP 400 for customer cus_2: Not now."
    assert findings(client) == [Finding("catalogue at Stripe", said)]


def test_drift_of_the_catalog_is_reported(
    published: Path, stripe_with_catalog: CatalogStripe, client: StripeClient
) -> None:
    stripe_with_catalog.price("headroom_starter_base")["unit_amount_decimal"] = "4800"
    del stripe_with_catalog.products.objects["headroom_scale"]
    product, price = problems(client)
    assert product == "product headroom_scale is missing; run `headroom stripe bootstrap --apply`"
    assert price.startswith(
        "price headroom_starter_base unit_amount should be 4900 and is 4800. Stripe cannot change a price: a new one"
    )
    assert {finding.subject: finding.is_needed for finding in findings(client)}["plan scale"] is False


def check(status: int = 0) -> str:
    result: Result = runner.invoke(app, ["stripe", "check"])
    assert result.exit_code == status, result.output
    return " ".join(result.stdout.split())


@pytest.fixture
def clock(stripe_with_catalog: CatalogStripe, monkeypatch: pytest.MonkeyPatch) -> CatalogStripe:
    stripe_with_catalog.clock = lambda: NOW
    monkeypatch.setenv("HEADROOM_NOW", "2026-11-21T12:00:00Z")
    return stripe_with_catalog


def test_check_changes_nothing_and_says_what_is_assumed(
    published: Path, clock: CatalogStripe, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HEADROOM_STRIPE_GRACE_HOURS", "72")
    add_account(published, "acme")
    clock.subscribe("cus_1", *STARTER)
    said = check()
    assert said.startswith("ok test key ok reading meters ok clock ok reading products ok reading prices")
    assert "HEADROOM_STRIPE_GRACE_HOURS assumes 72 h. Stripe's API does not show it" in said
    assert "ok reporting usage" in said
    assert "missing plan scale: Stripe's volume prices" in said
    assert clock.events == []
    assert {request.path for request in clock.requests if request.method == "POST"} == {"/v1/billing/meter_events"}


def test_check_fails_until_every_customer_is_billed(published: Path, clock: CatalogStripe) -> None:
    add_account(published, "acme")
    assert "FAILS customer cus_1 (acme): has no active item" in check(1)


@pytest.mark.parametrize(
    ("seconds", "status", "said"),
    [
        (60, 0, "ok clock"),
        (-61, 0, "missing clock: is 61 seconds ahead of Stripe's"),
        (300, 0, "missing clock: is 300 seconds behind Stripe's"),
        (301, 1, "FAILS clock: is 301 seconds behind"),
    ],
)
def test_clocks_are_compared(published: Path, clock: CatalogStripe, seconds: int, status: int, said: str) -> None:
    clock.clock = lambda: NOW + seconds
    assert said in check(status)


@pytest.mark.parametrize("lacking", ["billing_meter", "product", "plan", "subscription", "customer", "invoice"])
def test_every_missing_read_permission_is_named(
    published: Path, clock: CatalogStripe, monkeypatch: pytest.MonkeyPatch, lacking: str
) -> None:
    kinds = {"billing_meter", "product", "plan", "subscription", "customer", "invoice"} - {lacking}
    clock.keys["rk_test_few"] = {f"{kind}_read" for kind in kinds}
    monkeypatch.setenv("STRIPE_API_KEY", "rk_test_few")
    said = check(1)
    assert f"give the key the permission {lacking}_read" in said
    assert "FAILS reporting usage: Stripe refused with HTTP 403" in said
    assert said.count("FAILS") == 2


@pytest.mark.parametrize(("key", "is_down"), [("sk_test_wrong", False), ("sk_test_fake", True)])
def test_without_an_answer_the_check_ends_with_the_reason(
    published: Path, clock: CatalogStripe, monkeypatch: pytest.MonkeyPatch, key: str, is_down: bool
) -> None:
    monkeypatch.setenv("STRIPE_API_KEY", key)
    clock.is_down = is_down
    said = check(1)
    assert said.count("FAILS") == 1
    assert ("no answer from Stripe (APIConnectionError)" if is_down else "STRIPE_API_KEY is not valid") in said


def test_test_key_in_production_is_reported(
    published: Path, stripe_with_catalog: CatalogStripe, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HEADROOM_ENV", "production")
    assert "missing key: is a test key, and HEADROOM_ENV is production: nobody is billed" in check()


def test_check_without_a_key_or_a_published_copy_says_so(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    result = runner.invoke(app, ["stripe", "check"])
    assert (result.exit_code, "STRIPE_API_KEY is not set" in result.stderr) == (1, True)
    monkeypatch.setenv("STRIPE_API_KEY", "sk_test_1")
    result = runner.invoke(app, ["stripe", "check"])
    assert (result.exit_code, "`headroom run` builds and publishes it" in " ".join(result.stderr.split())) == (1, True)
