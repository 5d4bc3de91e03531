"""One attempt to deliver a prepared payload, safe against two processes at once and a kill between any two lines.

    prepared ─┐             ┌─answer, or found──> sent
    previewed ┼─claim──> sending
    failed ───┘             ├─refusal───────────> failed
                            ├─forbidden─────────> given up
                            └─no answer, or killed: in doubt, stays sending

    prepared, failed ──preview──> previewed
    draft ──a person releases it──> prepared

What is in doubt is looked up where it went, whatever channel is configured by now. Only when it is not there, and was
five minutes old before the look, is it claimed and sent again: no attempt lasts as long, and the channel has had time
to show it. Late rather than double. One that cannot be looked up waits for the channel, or for people (`exits.py`).
Of a channel that can neither be asked nor takes a key, its promise decides: `at_most_once` gives up what is in doubt,
`at_least_once` sends it again and says that it may be a repetition. In a ledger that was restored from a backup
nothing is known to be new: everything is looked up before it is sent.
"""

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Protocol

from orchestration.ledger import restored
from orchestration.ledger.ledger import Delivery, Ledger, State

ATTEMPT_LIMIT = timedelta(seconds=60)
"""No attempt lasts longer: it begins within half of it after the claim, and channels give up within the other half."""
DOUBT_WINDOW = timedelta(minutes=5)
"""So long after an attempt, a delivery that the channel does not show may still be about to appear there."""

DONE = (State.SENT, State.PREVIEWED)
"""After these, replies may follow."""
OVER = (State.SENT, State.GIVEN_UP)
"""Of these nothing is sent any more."""


class RefusedError(RuntimeError):
    """Nothing was delivered. The message says what to do."""


class ForbiddenError(RefusedError):
    """The channel takes nothing of that kind, now or later. A reply is given up by it, and holds up no other."""


class InDoubtError(RuntimeError):
    """It is not known whether the channel did it. A later run finds out."""


class Promise(StrEnum):
    """What a channel keeps when an answer is lost or the process is killed."""

    EXACTLY_ONCE = "exactly_once"
    """It can be asked, or drops what has a key that it knows: `find` says whether, or sending again is harmless."""
    AT_MOST_ONCE = "at_most_once"
    """What is in doubt is given up; people may have it sent again."""
    AT_LEAST_ONCE = "at_least_once"
    """What is in doubt is sent again, marked by `Delivery.may_be_repeated`."""


class Channel(Protocol):
    """A way out. Implementations are in `channels/`."""

    name: str
    is_preview: bool
    promise: Promise

    def address(self, delivery: Delivery, parent: Delivery | None) -> str:
        """Where the delivery goes now: under its parent, or where the configuration says. Nothing is sent yet.

        :raises RefusedError: it may not go there, or that could not be found out.
        """

    def send(self, delivery: Delivery) -> str:
        """Deliver to `delivery.address` once and return a receipt.

        :raises RefusedError: nothing was delivered.
        :raises InDoubtError: it may have been delivered.
        """

    def find(self, delivery: Delivery) -> str | None:
        """The receipt of an earlier attempt that went through to `delivery.address`, None where there is none.

        :raises RefusedError, InDoubtError: the channel could not be asked; nothing is sent then.
        """


def deliver(ledger: Ledger, key: str, channel: Channel, clock: Callable[[], datetime]) -> Delivery:
    """Bring the delivery to its end, if that is possible now. `clock` is the real one, never a fixed one.

    :raises RefusedError, InDoubtError: see Channel.
    """
    delivery = _get(ledger, key)
    if delivery.state in (*OVER, State.DRAFT) or (delivery.not_before and clock() < delivery.not_before):
        return delivery
    if channel.is_preview:
        if delivery.state in (State.PREPARED, State.FAILED):
            ledger.finish(delivery, State.PREVIEWED, clock(), receipt=None, error=None)
        return _get(ledger, key)
    if delivery.state is State.SENDING:
        age = _age(delivery, clock)  # before the look: what is under way now may arrive behind its back
        if channel.promise is Promise.AT_MOST_ONCE and age >= ATTEMPT_LIMIT:
            said = delivery.error or "the attempt had no answer"
            doubt = f"{said}. It may have arrived, and its route sends at most once"
            ledger.finish(delivery, State.GIVEN_UP, clock(), receipt=None, error=doubt)
            return _get(ledger, key)
        if (found := _look_up(ledger, delivery, channel)) is not None:
            ledger.finish(delivery, State.SENT, clock(), found, error=None)
            return _get(ledger, key)
        if age < DOUBT_WINDOW:
            raise InDoubtError(
                f"{key}: an attempt {age.total_seconds():.0f} s ago had no answer, and {channel.name} does not show it"
                f" yet. Run again in {_minutes(DOUBT_WINDOW - age)}: the run looks it up once more"
            )
    try:
        address = channel.address(delivery, _get(ledger, delivery.parent) if delivery.parent else None)
    except RefusedError as error:
        if delivery.state is not State.SENDING:
            ledger.finish(delivery, State.FAILED, clock(), receipt=None, error=str(error))
        raise
    if delivery.state is not State.SENDING and (since := restored.copied_at(ledger, clock())):
        lost = replace(delivery, attempted_at=since, address=address)
        if (found := channel.find(lost)) is not None:
            ledger.finish(delivery, State.SENT, clock(), found, error=None)
            return _get(ledger, key)
    claimed = ledger.claim(delivery, clock(), address)
    if claimed is None:
        return _get(ledger, key)  # another process has it
    try:
        if _age(claimed, clock) > ATTEMPT_LIMIT / 2:  # the ledger was locked, or the machine asleep
            raise RefusedError(f"{key}: the ledger took too long to record the attempt, nothing was sent; run again")
        receipt = channel.send(claimed)
    except ForbiddenError as error:
        ledger.finish(claimed, State.GIVEN_UP, clock(), receipt=None, error=str(error))
        return _get(ledger, key)
    except RefusedError as error:
        ledger.finish(claimed, State.FAILED, clock(), receipt=None, error=str(error))
        raise
    except InDoubtError as error:
        ledger.note_doubt(claimed, str(error))
        raise
    ledger.finish(claimed, State.SENT, clock(), receipt, error=None)
    return _get(ledger, key)


def deliver_parts(ledger: Ledger, key: str, channel: Channel, clock: Callable[[], datetime]) -> None:
    """Bring the replies to a delivery to their end, one after the other, as soon as it has come to its own.

    The first that is not done stops those after it, so that they arrive in order: a later run goes on there. One that
    the channel forbids, such as a file, stops none.

    :raises RefusedError, InDoubtError: see Channel.
    """
    if _get(ledger, key).state not in DONE:
        return
    for part in ledger.parts(key):
        if deliver(ledger, part.key, channel, clock).state not in (*DONE, *OVER):  # another process has it
            return


def _look_up(ledger: Ledger, delivery: Delivery, channel: Channel) -> str | None:
    """What `Channel.find` says; why it could not say is recorded, for people who have to decide then."""
    try:
        return channel.find(delivery)
    except (RefusedError, InDoubtError) as error:
        ledger.note_doubt(delivery, str(error))
        raise


def _minutes(left: timedelta) -> str:
    minutes = max(-(-left // timedelta(minutes=1)), 1)
    return "a minute" if minutes == 1 else f"{minutes} minutes"


def _age(delivery: Delivery, clock: Callable[[], datetime]) -> timedelta:
    assert delivery.attempted_at is not None, "only claimed deliveries have an age"
    return clock() - delivery.attempted_at


def _get(ledger: Ledger, key: str) -> Delivery:
    delivery = ledger.delivery(key)
    if delivery is None:
        raise KeyError(key)
    return delivery
