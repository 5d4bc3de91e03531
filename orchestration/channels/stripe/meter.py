"""Stripe's billing meter: giving it an hour's usage once, and reading back what it has added up.

Stripe answers before it looks: an unknown customer, or a meter that was archived, is a 200 and shows only in the error
events and in the totals. What its error answers mean here is said in `send`.
"""

import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any

import stripe

from orchestration.billing.meter import AnsweredError, ErrorEvent, StoppedError
from orchestration.billing.metering import Mode
from orchestration.billing.revisions import Report
from orchestration.channels.stripe import client as stripe_client
from orchestration.channels.stripe.client import refusal
from orchestration.ledger.outbox import InDoubtError, RefusedError
from orchestration.settings import Settings

PATIENCE = 5
"""How often a request is repeated that Stripe put off; it says how long to wait."""
LONGEST_WAIT_SECONDS = 60
NO_ANSWER = (OSError, ValueError, LookupError, AttributeError, TypeError)
"""What the SDK raises where the answer is not Stripe's: a proxy's `{"error": "…"}` is an AttributeError there."""
_EXISTS = "already exists with identifier"
_NO_METER = "No active meter"
_ERROR_EVENTS = ["v1.billing.meter.error_report_triggered", "v1.billing.meter.no_meter_found"]


CATCHING_UP_SECONDS = 0.1
"""Turns that were missed, while outcomes were written, are made up for this long back."""


class Pace:
    """Lets requests through at an even rate, whoever makes them, and none while Stripe asks to wait."""

    def __init__(
        self,
        per_second: float,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], object] = time.sleep,
    ) -> None:
        self._interval, self._clock, self._sleep = 1 / per_second, clock, sleep
        self._next = 0.0
        self._lock = threading.Lock()

    def wait(self) -> None:
        with self._lock:
            now = self._clock()
            turn = max(self._next, now - CATCHING_UP_SECONDS)
            self._next = turn + self._interval
        if turn > now:
            self._sleep(turn - now)

    def hold(self, seconds: float) -> None:
        with self._lock:
            self._next = max(self._next, self._clock() + seconds)


_CODES = {
    "meter_event_customer_not_found": "Stripe knows no such customer: correct stripe_customer_id in the accounts file",
    "meter_event_no_customer_defined": "the meter looks for the customer under another payload key; run again",
    "archived_meter": "the meter is archived: reactivate it, or make another one (`headroom stripe bootstrap`)",
    "no_meter": "no meter has this event name: check HEADROOM_STRIPE_METER",
    "meter_event_invalid_value": "Stripe takes no such value; update Headroom",
    "meter_event_value_too_many_digits": "the value has more digits than Stripe takes: is the usage right?",
    "timestamp_too_far_in_past": "Stripe takes no usage older than 35 days",
    "timestamp_in_future": "the hour is to come: set this machine's clock",
}


class StripeMeter:
    """The active meter with that event name.

    :raises StoppedError: there is none, it does not fit, or Stripe could not be asked. Nothing was sent.
    """

    def __init__(self, client: stripe.StripeClient, event_name: str, pace: Pace) -> None:
        self._client, self._event_name, self._pace = client, event_name, pace
        meter = self._find()
        self.id = str(meter.id)
        self._customer_key = str(meter.customer_mapping.event_payload_key)
        self._value_key = str(meter.value_settings.event_payload_key)
        if (formula := meter.default_aggregation.formula) != "sum":
            raise StoppedError(f"meter {self.id} has the formula {formula!r}: usage is billed by a meter that sums")
        window = meter.event_time_window
        if window not in (None, "hour"):
            raise StoppedError(
                f"meter {self.id} keeps one value of each {window}, but usage is reported by the hour. Make a meter"
                " with event_time_window hour (`headroom stripe bootstrap`) and set HEADROOM_STRIPE_METER to its"
                " event name"
            )
        self.mode = Mode.TOTAL if window == "hour" else Mode.DELTA

    def send(self, report: Report) -> None:
        """Give the report to Stripe once. A 400 that the identifier exists means that it was taken before."""
        parameters: Any = {
            "event_name": self._event_name,
            "identifier": report.identifier,
            "timestamp": int(report.hour_start.timestamp()),
            "payload": {self._customer_key: report.stripe_customer_id, self._value_key: str(report.value)},
        }
        what = report.place
        # Stripe repeats its answer to the same key, even a 500 after which the usage counted.
        options: Any = {"idempotency_key": f"{report.identifier}-{report.answered_errors}"}
        for _ in range(PATIENCE):
            self._pace.wait()
            try:
                answer: Any = self._client.v1.billing.meter_events.create(parameters, options)
            except stripe.StripeError as error:
                status, message = error.http_status, str(error.user_message or "")
                if status == 429:
                    self._pace.hold(retry_after(error))
                elif status == 400 and _EXISTS in message:
                    return
                elif isinstance(error, stripe.IdempotencyError) or (status and status >= 500):
                    raise AnsweredError(f"Stripe failed (HTTP {status}) for {what}; it is sent again") from None
                elif status in (401, 403):
                    raise StoppedError(refusal(error, what)) from None
                elif status == 400 and _NO_METER in message:
                    raise StoppedError(f"{_CODES['no_meter']} (Stripe: {message})") from None
                elif status in (400, 402, 404):
                    raise RefusedError(f"Stripe refused it: {message}") from None
                else:
                    raise InDoubtError(f"no answer from Stripe ({type(error).__name__}) for {what}") from None
            except NO_ANSWER as error:
                raise InDoubtError(f"no answer from Stripe ({type(error).__name__}) for {what}") from None
            else:
                if getattr(answer, "identifier", None) != report.identifier:
                    raise InDoubtError(f"an answer that is not Stripe's for {what}")
                return
        raise StoppedError("Stripe takes no more requests for the moment (HTTP 429); the next run goes on")

    def hourly_totals(self, customer: str, start: datetime, end: datetime) -> dict[datetime, int]:
        summaries = self._summaries(customer, start, end, value_grouping_window="hour", limit=100)
        return {datetime.fromtimestamp(each.start_time, UTC): _units(each, customer) for each in summaries}

    def total(self, customer: str, start: datetime, end: datetime) -> int:
        return sum(_units(each, customer) for each in self._summaries(customer, start, end))

    def _summaries(self, customer: str, start: datetime, end: datetime, **grouping: object) -> Iterator[Any]:
        bounds = {"start_time": int(start.timestamp()), "end_time": int(end.timestamp())}
        page = {"customer": customer, **bounds, **grouping}
        while True:
            ask = self._client.v1.billing.meters.event_summaries.list
            summaries = self._asked(f"totals of {customer}", ask, self.id, page)
            yield from summaries.data
            if not summaries.has_more:
                return
            page["starting_after"] = summaries.data[-1].id

    def problem_of(self, customer: str) -> str:
        try:
            found = self._asked(f"customer {customer}", self._client.v1.customers.retrieve, customer)
        except RefusedError:
            return f"Stripe knows no customer {customer}: correct stripe_customer_id in the accounts file"
        if getattr(found, "deleted", False):
            return f"customer {customer} was deleted at Stripe: its usage is not billed; name the one that replaces it"
        return ""

    def errors(self, since: datetime) -> list[ErrorEvent]:
        """What Stripe found wrong with reports of any meter, oldest first, from `since` on."""
        found = []
        asked: Any = {"types": _ERROR_EVENTS, "created": {"gte": f"{since:%Y-%m-%dT%H:%M:%SZ}"}, "limit": 100}
        events = self._client.v2.core.events
        for event in self._asked("error events", lambda: [*events.list(asked).auto_paging_iter()]):
            found += _errors(self._asked(f"event {event.id}", events.retrieve, event.id))
        return sorted(found, key=lambda error: (error.created, error.event_id))

    def _find(self) -> Any:
        page: Any = {"status": "active", "limit": 100}
        while True:
            meters = self._asked("meters", self._client.v1.billing.meters.list, page)
            for meter in meters.data:
                if meter.event_name == self._event_name:
                    return meter
            if not meters.has_more:
                raise StoppedError(
                    f"Stripe has no active meter with the event name {self._event_name!r}. Create it with `headroom"
                    " stripe bootstrap --apply`, or set HEADROOM_STRIPE_METER to the name of yours"
                )
            page["starting_after"] = meters.data[-1].id

    def _asked(self, what: str, request: Callable[..., Any], *arguments: Any) -> Any:
        """:raises RefusedError: there is no such thing. :raises StoppedError: Stripe does not answer, or not us."""
        for _ in range(PATIENCE):
            self._pace.wait()
            try:
                return request(*arguments)
            except stripe.StripeError as error:
                status = error.http_status
                if status == 429:
                    self._pace.hold(retry_after(error))
                elif isinstance(error, stripe.InvalidRequestError) and status in (400, 404):
                    raise RefusedError(refusal(error, what)) from None
                elif status in (401, 403):
                    raise StoppedError(refusal(error, what)) from None
                else:
                    reason = f"HTTP {status}" if status else type(error).__name__
                    raise StoppedError(f"no usable answer from Stripe ({reason}) about {what}; run again") from None
            except NO_ANSWER as error:
                reason = type(error).__name__
                raise StoppedError(f"no usable answer from Stripe ({reason}) about {what}; run again") from None
        raise StoppedError("Stripe takes no more requests for the moment (HTTP 429); the next run goes on")


def _units(summary: Any, customer: str) -> int:
    value = summary.aggregated_value
    if value != int(value):
        raise RefusedError(f"Stripe shows {value} units of {customer}: no whole number, so not Headroom's")
    return int(value)


def explanation(code: str) -> str:
    """What is wrong with reports that Stripe refuses by that code, and what to do."""
    return _CODES.get(code, f"Stripe did not count it ({code}): look the code up in its documentation")


def retry_after(error: stripe.StripeError) -> float:
    """Seconds that Stripe asks to wait; the SDK does not look."""
    asked = str((error.headers or {}).get("Retry-After", "1"))
    return min(int(asked), LONGEST_WAIT_SECONDS) if asked.isdecimal() else 1


def _errors(event: Any) -> list[ErrorEvent]:
    """One for each report that the event names, and one for those of a kind that it only counts."""
    found = []
    for kind in event.data.reason.error_types:
        code = str(kind.code)
        rest = {
            "code": code,
            "event_id": str(event.id),
            "created": str(event.created),
            "sentence": explanation(code),
        }
        # the idempotency key that was sent: identifier-number
        named = [str(sample.request.identifier).rpartition("-")[0] for sample in kind.sample_errors]
        found += [ErrorEvent(name, count=1, **rest) for name in named]
        if kind.error_count > len(named):
            found.append(ErrorEvent("", count=kind.error_count - len(named), **rest))
    return found


def configured(config: Settings) -> StripeMeter:
    """Stripe's meter as the environment configures it.

    :raises StoppedError, ValueError: it cannot be used; the message says what to do.
    """
    client = stripe_client.connect(config)
    if client is None:
        raise ValueError("STRIPE_API_KEY is not set")
    return StripeMeter(client, config.stripe_meter, Pace(config.stripe_requests_per_second))
