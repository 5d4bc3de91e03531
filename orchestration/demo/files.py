"""How the demo is written: lines as real senders leave them, landing files, the account list.

Nothing here decides who calls; times and ids are drawn here.
"""

import csv
import json
from bisect import bisect_right
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime, timedelta
from functools import cache
from itertools import accumulate
from pathlib import Path
from random import Random
from typing import Any, TextIO

from orchestration.demo.plan import (
    STORM_ERROR_RATIO,
    Account,
    History,
    former_quota,
    has_retries,
    plan_for,
    sampled_seconds,
)

_LATE_RATIO, _DUPLICATE_RATIO = 0.01, 0.005
_CHUNK_LINES = 50_000  # about 12 MB of text; of a whole day only the times are in memory

_OWNERS = ("dana.reyes", "femi.adeyemi", "ingrid.lund", "marco.conti", "priya.nair")
_CSMS = ("lena.fischer", "omar.haddad", "yuki.tanaka")
_SEGMENTS = {"free": "self serve", "starter": "self serve", "team": "self serve", "growth": "mid market"}
_PRICES = {"free": 0, "starter": 49, "team": 199, "growth": 499, "scale": 1_990, "enterprise": 9_500}
"""A month, in USD: those of dbt_project/seeds/plans.csv."""
_ROUTES = [("/v1/search", "GET", 200)] * 2 + [("/v1/items", "POST", 201), ("/v1/items/4", "PUT", 200)]
# One entry for each value of a random byte. A call is a call: 4xx and 5xx count like the others.
_REQUESTS = [
    f'"endpoint":"{endpoint}","method":"{method}","status":{status}}}}}\n'
    for endpoint, method, success in _ROUTES
    for status in [success] * 60 + [404, 404, 429, 500]
]
_FAILED = '"endpoint":"/v1/items","method":"POST","status":503}}\n'
_RETRIES = [_FAILED if byte < 256 * STORM_ERROR_RATIO else request for byte, request in enumerate(_REQUESTS)]
_CALL = {"endpoint": "/v1/search", "method": "GET", "status": 200}


def quota_lines(history: History, plan: list[Account], rejected: Counter[str]) -> list[str]:
    """Every change of a quota, by time; what must be refused is counted in `rejected`."""
    # The first account keeps the quota that it had.
    changes: list[tuple[datetime, str, Any, str, int | None]]
    changes = [(history.half_month, plan[0].account_id, -5, plan[0].plan, None)]
    for a in plan:
        set_at = history.opening - timedelta(seconds=3600 - a.number % 3600)
        if a.story == "upgraded" and a.quota:
            before = former_quota(history, a)
            changes.append((set_at, a.account_id, before, plan_for(before), None))
            changes.append((history.upgraded_at, a.account_id, a.quota, a.plan, None))
        elif a.story == "invalid_quota":
            changes.append((set_at, a.account_id, "lots" if a.number % 200 < 100 else -5, a.plan, None))
        elif a.story != "unknown":
            changes.append((set_at, a.account_id, a.quota, a.plan, a.token_quota))
    rejected["invalid_quota"] += sum(quota in (-5, "lots") for _, _, quota, *_ in changes)
    return [
        event(
            history,
            "quota_set",
            at,
            account_id,
            {"api_quota_monthly": quota, **({"token_quota_monthly": tokens} if tokens else {}), "plan": name},
        )
        for at, account_id, quota, name, tokens in sorted(changes, key=lambda change: change[0])
    ] + [
        event(history, "quota_set", history.opening, a.account_id, {"metric": "seats", "quota": a.seats, "used": 31})
        for a in plan
        if a.seats
    ]


def malformed_lines(history: History, account: Account, rejected: Counter[str]) -> defaultdict[int, list[str]]:
    """Lines with one defect each, by the day in whose file they stand."""
    at, account_id, bad = history.start, account.account_id, list[tuple[str, str]]()
    for n in range(3):
        bad += [
            ("invalid_json", event(history, "api_call", at, account_id)[: 40 + 30 * n] + "\n"),
            ("invalid_json", "upstream connect error or disconnect/reset before headers\n"),
            ("not_an_object", ("null\n", "42\n", '"api_call"\n')[n]),
            ("missing_account", event(history, "api_call", at, None)),
            ("invalid_time", event(history, "api_call", f"{at.year}-13-45T00:00:00Z", account_id)),
            ("unknown_event", event(history, "page_view", at, account_id)),
        ]
    by_day: defaultdict[int, list[str]] = defaultdict(list)
    for n, (reason, line) in enumerate(bad):
        by_day[n * len(history.dates) // len(bad)].append(line)
        rejected[reason] += 1
    return by_day


def limit_reached(history: History, account: Account) -> tuple[int, str]:
    """The day on which the quota was used up, and the sender's own notice from the moment at which it was."""
    quota, first = account.quota or 0, account.first_day(history)
    period = enumerate(accumulate(account.calls[first:]), first)
    day, used = next((day, used) for day, used in period if used >= quota)
    # the times of that day are fixed here, for write_usage to write the same
    account.seconds[day] = sorted(account.seconds.get(day) or sampled_seconds(history, account, day))
    before = used - account.calls[day]
    second = account.seconds[day][quota - before - 1]
    at, used = history.start + timedelta(days=day, seconds=second), before + bisect_right(account.seconds[day], second)
    facts = {"metric": "api-calls", "limit": quota, "used": used, "plan": account.plan}
    return day, event(history, "usage.limit_reached", at, None, {"customer_id": account.account_id, **facts})


def seats_reached(history: History, account: Account) -> str:
    """The sender's notice, half way through today, that the last seat was taken."""
    at = history.start + timedelta(days=history.last, seconds=history.last_second // 2)
    facts = {"metric": "seats", "limit": account.seats, "used": account.seats, "plan": account.plan}
    return event(history, "usage.limit_reached", at, None, {"customer_id": account.account_id, **facts})


def write_usage(
    history: History, landing: Path, plan: list[Account], extra: Mapping[int, list[str]]
) -> tuple[int, int]:
    """Write one day after the other; return how many lines that were, and how many of them repetitions."""
    rng, last, lines, duplicates = history.rng, history.last, 0, 0
    waiting: defaultdict[int, list[str]] = defaultdict(list)  # by day: late calls, repetitions
    for day, on in enumerate(history.dates):
        # Time and account in one integer: these sort several times faster than tuples.
        keys: list[int] = []
        for account in plan:
            seconds = account.seconds.get(day) or sampled_seconds(history, account, day)
            keys += [second * len(plan) + account.number for second in seconds]
        keys.sort()
        with written_whole(landing / f"usage-{on}.ndjson") as file:
            earlier = waiting.pop(day, []) + extra.get(day, [])
            file.writelines(earlier)
            lines += len(earlier)
            for start in range(0, len(keys), _CHUNK_LINES):
                chunk = _call_lines(history, keys[start : start + _CHUNK_LINES], plan, day)
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


@cache
def _clock() -> list[str]:
    return [f"{second // 3600:02d}:{second // 60 % 60:02d}:{second % 60:02d}" for second in range(86_400)]


def _call_lines(history: History, keys: list[int], plan: list[Account], day: int) -> list[str]:
    """The hot loop, 1.5 microseconds a line: all but time and id is text beforehand."""
    on = history.dates[day]
    requests = [_RETRIES if has_retries(history, a, day) else _REQUESTS for a in plan]
    heads = [f'{{"event":"{"api_request" if a.number % 17 == 5 else "api_call"}","uuid":"' for a in plan]
    middles = [f'","distinct_id":"{a.account_id}","timestamp":"{on}T' for a in plan]
    tails = [f'Z","properties":{{"account_id":"{a.account_id}",' for a in plan]
    clock, accounts, lines, at = _clock(), len(plan), [], 0
    ids = history.rng.randbytes(16 * len(keys)).hex()
    for key, request in zip(keys, history.rng.randbytes(len(keys)), strict=True):
        second, n = divmod(key, accounts)
        uuid = f"{ids[at : at + 8]}-{ids[at + 8 : at + 12]}-4{ids[at + 13 : at + 16]}-"
        uuid += f"a{ids[at + 17 : at + 20]}-{ids[at + 20 : at + 32]}"
        lines.append(f"{heads[n]}{uuid}{middles[n]}{clock[second]}{tails[n]}{requests[n][request]}")
        at += 32
    return lines


def event(
    history: History,
    name: str,
    at: datetime | str,
    account_id: str | None,
    facts: Mapping[str, Any] = _CALL,
    rng: Random | None = None,
) -> str:
    """One line of any kind; the hot loop has its own way for calls."""
    raw = (rng or history.rng).randbytes(16).hex()
    uuid = f"{raw[:8]}-{raw[8:12]}-4{raw[13:16]}-a{raw[17:20]}-{raw[20:]}"
    line: dict[str, Any] = {"event": name, "uuid": uuid}
    if account_id is not None:
        line["distinct_id"] = account_id
    line["timestamp"] = f"{at:%Y-%m-%dT%H:%M:%SZ}" if isinstance(at, datetime) else at
    line["properties"] = facts if account_id is None else {"account_id": account_id, **facts}
    return json.dumps(line, separators=(",", ":")) + "\n"


def write_accounts(history: History, path: Path, plan: list[Account]) -> None:
    """The account list, with owners; MRR is the plan's price. Every fortieth account has no owner."""
    with written_whole(path) as file:
        rows = csv.writer(file, lineterminator="\n")
        rows.writerow(
            (
                *("account_id", "name", "owner", "plan", "mrr", "stripe_customer_id"),
                *("csm", "contact_email", "segment", "renewal_on", "is_trial", "period_kind", "period_anchor"),
            )
        )
        for a in plan:
            name, customer = a.account_id.replace("-", " ").title(), a.stripe_customer_id or ""
            is_trial, anchor = a.story == "trial", a.period_anchor(history)
            owner = "" if a.number % 40 == 7 else f"{history.rng.choice(_OWNERS)}@example.com"
            rows.writerow(
                (
                    *(a.account_id, name, owner, a.plan, f"{0 if is_trial else _PRICES[a.plan]}.00", customer),
                    *(f"{_CSMS[a.number % len(_CSMS)]}@example.com", f"api@{a.account_id}.example"),
                    *(_SEGMENTS.get(a.plan, "enterprise"), history.now.date() + timedelta(days=a.renewal_days)),
                    *("true" if is_trial else "", "cycle" if anchor else "", anchor or ""),
                )
            )


@contextmanager
def written_whole(path: Path) -> Iterator[TextIO]:
    """A file that gets its name when it is complete; readers skip the hidden part."""
    part = path.with_name(f".{path.name}.part")
    try:
        with part.open("w", encoding="utf-8", newline="") as file:
            yield file
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
