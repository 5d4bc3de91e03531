"""What should have happened by now and has not, in words: no hourly run that succeeded, no digest. Knows no Dagster."""

from dataclasses import dataclass
from datetime import date, datetime
from enum import Enum

from orchestration.messages.failures import DEFAULT_AUDIENCE
from orchestration.messages.message import Message

KIND = "overdue"


class Obstacle(Enum):
    """What is in the way, as far as Dagster's runs tell."""

    UNDER_WAY = "{job} (run {run}) has been running since {at}: end it in Dagster's UI if it hangs"
    FAILED = "run {run} of {job} failed at {at}: Dagster's UI says why"
    WAITING = "run {run} of {job} has waited since {at}: check that Dagster's daemon and code server run"
    NONE = "no run of {job} was started: check that its schedule is on and Dagster's daemon runs"


@dataclass(frozen=True)
class Overdue:
    """Something that did not come in time."""

    key: str
    """Of its notice: the same for as long as it lasts."""
    subject: str
    sentence: str
    """What is missing since when, and what is in the way."""


def obstacle(kind: Obstacle, job: str, run_id: str = "", at: datetime | None = None) -> str:
    return kind.value.format(job=job, run=run_id[:8], at=f"{at:%d %b %H:%M} UTC" if at else "")


def hourly(since: datetime, last_success: str | None, obstacle: str) -> Overdue:
    """No hourly run has succeeded since then, or since its first one began."""
    words = "has succeeded since" if last_success else "has ever succeeded; the first began"
    sentence = f"No hourly run {words} {since:%d %b %H:%M} UTC: {obstacle}."
    return Overdue(f"{KIND}|hourly|{last_success or 'never'}", "hourly runs", sentence)


def digest(on: date, is_decided: bool, obstacle: str) -> Overdue:
    """The digest was due an hour ago."""
    words = "decided, but not sent" if is_decided else "not there"
    return Overdue(f"{KIND}|digest|{on}", "digest", f"The digest of {on} is {words}, an hour after 8am: {obstacle}.")


def notice(overdue: Overdue) -> Message:
    """For the data team, once for as long as it lasts."""
    return Message(overdue.key, DEFAULT_AUDIENCE, "Headroom is overdue", overdue.sentence)
