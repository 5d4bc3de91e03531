"""The digest of a day as it would be sent: figures of the published copy, memory of the ledger, words, blocks.

The asset that sends and the command that shows draw it here, so that what people see is what Slack gets. Nothing is
recorded or sent, and Slack is not asked.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any

import sqlalchemy as sa

from orchestration.channels import slack_blocks
from orchestration.delivery.ledger import Delivery, Ledger, State
from orchestration.settings import Settings
from orchestration.storage import warehouse
from orchestration.usage import digest as digests


@dataclass(frozen=True)
class Figures:
    """What a digest is made of: rows of one published copy, and when the digest before looked."""

    quality: Mapping[str, Any]
    crossings: Sequence[Mapping[str, Any]]
    calls: Mapping[str, Sequence[int]]
    utilization: Sequence[Mapping[str, Any]]
    before: datetime | None


@dataclass(frozen=True)
class Composed:
    """A digest's payloads, and what is to be recorded with them: verdicts, and former ones that no longer hold."""

    payload: dict[str, Any]
    replies: list[dict[str, Any]]
    verdicts: Sequence[digests.Verdict] = ()
    withdrawn: Sequence[digests.CrossingKey] = ()


@dataclass(frozen=True)
class Preview:
    """What the channel gets, or got, and how far that is."""

    composed: Composed
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
            return f"As it would be sent, with the figures of {at}. Nothing is recorded or sent by looking at it."
        sentences = {
            State.PREPARED: f"Decided {at}, not sent yet.",
            State.SENDING: "Decided, in doubt: it may have been sent. The next run looks for it.",
            State.SENT: f"Sent {at}.",
            State.PREVIEWED: f"Decided {at}, not sent: set SLACK_BOT_TOKEN and HEADROOM_SLACK_CHANNEL to send.",
            State.FAILED: f"Decided, not sent: {self.delivery.error}",
        }
        return sentences[self.delivery.state]


def digest_key(env: str, on: str) -> str:
    return f"{env}|digest|{on}"


def read_figures(settings: Settings, ledger: Ledger, on: date) -> Figures:
    """:raises warehouse.NothingPublishedError: no run has published anything yet."""
    published = settings.published
    quality = warehouse.data_quality(published)
    with ledger.transaction() as connection:
        before = ledger.last_digest_at(connection, settings.env, but=digest_key(settings.env, on.isoformat()))
    return Figures(
        quality=quality,
        crossings=warehouse.query(published, warehouse.CROSSINGS),
        calls={row["account_id"]: row["calls"] for row in warehouse.query(published, warehouse.DAILY_CALLS)},
        utilization=warehouse.query(published, warehouse.UTILIZATION),
        before=before,
    )


def compose_digest(
    figures: Figures, ledger: Ledger, connection: sa.Connection, settings: Settings, on: date, users: Mapping[str, str]
) -> Composed:
    """The digest of `on`. What it announced itself, if it was decided before, is still its news.

    `users` are the Slack users of owners. In a transaction: it is the ledger that tells which crossings are news.
    """
    former = ledger.verdicts(connection, settings.env, but=digest_key(settings.env, on.isoformat()))
    standings = warehouse.query(
        settings.published, warehouse.STANDINGS, {"accounts": sorted({account for account, *_ in former})}
    )
    withdrawn = digests.withdrawn(former, figures.crossings, standings)
    news, verdicts = digests.judge(figures.crossings, former.keys() - withdrawn, on, settings.zone, figures.before)
    digest = digests.compose(news, figures.calls, figures.quality, on, figures.quality["as_of"], settings.zone)
    told = [crossing for crossing in withdrawn if former[crossing] == digests.Outcome.ANNOUNCED]
    if line := digests.withdrawal(told, standings):
        digest["footer"].insert(0, line)
    payload, replies = slack_blocks.digest_payloads(digest, digests.table(figures.utilization), settings.env, users)
    return Composed(payload, replies, verdicts, sorted(withdrawn))


def preview_digest(settings: Settings, on: date, redraw: bool = False) -> Preview:
    """The digest of `on` as it was decided, for sending never changes it; else, or to `redraw` it, as of now.

    Owners that the ledger knows as users of Slack are mentioned; a run asks Slack for the others.

    :raises warehouse.NothingPublishedError: no run has published anything yet.
    """
    ledger = Ledger(settings.ledger_url)
    ids = {email: user_id for email, (user_id, _) in ledger.users("slack").items()}
    emails = {user_id: email for email, user_id in ids.items()}
    key = digest_key(settings.env, on.isoformat())
    if not redraw and (delivery := ledger.delivery(key)):
        frozen = Composed(delivery.payload, [part.payload for part in ledger.parts(key)])
        at = delivery.finished_at or delivery.created_at
        return Preview(frozen, delivery, at.astimezone(settings.zone), emails)
    figures = read_figures(settings, ledger, on)
    with ledger.transaction() as connection:
        composed = compose_digest(figures, ledger, connection, settings, on, ids)
    return Preview(composed, None, figures.quality["as_of"].astimezone(settings.zone), emails)
