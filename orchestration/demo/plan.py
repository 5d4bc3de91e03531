"""What happens in the demo: who calls how often on which day, under which quota; and so what is true of it.

Nothing here writes or knows how a line looks.
"""

import random
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from functools import cache
from itertools import pairwise

THRESHOLDS = (50, 80, 95, 100, 120)
"""Those of dbt_project/seeds/thresholds.csv, in percent."""
# The first accounts of every hundred have one of these each; the others are ordinary.
STORIES = (
    *("growing", "flat", "crossing_80", "over_120", "crossing_95", "upgraded", "crossing_100"),
    *("dormant", "blocked", "unlimited", "unknown", "bursting", "invalid_quota", "idle"),
    *("retry_storm", "trial", "dropping"),
)
_IN_DIGEST = {"crossing_80", "over_120", "crossing_95", "upgraded", "crossing_100"}
_IN_DIGEST |= {"dormant", "retry_storm", "trial", "dropping"}
"""Once in a demo of any size: a morning with one of each is a morning that one can read."""
_CYCLED = _IN_DIGEST - {"dormant", "dropping"}
_CYCLE_DAYS = 19
"""Days of the running period that are over for them: enough for a forecast, and ten are ahead. So the stories are the
same on each day of a month."""
_ORDINARY = ("flat", "flat", "growing", "flat", "bursting", "flat", "flat", "flat")
# Calls that a story needs in the period of `now`, even five minutes after its start. 40 for the crossings:
# below a quota of 20 the same call reaches 95 % and 100 %.
_PERIOD_MINIMUM = {"over_120": 12, "blocked": 3, "unlimited": 3, "unknown": 3, "invalid_quota": 3}
_PERIOD_MINIMUM |= {"crossing_80": 40, "crossing_95": 40, "crossing_100": 40, "trial": 40, "retry_storm": 40}
_NEXT_THRESHOLD = dict(pairwise(THRESHOLDS))
_STATE_WITHOUT_QUOTA = {"unlimited": "unlimited", "unknown": "unknown", "invalid_quota": "unknown"}
_QUOTA_PER_BUSIEST_MONTH = {"growing": 1.3, "bursting": 1.6, "upgraded": 3.0}
_THRESHOLD = {"crossing_80": 80, "crossing_95": 95, "crossing_100": 100, "trial": 80, "retry_storm": 95}
"""What a story crosses within the last hours, in percent."""
_PLAN = {"crossing_80": "growth", "over_120": "growth", "crossing_95": "growth"}
_PLAN |= {"crossing_100": "team", "trial": "free"}
"""Where the story is about what the plan does at its quota: team and free refuse, growth sells more."""
_RENEWAL_DAYS = {"crossing_100": 21}
_CROSSING_WINDOW_SECONDS = 20 * 3600
_STORM_DAYS, STORM_ERROR_RATIO = 7, 0.6
"""Whole days, and today, on which a retry storm sends its failed calls again: so much of its calls."""
_STORM_MIN_CALLS = 12
_DROP_DAYS, _DROP_MIN_CALLS = 7, 30
_SEATED = 1  # of a demo the one account whose seats are reported
_TOKEN_USERS = (0, 33, 66)
"""Of every hundred accounts those that use language models as well."""
_TOKEN_QUOTA = 2_000_000  # a month
_TOKEN_RENEWAL_DAYS = 120  # too far away to wait for

_FIRST_WORDS = """amber atlas beacon birch cedar cobalt copper coral delta ember falcon fjord granite harbor
    hazel indigo juniper kestrel lumen maple meadow nimbus north onyx orchid pioneer quartz raven tidal"""
_SECOND_WORDS = """analytics apparel biotech cargo dental energy finance foods freight games health insurance
    labs legal logistics media mobility retail robotics travel"""


@dataclass(frozen=True)
class AccountTruth:
    """What the marts must say about one account at `now`."""

    account_id: str
    story: str  # one of STORIES
    quota: int | None  # in force at now; None where unlimited or unknown, 0 where blocked
    quota_state: str  # "limited" | "unlimited" | "blocked" | "unknown"
    calls_by_date: Mapping[date, int]  # UTC day -> distinct valid calls up to now; no zeros
    period_anchor: date | None  # first UTC day of the account's own period; None where it is the calendar month
    used_mtd: int  # calls in the period of now, up to now
    crossed: tuple[int, ...]  # of THRESHOLDS, those reached in the period under `quota`; limited accounts only
    stripe_customer_id: str | None
    seats: tuple[int, int] | None  # used and limit, where seats are reported; used up since today
    tokens: tuple[int, int] | None  # used in the period of now, and quota, where language models are used
    tokens_by_date: Mapping[date, int]  # UTC day -> tokens up to now; no zeros


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


class History:
    """The days up to `now`, numbered from 0, and the random numbers that decide what happens on them."""

    def __init__(self, now: datetime, days: int, seed: int) -> None:
        midnight = now.replace(hour=0, minute=0, second=0, microsecond=0)
        self.rng = random.Random(seed)  # noqa: S311 - demo data is no cryptography
        self.token_rng = random.Random(f"{seed} tokens")  # noqa: S311 - of its own: who uses none is not changed by it
        self.now, self.last = now, days - 1
        self.start = midnight - timedelta(days=self.last)
        self.dates = [(self.start + timedelta(days=day)).date() for day in range(days)]
        self.month = max(0, days - now.day)  # the first day in the month of now
        month_start = midnight.replace(day=1)
        self.half_month = month_start + (now - month_start) / 2
        self.upgraded_at = now - timedelta(hours=5)
        self.cycle_on = now.date() - timedelta(days=_CYCLE_DAYS)
        self.cycle = max(0, self.last - _CYCLE_DAYS)  # its first day, or that of the history
        self.opening = min(self.start, month_start, midnight - timedelta(days=_CYCLE_DAYS))  # quotas are set before it
        self.last_second = int((now - midnight).total_seconds())


@dataclass
class Account:
    """One account as it is planned; `calls` are all that happen up to now."""

    number: int
    account_id: str
    story: str
    stripe_customer_id: str | None
    calls: list[int] = field(default_factory=list)  # by day
    seconds: dict[int, list[int]] = field(default_factory=dict)  # by day, where the plan had to fix the times
    quota: int | None = None
    requests: dict[int, list[tuple[int, int]]] = field(default_factory=dict)
    """Requests to language models by day: second and tokens, in order."""

    @property
    def token_quota(self) -> int | None:
        """Tokens a month that the account may use; None where it uses none."""
        return _TOKEN_QUOTA if self.number % 100 in _TOKEN_USERS else None

    @property
    def crosses_tokens(self) -> bool:
        """Whether its latest request crosses 80 % of its tokens: once in a demo of any size."""
        return self.number == _TOKEN_USERS[0]

    @property
    def seats(self) -> int | None:
        """Seats that the account may have, all of them taken; None where nobody reports any."""
        return 50 if self.number == _SEATED else None

    @property
    def plan(self) -> str:
        if self.quota is None:
            return "enterprise" if self.story == "unlimited" else "growth"
        plan = _PLAN.get(self.story) or plan_for(self.quota)
        return "growth" if self.token_quota and plan in ("free", "starter") else plan  # which sell no tokens

    @property
    def has_own_period(self) -> bool:
        return self.story in _CYCLED or self.crosses_tokens

    def tokens_between(self, first: int, last: int) -> int:
        """Tokens used on the days from `first` to `last`, both included."""
        return sum(tokens for day in range(first, last + 1) for _, tokens in self.requests.get(day, ()))

    def first_day(self, history: History) -> int:
        """Of the running period."""
        return history.cycle if self.has_own_period else history.month

    def period_anchor(self, history: History) -> date | None:
        """First UTC day of a period of its own; None where it is the calendar month."""
        return history.cycle_on if self.has_own_period else None

    @property
    def renewal_days(self) -> int:
        """Until the contract is renewed."""
        days = _TOKEN_RENEWAL_DAYS if self.crosses_tokens else self.number * 37 % 365
        return _RENEWAL_DAYS.get(self.story, days)


def planned_accounts(history: History, count: int, events: int) -> list[Account]:
    """Everything but times and ids: who calls how often on which day, and under which quota."""
    slugs = [f"{first}-{second}" for first in _FIRST_WORDS.split() for second in _SECOND_WORDS.split()]
    history.rng.shuffle(slugs)
    plan: list[Account] = []
    for n in range(count):
        slug = slugs[n % len(slugs)] + (f"-{n // len(slugs) + 1}" if n >= len(slugs) else "")
        story = STORIES[n % 100] if n % 100 < len(STORIES) else _ORDINARY[n % len(_ORDINARY)]
        story = "flat" if n >= len(STORIES) and story in _IN_DIGEST else story
        customer = None if n % 10 == 9 else f"cus_demo{history.rng.getrandbits(40):010x}"
        # Two accounts of one company: Stripe has to get their sum.
        plan.append(Account(n, slug, story, plan[0].stripe_customer_id if n == 1 else customer))
    # Zipf-like sizes; the accounts that the digest is about are rather large ones.
    ranked = sorted(plan, key=lambda a: history.rng.random() * (0.2 if a.number % 100 < len(STORIES) else 1))
    weights = {a.number: 1 / rank for rank, a in enumerate(ranked, 3) if a.story not in ("idle", "blocked")}
    calls_per_weight = events / (sum(weights.values()) or 1)
    for account in plan:
        _plan_calls(history, account, max(3.0, weights.get(account.number, 0.0) * calls_per_weight))
        account.quota = _quota_of(history, account)
    return plan


def _plan_calls(history: History, account: Account, total: float) -> None:
    story, days = account.story, len(history.dates)
    # Seven whole days without a call, and the hours before now.
    active = {"idle": 0, "dormant": max(0, min(days // 3, days - 8))}.get(story, days)
    shape = [0.35 if day.weekday() >= 5 else 1.0 for day in history.dates]
    shape[-1] *= (history.last_second + 1) / 86_400
    if story == "growing":
        shape = [part * (1 + 1.5 * day / days) for day, part in enumerate(shape)]
    elif story == "bursting":
        shape = [part * (4 if day % 5 == account.number % 5 else 1) for day, part in enumerate(shape)]
    elif story == "crossing_80":  # a job in the first days of the period used most of it; the rest lasts
        start = account.first_day(history)
        end = start + (days - start) // 3
        shape = [part * (10 if start <= day < end else 0.3) for day, part in enumerate(shape)]
    scale = total / (sum(shape[:active]) or 1)
    account.calls = [int(part * scale + history.rng.random()) for part in shape[:active]]
    account.calls += [0] * (days - active)
    if story == "retry_storm":
        _add_retries(history, account)
    elif story == "dropping":
        _drop(account)
    if active and not any(account.calls):
        account.calls[0] = 3
    account.calls[-1] += max(0, _PERIOD_MINIMUM.get(story, 0) - sum(account.calls[account.first_day(history) :]))


def _add_retries(history: History, account: Account) -> None:
    """Failed calls that are sent again, on top of what the account calls."""
    for day in range(max(0, history.last - _STORM_DAYS), history.last + 1):
        account.calls[day] = int(max(account.calls[day], _STORM_MIN_CALLS) / (1 - STORM_ERROR_RATIO))


def _drop(account: Account) -> None:
    """A third of the calls of the weeks before, since a week."""
    first = max(0, len(account.calls) - 1 - _DROP_DAYS)
    for day, calls in enumerate(account.calls):
        account.calls[day] = max(calls, _DROP_MIN_CALLS) // (1 if day < first else 3)


def has_retries(history: History, account: Account, day: int) -> bool:
    """Whether most of the account's calls of that day failed."""
    return account.story == "retry_storm" and day >= history.last - _STORM_DAYS


def former_quota(history: History, account: Account) -> int:
    """What an upgraded account had before: nearly used up yesterday."""
    used = sum(account.calls[account.first_day(history) : history.last])
    return max(1, min(used * 100 // 97, (account.quota or 0) - 1)) if used else max(1, (account.quota or 0) // 5)


def _quota_of(history: History, account: Account) -> int | None:
    if account.story in _STATE_WITHOUT_QUOTA:
        return None
    if account.story == "blocked":
        return 0
    if account.story == "over_120":
        return sum(account.calls[account.first_day(history) :]) * 100 // 121
    if account.story in _THRESHOLD:
        return _crossing_quota(history, account)
    months: Counter[date] = Counter()
    for day, calls in zip(history.dates, account.calls, strict=True):
        months[day.replace(day=1)] += calls
    factor = _QUOTA_PER_BUSIEST_MONTH.get(account.story, history.rng.randint(3, 8))
    return _round_up(max(months.values()) * factor)


def _crossing_quota(history: History, account: Account) -> int:
    """Fix the latest call times, choose the call that crosses, return the quota that makes it cross."""
    threshold, last = _THRESHOLD[account.story], history.last
    opens = history.last_second - _CROSSING_WINDOW_SECONDS  # from midnight; negative is yesterday
    for day in range(max(0, last - 1), last + 1):
        account.seconds[day] = sampled_seconds(history, account, day)
    recent = [(day - last) * 86_400 + second for day, times in account.seconds.items() for second in times]
    in_window = sum(second >= opens for second in recent)
    for _ in range(8 - in_window):
        account.seconds[last].append(history.rng.randint(max(0, opens), history.last_second))
        account.calls[last] += 1
    used = sum(account.calls[account.first_day(history) :])
    # The largest quota that the n-th call of the period is the first to reach: n * 100 >= quota * threshold.
    first = max(1, used - max(8, in_window) + 1)
    quotas = [nth * 100 // threshold for nth in range(first, used + 1)]
    below_next = [quota for quota in quotas if used * 100 < quota * _NEXT_THRESHOLD[threshold]]
    if account.story == "crossing_100":  # what is above the quota is refused
        return quotas[-1]
    return history.rng.choice(below_next or quotas[-1:])


def truth_of(history: History, account: Account) -> AccountTruth:
    """What the plan of one account amounts to."""
    used, quota = sum(account.calls[account.first_day(history) :]), account.quota
    state = _STATE_WITHOUT_QUOTA.get(account.story) or ("limited" if quota else "blocked")
    by_date = {day: calls for day, calls in zip(history.dates, account.calls, strict=True) if calls}
    crossed = tuple(threshold for threshold in THRESHOLDS if quota and used * 100 >= quota * threshold)
    seats = (account.seats, account.seats) if account.seats else None
    facts = (by_date, account.period_anchor(history), used, crossed, account.stripe_customer_id, seats)
    tokens_by_date = {
        day: used for number, day in enumerate(history.dates) if (used := account.tokens_between(number, number))
    }
    tokens_used = account.tokens_between(account.first_day(history), history.last)
    tokens = (tokens_used, account.token_quota) if account.token_quota else None
    return AccountTruth(account.account_id, account.story, quota, state, *facts, tokens, tokens_by_date)


def sampled_seconds(history: History, account: Account, day: int) -> list[int]:
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


def plan_for(quota: int) -> str:
    """The price list's plan of a quota."""
    return "free" if quota <= 100 else "starter" if quota <= 500 else "growth" if quota < 100_000 else "scale"


def _round_up(calls: float) -> int:
    """The next quota that a price list would print, at least 100."""
    unit: int = max(10, 10 ** len(str(int(calls))) // 100)
    return next(unit * tens for tens in (10, 15, 20, 30, 50, 75, 100) if unit * tens >= calls)
