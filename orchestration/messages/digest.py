"""The digest of a day as plain data: figures of the published copy, memory of the ledger, words.

The asset that sends it and the command that shows it both make it here, so that people see what the channel gets. How
a channel draws it comes in as a parameter. Nothing is recorded or sent, and no channel is asked.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from orchestration.ledger import decided
from orchestration.ledger import rules as known_rules
from orchestration.ledger.decided import Decided
from orchestration.ledger.ledger import Delivery, Ledger, State
from orchestration.messages import (
    account_wording,
    charts,
    critical,
    crossings,
    email_draft,
    footer,
    mailto,
    rules,
    wording,
)
from orchestration.messages.cuts import Narrow, Subject
from orchestration.messages.digest_message import digest_message
from orchestration.messages.message import Message
from orchestration.settings import Settings
from orchestration.usage.standing import Standing
from orchestration.warehouse import published_copy, queries


@dataclass(frozen=True)
class Figures:
    """What a digest is made of: rows of one published copy, and when the digest before looked."""

    quality: Mapping[str, Any]
    crossings: Sequence[Mapping[str, Any]]
    """With what stands of their accounts, where they are of the running period."""
    accounts: Sequence[Mapping[str, Any]]
    days: Mapping[tuple[str, str], Sequence[int]]
    """Usage of the last complete days, by account and meter."""
    values: Sequence[Mapping[str, Any]]
    """What most of it goes to."""
    utilization: Sequence[Mapping[str, Any]]
    before: datetime | None
    dormant_through: datetime | None
    """Accounts that were dormant by the calls up to then have been named; None: none has."""
    standing: Standing | None
    """How far what was counted is at Stripe; None: nothing was ever sent there."""
    rules: Mapping[str, str]
    """Terms by rule: see rules.py."""


@dataclass(frozen=True)
class DigestContent:
    """What a digest says, and what is to be recorded with it: verdicts, and former ones that no longer hold."""

    digest: dict[str, Any]
    """JSON-ready."""
    table: Sequence[Mapping[str, Any]]
    """All accounts at a threshold, for a file."""
    verdicts: Sequence[crossings.Verdict]
    withdrawn: Sequence[crossings.CrossingKey]
    subjects: Collection[tuple[str, str]]
    """(account_id, meter) of all that it may speak of."""
    narrow: Narrow
    """The digest of some accounts, for a route that is for them."""


Render = Callable[
    [Mapping[str, Any], Sequence[Mapping[str, Any]], str, Mapping[str, str]],
    tuple[dict[str, Any], list[dict[str, Any]]],
]
"""How a channel draws a digest: digest, table, environment, the channel's users of owners by e-mail address. Gives the
payload of the message, and those of the replies in its thread."""


@dataclass(frozen=True)
class Preview:
    """What the channel gets, or got, and how far that is."""

    payload: dict[str, Any]
    replies: Sequence[dict[str, Any]]
    delivery: Delivery | None
    """What the ledger has of it; None if it was not decided yet, or is drawn again."""
    at: datetime
    users: Mapping[str, str]
    """E-mail addresses by the channel's user id."""

    @property
    def status(self) -> str:
        """How far it is, in a sentence."""
        at = f"{self.at:%Y-%m-%d %H:%M %Z}"
        if self.delivery is None:
            return f"As it would be sent, with the figures of {at}. This preview records and sends nothing."
        sentences = {
            State.PREPARED: f"Decided {at}, not sent yet.",
            State.SENDING: "Decided, in doubt: it may have been sent. The next run looks for it.",
            State.SENT: f"Sent {at}.",
            State.PREVIEWED: f"Decided {at}, not sent: set SLACK_BOT_TOKEN and HEADROOM_SLACK_CHANNEL to send.",
            State.FAILED: f"Decided, not sent: {self.delivery.error}",
            State.GIVEN_UP: f"Decided, given up {at}: it is not sent.",
        }
        return sentences[self.delivery.state]


def digest_key(env: str, on: str) -> str:
    return f"{env}|digest|{on}"


def read_figures(settings: Settings, ledger: Ledger, on: date, standing: Standing | None) -> Figures:
    """:raises NothingPublishedError: no run has published anything yet."""
    published = settings.published
    with ledger.transaction() as connection:
        last = decided.last_digest(connection, settings.env, but=digest_key(settings.env, on.isoformat()))
    before = last.decided_at if last else None
    with published_copy.reading(published):
        since = crossings.news_since(before, on, settings.zone)
        dormant_through = _dormant_through(last)
        accounts = queries.digest_accounts(published, since, dormant_through, wording.LISTED)
        facts = {(row["account_id"], row["meter"]): row for row in accounts}
        crossed = [
            _with_facts(row, facts[row["account_id"], row["meter"]]) if row["is_current_period"] else row
            for row in published_copy.query(published, queries.CROSSINGS)
        ]
        return Figures(
            quality=queries.data_quality(published),
            crossings=crossed,
            accounts=accounts,
            values=published_copy.query(published, queries.TOP_VALUES),
            days=queries.daily_usage(published, (row["account_id"] for row in crossed)),
            utilization=published_copy.query(published, queries.UTILIZATION),
            before=before,
            dormant_through=dormant_through,
            standing=standing,
            rules=rules.read(published),
        )


def _dormant_through(last: Decided | None) -> datetime | None:
    """Up to which call the digests before have named who is dormant; None: all are still to be named."""
    if last is None:
        return None
    digest: Mapping[str, Any] = last.content.get("digest") or {}
    if "dormant_through" not in digest:  # of an earlier version, which named them each day
        return last.decided_at
    return datetime.fromisoformat(digest["dormant_through"]) if digest["dormant_through"] else None


def _with_facts(crossing: Mapping[str, Any], facts: Mapping[str, Any]) -> Mapping[str, Any]:
    """A crossing with what is known of its account; its owner is who the advice names."""
    return {**facts, **crossing, "owner": facts["advice_owner"] or crossing["owner"]}


def compose_digest(
    figures: Figures,
    ledger: Ledger,
    connection: sa.Connection,
    settings: Settings,
    on: date,
    warn: Callable[[str], object],
    run_id: str | None = None,
) -> DigestContent:
    """The digest of `on`. What it announced itself, if it was decided before, is still its news.

    In a transaction: it is the ledger that tells which crossings are news.
    """
    key = digest_key(settings.env, on.isoformat())
    former = ledger.verdicts(connection, settings.env, but=key)
    known = known_rules.known(connection, settings.env)
    accounts = {"accounts": sorted({account for account, *_ in former})}
    used = published_copy.query(settings.published, queries.USED_BY, accounts)
    withdrawn = crossings.withdrawn(former, figures.crossings, used)
    announced = former.keys() - withdrawn
    silenced = known_rules.silenced(connection, key)
    news, verdicts = rules.judge(
        figures.crossings, announced, on, settings.zone, figures.before, known, silenced, figures.rules
    )
    announced_then = [crossing for crossing in withdrawn if former[crossing] == crossings.Outcome.ANNOUNCED]
    before = decided.told(connection, f"{settings.env}|critical|", figures.before) if figures.before else []

    def draw(keeps: Callable[[Subject], bool], is_whole: bool) -> dict[str, Any]:
        told = [row for row in news if keeps(_subject(row))]
        drawn = wording.digest_content(
            told,
            [row for row in figures.accounts if keeps(_subject(row))],
            figures.days,
            {**figures.quality, "bills_sampled": settings.bill_sampled},
            on,
            figures.quality["as_of"],
            settings.zone,
            figures.before,
            _links(settings.ui_url, run_id),
            settings.account_url,
            figures.dormant_through,
        )
        if is_whole and (line := footer.parity(figures.standing, settings.zone)):
            drawn["footer"].append(line)
        if line := wording.withdrawal([each for each in announced_then if keeps(each[:2])], used):
            drawn["footer"].insert(0, line)
        at_threshold = (row for row in figures.utilization if keeps(_subject(row)))
        if line := footer.snoozed(at_threshold, figures.quality["as_of"].date()):
            drawn["footer"].append(line)
        if is_whole and (line := rules.line(known, figures.rules, verdicts)):
            drawn["notices"] = [line]
        alerted = [each for each in before if keeps(each[0][:2])]
        drawn["alerted"] = critical.alerted(figures.crossings, alerted, settings.zone)
        _detail(drawn, told, figures, settings, on, warn)
        return drawn

    def narrow(keeps: Callable[[Subject], bool]) -> Message | None:
        rows = [row for row in figures.utilization if keeps(_subject(row))]
        drawn = draw(keeps, is_whole=False)
        return digest_message(drawn, crossings.table(rows)) if drawn["items"] or drawn["groups"] else None

    spoken_of = {_subject(row) for row in (*news, *figures.accounts)}
    table = crossings.table(figures.utilization)
    return DigestContent(draw(lambda _: True, is_whole=True), table, verdicts, withdrawn, spoken_of, narrow)


def _subject(row: Mapping[str, Any]) -> Subject:
    return row["account_id"], row["meter"]


def _detail(
    digest: Mapping[str, Any],
    news: Sequence[Mapping[str, Any]],
    figures: Figures,
    settings: Settings,
    on: date,
    warn: Callable[[str], object],
) -> None:
    """Give the first accounts of the digest their notes and the figures of their charts."""
    rows = {(row["account_id"], row["meter"]): row for row in news if row["is_current_period"]}
    first = [item for item in digest["items"][: wording.DETAILED] if item["is_current"]]
    accounts = {"accounts": [item["account_id"] for item in first]}
    found = published_copy.query(settings.published, queries.PERIOD_DAYS, accounts) if first else []
    days = {(row["account_id"], row["meter"]): row for row in found}
    for item in first:
        key = item["account_id"], item["meter"]
        item["notes"] = _notes(rows[key], figures.values, settings.templates, on, warn)
        if counted := days.get(key):
            item["chart"] = charts.chart(rows[key], counted["days"], counted["units"], figures.quality["as_of"])


def _notes(
    row: Mapping[str, Any],
    values: Sequence[Mapping[str, Any]],
    templates: Path | None,
    on: date,
    warn: Callable[[str], object],
) -> list[dict[str, str]]:
    """What is in the thread about an account: where its usage goes, and a draft to its contact if any is to write."""
    key = row["account_id"], row["meter"]
    own = [value for value in values if (value["account_id"], value["meter"]) == key]
    notes = account_wording.values_notes(own, row)
    try:
        if letter := email_draft.letter(row, on):
            draft = email_draft.draft(letter, templates)
            notes.append({"title": "Draft, not sent", "text": draft, "mailto": mailto.link(draft)})
    except email_draft.DraftError as error:  # a text that somebody edits does not hold up the digest
        warn(str(error))
        notes.append({"title": "No draft", "text": str(error)})
    return [note for note in notes if note["text"].strip()]


def _links(ui_url: str | None, run_id: str | None) -> dict[str, str]:
    if ui_url is None:
        return {}
    root = ui_url.rstrip("/")
    run = {"this run": f"{root}/runs/{run_id}"} if run_id else {}
    return {**run, "how these figures are made": f"{root}/assets/utilization_mtd"}


def preview_digest(
    settings: Settings,
    on: date,
    channel: str,
    render: Render,
    standing: Standing | None,
    warn: Callable[[str], object],
    redraw: bool = False,
) -> Preview:
    """The digest of `on` as it was decided, for sending never changes it; else, or to `redraw` it, as of now.

    Owners that the ledger knows as users of the channel are mentioned; a run asks the channel for the others.

    :raises NothingPublishedError: no run has published anything yet.
    """
    ledger = Ledger(settings.ledger_url)
    ids = {email: user_id for email, (user_id, _) in ledger.users(channel).items()}
    emails = {user_id: email for email, user_id in ids.items()}
    key = digest_key(settings.env, on.isoformat())
    sent = (each for each in decided.deliveries_of(ledger, key) if each.channel == channel)
    if not redraw and (delivery := next(sent, None)):
        at = delivery.finished_at or delivery.created_at
        replies = [part.payload for part in ledger.parts(delivery.key)]
        return Preview(delivery.payload, replies, delivery, at.astimezone(settings.zone), emails)
    figures = read_figures(settings, ledger, on, standing)
    with ledger.transaction() as connection:
        content = compose_digest(figures, ledger, connection, settings, on, warn)
    payload, drawn = render(content.digest, content.table, settings.env, ids)
    return Preview(payload, drawn, None, figures.quality["as_of"].astimezone(settings.zone), emails)
