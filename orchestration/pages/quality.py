"""For the data team: how complete the figures are, and what waits for a person."""

from orchestration.ledger import exits
from orchestration.messages import undelivered
from orchestration.messages.wording import is_stale
from orchestration.pages.asking import Asked, Page
from orchestration.warehouse import page_queries, queries
from orchestration.warehouse.published_copy import query_kept

WAITING = 50


def page(asked: Asked) -> Page:
    """The row of data_quality, rejected lines by reason, unmapped ids, billing hours by state, stuck deliveries."""
    settings = asked.settings
    facts = queries.data_quality(settings.published)
    waiting = exits.stuck(asked.ledger, f"{settings.env}|", asked.now)
    return Page(
        "quality",
        "Data quality",
        {
            "facts": facts,
            "stale": is_stale(facts, settings.stale_after_hours),
            "stale_after": settings.stale_after_hours,
            "rejected": query_kept(settings.published, page_queries.REJECTED_BY_REASON),
            "unmapped": query_kept(settings.published, page_queries.UNMAPPED_IDS),
            "parity": query_kept(settings.published, page_queries.PARITY),
            "waiting": [undelivered.sentence(each, settings.zone) for each in waiting[:WAITING]],
            "waiting_count": len(waiting),
        },
    )
