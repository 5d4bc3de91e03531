"""Telegram, as routes name it."""

import re

from orchestration.channels.telegram.channel import API, CHAT, TelegramChannel
from orchestration.channels.telegram.drawing import draw
from orchestration.ledger.outbox import Promise
from orchestration.messages import people
from orchestration.messages.vendor import Target, Vendor
from orchestration.settings import Settings


def open_channel(target: Target, config: Settings) -> TelegramChannel:
    """:raises ValueError: the token, the chat or the users are missing or wrong; a sentence with the remedy."""
    token = (target.secret("token") or "").strip()
    if not re.fullmatch(r"\d+:[\w-]+", token, re.ASCII):
        raise ValueError(f"route {target.route} needs the token of a bot, as @BotFather gives it: 123456:ABC…")
    if target.to and not re.fullmatch(CHAT, target.to):
        raise ValueError(f"route {target.route} needs the number of a Telegram chat in `to`, or @name of a channel")
    users = people.users(target.options.get("users", ""))
    return TelegramChannel(token, target.to, target.promise, users, target.secret("api_url") or API)


VENDOR = Vendor(
    title="Telegram",
    promises=(Promise.AT_LEAST_ONCE, Promise.AT_MOST_ONCE),
    per_second=1,  # in one chat, by the Bots FAQ; 20 a minute in a group, 30 a second in all
    open=open_channel,
    draw=draw,
    secrets={"token": "token of the bot, from @BotFather"},
    optional={"api_url": "another address of the Bot API, such as a server of your own"},
    options={"users": "users of owners to mention: e-mail address, =, number of the user, with commas between them"},
    address="number of a chat (of a group -100…), or @name of a public channel",
)
