"""Usage events with known answers: what `headroom demo`, the end-to-end tests and the benchmarks run on.

Here: a seeded generator that writes landing files and an account list as real senders leave them (late,
repeated, malformed, ahead of the clock), and returns the truth that the marts have to find again. Add a story
when a rule of the digest or of billing has no account that shows it.

Not here: anything that reads these files. The truth comes from the plan, never from our parser or marts, so
it can contradict them.
"""

from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path

from orchestration.demo import files, tokens
from orchestration.demo.plan import STORIES, THRESHOLDS, AccountTruth, History, Truth, planned_accounts, truth_of

__all__ = ["STORIES", "THRESHOLDS", "AccountTruth", "Truth", "generate"]


def generate(
    landing: Path,
    accounts_csv: Path,
    *,
    now: datetime,
    accounts: int = 300,
    days: int = 60,
    events: int = 150_000,
    seed: int = 7,
) -> Truth:
    """Write `usage-<UTC day>.ndjson` for the `days` up to `now`, `quotas.ndjson` and the account list.

    The same arguments write the same bytes; other files of the folder stay. `events` is approximate:
    stories add the calls that they need. All stories exist from 20 accounts on; "dormant" needs 9 days.
    Raises ValueError for a naive `now`, or if there is nothing to write.
    """
    if now.tzinfo is None or accounts < 1 or days < 1 or events < 0:
        raise ValueError("now must be aware, accounts and days positive, events not negative")
    history = History(now.astimezone(UTC), days, seed)
    plan = planned_accounts(history, accounts, events)
    for account in plan:
        tokens.plan_requests(history, account)
    truths = tuple(truth_of(history, account) for account in plan)
    rejected: Counter[str] = Counter()
    extra = files.malformed_lines(history, plan[0], rejected)
    for account in (a for a, truth in zip(plan, truths, strict=True) if 100 in truth.crossed):
        day, notice = files.limit_reached(history, account)
        extra[day].append(notice)
    extra[history.last] += [files.seats_reached(history, account) for account in plan if account.seats]
    for account in plan:
        for day, line in tokens.request_lines(history, account):
            extra[day].append(line)
    in_two_days = history.now + timedelta(days=2)
    future = [files.event(history, "api_call", in_two_days, plan[0].account_id) for _ in range(2)]
    extra[history.last] += future
    quotas = files.quota_lines(history, plan, rejected)

    landing.mkdir(parents=True, exist_ok=True)
    accounts_csv.parent.mkdir(parents=True, exist_ok=True)
    files.write_accounts(history, accounts_csv, plan)
    with files.written_whole(landing / "quotas.ndjson") as file:
        file.writelines(quotas)
    lines, duplicates = files.write_usage(history, landing, plan, extra)
    calls = sum(sum(account.calls) for account in plan)
    return Truth(history.now, truths, calls, duplicates, dict(rejected), len(future), lines + len(quotas))
