"""The rules by which the last digest announced: rows of the seeds, each by its name with its terms.

They are the memory that tells a crossing that is new from one that a new rule has made. `messages/rules.py` decides.
"""

from collections.abc import Mapping
from datetime import datetime

import sqlalchemy as sa

from orchestration.ledger.tables import announced_crossings, digest_rules

RULE_CHANGED = "rule_changed"
"""The outcome of a crossing that was one only by a rule that the digest before did not have."""


def known(connection: sa.Connection, env: str) -> dict[str, str]:
    """Terms by rule, as of the last digest; empty where no digest has noted them yet."""
    table = digest_rules.c
    query = sa.select(table.rule, table.terms).where(table.env == env)
    return dict(connection.execute(query).tuples().all())


def remember(connection: sa.Connection, env: str, rules: Mapping[str, str], at: datetime, message_key: str) -> None:
    """From now on these are the known ones; a rule that stays as it is keeps the time from which it is known."""
    before = known(connection, env)
    changed = [rule for rule, terms in rules.items() if before.get(rule) != terms]
    table = digest_rules.c
    for rule in {*(before.keys() - rules.keys()), *(set(changed) & before.keys())}:
        connection.execute(sa.delete(digest_rules).where(table.env == env, table.rule == rule))
    if changed:
        rows = [
            {"env": env, "rule": rule, "terms": rules[rule], "since": at, "message_key": message_key}
            for rule in changed
        ]
        connection.execute(sa.insert(digest_rules), rows)


def silenced(connection: sa.Connection, message_key: str) -> set[tuple[str, str, datetime, int, str]]:
    """The crossings that this digest recorded and did not announce, because a rule had changed."""
    table = announced_crossings.c
    query = sa.select(table.account_id, table.meter, table.period_start, table.quota, table.threshold).where(
        table.message_key == message_key, table.outcome == RULE_CHANGED
    )
    return {(row[0], row[1], row[2], row[3], row[4]) for row in connection.execute(query)}
