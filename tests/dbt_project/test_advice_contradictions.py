"""No line contradicts another: 200 random, hostile accounts through the real models, the messages' words and drafts.

Advice, money, kind of limit, forecast and words are compared with each other, not with an expected text.
"""

import csv
import json
import random
import re
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from orchestration.channels.slack.blocks import digest_payloads, message_text
from orchestration.ledger.ledger import Ledger
from orchestration.messages import email_draft, groups, outlook
from orchestration.messages.account_wording import DigestDay
from orchestration.messages.digest import compose_digest, read_figures
from orchestration.settings import Settings
from orchestration.warehouse import published_copy, queries
from tests.support.builders import land
from tests.support.pipeline import build_marts

NOW = datetime(2026, 11, 20, 8, 17, 5, tzinfo=UTC)
ACCOUNTS, DAYS = 200, 40
FIRST = NOW.date() - timedelta(days=DAYS - 1)
MORNING = DigestDay(NOW.date(), ZoneInfo("UTC"), NOW - timedelta(days=1))
PLANS = ("free", "free", "free", "starter", "growth", "scale", "enterprise", "unlisted", None)
SHAPES = ("steady", "growing", "stopped", "new", "today", "storm", "failing", "refused", "sparse", "fading")
NAMES = (None, "", " ", "Acme <!channel> & *bold*", "\u202eevil", "A" * 300, "a\nb", "O'Neil {next_plan}", "Ünï 🚀")
BLANK = (None, "", " ")
PITCHES = ("call_upgrade", "offer_upgrade")
Row = dict[str, Any]


def calls_of(chance: random.Random, shape: str, total: int) -> Iterator[tuple[date, int]]:
    """Day and HTTP status of each call, with about `total` calls in November."""
    daily = max(total / NOW.day, 0.1)
    for day in range(DAYS):
        on, ago = FIRST + timedelta(days=day), DAYS - 1 - day
        share = {
            "growing": day / DAYS * 2,
            "stopped": 0.0 if ago < 9 else 1.6,
            "new": 9.0 if ago < 2 else 0.0,
            "today": 19.0 if ago == 0 else 0.0,
            "storm": 2.2 if ago < 8 else 0.5,
            "fading": 0.1 if ago < 8 else 1.7,
            "sparse": 7.0 if on.weekday() == 0 else 0.0,
        }.get(shape, 1.0)
        count = int(daily * share * chance.uniform(0.8, 1.2) + chance.random())
        failed = {"storm": 0.8 if ago < 8 else 0.0, "failing": 0.89, "refused": 0.3 if ago < 8 else 0.0}.get(
            shape, 0.01
        )
        for _ in range(count):
            yield on, (429 if shape == "refused" else 503) if chance.random() < failed else 200


def generate(landing: Path, accounts_csv: Path) -> None:
    chance = random.Random(18)
    lines: list[object] = []
    rows: list[Row] = []
    for number in range(ACCOUNTS):
        account, plan, shape = f"a{number:03}", chance.choice(PLANS), chance.choice(SHAPES)
        quota = chance.choice((1, 7, 40, 90, 150, 400, 1_000))
        total = int(quota * chance.choice((0.1, 0.5, 0.5, 0.85, 0.85, 0.96, 1.0, 1.02, 1.3, 2.5)))
        facts = {"account_id": account, "plan": plan}

        def quota_set(value: object, at: str, facts: Row = facts) -> Row:
            return {
                "event": "quota_set",
                "uuid": f"{facts['account_id']} {at} {value}",
                "timestamp": at,
                "properties": {**facts, "api_quota_monthly": value},
            }

        lines.append(quota_set(chance.choice((quota, quota, quota, quota, quota, None, 0)), "2026-10-01T00:00:00Z"))
        if chance.random() < 0.2:
            changed = int(quota * chance.choice((0.5, 2, 10))) or 1
            lines.append(quota_set(changed, f"2026-11-{chance.randint(2, 19):02}T10:00:00Z"))
        if chance.random() < 0.15:
            lines.append(
                {
                    "event": "usage.limit_reached",
                    "uuid": f"seats {account}",
                    "timestamp": "2026-11-19T09:00:00Z",
                    "properties": {**facts, "metric": "seats", "limit": 50, "used": chance.choice((44, 50, 51))},
                }
            )
        for index, (on, status) in enumerate(calls_of(chance, shape, total)):
            at = datetime(on.year, on.month, on.day, tzinfo=UTC) + timedelta(seconds=chance.randrange(29_000))
            lines.append(
                {
                    "event": "api_call",
                    "uuid": f"{account} {index}",
                    "timestamp": at.isoformat(),
                    "properties": {"account_id": account, "endpoint": "/v1", "status": status},
                }
            )
        rows.append(
            {
                "account_id": account,
                "name": name if (name := chance.choice(NAMES)) in BLANK else f"{account} {name}",
                "owner": chance.choice((None, "sales@example.com")),
                "csm": chance.choice((None, "csm@example.com")),
                "contact_email": chance.choice((None, "anna.smith@example.com", "api@example.com")),
                "segment": chance.choice((None, "enterprise", "smb")),
                "renewal_on": chance.choice((None, "2026-11-25", "2026-12-20", "2027-06-01", "2026-11-01")),
                "is_trial": chance.random() < 0.1,
                "is_internal": chance.random() < 0.05,
                "is_test": chance.random() < 0.03,
                "snoozed_until": chance.choice((*[None] * 8, "2026-11-20", "2026-12-01")),
            }
        )
    land(landing, "all.ndjson", *lines)
    with accounts_csv.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    data = tmp_path_factory.mktemp("data")
    generate(data / "landing", data / "accounts.csv")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HEADROOM_DATA", str(data))
        return build_marts(data, data / "landing", NOW, "+exposure:usage_digest")


@pytest.fixture(scope="module")
def advised(published: Path) -> list[Row]:
    return published_copy.query(
        published,
        """
        select
            utilization.*, overage.next_plan_delta, overage.included_units, overage.is_refused_on_next_plan,
            overage.currency as price_currency, advice.* exclude (account_id, meter, owner), advice.owner as does_it
        from account_advice as advice
        join utilization_mtd as utilization using (account_id, meter)
        join overage using (account_id, meter)
        order by account_id, meter
        """,
    )


@pytest.fixture(scope="module")
def spoken(published: Path) -> list[Row]:
    """The rows that a digest speaks of, of accounts at a threshold."""
    rows = queries.digest_accounts(published, MORNING.since)
    return [row for row in rows if row["advice"] not in (None, "none", "csm_check_in")]


@pytest.fixture(scope="module")
def digest(published: Path) -> tuple[Row, list[Row]]:
    """The payloads that Slack would get: of the message, and of the replies in its thread."""
    config = Settings(HEADROOM_DATA=published.parent)
    ledger = Ledger(config.ledger_url)
    figures = read_figures(config, ledger, NOW.date(), standing=None)
    warned: list[str] = []
    with ledger.transaction() as connection:
        content = compose_digest(figures, ledger, connection, config, NOW.date(), warned.append)
    ledger.close()
    assert warned == []
    return digest_payloads(content.digest, content.table, "local", {})


def broken(rows: list[Row], rule: Any) -> list[tuple[object, ...]]:
    names = (
        "account_id",
        "meter",
        "situation",
        "advice",
        "reasons",
        "used_mtd",
        "quota",
        "hits_cap_on",
        "projected_eom",
    )
    return [tuple(row[name] for name in names) for row in rows if not rule(row)][:3]


def is_over(row: Row) -> bool:
    return row["quota_state"] == "limited" and bool(row["used_mtd"] >= row["quota"])


def test_accounts_are_hostile_enough(advised: list[Row]) -> None:
    situations = Counter(row["situation"] for row in advised)
    wanted = {
        *("internal", "snoozed", "resolved", "help_needed", "trial", "limit_not_enforced", "refused_now"),
        *("refused_soon", "staying_cheaper", "terms_unknown", "will_not_run_out", "dropping"),
    }
    assert wanted <= situations.keys(), situations


def test_advice_agrees_with_the_limit_and_the_usage(advised: list[Row]) -> None:
    rules = {
        "who is over does not have time": lambda row: (
            not is_over(row) or row["situation"] not in ("refused_soon", "will_not_run_out", "too_early")
        ),
        "who is not over is not refused now": lambda row: is_over(row) or row["situation"] != "refused_now",
        "refused: a hard limit": lambda row: (
            "refused" not in row["next_step"] or row["limit_kind"] == "hard" or row["situation"] == "no_larger_plan"
        ),
        "overage: a soft limit": lambda row: "overage" not in row["next_step"] or row["limit_kind"] == "soft",
        "refused now: not past the limit": lambda row: (
            row["situation"] != "refused_now"
            or row["used_mtd"] * 100 <= row["quota"] * 105
            or "refused" in row["next_step"]
        ),
        "gauges have no calls": lambda row: (
            row["meter"] == "api-calls" or not re.search(r"\bcalls\b", row["next_step"])
        ),
        "all that is at a threshold has a quota": lambda row: (
            row["quota_state"] == "limited"
            or row["situation"] in ("dormant", "dropping", "resolved", "internal", "snoozed")
        ),
    }
    assert {name: broken(advised, rule) for name, rule in rules.items() if broken(advised, rule)} == {}


def test_advice_agrees_with_the_forecast(advised: list[Row]) -> None:
    rules = {
        "will not run out": lambda row: (
            row["situation"] != "will_not_run_out"
            or (row["hits_cap_in_period"] is False and row["projected_eom"] < row["quota"])
        ),
        "runs out": lambda row: row["situation"] != "refused_soon" or row["projected_eom"] >= row["quota"],
        "too early": lambda row: row["situation"] != "too_early" or row["hits_cap_in_period"] is None,
        "by when is ahead": lambda row: row["by_when"] is None or row["by_when"] >= NOW.date(),
        "by when is before the cap": lambda row: (
            row["by_when"] is None
            or not row["hits_cap_in_period"]
            or is_over(row)
            or row["advice"] == "renewal_talk"
            or row["by_when"] <= row["hits_cap_on"]
        ),
        "not announced: lasts the period": lambda row: (
            row["is_announced"]
            or row["hits_cap_in_period"] is not True
            or row["situation"] in ("internal", "snoozed", "dormant", "dropping", "resolved")
        ),
    }
    assert {name: broken(advised, rule) for name, rule in rules.items() if broken(advised, rule)} == {}


def test_advice_agrees_with_the_money(advised: list[Row]) -> None:
    rules = {
        "value: a gain or a refusal": lambda row: (
            row["value"] is None or row["limit_kind"] == "hard" or row["next_plan_delta"] < 0
        ),
        "value: what the next plan adds": lambda row: row["value"] in (None, row["next_plan_delta_mrr"]),
        "value: not of trials, ours, snoozed": lambda row: (
            row["value"] is None or not (row["is_trial"] or row["is_internal"] or row["is_test"])
        ),
        "value: with a pitch": lambda row: row["value"] is None or row["advice"] in PITCHES,
        "pitch: a plan to offer": lambda row: row["advice"] not in PITCHES or row["next_plan"] is not None,
        "pitch: not where staying is cheaper": lambda row: (
            not (row["advice"] in PITCHES and row["is_staying_cheaper"] and row["limit_kind"] == "soft")
        ),
        "pitch: not to who needs help": lambda row: (
            row["advice"] not in PITCHES
            or not {"retry_storm", "failed_calls", "trial", "snoozed"} & set(row["reasons"].split(","))
        ),
        "do not pitch: overage is cheaper": lambda row: row["advice"] != "do_not_pitch" or row["is_staying_cheaper"],
        "currency with the value": lambda row: (row["value"] is None) == (row["currency"] is None),
        "sentence is whole": lambda row: (
            bool(re.match(r"[A-Z].*\.$", row["next_step"])) and "{" not in row["next_step"]
        ),
    }
    assert {name: broken(advised, rule) for name, rule in rules.items() if broken(advised, rule)} == {}
    by_account = Counter(row["account_id"] for row in advised if row["value"])
    assert set(by_account.values()) <= {1}


def test_words_of_the_digest_agree_with_the_advice(spoken: list[Row]) -> None:
    assert len(spoken) > 40

    def said(row: Row) -> str:
        return outlook.outlook(row, MORNING)

    rules = {
        "are refused": lambda row: "are refused" not in said(row) or row["limit_kind"] == "hard",
        "let through": lambda row: ("get through" in said(row)) == ("served_past_limit" in row["reasons"]),
        "step and outlook": lambda row: not ("get through" in said(row) and "are refused" in row["next_step"]),
        "overage": lambda row: "overage" not in said(row) or row["limit_kind"] == "soft",
        "lasts": lambda row: ("will not run out" in said(row)) == ("will_not_run_out" in row["reasons"].split(",")),
        "runs out": lambda row: ("runs out" in said(row)) == ("runs_out" in row["reasons"].split(",")),
        "worth": lambda row: bool(outlook.worth(row)) == (row["value"] is not None),
        "saves": lambda row: "saves" not in outlook.offer(row) or row["next_plan_delta"] < 0,
        "offer without a pitch": lambda row: not (row["advice"] in PITCHES and "do not pitch" in outlook.offer(row)),
        "pitch against itself": lambda row: not ("saves" in outlook.offer(row) and "Do not pitch" in row["next_step"]),
    }
    assert {name: broken(spoken, rule) for name, rule in rules.items() if broken(spoken, rule)} == {}


def test_drafts_agree_with_the_advice(spoken: list[Row]) -> None:
    drafts = [
        (row, email_draft.draft(letter, None))
        for row in spoken
        if (letter := email_draft.letter(row, NOW.date())) is not None
    ]
    assert len(drafts) > 10
    for row, text in drafts:
        assert row["advice"] not in ("do_not_pitch", "watch", "none", "renewal_talk", "csm_check_in")
        assert ("refused" in text) <= (row["limit_kind"] == "hard"), text
        assert ("overage" in text) <= (row["limit_kind"] == "soft"), text
        assert not ("refused" in text and "served_past_limit" in row["reasons"]), text
        assert bool(re.search(r"The \w+ plan", text)) <= (row["advice"] in PITCHES), text
        assert ("cost you less" in text) <= (row["next_plan_delta"] is not None and row["next_plan_delta"] < 0), text
        assert ("At the current rate" in text) <= (not is_over(row) and row["hits_cap_in_period"] is True), text
        assert "01 December" not in text
        assert "1 December" not in text
        assert len(text.partition("\n\n")[0].splitlines()) == 2, "the name stays on its line"
        assert Decimal(0) <= row["pct_of_cap"]


def parts_of(text: str) -> dict[tuple[str, str], str]:
    """What is said of each account and meter: its line, and those below it until the next one."""
    parts: dict[tuple[str, str], str] = {}
    key = None
    for line in text.splitlines():
        if found := re.match(r"(?:\d+\. )?(a\d{3})\b", line):
            key = (found[1], "seats" if "(seats)" in line else "api-calls")
            assert key not in parts, "said twice in one message"
            parts[key] = ""
        elif not line.startswith("•"):
            key = None
        if key:
            parts[key] += f"{line}\n"
    return parts


def test_message_and_thread_agree_with_the_advice(digest: tuple[Row, list[Row]], spoken: list[Row]) -> None:
    message, replies = digest
    facts = {(row["account_id"], row["meter"]): row for row in spoken}
    texts = [
        message_text(message["message"]),
        *(message_text(each["message"]) for each in replies if "message" in each),
    ]
    rules: dict[str, Any] = {
        "do not pitch": lambda row, said: not ("do not pitch" in said.lower() and row["advice"] in PITCHES),
        "money: what the advice is worth": lambda row, said: (
            set(re.findall(r"\+\$([\d,]+) MRR", said)) <= ({f"{row['value']:,.0f}"} if row["value"] else set())
        ),
        "refused: a hard limit that holds": lambda row, said: (
            "are refused" not in said
            or (row["limit_kind"] == "hard" and "served_past_limit" not in row["reasons"].split(","))
        ),
        "overage: a soft limit": lambda row, said: "overage" not in said or row["limit_kind"] == "soft",
        "will not run out: no step before it does": lambda row, said: (
            "will not run out" not in said or not re.search("before|runs out ", said)
        ),
        "over: not ahead": lambda row, said: (
            not (re.search("over quota|out of quota|used up", said) and "runs out" in said)
        ),
        "seats are not calls": lambda row, said: row["meter"] == "api-calls" or not re.search(r"\bcalls? are\b", said),
        "no holes": lambda row, said: not re.search(r"\{(?!next_plan\})|\bNone\b|\bnan\b", said),
    }
    said = [(facts[key], part) for text in texts for key, part in parts_of(text).items() if key in facts]
    assert len(said) > 60
    wrong = {name: [part for row, part in said if not rule(row, part)][:3] for name, rule in rules.items()}
    assert {name: parts for name, parts in wrong.items() if parts} == {}


def test_message_has_each_account_once_and_room_for_one_screen(
    digest: tuple[Row, list[Row]], spoken: list[Row]
) -> None:
    message, replies = digest
    text = message_text(message["message"])
    assert len(text) <= 2_500
    facts = {(row["account_id"], row["meter"]): row for row in spoken}
    listed = parts_of(text)
    assert listed
    for group in message["digest"]["groups"]:
        keys = [
            (item["account_id"], item["meter"]) for item in message["digest"]["items"] if item["group"] == group["key"]
        ]
        values = [facts[key]["value"] for key in keys if key in facts and facts[key]["value"]]
        assert groups.heading(group) in text
        assert (f"+${sum(values):,.0f} MRR" == group["worth"]) if values else not group["worth"], group
    needed = {
        (item["account_id"], item["meter"])
        for item in message["digest"]["items"]
        if groups.BY_KEY[item["group"]].is_action
    }
    replied = [key for each in replies if "message" in each for key in parts_of(message_text(each["message"]))]
    assert listed.keys() <= needed <= set(replied)
    everything = json.dumps([message["message"], *replies])
    assert '"broadcast"' not in everything
    assert '"usergroup"' not in everything
