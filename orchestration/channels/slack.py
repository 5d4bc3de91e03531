"""Slack: drawing a digest as blocks, posting it once, finding it again. The only importer of slack_sdk.

Slack has no idempotency key for posts. Each message carries the delivery's key as metadata, so that an attempt
without an answer can be looked up in the channel's history.
"""

from typing import Any
from urllib.error import URLError

from slack_sdk import WebClient
from slack_sdk.errors import SlackApiError, SlackClientError
from slack_sdk.http_retry import RetryHandler
from slack_sdk.http_retry.builtin_handlers import RateLimitErrorRetryHandler

from orchestration.delivery.ledger import Delivery
from orchestration.delivery.outbox import InDoubtError, RefusedError

EVENT_TYPE = "headroom_delivery"
TIMEOUT_SECONDS = 25
CHARACTERS = 9_000
"""Of all blocks together: above some 13,000 Slack answers msg_blocks_too_long, whatever else is respected."""
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
}


class SlackChannel:
    """Posts to one channel. `base_url` is another address of the API, for tests."""

    name = "Slack"
    is_preview = False

    def __init__(self, token: str, channel: str, base_url: str | None = None) -> None:
        self._channel = channel
        # The default handlers repeat a post whose answer was lost, which posts twice; only 429 is safe to repeat.
        handlers: list[RetryHandler] = [RateLimitErrorRetryHandler(max_retry_count=1)]
        address = (base_url or WebClient.BASE_URL).rstrip("/") + "/"
        self._client = WebClient(token=token, timeout=TIMEOUT_SECONDS, retry_handlers=handlers, base_url=address)

    def send(self, delivery: Delivery) -> str:
        message = delivery.payload["message"]
        try:
            answer = self._client.chat_postMessage(
                channel=self._channel,
                text=message["text"],
                blocks=message.get("blocks"),
                unfurl_links=False,
                unfurl_media=False,
                metadata={"event_type": EVENT_TYPE, "event_payload": {"key": delivery.key}},
            )
        except SlackApiError as error:
            raise self._explained(error) from None
        except (SlackClientError, URLError, OSError) as error:
            raise InDoubtError(
                f"{delivery.key}: no answer from Slack ({type(error).__name__}); the next run looks whether the"
                " message arrived before it posts again"
            ) from None
        return f"{answer['channel']}/{answer['ts']}"

    def find(self, delivery: Delivery) -> str | None:
        if delivery.attempted_at is None:
            return None
        oldest = f"{delivery.attempted_at.timestamp() - 300:.6f}"
        cursor: str | None = None
        try:
            while True:
                page = self._client.conversations_history(
                    channel=self._channel, oldest=oldest, include_all_metadata=True, limit=200, cursor=cursor
                )
                messages: list[dict[str, Any]] = page.get("messages", [])
                for message in messages:
                    metadata = message.get("metadata", {})
                    if (
                        metadata.get("event_type") == EVENT_TYPE
                        and metadata.get("event_payload", {}).get("key") == delivery.key
                    ):
                        return f"{self._channel}/{message['ts']}"
                cursor = (page.get("response_metadata") or {}).get("next_cursor")
                if not cursor:
                    return None
        except SlackApiError as error:
            raise self._explained(error) from None
        except (SlackClientError, URLError, OSError) as error:
            raise InDoubtError(f"{delivery.key}: Slack's history could not be read ({type(error).__name__})") from None

    def _explained(self, error: SlackApiError) -> RuntimeError:
        code = str(error.response.get("error", "unknown"))
        if (error.response.status_code or 200) >= 500:
            return InDoubtError(f"Slack failed ({error.response.status_code}); it may have posted all the same")
        remedy = _REMEDIES.get(code, "look the code up in Slack's documentation of the method")
        return RefusedError(f"Slack refused with {code!r} for channel {self._channel}: {remedy}")


def digest_message(digest: dict[str, Any]) -> dict[str, Any]:
    """The digest as text (notifications, screen readers) and blocks, within Slack's limits."""
    headline = _escaped(digest["headline"])
    blocks: list[dict[str, Any]] = [
        {"type": "header", "text": {"type": "plain_text", "text": f"Usage digest {digest['date']}"}},
        _section(headline),
    ]
    footer = {
        "type": "context",
        "elements": [{"type": "mrkdwn", "text": _escaped(" · ".join(digest["footer"]))[:2000]}],
    }
    room = CHARACTERS - len(headline) - len(str(footer))
    for number, item in enumerate(digest["items"]):
        section = _section(_line(item))
        room -= len(str(section))
        if room < 0 or number == MAX_ITEMS:
            left = len(digest["items"]) - number
            blocks.append(_section(f"… and {left:,} more: `headroom deliveries --show` has all of them"))
            break
        blocks.append(section)
    return {"text": headline, "blocks": [*blocks, footer]}


def _line(item: dict[str, Any]) -> str:
    facts = [f"*{item['severity']}*", f"{item['used']} / {item['quota']} ({item['pct']})"]
    facts += [f"hits cap: {item['hits_cap']}", f"projected {item['projected']}"]
    facts += [f"MRR {item['mrr']}"] if item["mrr"] else []
    name = _escaped(item["name"])[:300]
    return f"{name} · {' · '.join(facts)} · {_escaped(item['owner'])[:200]}\n{item['sparkline']}"


def _section(text: str) -> dict[str, Any]:
    return {"type": "section", "text": {"type": "mrkdwn", "text": text[:3000]}}


def _escaped(text: str) -> str:
    """Names are data: they cannot ping, link or format. (A bare @name does not ping through the API.)"""
    for character, replacement in (("&", "&amp;"), ("<", "&lt;"), (">", "&gt;")):
        text = text.replace(character, replacement)
    for character in "*_~`":
        text = text.replace(character, f"\u200b{character}")
    return text
