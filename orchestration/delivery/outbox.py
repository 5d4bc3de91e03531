"""One attempt to deliver a prepared payload, safe against two processes at once and a kill between any two lines.

    prepared ──claim──> sending ──answer──> sent
        ▲                  │ ├──refusal──> failed ──(next run)──> claim
        └── preview ──> previewed          │
                           └──no answer, or killed: in doubt until the channel was asked

What is in doubt is looked up at the channel first; only when it is not there, and old enough that no living attempt
can still be under way, is it sent again. Late rather than double.
"""

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Protocol

from orchestration.delivery.ledger import Delivery, Ledger, State

ATTEMPT_LIMIT = timedelta(seconds=60)
"""No attempt lasts longer: channels must give up within half of it."""


class RefusedError(RuntimeError):
    """The channel said no and did nothing. The message says what to do."""


class InDoubtError(RuntimeError):
    """It is not known whether the channel did it. A later run finds out."""


class Channel(Protocol):
    """A way out. Implementations are in `channels/`."""

    name: str
    is_preview: bool

    def send(self, delivery: Delivery) -> str:
        """Deliver once and return a receipt.

        :raises RefusedError: nothing was delivered.
        :raises InDoubtError: it may have been delivered.
        """

    def find(self, delivery: Delivery) -> str | None:
        """The receipt of an earlier attempt that went through, None where there is none."""


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
        if receipt := channel.find(delivery):
            ledger.finish(delivery, State.SENT, clock(), receipt, error=None)
            return _get(ledger, key)
        if delivery.attempted_at and clock() - delivery.attempted_at < ATTEMPT_LIMIT:
            raise InDoubtError(
                f"{key}: an attempt {(clock() - delivery.attempted_at).seconds} s ago has no known outcome and is not"
                f" to be found at {channel.name} yet; run again in a minute, it will be looked up once more"
            )
    if not ledger.claim(delivery, clock()):
        return _get(ledger, key)  # another process has it
    claimed = _get(ledger, key)
    try:
        receipt = channel.send(claimed)
    except RefusedError as error:
        ledger.finish(claimed, State.FAILED, clock(), receipt=None, error=str(error))
        raise
    ledger.finish(claimed, State.SENT, clock(), receipt, error=None)
    return _get(ledger, key)


def _get(ledger: Ledger, key: str) -> Delivery:
    delivery = ledger.delivery(key)
    if delivery is None:
        raise KeyError(key)
    return delivery
