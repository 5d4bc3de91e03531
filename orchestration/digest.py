"""The digest of a day as it would be sent: figures of the published copy, memory of the ledger, words, blocks.

Nothing is recorded or sent here, and Slack is not asked: whoever sends it records it with its verdicts.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any

import sqlalchemy as sa

from orchestration.channels import slack_blocks
from orchestration.delivery.ledger import Ledger
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
    """A digest's payloads, and the verdicts to be recorded with them."""

    payload: dict[str, Any]
    replies: list[dict[str, Any]]
    verdicts: Sequence[digests.Verdict] = ()


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
    announced = ledger.announced(connection, settings.env, but=digest_key(settings.env, on.isoformat()))
    news, verdicts = digests.judge(figures.crossings, announced, on, settings.zone, figures.before)
    digest = digests.compose(news, figures.calls, figures.quality, on, figures.quality["as_of"], settings.zone)
    payload, replies = slack_blocks.digest_payloads(digest, digests.table(figures.utilization), settings.env, users)
    return Composed(payload, replies, verdicts)
