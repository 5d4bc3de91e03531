"""Stripe's usage metering: meters, the events that they count, summaries, and reports of what did not count."""

from __future__ import annotations

import operator
import re
from collections import defaultdict, deque
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import TYPE_CHECKING
from urllib.parse import urlencode

from tests.fakes.stripe_store import Collection, Json, RefusedError, Request, known, missing, page_size, paged, required

if TYPE_CHECKING:
    from tests.fakes.stripe import FakeStripe

HOUR, DAY = 3_600, 86_400
WINDOWS = {"hour": HOUR, "day": DAY}
PAST, AHEAD = 35 * DAY, 5 * 60
"""How far from now the time of an event may be, in seconds."""
MAX_CHARACTERS = 100
MAX_DIGITS = 15
VALIDATION = 10
"""Seconds of one error report."""
KEPT = 30 * DAY
"""How long events about errors can be read."""
REPORT, NO_METER = "v1.billing.meter.error_report_triggered", "v1.billing.meter.no_meter_found"


@dataclass
class MeterEvent:
    """An event that was answered with 200. Whether it counts shows later."""

    identifier: str
    event_name: str
    payload: dict[str, str]
    timestamp: int
    received_at: float
    idempotency_key: str | None
    validated_at: float | None = None
    meter: str | None = None
    error: str | None = None
    """The code in the error report, where it does not count."""


class Meters(Collection):
    """Meters, and the summaries of what they counted."""

    def __init__(self, stripe: FakeStripe) -> None:
        super().__init__(
            stripe,
            "billing.meter",
            "mtr",
            permission="billing_meter",
            filters=["status"],
            defaults={
                "customer_mapping": {"event_payload_key": "stripe_customer_id", "type": "by_id"},
                "default_aggregation": {"formula": "sum"},
                "display_name": "A meter",
                "event_time_window": None,
                "status": "active",
                "status_transitions": {"deactivated_at": None},
                "value_settings": {"event_payload_key": "value"},
            },
        )
        self.actions = {
            ("POST", "deactivate"): self._deactivate,
            ("POST", "reactivate"): self._reactivate,
            ("GET", "event_summaries"): self._summaries,
        }

    def active(self, event_name: str) -> Json | None:
        named = (each for each in self.objects.values() if each["event_name"] == event_name)
        return next((each for each in named if each["status"] == "active"), None)

    def create(self, params: Json) -> Json:
        required(params, "display_name", "event_name", "default_aggregation")
        known(params, {*self.defaults, "event_name"} - {"status", "status_transitions"})
        _short(params, "event_name")
        if params.get("event_time_window") not in (None, *WINDOWS):
            raise RefusedError("Invalid event_time_window: must be one of day or hour", param="event_time_window")
        if params["default_aggregation"].get("formula") not in ("sum", "count", "last"):
            raise RefusedError("Invalid formula: must be one of count, last, or sum", param="default_aggregation")
        self._free(params["event_name"])
        return super().create(params)

    def change(self, stored: Json, params: Json) -> None:
        known(params, ["display_name"])
        super().change(stored, params)

    def _deactivate(self, request: Request, meter: Json) -> Json:
        meter |= {"status": "inactive", "status_transitions": {"deactivated_at": self.stripe.now}}
        return self.shown(request, meter)

    def _reactivate(self, request: Request, meter: Json) -> Json:
        if meter["status"] != "active":
            self._free(meter["event_name"])
        meter |= {"status": "active", "status_transitions": {"deactivated_at": None}}
        return self.shown(request, meter)

    def _free(self, event_name: str) -> None:
        if other := self.active(event_name):
            text = f"There is already an active meter ({other['id']}) with the event name {event_name}."
            raise RefusedError(text, param="event_name")

    def _summaries(self, request: Request, meter: Json) -> Json:
        params = request.params
        required(params, "customer", "start_time", "end_time")
        known(params, ["customer", "start_time", "end_time", "value_grouping_window", "limit", "starting_after"])
        start, end, grouping = params["start_time"], params["end_time"], params.get("value_grouping_window")
        if grouping not in (None, *WINDOWS):
            raise RefusedError(
                "Invalid value_grouping_window: must be one of day or hour", param="value_grouping_window"
            )
        for name in ("start_time", "end_time"):
            if not isinstance(params[name], int) or params[name] % (WINDOWS[grouping] if grouping else 60):
                text = f"The {name} must align with {grouping or 'minute'} boundaries."
                raise RefusedError(text, param=name)
        if start >= end:
            raise RefusedError("The start_time must be before the end_time.", param="start_time")
        if not self.stripe.has_customer(params["customer"]):
            raise missing("customer", params["customer"], "customer", 400)
        size: int = WINDOWS[grouping] if grouping else end - start
        windows: dict[int, list[MeterEvent]] = defaultdict(list)
        for event in self.stripe.metering.counted(meter, params["customer"], self.stripe.summary_lag):
            if start <= event.timestamp < end:
                windows[start + (event.timestamp - start) // size * size].append(event)
        found = [
            {
                "id": f"mtrusg_{meter['id']}_{params['customer']}_{at}_{size}",
                "object": "billing.meter_event_summary",
                "aggregated_value": float(aggregated(meter, windows[at])),
                "start_time": at,
                "end_time": at + size,
                "livemode": request.is_live,
                "meter": meter["id"],
            }
            for at in sorted(windows, reverse=True)
        ]
        return paged(found, request)


class Metering:
    """Takes events (`POST /v1/billing/meter_events`), and finds out later which of them count."""

    permission = "billing_meter_event"

    def __init__(self, stripe: FakeStripe) -> None:
        self.stripe = stripe
        self.events: list[MeterEvent] = []
        """Accepted ones, in the order of receipt."""
        self._pending: deque[MeterEvent] = deque()
        self._valid: dict[tuple[str, str], list[MeterEvent]] = defaultdict(list)
        self._received: dict[str, float] = {}

    def call(self, request: Request, rest: list[str]) -> Json:
        if rest or request.method != "POST":
            raise RefusedError(f"Unrecognized request URL ({request.method}: {request.path}).", status=404)
        params, now = request.params, self.stripe.clock()
        known(params, ["event_name", "payload", "identifier", "timestamp", "expand"])
        required(params, "event_name", "payload")
        _short(params, "event_name")
        _short(params, "identifier")
        timestamp = params.get("timestamp", int(now))
        if not isinstance(timestamp, int):
            raise RefusedError(f"Invalid integer: {timestamp}", code="parameter_invalid_integer", param="timestamp")
        if timestamp < int(now) - PAST:
            raise RefusedError(
                "The event timestamp cannot be more than 35 days in past."
                f" Expected a timestamp greater than or equal to {int(now) - PAST}.",
                param="timestamp",
            )
        if timestamp > now + AHEAD:
            raise RefusedError("The event timestamp cannot be more than 5 minutes in the future.", param="timestamp")
        self._check_payload(params)
        identifier = params.get("identifier") or f"mev_{self.stripe.next_number()}"
        if now - self._received.get(identifier, float("-inf")) < DAY:
            text = f"An event already exists with identifier {identifier}."
            raise RefusedError(text, headers={"stripe-should-retry": "false"})
        self._received[identifier] = now
        event = MeterEvent(identifier, params["event_name"], params["payload"], timestamp, now, request.idempotency_key)
        self.events.append(event)
        self._pending.append(event)
        return {
            "object": "billing.meter_event",
            "created": int(now),
            "event_name": event.event_name,
            "identifier": identifier,
            "livemode": request.is_live,
            "payload": event.payload,
            "timestamp": timestamp,
        }

    def customer(self, event_name: str, payload: dict[str, str]) -> str | None:
        meter = self.stripe.meters.active(event_name)
        mapping = (meter or self.stripe.meters.defaults)["customer_mapping"]
        return payload.get(mapping["event_payload_key"])

    def settle(self, until: float) -> None:
        """Validates what was received long enough before then. To be called before anything that it depends on
        changes.
        """
        while self._pending and self._pending[0].received_at + self.stripe.lag <= until:
            event = self._pending.popleft()
            event.validated_at = event.received_at + self.stripe.lag
            event.meter, event.error = self._verdict(event)
            if event.meter and not event.error:
                customer = self.customer(event.event_name, event.payload)
                self._valid[event.meter, str(customer)].append(event)
                self.stripe.billing.on_counted(event, str(customer))

    def counted(
        self, meter: Json, customer: str, lag: float = 0, *, at_once: bool = False, by: float | None = None
    ) -> list[MeterEvent]:
        """The events of a customer that the meter counts: of a window the most recently received, or all of them.

        `by`: those that it counted until then.
        """
        until = (self.stripe.clock() if by is None else by) - lag
        events = [event for event in self._valid[meter["id"], customer] if (event.validated_at or 0) <= until]
        if at_once:
            events += [
                event
                for event in self._pending
                if self._verdict(event) == (meter["id"], None)
                and self.customer(event.event_name, event.payload) == customer
            ]
        if not meter["event_time_window"]:
            return events
        size = WINDOWS[meter["event_time_window"]]
        return list({event.timestamp // size: event for event in events}.values())

    def totals(self, customer: str, event_name: str, *, at_once: bool = False) -> dict[int, int | Decimal]:
        hours: dict[int, Decimal] = {}
        for meter in self.stripe.meters.objects.values():
            if meter["event_name"] == event_name:
                by_hour: dict[int, list[MeterEvent]] = defaultdict(list)
                for event in self.counted(meter, customer, at_once=at_once):
                    by_hour[event.timestamp // HOUR * HOUR].append(event)
                for hour, events in by_hour.items():
                    hours[hour] = hours.get(hour, Decimal(0)) + aggregated(meter, events)
        return {hour: int(total) if total == int(total) else total for hour, total in sorted(hours.items())}

    def _check_payload(self, params: Json) -> None:
        """As far as the meter is known: else it is looked at later."""
        meter = self.stripe.meters.active(params["event_name"])
        if meter:
            _, problem = _problem(meter, params["payload"])
            if problem:
                raise RefusedError(problem, param="payload")
        elif self.stripe.refuses_unknown_meters:
            raise RefusedError(f"No active meter found for event name {params['event_name']}", param="event_name")

    def _verdict(self, event: MeterEvent) -> tuple[str | None, str | None]:
        """The meter of an event, and the code of what is wrong with it."""
        meter = self.stripe.meters.active(event.event_name)
        if not meter:
            named = [each for each in self.stripe.meters.objects.values() if each["event_name"] == event.event_name]
            return (named[-1]["id"], "archived_meter") if named else (None, "no_meter")
        code, _ = _problem(meter, event.payload)
        if not code and not self.stripe.has_customer(event.payload[meter["customer_mapping"]["event_payload_key"]]):
            code = "meter_event_customer_not_found"
        return meter["id"], code


class CoreEvents:
    """`GET /v2/core/events`: reports of the events that do not count, one of each meter and validation window."""

    permission = "event"

    def __init__(self, stripe: FakeStripe) -> None:
        self.stripe = stripe

    def call(self, request: Request, rest: list[str]) -> Json:
        if rest:
            found = [each for each in self._reports(request) if each["id"] == rest[0]]
            if not found:
                raise missing("event", rest[0])
            return found[0]
        known(request.params, ["types", "created", "limit", "page"])
        types, limit = request.params.get("types"), page_size(request)
        found = [each for each in self._reports(request) if not types or each["type"] in types]
        found = [each for each in found if _is_within(each["created"], request.params.get("created", {}))]
        start = int(request.params.get("page", 0))
        following = None
        if start + limit < len(found):
            query = [("limit", limit), ("page", start + limit)]
            query += [(f"types[{at}]", each) for at, each in enumerate(types or ())]
            query += [(f"created[{name}]", value) for name, value in request.params.get("created", {}).items()]
            following = f"{request.path}?{urlencode(query)}"
        thin = [{name: value for name, value in each.items() if name != "data"} for each in found]
        return {"data": thin[start : start + limit], "next_page_url": following, "previous_page_url": None}

    def _reports(self, request: Request) -> list[Json]:
        """Newest first."""
        now = self.stripe.clock()
        failed: dict[tuple[int, str], list[MeterEvent]] = defaultdict(list)
        for event in self.stripe.metering.events:
            if event.error and event.validated_at is not None:
                window = int(event.validated_at // VALIDATION * VALIDATION)
                if now - KEPT <= window + VALIDATION <= now:
                    failed[window, event.meter or ""].append(event)
        return [self._report(request, *key, failed[key]) for key in sorted(failed, reverse=True)]

    def _report(self, request: Request, window: int, meter: str, events: list[MeterEvent]) -> Json:
        kinds: dict[str, list[MeterEvent]] = defaultdict(list)
        for event in events:
            kinds[str(event.error)].append(event)
        related = {"id": meter, "type": "billing.meter", "url": f"/v1/billing/meters/{meter}"}
        return {
            "id": f"evt_{window}_{meter or 'none'}",
            "object": "v2.core.event",
            "type": REPORT if meter else NO_METER,
            "context": None,
            "created": _iso(window + VALIDATION),
            "livemode": request.is_live,
            "reason": None,
            **({"related_object": related} if meter else {}),
            "data": {
                "developer_message_summary": f"There were {len(events)} invalid meter events.",
                "validation_start": _iso(window),
                "validation_end": _iso(window + VALIDATION),
                "reason": {
                    "error_count": len(events),
                    "error_types": [
                        {
                            "code": code,
                            "error_count": len(kind),
                            "sample_errors": [
                                {
                                    "error_message": f"{code}: {event.event_name} {event.payload}",
                                    "request": {"identifier": event.idempotency_key},
                                }
                                for event in kind[: self.stripe.samples]
                            ],
                        }
                        for code, kind in sorted(kinds.items())
                    ],
                },
            },
        }


def aggregated(meter: Json, events: Iterable[MeterEvent]) -> Decimal:
    formula, key = meter["default_aggregation"]["formula"], meter["value_settings"]["event_payload_key"]
    if formula == "count":
        return Decimal(len(list(events)))
    if formula == "last":
        return Decimal(max(events, key=lambda event: (event.timestamp, event.received_at)).payload[key])
    return sum((Decimal(event.payload[key]) for event in events), Decimal(0))


def _problem(meter: Json, payload: dict[str, str]) -> tuple[str | None, str | None]:
    """What is wrong with a payload, as a code and in words."""
    customer, key = meter["customer_mapping"]["event_payload_key"], meter["value_settings"]["event_payload_key"]
    if not payload.get(customer):
        return "meter_event_no_customer_defined", f"The payload must have the key {customer}."
    if meter["default_aggregation"]["formula"] == "count":
        return None, None
    if not re.fullmatch(r"-?\d+(\.\d+)?", payload.get(key, "")):
        return "meter_event_invalid_value", f"The payload's {key} must be a number."
    if len(Decimal(payload[key]).normalize().as_tuple().digits) > MAX_DIGITS:
        return "meter_event_value_too_many_digits", f"The value has more than {MAX_DIGITS} significant digits."
    return None, None


def _short(params: Json, name: str) -> None:
    if len(params.get(name, "")) > MAX_CHARACTERS:
        text = f"Invalid string: {name} must be at most {MAX_CHARACTERS} characters"
        raise RefusedError(text, param=name)


def _iso(at: int) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%M:%S.000Z")


def _is_within(created: str, bounds: dict[str, str]) -> bool:
    ways = {"gt": operator.gt, "gte": operator.ge, "lt": operator.lt, "lte": operator.le}
    known(bounds, ways)
    try:
        return all(ways[name](datetime.fromisoformat(created), datetime.fromisoformat(bounds[name])) for name in bounds)
    except (TypeError, ValueError):
        raise RefusedError(f"Invalid timestamp: {bounds}; must be ISO 8601 with a zone", param="created") from None
