"""Failed runs in words: the first of a job's failures, and each morning what is still failing. Knows no Dagster."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from zoneinfo import ZoneInfo

from orchestration.messages.message import Line, Message, Section
from orchestration.messages.undelivered import EXITS
from orchestration.usage.formatting import counted

DEFAULT_AUDIENCE = "data"
STEPS = 3
"""Failed steps of a run that an alert lists."""


@dataclass(frozen=True)
class Failure:
    """A failed run."""

    job: str
    run_id: str
    last_success: str | None
    """Id of the job's last run before it that succeeded: a failure after the same one is not the first."""
    reasons: Mapping[str, str]
    """Why, by failed step; where no step failed, by nothing ("")."""
    owners: Sequence[str] = ()
    """Of the assets that failed, such as team:data."""


def alert(failure: Failure, audiences: Iterable[str]) -> Message:
    """The notice of a job's first failure since it succeeded; for the same streak it always has the same key."""
    name = "A run by hand" if failure.job.startswith("__") else failure.job
    lines = [f"{step + ': ' if step else ''}{reason}" for step, reason in failure.reasons.items()]
    more = [f"… and {counted(len(lines) - STEPS, 'more step')}"] if len(lines) > STEPS else []
    return Message(
        key=f"run_failure|{failure.job}|{failure.last_success or 'never'}",
        audience=audience(failure.owners, audiences),
        title=f"{name} failed",
        headline=f"Run {failure.run_id[:8]}",
        notification=f"Headroom: {name} failed (run {failure.run_id[:8]}): {lines[0]}",
        sections=[Section("", [Line(line) for line in [*lines[:STEPS], *more]])],
        footer=["You will not be alerted again until it has succeeded. What still fails is listed each morning."],
    )


def audience(owners: Iterable[str], audiences: Iterable[str]) -> str:
    """The data team, unless all that failed belongs to other teams that have a channel: then the first of them."""
    teams, known = {owner.removeprefix("team:") for owner in owners}, set(audiences)
    return DEFAULT_AUDIENCE if DEFAULT_AUDIENCE in teams else min(teams & known, default=DEFAULT_AUDIENCE)


def morning(
    failing: Mapping[str, datetime],
    waiting: Sequence[str],
    on: date,
    now: datetime,
    zone: ZoneInfo,
    overdue: Sequence[str] = (),
) -> Message:
    """The daily line: jobs that failed and have not succeeded since, by when their newest run failed, what is overdue,
    and `waiting`, a sentence for each message that is not sent yet, with what people can do about it.
    """
    at = now.astimezone(zone)
    jobs = ", ".join(f"{job} (last {since.astimezone(zone):%d %b %H:%M})" for job, since in sorted(failing.items()))
    lines = [*([f"Still failing: {jobs}."] if jobs else []), *overdue]
    headline = " ".join(lines) or "No job is failing."
    if waiting:
        headline += f" {counted(len(waiting), 'message')} not sent yet: run `headroom deliveries`."
    return Message(
        key=f"failing|{on}",
        audience=DEFAULT_AUDIENCE,
        title=f"Runs · {at:%a %d %b %H:%M %Z}",
        headline=headline,
        sections=[Section("Not sent yet", [Line(sentence) for sentence in waiting])] if waiting else [],
        footer=[EXITS] if waiting else [],
    )
