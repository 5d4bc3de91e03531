"""Discord: posting a message once, in a channel or in the thread of another, and finding it again.

Discord drops a message whose `nonce` the bot used in the past few minutes, where `enforce_nonce` is set. It keeps the
nonce no longer, and a listing does not have it: so a short reference in the footer says which delivery a message is.

There is no library in between. discord.py, Pycord, disnake and hikari are asynchronous clients of the gateway, a
connection that stays; they also repeat a post by themselves where an answer was lost. Apprise answers yes or no, so
that a lost answer would count as a refusal.
"""

import base64
import hashlib
import re
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from orchestration.channels import http
from orchestration.channels.discord import permissions
from orchestration.ledger.ledger import Delivery
from orchestration.ledger.outbox import InDoubtError, Promise, RefusedError
from orchestration.usage.findings import Finding

API = "https://discord.com/api/v10"
PAGE = 100
"""Messages of one page of a channel's history, Discord's most."""
LOOK_BACK = timedelta(days=1)
"""How much of the history before an attempt is searched: Discord's clock and ours may differ by hours."""
EPOCH = datetime(2015, 1, 1, tzinfo=UTC)
"""Discord's: an id has the milliseconds since then in its upper 42 bits."""
SNOWFLAKE = r"\d{15,20}"
TEXT, ANNOUNCEMENT = 0, 5
"""Types of channels whose messages can have a thread."""
THREAD_TYPES = (10, 11, 12)
THREAD_EXISTS = 160004
_REMEDIES = {
    10003: "there is no such channel. Set `to` to the channel's id, and add the bot to its server",
    10008: "somebody deleted this message just after it had arrived",
    40001: "the token is not valid: copy it again from the page Bot of the application",
    50001: "let the bot see the channel: View Channel",
    50007: "that person takes no messages from the bot",
    50013: "give the bot what `headroom routes check` names: some permission in the channel is missing",
    50035: "Discord refuses the form of this message. `headroom deliveries` has it: send it by hand, update Headroom",
}
_BY_STATUS = {401: _REMEDIES[40001], 403: _REMEDIES[50013], 404: _REMEDIES[10003]}


class DiscordChannel:
    """Posts as a bot to the channel `to`, or to that of the delivery. `users` are user ids by e-mail address.

    A reply goes into the thread of its parent; where there is none, as in a direct message, after it.
    """

    name = "Discord"
    is_preview = False
    promise = Promise.EXACTLY_ONCE

    def __init__(self, token: str, to: str, users: Mapping[str, str], api_url: str = API) -> None:
        self._to, self._users, self._api = to, users, api_url.rstrip("/")
        self._headers = {"Authorization": f"Bot {token}", "User-Agent": "DiscordBot (headroom, 1.0)"}
        self._channels: dict[str, dict[str, Any]] = {}
        self._threads: set[str] = set()

    def address(self, delivery: Delivery, parent: Delivery | None) -> str:
        """A channel's id. A thread is a channel, too: its id is that of the message that it hangs on."""
        if parent is None:
            channel = str(delivery.payload.get("to") or self._to)
            if not re.fullmatch(SNOWFLAKE, channel):
                raise RefusedError("an address of Discord is the id of a channel, a number of 15 to 20 digits")
            return channel
        channel, _, message = str(parent.receipt).partition("/")
        if not message:
            raise RefusedError("the message that it replies to was not sent to Discord")
        if self._channel(channel).get("type") not in (TEXT, ANNOUNCEMENT):
            return channel
        if message not in self._threads:
            self._start_thread(channel, message, str(parent.payload.get("thread") or "Details"))
        return message

    def send(self, delivery: Delivery) -> str:
        """The receipt is channel id/message id."""
        mark = reference(delivery.mark)
        message = {**_marked(delivery.payload["message"], mark), "nonce": mark, "enforce_nonce": True}
        path = f"channels/{delivery.address}/messages"
        posted = self._ask("POST", path, f"channel {delivery.address}", json=message)
        return f"{delivery.address}/{_id(posted)}"

    def find(self, delivery: Delivery) -> str | None:
        if delivery.attempted_at is None:
            return None
        mark, channel = reference(delivery.mark), str(delivery.address)
        for message in self._history(channel, _snowflake(delivery.attempted_at - LOOK_BACK)):
            if message.get("nonce") == mark or _has(message, mark):
                return f"{channel}/{_id(message)}"
        return None

    def user_id(self, email: str) -> str | None:
        """The user whom the route's options name; a bot cannot look anybody up by address."""
        return self._users.get(email)

    def permalink(self, delivery: Delivery) -> str:
        """The address of a message that was sent, for a browser.

        :raises RefusedError: Discord did not say.
        """
        channel, _, message = str(delivery.receipt).partition("/")
        return f"https://discord.com/channels/{self._channel(channel).get('guild_id', '@me')}/{channel}/{message}"

    def check(self) -> list[Finding]:
        """Whether posting, looking up and threads would succeed: token, channel, permissions. Posts nothing."""
        try:
            bot = self._ask("GET", "users/@me", "the token")
        except (RefusedError, InDoubtError) as error:
            return [Finding("token", str(error))]
        findings = [Finding(f"token of {bot.get('username')}")]
        if self._to:
            try:
                problem = self._problem(self._to)
            except (RefusedError, InDoubtError) as error:
                problem = str(error)
            findings.append(Finding(f"channel {self._to}", problem))
        return findings

    def _problem(self, channel: str) -> str:
        """What the bot may not do there; empty where it may do all."""
        info = self._channel(channel)
        if "guild_id" not in info:
            return ""  # a direct message
        needed = set(permissions.NAMES)
        if info.get("type") not in (TEXT, ANNOUNCEMENT):
            needed -= {"Create Public Threads", "Send Messages in Threads"}
        if info.get("type") in THREAD_TYPES:
            needed = needed - {"Send Messages"} | {"Send Messages in Threads"}
        absent = permissions.missing(self._granted(info), sorted(needed))
        return f"give the bot these permissions in the channel: {', '.join(absent)}" if absent else ""

    def _granted(self, info: Mapping[str, Any]) -> int:
        """A thread has the permissions of its channel."""
        if info.get("type") in THREAD_TYPES:
            info = self._channel(str(info["parent_id"]))
        what = "the bot's permissions"
        bot = _id(self._ask("GET", "users/@me", what))
        roles = self._ask("GET", f"guilds/{info['guild_id']}/roles", what)
        member = self._ask("GET", f"guilds/{info['guild_id']}/members/{bot}", what)
        try:
            return permissions.granted(info, roles, member, bot)
        except (KeyError, TypeError, ValueError):
            raise InDoubtError(f"no usable answer from Discord for {what}") from None

    def _history(self, channel: str, oldest: int) -> Iterator[dict[str, Any]]:
        """The messages since then, newest first.

        :raises RefusedError: the bot may not read them: Discord shows none then, and does not say why.
        """
        before = ""
        while True:
            query = f"?limit={PAGE}{before and f'&before={before}'}"
            page = self._ask("GET", f"channels/{channel}/messages{query}", f"the messages of channel {channel}")
            if not page and not before:
                self._require_history(channel)
            for message in page:
                if int(_id(message)) < oldest:
                    return
                yield message
            if len(page) < PAGE:
                return
            before = _id(page[-1])

    def _require_history(self, channel: str) -> None:
        info = self._channel(channel)
        if "guild_id" in info and permissions.missing(self._granted(info), ["Read Message History"]):
            raise RefusedError(
                f"Discord shows the bot no messages of channel {channel}: give it the permission Read Message History"
            )

    def _start_thread(self, channel: str, message: str, name: str) -> None:
        """A message has one thread at most, so that this may be repeated.

        :raises RefusedError: it could not be started, or Discord did not say.
        """
        path, body = f"channels/{channel}/messages/{message}/threads", {"name": name, "auto_archive_duration": 1440}
        try:
            self._ask("POST", path, "the thread of the message", json=body)
        except _ThreadExistsError:
            pass
        except InDoubtError as error:
            raise RefusedError(f"{error}. Nothing was sent: run again") from None
        self._threads.add(message)

    def _channel(self, channel: str) -> dict[str, Any]:
        """What Discord says of the channel, asked once."""
        if channel not in self._channels:
            try:
                info = self._ask("GET", f"channels/{channel}", f"channel {channel}")
            except InDoubtError as error:
                raise RefusedError(f"{error}: nothing was sent; run again") from None
            self._channels[channel] = info
        return self._channels[channel]

    def _ask(self, method: str, path: str, what: str, json: Any = None) -> Any:
        """The answer as JSON.

        :raises RefusedError, InDoubtError: see http.request.
        """
        answer = http.request(
            method,
            f"{self._api}/{path}",
            vendor=self.name,
            what=what,
            remedy=_remedy,
            json=json,
            headers=self._headers,
        )
        try:
            return answer.json()
        except ValueError:
            raise InDoubtError(f"no usable answer from Discord for {what}") from None


class _ThreadExistsError(Exception):
    """The message has a thread."""


def reference(mark: str) -> str:
    """Sixteen letters and digits for a mark of any length, in the footer and as nonce, of which Discord takes 25."""
    return base64.b32encode(hashlib.sha256(mark.encode()).digest())[:16].decode().lower()


def _remedy(status: int, body: Any) -> str:
    code = body.get("code") if isinstance(body, dict) else None
    if code == THREAD_EXISTS:
        raise _ThreadExistsError
    said = f" (code {code})" if isinstance(code, int) else ""
    known = _REMEDIES.get(code) if isinstance(code, int) else None
    return f"{known or _BY_STATUS.get(status, 'look the code up in the documentation of Discord')}{said}"


def _marked(message: Mapping[str, Any], mark: str) -> dict[str, Any]:
    """The message with the reference in its footer."""
    embed, *others = message["embeds"]
    footer = " · ".join(filter(None, [embed.get("footer", {}).get("text"), f"ref {mark}"]))
    return {**message, "embeds": [{**embed, "footer": {"text": footer}}, *others]}


def _has(message: Mapping[str, Any], mark: str) -> bool:
    footers = [(embed.get("footer") or {}).get("text", "") for embed in message.get("embeds", ())]
    return any(footer.endswith(f"ref {mark}") for footer in footers)


def _snowflake(at: datetime) -> int:
    """The lowest id of a message of that moment."""
    return max(int((at - EPOCH) / timedelta(milliseconds=1)), 0) << 22


def _id(answer: Any) -> str:
    """:raises InDoubtError: the answer is not that of Discord."""
    found = answer.get("id") if isinstance(answer, dict) else None
    if not isinstance(found, str) or not re.fullmatch(r"\d{1,20}", found):
        raise InDoubtError("no usable answer from Discord")
    return found
