"""When a schedule tries again what was refused or is in doubt: ever more rarely, by the schedule's own ticks."""

from datetime import datetime, timedelta

EVERY = timedelta(minutes=5)
"""Between two ticks of the schedules that try again."""


def retries_due(since: datetime, now: datetime) -> int:
    """How many retries are due by the tick at `now`: the first after 5 minutes, then after 10, 20, 40 …

    Nobody decides a message on a tick. So the waiting time counts in whole ticks, to the nearest one: what was decided
    at 08:00:20 is tried again at 08:05, 08:10, 08:20 and 08:40. Waiting for the full time would find the tick at 08:05
    too early by seconds, and each retry would be a tick late.
    """
    return ((now - since + EVERY / 2) // EVERY).bit_length() if now > since else 0
