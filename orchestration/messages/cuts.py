"""Which part of a message goes where: each route takes what it is for, and each address gets its own accounts."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from orchestration.messages.message import Message
from orchestration.messages.routes import Route

Subject = tuple[str, str]
"""account_id, meter."""
Facts = Mapping[Subject, Mapping[str, Any]]
"""Rows of `queries.ROUTE_FACTS`."""
Narrow = Callable[[Callable[[Subject], bool]], Message | None]
"""The message as far as it is about some accounts; None where nothing is left."""


@dataclass(frozen=True)
class Cut:
    """What one address of a route gets of a message."""

    route: Route
    to: str
    """Its address where that is a column of its accounts; empty: the route's own."""
    message: Message
    is_of_route: bool = False
    """Whether the message was decided for this route alone: then its key ends with the route already."""

    def key(self, message_key: str) -> str:
        """Of the delivery."""
        route = "" if self.is_of_route else f"|{self.route.name}"
        return f"{message_key}{route}{f'/{self.to}' if self.to else ''}"


def taking(routes: Sequence[Route], kind: str, has_slack: bool) -> list[Route]:
    """The routes of a kind, up to one that stops. The built-in one is left out where another one took the message and
    Slack is not set up: it would only be a preview beside it.
    """
    found: list[Route] = []
    for route in routes:
        if route.takes_kind(kind) and not (route.is_built_in and found and not has_slack):
            found.append(route)
            if route.stop:
                break
    return found


def cuts(routes: Sequence[Route], message: Message, facts: Facts, narrow: Narrow) -> Iterator[Cut]:
    """What each of the routes gets. `facts` have the accounts that the message is about."""
    for route in routes:
        if not (route.where or route.to_column):
            yield Cut(route, "", message)
            continue
        kept = {subject for subject, row in facts.items() if route.keeps(row)}
        if not route.to_column:
            yield from _cut(route, "", narrow, kept)
            continue
        by_address: dict[str, set[Subject]] = {}
        for subject in sorted(kept):
            if address := str(facts[subject].get(route.to_column) or "").strip():
                by_address.setdefault(address, set()).add(subject)
        for address, subjects in by_address.items():
            yield from _cut(route, address, narrow, subjects)


def _cut(route: Route, to: str, narrow: Narrow, kept: set[Subject]) -> Iterator[Cut]:
    part = narrow(kept.__contains__)
    if part is not None:
        yield Cut(route, to, part)


def of_lines(message: Message) -> Narrow:
    """A notice narrowed to lines: those about no account stay where any other does."""

    def narrow(keeps: Callable[[Subject], bool]) -> Message | None:
        sections = []
        for section in message.sections:
            lines = [line for line in section.lines if keeps((line.account_id, line.meter))]
            if lines:
                heading = section.heading.partition(" (")[0]
                sections.append(replace(section, heading=f"{heading} ({len(lines):,})" if heading else "", lines=lines))
        if not sections:
            return None
        first = sections[0].lines[0]
        ids = {line.account_id for section in sections for line in section.lines}
        table = [row for row in message.table if row.get("account_id") in ids]
        headline = " · ".join(filter(None, [first.name, first.text])) if len(ids) == 1 else message.headline
        return replace(message, sections=sections, table=table, headline=headline, notification="")

    return narrow


def subjects(message: Message) -> set[Subject]:
    """The accounts and meters that the message is about."""
    if message.digest is not None:
        return {(item["account_id"], item["meter"]) for item in message.digest["items"]}
    return {(line.account_id, line.meter) for section in message.sections for line in section.lines if line.account_id}
