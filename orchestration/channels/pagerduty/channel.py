"""PagerDuty: an alert for each message, opened once. The only importer of its client.

The Events API cannot be asked. It takes a `dedup_key` instead: a trigger whose key an open alert has is added to that
alert, and calls nobody again. So what is in doubt may be sent again. Two limits, both by PagerDuty's page "Send an
Alert Event": once the alert is resolved, the same key opens another one, and the key counts for one routing key only.
The first takes a lost answer and a person who resolves within minutes; of the second, people decide.
"""

import hashlib

import pagerduty

from orchestration.ledger.ledger import Delivery
from orchestration.ledger.outbox import InDoubtError, Promise, RefusedError

TIMEOUT_SECONDS = 10
WAIT_SECONDS = 3
"""Before the one repetition of what was refused with 429; PagerDuty names no time. With it, two tries stay below half
of the outbox's ATTEMPT_LIMIT."""
DEDUP_KEY_CHARACTERS = 255
_UNREACHED = ("ConnectError", "ConnectTimeout")
"""What the client's HTTP library, which is not ours, calls a request that was never sent."""
_REMEDIES = {
    400: "the form of the event or its routing key is wrong. Copy the Integration Key of the service again",
    401: "the routing key is not valid: copy the Integration Key of the service again",
    403: "the routing key may not send events: copy the Integration Key of the service again",
    413: "the event is too large. `headroom deliveries` has it: tell people by hand and update Headroom",
}


class _Client(pagerduty.EventsApiV2Client):
    """Repeats nothing but one 429: the ledger does the rest. Speaks to loopback, too, which has no certificate."""

    url = ""  # in place of the property, which refuses http://; `vendor.open` allows it for loopback alone
    timeout = TIMEOUT_SECONDS  # type: ignore[assignment]  # a number in the client, too
    max_network_attempts = 0
    sleep_timer = WAIT_SECONDS
    sleep_timer_base = 1

    def __init__(self, routing_key: str, base_url: str | None) -> None:
        super().__init__(routing_key, base_url=base_url)
        self.retry = {429: 1}


class PagerDutyChannel:
    """Opens alerts at the service of the routing key. `base_url` is another address of the API: the EU's, for tests."""

    name = "PagerDuty"
    is_preview = False
    promise = Promise.EXACTLY_ONCE  # it drops what has a key that it knows

    def __init__(self, routing_key: str, base_url: str | None = None) -> None:
        self._routing_key, self._base_url = routing_key, base_url

    def address(self, delivery: Delivery, parent: Delivery | None) -> str:
        """A name for the service, by which a changed routing key is seen and which does not say it."""
        return f"service {hashlib.sha256(self._routing_key.encode()).hexdigest()[:8]}"

    def send(self, delivery: Delivery) -> str:
        event = delivery.payload["event"]
        try:
            with _Client(self._routing_key, self._base_url) as client:
                return client.send_event("trigger", dedup_key=_dedup_key(delivery), **event)
        except pagerduty.HttpError as error:
            assert error.response is not None, "it has an answer"
            status = error.response.status_code
        except pagerduty.Error as error:  # no answer
            reason = type(error.__cause__).__name__
            if reason in _UNREACHED:
                raise RefusedError(f"PagerDuty could not be reached ({reason}): run again") from None
            raise InDoubtError(f"no answer from PagerDuty ({reason}): the next run sends it again") from None
        except ValueError as error:  # no answer that can be read
            raise InDoubtError(f"no usable answer from PagerDuty ({type(error).__name__})") from None
        if status == 429:
            raise RefusedError("PagerDuty takes no more events for the moment: run again in a few minutes")
        if not 400 <= status < 500:
            raise InDoubtError(f"PagerDuty failed (HTTP {status}): the next run sends it again")
        remedy = _REMEDIES.get(status, "look the status up in PagerDuty's documentation of the Events API")
        raise RefusedError(f"PagerDuty refused the event (HTTP {status}): {remedy}")

    def find(self, delivery: Delivery) -> str | None:
        """None: PagerDuty cannot be asked, and sending it again to the same service is harmless.

        :raises RefusedError: it went to another service, which would not know the key.
        """
        if delivery.address in (None, self.address(delivery, None)):
            return None
        raise RefusedError(
            "the routing key has changed since an attempt that had no answer. See in PagerDuty whether it arrived."
            " Then decide with `headroom deliveries settle` or `headroom deliveries resend`"
        )


def _dedup_key(delivery: Delivery) -> str:
    """The mark, or its hash where it is too long."""
    mark = delivery.mark
    return mark if len(mark) <= DEDUP_KEY_CHARACTERS else hashlib.sha256(mark.encode()).hexdigest()
