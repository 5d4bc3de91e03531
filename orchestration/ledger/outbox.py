"""One attempt to deliver a prepared payload, safe against two processes at once and a kill between any two lines.

    prepared ─┐             ┌─answer, or found──> sent
    previewed ┼─claim──> sending
    failed ───┘             ├─refusal───────────> failed
                            └─no answer, or killed: in doubt, stays sending

    prepared, failed ──preview──> previewed

What is in doubt is looked up at the channel first; only when it is not there, and was old enough before the look that
no living attempt could still be under way, is it claimed and sent again. Late rather than double. In a ledger that was
restored from a backup nothing is known to be new: everything is looked up before it is sent.
"""

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Protocol

from orchestration.ledger import restored
from orchestration.ledger.ledger import Delivery, Ledger, State

ATTEMPT_LIMIT = timedelta(seconds=60)
"""No attempt lasts longer: it begins within half of it after the claim, and channels give up within the other half."""


DONE = (State.SENT, State.PREVIEWED)
"""After these, replies may follow."""


class RefusedError(RuntimeError):
    """Nothing was delivered. The message says what to do."""


class InDoubtError(RuntimeError):
    """It is not known whether the channel did it. A later run finds out."""


class Channel(Protocol):
    """A way out. Implementations are in `channels/`."""

    name: str
    is_preview: bool

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
    if delivery.state is State.SENT:
        return delivery
    if channel.is_preview:
        if delivery.state in (State.PREPARED, State.FAILED):
            ledger.finish(delivery, State.PREVIEWED, clock(), receipt=None, error=None)
        return _get(ledger, key)
    if delivery.state is State.SENDING:
        age = _age(delivery, clock)  # before the look: what is under way now may arrive behind its back
        if (found := channel.find(delivery)) is not None:
            ledger.finish(delivery, State.SENT, clock(), found, error=None)
            return _get(ledger, key)
        if age < ATTEMPT_LIMIT:
            raise InDoubtError(
                f"{key}: an attempt {age.total_seconds():.0f} s ago has no known outcome, and {channel.name} does"
                " not show it yet. Run again in a minute, and Headroom looks it up once more"
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
    except RefusedError as error:
        ledger.finish(claimed, State.FAILED, clock(), receipt=None, error=str(error))
        raise
    ledger.finish(claimed, State.SENT, clock(), receipt, error=None)
    return _get(ledger, key)


def deliver_parts(ledger: Ledger, key: str, channel: Channel, clock: Callable[[], datetime]) -> None:
    """Bring the replies to a delivery to their end, one after the other, as soon as it has come to its own.

    The first that is not done stops those after it, so that they arrive in order: a later run goes on there.

    :raises RefusedError, InDoubtError: see Channel.
    """
    state = _get(ledger, key).state
    for part in ledger.parts(key):
        if state not in DONE:  # another process has it
            return
        state = deliver(ledger, part.key, channel, clock).state


def _age(delivery: Delivery, clock: Callable[[], datetime]) -> timedelta:
    assert delivery.attempted_at is not None, "only claimed deliveries have an age"
    return clock() - delivery.attempted_at


def _get(ledger: Ledger, key: str) -> Delivery:
    delivery = ledger.delivery(key)
    if delivery is None:
        raise KeyError(key)
    return delivery
