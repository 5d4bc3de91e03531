"""Messages to their channels, by the routes: decided once, drawn and frozen for each route, sent side by side.

The whole of it for every kind of message. One route's failure is its own: the others are sent, and the error names it.
"""

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from logging import Logger
from typing import Any

import sqlalchemy as sa

from orchestration.channels import vendors
from orchestration.channels.preview import PreviewChannel
from orchestration.ledger import decided
from orchestration.ledger.engines import UnusableLedgerError
from orchestration.ledger.ledger import Delivery, Ledger, State
from orchestration.ledger.outbox import (
    Channel,
    InDoubtError,
    Promise,
    RefusedError,
    deliver,
    deliver_parts,
)
from orchestration.ledger.users import mentions
from orchestration.messages import cuts, routes
from orchestration.messages.cuts import Narrow, Subject
from orchestration.messages.message import Message, to_json
from orchestration.messages.routes import BUILT_IN, Route, RoutesError
from orchestration.messages.vendor import Linking, Mentioning, Target
from orchestration.settings import Settings
from orchestration.usage.formatting import counted
from orchestration.warehouse import published_copy, queries

Mentions = dict[str, Mapping[str, str]]
"""By route, the users of its channel by e-mail address."""
AT_MOST = timedelta(minutes=10)
"""For which one run sends; what is left waits for the next."""


class UnknownRoute:
    """Stands in for the channel of a route that is not in the file any more, or cannot be opened."""

    is_preview = False
    promise = Promise.EXACTLY_ONCE

    def __init__(self, name: str, problem: str) -> None:
        self.name, self._problem = name, problem

    def address(self, delivery: Delivery, parent: Delivery | None) -> str:
        raise RefusedError(self._problem)

    def send(self, delivery: Delivery) -> str:
        raise RefusedError(self._problem)

    def find(self, delivery: Delivery) -> str | None:
        raise RefusedError(self._problem)


@dataclass(frozen=True)
class Sent:
    """What became of a message's delivery in this run."""

    delivery: Delivery
    error: str = ""
    """Why it, or one of its replies, is not sent; empty where all is."""


@dataclass
class Ways:
    """The routes of this installation and their channels, each opened when it is needed."""

    settings: Settings
    clock: Callable[[], datetime]
    """The real one."""
    run_id: str = ""
    sleep: Callable[[float], object] = time.sleep
    _channels: dict[str, Channel] = field(default_factory=dict)
    _routes: list[Route] | None = None
    _problem: str = ""
    """Why the file cannot be used."""

    @property
    def routes(self) -> list[Route]:
        """:raises routes.RoutesError: the file cannot be used."""
        if self._routes is None:
            self._routes = routes.read(self.settings.routes_file, vendors.vendor)
        return self._routes

    def even_without_file(self) -> "Ways":
        """These; where the file cannot be used the built-in route alone, so that failures are reported all the same."""
        try:
            self._routes = self.routes
        except RoutesError as error:
            self._routes, self._problem = [BUILT_IN], str(error)
        return self

    def channel(self, name: str) -> Channel:
        """The channel of a route; for Slack without a token a preview.

        :raises ValueError: the built-in route has a token without a channel.
        """
        if name not in self._channels:
            self._channels[name] = self._open(name)
        return self._channels[name]

    def _open(self, name: str) -> Channel:
        route = next((each for each in self.routes if each.name == name), None)
        if route is None:
            file = self.settings.routes_file.name
            problem = self._problem or f"{file} has no route {name!r}: add it, or give the message up"
            return UnknownRoute(name, problem)
        if route.channel == "slack" and not self.settings.slack_bot_token and not self._secret(route)("token"):
            return PreviewChannel("Slack")
        try:
            return opened(route, self.settings, self.run_id)
        except ValueError as error:
            if route.is_built_in:
                raise
            return UnknownRoute(name, f"the route {name!r} is not set up: {error}")

    def _secret(self, route: Route) -> Callable[[str], str | None]:
        return secret_of(route, self.settings)

    # What a message becomes

    def taking(self, kind: str) -> list[Route]:
        """The routes that a kind of message takes."""
        return cuts.taking(self.routes, kind, bool(self.settings.slack_bot_token))

    def owners(self, ledger: Ledger, emails: Iterable[str | None], warn: Callable[[str], object]) -> Mentions:
        """Users of each route's channel, by e-mail address. Not within a transaction: the ledger remembers them."""
        emails = set(emails)
        found: Mentions = {}
        for route in self.routes:
            channel = self.channel(route.name)
            if isinstance(channel, Mentioning):
                found[route.name] = mentions(ledger, route.name, emails, channel.user_id, self.clock(), warn)
        return found

    def freeze(
        self,
        ledger: Ledger,
        connection: sa.Connection,
        message: Message,
        at: datetime,
        users: Mentions,
        narrow: Narrow | None = None,
        subjects: Iterable[Subject] | None = None,
    ) -> str:
        """Write the message, decided at `at`, into the ledger, with what each route gets of it; its key.

        `narrow` makes it a message about some accounts, for routes that are for those; `subjects` are all of its
        accounts. Nothing is recomputed later, and a route that is added later gets nothing of it.
        """
        key, taken = f"{self.settings.env}|{message.key}", self.taking(message.key.partition("|")[0])
        decided.record(connection, key, to_json(message), at)
        facts: cuts.Facts = {}
        if any(route.where or route.to_column for route in taken):
            facts = route_facts(self.settings, subjects if subjects is not None else cuts.subjects(message))
        for cut in cuts.cuts(taken, message, facts, narrow or cuts.of_lines(message)):
            self.prepare(ledger, connection, cut, key, at, users)
        return key

    def prepare(
        self, ledger: Ledger, connection: sa.Connection, cut: cuts.Cut, key: str, at: datetime, users: Mentions
    ) -> str:
        """Freeze what one address gets of the message of that key; the delivery's key."""
        vendor = vendors.vendor(cut.route.channel)
        payload, replies = vendor.draw(cut.message, self.settings.env, users.get(cut.route.name, {}))
        kept = [each for each in replies if self.settings.slack_files or "file" not in each]
        extra = {"to": cut.to} if cut.to else {}
        if self.run_id:
            extra["run_id"] = self.run_id
        ledger.prepare(
            connection,
            cut.key(key),
            cut.route.channel,
            {**payload, **extra},
            at,
            kept,
            message=key,
            route=cut.route.name,
            not_before=cut.route.not_before(at, self.settings.zone),
            is_draft=cut.route.is_drafted and not cut.message.is_test,
        )
        return cut.key(key)

    # What is sent

    def send(self, ledger: Ledger, keys: Sequence[str], warn: Callable[[str], object]) -> list[Sent]:
        """Bring these deliveries and their replies to their ends, routes side by side, each at its vendor's pace."""
        found = [each for each in map(ledger.delivery, keys) if each]
        by_route: dict[str, list[Delivery]] = {}
        for delivery in found:
            by_route.setdefault(delivery.route, []).append(delivery)
        for name in by_route:
            self.channel(name)  # opened here: what it raises is a configuration's fault, and everybody's
        until = self.clock() + AT_MOST

        def send_one_after_the_other(of: Sequence[Delivery]) -> list[Sent]:
            return [self._send(ledger, each, warn, until) for each in of]

        if len(by_route) < 2:
            return [sent for of in by_route.values() for sent in send_one_after_the_other(of)]
        with ThreadPoolExecutor(max_workers=len(by_route)) as pool:
            return [sent for of in pool.map(send_one_after_the_other, by_route.values()) for sent in of]

    def _send(self, ledger: Ledger, delivery: Delivery, warn: Callable[[str], object], until: datetime) -> Sent:
        key, channel = delivery.key, self.channel(delivery.route)
        if self.clock() > until:
            sent_for = counted(AT_MOST // timedelta(minutes=1), "minute")
            return Sent(delivery, f"{key} waits for the next run: this one has sent for {sent_for}")
        attempts = delivery.attempts
        try:
            delivery = deliver(ledger, key, channel, self.clock)
            if delivery.attempts > attempts:
                self._pace(delivery)
            delivery = self._with_link(ledger, delivery, channel, warn)
            deliver_parts(ledger, key, channel, self.clock)
        except (RefusedError, InDoubtError) as error:
            return Sent(ledger.delivery(key) or delivery, str(error))
        except UnusableLedgerError:
            raise
        except Exception as error:  # noqa: BLE001 - one channel's failure is its own; its text may hold a secret
            return Sent(delivery, f"{key} failed unexpectedly ({type(error).__name__}): the next run tries again")
        return Sent(delivery)

    def _pace(self, delivery: Delivery) -> None:
        if delivery.state is State.SENT and delivery.channel in vendors.NAMES and delivery.channel != "slack":
            self.sleep(1 / vendors.vendor(delivery.channel).per_second)

    def _with_link(
        self, ledger: Ledger, delivery: Delivery, channel: Channel, warn: Callable[[str], object]
    ) -> Delivery:
        """Remember where people find it. A link that the channel does not give holds nothing up."""
        if delivery.state is not State.SENT or delivery.permalink or not isinstance(channel, Linking):
            return delivery
        try:
            link = channel.permalink(delivery)
        except RefusedError as error:
            warn(str(error))
            return delivery
        ledger.remember_permalink(delivery.key, link)
        return replace(delivery, permalink=link)

    def send_message(self, ledger: Ledger, key: str, warn: Callable[[str], object]) -> list[Sent]:
        """All deliveries of a message."""
        return self.send(ledger, [each.key for each in decided.deliveries_of(ledger, key)], warn)

    def send_waiting(self, ledger: Ledger, prefix: str, log: Logger, but: str = "") -> None:
        """Bring deliveries under `prefix` to their end that were refused or are in doubt, such as digests of earlier
        days: their crossings are in no other.

        So are replies to those that were sent. One that fails again is only logged, so that it cannot hold up others.
        """
        waiting = [key for key in ledger.waiting(prefix) if not (but and (key == but or key.startswith(f"{but}|")))]
        for sent in self.send(ledger, waiting, log.warning):
            log.warning(sent.error) if sent.error else log.info(f"{sent.delivery.key}: {done(sent.delivery)}")


def opened(route: Route, settings: Settings, run_id: str = "") -> Channel:
    """The channel of a route.

    :raises ValueError: a secret or an address is missing or wrong.
    """
    vendor = vendors.vendor(route.channel)
    promise = route.promise or vendor.promises[0]
    target = Target(route.name, route.to, promise, secret_of(route, settings), route.options, run_id)
    return vendor.open(target, settings)


def secret_of(route: Route, settings: Settings) -> Callable[[str], str | None]:
    """Secrets of a route by their names: `token` is HEADROOM_ROUTE_<NAME>_TOKEN. The built-in route has none."""
    if route.is_built_in:
        return lambda _: None
    return lambda name: settings.secret(variable(route.name, name))


def variable(route: str, name: str) -> str:
    """The environment variable of a route's secret."""
    return f"HEADROOM_ROUTE_{route.upper().replace('-', '_')}_{name.upper()}"


def route_facts(settings: Settings, subjects: Iterable[Subject]) -> dict[Subject, Mapping[str, Any]]:
    """What filters and addresses of routes go by, of these accounts and meters."""
    wanted = set(subjects)
    accounts = {"accounts": sorted({account for account, _ in wanted})}
    rows = published_copy.query(settings.published, queries.ROUTE_FACTS, accounts)
    return {key: row for row in rows if (key := (row["account_id"], row["meter"])) in wanted}


def is_built_in_alone(sent: Sequence[Sent]) -> bool:
    """Whether a message took no other route than Slack's."""
    return all(each.delivery.route == BUILT_IN.name for each in sent)


def done(delivery: Delivery) -> str:
    """What became of it, in words."""
    at = f"{delivery.finished_at:%Y-%m-%d %H:%M} UTC" if delivery.finished_at else ""
    if delivery.state is State.SENT:
        return f"sent {at} ({delivery.permalink or delivery.receipt})"
    if delivery.state is State.PREVIEWED:
        return f"previewed {at}: set SLACK_BOT_TOKEN and HEADROOM_SLACK_CHANNEL to send"
    if delivery.state is State.GIVEN_UP:
        return f"given up {at}: `headroom deliveries resend` still sends it"
    if delivery.state is State.DRAFT:
        return "a draft: `headroom deliveries send` releases it"
    if delivery.not_before and not delivery.attempts:
        return f"waits until {delivery.not_before:%Y-%m-%d %H:%M} UTC: quiet hours"
    return f"{delivery.state} since {delivery.attempted_at or delivery.created_at}"


def outcome(sent: Sequence[Sent]) -> str:
    """What became of a message, in words: of each route, where there are others than Slack's."""
    if is_built_in_alone(sent):
        return done(sent[0].delivery) if sent else "no route takes it"
    return "; ".join(f"{each.delivery.route}: {each.error or done(each.delivery)}" for each in sent)
