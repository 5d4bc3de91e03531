"""Routes: which message goes to whom, by which channel, when. The file is `routes.toml` in the data folder.

The words of the file and their meaning are here, without any channel and without the clock. What a route sends of a
message is in cuts.py; docs/messages/routes.md has examples.
"""

import re
import tomllib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, time, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from orchestration.ledger.outbox import Promise
from orchestration.messages.message import Message
from orchestration.messages.vendor import Vendor

TAKES: Mapping[str, Sequence[str]] = {
    "digest": ("digest",),
    "weekly": ("weekly",),
    "monthly": ("monthly",),
    "critical": ("critical",),
    "crossing": ("crossing",),
    "limit_hit": ("limit_hit",),
    "stale": ("stale_data",),
    "failure": ("run_failure", "failing", "overdue"),
    "billing_problem": ("invoice",),
}
"""What a route may take, and the kinds of messages that this is: the second part of their keys."""
OF_ACCOUNTS = ("digest", "weekly", "monthly", "critical", "crossing", "limit_hit")
"""Of these a route may take the part of some accounts."""
BY_ROUTE = ("crossing", "limit_hit")
"""These are decided for each route by itself, with a message for each account; the built-in route takes none."""
FILTERS = ("segment", "owner", "plan", "meter", "limit_kind", "threshold", "advice", "account")
COLUMNS = ("owner", "csm", "contact_email", "slack_channel")
"""Of an account, that may be an address."""
CUSTOMER = "contact_email"
CUSTOMER_THRESHOLDS = ("80%", "100%", "120%")
"""Of routes to customers that name none."""
CUSTOMER_OPTIONS = {"unsubscribe": "where customers say that they want no more: mailto:… or https://…"}
"""Options of routes to customers, whatever their channel."""
AT_ONCE, MORNING = "at once", "morning"
_KEYS = {
    *("name", "takes", "where", "channel", "to", "to_column", "when", "quiet_hours", "at_most_per_day", "template"),
    *("promise", "stop", "mode", "options"),
}


class RoutesError(ValueError):
    """The file cannot be used. `problems` has a sentence for each mistake."""

    def __init__(self, problems: Sequence[str]) -> None:
        super().__init__(". ".join(problems))
        self.problems = list(problems)


@dataclass(frozen=True)
class Route:
    """One way for messages."""

    name: str
    takes: Sequence[str]
    channel: str
    """The vendor: a name of channels/vendors.py."""
    to: str = ""
    """The address; empty where the vendor's secret has it, or `to_column` is set."""
    to_column: str = ""
    """The column of an account that is the address: each address gets the part of its accounts."""
    where: Mapping[str, Sequence[str]] = field(default_factory=dict)
    """Values by filter; an account has to have one of each."""
    when: str = AT_ONCE
    quiet_hours: tuple[time, time] | None = None
    """In the business zone, from and until."""
    at_most_per_day: int | None = None
    """Messages for one account on one business day."""
    template: str = ""
    promise: Promise | None = None
    """What the route chose; None: the vendor's default."""
    stop: bool = False
    """A message that it took goes no further."""
    mode: str = "draft"
    """Of a route to customers: whether a person sends what is drafted, or Headroom does."""
    options: Mapping[str, str] = field(default_factory=dict)
    is_built_in: bool = False

    @property
    def is_to_customers(self) -> bool:
        return self.to_column == CUSTOMER

    @property
    def is_drafted(self) -> bool:
        """Whether a person releases each of its messages."""
        return self.is_to_customers and self.mode == "draft"

    def takes_kind(self, kind: str) -> bool:
        """Whether messages with that kind in their key take this route."""
        return any(kind in TAKES[word] for word in self.takes)

    def keeps(self, facts: Mapping[str, Any]) -> bool:
        """Whether the account, by its row of `queries.ROUTE_FACTS`, is one of those that the route is for."""
        return all(_matches(facts, name, values) for name, values in self.where.items())

    def not_before(self, at: datetime, zone: ZoneInfo) -> datetime | None:
        """The end of the quiet hours that `at` is in, None outside of them."""
        if self.quiet_hours is None:
            return None
        start, end = self.quiet_hours
        local = at.astimezone(zone)
        now = local.timetz().replace(tzinfo=None)
        is_quiet = start <= now < end if start < end else now >= start or now < end
        if not is_quiet:
            return None
        day = local.date() + timedelta(days=1) if start > end and now >= start else local.date()
        return datetime.combine(day, end, tzinfo=zone).astimezone(at.tzinfo)


BUILT_IN = Route(
    "slack",
    ("digest", "weekly", "monthly", "critical", "stale", "failure", "billing_problem"),
    "slack",
    is_built_in=True,
)
"""The last route: Slack by audience, as the environment sets it up. Without a file it is the only one."""


def read(path: Path, vendor: Callable[[str], Vendor]) -> list[Route]:
    """The routes in their order, the built-in one last.

    :raises RoutesError: the file cannot be read, or says what is not understood.
    """
    if not path.is_file():
        return [BUILT_IN]
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise RoutesError([f"{path} cannot be read ({type(error).__name__}): save it as UTF-8 text"]) from None
    return [*parse(text, vendor, path.name), BUILT_IN]


def parse(text: str, vendor: Callable[[str], Vendor], file: str = "routes.toml") -> list[Route]:
    """The routes that the text names.

    :raises RoutesError: with a sentence for each mistake.
    """
    try:
        tables = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise RoutesError([f"{file} is not TOML: {error}"]) from None
    entries = tables.get("route", [])
    others = sorted(tables.keys() - {"route"})
    problems = [f"{file}: {each!r} means nothing here; each route begins with [[route]]" for each in others]
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise RoutesError([f"{file}: begin each route with [[route]], in double brackets"])
    routes = []
    for number, entry in enumerate(entries, 1):
        label = f"{file}, route {entry.get('name', number)!r}" if "name" in entry else f"{file}, route {number}"
        found = list(_mistakes(entry, vendor))
        problems += [f"{label}: {sentence}" for sentence in found]
        if not found:
            routes.append(_route(entry))
    names = [*(route.name for route in routes), BUILT_IN.name]
    problems += [f"{file}: two routes are called {each!r}; each needs a name of its own" for each in _twice(names)]
    if problems:
        raise RoutesError(problems)
    return routes


def trial(route: Route, at: datetime) -> Message:
    """A message that says that the route works; each moment has its own."""
    return Message(
        key=f"test|{at:%Y-%m-%dT%H:%M:%S.%fZ}",
        audience="data",
        title=f"Test of the route {route.name}",
        headline="Headroom reaches you here. There is nothing to do.",
        footer=[f"Takes {_listed(route.takes)}"],
        is_test=True,
    )


def _mistakes(entry: Mapping[str, Any], vendor: Callable[[str], Vendor]) -> Iterable[str]:
    """What is wrong with an entry, each in a sentence with its remedy."""
    for unknown in sorted(entry.keys() - _KEYS):
        yield f"{unknown!r} means nothing here; there are {_listed(sorted(_KEYS))}"
    name = entry.get("name")
    if not isinstance(name, str) or not re.fullmatch("[a-z0-9][a-z0-9-]{0,39}", name):
        yield "name has to be small letters, digits and hyphens, at most 40"
    takes = _texts(entry.get("takes"))
    if not takes or set(takes) - TAKES.keys():
        yield f"takes is a list of {_listed(TAKES)}"
    if (to := entry.get("to")) is not None and not isinstance(to, str):
        yield "to is a text: the address"
    column = entry.get("to_column", "")
    if column and column not in COLUMNS:
        yield f"to_column is one of {_listed(COLUMNS)}"
    if column and to:
        yield "it has to and to_column: keep one"
    where = entry.get("where", {})
    if not isinstance(where, dict) or any(not _texts(values) for values in where.values()):
        yield 'where has texts or lists of them, such as where = { plan = ["pro", "team"] }'
        where = {}
    for other in sorted(where.keys() - set(FILTERS)):
        yield f"where.{other} means nothing here; there are {_listed(FILTERS)}"
    if (column or where) and (others := [each for each in takes or () if each not in OF_ACCOUNTS]):
        what = "to_column" if column else "where"
        yield f"{_listed(others)} are not about accounts: give them a route of their own, without {what}"
    yield from _of_time(entry, takes or ())
    yield from _of_channel(entry, vendor, bool(to or column))
    if column == CUSTOMER:
        yield from _of_customers(entry, takes or (), where)
    elif "mode" in entry:
        yield 'mode is for routes to customers, with to_column = "contact_email"'


def _of_time(entry: Mapping[str, Any], takes: Sequence[str]) -> Iterable[str]:
    if entry.get("when", AT_ONCE) not in (AT_ONCE, MORNING):
        yield f'when is "{AT_ONCE}" or "{MORNING}": with the 8am run'
    if "quiet_hours" in entry and _hours(entry["quiet_hours"]) is None:
        yield 'quiet_hours is a range of the business zone, such as "20:00-07:00"'
    most = entry.get("at_most_per_day")
    if most is not None and (not isinstance(most, int) or isinstance(most, bool) or most < 1):
        yield "at_most_per_day is a whole number from 1 on"
    others = [each for each in takes if each not in BY_ROUTE]
    for word in ("when", "at_most_per_day", "template"):
        if word in entry and others:
            yield f"{word} is for {_listed(BY_ROUTE)} alone, and the route takes {_listed(others)}"


def _of_channel(entry: Mapping[str, Any], vendor: Callable[[str], Vendor], is_addressed: bool) -> Iterable[str]:
    try:
        found = vendor(str(entry.get("channel")))
    except KeyError:
        yield f"there is no channel {entry.get('channel')!r}; docs/messages/routes.md lists them"
        return
    if found.address and not is_addressed:
        yield f"to is missing: {found.address}"
    promise = entry.get("promise")
    if promise is not None and promise not in list(found.promises):
        yield f"{found.title} can promise {_listed(found.promises)}, not {promise!r}"
    options = entry.get("options", {})
    if not isinstance(options, dict) or any(not isinstance(value, str) for value in options.values()):
        yield "options has a text for each name"
        return
    known_options = {**found.options, **(CUSTOMER_OPTIONS if entry.get("to_column") == CUSTOMER else {})}
    if unknown := sorted(options.keys() - known_options.keys()):
        known = f"; there are {_listed(known_options)}" if known_options else ""
        yield f"options.{unknown[0]} means nothing to {found.title}{known}"


def _of_customers(entry: Mapping[str, Any], takes: Sequence[str], where: Mapping[str, Any]) -> Iterable[str]:
    mode = entry.get("mode", "draft")
    if mode not in ("draft", "send"):
        yield 'mode is "draft" (a person sends) or "send"'
    if mode == "send" and "segment" not in where:
        yield 'mode = "send" needs where.segment: name the segments whose customers get mail'
    options = entry.get("options", {})
    unsubscribe = options.get("unsubscribe") if isinstance(options, dict) else None
    if isinstance(unsubscribe, str) and not re.fullmatch(r"(mailto:[^\s@]+@|https://)\S+", unsubscribe):
        yield "options.unsubscribe begins with mailto: or https://"
    if set(takes) - set(BY_ROUTE):
        yield f"customers get {_listed(BY_ROUTE)} alone"


def _route(entry: Mapping[str, Any]) -> Route:
    where = {name: _texts(values) or () for name, values in entry.get("where", {}).items()}
    if entry.get("to_column") == CUSTOMER:
        where.setdefault("threshold", CUSTOMER_THRESHOLDS)
    return Route(
        name=entry["name"],
        takes=_texts(entry["takes"]) or (),
        channel=entry["channel"],
        to=entry.get("to", "").strip(),
        to_column=entry.get("to_column", ""),
        where=where,
        when=entry.get("when", AT_ONCE),
        quiet_hours=_hours(entry["quiet_hours"]) if "quiet_hours" in entry else None,
        at_most_per_day=entry.get("at_most_per_day", 1 if entry.get("to_column") == CUSTOMER else None),
        template=entry.get("template", ""),
        promise=Promise(entry["promise"]) if "promise" in entry else None,
        stop=bool(entry.get("stop", False)),
        mode=entry.get("mode", "draft"),
        options=entry.get("options", {}),
    )


def _matches(facts: Mapping[str, Any], name: str, values: Sequence[str]) -> bool:
    column = "account_id" if name == "account" else name
    found = facts.get(column)
    return found is not None and str(found).casefold() in [value.casefold() for value in values]


def _hours(value: object) -> tuple[time, time] | None:
    clock = r"([01]\d|2[0-3]):([0-5]\d)"
    found = re.fullmatch(f"{clock}-{clock}", value) if isinstance(value, str) else None
    if found is None or found[0][:5] == found[0][6:]:
        return None
    return time(int(found[1]), int(found[2])), time(int(found[3]), int(found[4]))


def _texts(value: object) -> tuple[str, ...] | None:
    """A text or a list of texts; None where it is neither, or empty."""
    values = [value] if isinstance(value, str) else value
    if not isinstance(values, list) or not values or any(not isinstance(each, str) or not each for each in values):
        return None
    return tuple(values)


def _listed(names: Iterable[str]) -> str:
    *first, last = names
    return f"{', '.join(first)} and {last}" if first else str(last)


def _twice(names: Sequence[str]) -> list[str]:
    return sorted({name for name in names if names.count(name) > 1})
