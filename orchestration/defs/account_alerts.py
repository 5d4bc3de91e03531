"""Alerts of one account: threshold crossings and limit hits, by the routes that take them. Decide, freeze, send, once.

Each route decides by itself, in a transaction of its own: its outcomes, its messages and their deliveries are there
together or not at all. So two runs at once, or a kill between any two lines, repeat nothing and lose nothing.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, time
from typing import Any

import dagster as dg
import sqlalchemy as sa

from orchestration.defs.digest import opened_ways
from orchestration.defs.resources import OWNERS, Project
from orchestration.defs.sending import Mentions, Sent, Ways
from orchestration.ledger import decided, routed
from orchestration.ledger.ledger import Ledger, State
from orchestration.messages import account_notice, customer_notice, notice_wording
from orchestration.messages.account_notice import LIMIT, Memory, Outcome, Row, Verdict
from orchestration.messages.cuts import Cut
from orchestration.messages.email_draft import DraftError
from orchestration.messages.message import Message, to_json
from orchestration.messages.routes import AT_ONCE, BY_ROUTE, Route
from orchestration.settings import Settings
from orchestration.usage.formatting import counted
from orchestration.warehouse import published_copy, queries
from orchestration.warehouse.notice_query import NOTICE_ACCOUNTS, ROUTED_CROSSINGS

SHOWN = 5
"""Errors that a failed run names; the log has all."""
Accounts = Mapping[tuple[str, str], Row]
"""Rows of `NOTICE_ACCOUNTS` by account and meter."""


def taking(routes: Sequence[Route]) -> list[Route]:
    """The routes that decide for themselves."""
    return [route for route in routes if any(map(route.takes_kind, BY_ROUTE))]


def is_wanted_at_once(routes: Sequence[Route]) -> bool:
    """Whether a run between the hours has something to decide."""
    return any(route.when == AT_ONCE for route in taking(routes))


def decide(project: Project, ways: Ways, warn: Callable[[str], object]) -> tuple[list[str], Counter[str], list[str]]:
    """Freeze what is news: keys of the new deliveries, how often each outcome was, and mistakes of templates."""
    settings, ledger, found = project.settings, project.ledger(), taking(ways.routes)
    keys, outcomes, errors = list[str](), Counter[str](), list[str]()
    if not found:
        return keys, outcomes, errors
    as_of = queries.data_quality(settings.published)["as_of"]
    named = {LIMIT}.union(*(route.where.get("threshold", ()) for route in found))
    rows = published_copy.query(settings.published, ROUTED_CROSSINGS, {"thresholds": sorted(named)})
    rules = published_copy.query(settings.published, queries.THRESHOLD_RULES)
    for route in found:
        earlier = found[: found.index(route)]
        looking = _Look(settings, route, earlier, rows, rules, as_of)
        with ledger.reading() as connection:
            news = [each for each in looking.judge(connection) if each.outcome is Outcome.ANNOUNCED]
        accounts = _accounts(settings, news)
        owners = {row["advice_owner"] or row["owner"] for row in accounts.values()}
        users = ways.owners(ledger, owners, warn) if owners and not route.is_to_customers else {}
        try:
            with ledger.transaction() as connection:
                verdicts = looking.judge(connection, is_start=True)
                keys += looking.freeze(ways, ledger, connection, verdicts, accounts, users)
        except DraftError as error:
            errors.append(str(error))
            continue
        outcomes.update(str(each.outcome) for each in verdicts)
    return keys, outcomes, errors


class _Look:
    """One route's look at the crossings of one published copy."""

    def __init__(
        self,
        settings: Settings,
        route: Route,
        earlier: Sequence[Route],
        rows: Sequence[Row],
        rules: Sequence[Row],
        as_of: datetime,
    ) -> None:
        self._settings, self._route, self._as_of = settings, route, as_of
        self._found = list(account_notice.candidates(route, earlier, rows))
        self._terms = account_notice.terms(route, earlier, rules)
        self._first_period = min((row["period_start"] for _, row in self._found), default=as_of)

    def judge(self, connection: sa.Connection, *, is_start: bool = False) -> list[Verdict]:
        """What the route does now. `is_start` records since when it looks."""
        env, route, at = self._settings.env, self._route.name, self._as_of
        if is_start:
            since = routed.since(connection, env, route, self._terms, at)
        else:
            since = routed.known_since(connection, env, route, self._terms) or at
        zone = self._settings.zone
        midnight = datetime.combine(at.astimezone(zone).date(), time(), tzinfo=zone).astimezone(at.tzinfo)
        memory = Memory(
            since,
            routed.decided(connection, env, route, self._first_period),
            routed.messages_since(connection, env, route, midnight),
            routed.unsubscribed(connection),
        )
        return account_notice.judge(self._route, self._found, memory, at, zone)

    def freeze(
        self,
        ways: Ways,
        ledger: Ledger,
        connection: sa.Connection,
        verdicts: Sequence[Verdict],
        accounts: Accounts,
        users: Mentions,
    ) -> list[str]:
        """Write the outcomes into the ledger, with the message and the delivery of each that is announced; the keys.

        :raises DraftError: the route's template is wrong.
        """
        keys, rows = [], []
        for verdict in verdicts:
            key = None
            if verdict.outcome is Outcome.ANNOUNCED:
                account = accounts.get((verdict.row["account_id"], verdict.row["meter"]))
                if account is None:  # another copy was published in between: the next run decides
                    continue
                message = self._message(verdict, account)
                key = f"{self._settings.env}|{message.key}"
                if decided.find(connection, key) is None:
                    decided.record(connection, key, to_json(message), self._as_of)
                    cut = Cut(self._route, verdict.to, message, is_of_route=True)
                    keys.append(ways.prepare(ledger, connection, cut, key, self._as_of, users))
            rows.append(self._row(verdict, key))
        routed.record(connection, rows)
        return keys

    def _message(self, verdict: Verdict, account: Row) -> Message:
        settings, route, row = self._settings, self._route, notice_wording.of_account(verdict.row, account)
        key, at, zone = account_notice.message_key(route, verdict), self._as_of, settings.zone
        if route.is_to_customers or route.template:
            return customer_notice.letter(key, verdict.kind, row, route, at, zone, settings.templates)
        is_shared = route.to_column == "slack_channel"
        return notice_wording.notice(key, verdict.kind, row, at, zone, settings.account_url, is_shared=is_shared)

    def _row(self, verdict: Verdict, key: str | None) -> dict[str, Any]:
        account, meter, period_start, quota, threshold = verdict.key
        return {
            "env": self._settings.env,
            "route": self._route.name,
            "account_id": account,
            "meter": meter,
            "period_start": period_start,
            "quota": quota,
            "threshold": threshold,
            "outcome": str(verdict.outcome),
            "decided_at": self._as_of,
            "message_key": key,
        }


def _accounts(settings: Settings, news: Sequence[Verdict]) -> Accounts:
    wanted = sorted({each.row["account_id"] for each in news})
    found = published_copy.query(settings.published, NOTICE_ACCOUNTS, {"accounts": wanted}) if wanted else []
    return {(row["account_id"], row["meter"]): row for row in found}


@dg.asset(
    deps=["published_copy"],
    group_name="messages",
    owners=OWNERS,
    kinds={"slack"},
    description=(
        "Threshold crossings and limit hits, a message for each account, by the routes of routes.toml that take"
        " crossing or limit_hit. Each route announces the highest threshold of an account once. A route to customers"
        " writes drafts, which `headroom deliveries send` releases, or sends to named segments.\n\n"
        "From threshold_crossings and usage_limit_hits. Materializing again sends nothing twice."
    ),
)
def account_alerts(context: dg.AssetExecutionContext, project: Project) -> dg.MaterializeResult[None]:
    ledger, ways, env = project.ledger(), opened_ways(project, context.run.run_id), project.settings.env
    for kind in BY_ROUTE:
        ways.send_waiting(ledger, f"{env}|{kind}|", context.log)
    if not taking(ways.routes):
        return dg.MaterializeResult(metadata={"outcome": "nothing sent: no route takes crossing or limit_hit"})
    keys, outcomes, errors = decide(project, ways, context.log.warning)
    sent = ways.send(ledger, keys, context.log.warning)
    _raise_errors(sent, errors, context.log.error)
    drafts = sum(each.delivery.state is State.DRAFT for each in sent)
    said = f"{counted(len(sent) - drafts, 'alert')} of this run, {counted(drafts, 'draft')}" if sent else "nothing new"
    return dg.MaterializeResult(metadata={"outcome": said, **{f"crossings {name}": n for name, n in outcomes.items()}})


def _raise_errors(sent: Sequence[Sent], errors: Sequence[str], log: Callable[[str], object]) -> None:
    """:raises dagster.Failure: something was not sent, or a template is wrong. The others have theirs."""
    found = [*errors, *(f"{each.delivery.key}: {each.error}" for each in sent if each.error)]
    for error in found:
        log(error)
    if found:
        more = f"; and {len(found) - SHOWN:,} more" if len(found) > SHOWN else ""
        raise dg.Failure("; ".join(found[:SHOWN]) + more, allow_retries=False)
