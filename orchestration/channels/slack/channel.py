"""Slack: posting a message, a reply or a file once, finding it again. The only importer of slack_sdk.

Slack has no idempotency key for posts. Each message carries the delivery's key as metadata, and each file has a name
of its own, so that an attempt without an answer can be looked up in the channel's history or in the thread. Only what
Slack says clearly counts as a refusal; whatever else comes back, or nothing, leaves the attempt in doubt.
"""

import base64
import json
import re
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from http.client import HTTPException
from typing import Any
from urllib.error import HTTPError

from slack_sdk import WebClient
from slack_sdk.errors import SlackApiError, SlackClientError

from orchestration.channels.slack import reactions
from orchestration.channels.slack.short_wait import ShortWait
from orchestration.ledger.ledger import Delivery
from orchestration.ledger.outbox import ForbiddenError, InDoubtError, Promise, RefusedError
from orchestration.messages.dispositions import Answer
from orchestration.settings import Settings
from orchestration.usage.findings import Finding

EVENT_TYPE = "headroom_delivery"
TIMEOUT_SECONDS = 10
LOOK_BACK = timedelta(days=1)
"""How much of the history before an attempt is searched: Slack's clock and ours may differ by hours."""
UPLOAD_SECONDS = 8
"""Of each of an upload's three requests, none of which is repeated: together below half of ATTEMPT_LIMIT, too."""
DEFAULT_AUDIENCE = "sales"

_TOO_LARGE = (
    "Slack refuses the form of this message. `headroom deliveries` has it: send it by hand and"
    " update Headroom. Later digests do not wait for it"
)
_REMEDIES = {
    "not_in_channel": "invite the bot to the channel (/invite @headroom) and run again",
    "channel_not_found": "set HEADROOM_SLACK_CHANNEL to the channel's id (C…), and invite the bot if it is private",
    "invalid_auth": "SLACK_BOT_TOKEN is not valid: copy the bot token (xoxb-…) from the app's OAuth page",
    "not_authed": "SLACK_BOT_TOKEN is empty: copy the bot token (xoxb-…) from the app's OAuth page",
    "account_inactive": "the bot's user was deactivated: install the app again and set its new token",
    "token_revoked": "the token was revoked: install the app again and set its new token",
    "missing_scope": "add the scope {needed} to the app and install it again; `headroom slack check` lists all of them",
    "is_archived": "unarchive the channel, or set another one",
    "restricted_action": "the workspace lets only some people post there: ask its admin to add the app, or set another"
    " channel",
    "msg_too_long": _TOO_LARGE,
    "msg_blocks_too_long": _TOO_LARGE,
    "invalid_blocks": _TOO_LARGE,
    "thread_not_found": "the message that it replies to was deleted",
    "ratelimited": "it takes no more messages for the moment. Run again in a minute",
}
_NO_FILES = (
    *("file_uploads_disabled", "file_uploads_except_images_disabled", "file_type_not_allowed"),
    "file_upload_size_restricted",
)
"""What Slack documents of a workspace whose admins forbid this file."""
_IN_DOUBT = ("fatal_error", "internal_error", "service_unavailable")
"""Slack about the first two: it is possible that some aspect of the operation succeeded."""


NO_CHANNEL = "SLACK_BOT_TOKEN is set but HEADROOM_SLACK_CHANNEL is not: name the channel's id (C…)"
NOT_ALLOWED = "is not among HEADROOM_SLACK_ALLOWED_CHANNELS: add it there, or set another channel"
SHARED = (
    "is shared with another company: set another channel, or add its id to HEADROOM_SLACK_SHARED_CHANNELS if they may"
    " read this"
)
SCOPES = {
    "chat:write": "post",
    "files:write": "add the table of all accounts to the thread",
    "users:read.email": "mention owners; without it they are named",
    "users:read": "mention owners; without it they are named",
}
"""What for. Which of channels:… and groups:… are needed depends on the channels."""
OPTIONAL_SCOPES = ("users:read.email", "users:read")


class SlackChannel:
    """Posts to the channel of a delivery's audience, or into the thread of its parent.

    `channels` are channel ids by audience. If any are `allowed`, no other is posted to; a channel that is shared with
    another company is posted to only if it is among `shared`. `base_url` is another address of the API, for tests.
    `run_id` is the run that sends: "this run" in a message leads to it, also where another run has decided the message.
    """

    name = "Slack"
    is_preview = False
    promise = Promise.EXACTLY_ONCE  # it can be asked

    def __init__(
        self,
        token: str,
        channels: Mapping[str, str],
        base_url: str | None = None,
        allowed: Collection[str] = (),
        shared: Collection[str] = (),
        run_id: str = "",
    ) -> None:
        """:raises ValueError: the token cannot be sent, and would be shown by the error of whoever tried."""
        if not re.fullmatch("[!-~]+", token.strip()):
            raise ValueError("SLACK_BOT_TOKEN contains spaces, line breaks or other signs that no token has")
        self._channels, self._allowed, self._shared, self._run_id = channels, allowed, shared, run_id
        address = (base_url or WebClient.BASE_URL).rstrip("/") + "/"
        # The default handlers repeat a post whose answer was lost, which posts twice.
        self._client = WebClient(
            token=token,
            timeout=TIMEOUT_SECONDS,
            retry_handlers=[ShortWait(max_retry_count=1)],
            base_url=address,
        )
        self._uploads = WebClient(token=token, timeout=UPLOAD_SECONDS, retry_handlers=[], base_url=address)

    def address(self, delivery: Delivery, parent: Delivery | None) -> str:
        """A channel id, or channel id/ts of the message that it replies to."""
        if parent is not None:
            return str(parent.receipt)
        audience = delivery.payload.get("audience", DEFAULT_AUDIENCE)
        channel = str(delivery.payload.get("to") or self._channels[audience])
        if self._allowed and channel not in self._allowed:
            raise RefusedError(f"channel {channel} {NOT_ALLOWED}")
        if channel not in self._shared and is_shared(self._info(channel)):
            raise RefusedError(f"channel {channel} {SHARED}")
        return channel

    def send(self, delivery: Delivery) -> str:
        channel, _, parent_ts = str(delivery.address).partition("/")
        doubt = f"{delivery.key} may have been posted; the next run looks before it posts again"
        with self._explained(f"channel {channel}", doubt):
            if file := delivery.payload.get("file"):
                uploaded = self._uploads.files_upload_v2(
                    channel=channel,
                    thread_ts=parent_ts,
                    filename=_file_name(delivery),
                    title=file["title"],
                    alt_txt=file.get("alt_text"),
                    content=base64.b64decode(file["base64"]) if "base64" in file else file["content"],
                )
                return f"{channel}/{uploaded['files'][0]['id']}"
            message = _of_run(delivery.payload, self._run_id)
            answer = self._client.chat_postMessage(
                channel=channel,
                thread_ts=parent_ts or None,
                text=_escaped(message["text"]),
                blocks=message.get("blocks"),
                mrkdwn=False,
                unfurl_links=False,
                unfurl_media=False,
                metadata={"event_type": EVENT_TYPE, "event_payload": {"key": delivery.mark}},
            )
            return f"{channel}/{answer['ts']}"

    def find(self, delivery: Delivery) -> str | None:
        if delivery.attempted_at is None:
            return None
        # without an address it was attempted by a version that knew one channel
        channel, _, parent_ts = str(delivery.address or self._channels[DEFAULT_AUDIENCE]).partition("/")
        oldest = f"{(delivery.attempted_at - LOOK_BACK).timestamp():.6f}"
        doubt = f"{delivery.key} could not be looked up; the next run tries again"
        for message in self._messages(channel, parent_ts, doubt, InDoubtError, oldest):
            if _is_of(message, delivery):
                return f"{channel}/{message['ts']}"
        return None

    def answers(self, delivery: Delivery) -> list[Answer]:
        """All reactions to a message and to the replies in its thread, and the texts of people there.

        :raises RefusedError: Slack did not say.
        """
        channel, _, ts = str(delivery.receipt).partition("/")
        doubt = f"the answers to {delivery.key} are read later"
        return list(reactions.answers(channel, self._messages(channel, ts, doubt, RefusedError)))

    def _messages(
        self, channel: str, thread: str, doubt: str, otherwise: type[Exception], oldest: str | None = None
    ) -> Iterator[dict[str, Any]]:
        """A thread's messages, oldest first, or without one the channel's since then, newest first."""
        cursor: str | None = None
        while True:
            page_of: dict[str, Any] = {"channel": channel, "include_all_metadata": True, "limit": 200, "cursor": cursor}
            with self._explained(f"channel {channel}", doubt, otherwise):
                if thread:
                    page = self._client.conversations_replies(ts=thread, **page_of)
                else:
                    page = self._client.conversations_history(oldest=oldest, **page_of)
            messages: list[dict[str, Any]] = page.get("messages", [])
            yield from messages
            cursor = (page.get("response_metadata") or {}).get("next_cursor")
            if not cursor:
                return

    def permalink(self, delivery: Delivery) -> str:
        """The address of a message that was sent, for a browser.

        :raises RefusedError: Slack did not say.
        """
        channel, _, ts = str(delivery.receipt).partition("/")
        with self._explained(f"the link to {delivery.key}", "the next run asks again", RefusedError):
            return str(self._client.chat_getPermalink(channel=channel, message_ts=ts)["permalink"])

    def user_id(self, email: str) -> str | None:
        """The user with that address; None where there is none, or only a deactivated one.

        :raises RefusedError: Slack did not say.
        """
        with self._explained("a user's address", "nothing was sent", RefusedError):
            try:
                user = str(self._client.users_lookupByEmail(email=email)["user"]["id"])
            except SlackApiError as error:
                if error.response.get("error") == "users_not_found":
                    return None
                raise
        return user if re.fullmatch("[A-Z0-9]+", user) else None

    def check(self) -> list[Finding]:
        """Whether all that Headroom does at Slack would succeed: token, scopes, channels. Posts nothing."""
        try:
            with self._explained("the token", "run again", RefusedError):
                answer = self._client.auth_test()
        except RefusedError as error:
            return [Finding("token", str(error))]
        findings = [Finding(f"token of {answer.get('user')} at {answer.get('team')}")]
        headers = {name.lower(): value for name, value in answer.headers.items()}
        scopes = set(re.split(r"[,\s]+", headers.get("x-oauth-scopes", "")))
        for scope, use in SCOPES.items():
            problem = "" if scope in scopes else f"add it to the app and install it again: it is needed to {use}"
            findings.append(Finding(f"scope {scope}", problem, is_needed=scope not in OPTIONAL_SCOPES))
        for channel in dict.fromkeys(self._channels.values()):
            readers = [audience for audience, name in self._channels.items() if name == channel]
            findings.append(Finding(f"channel {channel} ({', '.join(readers)})", self._problems(channel, scopes)))
        return findings

    def _problems(self, channel: str, scopes: Collection[str]) -> str:
        try:
            info = self._info(channel)
        except RefusedError as error:
            return str(error)
        history = "groups:history" if info.get("is_private") else "channels:history"
        problems = {
            NOT_ALLOWED: self._allowed and channel not in self._allowed,
            SHARED: channel not in self._shared and is_shared(info),
            _REMEDIES["is_archived"]: info.get("is_archived"),
            _REMEDIES["not_in_channel"]: not info.get("is_member"),
            f"add the scope {history} to the app: it is needed to look up what was posted": history not in scopes,
        }
        return "; ".join(sentence for sentence, is_true in problems.items() if is_true)

    def _info(self, channel: str) -> dict[str, Any]:
        """:raises RefusedError: Slack did not say."""
        with self._explained(f"channel {channel}", "nothing was sent; run again", RefusedError):
            info: dict[str, Any] = self._client.conversations_info(channel=channel)["channel"]
        return info

    @contextmanager
    def _explained(self, what: str, doubt: str, otherwise: type[Exception] = InDoubtError) -> Iterator[None]:
        """Turns the SDK's errors into sentences about `what`; `otherwise` is raised where Slack did not clearly refuse.

        None quotes the SDK: its texts can hold headers and bodies.
        """
        try:
            yield
        except SlackApiError as error:
            status, code = error.response.status_code, str(error.response.get("error"))
            # The SDK puts its own sentence in place of the code where an answer is cut off or no JSON.
            is_refusal = re.fullmatch("[a-z_]+", code) and code not in _IN_DOUBT and status < 500
            if status != 429 and not is_refusal:
                reason = code if code in _IN_DOUBT else f"HTTP {status}"
                raise otherwise(f"Slack failed ({reason}): {doubt}") from None
            if code in _NO_FILES:
                remedy = "HEADROOM_SLACK_FILES=off leaves files out"
                raise ForbiddenError(f"the workspace forbids this file ({code}): {remedy}") from None
            code = "ratelimited" if status == 429 else code
            remedy = _REMEDIES.get(code, "look the code up in Slack's documentation of the method")
            needed = str(error.response.get("needed", "that Slack's documentation of the method names"))
            raise RefusedError(f"Slack refused with {code!r} for {what}: {remedy.format(needed=needed)}") from None
        except (SlackClientError, HTTPException, OSError, ValueError, LookupError) as error:
            if isinstance(error, HTTPError):  # of an upload: the SDK leaves its connection open
                error.close()
            raise otherwise(f"no usable answer from Slack ({type(error).__name__}): {doubt}") from None


def configured(config: Settings, run_id: str = "") -> SlackChannel | None:
    """Slack as the environment configures it, for the run that sends; None without a token.

    :raises ValueError: a token without a channel, or one that cannot be sent.
    """
    if config.slack_bot_token is None:
        return None
    if not config.slack_channel:
        raise ValueError(NO_CHANNEL)
    return SlackChannel(
        config.slack_bot_token.get_secret_value(),
        config.slack_channels,
        config.slack_api_url,
        allowed=config.slack_allowed_channels,
        shared=config.slack_shared_channels,
        run_id=run_id,
    )


def is_shared(channel: Mapping[str, Any]) -> bool:
    """Whether another company reads the channel (Slack Connect) or is invited to; workspaces of one company may."""
    with_others = channel.get("is_ext_shared") or channel.get("is_pending_ext_shared")
    return bool(with_others or (channel.get("is_shared") and not channel.get("is_org_shared")))


def _is_of(message: Mapping[str, Any], delivery: Delivery) -> bool:
    """Whether the message is that delivery: a file by its name, for an upload has no metadata."""
    if delivery.payload.get("file"):
        return _file_name(delivery) in [shown.get("name") for shown in message.get("files", ())]
    metadata = message.get("metadata") or {}
    key = (metadata.get("event_payload") or {}).get("key")
    return metadata.get("event_type") == EVENT_TYPE and key == delivery.mark


def _file_name(delivery: Delivery) -> str:
    """The file's name, which is its mark. One that is sent once more must not be taken for the one before."""
    name = str(delivery.payload["file"]["name"])
    stem, dot, suffix = name.rpartition(".")
    return f"{stem}-{delivery.resends + 1}{dot}{suffix}" if delivery.resends else name


def receipt_of(link: str) -> str | None:
    """The receipt of the message at that address, as Slack's "Copy link" gives it; None where it is not one.

    https://example.slack.com/archives/C0DIGEST/p1732089600123456 is C0DIGEST/1732089600.123456.
    """
    found = re.fullmatch(r"https://[\w.-]+/archives/([A-Z0-9]+)/p(\d{7,})(\d{6})(\?.*)?", link.strip())
    return f"{found[1]}/{found[2]}.{found[3]}" if found else None


def _of_run(payload: Mapping[str, Any], run_id: str) -> dict[str, Any]:
    """The message, its links to the run that decided it leading to the one that sends it. Nothing else is another."""
    message: dict[str, Any] = payload["message"]
    decided = payload.get("run_id")
    if not (decided and run_id):
        return message
    changed: dict[str, Any] = json.loads(json.dumps(message).replace(f"/runs/{decided}", f"/runs/{run_id}"))
    return changed


def _escaped(text: str) -> str:
    """For the text outside of blocks, the one place where Slack looks for mentions and links."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
