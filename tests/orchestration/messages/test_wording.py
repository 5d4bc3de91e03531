"""What the digest says: whom to call, when and why, by the advice of the mart; nothing in it is made up."""

import json
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from orchestration.messages.footer import parity
from orchestration.messages.groups import heading
from orchestration.messages.wording import HELD, LISTED, digest_content, stale_line
from orchestration.usage.standing import Standing
from tests.support.builders import NOW, QUALITY, make_crossing, make_standing

BERLIN = ZoneInfo("Europe/Berlin")
FRIDAY = date(2026, 11, 20)
DUE = datetime(2026, 11, 20, 7, tzinfo=UTC)  # 8am in Berlin
THURSDAY = DUE - timedelta(days=1)


def digest(
    *news: dict[str, Any],
    accounts: tuple[dict[str, Any], ...] = (),
    previous: datetime | None = THURSDAY,
    links: dict[str, str] | None = None,
    crm_url: str | None = None,
    **quality: Any,
) -> dict[str, Any]:
    return digest_content(
        news,
        [*news, *accounts],
        {("acme", "api-calls"): [0, 5, 10]},
        {**QUALITY, **quality},
        FRIDAY,
        DUE,
        BERLIN,
        previous,
        links or {},
        crm_url,
    )


def lines(shown: dict[str, Any]) -> dict[str, list[str]]:
    """The lines of the message by their heading, as every channel draws them."""
    drawn = {}
    for group in shown["groups"]:
        items = [item for item in shown["items"] if item["group"] == group["key"]] if group["is_action"] else []
        drawn[heading(group)] = [" · ".join([item["name"], *item["facts"], item["todo"]]) for item in items] + [
            f"{brief['name']} {brief['text']}" for brief in group["briefs"]
        ]
    return drawn


def known(shown: dict[str, Any]) -> dict[str, list[str]]:
    return {each["title"]: each["lines"] for each in shown["known"]}


SAVES: dict[str, Any] = {
    "advice": "call_upgrade",
    "situation": "upgrade_cheaper",
    "next_step": "Call today and offer the scale plan: it will cost them less than overage.",
    "limit_kind": "soft",
    "cost_of_waiting": "overage starts",
    "value": Decimal(450),
    "currency": "USD",
}
STAYS: dict[str, Any] = {"advice": "do_not_pitch", "situation": "staying_cheaper", "next_step": "Do not pitch."}
LASTS: dict[str, Any] = {
    "advice": "watch",
    "situation": "will_not_run_out",
    "next_step": "Nothing to do now.",
    "hits_cap_in_period": False,
}


# The first line, and the sentence on a locked phone


@pytest.mark.parametrize(
    ("news", "headline", "notification"),
    [
        (
            [make_crossing(account_name="Acme Ltd", owner="ann.lee@example.com", **SAVES)],
            "1 account crossed 80 % since Thu 19 Nov 08:00 CET",
            (
                "Usage Fri 20 Nov: 1 account crossed 80 %. Call first: Acme Ltd, runs out Fri 27 Nov, then overage,"
                " +$450 MRR (Ann Lee)"
            ),
        ),
        (
            [make_crossing("full", used=1_000_000, threshold="100%"), make_crossing()],
            "2 accounts crossed a threshold since Thu 19 Nov 08:00 CET",
            "Usage Fri 20 Nov: 2 accounts crossed a threshold. First: full, quota used up (no owner)",
        ),
        (
            # after the period's end its usage begins at 0 again, and it is one account, not two
            [make_crossing(**LASTS), make_crossing(is_current_period=False)],
            "1 account crossed 80 % since Thu 19 Nov 08:00 CET",
            "Usage Fri 20 Nov: 1 account crossed 80 %. First: acme, will not run out this period (no owner)",
        ),
        (
            [make_crossing(used=2_000_000, is_current_period=False)],
            "1 account crossed 80 % since Thu 19 Nov 08:00 CET",
            "Usage Fri 20 Nov: 1 account crossed 80 %. First: acme, period ended (no owner)",
        ),
    ],
)
def test_first_line_and_notification_say_whom_to_call_and_why(
    news: list[dict[str, Any]], headline: str, notification: str
) -> None:
    shown = digest(*news)

    assert (shown["headline"], shown["notification"]) == (headline, notification)


def test_headline_says_since_when_if_a_weekend_was_missed() -> None:
    shown = digest(make_crossing(), previous=DUE - timedelta(days=3))

    assert shown["headline"] == "1 account crossed 80 % since Tue 17 Nov 08:00 CET"


def test_quiet_day_is_one_line() -> None:
    over = make_standing("over", used_mtd=1_000_000)
    quiet = digest(accounts=(over, make_standing("near", renewal_on=date(2027, 1, 1)), make_standing("low", **LISTS)))

    assert quiet["headline"] == (
        "No account crossed a threshold since Thu 19 Nov 08:00 CET. 1 account is still at or over quota."
    )
    assert (quiet["items"], quiet["groups"], quiet["known"], quiet["date"]) == ([], [], [], "2026-11-20")
    assert quiet["notification"] == f"Usage Fri 20 Nov: {quiet['headline']}"


# The groups


LISTS = {**LASTS, "is_announced": False}


def test_accounts_are_grouped_by_advice_and_only_advantage_is_summed() -> None:
    news = [
        make_crossing("stays", used=1_200_000, pct_of_cap=Decimal(122), **STAYS),
        make_crossing(
            "storm", advice="help_first", situation="help_needed", next_step="Help them first. Do not pitch."
        ),
        make_crossing("a", owner="ann@example.com", **SAVES),
        make_crossing("b", **{**SAVES, "value": Decimal("1490.50")}),
        make_crossing("lasts", **LASTS),
        make_crossing("ended", is_current_period=False, value=Decimal(10_000), currency="USD"),
    ]
    soon = "812 k / 1.0 M (81 %), crossed 80 % today 07:00 · runs out Fri 27 Nov"

    assert lines(digest(*news)) == {
        "Call: upgrade (2, +$1,940.50 MRR)": [
            f"a · {soon}, then overage · Ann: call today and offer the scale plan (+$450 MRR)",
            f"b · {soon}, then overage · no owner: call today and offer the scale plan (+$1,490.50 MRR)",
        ],
        "Help first, do not pitch (1)": [f"storm · {soon} · no owner: help them first"],
        "Over quota, overage is cheaper: do not pitch (1)": ["stays 122 %"],
        "Will not run out this period (1)": ["lasts 81 %"],
        "Crossed in a period that has ended (1)": ["ended 81 % of the last period"],
    }


def test_next_step_never_leaves_out_that_one_should_not_pitch() -> None:
    row = make_crossing(
        **{**STAYS, "advice": "tell_overage", "next_step": "Write before overage starts. Do not pitch: it costs less."}
    )

    [item] = digest(row)["items"]
    assert item["todo"] == "no owner: write before overage starts, do not pitch"
    assert "Next: Write before overage starts. Do not pitch: it costs less" in item["details"]


def test_account_that_is_no_news_at_its_pace_is_listed_by_name() -> None:
    shown = digest(make_crossing("new"), accounts=(make_standing("slow", **LISTS), make_standing("old", **LASTS)))

    assert lines(shown)["Will not run out this period (1)"] == ["slow 81 %"]
    assert [item["account_id"] for item in shown["items"]] == ["new"]


def test_line_of_names_has_five_and_says_how_many_more() -> None:
    [group] = digest(*(make_crossing(f"a{n}", **LASTS) for n in range(8)))["groups"]

    assert [brief["name"] for brief in group["briefs"]] == ["a0", "a1", "a2", "a3", "a4"][:LISTED]
    assert (group["count"], group["more"]) == (8, 3)


def test_digest_of_thousands_holds_the_first_ones_and_counts_all() -> None:
    news = [make_crossing(f"a{n:04}", **(SAVES if n % 2 else LASTS)) for n in range(2_000)]
    shown = digest(*news)

    assert (len(shown["items"]), shown["accounts"]) == (HELD, 2_000)
    assert {group["key"]: group["count"] for group in shown["groups"]} == {
        "call_upgrade": 1_000,
        "will_not_run_out": 1_000,
    }
    assert len(json.dumps(shown)) < 300_000


# The items


@pytest.mark.parametrize("account_id", ["x" * 201, "a\nb", "a  b"])
def test_id_that_a_link_cannot_hold_has_no_link(account_id: str) -> None:
    [item] = digest(make_crossing(account_id=account_id), crm_url="https://pages.test/accounts/?id={account_id}")[
        "items"
    ]
    assert item["url"] == ""


def test_item_shows_the_figures_of_the_marts() -> None:
    row = make_crossing(
        account_name="Acme  Ltd\n",
        owner="ann@example.com",
        csm="omar@example.com",
        plan="growth",
        mrr=Decimal("1200.5"),
        renewal_on=date(2027, 3, 12),
        by_when=date(2026, 11, 24),
        projected_low=1_100_000,
        projected_high=1_300_000,
        late_calls_24h=2,
        **SAVES,
    )

    assert digest(row, crm_url="https://crm.example.com/{account_id}?n={account_name}")["items"] == [
        {
            "group": "call_upgrade",
            "account_id": "acme",
            "meter": "api-calls",
            "is_current": True,
            "name": "Acme Ltd",
            "url": "https://crm.example.com/acme?n=Acme%20Ltd",
            "owner": "ann@example.com",
            "owner_name": "Ann",
            "advice": "call_upgrade",
            "severity": "warm",
            "facts": ["812 k / 1.0 M (81 %), crossed 80 % today 07:00", "runs out Fri 27 Nov, then overage"],
            "todo": "Ann: call today and offer the scale plan (+$450 MRR)",
            "details": [
                "812,345 / 1,000,000 calls (81.2 %) · crossed 80 % today 07:00 · runs out Fri 27 Nov, then overage",
                "projected 1,200,000 (1,100,000 to 1,300,000) · +3.1 points since yesterday 08:00",
                "2 calls arrived a day or more late since yesterday",
                "plan growth · MRR 1,200.50 · renews 12 Mar 2027 · CSM Omar",
                (
                    "Next, by Tue 24 Nov: Call today and offer the scale plan: it will cost them less than overage"
                    " (+$450 MRR)"
                ),
            ],
            "threshold": "80 %",
            "used": "812,345",
            "quota": "1,000,000",
            "pct": "81.2 %",
            "crossed_at": "20 Nov 07:00",
            "cause": "usage",
            "hits_cap": "Fri 27 Nov",
            "sparkline": "▁▄█",
        }
    ]


def test_item_says_what_is_missing_when_the_account_is_not_in_the_crm() -> None:
    row = make_crossing("unseen", projected_eom=None, hits_cap_on=None, hits_cap_in_period=None, used_since=None)
    [item] = digest({**row, "next_step": None})["items"]

    assert (item["name"], item["owner_name"], item["todo"]) == ("unseen", "no owner", "no owner")
    assert item["details"] == [
        "812,345 / 1,000,000 calls (81.2 %) · crossed 80 % today 07:00 · too early for a forecast"
    ]
    assert item["sparkline"] == ""


@pytest.mark.parametrize("name", [" ", "\u200b", "\u202e", ""])
def test_account_without_a_visible_name_has_its_id(name: str) -> None:
    [item] = digest(make_crossing(account_name=name))["items"]
    [nameless] = digest(make_crossing(" ", account_name=name))["items"]

    assert (item["name"], nameless["name"]) == ("acme", "account without a name")


def test_item_shows_a_revenue_of_zero() -> None:
    assert "MRR 0.00" in digest(make_crossing(mrr=Decimal(0)))["items"][0]["details"]


def test_item_of_a_gauge_has_its_unit_and_no_calls() -> None:
    seats = make_crossing(meter="seats", unit="seats", used=48, quota=50, used_since=None)
    [item] = digest(seats)["items"]

    assert (item["name"], item["used"], item["quota"]) == ("acme (seats)", "48", "50 seats")
    assert item["facts"][0] == "48 / 50 seats (81 %), crossed 80 % today 07:00"
    assert item["sparkline"] == ""


def test_item_of_a_summed_meter_has_its_unit_its_days_and_its_pace() -> None:
    tokens = make_crossing(meter="tokens", used=1_620_000, quota=2_000_000, used_since=100_000, previous_quota=1_000)
    [item] = digest_content(
        [{**tokens, "quota_since": NOW}],
        [],
        {("acme", "tokens"): [0, 7], ("acme", "api-calls"): [7, 0]},
        QUALITY,
        FRIDAY,
        DUE,
        BERLIN,
        THURSDAY,
        {},
    )["items"]

    assert (item["name"], item["used"], item["quota"]) == ("acme (tokens)", "1,620,000", "2,000,000 tokens")
    assert item["facts"][0] == "1.62 M / 2.0 M tokens (81 %), crossed 80 % today 07:00"
    assert item["details"][:3] == [
        "1,620,000 / 2,000,000 tokens (81.2 %) · crossed 80 % today 07:00 · runs out Fri 27 Nov",
        "projected 1,200,000 tokens · +5.0 points since yesterday 08:00",
        "quota changed from 1,000 tokens on 20 Nov",
    ]
    assert item["sparkline"] == "▁█"


def test_item_of_a_meter_with_decimals_shows_its_unit() -> None:
    storage = make_crossing(meter="storage", unit="0.001 GB", used=8_123, quota=10_000, used_since=None, threshold="8")
    [item] = digest({**storage, "previous_quota": 500, "quota_since": NOW})["items"]

    assert item["facts"][0] == "8.1 / 10 GB (81 %), crossed 8 GB today 07:00"
    assert item["details"][0].startswith("8.123 / 10 GB (81.2 %) · crossed 8 GB today 07:00")
    assert (item["used"], item["quota"], item["threshold"]) == ("8.123", "10 GB", "8 GB")


def test_item_of_a_threshold_in_units_names_it() -> None:
    [item] = digest(make_crossing(threshold="950000"))["items"]

    assert item["threshold"] == "950,000 calls"
    assert "crossed 950,000 calls today 07:00" in item["facts"][0]


def test_item_of_the_period_before_shows_nothing_of_the_running_one() -> None:
    closed = make_crossing(is_current_period=False, used=1_100_000, projected_eom=7, is_trial=True, **SAVES)
    [item] = digest({**closed, "ci95_pct": Decimal(2)})["items"]

    assert (item["facts"][1], item["pct"], item["hits_cap"]) == ("period ended", "81.2 %", "period ended")
    assert (item["todo"], item["severity"], item["advice"]) == ("no owner", "", "none")
    assert item["details"] == ["the period ended with 1,100,000 / 1,000,000 calls (81.2 %) · crossed 80 % today 07:00"]


def test_sampled_usage_says_how_exact_it_is() -> None:
    """The example of docs/meaning/definitions.md#sampled-events: one call in a hundred, 800,000 of a million.

    The band is ± 2.2 % of the usage, which is 1.8 points of the quota.
    """
    row = make_crossing(pct_of_cap=Decimal(80), ci95_pct=Decimal("2.18"))
    shown = digest(row, accounts_sampled=1)

    assert shown["items"][0]["facts"][0].startswith("812 k / 1.0 M (80 ± 2 %)")
    assert "1 account estimated from sampled calls, never billed" in shown["footer"]


# The lists


def test_accounts_over_the_quota_are_in_the_thread_unless_they_are_news() -> None:
    news = make_crossing("new", used=1_000_000)
    old = make_standing("old", used_mtd=1_500_000, mrr=Decimal("45.5"), snoozed_until=date(2026, 12, 3))
    unread = make_standing("unread", meter="seats", used_mtd=None, hits_cap_in_period=None)
    endless = make_standing("endless", quota_state="unlimited", quota=None, hits_cap_in_period=None)
    shown = digest(news, accounts=(old, unread, endless))

    assert known(shown) == {
        "Quota used up on an earlier day (1)": [
            "old: 1,500,000 / 1,000,000 calls (81.2 %) · MRR 45.50 · snoozed until 03 Dec"
        ]
    }
    assert "old" not in str(lines(shown))


def test_list_of_the_known_has_twenty_accounts_and_says_how_many_more() -> None:
    over = tuple(make_standing(f"a{n:02}", used_mtd=1_000_000, mrr=Decimal(n)) for n in range(23))
    [section] = digest(make_crossing(), accounts=over)["known"]

    assert [line.partition(":")[0] for line in section["lines"]] == [f"a{n:02}" for n in range(22, 2, -1)]
    assert section["more"] == 3


def test_caps_before_the_renewal_are_in_the_thread() -> None:
    near = make_standing("near", renewal_on=date(2026, 11, 28), mrr=Decimal(9))
    other = (
        make_standing("renewed before", renewal_on=date(2026, 11, 27)),
        make_standing("no renewal"),
        make_standing("not in this period", renewal_on=date(2027, 1, 1), hits_cap_in_period=False),
    )

    assert known(digest(make_crossing(), accounts=(near, *other))) == {
        "Will run out before the renewal (1)": [
            "near: 812,345 / 1,000,000 calls (81.2 %) · runs out Fri 27 Nov · renews 28 Nov 2026 · MRR 9.00"
        ]
    }


def test_dropping_accounts_are_listed_for_customer_success() -> None:
    rows = (
        make_standing("small", momentum_word="dropping", momentum_7d=Decimal("-80.25")),
        make_standing("large", momentum_word="dropping", momentum_7d=Decimal(-51), mrr=Decimal(900), csm="omar@x.org"),
        make_standing("gone", advice="csm_check_in", situation="dormant"),
    )

    assert lines(digest(make_crossing(), accounts=rows))["Usage dropped or stopped: check in (3)"] == [
        "large −51 % in 7 days (Omar)",
        "gone no calls",
        "small −80 % in 7 days",
    ]


RAISED = {
    "severity": "ok",
    "situation": "resolved",
    "previous_quota": 500_000,
    "quota_since": THURSDAY + timedelta(hours=3),
    "used_mtd": 450_000,
    "pct_of_cap": Decimal(45),
    "hits_cap_in_period": False,
}


def test_raised_quota_is_reported_once_even_on_a_day_without_news() -> None:
    rows = (
        make_standing("raised", **RAISED, mrr=Decimal(9)),
        make_standing("freed", **{**RAISED, "quota": None, "quota_state": "unlimited", "pct_of_cap": None}),
        make_standing("reported yesterday", **{**RAISED, "quota_since": THURSDAY - timedelta(seconds=1)}),
        make_standing("had not crossed", **{**RAISED, "situation": None}),
    )
    shown = digest(accounts=rows)

    assert lines(shown) == {
        "Good news (2)": [
            "raised quota raised from 500,000 to 1,000,000, now 45 %",
            "freed quota raised from 500,000 to unlimited",
        ]
    }


# The footer, and no digest at all


def test_footer_counts_what_the_figures_lack_and_leaves_out_what_is_zero() -> None:
    assert digest()["footer"] == [
        "Data through Fri 20 Nov 07:58",
        "1,204 lines rejected (99.98 % of lines accepted)",
        "1 account with usage is not billed: no Stripe customer",
    ]


@pytest.mark.parametrize(
    ("standing", "said"),
    [
        (None, ""),
        (Standing(), "Stripe: confirmed as counted"),
        (
            Standing(unconfirmed=12, unconfirmed_since=NOW),
            "Stripe: 12 customer-hours not confirmed yet (sent since 20 Nov 09:00 CET)",
        ),
        (
            Standing(periods=2, misbilled=1),
            "Stripe: 2 billing periods not invoiced as counted, 1 customer-hour not billed as counted",
        ),
        (Standing(periods=1), "Stripe: 1 billing period not invoiced as counted"),
        (Standing(misbilled=1), "Stripe: 1 customer-hour not billed as counted"),
        (Standing(for_approval=3), "Stripe: 3 customer-hours waiting for approval"),
        (
            Standing(misbilled=2, unsent=1, unsent_since=NOW),
            "Stripe: 2 customer-hours not billed as counted, 1 customer-hour not sent yet (since 20 Nov 09:00 CET) ",
        ),
    ],
)
def test_footer_says_confirmed_only_after_stripe_was_asked(standing: Standing | None, said: str) -> None:
    # a command follows where people have something to decide
    assert parity(standing, BERLIN).removesuffix(" (`headroom stripe problems`)") == said.strip()
    is_open = standing is not None and bool(standing.periods or standing.misbilled or standing.for_approval)
    assert parity(standing, BERLIN).endswith("(`headroom stripe problems`)") is is_open


def test_footer_mentions_what_is_rare_when_there_is_some() -> None:
    footer = digest(
        accounts_blocked_with_usage=2,
        rejected_lines=1,
        data_through=None,
        complete_pct=None,
        accounts_without_owner=1,
        events_of_unknown_meter=3,
        subjects_unmapped=1_200,
        values_refused=2,
    )["footer"]

    assert footer[:2] == ["No usage yet", "1 line rejected"]
    assert {
        "2 accounts called in spite of quota 0",
        "1 account at a threshold without an owner",
        "3 events of a meter that is not in meters.csv",
        "1,200 ids used the API without an account",
        "2 values of the last 30 days not counted (refused_values)",
    } < set(footer)


@pytest.mark.parametrize(
    ("count", "hours", "words"),
    [
        (12, 73, "12 events are ahead of the clock, the furthest by 3 days: producer edge"),
        (1, 47, "1 event is ahead of the clock, the furthest by 47 hours: producer edge"),
        (2, 1, "2 events are ahead of the clock, the furthest by 1 hour: producer edge"),
        (2, 0, "2 events are ahead of the clock, the furthest by minutes: producer edge"),
    ],
)
def test_footer_says_whose_events_are_ahead_of_the_clock(count: int, hours: int, words: str) -> None:
    quality = {"events_ahead": count, "hours_ahead": hours, "furthest_ahead_producer": "edge"}
    assert words in digest(**quality)["footer"]
    assert words.replace("edge", "\ufffd[31m") in digest(**quality | {"furthest_ahead_producer": "\x1b[31m"})["footer"]
    assert not any("ahead" in line for line in digest(events_ahead=0)["footer"])


def test_footer_says_how_many_events_a_rejected_line_stands_for() -> None:
    accepted = " (99.98 % of lines accepted)"
    assert f"1 line rejected, about 95 events{accepted}" in digest(rejected_lines=1, lost_events=95)["footer"]
    assert f"3 lines rejected{accepted}" in digest(rejected_lines=3, lost_events=3)["footer"]


def test_links_are_as_they_are_given() -> None:
    assert digest(links={"this run": "https://d/runs/1"})["links"] == [{"text": "this run", "url": "https://d/runs/1"}]


def test_stale_data_is_reported_with_its_age() -> None:
    old = {**QUALITY, "data_through": datetime(2026, 11, 19, 5, tzinfo=UTC), "hours_since_call": 26}

    assert stale_line({**old, "hours_since_call": 25}, 26, FRIDAY, BERLIN) is None
    assert str(stale_line(old, 26, FRIDAY, BERLIN)).startswith(
        "No usage digest for 2026-11-20 yet: the newest usage event is from Thu 19 Nov 06:00 CET, 26 hours old"
        " (stale from"
    )
    assert "no usage event has arrived yet" in str(stale_line({**old, "hours_since_call": None}, 26, FRIDAY, BERLIN))


def test_quiet_day_leaves_dormant_accounts_to_the_next_digest() -> None:
    """What it does not name is not taken for named."""

    def through(*news: dict[str, Any], before: datetime | None) -> str | None:
        found = digest_content(news, news, {}, QUALITY, FRIDAY, DUE, BERLIN, None, {}, None, before)
        said: str | None = found["dormant_through"]
        return said

    earlier = QUALITY["data_through"] - timedelta(days=1)
    assert through(before=earlier) == earlier.isoformat()
    assert through(before=None) is None
    assert through(make_crossing(), before=earlier) == QUALITY["data_through"].isoformat()
