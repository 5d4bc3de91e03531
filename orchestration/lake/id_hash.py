"""The hash of what an event is known by, eight bytes that are stored beside each call: by them a batch finds which of
its ids were there before, in half the time that the ids of every stored call take.

The engine promises no hash from version to version. Its hashes of some probes name the column, so that another engine
writes another one, and reads files without its own by their ids.
"""

from functools import cache

from orchestration.lake import in_memory

HASH = "hash(source, event_id)"
_NAME = "id_hash_"
_PROBES = """
    select md5(string_agg(hash(left(probe, n), right(probe, n)), ' ' order by n))[:8]
    from range(65) as lengths (n), (select repeat('aZ0-é', 13) as probe)"""


def column() -> str:
    """The name of the column with HASH, as this engine has it."""
    return _column(_PROBES)


@cache
def _column(probes: str) -> str:
    with in_memory.engine() as connection:
        [[name]] = connection.execute(probes).fetchall()
    return f"{_NAME}{name}"


def renewed() -> str:
    """What to select of stored calls so that all have the hash of today, and no other."""
    return f"columns(lambda name: not starts_with(name, '{_NAME}')), {HASH} as {column()}"
