"""What an answer says of limits: header fields, and the body of a refusal.

`RateLimit` and `RateLimit-Policy` are those of draft-ietf-httpapi-ratelimit-headers-11, the body is a problem of RFC
9457 in the draft's type quota-exceeded. The older `X-RateLimit-*` fields say the same of one limit.
"""

import functools
import json
from datetime import UTC, datetime

from headroom_gate.policy import Decision
from headroom_gate.rates import Rate, seconds_until

Fields = list[tuple[str, str]]
NAMES = ("RateLimit-Policy", "RateLimit", "X-RateLimit-Limit", "X-RateLimit-Remaining", "X-RateLimit-Reset")
"""Of nearly every answer."""
LARGEST_INTEGER = 999_999_999_999_999
"""Of a structured field (RFC 9651)."""
_PROBLEMS = "https://iana.org/assignments/http-problem-types#"


def fields(decision: Decision, now: float) -> Fields:
    """The header fields of an answer; none where the gate did not count, or only monitors."""
    found = [] if decision.question is None else _fields(decision, now)
    if decision.retry_after_seconds:
        found.append(("Retry-After", str(decision.retry_after_seconds)))
    return found


def problem(decision: Decision, unit: str, usage_url: str | None) -> bytes:
    """The body of a refusal, application/problem+json."""
    if decision.reason == "missing":
        body = {
            "type": f"{_PROBLEMS}temporary-reduced-capacity",
            "title": "Request cannot be satisfied due to temporary server capacity constraints",
            "status": decision.status,
            "detail": "The limits are not known yet. Try again later.",
            "violated-policies": [],
        }
    else:
        body = {
            "type": f"{_PROBLEMS}quota-exceeded",
            "title": "Request cannot be satisfied as assigned quota has been exceeded",
            "status": decision.status,
            "detail": _detail(decision, unit),
            "violated-policies": [_policy(decision)],
        }
    return json.dumps(body | ({"usage": usage_url} if usage_url else {}), ensure_ascii=False).encode()


def _fields(decision: Decision, now: float) -> Fields:
    asked = decision.question
    assert asked is not None
    limit = asked.limit
    seconds = None if limit.resets_at is None else limit.resets_at - limit.period_start
    found = [("RateLimit-Policy", _policies(limit.quota, seconds, asked.rate, asked.throttle))]
    if decision.rate:
        wait, name = decision.rate.window_seconds, _policy(decision)
        # this limit alone: the answer must not be retried before the window of any limit that it names
        return [*found, ("RateLimit", f'"{name}";r=0;t={wait}'), *_older(decision.rate.amount, 0, int(now) + wait)]
    if limit.quota is None:
        return found
    left, over = max(0, limit.quota - decision.spent), max(0, decision.spent - limit.quota)
    item = f'"quota";r={min(left, LARGEST_INTEGER)}'
    if limit.resets_at is not None:
        item += f";t={seconds_until(limit.resets_at, now)}"
    if over:
        item += f";headroom-overage={min(over, LARGEST_INTEGER)}"
    found += [("RateLimit", item), *_older(limit.quota, left, limit.resets_at)]
    return found + ([("X-RateLimit-Overage", str(over))] if over else [])


def _older(most: int, left: int, resets_at: int | None) -> Fields:
    found = [("X-RateLimit-Limit", str(most)), ("X-RateLimit-Remaining", str(left))]
    return found + ([] if resets_at is None else [("X-RateLimit-Reset", str(resets_at))])


@functools.lru_cache(4096)
def _policies(quota: int | None, seconds: int | None, rate: Rate | None, throttle: Rate | None) -> str:
    found = []
    if quota is not None:
        found.append(f'"quota";q={min(quota, LARGEST_INTEGER)}' + ("" if seconds is None else f";w={seconds}"))
    rates = ("rate", rate), ("throttle", throttle)
    found += [f'"{name}";q={each.amount};w={each.window_seconds}' for name, each in rates if each]
    return ", ".join(found)


def _policy(decision: Decision) -> str:
    asked = decision.question
    if decision.rate and asked and decision.rate is asked.throttle and asked.is_over(decision.spent):
        return "throttle"
    return decision.reason


def _detail(decision: Decision, unit: str) -> str:
    asked = decision.question
    assert asked is not None
    limit = asked.limit
    if decision.rate:
        return f"The plan allows {decision.rate.amount:,} {unit} {_each(decision.rate.window_seconds)}."
    used = f"{decision.spent:,} of {limit.quota:,} {unit} are used, and this call needs {decision.cost:,}."
    if limit.resets_at is None:
        return used
    return f"{used} The quota starts again at {datetime.fromtimestamp(limit.resets_at, UTC):%Y-%m-%d %H:%M:%S} UTC."


def _each(seconds: int) -> str:
    return "a second" if seconds == 1 else f"in {seconds} seconds"
