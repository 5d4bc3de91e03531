"""Usage events with known answers: what `headroom demo`, the end-to-end tests and the benchmarks run on.

Here: a seeded generator that writes landing files and an account list as real senders leave them (late,
repeated, malformed, ahead of the clock), and returns the truth that the marts have to find again. Add a story
when a rule of the digest or of billing has no account that shows it.

Not here: anything that reads these files. The truth comes from the plan, never from our parser or marts, so
it can contradict them.
"""

import csv
import json
import random
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from functools import cache
from itertools import accumulate
from pathlib import Path
from typing import Any, TextIO

THRESHOLDS = (50, 80, 95, 100, 120)
# The first accounts of every hundred have one of these each; the others are ordinary.
STORIES = (
    *("growing", "flat", "crossing_80", "over_120", "crossing_95", "upgraded", "crossing_100"),
    *("dormant", "blocked", "unlimited", "unknown", "bursting", "invalid_quota", "idle"),
)
_ORDINARY = ("flat", "flat", "growing", "flat", "bursting", "flat", "flat", "dormant")
# Calls that a story needs in the month of `now`, even five minutes after its start. 40 for the crossings:
# below a quota of 20 the same call reaches 95 % and 100 %.
_MONTH_MINIMUM = {"over_120": 12, "blocked": 3, "unlimited": 3, "unknown": 3, "invalid_quota": 3}
_MONTH_MINIMUM |= {"crossing_80": 40, "crossing_95": 40, "crossing_100": 40}
_NEXT_THRESHOLD = {80: 95, 95: 100, 100: 120}
_STATE_WITHOUT_QUOTA = {"unlimited": "unlimited", "unknown": "unknown", "invalid_quota": "unknown"}
_QUOTA_PER_BUSIEST_MONTH = {"growing": 1.3, "bursting": 1.6, "upgraded": 3.0}
_CROSSING_WINDOW_SECONDS = 20 * 3600
_LATE_RATIO, _DUPLICATE_RATIO = 0.01, 0.005
_CHUNK_LINES = 50_000  # about 12 MB of text; of a whole day only the times are in memory

_FIRST_WORDS = """amber atlas beacon birch cedar cobalt copper coral delta ember falcon fjord granite harbor
    hazel indigo juniper kestrel lumen maple meadow nimbus north onyx orchid pioneer quartz raven tidal"""
_SECOND_WORDS = """analytics apparel biotech cargo dental energy finance foods freight games health insurance
    labs legal logistics media mobility retail robotics travel"""
_OWNERS = ("dana.reyes", "femi.adeyemi", "ingrid.lund", "marco.conti", "priya.nair")
_PRICE_CENTS = {"free": 0, "starter": 4_900, "growth": 49_900, "scale": 199_000, "enterprise": 950_000}
_ROUTES = [("/v1/search", "GET", 200)] * 2 + [("/v1/items", "POST", 201), ("/v1/items/4", "PUT", 200)]
# One entry for each value of a random byte. A call is a call: 4xx and 5xx count like the others.
_REQUESTS = [
    f'"endpoint":"{endpoint}","method":"{method}","status":{status}}}}}\n'
    for endpoint, method, success in _ROUTES
    for status in [success] * 60 + [404, 404, 429, 500]
]
_CALL = {"endpoint": "/v1/search", "method": "GET", "status": 200}


@dataclass(frozen=True)
class AccountTruth:
    """What the marts must say about one account at `now`."""

    account_id: str
    story: str  # one of STORIES
    quota: int | None  # in force at now; None where unlimited or unknown, 0 where blocked
    quota_state: str  # "limited" | "unlimited" | "blocked" | "unknown"
    calls_by_date: Mapping[date, int]  # UTC day -> distinct valid calls up to now; no zeros
    used_mtd: int  # calls in the UTC calendar month of now, up to now
    crossed: tuple[int, ...]  # of THRESHOLDS, those reached in the month under `quota`; limited accounts only
    stripe_customer_id: str | None


@dataclass(frozen=True)
class Truth:
    """What was written, counted once."""

    now: datetime
    accounts: tuple[AccountTruth, ...]
    calls: int  # distinct valid calls with event time <= now
    duplicates: int  # repeated lines: same uuid, same bytes
    rejected: Mapping[str, int]  # reason -> lines that must be quarantined
    future: int  # valid calls more than five minutes ahead of now: kept, not counted
    lines: int  # over all files


class _History:
    """The days up to `now`, numbered from 0, and the random numbers that decide what happens on them."""

    def __init__(self, now: datetime, days: int, seed: int) -> None:
        midnight = now.replace(hour=0, minute=0, second=0, microsecond=0)
        self.rng, self.now, self.last = random.Random(seed), now, days - 1
        self.start = midnight - timedelta(days=self.last)
        self.dates = [(self.start + timedelta(days=day)).date() for day in range(days)]
        self.month = max(0, days - now.day)  # the first day in the month of now
        month_start = midnight.replace(day=1)
        self.half_month = month_start + (now - month_start) / 2
        self.opening = min(self.start, month_start)  # quotas are set before it
        self.last_second = int((now - midnight).total_seconds())


@dataclass
class _Account:
    number: int
    account_id: str
    story: str
    stripe_customer_id: str | None
    calls: list[int] = field(default_factory=list)  # by day
    seconds: dict[int, list[int]] = field(default_factory=dict)  # by day, where the plan had to fix the times
    quota: int | None = None

    @property
    def plan(self) -> str:
        if self.quota is None:
            return "enterprise" if self.story == "unlimited" else "growth"
        return _plan_for(self.quota)


def generate(
    landing: Path,
    accounts_csv: Path,
    *,
    now: datetime,
    accounts: int = 300,
    days: int = 45,
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
    history = _History(now.astimezone(UTC), days, seed)
    plan = _planned_accounts(history, accounts, events)
    truths = tuple(_truth_of(history, account) for account in plan)
    rejected: Counter[str] = Counter()
    extra = _malformed_lines(history, plan[0], rejected)
    for account in (a for a, truth in zip(plan, truths, strict=True) if 100 in truth.crossed):
        day, notice = _limit_reached(history, account)
        extra[day].append(notice)
    in_two_days = history.now + timedelta(days=2)
    future = [_event(history, "api_call", in_two_days, plan[0].account_id) for _ in range(2)]
    extra[history.last] += future
    quotas = _quota_lines(history, plan, rejected)

    landing.mkdir(parents=True, exist_ok=True)
    accounts_csv.parent.mkdir(parents=True, exist_ok=True)
    _write_accounts(history, accounts_csv, plan)
    with _written_whole(landing / "quotas.ndjson") as file:
        file.writelines(quotas)
    lines, duplicates = _write_usage(history, landing, plan, extra)
    calls = sum(sum(account.calls) for account in plan)
    return Truth(history.now, truths, calls, duplicates, dict(rejected), len(future), lines + len(quotas))


def _planned_accounts(history: _History, count: int, events: int) -> list[_Account]:
    """Everything but times and ids: who calls how often on which day, and under which quota."""
    slugs = [f"{first}-{second}" for first in _FIRST_WORDS.split() for second in _SECOND_WORDS.split()]
    history.rng.shuffle(slugs)
    plan: list[_Account] = []
    for n in range(count):
        slug = slugs[n % len(slugs)] + (f"-{n // len(slugs) + 1}" if n >= len(slugs) else "")
        story = STORIES[n % 100] if n % 100 < len(STORIES) else _ORDINARY[n % len(_ORDINARY)]
        customer = None if n % 10 == 9 else f"cus_demo{history.rng.getrandbits(40):010x}"
        # Two accounts of one company: Stripe has to get their sum.
        plan.append(_Account(n, slug, story, plan[0].stripe_customer_id if n == 1 else customer))
    # Zipf-like sizes; the accounts that the digest is about are rather large ones.
    ranked = sorted(plan, key=lambda a: history.rng.random() * (0.2 if a.number % 100 < len(STORIES) else 1))
    weights = {a.number: 1 / rank for rank, a in enumerate(ranked, 3) if a.story not in ("idle", "blocked")}
    calls_per_weight = events / (sum(weights.values()) or 1)
    for account in plan:
        _plan_calls(history, account, max(3.0, weights.get(account.number, 0.0) * calls_per_weight))
        account.quota = _quota_of(history, account)
    return plan


def _plan_calls(history: _History, account: _Account, total: float) -> None:
    story, days = account.story, len(history.dates)
    # Seven whole days without a call, and the hours before now.
    active = {"idle": 0, "dormant": max(0, min(days // 3, days - 8))}.get(story, days)
    shape = [0.35 if day.weekday() >= 5 else 1.0 for day in history.dates]
    shape[-1] *= (history.last_second + 1) / 86_400
    if story == "growing":
        shape = [part * (1 + 1.5 * day / days) for day, part in enumerate(shape)]
    elif story == "bursting":
        shape = [part * (4 if day % 5 == account.number % 5 else 1) for day, part in enumerate(shape)]
    scale = total / (sum(shape[:active]) or 1)
    account.calls = [int(part * scale + history.rng.random()) for part in shape[:active]]
    account.calls += [0] * (days - active)
    if active and not any(account.calls):
        account.calls[0] = 3
    account.calls[-1] += max(0, _MONTH_MINIMUM.get(story, 0) - sum(account.calls[history.month :]))


def _quota_of(history: _History, account: _Account) -> int | None:
    if account.story in _STATE_WITHOUT_QUOTA:
        return None
    if account.story == "blocked":
        return 0
    if account.story == "over_120":
        return sum(account.calls[history.month :]) * 100 // history.rng.randint(122, 160)
    if account.story.startswith("crossing_"):
        return _crossing_quota(history, account)
    months: Counter[date] = Counter()
    for day, calls in zip(history.dates, account.calls, strict=True):
        months[day.replace(day=1)] += calls
    factor = _QUOTA_PER_BUSIEST_MONTH.get(account.story, history.rng.randint(3, 8))
    return _round_up(max(months.values()) * factor)


def _crossing_quota(history: _History, account: _Account) -> int:
    """Fix the latest call times, choose the call that crosses, return the quota that makes it cross."""
    threshold, last = int(account.story.removeprefix("crossing_")), history.last
    opens = history.last_second - _CROSSING_WINDOW_SECONDS  # from midnight; negative is yesterday
    for day in range(max(0, last - 1), last + 1):
        account.seconds[day] = _sampled_seconds(history, account, day)
    recent = [(day - last) * 86_400 + second for day, times in account.seconds.items() for second in times]
    in_window = sum(second >= opens for second in recent)
    for _ in range(8 - in_window):
        account.seconds[last].append(history.rng.randint(max(0, opens), history.last_second))
        account.calls[last] += 1
    used = sum(account.calls[history.month :])
    # The largest quota that the n-th call of the month is the first to reach: n * 100 >= quota * threshold.
    first = max(1, used - max(8, in_window) + 1)  # on the 1st the window reaches back into another month
    quotas = [nth * 100 // threshold for nth in range(first, used + 1)]
    below_next = [quota for quota in quotas if used * 100 < quota * _NEXT_THRESHOLD[threshold]]
    return history.rng.choice(below_next or quotas[-1:])


def _truth_of(history: _History, account: _Account) -> AccountTruth:
    used, quota = sum(account.calls[history.month :]), account.quota
    state = _STATE_WITHOUT_QUOTA.get(account.story) or ("limited" if quota else "blocked")
    by_date = {day: calls for day, calls in zip(history.dates, account.calls, strict=True) if calls}
    crossed = tuple(threshold for threshold in THRESHOLDS if quota and used * 100 >= quota * threshold)
    customer = account.stripe_customer_id
    return AccountTruth(account.account_id, account.story, quota, state, by_date, used, crossed, customer)


def _quota_lines(history: _History, plan: list[_Account], rejected: Counter[str]) -> list[str]:
    # The first account keeps the quota that it had.
    changes: list[tuple[datetime, str, Any, str]]
    changes = [(history.half_month, plan[0].account_id, -5, plan[0].plan)]
    for a in plan:
        set_at = history.opening - timedelta(seconds=3600 - a.number % 3600)
        if a.story == "upgraded" and a.quota:
            changes.append((set_at, a.account_id, a.quota // 5, _plan_for(a.quota // 5)))
            changes.append((history.half_month, a.account_id, a.quota, a.plan))
        elif a.story == "invalid_quota":
            changes.append((set_at, a.account_id, "lots" if a.number % 200 < 100 else -5, a.plan))
        elif a.story != "unknown":
            changes.append((set_at, a.account_id, a.quota, a.plan))
    rejected["invalid_quota"] += sum(quota in (-5, "lots") for _, _, quota, _ in changes)
    return [
        _event(history, "quota_set", at, account_id, {"api_quota_monthly": quota, "plan": name})
        for at, account_id, quota, name in sorted(changes, key=lambda change: change[0])
    ]


def _malformed_lines(history: _History, account: _Account, rejected: Counter[str]) -> defaultdict[int, list[str]]:
    """Lines with one defect each, by the day in whose file they stand."""
    at, account_id, bad = history.start, account.account_id, list[tuple[str, str]]()
    for n in range(3):
        bad += [
            ("invalid_json", _event(history, "api_call", at, account_id)[: 40 + 30 * n] + "\n"),
            ("invalid_json", "upstream connect error or disconnect/reset before headers\n"),
            ("not_an_object", ("[1,2,3]\n", "42\n", '"api_call"\n')[n]),
            ("missing_account", _event(history, "api_call", at, None)),
            ("invalid_time", _event(history, "api_call", f"{at.year}-13-45T00:00:00Z", account_id)),
            ("unknown_event", _event(history, "page_view", at, account_id)),
        ]
    by_day: defaultdict[int, list[str]] = defaultdict(list)
    for n, (reason, line) in enumerate(bad):
        by_day[n * len(history.dates) // len(bad)].append(line)
        rejected[reason] += 1
    return by_day


def _limit_reached(history: _History, account: _Account) -> tuple[int, str]:
    """The day on which the quota was used up, and the sender's own notice from the end of that day."""
    quota, month = account.quota or 0, enumerate(accumulate(account.calls[history.month :]), history.month)
    day, used = next((day, used) for day, used in month if used >= quota)
    at = min(history.start + timedelta(days=day + 1, seconds=-1), history.now)
    facts = {"metric": "api-calls", "limit": quota, "used": used, "plan": account.plan}
    return day, _event(history, "usage.limit_reached", at, None, {"customer_id": account.account_id, **facts})


def _write_usage(
    history: _History, landing: Path, plan: list[_Account], extra: Mapping[int, list[str]]
) -> tuple[int, int]:
    """Write one day after the other; return how many lines that were, and how many of them repetitions."""
    rng, last, lines, duplicates = history.rng, history.last, 0, 0
    waiting: defaultdict[int, list[str]] = defaultdict(list)  # by day: late calls, repetitions
    for day, on in enumerate(history.dates):
        # Time and account in one integer: these sort several times faster than tuples.
        keys: list[int] = []
        for account in plan:
            seconds = account.seconds.get(day) or _sampled_seconds(history, account, day)
            keys += [second * len(plan) + account.number for second in seconds]
        keys.sort()
        with _written_whole(landing / f"usage-{on}.ndjson") as file:
            earlier = waiting.pop(day, []) + extra.get(day, [])
            file.writelines(earlier)
            lines += len(earlier)
            for start in range(0, len(keys), _CHUNK_LINES):
                chunk = _call_lines(history, keys[start : start + _CHUNK_LINES], plan, on)
                for _ in range(int(len(chunk) * _LATE_RATIO + rng.random()) if day < last else 0):
                    n = rng.randrange(len(chunk))
                    chunk[n], chunk[-1] = chunk[-1], chunk[n]
                    waiting[min(day + rng.randint(1, 2), last)].append(chunk.pop())
                for _ in range(int(len(chunk) * _DUPLICATE_RATIO + rng.random())):
                    is_repeated_here = day == last or rng.random() < 0.5
                    (chunk if is_repeated_here else waiting[day + 1]).append(rng.choice(chunk))
                    duplicates += 1
                file.writelines(chunk)
                lines += len(chunk)
    return lines, duplicates


def _sampled_seconds(history: _History, account: _Account, day: int) -> list[int]:
    """Times of the day's calls, unsorted; on the last day those after now are folded back before it."""
    burst_hour = 8 + (account.number * 7 + day * 5) % 12 if account.story == "bursting" else None
    seconds = history.rng.choices(_weighted_seconds(burst_hour), k=account.calls[day])
    return seconds if day < history.last else [second % (history.last_second + 1) for second in seconds]


@cache
def _weighted_seconds(burst_hour: int | None) -> list[int]:
    """Seconds of a day: all, more of them in office hours; or two hours that carry 86 % of the day."""
    if burst_hour is not None:
        return [*range(burst_hour * 3600, burst_hour * 3600 + 7200), *range(0, 86_400, 72)]
    steps = [6] * 6 + [3] * 2 + [1] * 10 + [2] * 3 + [3] * 3
    return [s for hour, step in enumerate(steps) for s in range(hour * 3600, hour * 3600 + 3600, step)]


@cache
def _clock() -> list[str]:
    return [f"{second // 3600:02d}:{second // 60 % 60:02d}:{second % 60:02d}" for second in range(86_400)]


def _call_lines(history: _History, keys: list[int], plan: list[_Account], on: date) -> list[str]:
    """The hot loop, 1.5 microseconds a line: all but time and id is text beforehand."""
    heads = [f'{{"event":"{"api_request" if a.number % 17 == 5 else "api_call"}","uuid":"' for a in plan]
    middles = [f'","distinct_id":"{a.account_id}","timestamp":"{on}T' for a in plan]
    tails = [f'Z","properties":{{"account_id":"{a.account_id}",' for a in plan]
    clock, accounts, lines, at = _clock(), len(plan), [], 0
    ids = history.rng.randbytes(16 * len(keys)).hex()
    for key, request in zip(keys, history.rng.randbytes(len(keys)), strict=True):
        second, n = divmod(key, accounts)
        uuid = f"{ids[at : at + 8]}-{ids[at + 8 : at + 12]}-4{ids[at + 13 : at + 16]}-"
        uuid += f"a{ids[at + 17 : at + 20]}-{ids[at + 20 : at + 32]}"
        lines.append(f"{heads[n]}{uuid}{middles[n]}{clock[second]}{tails[n]}{_REQUESTS[request]}")
        at += 32
    return lines


def _event(
    history: _History, name: str, at: datetime | str, account_id: str | None, facts: Mapping[str, Any] = _CALL
) -> str:
    """One line of any kind; the hot loop has its own way for calls."""
    raw = history.rng.randbytes(16).hex()
    uuid = f"{raw[:8]}-{raw[8:12]}-4{raw[13:16]}-a{raw[17:20]}-{raw[20:]}"
    line: dict[str, Any] = {"event": name, "uuid": uuid}
    if account_id is not None:
        line["distinct_id"] = account_id
    line["timestamp"] = f"{at:%Y-%m-%dT%H:%M:%SZ}" if isinstance(at, datetime) else at
    line["properties"] = facts if account_id is None else {"account_id": account_id, **facts}
    return json.dumps(line, separators=(",", ":")) + "\n"


def _write_accounts(history: _History, path: Path, plan: list[_Account]) -> None:
    with _written_whole(path) as file:
        rows = csv.writer(file, lineterminator="\n")
        rows.writerow(("account_id", "name", "owner", "plan", "mrr", "stripe_customer_id"))
        for a in plan:
            name, customer = a.account_id.replace("-", " ").title(), a.stripe_customer_id or ""
            owner = "" if a.number % 40 == 7 else f"{history.rng.choice(_OWNERS)}@example.com"
            cents = _PRICE_CENTS[a.plan] * history.rng.randint(85, 140) // 100
            rows.writerow((a.account_id, name, owner, a.plan, f"{cents // 100}.{cents % 100:02d}", customer))


def _plan_for(quota: int) -> str:
    return "free" if quota == 0 else "starter" if quota < 10_000 else "growth" if quota < 100_000 else "scale"


def _round_up(calls: float) -> int:
    """The next quota that a price list would print, at least 100."""
    unit: int = max(10, 10 ** len(str(int(calls))) // 100)
    return next(unit * tens for tens in (10, 15, 20, 30, 50, 75, 100) if unit * tens >= calls)


@contextmanager
def _written_whole(path: Path) -> Iterator[TextIO]:
    """A file that gets its name when it is complete; readers skip the hidden part."""
    part = path.with_name(f".{path.name}.part")
    try:
        with part.open("w", encoding="utf-8", newline="") as file:
            yield file
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
