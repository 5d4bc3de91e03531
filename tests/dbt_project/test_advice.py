"""What is advised: each rule of routing.csv with the sentence that people read, and rules that contradict the facts.

The model and the data test are asked in DuckDB, with the seed as it is shipped. Which facts make which situation is in
models/unit_tests/situations.yml.
"""

import csv
import re
from datetime import date
from functools import cache
from typing import Any

import duckdb
import jinja2
import pytest
import yaml

from tests.dbt_project.builder import PROJECT

TODAY = date(2026, 11, 20)
MACROS, LISTED = ((PROJECT / "macros" / f"{name}.sql").read_text() for name in ("situations", "permitted_advice"))
Row = dict[str, Any]


@cache
def seed(name: str) -> list[Row]:
    with (PROJECT / "seeds" / f"{name}.csv").open(newline="") as file:
        return [{column: value or None for column, value in row.items()} for row in csv.DictReader(file)]


@cache
def columns_of(model: str) -> dict[str, str]:
    [path] = PROJECT.glob(f"models/*/{model}.yml")
    [described] = yaml.safe_load(path.read_text())["models"]
    return {column["name"]: column["data_type"] for column in described["columns"]}


SEED_TYPES: dict[str, str] = yaml.safe_load((PROJECT / "dbt_project.yml").read_text())["seeds"]["headroom"]["routing"][
    "+column_types"
]


class Returned(Exception):  # noqa: N818 - what a macro of dbt returns, no error
    """The value of a macro that returns one instead of text."""


@cache
def macro(name: str) -> Any:
    """What the macro of situations.sql returns."""

    def give(value: Any) -> None:
        raise Returned(value)

    module: Any = jinja2.Environment().from_string(MACROS, globals={"return": give}).module
    with pytest.raises(Returned) as returned:
        getattr(module, name)()
    return returned.value.args[0]


def asked(path: str, routing: list[Row], situations: list[Row] | None = None) -> list[Row]:
    """The rows of a model or data test over these."""
    tables = {"routing": (SEED_TYPES, routing), "meters": ({"meter": "varchar"}, seed("meters"))}
    tables["account_situations"] = (columns_of("account_situations"), situations or [])
    lists = {name: lambda name=name: macro(name) for name in ("situations", "situations_with_next_plan", "reasons")}
    listed: Any = jinja2.Environment().from_string(LISTED, globals=lists).module
    context = {
        "permitted_advice": listed.permitted_advice,
        "known_reasons": listed.known_reasons,
        "ref": lambda name: name,
        "config": lambda **_: "",
        "var": lambda _: "",
        "as_of": lambda: TODAY,
        "utc_literal": lambda day: f"date '{day}'",
        "business_date": lambda day: day,
        "unit_name": lambda unit: unit,
    }
    with duckdb.connect() as connection:
        for name, (types, rows) in tables.items():
            connection.execute(
                f"create table {name} ({', '.join(f'{column} {kind}' for column, kind in types.items())})"
            )
            for row in rows:
                values = [row.get(column) for column in types]
                connection.execute(f"insert into {name} values ({', '.join('?' * len(values))})", values)
        found = connection.execute(jinja2.Template((PROJECT / path).read_text()).render(context))
        names = [column[0] for column in found.description or []]
        return [dict(zip(names, row, strict=True)) for row in found.fetchall()]


KINDS = ("hard_limit", "soft_limit", "throttle_limit", "monitor_limit")


def facts(situation: str, reasons: str, **fields: Any) -> Row:
    """A row of account_situations; the rest follows from the reasons."""
    codes = reasons.split(",")
    is_gauge, is_over = "gauge" in codes, "over_quota" in codes
    return {
        "situation": situation,
        "reasons": reasons,
        "meter": "seats" if is_gauge else "api-calls",
        "unit": "seats" if is_gauge else "calls",
        "plan": "starter",
        "next_plan": None if "no_next_plan" in codes else "growth",
        "severity": "critical" if is_over else "high",
        "segment": "smb",
        "limit_kind": next((code.removesuffix("_limit") for code in codes if code in KINDS), None),
        "owner": "sales",
        "csm": "csm",
        "hits_cap_on": TODAY if is_over else None,
        "renewal_on": date(2027, 1, 10),
        **fields,
    }


CASES: dict[int, tuple[Row, str, date | None, str, str]] = {
    10: (
        facts("internal", "internal"),
        "none",
        None,
        "sales",
        "Nothing to do: this is one of our own accounts.",
    ),
    20: (
        facts("snoozed", "snoozed"),
        "none",
        None,
        "sales",
        "Nothing to do while the account is snoozed.",
    ),
    30: (
        facts("resolved", "quota_raised"),
        "none",
        None,
        "sales",
        "Nothing to do: the larger quota has room again.",
    ),
    40: (
        facts("help_needed", "retry_storm,soft_limit,over_quota"),
        "help_first",
        date(2026, 11, 21),
        "csm",
        "Help them stop the retries first. Do not pitch.",
    ),
    41: (
        facts("help_needed", "failed_calls,hard_limit,runs_out,renewal_soon"),
        "help_first",
        date(2026, 11, 21),
        "csm",
        "Help them with the failing calls first. Do not pitch.",
    ),
    50: (
        facts("trial", "trial,hard_limit,over_quota"),
        "call_help",
        date(2026, 11, 20),
        "sales",
        "Call today, help with the trial and ask what they need next.",
    ),
    51: (
        facts("trial", "trial,soft_limit,runs_out"),
        "call_help",
        date(2026, 11, 22),
        "sales",
        "Call, help with the trial and ask what they need next.",
    ),
    60: (
        facts("limit_not_enforced", "hard_limit,over_quota,served_past_limit"),
        "call_help",
        date(2026, 11, 22),
        "sales",
        "Check why the limit lets usage through, then call them about a quota that fits.",
    ),
    70: (
        facts("no_larger_plan", "hard_limit,over_quota,no_next_plan"),
        "call_help",
        date(2026, 11, 20),
        "sales",
        "Call today and agree on a larger quota: more calls are refused.",
    ),
    71: (
        facts("no_larger_plan", "hard_limit,runs_out,no_next_plan"),
        "call_help",
        date(2026, 11, 23),
        "sales",
        "Call and agree on a larger quota before calls are refused.",
    ),
    80: (
        facts("refused_now", "hard_limit,over_quota", segment="enterprise"),
        "call_upgrade",
        date(2026, 11, 20),
        "sales",
        "Call today, with the CSM, and offer the growth plan: more calls are refused.",
    ),
    81: (
        facts("refused_now", "hard_limit,over_quota"),
        "call_upgrade",
        date(2026, 11, 20),
        "sales",
        "Call today and offer the growth plan: more calls are refused.",
    ),
    90: (
        facts("refused_soon", "hard_limit,runs_out", severity="critical"),
        "call_upgrade",
        date(2026, 11, 20),
        "sales",
        "Call today and offer the growth plan before calls are refused.",
    ),
    91: (
        facts("refused_soon", "hard_limit,runs_out", hits_cap_on=date(2026, 11, 22)),
        "call_upgrade",
        date(2026, 11, 22),
        "sales",
        "Call this week and offer the growth plan before calls are refused.",
    ),
    99: (
        facts("terms_unknown", "gauge,limit_unknown,over_quota,no_next_plan"),
        "call_help",
        date(2026, 11, 20),
        "sales",
        "Call today: they use all their seats. Agree on a larger quota.",
    ),
    100: (
        facts("terms_unknown", "limit_unknown,over_quota,no_next_plan"),
        "call_help",
        date(2026, 11, 20),
        "sales",
        "Call today and check their contract: the price list does not have their plan.",
    ),
    101: (
        facts("terms_unknown", "limit_unknown,runs_out,no_next_plan"),
        "call_help",
        date(2026, 11, 24),
        "sales",
        "Call this week and check their contract: the price list does not have their plan.",
    ),
    110: (
        facts("upgrade_cheaper", "soft_limit,pay_per_use,over_quota,upgrade_cheaper"),
        "offer_upgrade",
        date(2026, 11, 22),
        "sales",
        "Write and offer the growth plan: it costs them less than paying for each call.",
    ),
    111: (
        facts("upgrade_cheaper", "soft_limit,over_quota,upgrade_cheaper"),
        "call_upgrade",
        date(2026, 11, 20),
        "sales",
        "Call today and offer the growth plan: it costs them less than overage.",
    ),
    112: (
        facts("upgrade_cheaper", "soft_limit,runs_out,upgrade_cheaper", severity="critical"),
        "call_upgrade",
        date(2026, 11, 20),
        "sales",
        "Call today and offer the growth plan: it will cost them less than overage.",
    ),
    113: (
        facts("upgrade_cheaper", "soft_limit,runs_out,upgrade_cheaper"),
        "offer_upgrade",
        date(2026, 11, 24),
        "sales",
        "Write this week and offer the growth plan: it will cost them less than overage.",
    ),
    120: (
        facts(
            "staying_cheaper",
            "soft_limit,pay_per_use,over_quota,staying_cheaper,renewal_soon",
            renewal_on=date(2026, 11, 27),
        ),
        "renewal_talk",
        date(2026, 11, 27),
        "sales",
        "Talk about their usage at the renewal. Do not pitch: the growth plan costs them more.",
    ),
    121: (
        facts("staying_cheaper", "soft_limit,pay_per_use,over_quota,staying_cheaper"),
        "do_not_pitch",
        None,
        "sales",
        "Do not pitch: paying for each call costs them less than the growth plan.",
    ),
    122: (
        facts("staying_cheaper", "soft_limit,over_quota,staying_cheaper"),
        "do_not_pitch",
        None,
        "sales",
        "Do not pitch: overage costs them less than the growth plan.",
    ),
    123: (
        facts("staying_cheaper", "soft_limit,runs_out,staying_cheaper"),
        "tell_overage",
        date(2026, 11, 24),
        "sales",
        "Write before overage starts. Do not pitch: it costs them less than the growth plan.",
    ),
    124: (
        facts("staying_cheaper", "throttle_limit,over_quota,staying_cheaper"),
        "tell_overage",
        date(2026, 11, 22),
        "sales",
        "Write that their calls are slowed down now. Do not pitch: the growth plan costs them more.",
    ),
    125: (
        facts("staying_cheaper", "throttle_limit,runs_out,staying_cheaper"),
        "tell_overage",
        date(2026, 11, 24),
        "sales",
        "Write before their calls are slowed down. Do not pitch: the growth plan costs them more.",
    ),
    126: (
        facts("staying_cheaper", "monitor_limit,over_quota,staying_cheaper"),
        "do_not_pitch",
        None,
        "sales",
        "Do not pitch: staying costs them less than the growth plan.",
    ),
    127: (
        facts("staying_cheaper", "monitor_limit,runs_out,staying_cheaper"),
        "do_not_pitch",
        None,
        "sales",
        "Do not pitch: staying costs them less than the growth plan.",
    ),
    130: (
        facts("price_unknown", "soft_limit,over_quota,same_cost,renewal_soon"),
        "renewal_talk",
        date(2026, 12, 4),
        "sales",
        "Talk about a quota that fits at the renewal.",
    ),
    131: (
        facts("price_unknown", "soft_limit,pay_per_use,runs_out,no_next_plan"),
        "tell_overage",
        date(2026, 11, 24),
        "sales",
        "Write what they use and what they pay for it.",
    ),
    132: (
        facts("price_unknown", "soft_limit,over_quota,no_next_plan"),
        "tell_overage",
        date(2026, 11, 22),
        "sales",
        "Write that they pay for overage now.",
    ),
    133: (
        facts("price_unknown", "soft_limit,runs_out,same_cost"),
        "tell_overage",
        date(2026, 11, 24),
        "sales",
        "Write before overage starts.",
    ),
    134: (
        facts("price_unknown", "throttle_limit,over_quota,no_next_plan"),
        "tell_overage",
        date(2026, 11, 22),
        "sales",
        "Write that their calls are slowed down now.",
    ),
    135: (
        facts("price_unknown", "throttle_limit,runs_out,same_cost"),
        "tell_overage",
        date(2026, 11, 24),
        "sales",
        "Write before their calls are slowed down.",
    ),
    136: (
        facts("price_unknown", "monitor_limit,over_quota,no_next_plan"),
        "tell_overage",
        date(2026, 11, 22),
        "sales",
        "Write that they are over their quota.",
    ),
    137: (
        facts("price_unknown", "monitor_limit,runs_out,same_cost"),
        "tell_overage",
        date(2026, 11, 24),
        "sales",
        "Write before they reach their quota.",
    ),
    140: (
        facts("will_not_run_out", "soft_limit,will_not_run_out,renewal_soon,pace_matters"),
        "renewal_talk",
        date(2026, 12, 4),
        "sales",
        "Talk about their usage at the renewal.",
    ),
    141: (
        facts("will_not_run_out", "hard_limit,will_not_run_out,pace_matters"),
        "watch",
        None,
        "sales",
        "Nothing to do now: they will not run out in this period.",
    ),
    150: (
        facts("too_early", "gauge,hard_limit,no_forecast"),
        "watch",
        None,
        "sales",
        "Watch: they are close to their seats quota.",
    ),
    151: (
        facts("too_early", "hard_limit,no_forecast"),
        "watch",
        None,
        "sales",
        "Watch: it is too early for a forecast.",
    ),
    160: (
        facts("dropping", "dropping"),
        "csm_check_in",
        date(2026, 11, 22),
        "csm",
        "Check in and ask why their usage dropped.",
    ),
    170: (
        facts("dormant", "dormant"),
        "csm_check_in",
        date(2026, 11, 24),
        "csm",
        "Check in and ask why their calls stopped.",
    ),
}
"""By the number of the rule that decides: facts, advice, by when, by whom, the sentence."""


def test_each_rule_of_the_routing_gives_its_sentence() -> None:
    routing = seed("routing")
    assert list(CASES) == [int(row["rule"]) for row in routing]
    situations = [{**row, "account_id": str(rule)} for rule, (row, *_) in CASES.items()]

    rows = asked("models/marts/account_advice.sql", routing, situations)

    found = {
        int(row["account_id"]): (row["rule"], row["advice"], row["by_when"], row["owner"], row["next_step"])
        for row in rows
    }
    assert found == {rule: (rule, *said) for rule, (_, *said) in CASES.items()}


def test_each_sentence_is_short_and_names_nothing_that_is_left_open() -> None:
    for *_, sentence in CASES.values():
        assert re.match(r"[A-Z][^{}]*\.$", sentence)
        assert all(len(part.split()) <= 20 for part in re.split(r"[.:] ", sentence))


def test_shipped_routing_is_accepted() -> None:
    assert asked("data-tests/routing_gives_one_advice.sql", seed("routing")) == []


RULE = {"rule": "500", "situation": "refused_now", "advice": "call_help", "next_step": "Call.", "owner_role": "csm"}


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        (
            {"situation": "help_needed", "advice": "call_upgrade"},
            "advises call_upgrade, which help_needed does not permit",
        ),
        ({"situation": "staying_cheaper", "advice": "offer_upgrade"}, "offer_upgrade, which staying_cheaper does not"),
        ({"situation": "will_not_run_out", "advice": "call_upgrade"}, "which will_not_run_out does not permit"),
        ({"situation": "trial", "advice": "offer_upgrade"}, "which trial does not permit"),
        ({"situation": "bored"}, "names an unknown situation: bored"),
        ({"advice": "pitch"}, "names an unknown advice: pitch"),
        ({"reason": "mood"}, "names an unknown reason: mood"),
        ({"severity": "urgent"}, "names an unknown severity: urgent"),
        ({"limit_kind": "firm"}, "names an unknown limit_kind: firm"),
        ({"meter": "rockets"}, "names a meter that is not in meters.csv: rockets"),
        ({"owner_role": "boss"}, "needs an owner_role: sales or csm"),
        ({"owner_role": None}, "needs an owner_role: sales or csm"),
        ({"by_days": "-1"}, "needs by_days of 0 or more"),
        ({"next_step": " "}, "needs a next_step"),
        ({"next_step": None}, "needs a next_step"),
        (
            {"next_step": "Offer {plans}."},
            "has a placeholder in next_step that is none of {next_plan}, {plan} and {unit}",
        ),
        (
            {"situation": "no_larger_plan", "next_step": "Offer {next_plan}."},
            "offers {next_plan}, which no_larger_plan may not have",
        ),
    ],
)
def test_rule_that_contradicts_the_facts_is_a_sentence(changes: Row, problem: str) -> None:
    [row] = asked("data-tests/routing_gives_one_advice.sql", [*seed("routing"), {**RULE, **changes}])

    assert row["problem"].startswith("Rule 500 of routing.csv ")
    assert problem in row["problem"]


def test_situation_without_a_rule_of_its_own_is_a_sentence() -> None:
    routing = [row for row in seed("routing") if row["rule"] != "51"]

    [row] = asked("data-tests/routing_gives_one_advice.sql", routing)

    assert row["problem"] == "routing.csv needs a row for trial without any other condition."


def test_lists_of_situations_and_advice_are_those_of_the_model() -> None:
    [path] = PROJECT.glob("models/marts/account_advice.yml")
    [model] = yaml.safe_load(path.read_text())["models"]
    values = {
        column["name"]: column["data_tests"][0]["accepted_values"]["arguments"]["values"]
        for column in model["columns"]
        if "data_tests" in column
    }
    assert values["situation"] == list(macro("situations"))
    assert values["advice"] == macro("advices")
    assert {advice for permitted in macro("situations").values() for advice in permitted} == set(macro("advices"))


def test_page_of_definitions_has_each_situation_and_each_reason() -> None:
    page = (PROJECT.parent / "docs" / "meaning" / "definitions.md").read_text()
    section = page.partition("\n## Advice\n")[2].partition("\n## ")[0]
    rows = re.findall(r"(?m)^\| (`[^|]*) \|", section)
    codes = section.partition("as codes, in this order: ")[2].partition("\n- ")[0]

    assert sorted(name for row in rows for name in re.findall(r"`(\w+)`", row)) == sorted(macro("situations"))
    assert [code for code in re.findall(r"`(\w+)`", codes) if code != "renewal_within_days"] == list(macro("reasons"))
