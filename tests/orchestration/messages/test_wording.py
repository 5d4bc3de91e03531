"""What the digest says: the first line tells whom to call, when and why; nothing in it is made up."""

from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from orchestration.messages.wording import digest_content, parity, stale_line
from orchestration.usage.standing import Standing
from tests.support.builders import NOVEMBER, NOW, QUALITY, make_crossing, make_standing

BERLIN = ZoneInfo("Europe/Berlin")
FRIDAY = date(2026, 11, 20)
DUE = datetime(2026, 11, 20, 7, tzinfo=UTC)  # 8am in Berlin
THURSDAY = DUE - timedelta(days=1)


def digest(
    *news: dict[str, Any],
    accounts: tuple[dict[str, Any], ...] = (),
    announced: frozenset[Any] = frozenset(),
    previous: datetime | None = THURSDAY,
    links: dict[str, str] | None = None,
    **quality: Any,
) -> dict[str, Any]:
    return digest_content(
        news,
        [*news, *accounts],
        announced,
        {"acme": [0, 5, 10]},
        {**QUALITY, **quality},
        FRIDAY,
        DUE,
        BERLIN,
        previous,
        links or {},
    )


def sections(shown: dict[str, Any]) -> dict[str, list[str]]:
    return {section["title"]: section["lines"] for section in shown["sections"]}


# The first line


@pytest.mark.parametrize(
    ("news", "headline"),
    [
        (
            [make_crossing(account_name="Acme Ltd", recommended_action="Write: quota and next plan")],
            (
                "1 account crossed 80 % since yesterday 08:00. First: Acme Ltd. Write: quota and next plan:"
                " hits the cap on Fri 27 Nov, 812,345 / 1,000,000 (81.2 %)."
            ),
        ),
        (
            [
                make_crossing("full", used=1_000_000, threshold="100%", cost_of_waiting="will be blocked"),
                make_crossing("soon", hits_cap_on=FRIDAY, threshold="95%"),
                make_crossing(),
            ],
            (
                "3 accounts crossed a threshold since yesterday 08:00; 1 has used up the quota;"
                " 1 will hit the cap today (soon). First: full, the quota is used up, 1,000,000 / 1,000,000 (81.2 %),"
                " hard limit: calls are refused now."
            ),
        ),
        (
            # after the period's end its usage begins at 0 again, and it is one account, not two
            [make_crossing(hits_cap_on=FRIDAY, hits_cap_in_period=False), make_crossing(is_current_period=False)],
            (
                "1 account crossed 80 % since yesterday 08:00. First: acme, will not use up the quota in this period,"
                " 812,345 / 1,000,000 (81.2 %)."
            ),
        ),
        (
            [make_crossing(used=2_000_000, is_current_period=False)],
            "1 account crossed 80 % since yesterday 08:00. First: acme, whose period ended at 81.2 %.",
        ),
    ],
)
def test_headline_says_whom_to_call_when_and_why(news: list[dict[str, Any]], headline: str) -> None:
    assert digest(*news)["headline"] == headline


def test_headline_says_since_when_if_a_weekend_was_missed() -> None:
    shown = digest(make_crossing(), previous=DUE - timedelta(days=3))

    assert shown["headline"].startswith("1 account crossed 80 % since Tue 17 Nov 08:00.")


def test_headline_names_three_of_those_that_hit_the_cap_today() -> None:
    names = ("a", "b" * 100, "c", "d")
    shown = digest(*(make_crossing(name, hits_cap_on=FRIDAY) for name in names))

    assert f"4 will hit the cap today (a, {'b' * 59}…, c, …)." in shown["headline"]


def priced(account: str, amount: int, **fields: Any) -> dict[str, Any]:
    known = {"next_plan": "scale", "next_plan_delta_mrr": Decimal(amount), "currency": "USD"}
    return make_crossing(account, **known, **fields)


def test_headline_sums_what_known_next_plans_bring() -> None:
    news = [
        priced("a", 1_490, is_staying_cheaper=False, next_plan_delta=Decimal(-5)),
        priced("b", 450, is_staying_cheaper=True, next_plan_delta=Decimal(5)),
        priced("storm", 10_000, is_retry_storm=True),
        priced("closed", 10_000, is_current_period=False),
        make_crossing("unknown"),
    ]

    assert digest(*news)["headline"].endswith(
        " +1,940.00 USD MRR if all 2 with a known price take the next plan (cheaper for 1 of them)."
    )


def test_headline_leaves_out_revenue_where_no_price_is_known() -> None:
    assert "MRR" not in digest(make_crossing(next_plan="scale", mrr=Decimal(5)))["headline"]


def test_quiet_day_is_one_line() -> None:
    over = make_standing("over", used_mtd=1_000_000)
    quiet = digest(accounts=(over, make_standing("near", renewal_on=date(2027, 1, 1))))

    assert quiet["headline"] == "No account crossed a threshold since yesterday 08:00. 1 account still over the quota."
    assert (quiet["items"], quiet["sections"], quiet["date"]) == ([], [], "2026-11-20")


# The items


def test_item_shows_the_figures_of_the_marts() -> None:
    row = make_crossing(
        account_name="Acme Ltd",
        owner="ann@example.com",
        plan="growth",
        mrr=Decimal("1200.5"),
        renewal_on=date(2027, 3, 12),
        recommended_action="Call today",
        cost_of_waiting="overage starts",
        projected_low=1_100_000,
        projected_high=1_300_000,
        is_trial=True,
    )

    assert digest(row)["items"] == [
        {
            "account_id": "acme",
            "name": "Acme Ltd",
            "owner": "ann@example.com",
            "plan": "growth",
            "severity": "warm",
            "threshold": "80 %",
            "used": "812,345",
            "quota": "1,000,000",
            "pct": "81.2 %",
            "crossed_at": "20 Nov 07:00",
            "cause": "usage",
            "hits_cap": "Fri 27 Nov",
            "projected": "1,200,000 (1,100,000 to 1,300,000)",
            "mrr": "1,200.50",
            "renewal": "12 Mar 2027",
            "action": "Call today",
            "details": ["+3.1 points since yesterday 08:00", "soft limit: overage starts"],
            "caveats": ["on trial"],
            "sparkline": "▁▄█",
            "calls": [0, 5, 10],
        }
    ]


def test_item_says_what_is_missing_when_the_account_is_not_in_the_crm() -> None:
    row = make_crossing("unseen", projected_eom=None, hits_cap_on=None, hits_cap_in_period=None, used_since=None)
    [item] = digest(row)["items"]

    assert (item["name"], item["owner"], item["plan"], item["mrr"]) == ("unseen", "no owner", "", "")
    assert (item["projected"], item["hits_cap"], item["sparkline"]) == ("too early to say", "no forecast", "")
    assert (item["renewal"], item["action"], item["details"], item["caveats"]) == ("", "", [], [])


def test_item_shows_a_revenue_of_zero() -> None:
    assert digest(make_crossing(mrr=Decimal(0)))["items"][0]["mrr"] == "0.00"


def test_item_of_a_gauge_has_its_unit_and_no_calls() -> None:
    seats = make_crossing(meter="seats", unit="seats", used=48, quota=50, used_since=None)
    [item] = digest(seats)["items"]

    assert (item["name"], item["used"], item["quota"]) == ("acme (seats)", "48", "50 seats")
    assert (item["sparkline"], item["calls"]) == ("", [])


def test_item_of_a_threshold_in_units_names_it() -> None:
    assert digest(make_crossing(threshold="950000"))["items"][0]["threshold"] == "950,000 calls"


def test_item_of_the_period_before_shows_nothing_of_the_running_one() -> None:
    closed = make_crossing(is_current_period=False, used=1_100_000, projected_eom=7, is_trial=True)
    [item] = digest({**closed, "recommended_action": "Call", "ci95_pct": Decimal(2)})["items"]

    assert (item["hits_cap"], item["projected"], item["pct"]) == ("period ended", "1,100,000", "81.2 %")
    assert (item["action"], item["details"], item["caveats"]) == ("", [], [])


def test_sampled_usage_says_how_exact_it_is() -> None:
    """The example of docs/definitions.md#sampled-events: one call in a hundred, 800,000 of a million.

    The band is ± 2.2 % of the usage.
    """
    row = make_crossing(pct_of_cap=Decimal(80), ci95_pct=Decimal("2.18"))
    shown = digest(row, accounts_sampled=1)

    assert shown["items"][0]["pct"] == "80.0 ± 1.8 %"
    assert "1 account estimated from sampled calls, never billed" in shown["footer"]


# The lists


def test_accounts_over_the_quota_are_listed_unless_they_are_news() -> None:
    news = make_crossing("new", used=1_000_000)
    old = make_standing("old", used_mtd=1_500_000, mrr=Decimal("45.5"), snoozed_until=date(2026, 12, 3))
    unread = make_standing("unread", meter="seats", used_mtd=None, hits_cap_in_period=None)
    endless = make_standing("endless", quota_state="unlimited", quota=None, hits_cap_in_period=None)
    shown = digest(news, accounts=(old, unread, endless))

    assert sections(shown) == {
        "Already over the quota": ["old: 1,500,000 / 1,000,000 (81.2 %), MRR 45.50; snoozed until 03 Dec"]
    }


def test_list_has_five_accounts_and_says_how_many_more() -> None:
    over = tuple(make_standing(f"a{n}", used_mtd=1_000_000, mrr=Decimal(n)) for n in range(8))
    [section] = digest(make_crossing(), accounts=over)["sections"]

    assert [line.partition(":")[0] for line in section["lines"]] == ["a7", "a6", "a5", "a4", "a3"]
    assert section["more"] == 3


def test_caps_before_the_renewal_are_listed() -> None:
    near = make_standing("near", renewal_on=date(2026, 11, 28), mrr=Decimal(9))
    other = (
        make_standing("renewed before", renewal_on=date(2026, 11, 27)),
        make_standing("no renewal"),
        make_standing("not in this period", renewal_on=date(2027, 1, 1), hits_cap_in_period=False),
    )

    assert sections(digest(make_crossing(), accounts=(near, *other))) == {
        "Will use up the quota before the renewal": [
            "near: 812,345 / 1,000,000 (81.2 %), Fri 27 Nov, renews 28 Nov 2026, MRR 9.00"
        ]
    }


def test_dropping_accounts_are_listed_for_customer_success() -> None:
    rows = (
        make_standing("small", momentum_word="dropping", momentum_7d=Decimal("-80.25")),
        make_standing("large", momentum_word="dropping", momentum_7d=Decimal(-51), mrr=Decimal(900), csm="omar"),
    )

    assert sections(digest(make_crossing(), accounts=rows)) == {
        "Dropping: less than half the calls of the week before": [
            "large: -51.0 % in 7 days, MRR 900.00, CSM omar",
            "small: -80.3 % in 7 days",
        ]
    }


def key(account: str, quota: int, period_start: datetime = NOVEMBER) -> tuple[str, str, datetime, int, str]:
    return (account, "api-calls", period_start, quota, "80%")


RAISED = {
    "severity": "ok",
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
        make_standing("told yesterday", **{**RAISED, "quota_since": THURSDAY - timedelta(seconds=1)}),
        make_standing("crossed again", **{**RAISED, "severity": "warm"}),
        make_standing("had not crossed", **RAISED),
        make_standing("had crossed last month", **RAISED),
        make_standing("lowered", **{**RAISED, "quota": 400_000}),
    )
    announced = {key(row["account_id"], 500_000) for row in rows if not row["account_id"].startswith("had")}
    announced.add(key("had crossed last month", 500_000, NOVEMBER - timedelta(days=31)))
    shown = digest(accounts=rows, announced=frozenset(announced))

    assert sections(shown)["Resolved: the quota was raised"] == [
        "raised: 500,000 to 1,000,000 on 19 Nov, now 45.0 %, MRR 9.00",
        "freed: 500,000 to unlimited on 19 Nov",
    ]


# The footer, and no digest at all


def test_footer_counts_what_the_figures_lack() -> None:
    assert digest()["footer"] == [
        "Data through 20 Nov 07:58 CET",
        "as of 20 Nov 08:00 CET",
        "99.98 % of all lines count",
        "1,204 lines rejected",
        "0 ids with usage but no account",
        "12 accounts at 80 % or above",
        "0 accounts with usage but no quota",
        "not billed: 1 account with usage but no Stripe customer",
    ]


@pytest.mark.parametrize(
    ("standing", "said"),
    [
        (None, "nothing is sent to Stripe"),
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
    )["footer"]

    assert footer[0] == "No usage yet"
    assert {
        "1 line rejected",
        "2 accounts blocked (quota 0) but calling",
        "1 account of them without an owner",
        "3 events of a meter that is not in meters.csv",
        "1,200 ids with usage but no account",
    } < set(footer)
    assert not any("of all lines" in line for line in footer)


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
    assert "1 line rejected, about 95 events" in digest(rejected_lines=1, lost_events=95)["footer"]
    assert "3 lines rejected" in digest(rejected_lines=3, lost_events=3)["footer"]


def test_links_are_as_they_are_given() -> None:
    assert digest(links={"this run": "https://d/runs/1"})["links"] == [{"text": "this run", "url": "https://d/runs/1"}]


def test_stale_data_is_reported_with_its_age() -> None:
    old = {**QUALITY, "data_through": datetime(2026, 11, 19, 5, tzinfo=UTC), "hours_since_call": 26}

    assert stale_line({**old, "hours_since_call": 25}, 26, FRIDAY, BERLIN) is None
    assert str(stale_line(old, 26, FRIDAY, BERLIN)).startswith(
        "No usage digest for 2026-11-20 yet: the newest call is of Thu 19 Nov 06:00 CET, 26 hours old (stale from 26)."
    )
    assert "no call has come yet" in str(stale_line({**old, "hours_since_call": None}, 26, FRIDAY, BERLIN))
