"""Discord, as routes name it."""

import re

from orchestration.channels.discord.channel import API, SNOWFLAKE, DiscordChannel
from orchestration.channels.discord.drawing import draw
from orchestration.ledger.outbox import Promise
from orchestration.messages import people
from orchestration.messages.vendor import Target, Vendor
from orchestration.settings import Settings


def open_channel(target: Target, config: Settings) -> DiscordChannel:
    """:raises ValueError: the token, the channel or the users are missing or wrong; a sentence with the remedy."""
    token = (target.secret("token") or "").strip()
    if not re.fullmatch("[!-~]+", token):
        raise ValueError(f"route {target.route} needs the token of a bot, from the page Bot of its application")
    if target.to and not re.fullmatch(SNOWFLAKE, target.to):
        raise ValueError(f"route {target.route} needs the id of a Discord channel in `to`: 15 to 20 digits")
    users = people.users(target.options.get("users", ""))
    return DiscordChannel(token, target.to, users, target.secret("api_url") or API)


VENDOR = Vendor(
    title="Discord",
    promises=(Promise.EXACTLY_ONCE,),
    per_second=5,  # 50 for a bot; those for one channel are in the answers, and are waited for
    open=open_channel,
    draw=draw,
    secrets={"token": "token of the bot, from the page Bot of its application"},
    optional={"api_url": "another address of the API"},
    options={"users": "users of owners to mention: e-mail address, =, number of the user, with commas between them"},
    address="id of a channel: Copy Channel ID, with Developer Mode on",
)
