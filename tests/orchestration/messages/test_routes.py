from collections.abc import Sequence
from datetime import UTC, datetime, time
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from orchestration.channels.vendors import vendor
from orchestration.messages import routes
from orchestration.messages.cuts import cuts, of_lines, subjects, taking
from orchestration.messages.message import Line, Message, Section, of_json, to_json
from orchestration.messages.routes import BUILT_IN, Route, RoutesError, parse, read

BERLIN = ZoneInfo("Europe/Berlin")
FILE = """
    [[route]]
    name = "enterprise"
    takes = ["digest", "critical"]
    where = { segment = "enterprise", plan = ["Pro", "Team"] }
    channel = "slack"
    to = "C0ENTERPRISE"
    quiet_hours = "20:00-07:00"
    stop = true

    [[route]]
    name = "owners"
    takes = "digest"
    channel = "slack"
    to_column = "owner"
"""


def line(account: str, text: str = "82 %") -> Line:
    return Line(text, name=account.title(), account_id=account, meter="api-calls")


def weekly() -> Message:
    dropping = Section("Dropping (2)", [line("acme"), line("birch")])
    return Message(
        "weekly|2026-W47", "cs", "Weekly usage", "Week 47: 3 changed", [dropping, Section("New (1)", [line("cedar")])]
    )


FACTS = {
    ("acme", "api-calls"): {"account_id": "acme", "segment": "enterprise", "plan": "pro", "owner": "ingrid@x.com"},
    ("birch", "api-calls"): {"account_id": "birch", "segment": "enterprise", "plan": "free", "owner": "ingrid@x.com"},
    ("cedar", "api-calls"): {"account_id": "cedar", "segment": "startup", "plan": "pro", "owner": None},
}


def names(found: Sequence[Route]) -> list[str]:
    return [route.name for route in found]


def test_routes_are_read_in_their_order_and_the_built_in_one_is_last(tmp_path: Path) -> None:
    file = tmp_path / "routes.toml"
    assert read(file, vendor) == [BUILT_IN]

    file.write_text(FILE)
    first, second, last = read(file, vendor)

    assert (first.where, first.to, first.quiet_hours) == (
        {"segment": ("enterprise",), "plan": ("Pro", "Team")},
        "C0ENTERPRISE",
        (time(20), time(7)),
    )
    assert (second.name, second.takes, second.to_column, second.stop) == ("owners", ("digest",), "owner", False)
    assert last is BUILT_IN


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (('name = "owners"', 'name = "Owners"'), "route 'Owners': name has to be small letters"),
        (('name = "owners"', 'name = "slack"'), "two routes are called 'slack'"),
        (('takes = "digest"', 'takes = "digests"'), "takes is a list of digest, weekly"),
        (('takes = "digest"', 'takes = ["digest", "failure"]'), "failure are not about accounts"),
        (('to_column = "owner"', 'to_column = "boss"'), "to_column is one of owner, csm"),
        (('to_column = "owner"', 'to_column = "owner"\nto = "C1"'), "it has to and to_column"),
        (('to_column = "owner"', 'to_column = "contact_email"'), "customers get crossing and limit_hit alone"),
        (('to_column = "owner"', 'to_column = "owner"\nmode = "send"'), "mode is for routes to customers"),
        (("segment =", "size ="), "where.size means nothing here; there are segment, owner"),
        (('"enterprise",', "[],"), "where has texts or lists of them"),
        (('"20:00-07:00"', '"20-7"'), "quiet_hours is a range of the business zone"),
        (('"20:00-07:00"', '"20:00-20:00"'), "quiet_hours is a range of the business zone"),
        (("stop = true", 'when = "morning"'), "when is for crossing and limit_hit alone"),
        (("stop = true", "at_most_per_day = 0"), "at_most_per_day is a whole number from 1 on"),
        (("stop = true", 'promise = "at_least_once"'), "Slack can promise exactly_once, not 'at_least_once'"),
        (("stop = true", 'colour = "red"'), "'colour' means nothing here"),
        (("stop = true", "options = { colour = 'red' }"), "options.colour means nothing to Slack"),
        (('channel = "slack"', 'channel = "pigeon"'), "there is no channel 'pigeon'"),
        (("[[route]]", "[route]"), "is not TOML"),
        (("[[route]]", "[[routes]]"), "'routes' means nothing here; each route begins with [[route]]"),
    ],
)
def test_mistake_is_a_sentence_with_its_remedy(change: tuple[str, str], sentence: str) -> None:
    with pytest.raises(RoutesError) as caught:
        parse(FILE.replace(*change), vendor)

    assert any(sentence in problem for problem in caught.value.problems), caught.value.problems


def test_customers_get_mail_only_when_their_segment_is_named() -> None:
    route = 'name = "c"\ntakes = "crossing"\nchannel = "slack"\nto_column = "contact_email"\nmode = "send"'
    with pytest.raises(RoutesError, match=r"needs where\.segment"):
        parse(f"[[route]]\n{route}", vendor)

    [found] = parse(f'[[route]]\n{route}\nwhere = {{ segment = "startup" }}', vendor)

    assert (found.is_to_customers, found.mode, found.at_most_per_day) == (True, "send", 1)


def test_route_to_customers_has_thresholds_and_an_unsubscribe_page() -> None:
    text = """
        [[route]]
        name = "customers"
        takes = "crossing"
        channel = "slack"
        to_column = "contact_email"
    """
    page = 'options = { unsubscribe = "https://example.com/notices" }'

    [route] = parse(text + page, vendor)
    [named] = parse(text + 'where = { threshold = "90%" }', vendor)

    assert (route.where["threshold"], route.at_most_per_day) == (("80%", "100%", "120%"), 1)
    assert (route.is_drafted, named.where["threshold"]) == (True, ("90%",))
    for wrong, said in (
        (text.replace("contact_email", "owner") + page, "options.unsubscribe means nothing to Slack"),
        (text + page.replace("https", "http"), "begins with mailto: or https://"),
    ):
        with pytest.raises(RoutesError, match=said):
            parse(wrong, vendor)


def test_message_takes_every_route_up_to_one_that_stops() -> None:
    found = [*parse(FILE, vendor), BUILT_IN]

    assert names(taking(found, "digest", has_slack=True)) == ["enterprise"]
    assert names(taking(found[1:], "digest", has_slack=True)) == ["owners", "slack"]
    assert names(taking(found, "run_failure", has_slack=True)) == ["slack"]
    assert names(taking(found, "crossing", has_slack=True)) == []


def test_built_in_route_is_left_out_beside_others_when_slack_is_not_set_up() -> None:
    found = [*parse(FILE, vendor)[1:], BUILT_IN]

    assert names(taking(found, "digest", has_slack=False)) == ["owners"]
    assert names(taking(found, "weekly", has_slack=False)) == ["slack"]


def test_route_gets_the_accounts_that_it_is_for() -> None:
    [route] = [each for each in parse(FILE, vendor) if each.where]

    [cut] = cuts([route], weekly(), FACTS, of_lines(weekly()))

    assert subjects(cut.message) == {("acme", "api-calls")}
    assert [section.heading for section in cut.message.sections] == ["Dropping (1)"]
    assert cut.message.headline == "Acme · 82 %"
    assert cut.key("local|weekly|2026-W47") == "local|weekly|2026-W47|enterprise"


def test_each_address_gets_its_own_accounts_and_no_address_is_made_up() -> None:
    [route] = [each for each in parse(FILE, vendor) if each.to_column]

    [cut] = cuts([route], weekly(), FACTS, of_lines(weekly()))

    assert (cut.to, subjects(cut.message)) == ("ingrid@x.com", {("acme", "api-calls"), ("birch", "api-calls")})
    assert cut.key("local|weekly|2026-W47") == "local|weekly|2026-W47|owners/ingrid@x.com"


def test_route_without_any_of_its_accounts_gets_nothing() -> None:
    route = Route("eu", ("weekly",), "slack", "C1", where={"segment": ("government",)})

    assert list(cuts([route], weekly(), FACTS, of_lines(weekly()))) == []


@pytest.mark.parametrize(
    ("hours", "at", "until"),
    [
        ((time(20), time(7)), "2026-11-20T19:30:00+01:00", None),
        ((time(20), time(7)), "2026-11-20T20:00:00+01:00", "2026-11-21T07:00:00+01:00"),
        ((time(20), time(7)), "2026-11-21T06:59:59+01:00", "2026-11-21T07:00:00+01:00"),
        ((time(20), time(7)), "2026-11-21T07:00:00+01:00", None),
        ((time(12), time(14)), "2026-11-20T13:00:00+01:00", "2026-11-20T14:00:00+01:00"),
        # in the night when the clocks go forward, 03:30 is half an hour after 01:59
        ((time(22), time(3, 30)), "2026-03-29T00:30:00+01:00", "2026-03-29T03:30:00+02:00"),
    ],
)
def test_quiet_hours_are_of_the_business_zone(hours: tuple[time, time], at: str, until: str | None) -> None:
    route = Route("quiet", ("digest",), "slack", quiet_hours=hours)

    found = route.not_before(datetime.fromisoformat(at).astimezone(UTC), BERLIN)

    assert found == (datetime.fromisoformat(until) if until else None)


def test_message_is_the_same_after_it_was_in_the_ledger() -> None:
    kept = to_json(weekly())

    assert of_json(kept).lines == weekly().lines
    assert to_json(of_json(kept)) == kept
    assert routes.trial(BUILT_IN, datetime(2026, 11, 20, tzinfo=UTC)).key == "test|2026-11-20T00:00:00.000000Z"


def test_message_about_many_accounts_is_short_in_the_ledger_and_says_so() -> None:
    many = Section("Dropping (5,000)", [line(f"account{number}") for number in range(5_000)])
    message = Message("weekly|2026-W47", "cs", "Weekly usage", "Week 47: 5,000 dropping", [many])

    kept = of_json(to_json(message))

    assert (len(kept.sections[0].lines), kept.sections[0].more) == (200, 4_800)
    assert kept.lines == message.lines
    assert [len(message.lines), message.lines[-1]] == [13, "… and 4,990 more"]
