"""Slack: drawing a digest as blocks, posting it once, finding it again. The only importer of slack_sdk.

Slack has no idempotency key for posts. Each message carries the delivery's key as metadata, so that an attempt
without an answer can be looked up in the channel's history. Only what Slack says clearly counts as a refusal;
whatever else comes back, or nothing, leaves the attempt in doubt.
"""

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from http.client import HTTPException
from typing import Any

from slack_sdk import WebClient
from slack_sdk.errors import SlackApiError, SlackClientError
from slack_sdk.http_retry import HttpRequest, HttpResponse, RetryState
from slack_sdk.http_retry.builtin_handlers import RateLimitErrorRetryHandler

from orchestration.delivery.ledger import Delivery
from orchestration.delivery.outbox import InDoubtError, RefusedError

EVENT_TYPE = "headroom_delivery"
TIMEOUT_SECONDS = 10
MAX_WAIT_SECONDS = 8
"""Longest Retry-After that is waited for. With it, two tries stay below half of the outbox's ATTEMPT_LIMIT: a process
that waited longer would post while another one, which found nothing, posts too."""
LOOK_BACK = timedelta(days=1)
"""How much of the history before an attempt is searched: Slack's clock and ours may differ by hours."""
CHARACTERS = 10_000
"""Of all blocks together, as JSON: above some 13,000 Slack answers msg_blocks_too_long, whatever else is respected."""
MAX_ITEMS = 40
"""Accounts drawn; with header, headline and footer below Slack's 50 blocks."""

_REMEDIES = {
    "not_in_channel": "invite the bot to the channel (/invite @headroom) and run again",
    "channel_not_found": "set HEADROOM_SLACK_CHANNEL to the channel's id (C…), and invite the bot if it is private",
    "invalid_auth": "SLACK_BOT_TOKEN is not valid: copy the bot token (xoxb-…) from the app's OAuth page",
    "not_authed": "SLACK_BOT_TOKEN is empty: copy the bot token (xoxb-…) from the app's OAuth page",
    "account_inactive": "the bot's user was deactivated: install the app again and set its new token",
    "token_revoked": "the token was revoked: install the app again and set its new token",
    "missing_scope": "add the scopes chat:write and channels:history (groups:history for private channels) to the app",
    "ratelimited": "it takes no more messages for the moment; run again in a minute",
}
_IN_DOUBT = ("fatal_error", "internal_error", "service_unavailable")
"""Slack about the first two: it is possible that some aspect of the operation succeeded."""


class _ShortWait(RateLimitErrorRetryHandler):
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


class SlackChannel:
    """Posts to one channel. `base_url` is another address of the API, for tests."""

    name = "Slack"
    is_preview = False

    def __init__(self, token: str, channel: str, base_url: str | None = None) -> None:
        """:raises ValueError: the token cannot be sent, and would be shown by the error of whoever tried."""
        if not re.fullmatch("[!-~]+", token.strip()):
            raise ValueError("SLACK_BOT_TOKEN contains spaces, line breaks or other signs that no token has")
        self._channel = channel
        address = (base_url or WebClient.BASE_URL).rstrip("/") + "/"
        # The default handlers repeat a post whose answer was lost, which posts twice.
        self._client = WebClient(
            token=token,
            timeout=TIMEOUT_SECONDS,
            retry_handlers=[_ShortWait(max_retry_count=1)],
            base_url=address,
        )

    def send(self, delivery: Delivery) -> str:
        message = delivery.payload["message"]
        with self._explained(f"{delivery.key} may have been posted; the next run looks before it posts again"):
            answer = self._client.chat_postMessage(
                channel=self._channel,
                text=_escaped(message["text"]),
                blocks=message.get("blocks"),
                mrkdwn=False,
                unfurl_links=False,
                unfurl_media=False,
                metadata={"event_type": EVENT_TYPE, "event_payload": {"key": delivery.key}},
            )
        return f"{answer.get('channel')}/{answer.get('ts')}"

    def find(self, delivery: Delivery) -> str | None:
        if delivery.attempted_at is None:
            return None
        oldest = f"{(delivery.attempted_at - LOOK_BACK).timestamp():.6f}"
        cursor: str | None = None
        while True:
            with self._explained(f"{delivery.key} could not be looked up; the next run tries again"):
                page = self._client.conversations_history(
                    channel=self._channel, oldest=oldest, include_all_metadata=True, limit=200, cursor=cursor
                )
            messages: list[dict[str, Any]] = page.get("messages", [])
            for message in messages:
                metadata = message.get("metadata") or {}
                payload = metadata.get("event_payload") or {}
                if metadata.get("event_type") == EVENT_TYPE and payload.get("key") == delivery.key:
                    return f"{self._channel}/{message['ts']}"
            cursor = (page.get("response_metadata") or {}).get("next_cursor")
            if not cursor:
                return None

    @contextmanager
    def _explained(self, doubt: str) -> Iterator[None]:
        """Turns the SDK's errors into sentences. None quotes the SDK: its texts can hold headers and bodies."""
        try:
            yield
        except SlackApiError as error:
            status, code = error.response.status_code, str(error.response.get("error"))
            # The SDK puts its own sentence in place of the code where an answer is cut off or no JSON.
            is_refusal = re.fullmatch("[a-z_]+", code) and code not in _IN_DOUBT and status < 500
            if status != 429 and not is_refusal:
                reason = code if code in _IN_DOUBT else f"HTTP {status}"
                raise InDoubtError(f"Slack failed ({reason}): {doubt}") from None
            code = "ratelimited" if status == 429 else code
            remedy = _REMEDIES.get(code, "look the code up in Slack's documentation of the method")
            raise RefusedError(f"Slack refused with {code!r} for channel {self._channel}: {remedy}") from None
        except (SlackClientError, HTTPException, OSError, ValueError) as error:
            raise InDoubtError(f"no usable answer from Slack ({type(error).__name__}): {doubt}") from None


def digest_message(digest: dict[str, Any]) -> dict[str, Any]:
    """The digest as text (notifications, screen readers) and blocks, within Slack's limits.

    Every text is plain_text: names are data, which cannot ping, link or format there, and read as they are.
    """
    headline = _cut(digest["headline"], 300)
    footer = {"type": "context", "elements": [_plain(_cut(" · ".join(digest["footer"]), 1000))]}
    blocks: list[dict[str, Any]] = [
        {"type": "header", "text": _plain(f"Usage digest {digest['date']}")},
        {"type": "section", "text": _plain(headline)},
    ]
    room = CHARACTERS - len(json.dumps([*blocks, footer]))
    for number, item in enumerate(digest["items"]):
        section = {"type": "section", "text": _plain(_line(item))}
        room -= len(json.dumps(section))
        if room < 0 or number == MAX_ITEMS:
            left = len(digest["items"]) - number
            more = f"… and {left:,} more: `headroom deliveries` lists this digest, with --show KEY it prints all of it"
            blocks.append({"type": "section", "text": _plain(more)})
            break
        blocks.append(section)
    return {"text": headline, "blocks": [*blocks, footer]}


def _line(item: dict[str, Any]) -> str:
    facts = [_cut(item["name"], 80), item["severity"], f"{item['used']} / {item['quota']} ({item['pct']})"]
    facts += [f"hits cap: {item['hits_cap']}", f"projected {item['projected']}"]
    facts += [f"MRR {item['mrr']}"] if item["mrr"] else []
    return f"{' · '.join([*facts, _cut(item['owner'], 80)])}\n{item['sparkline']}"


def _plain(text: str) -> dict[str, Any]:
    return {"type": "plain_text", "text": text, "emoji": False}


def _cut(text: str, characters: int) -> str:
    """On one line, and no longer than that."""
    text = " ".join(text.split())
    return text if len(text) <= characters else f"{text[: characters - 1]}…"


def _escaped(text: str) -> str:
    """For the text outside of blocks, the one place where Slack looks for mentions and links."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
