"""E-mail, as routes name it."""

import re

from orchestration.channels.email.addresses import named
from orchestration.channels.email.channel import EmailChannel
from orchestration.channels.email.drawing import draw
from orchestration.channels.email.server import server_of
from orchestration.ledger.outbox import Promise
from orchestration.messages.vendor import Target, Vendor
from orchestration.settings import Settings


def open_channel(target: Target, config: Settings) -> EmailChannel:
    """:raises ValueError: the mail server or an address is missing or wrong; a sentence with the remedy."""
    del config
    url = target.secret("url")
    if not url:
        raise ValueError(
            f"route {target.route} needs a mail server: set its `url` to smtp://user:password@host:587"
            " or smtps://user:password@host:465"
        )
    try:
        server = server_of(url)
    except ValueError as error:
        raise ValueError(f"route {target.route}: {error}") from None
    try:
        sender = named(target.options.get("from", ""))
        reply_to = named(target.options["reply_to"]) if target.options.get("reply_to") else None
    except ValueError as error:
        raise ValueError(f"route {target.route}: {error}; `from` and `reply_to` are such as Usage <usage@…>") from None
    list_id = target.options.get("list_id", "").strip("<> ")
    if list_id and not re.fullmatch(r"[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)+", list_id):
        raise ValueError(f"route {target.route}: `list_id` has to be a name with dots, such as usage.example.com")
    return EmailChannel(server, sender, target.to, target.promise, reply_to, list_id)


VENDOR = Vendor(
    title="e-mail",
    promises=(Promise.EXACTLY_ONCE, Promise.AT_LEAST_ONCE, Promise.AT_MOST_ONCE),
    per_second=0.5,  # Exchange Online takes 30 a minute, the fewest of the large ones
    open=open_channel,
    draw=draw,
    secrets={"url": "the mail server: smtp://user:password@host:587, or smtps:// with port 465"},
    options={
        "from": "address of the sender, with a name if you like: Usage <usage@…>",
        "reply_to": "address that answers go to, where the message names nobody",
        "list_id": "name for the filters of readers (List-Id), such as usage.example.com",
    },
    address="e-mail addresses with commas between them",
)
