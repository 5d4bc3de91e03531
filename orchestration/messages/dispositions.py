"""What people answer to an alert, and which accounts they mean. Words only: channels read the answers.

A reaction on a reply in the thread is about all accounts of that reply, such as an owner's. On the message itself it
counts where that is about one account: nobody means thirteen by one emoji. A text begins with its word and names an
account, by id or name: `won Acme Corp`, `snooze acme-1`. In the thread of a message about one account it needs no name.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from orchestration.ledger.dispositions import Said
from orchestration.ledger.ledger import Delivery
from orchestration.messages.message import of_json

Subject = tuple[str, str]
"""account_id, meter."""
KINDS = ("digest", "critical", "crossing")
"""Kinds of messages that are alerts."""


class Disposition(StrEnum):
    """What became of an alert, by the one who acted on it."""

    CONTACTED = "contacted"
    WON = "won"
    FALSE_ALARM = "false_alarm"
    SNOOZED = "snoozed"
    """For 30 days its account is not announced: see the model account_profiles."""


EMOJI = {
    "👀": Disposition.CONTACTED,
    "✅": Disposition.WON,
    "❌": Disposition.FALSE_ALARM,
    "💤": Disposition.SNOOZED,
}
"""What an emoji says, as a reaction and at the beginning of a text."""
_WORDS = {
    "contacted": Disposition.CONTACTED,
    "called": Disposition.CONTACTED,
    "won": Disposition.WON,
    "false alarm": Disposition.FALSE_ALARM,
    "snooze": Disposition.SNOOZED,
    "snoozed": Disposition.SNOOZED,
    **EMOJI,
}
_TEXT = re.compile(rf"({'|'.join(sorted(_WORDS, key=len, reverse=True))})(?![\w'’])[\s:,–-]*(.*)", re.DOTALL)


@dataclass(frozen=True)
class Answer:
    """A reaction or a reply, as a channel has it."""

    source: str
    """Where the channel has it; the same one each time it is read."""
    on: str
    """Receipt of the message that it is on; of a reply, of the one that it replies to."""
    by: str
    """The channel's id of who it is from; of several the first."""
    at: datetime | None
    """When a reply was written or last edited; a reaction has no time."""
    text: str
    """Of a reply; of a reaction its emoji."""
    is_reaction: bool = False


@dataclass(frozen=True)
class Account:
    """An account that a message is about, on one meter."""

    account_id: str
    meter: str
    name: str

    @property
    def names(self) -> set[str]:
        """What people call it, in small letters: without the meter in brackets, too."""
        name = self.name.casefold()
        return {self.account_id.casefold(), name, name.partition(" (")[0]} - {""}


def accounts_of(content: Mapping[str, Any]) -> list[Account]:
    """The accounts of a decided message; none of one of a version before routes."""
    if digest := content.get("digest"):
        return [Account(item["account_id"], item["meter"], item["name"]) for item in digest["items"]]
    if "title" not in content:
        return []
    lines = [line for section in of_json(content).sections for line in section.lines]
    return [Account(line.account_id, line.meter, line.name) for line in lines if line.account_id]


def read(
    answers: Iterable[Answer], delivery: Delivery, parts: Sequence[Delivery], accounts: Sequence[Account], now: datetime
) -> tuple[list[Said], int]:
    """What the answers to a message say of its accounts, and how many name none. Others, such as talk, are neither.

    `parts` are the replies to `delivery`. A payload says which accounts it is about: `[[account_id, meter], …]`.
    """
    about = {str(each.receipt): _about(each) for each in (delivery, *parts) if each.receipt}
    of_message = about.get(str(delivery.receipt), [])
    one = of_message if len({account for account, _ in of_message}) == 1 else []
    about[str(delivery.receipt)] = one
    said: dict[tuple[str, Subject], Said] = {}
    unclear = 0
    for answer in answers:
        disposition, name = _meaning(answer)
        if disposition is None:
            continue
        meant = about.get(answer.on, []) if answer.is_reaction else _named(name, accounts, one)
        unclear += not meant
        for account_id, meter in meant:
            found = Said(answer.source, account_id, meter, disposition, answer.by, answer.at or now)
            said[answer.source, (account_id, meter)] = found
    return list(said.values()), unclear


def _meaning(answer: Answer) -> tuple[Disposition | None, str]:
    """What it says, and the name that follows."""
    if answer.is_reaction:
        return EMOJI.get(answer.text), ""
    found = _TEXT.match(answer.text.strip().casefold())
    return (_WORDS[found[1]], found[2].strip()) if found else (None, "")


def _named(text: str, accounts: Sequence[Account], one: list[Subject]) -> list[Subject]:
    """The account that a text begins with, by its longest name, or the only one whose name begins with the text.

    Without a name it is the `one` that the message is about. A name of two accounts means none.
    """
    names = {name for account in accounts for name in account.names}
    begun = [name for name in names if re.match(rf"{re.escape(name)}(?!\w)", text)]
    if text and not begun:
        meant = {name for name in names if name.startswith(text)}
    else:
        meant = {max(begun, key=len)} if begun else set()
    named = [each for each in accounts if meant & each.names]
    if len({each.account_id for each in named}) > 1:
        return []
    return [(each.account_id, each.meter) for each in named] or one


def _about(delivery: Delivery) -> list[Subject]:
    return [(account_id, meter) for account_id, meter in delivery.payload.get("about", ())]
