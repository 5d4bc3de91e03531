"""The one repetition of Slack's SDK: of what Slack refused for the moment."""

from slack_sdk.http_retry import HttpRequest, HttpResponse, RetryState
from slack_sdk.http_retry.builtin_handlers import RateLimitErrorRetryHandler

MAX_WAIT_SECONDS = 8
"""Longest Retry-After that is waited for. With it, two tries stay below half of the outbox's ATTEMPT_LIMIT: a process
that waited longer would post while another one, which found nothing, posts too."""


class ShortWait(RateLimitErrorRetryHandler):
    """Repeats what Slack refused with 429, the one failure that is safe to repeat, if the wait is short."""

    def _can_retry(
        self,
        *,
        state: RetryState,
        request: HttpRequest,
        response: HttpResponse | None = None,
        error: Exception | None = None,
    ) -> bool:
        if response is None or response.status_code != 429:
            return False
        wait = response.headers.get("Retry-After", ["1"])[0]
        return wait.isdecimal() and int(wait) <= MAX_WAIT_SECONDS
