"""The demo's language models: who uses how many tokens when, and the lines of it.

Their random numbers are their own: what an account calls is not changed by them.
"""

from collections.abc import Iterator
from datetime import timedelta

from orchestration.demo import files
from orchestration.demo.plan import Account, History

_TOKENS_OF_REQUEST = (2_000, 8_000)
_REQUESTS_OF_DAY, _REQUESTS_OF_WEEKEND_DAY = 6, 2


def plan_requests(history: History, account: Account) -> None:
    """Requests to language models on every day, fewer of them at weekends, up to some hours before now."""
    if account.token_quota is None:
        return
    rng, latest = history.token_rng, history.last_second * 3 // 4
    for day, on in enumerate(history.dates):
        count = _REQUESTS_OF_WEEKEND_DAY if on.weekday() >= 5 else _REQUESTS_OF_DAY
        end = 86_399 if day < history.last else latest
        seconds = sorted(rng.randint(0, end) for _ in range(count))
        account.requests[day] = [(second, rng.randint(*_TOKENS_OF_REQUEST)) for second in seconds]
    if account.crosses_tokens:
        _cross(history, account, latest, account.token_quota * 4 // 5)


def _cross(history: History, account: Account, latest: int, threshold: int) -> None:
    """Make the requests of the period so large that one more, on the last day, is the one that reaches `threshold`
    tokens. Those before it are half as large, so that the period before stayed within the quota.
    """
    opens = account.first_day(history)
    planned, before = account.tokens_between(opens, history.last), threshold - _TOKENS_OF_REQUEST[0]
    for day, requests in account.requests.items():
        parts = planned if day >= opens else 2 * planned
        account.requests[day] = [(second, max(1, tokens * before // parts)) for second, tokens in requests]
    used = account.tokens_between(opens, history.last)
    account.requests[history.last].append((latest, threshold + _TOKENS_OF_REQUEST[0] - used))


def request_lines(history: History, account: Account) -> Iterator[tuple[int, str]]:
    """Each request of an account to a language model, with the day in whose file it stands."""
    for day, requests in account.requests.items():
        for second, tokens in requests:
            at = history.start + timedelta(days=day, seconds=second)
            facts = {"model": "large" if tokens % 3 else "small", "total_tokens": tokens}
            yield day, files.event(history, "llm_request", at, account.account_id, facts, history.token_rng)
