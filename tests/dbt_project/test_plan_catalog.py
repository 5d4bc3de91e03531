"""A price list that somebody edited: refused in a sentence, or counted as a calculator on paper counts it."""

import csv
import math
import random
from collections.abc import Callable
from datetime import UTC, datetime
from decimal import ROUND_HALF_UP, Decimal, localcontext
from fractions import Fraction
from pathlib import Path
from typing import Any

import duckdb
import jinja2
import pytest

from orchestration.lake.lake import Lake
from orchestration.usage import pricing
from orchestration.usage.meters import meters_of
from orchestration.usage.pricing import price, with_quota
from tests.dbt_project.builder import PROJECT, Builder, project_with

NOW = datetime(2026, 11, 20, 8, tzinfo=UTC)
TESTS = ("plans_can_be_priced", "plan_tiers_have_no_gaps")
TYPES = {
    **dict.fromkeys(("included_units", "package_units", "up_to_units"), "decimal(24,6)"),
    "rate_limit_per_second": "bigint",
    **dict.fromkeys(("unit_price", "package_price", "flat_price"), "decimal(18,12)"),
    "base_price": "decimal(18,2)",
    "tier_number": "integer",
}
Row = dict[str, Any]


def catalog() -> tuple[dict[str, Row], dict[str, Row]]:
    """The seeds as they are: plans by name, those of tokens by name and meter, tiers by plan and number."""
    plans, tiers = (_read(PROJECT / "seeds" / f"{name}.csv") for name in ("plans", "plan_tiers"))
    by_name = {row["plan"] + ("" if row["meter"] == "api-calls" else f" {row['meter']}"): row for row in plans}
    return by_name, {f"{row['plan']} {row['tier_number']}": row for row in tiers}


def _read(path: Path) -> list[Row]:
    with path.open(newline="") as file:
        return [{name: value or None for name, value in row.items()} for row in csv.DictReader(file)]


def problems(plans: dict[str, Row], tiers: dict[str, Row]) -> list[str]:
    """What the two data tests say of such seeds."""
    with duckdb.connect() as connection:
        for name, rows in (("plans", plans), ("plan_tiers", tiers)):
            columns = list(_read(PROJECT / "seeds" / f"{name}.csv")[0])
            kinds = ", ".join(f"{column} {TYPES.get(column, 'varchar')}" for column in columns)
            connection.execute(f"create table {name} ({kinds})")
            for row in rows.values():
                values = [row[column] for column in columns]
                connection.execute(f"insert into {name} values ({', '.join('?' * len(columns))})", values)
        connection.execute("create table meters (meter varchar, decimals integer)")
        connection.execute("insert into meters values ('api-calls', 0), ('tokens', 0), ('seats', null), ('storage', 3)")
        found: list[str] = []
        for test in TESTS:
            template = jinja2.Template((PROJECT / "data-tests" / f"{test}.sql").read_text())
            sql = template.render(ref=lambda name: name, config=lambda **_: "")
            found += [problem for (problem,) in connection.execute(sql).fetchall()]
    return sorted(found)


def test_demo_catalog_is_accepted() -> None:
    assert problems(*catalog()) == []


Edit = Callable[[dict[str, Row], dict[str, Row]], object]


def change(row: str, **values: object) -> Edit:
    """Other values in one plan ("scale") or tier ("scale 2")."""
    return lambda plans, tiers: (tiers if row in tiers else plans)[row].update(values)


def copy(row: str, **values: object) -> Edit:
    """One more plan or tier, like this one but for the values."""
    return lambda plans, tiers: (rows := tiers if row in tiers else plans).update(copy={**rows[row], **values})


PRICING = "has a pricing that is none of none, flat, graduated, volume, package"
HARD = "has a hard limit, so there is no overage to price: pricing must be none"
NO_TIERS = "needs tiers in plan_tiers.csv with graduated or volume, and must have none otherwise"
UNIT_PRICE = "needs a unit_price with flat, and must have none otherwise"
PACKAGE = "needs package_units above 0 and a package_price with package, and must have none otherwise"
NEEDED = "needs a meter, a base_price and a currency"
NEXT = "has a next_plan that is not in plans.csv with the same meter"
BACK = "leads back to itself by next_plan; the dearest plan has none"
CURRENCY = "has another currency than other plans; there can be only one"
METER = "is of a meter that is not in meters.csv"
UNITS = "has included_units or package_units with more places than its meter has decimals"
PRICE = "has a unit_price with more places than 12 less the decimals of its meter"
END_PLACES = "has up_to_units with more places than its meter has decimals"
BASE = "has another base_price for another meter; it belongs to the whole plan"
TIER_PRICE = "needs a unit_price, and no price may be negative"
ENDS = "ends at or before the end of the tier before it"
CLOSED = "is the last one and ends: up_to_units must be empty, or units above it have no price"


@pytest.mark.parametrize(
    ("edit", "subjects", "problem"),
    [
        (change("starter", next_plan="gold"), "The plan starter", NEXT),
        (copy("starter", meter="seats"), "The plan starter", NEXT),
        (change("enterprise", next_plan="enterprise"), "The plan enterprise", BACK),
        (change("scale", next_plan="growth"), "The plan growth|The plan scale", BACK),
        (change("enterprise", next_plan="growth"), "The plan enterprise|The plan growth|The plan scale", BACK),
        (copy("scale"), "The plan scale", "is there more than once for the same meter"),
        (copy("starter", meter="seats", next_plan=None, base_price="5"), "The plan starter", BASE),
        (change("free", meter=None, next_plan=None), "The plan free", NEEDED),
        (change("starter", base_price=None), "The plan starter", NEEDED),
        (change("starter", currency=None), "The plan starter", NEEDED),
        (change("starter", currency="ZAR"), "The plan starter", CURRENCY),
        (change("starter", base_price="-1"), "The plan starter", "has a negative number"),
        (change("starter", unit_price="-0.000000000001"), "The plan starter", "has a negative number"),
        (change("starter", included_units="-1"), "The plan starter", "has a negative number"),
        (change("starter", rate_limit_per_second="-1"), "The plan starter", "has a negative number"),
        (change("enterprise", package_price="-1"), "The plan enterprise", "has a negative number"),
        (change("starter", pricing="tiered", unit_price=None), "The plan starter", PRICING),
        (change("free", pricing=None, limit_kind="soft"), "The plan free", PRICING),
        (
            change("starter", limit_kind="firm"),
            "The plan starter",
            "has a limit_kind that is none of hard, soft, throttle, monitor",
        ),
        (
            change("starter", limit_kind="throttle", rate_limit_per_second="0"),
            "The plan starter",
            "slows calls down past the quota, so it needs a rate_limit_per_second above 0",
        ),
        (
            change("starter", rate_limit_per_second="0"),
            "The plan starter",
            "has a rate_limit_per_second of 0, which lets nothing through: empty is unlimited",
        ),
        (change("free", meter="gold", next_plan=None), "The plan free", METER),
        (change("starter", included_units="0.5"), "The plan starter", UNITS),
        (change("enterprise", package_units="0.5"), "The plan enterprise", UNITS),
        (copy("starter", meter="storage", next_plan=None, included_units="0.0005"), "The plan starter", UNITS),
        (copy("starter", meter="storage", next_plan=None, unit_price="0.0000000001"), "The plan starter", PRICE),
        (change("growth 1", up_to_units="0.5"), "Tier 1 of the plan growth", END_PLACES),
        (change("starter", limit_kind="hard"), "The plan starter", HARD),
        (change("starter", unit_price=None), "The plan starter", UNIT_PRICE),
        (change("growth", unit_price="1"), "The plan growth", UNIT_PRICE),
        (change("enterprise", package_price=None), "The plan enterprise", PACKAGE),
        (change("enterprise", package_units=None), "The plan enterprise", PACKAGE),
        (change("enterprise", package_units="0"), "The plan enterprise", PACKAGE),
        (change("starter", package_units="10"), "The plan starter", PACKAGE),
        (change("starter", package_price="10"), "The plan starter", PACKAGE),
        (change("free", pricing="volume", limit_kind="soft"), "The plan free", NO_TIERS),
        (change("growth", pricing="none"), "The plan growth", NO_TIERS),
        (change("growth 1", tier_number="0"), "Tier 0 of the plan growth", "breaks the order 1, 2, 3"),
        (change("growth 3", tier_number="4"), "Tier 4 of the plan growth", "breaks the order 1, 2, 3"),
        (change("growth 3", up_to_units="90000"), "Tier 3 of the plan growth", CLOSED),
        (
            change("growth 2", up_to_units=None),
            "Tier 2 of the plan growth",
            "has no end (up_to_units), and another tier comes after it",
        ),
        (change("growth 2", up_to_units="10000"), "Tier 2 of the plan growth", ENDS),
        (change("growth 1", up_to_units="0"), "Tier 1 of the plan growth", ENDS),
        (change("scale 2", unit_price=None), "Tier 2 of the plan scale", TIER_PRICE),
        (change("scale 2", unit_price="-1"), "Tier 2 of the plan scale", TIER_PRICE),
        (change("scale 2", flat_price="-1"), "Tier 2 of the plan scale", TIER_PRICE),
        (
            copy("scale 3", plan="gold", tier_number="1"),
            "Tier 1 of the plan gold",
            "is of a plan that is not in plans.csv with this meter",
        ),
    ],
)
def test_broken_catalog_is_refused_in_sentences(edit: Edit, subjects: str, problem: str) -> None:
    plans, tiers = catalog()
    edit(plans, tiers)
    assert problems(plans, tiers) == [f"{subject} {problem}." for subject in subjects.split("|")]


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A copy of the dbt project, to be edited as users edit theirs."""
    return project_with(tmp_path)


@pytest.fixture
def builder(data: Path, project: Path) -> Builder:
    """Builds it on an empty lake."""
    with Lake(data / "lake").writing():
        pass
    return Builder(data, project)


def test_build_reports_the_sentence_when_a_plan_is_broken(project: Path, builder: Builder) -> None:
    plans = project / "seeds" / "plans.csv"
    plans.write_text(plans.read_text().replace("soft,10,growth", "soft,10,gold"))
    results = {result.unique_id.split(".")[2]: result for result in builder.results(NOW)}
    duckdb.connect(str(builder.warehouse)).close()  # the rows were read, and the file let go of
    refused = results["plans_can_be_priced"]
    assert (refused.status, refused.failures) == ("fail", 1)
    assert refused.message.endswith(f"\n  The plan starter {NEXT}.")
    assert results["overage"].status == "skipped"


def test_any_price_list_costs_what_it_costs_on_paper(project: Path, builder: Builder) -> None:
    rng = random.Random(4)
    plans, tiers = random_catalog(rng)
    for name, seed in (("plans", plans), ("plan_tiers", [tier for each in tiers.values() for tier in each])):
        with (project / "seeds" / f"{name}.csv").open("w", newline="") as file:
            writer = csv.DictWriter(file, seed[0])
            writer.writeheader()
            writer.writerows(seed)
    edges = [0, 1, 2, 3, 6, 7, 8, 10, 11, 999, 1000, 1001, 10**6, 10**6 + 1, 10**9 + 1, 10**14, 10**15, 10**15 + 1]
    accounts = [
        (f"{plan['plan']} {quota} {used} {projected}", plan["plan"], quota, used, projected)
        for plan in plans
        for quota in (1, 500)
        for used, projected in zip(edges, rng.sample(edges, len(edges)), strict=True)
    ]
    with duckdb.connect(str(builder.warehouse)) as connection:
        connection.execute(FORECASTS)
        connection.executemany(
            "insert into cap_forecasts (account_id, plan, quota, used_mtd, projected_eom) values (?, ?, ?, ?, ?)",
            accounts,
        )
    results = builder.results(NOW, ["meters", "plans", "plan_tiers", *TESTS, "overage"])
    assert [result.message for result in results if result.status not in ("success", "pass")] == []
    with duckdb.connect(str(builder.warehouse)) as connection:
        costs = connection.execute("select account_id, overage_value, projected_cost, next_plan_cost from overage")
        found = {account: tuple(amounts) for account, *amounts in costs.fetchall()}
        priced = {
            plan.name: plan
            for plan in pricing.plans(
                *(rows(connection, name) for name in ("plans", "plan_tiers")), meters_of(rows(connection, "meters"))
            )
        }

    by_name = {plan["plan"]: plan for plan in plans}
    assert len(found) == len(accounts)
    for account, name, quota, used, projected in accounts:
        plan, upper = by_name[name], by_name.get(by_name[name]["next_plan"])
        included = 0 if plan["included_units"] == 0 else quota
        so_far = cost_on_paper({**plan, "base_price": 0}, tiers[name], included, used)
        at_end = cost_on_paper(plan, tiers[name], included, projected)
        on_next = upper and cost_on_paper(upper, tiers[upper["plan"]], upper["included_units"], projected)
        assert found[account] == (so_far, at_end, on_next), (plan, tiers[name])
        assert price(with_quota(priced[name], quota), used) == so_far, (plan, tiers[name])


def test_usage_of_a_meter_with_decimals_costs_what_its_units_do(project: Path, builder: Builder) -> None:
    """Figures are steps of 0.001 GB, the price list is in GB."""
    for name, lines in {
        "meters": [],
        "plans": [
            "gb,storage,0.5,0,graduated,,,,soft,,pack,USD",
            "pack,storage,1.25,0,package,,2.5,3.00,soft,,,USD",
        ],
        "plan_tiers": ["gb,storage,1,1.5,0.10,2", "gb,storage,2,,0.000000007,0"],
    }.items():
        path = project / "seeds" / f"{name}.csv"
        text = path.read_text().replace("storage,false,,latest,,,,GB,GB,0", "storage,false,,latest,,,,GB,GB,3")
        path.write_text("\n".join([*(text.splitlines()[:1] if lines else text.splitlines()), *lines, ""]))
    used = [0, 1, 500, 501, 2_000, 2_001, 1_000_000_000_000]
    with duckdb.connect(str(builder.warehouse)) as connection:
        connection.execute(FORECASTS)
        connection.executemany(
            "insert into cap_forecasts (account_id, meter, plan, quota, used_mtd, projected_eom)"
            " values (?, 'storage', ?, ?, ?, ?)",
            [(f"{plan} {units}", plan, quota, units, units) for units in used for plan, quota in QUOTAS.items()],
        )
    results = builder.results(NOW, ["meters", "plans", "plan_tiers", *TESTS, "overage"])
    assert [result.message for result in results if result.status not in ("success", "pass")] == []
    with duckdb.connect(str(builder.warehouse)) as connection:
        amounts = "account_id, overage_value, next_plan_cost"
        found = {name: values for name, *values in connection.execute(f"select {amounts} from overage").fetchall()}
        tables = (rows(connection, name) for name in ("plans", "plan_tiers"))
        priced = {plan.name: plan for plan in pricing.plans(*tables, meters_of(rows(connection, "meters")))}
    on_paper = {0: 0, 1: 0, 500: 0, 501: "2.0001", 2_000: "2.15", 2_001: "2.150000000007", 10**12: "9.149999986"}
    for units, amount in on_paper.items():
        cents = Decimal(amount).quantize(Decimal("0.01"), ROUND_HALF_UP)
        packages = max(0, math.ceil(Fraction(units - 1_250, 2_500)))
        assert found[f"gb {units}"] == [cents, 3 * packages], units
        assert price(priced["gb"], units) == cents
        assert price(priced["pack"], units) == found[f"pack {units}"][0] == 3 * packages


QUOTAS = {"gb": 500, "pack": 1_250}
"""By plan, of its accounts, in steps: what it includes."""
FORECASTS = """
    create table cap_forecasts (
        account_id varchar, meter varchar default 'api-calls', plan varchar,
        quota bigint, used_mtd bigint, projected_eom bigint,
        quota_state varchar default 'limited', hits_cap_in_period boolean,
        period_start timestamp, period_end timestamp);
    create table stg_prepaid_credit
        (stripe_customer_id varchar, currency varchar, remaining decimal(18, 2), burns_down_at timestamp);
    create table account_customers
        (account_id varchar, stripe_customer_id varchar, valid_from timestamp, valid_until timestamp);
"""


def rows(connection: duckdb.DuckDBPyConnection, table: str) -> list[Row]:
    found = connection.execute(f"select * from {table}")
    columns = [column[0] for column in found.description]
    return [dict(zip(columns, row, strict=True)) for row in found.fetchall()]


def random_catalog(rng: random.Random) -> tuple[list[Row], dict[str, list[Row]]]:
    """Plans, and the tiers of each, with prices of all sizes down to the twelfth place."""

    def amount() -> str:
        digits = f"{rng.randrange(10 ** rng.randint(1, 15)):013d}"
        return f"{digits[:-12]}.{digits[-12:]}"

    plans, tiers = [], {}
    for number in range(60):
        pricing = ("none", "flat", "graduated", "volume", "package")[number % 5]
        name = f"p{number}"
        plans.append(
            {
                "plan": name,
                "meter": "api-calls",
                "included_units": rng.choice([None, 0, 1, 1000, 10**15]),
                "base_price": f"{rng.randrange(10**6) / 100:.2f}",
                "pricing": pricing,
                "unit_price": amount() if pricing == "flat" else None,
                "package_units": rng.choice([1, 7, 10**6]) if pricing == "package" else None,
                "package_price": amount() if pricing == "package" else None,
                "limit_kind": rng.choice(["hard", "soft"]) if pricing == "none" else "soft",
                "rate_limit_per_second": None,
                "next_plan": f"p{number + 1}" if number % 10 < 9 else None,
                "currency": "EUR",
            }
        )
        ends = sorted(rng.sample([1, 2, 10, 999, 1000, 10**6, 10**9, 10**14], rng.randint(0, 5)))
        tiers[name] = [
            {"plan": name, "meter": "api-calls", "tier_number": place, "up_to_units": end}
            | {"unit_price": amount(), "flat_price": amount()}
            for place, end in enumerate([*ends, None], 1)
            if pricing in ("graduated", "volume")
        ]
    return plans, tiers


def cost_on_paper(plan: Row, tiers: list[Row], included: int | None, used: int) -> Decimal:
    """Base price and overage in cents, tier after tier."""
    units = 0 if included is None else max(0, used - included)
    with localcontext(prec=60):
        total, begin = Decimal(plan["base_price"]), 0
        if plan["pricing"] == "flat":
            total += units * Decimal(plan["unit_price"])
        elif plan["pricing"] == "package":
            total += math.ceil(Fraction(units, plan["package_units"])) * Decimal(plan["package_price"])
        for tier in tiers if units else []:
            end = units if tier["up_to_units"] is None else min(units, tier["up_to_units"])
            if plan["pricing"] == "graduated" and end > begin:
                total += (end - begin) * Decimal(tier["unit_price"]) + Decimal(tier["flat_price"])
                begin = end
            elif plan["pricing"] == "volume" and end == units:
                total += units * Decimal(tier["unit_price"]) + Decimal(tier["flat_price"])
                break
        return total.quantize(Decimal("0.01"), ROUND_HALF_UP)
