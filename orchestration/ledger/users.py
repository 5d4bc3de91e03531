"""Who the owners of accounts are at a channel, so that it can call them: by e-mail address, remembered for a week.

Nothing depends on it: an owner who is not found is named instead.
"""

import re
from collections.abc import Callable, Iterable
from datetime import datetime, timedelta

from orchestration.ledger.ledger import Ledger
from orchestration.ledger.outbox import InDoubtError, RefusedError

MAX_AGE = timedelta(days=7)


def mentions(
    ledger: Ledger,
    channel: str,
    owners: Iterable[str | None],
    look_up: Callable[[str], str | None],
    now: datetime,
    say: Callable[[str], object],
) -> dict[str, str]:
    """User ids of those owners that are e-mail addresses of users of the channel.

    `look_up` answers with a user id, or None for a stranger, who is asked for again each time. Once it fails, what is
    known stays as it was, however old, and `say` gets the reason.
    """
    known = ledger.users(channel)
    addresses = sorted({owner for owner in owners if owner and re.fullmatch(r"[^@\s]+@[^@\s]+\.[^@\s]+", owner)})
    try:
        for address in addresses:
            if address not in known or now - known[address][1] > MAX_AGE:
                ledger.remember_user(channel, address, look_up(address), now)
    except (RefusedError, InDoubtError) as error:
        say(f"owners are named and not mentioned: {error}")
    known = ledger.users(channel)
    return {address: known[address][0] for address in addresses if address in known}
