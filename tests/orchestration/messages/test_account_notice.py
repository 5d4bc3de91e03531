"""Which crossings are news for a route, what its alerts and its letters say, and whom they never reach."""

import json
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestration.messages import account_notice, customer_notice, notice_wording
from orchestration.messages.account_notice import CROSSING, LIMIT_HIT, Memory, Outcome, Verdict
from orchestration.messages.email_draft import DraftError
from orchestration.messages.message import Message, to_json
from orchestration.messages.routes import CUSTOMER_THRESHOLDS, Route
from tests.support.notice_world import NOON, make_notice_crossing

BERLIN = ZoneInfo("Europe/Berlin")
START = NOON - timedelta(days=2)
TEAM = Route("team", ("crossing",), "slack", "C0TEAM")
BOTH = Route("both", ("crossing", "limit_hit"), "slack", "C0TEAM")
CUSTOMERS = Route(
    "customers",
    ("crossing", "limit_hit"),
    "email",
    to_column="contact_email",
    where={"threshold": CUSTOMER_THRESHOLDS},
    at_most_per_day=1,
)


def make_memory(**fields: Any) -> Memory:
    known: dict[str, Any] = {"since": START, "decided": set(), "sent_today": {}, "unsubscribed": set()}
    return Memory(**{**known, **fields})


def judge(route: Route, *rows: dict[str, Any], as_of: datetime = NOON, **memory: Any) -> list[Verdict]:
    found = list(account_notice.candidates(route, [], rows))
    return account_notice.judge(route, found, make_memory(**memory), as_of, BERLIN)


def outcomes(verdicts: list[Verdict]) -> list[tuple[str, str]]:
    return [(each.row["threshold"], str(each.outcome)) for each in verdicts]


# What is news


def test_highest_threshold_alone_is_announced_and_the_others_are_recorded() -> None:
    rows = [make_notice_crossing(threshold=each, used=1_210_000) for each in ("80%", "95%", "100%", "120%")]

    verdicts = judge(TEAM, *rows)

    assert outcomes(verdicts) == [
        ("120%", "announced"),
        ("100%", "superseded"),
        ("95%", "superseded"),
        ("80%", "superseded"),
    ]


def test_threshold_is_announced_once_and_again_under_a_new_quota() -> None:
    row = make_notice_crossing(threshold="95%")
    again = make_notice_crossing(threshold="95%", quota=2_000_000, used=1_950_000)

    assert judge(TEAM, row, decided={account_notice.crossing_key(row)}) == []
    assert outcomes(judge(TEAM, row, again, decided={account_notice.crossing_key(row)})) == [("95%", "announced")]


def test_lower_threshold_that_comes_late_is_superseded() -> None:
    above = make_notice_crossing(threshold="95%")

    verdicts = judge(TEAM, above, make_notice_crossing(), decided={account_notice.crossing_key(above)})

    assert outcomes(verdicts) == [("80%", "superseded")]


def test_crossing_of_before_the_route_is_recorded_and_not_announced() -> None:
    verdicts = judge(TEAM, make_notice_crossing(crossed_at=START), make_notice_crossing("b", crossed_at=NOON))

    assert [(each.row["account_id"], each.outcome) for each in verdicts] == [
        ("acme", Outcome.BEFORE_ROUTE),
        ("b", Outcome.ANNOUNCED),
    ]


def test_threshold_whose_pace_matters_waits_unless_the_route_names_it() -> None:
    slow = make_notice_crossing(pace_matters=True, hits_cap_in_period=False)
    named = Route("named", ("crossing",), "slack", "C0", where={"threshold": ("80%",)})

    assert judge(TEAM, slow) == []
    assert outcomes(judge(TEAM, {**slow, "hits_cap_in_period": True})) == [("80%", "announced")]
    assert outcomes(judge(named, slow)) == [("80%", "announced")]


def test_threshold_outside_the_digest_is_news_where_a_route_names_it() -> None:
    row = make_notice_crossing(threshold="90%", is_in_digest=False)
    named = Route("named", ("crossing",), "slack", "C0", where={"threshold": ("90%",)})

    assert judge(TEAM, row) == []
    assert outcomes(judge(named, row, make_notice_crossing())) == [("90%", "announced")]


def test_period_that_is_over_is_news_for_a_day_and_never_for_a_customer() -> None:
    ended = {"is_current_period": False, "period_start": datetime(2026, 10, 1, tzinfo=UTC)}
    row = make_notice_crossing(**ended, crossed_at=datetime(2026, 10, 31, 23, 50, tzinfo=UTC))
    row["period_end"] = datetime(2026, 11, 1, tzinfo=UTC)
    soon, memory = datetime(2026, 11, 1, 0, 10, tzinfo=UTC), {"since": datetime(2026, 10, 1, tzinfo=UTC)}

    assert outcomes(judge(TEAM, row, as_of=soon, **memory)) == [("80%", "announced")]
    assert outcomes(judge(TEAM, row, as_of=soon + timedelta(days=1), **memory)) == [("80%", "period_over")]
    assert outcomes(judge(CUSTOMERS, row, as_of=soon, **memory)) == [("80%", "period_over")]


@pytest.mark.parametrize(
    ("where", "is_for"),
    [
        ({"segment": ("smb",)}, True),
        ({"segment": ("enterprise",)}, False),
        ({"threshold": ("80%", "90%")}, True),
        ({"threshold": ("95%",)}, False),
        ({"owner": ("DANA.REYES@example.com",)}, True),
        ({"plan": ("pro",)}, False),
        ({"advice": ("tell_overage",)}, True),
        ({"account": ("acme",), "meter": ("api-calls",)}, True),
    ],
)
def test_route_takes_the_accounts_and_thresholds_that_it_is_for(where: dict[str, Any], is_for: bool) -> None:
    route = Route("some", ("crossing",), "slack", "C0", where=where)

    assert bool(judge(route, make_notice_crossing())) is is_for


def test_what_a_route_with_stop_is_for_goes_no_further() -> None:
    first = Route("first", ("crossing",), "slack", "C0", where={"account": ("acme",)}, stop=True)
    rows = [make_notice_crossing(), make_notice_crossing("b")]

    assert [row["account_id"] for _, row in account_notice.candidates(TEAM, [first], rows)] == ["b"]


def test_internal_and_test_accounts_are_recorded_and_not_announced() -> None:
    rows = [make_notice_crossing("a", is_internal=True), make_notice_crossing("b", is_test=True)]

    assert [each.outcome for each in judge(TEAM, *rows)] == [Outcome.INTERNAL] * 2


# When


def test_morning_route_decides_from_8am_on_what_was_crossed_before() -> None:
    route = Route("calm", ("crossing",), "slack", "C0", when="morning")
    row = make_notice_crossing(crossed_at=datetime(2026, 11, 20, 11, tzinfo=UTC))
    eight = datetime(2026, 11, 21, 7, tzinfo=UTC)  # in Berlin

    assert judge(route, row) == []
    assert judge(route, row, as_of=eight - timedelta(minutes=5)) == []
    assert outcomes(judge(route, row, as_of=eight)) == [("80%", "announced")]
    assert outcomes(judge(route, row, as_of=eight + timedelta(hours=9))) == [("80%", "announced")]


def test_message_over_the_days_limit_waits_for_the_next_days_highest() -> None:
    route = Route("few", ("crossing",), "slack", "C0", at_most_per_day=1)
    first = make_notice_crossing()
    later = [make_notice_crossing(threshold=each, used=1_000_000) for each in ("95%", "100%")]
    decided = {account_notice.crossing_key(first)}

    assert judge(route, first, *later, decided=decided, sent_today={"acme": 1}) == []
    assert outcomes(judge(route, first, *later, decided=decided)) == [("100%", "announced"), ("95%", "superseded")]


def test_days_limit_counts_the_messages_of_one_look_over_all_meters() -> None:
    route = Route("few", ("crossing",), "slack", "C0", at_most_per_day=1)
    rows = [make_notice_crossing(), make_notice_crossing(meter="tokens"), make_notice_crossing("b")]

    announced = [(each.row["account_id"], each.row["meter"]) for each in judge(route, *rows)]

    assert announced == [("acme", "api-calls"), ("b", "api-calls")]


# Limit hits


def test_limit_hit_is_the_crossing_of_the_whole_quota_once() -> None:
    hits = Route("hits", ("limit_hit",), "slack", "C0")
    rows = [make_notice_crossing(threshold=each, used=1_000_000) for each in ("95%", "100%")]

    [verdict] = judge(hits, *rows)
    kinds = [(each.kind, each.outcome) for each in judge(BOTH, *rows)]

    assert (verdict.kind, verdict.row["threshold"]) == (LIMIT_HIT, "100%")
    assert kinds == [(LIMIT_HIT, Outcome.ANNOUNCED), (CROSSING, Outcome.SUPERSEDED)]


def test_report_of_the_customers_own_system_is_a_limit_hit_and_no_crossing() -> None:
    reported = make_notice_crossing(threshold="100%", used=950_000, is_reported=True)
    counted = make_notice_crossing(threshold="100%", used=1_000_000)

    [verdict] = judge(BOTH, reported)

    assert verdict.kind == LIMIT_HIT
    assert judge(TEAM, reported) == judge(CUSTOMERS, reported) == []
    assert judge(BOTH, counted, decided={verdict.key}) == []


# Customers


@pytest.mark.parametrize(
    ("fields", "outcome"),
    [
        ({}, Outcome.ANNOUNCED),
        ({"is_trial": True}, Outcome.TRIAL),
        ({"is_internal": True}, Outcome.INTERNAL),
        ({"is_test": True}, Outcome.INTERNAL),
        ({"is_retry_storm": True, "advice": "call_upgrade"}, Outcome.RETRY_STORM),
        ({"is_retry_storm": True, "advice": "help_first"}, Outcome.ANNOUNCED),
        ({"contact_email": None}, Outcome.NO_ADDRESS),
        ({"contact_email": "  "}, Outcome.NO_ADDRESS),
        ({"contact_email": "nobody"}, Outcome.NO_ADDRESS),
        ({"contact_email": "a@b.example\nBcc: all@b.example"}, Outcome.NO_ADDRESS),
        ({"contact_email": "a@b.example, c@d.example"}, Outcome.NO_ADDRESS),
        ({"contact_email": "GONE@Acme.example"}, Outcome.UNSUBSCRIBED),
    ],
    ids=str,
)
def test_customer_gets_a_letter_only_where_nothing_speaks_against_it(fields: dict[str, Any], outcome: Outcome) -> None:
    [verdict] = judge(CUSTOMERS, make_notice_crossing(**fields), unsubscribed={"gone@acme.example"})

    assert verdict.outcome is outcome
    assert bool(verdict.to) is (outcome is Outcome.ANNOUNCED)


def test_customer_hears_of_80_100_and_120_percent_alone() -> None:
    rows = [make_notice_crossing(str(each), f"{each}%") for each in (50, 80, 95, 100, 120)]

    assert sorted(each.row["threshold"] for each in judge(CUSTOMERS, *rows)) == ["100%", "120%", "80%"]


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["acme", "beta"]),
            st.sampled_from(["80%", "95%", "100%", "120%"]),
            st.integers(min_value=1, max_value=100),
        ),
        max_size=12,
    ),
    st.lists(st.integers(min_value=0, max_value=110), max_size=8),
    st.sampled_from([1, 2]),
)
def test_looks_at_any_hours_announce_once_upwards_and_within_limits(
    crossed: list[tuple[str, str, int]], looks: list[int], most: int
) -> None:
    route = Route("few", ("crossing",), "slack", "C0", at_most_per_day=most)
    first: dict[tuple[str, str], int] = {}
    for account, threshold, hour in crossed:
        first[account, threshold] = min(hour, first.get((account, threshold), hour))
    decided: dict[Any, Verdict] = {}
    told: list[tuple[str, int, int]] = []
    for hour in sorted({*looks, *range(110, 400, 24)}):
        rows = [
            make_notice_crossing(account, threshold, crossed_at=START + timedelta(hours=at))
            for (account, threshold), at in first.items()
            if at <= hour
        ]
        as_of = START + timedelta(hours=hour)
        day = as_of.astimezone(BERLIN).toordinal()
        today = [account for account, on, _ in told if on == day]
        sent = {account: today.count(account) for account in today}
        for each in judge(route, *rows, as_of=as_of, decided=set(decided), sent_today=sent):
            assert each.key not in decided
            decided[each.key] = each
            if each.outcome is Outcome.ANNOUNCED:
                told.append((each.row["account_id"], day, int(each.row["threshold"][:-1])))

    assert len(decided) == len(first)  # nothing vanishes
    for account in ("acme", "beta"):
        heights = [height for name, _, height in told if name == account]
        assert heights == sorted(set(heights))
        assert (max(heights) if heights else 0) == max(
            [int(threshold[:-1]) for name, threshold in first if name == account], default=0
        )
        days = [day for name, day, _ in told if name == account]
        assert all(days.count(day) <= most for day in days)


# Keys and terms


@given(account=st.text(min_size=1), meter=st.text(min_size=1))
def test_key_has_seven_parts_whatever_an_id_holds(account: str, meter: str) -> None:
    row = make_notice_crossing(account, meter=meter)

    key = account_notice.message_key(TEAM, Verdict(row, CROSSING, Outcome.ANNOUNCED))

    assert key.split("|")[0::6] == ["crossing", "team"]
    assert len(key.split("|")) == 7
    assert len(key) < 250
    assert key.isprintable()


def test_keys_of_odd_ids_are_distinct_and_plain_ones_are_readable() -> None:
    def key(account: str) -> str:
        return account_notice.message_key(TEAM, Verdict(make_notice_crossing(account), CROSSING, Outcome.ANNOUNCED))

    assert key("acme") == "crossing|acme|api-calls|2026-11-01T00:00:00Z|1000000|80%|team"
    assert len({key(each) for each in ("a|b", "a/b", "a b", "~a", "x" * 1024, "x" * 1023)}) == 6


def test_terms_change_with_what_a_route_is_for() -> None:
    rules = [{"plan": None, "meter": None, "threshold_pct": 80, "threshold_units": None, "is_in_digest": True}]
    narrow = Route("team", ("crossing",), "slack", "C0TEAM", where={"plan": ("pro",)})
    moved = Route("team", ("crossing",), "slack", "C0OTHER", quiet_hours=None)
    stops = Route("first", ("crossing",), "slack", "C0", stop=True)

    before = account_notice.terms(TEAM, [], rules)

    assert account_notice.terms(moved, [], rules) == before
    assert account_notice.terms(narrow, [], rules) != before
    assert account_notice.terms(TEAM, [stops], rules) != before
    assert account_notice.terms(TEAM, [], [*rules, {**rules[0], "threshold_pct": 90}]) != before


# What colleagues read


def notice_of(kind: str = CROSSING, is_shared: bool = False, **fields: Any) -> Message:
    row = make_notice_crossing(**{"account_name": "Pioneer", "limit_kind": "hard", **fields})
    return notice_wording.notice(
        "key",
        kind,
        notice_wording.of_account(row, row),
        NOON,
        BERLIN,
        "https://crm.example/{account_id}",
        is_shared=is_shared,
    )


def test_alert_says_who_how_far_what_happens_and_whose_it_is() -> None:
    message = notice_of(cost_of_waiting="will be blocked", next_step="Call this week. It pays.", severity="high")

    assert message.title == "Quota alert · Fri 20 Nov 13:00 CET"
    assert message.headline == (
        "Pioneer crossed 80 % today 12:00: 801 k / 1.0 M (80 %), runs out Fri 27 Nov, then calls are refused"
    )
    [line] = message.sections[0].lines
    assert line.text == "801,234 / 1,000,000 calls (80.1 %) · resets Tue 01 Dec 01:00 · Call this week. It pays"
    assert (line.owner, line.owner_name, line.name) == ("dana.reyes@example.com", "Dana Reyes", "Pioneer")
    assert (line.url, line.account_id, line.meter) == ("https://crm.example/acme", "acme", "api-calls")
    assert message.severity == "high"


def test_alert_is_for_whom_the_advice_names() -> None:
    [line] = notice_of(advice_owner="cee@example.com").sections[0].lines

    assert (line.owner, line.owner_name) == ("cee@example.com", "Cee")


def test_alert_in_a_customers_channel_has_no_advice() -> None:
    said = json.dumps(to_json(notice_of(is_shared=True, next_step="Call, offer Scale", mrr=Decimal(7_777))))

    assert "offer" not in said
    assert "777" not in said


def test_limit_hit_says_that_calls_are_refused_or_overage_starts() -> None:
    full = {"threshold": "100%", "used": 1_000_000}

    hard = notice_of(LIMIT_HIT, **full)
    soft = notice_of(LIMIT_HIT, **full, limit_kind="soft", cost_of_waiting="overage starts")
    told = notice_of(LIMIT_HIT, threshold="100%", used=950_000, is_reported=True)

    assert hard.title.startswith("Limit reached · ")
    assert (
        hard.headline == "Pioneer reached its quota today 12:00: 1.0 M / 1.0 M (100 %), out of quota, calls are refused"
    )
    assert soft.headline.endswith("quota used up, overage starts")
    assert told.headline.startswith("Pioneer reached its limit today 12:00, by its own system: 950 k / 1.0 M (95 %)")
    assert told.sections[0].lines[0].text.startswith("counted here: 950,000 / 1,000,000 calls")


# What customers read


def letter_of(route: Route = CUSTOMERS, kind: str = CROSSING, folder: Path | None = None, **fields: Any) -> Message:
    row = make_notice_crossing(**{"account_name": "Acme", "limit_kind": "hard", **fields})
    whole = notice_wording.of_account(row, row)
    return customer_notice.letter("key", kind, whole, route, NOON, BERLIN, folder)


def test_letter_has_the_customers_own_numbers_and_an_address_to_answer_to() -> None:
    letter = letter_of(owner="ingrid.lund@example.com")

    assert letter.title == "Acme: 801,234 of 1,000,000 calls used"
    assert letter.body == (
        "Hello Anna,\n\n"
        "Your account has used 801,234 of its 1,000,000 calls (80.1 %) for the period until 30 November. At the current"
        " rate you will reach your quota on Friday, 27 November. From then on, further calls are refused.\n\n"
        "Reply to this message if you have a question, or would like a larger quota.\n\n"
        "Kind regards\nIngrid Lund"
    )
    assert (letter.reply_to, letter.audience) == ("ingrid.lund@example.com", "customer")
    assert letter.unsubscribe == "mailto:ingrid.lund@example.com?subject=unsubscribe"


def test_letter_names_the_page_where_a_route_has_one() -> None:
    route = Route(
        "c", ("crossing",), "email", to_column="contact_email", options={"unsubscribe": "https://x.example/u"}
    )

    letter = letter_of(route)

    assert letter.unsubscribe == "https://x.example/u"
    assert "unsubscribe" not in letter.body  # the channel names it


FULL: dict[str, Any] = {"threshold": "100%", "used": 1_000_000}
OFFER: dict[str, Any] = {"advice": "offer_upgrade", "next_plan": "scale", "is_refused_on_next_plan": False}


@pytest.mark.parametrize(
    ("fields", "said", "unsaid"),
    [
        (FULL, "further calls are refused until the period ends", "overage"),
        ({**FULL, "limit_kind": "soft", "cost_of_waiting": "overage starts"}, "are billed as overage", "refused"),
        ({**FULL, "limit_kind": "throttle"}, "further calls are slowed down until the period ends", "refused"),
        ({**FULL, "limit_kind": "monitor"}, "Your quota is used up.", "overage"),
        ({**FULL, "reasons": "served_past_limit"}, "Your quota is used up.", "refused"),
        ({**OFFER, "situation": "upgrade_cheaper"}, "The scale plan would cost you less.", "room"),
        ({**OFFER, "situation": "refused_soon"}, "The scale plan has room for this.", "less"),
        ({**OFFER, "advice": "do_not_pitch"}, "if you have a question", "scale"),
        ({**OFFER, "advice": "help_first", "is_retry_storm": True}, "help you find the cause", "scale"),
        ({"owner": None}, "“unsubscribe”", "Dana"),
        ({"meter": "seats", "unit": "seats", "used": 50, "quota": 50}, "uses 50 of its 50 seats", "period"),
    ],
    ids=str,
)
def test_letter_says_what_the_limit_does_and_offers_what_is_advised(
    fields: dict[str, Any], said: str, unsaid: str
) -> None:
    body = letter_of(**fields).body

    assert said in body
    assert unsaid not in body


def test_letter_of_a_template_of_ones_own_and_its_mistakes(tmp_path: Path) -> None:
    route = Route("c", ("crossing",), "email", to_column="contact_email", template="mine.txt")
    (tmp_path / "mine.txt").write_text("Subject: {{ account }} at {{ threshold }}\n\nDear {{ greeting }}\n")

    letter = letter_of(route, folder=tmp_path, account_name="A\r\nBcc: x@y.example")

    assert (letter.title, letter.body) == ("A Bcc: x@y.example at 80 %", "Dear Anna")
    for text, said in (
        ("Subject: x\n\n{{ mrr }}", "'mrr' is undefined"),
        ("Hello", "has to begin with 'Subject: '"),
        ("Subject: x\n\n{% if %}", "line 3"),
        ("Subject: x\n\n{{ account.__class__.__mro__ }}", "unsafe"),
    ):
        (tmp_path / "mine.txt").write_text(text)
        with pytest.raises(DraftError, match="no letter of the route 'c'") as caught:
            letter_of(route, folder=tmp_path)
        assert said in str(caught.value)
