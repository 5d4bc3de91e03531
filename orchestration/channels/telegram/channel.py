"""Telegram: sending a message as a bot.

The Bot API has no key against repetitions, and a bot cannot read what it sent: nothing can be looked up. So the route
chooses. By default a message whose answer was lost is sent again and says so: a warning that is missed costs more than
one that is read twice. A route to customers better sends at most once.

There is no library in between. python-telegram-bot and aiogram are asynchronous; pyTelegramBotAPI repeats requests and
quotes addresses, which have the token. Apprise answers yes or no, so that a lost answer would count as a refusal.
"""

import re
from collections.abc import Mapping
from typing import Any

from orchestration.channels import http
from orchestration.channels.telegram.drawing import length
from orchestration.ledger.ledger import Delivery
from orchestration.ledger.outbox import InDoubtError, Promise, RefusedError
from orchestration.messages.outline import REPETITION
from orchestration.usage.findings import Finding

API = "https://api.telegram.org"
CHAT = r"-?\d{1,20}|@[A-Za-z]\w{3,31}"
_REMEDIES = {
    "chat not found": "set `to` to the number of a chat, or to @name of a channel, and add the bot there",
    "bot was kicked": "add the bot to the chat again",
    "bot was blocked": "that person blocked the bot: ask for the opposite, or set another chat",
    "bot is not a member": "add the bot to the chat",
    "can't initiate": "that person has to send /start to the bot first",
    "user is deactivated": "that person's account is deleted: set another chat",
    "need administrator rights": "make the bot an administrator of the channel that may post",
    "not enough rights": "let the bot send messages in the chat",
    "have no rights": "let the bot send messages in the chat",
    "group chat was upgraded": "the group has become a supergroup with another number: set `to` to that number",
}
"""By a part of the description, which is not quoted: Telegram gives no codes."""
_BY_STATUS = {
    401: "the token is not valid: ask @BotFather for it",
    404: "the token is not valid: ask @BotFather for it",
    400: "it refuses the form of this message. `headroom deliveries` has it: send it by hand and update Headroom",
    403: "let the bot write in the chat",
}


class TelegramChannel:
    """Sends as a bot to the chat `to`, or to that of the delivery. `users` are numbers of users by e-mail address."""

    name = "Telegram"
    is_preview = False

    def __init__(self, token: str, to: str, promise: Promise, users: Mapping[str, str], api_url: str = API) -> None:
        self._to, self.promise, self._users = to, promise, users
        self._api = f"{api_url.rstrip('/')}/bot{token}"

    def address(self, delivery: Delivery, parent: Delivery | None) -> str:
        """A chat, or chat/number of the message that it replies to."""
        if parent is not None:
            if not parent.receipt:
                raise RefusedError("the message that it replies to was not sent to Telegram")
            return parent.receipt
        chat = str(delivery.payload.get("to") or self._to)
        if not re.fullmatch(CHAT, chat):
            raise RefusedError("an address of Telegram is the number of a chat, or @name of a channel")
        return chat

    def send(self, delivery: Delivery) -> str:
        """The receipt is the chat's number/the message's number."""
        chat, _, replied = str(delivery.address).partition("/")
        reply = {
            "reply_parameters": {"message_id": int(replied or 0), "allow_sending_without_reply": True},
            "disable_notification": True,
        }
        message = {
            "chat_id": chat if chat.startswith("@") else int(chat),
            **_text(delivery),
            "link_preview_options": {"is_disabled": True},
            **(reply if replied else {}),
        }
        sent = self._ask("sendMessage", f"chat {chat}", message)
        try:
            return f"{int(sent['chat']['id'])}/{int(sent['message_id'])}"
        except (KeyError, TypeError, ValueError):
            raise InDoubtError(f"no usable answer from Telegram for chat {chat}") from None

    def find(self, delivery: Delivery) -> str | None:
        """Nothing: a bot cannot read what it sent."""
        return None

    def user_id(self, email: str) -> str | None:
        """The user whom the route's options name; a bot cannot look anybody up by address."""
        return self._users.get(email)

    def permalink(self, delivery: Delivery) -> str:
        """The address of a message that was sent, for a browser.

        :raises RefusedError: its chat has no addresses, as only channels and supergroups have.
        """
        chat, _, number = str(delivery.receipt).partition("/")
        if not chat.startswith("-100"):
            raise RefusedError("messages of this chat have no address")
        return f"https://t.me/c/{chat.removeprefix('-100')}/{number}"

    def check(self) -> list[Finding]:
        """Whether sending would succeed: token, chat, membership. Sends nothing."""
        try:
            bot = self._ask("getMe", "the token", {})
        except (RefusedError, InDoubtError) as error:
            return [Finding("token", str(error))]
        findings = [Finding(f"token of @{bot.get('username')}")]
        if self._to:
            try:
                problem = self._problem(bot.get("id"))
            except (RefusedError, InDoubtError) as error:
                problem = str(error)
            findings.append(Finding(f"chat {self._to}", problem))
        return findings

    def _problem(self, bot_id: Any) -> str:
        """Why the bot may not write in the chat; empty where it may."""
        chat = self._ask("getChat", f"chat {self._to}", {"chat_id": self._to})
        if chat.get("type") == "private":
            return ""
        member = self._ask("getChatMember", f"chat {self._to}", {"chat_id": self._to, "user_id": bot_id})
        status = member.get("status")
        if status in ("left", "kicked"):
            return _REMEDIES["bot is not a member"]
        if chat.get("type") == "channel" and not member.get("can_post_messages"):
            return _REMEDIES["need administrator rights"]
        if status == "restricted" and not member.get("can_send_messages"):
            return _REMEDIES["not enough rights"]
        return ""

    def _ask(self, method: str, what: str, arguments: Mapping[str, Any]) -> dict[str, Any]:
        """The result.

        :raises RefusedError, InDoubtError: see http.request.
        """
        answer = http.request(
            "POST", f"{self._api}/{method}", vendor=self.name, what=what, remedy=_remedy, json=dict(arguments)
        )
        try:
            said = answer.json()
        except ValueError:
            said = None
        if not isinstance(said, dict) or said.get("ok") is not True or not isinstance(said.get("result"), dict):
            raise InDoubtError(f"no usable answer from Telegram for {what}")
        result: dict[str, Any] = said["result"]
        return result


def _text(delivery: Delivery) -> dict[str, Any]:
    """The text with its entities; that of a repetition says so in its first line."""
    text, entities = delivery.payload["text"], delivery.payload["entities"]
    if not delivery.may_be_repeated:
        return {"text": text, "entities": entities}
    note = f"{REPETITION}\n\n"
    moved = [{**entity, "offset": entity["offset"] + length(note)} for entity in entities]
    return {"text": note + text, "entities": moved}


def _remedy(status: int, body: Any) -> str:
    said = body if isinstance(body, dict) else {}
    description = str(said.get("description", ""))
    remedy = next((remedy for part, remedy in _REMEDIES.items() if part in description), None)
    moved = (said.get("parameters") or {}).get("migrate_to_chat_id")
    if isinstance(moved, int):
        return f"the group has become a supergroup: set `to` to {moved}"
    return remedy or _BY_STATUS.get(status, "look the status up in the documentation of the Bot API")
