"""A loopback Stripe, as far as Headroom uses it: real bytes from the real SDK, and the failures that it has.

Here are the server, keys, limits, idempotency and faults; objects are in stripe_store.py, metering in
stripe_metering.py, and what happens as time passes in stripe_billing.py, which says what was chosen for subscriptions
and invoices. Another kind of object is one more entry of `resources`.

What Stripe's documentation leaves open is chosen here: lists are newest first; a summary's window without an event is
not listed; a list of events about errors has no `data`, which only retrieving one gives; a list refuses a filter that
it does not know.
"""

import copy
import json
import socket
import sys
import threading
import time
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from decimal import Decimal
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Protocol, Self
from urllib.parse import urlsplit

from tests.fakes.slack import LOST_BEFORE, Fault
from tests.fakes.stripe_billing import Billing
from tests.fakes.stripe_clocks import TestClocks
from tests.fakes.stripe_credits import CreditBalance, CreditGrants
from tests.fakes.stripe_invoices import Invoices
from tests.fakes.stripe_metering import CoreEvents, MeterEvent, Metering, Meters
from tests.fakes.stripe_store import Collection, Json, RefusedError, Request, decoded
from tests.fakes.stripe_subscriptions import Items, Subscriptions, is_listed

METER_EVENTS = "/v1/billing/meter_events"
Mark = str | tuple[str, str | None]
"""What two requests at the same time may not share: an Idempotency-Key; a meter and customer."""
REMEMBERED = 24 * 3_600
"""Seconds for which an answer is kept under its Idempotency-Key."""
_FAILED = json.dumps({"error": {"type": "api_error", "message": "An unknown error occurred"}})
FAILED_BEFORE = Fault(applies=False, status=500, body=_FAILED)
FAILED_AFTER = Fault(applies=True, status=500, body=_FAILED)


class Resource(Protocol):
    permission: str

    def call(self, request: Request, rest: list[str]) -> Json: ...


class FakeStripe:
    """Stripe's API. Attributes may be changed between requests."""

    def __init__(self) -> None:
        self.key = "sk_test_fake"
        self.keys: dict[str, set[str] | None] = {self.key: None}
        """The permissions of each key, such as `billing_meter_event_write`; None has all."""
        self.clock: Callable[[], float] = time.time
        """Unix seconds. Everything goes by it, also the Date of an answer."""
        self.lag = 0.0
        """Seconds from the receipt of a meter event until it is validated, and counts."""
        self.summary_lag = 0.0
        """Seconds from there until the summaries have it."""
        self.grace_hours: float = 1
        """Hours from the end of a period until its invoice becomes final."""
        self.samples = 5
        """Sample errors of each kind in a report, at most."""
        self.is_down = False
        """No request is answered, or applied."""
        self.requests_per_second: int | None = None
        self.refuses_concurrency = False
        """A meter event is refused while another of the same customer and meter is under way."""
        self.refuses_unknown_meters = False
        """A meter event that no active meter has the name of is refused at once, not reported later."""
        self.largest_concurrency = 0
        """Meter events of one customer and meter that were under way at the same time, at most."""
        self.before: Callable[[Request], object] = lambda _: None
        """Called with each request before it is applied: a test can hold it there, or end who sent it."""
        self.after: Callable[[Request], object] = lambda _: None
        """The same after it was applied, before it is answered."""
        self.requests: list[Request] = []
        """Every request, the failed ones included."""
        self.customers = Customers(self, "customer", "cus", filters=["email", "test_clock"])
        self.meters = Meters(self)
        self.metering = Metering(self)
        self.subscriptions = Subscriptions(self)
        self.invoices = Invoices(self)
        self.credits = CreditGrants(self)
        self.test_clocks = TestClocks(self)
        self.billing = Billing(self)
        self.resources: dict[str, Resource] = {
            METER_EVENTS: self.metering,
            "/v1/billing/credit_balance_summary": CreditBalance(self),
            "/v1/billing/credit_grants": self.credits,
            "/v1/billing/meters": self.meters,
            "/v1/customers": self.customers,
            "/v1/invoices": self.invoices,
            "/v1/prices": Collection(
                self,
                "price",
                "price",
                permission="plan",
                filters=["active", "currency", "lookup_keys", "product", "type"],
                hidden=["tiers"],
                defaults={"active": True, "lookup_key": None},
            ),
            "/v1/products": Collection(self, "product", "prod", filters=["active"], defaults={"active": True}),
            "/v1/subscription_items": Items(self),
            "/v1/subscriptions": self.subscriptions,
            "/v1/test_helpers/test_clocks": self.test_clocks,
            "/v2/core/events": CoreEvents(self),
        }
        self._faults: dict[str, deque[Fault]] = defaultdict(deque)
        self._answers: dict[str, tuple[float, Request, Fault]] = {}
        self._recent: deque[float] = deque()
        self._marks: Counter[Mark] = Counter()
        self._number = 0
        self._lock = threading.RLock()
        self._server = _Server(self)
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01})

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.hang_up()
        self._server.server_close()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    @property
    def now(self) -> int:
        return int(self.clock())

    @property
    def events(self) -> list[MeterEvent]:
        """The meter events that were accepted, in the order of receipt, with what became of them."""
        with self._lock:
            self.billing.settle()
            return list(self.metering.events)

    def then(self, *faults: Fault, path: str = METER_EVENTS) -> None:
        """The next requests of the path meet these, one each; later ones are answered as usual."""
        self._faults[path].extend(faults)

    def calm(self) -> None:
        """No request meets a fault any more."""
        self._faults.clear()

    def counts(self) -> Counter[str]:
        """Requests by method and path, such as `POST /v1/billing/meter_events`."""
        return Counter(f"{request.method} {request.path}" for request in self.requests)

    def totals(self, customer: str, event_name: str, *, at_once: bool = False) -> dict[int, int | Decimal]:
        """What Stripe bills, by the start of the UTC hour in unix seconds; `at_once` as if there were no lag."""
        with self._lock:
            self.billing.settle()
            return self.metering.totals(customer, event_name, at_once=at_once)

    def add_customer(self, number: str, **fields: Any) -> Json:
        with self._lock:
            self.billing.settle()
            return self.customers.add(number, **fields)

    def delete_customer(self, number: str) -> None:
        with self._lock:
            self.billing.settle()
            self.customers.delete(number)

    def add_meter(self, event_name: str, event_time_window: str | None = None, **fields: Any) -> Json:
        with self._lock:
            self.billing.settle()
            return self.meters.add(event_name=event_name, event_time_window=event_time_window, **fields)

    def add_price(self, event_name: str = "", **fields: Any) -> Json:
        """A monthly price of one minor unit, made by somebody: of the active meter with that name, or of a quantity."""
        recurring: Json = {"interval": "month", "interval_count": 1, "meter": None, "usage_type": "licensed"}
        with self._lock:
            if event_name:
                meter = self.meters.active(event_name)
                assert meter, f"no active meter {event_name}"
                recurring |= {"meter": meter["id"], "usage_type": "metered"}
            prices: Any = self.resources["/v1/prices"]
            price: Json = prices.add(**{"currency": "usd", "product": "prod_1", "recurring": recurring, **fields})
            if "tiers" not in fields:
                price.setdefault("unit_amount_decimal", "1")
            return price

    def subscribe(
        self,
        customer: str,
        *prices: str,
        anchor: int = 0,
        start: int | None = None,
        since: int | None = None,
        trial_end: int | None = None,
        **fields: Any,
    ) -> Json:
        """A subscription with these prices, by id or lookup key, made by somebody at `start`: long ago where it is not
        given, or now where it has a trial. Its periods are invoiced from the one on that has `since`, or from that of
        now on.
        """
        with self._lock:
            self.billing.settle()
            stored: Any = self.resources["/v1/prices"]
            by_key = {each["lookup_key"]: each["id"] for each in stored.objects.values() if each.get("lookup_key")}
            clock = self.customers.objects.get(customer, {}).get("test_clock")
            now = self.billing.now(clock)
            subscription = self.subscriptions.make(
                customer,
                [(by_key.get(price, price), None) for price in prices],
                anchor=anchor,
                start=(now if trial_end else min(anchor, now)) if start is None else start,
                trial_end=trial_end,
                **fields,
            )
            self.billing.begin(subscription, now if since is None else since)
            return subscription

    def cancel(self, subscription: str, *, at_period_end: bool = False, is_invoiced: bool = False) -> Json:
        """Somebody cancels it, at once or with its period."""
        with self._lock:
            self.billing.settle()
            stored = self.subscriptions.find(subscription)
            if at_period_end:
                self.subscriptions.change(stored, {"cancel_at_period_end": True})
            else:
                self.subscriptions.cancel(stored, is_invoiced=is_invoiced)
            return stored

    def bills(self, customer: str) -> list[Json]:
        """The customer's invoices, oldest first, with all their lines."""
        with self._lock:
            self.billing.settle()
            found = [copy.deepcopy(each) for each in self.invoices.objects.values() if each["customer"] == customer]
            return sorted(found, key=lambda each: each["created"])

    def has_customer(self, number: str) -> bool:
        return number in self.customers.objects and not self.customers.objects[number].get("deleted")

    def found(self, request: Request, number: str) -> Json | str:
        """The object of that id, of whatever kind."""
        for each in self.resources.values():
            if isinstance(each, Collection) and number in each.objects:
                return each.shown(Request(request.method, request.path, key=request.key), each.objects[number])
        return number

    def next_number(self) -> int:
        self._number += 1
        return self._number

    def answer(self, request: Request) -> Fault:
        """What to answer to one request, applied where it is to be."""
        with self._under_way(request) as crowded:
            self.before(request)
            with self._lock:
                answer = self._answer(request, crowded)
            self.after(request)
        return answer

    @contextmanager
    def _under_way(self, request: Request) -> Iterator[set[Mark]]:
        """Which marks of the request another one that is under way has too."""
        with self._lock:
            lane = self._lane(request)
            marks = [mark for mark in (lane, request.idempotency_key) if mark]
            self._marks.update(marks)
            self.largest_concurrency = max(self.largest_concurrency, self._marks[lane] if lane else 0)
            crowded = {mark for mark in marks if self._marks[mark] > 1}
        try:
            yield crowded
        finally:
            with self._lock:
                self._marks.subtract(marks)

    def _lane(self, request: Request) -> tuple[str, str | None] | None:
        """The meter and the customer of a meter event."""
        name, payload = request.params.get("event_name"), request.params.get("payload")
        if request.path != METER_EVENTS or not name or not isinstance(payload, dict):
            return None
        return name, self.metering.customer(name, payload)

    def _answer(self, request: Request, crowded: set[Mark]) -> Fault:
        self.requests.append(request)
        if self.is_down:
            return LOST_BEFORE
        faults = self._faults[request.path]
        fault = faults.popleft() if faults else None
        if fault and not fault.applies and fault.status != 500:
            return fault
        self.billing.settle()
        try:
            resource, rest = self._admitted(request, crowded)
            answer = self._remembered(request) or self._applied(request, resource, rest, fault)
        except RefusedError as error:
            answer = Fault(applies=False, status=error.status, body=error.body, headers=error.headers)
        self.billing.settle()
        return fault or answer

    def _admitted(self, request: Request, crowded: set[Mark]) -> tuple[Resource, list[str]]:
        """The resource of the request, and the rest of its path there."""
        if request.key not in self.keys:
            text = (
                f"Invalid API Key provided: {_masked(request.key)}"
                if request.key
                else "You did not provide an API key."
            )
            raise RefusedError(text, status=401)
        path = next((path for path in self.resources if f"{request.path}/".startswith(f"{path}/")), None)
        if path is None:
            raise RefusedError(f"Unrecognized request URL ({request.method}: {request.path}).", status=404)
        resource, granted = self.resources[path], self.keys[request.key]
        kinds = ("read", "write") if request.method == "GET" else ("write",)
        if granted is not None and not granted & {f"{resource.permission}_{kind}" for kind in kinds}:
            raise RefusedError(
                f"The provided key '{_masked(request.key)}' does not have the required permissions for this endpoint on"
                f" account 'acct_fake'. Having the 'rak_{resource.permission}_{kinds[0]}' permission would allow this"
                " request to continue.",
                status=403,
            )
        now = self.clock()
        while self._recent and self._recent[0] <= now - 1:
            self._recent.popleft()
        if self.requests_per_second is not None and len(self._recent) >= self.requests_per_second:
            raise RefusedError(
                "Request rate limit exceeded.",
                status=429,
                code="rate_limit",
                headers={"Stripe-Rate-Limited-Reason": "global-rate", "Retry-After": "1"},
            )
        self._recent.append(now)
        if request.idempotency_key in crowded:
            raise RefusedError(
                "There is currently another in-progress request using this Idempotent Key"
                f" (that probably means you submitted twice): {request.idempotency_key}. Please try again later.",
                status=409,
                kind="idempotency_error",
                code="idempotency_key_in_use",
            )
        if crowded and self.refuses_concurrency:
            raise RefusedError(
                "This object cannot be accessed right now because another API request is currently accessing it.",
                status=429,
                code="lock_timeout",
                headers={"stripe-should-retry": "true"},
            )
        return resource, [part for part in request.path.removeprefix(path).split("/") if part]

    def _remembered(self, request: Request) -> Fault | None:
        """The answer to an earlier request under the same Idempotency-Key."""
        at, before, answer = self._answers.get(request.idempotency_key or "", (float("-inf"), request, LOST_BEFORE))
        if self.clock() - at >= REMEMBERED:
            return None
        if (before.path, before.params) != (request.path, request.params):
            raise RefusedError(
                "Keys for idempotent requests can only be used with the same parameters they were first used with."
                f" Try using a key other than '{request.idempotency_key}' if you meant to execute a different request.",
                kind="idempotency_error",
            )
        return replace(answer, headers={**(answer.headers or {}), "Idempotent-Replayed": "true"})

    def _applied(self, request: Request, resource: Resource, rest: list[str], fault: Fault | None) -> Fault:
        """The answer, which is kept. So is a 500, whether applied or not; a refusal is not."""
        if fault is None or fault.applies:
            body = json.dumps(resource.call(request, rest))
        answer = fault if fault and fault.status == 500 else Fault(applies=True, body=body)
        if request.method == "POST" and request.idempotency_key:
            self._answers[request.idempotency_key] = (self.clock(), request, answer)
        return answer


class Customers(Collection):
    """With a test clock they are listed only where that is asked for."""

    def matches(self, stored: Json, params: Json) -> bool:
        return is_listed(stored, params) and super().matches(stored, params)


def _masked(key: str) -> str:
    return f"{key[:8]}{'*' * 8}{key[-4:]}"


class _Server(ThreadingHTTPServer):
    """Keeps connections open between requests, and closes them at the end."""

    daemon_threads = False  # so that closing waits for them
    request_queue_size = 128

    def __init__(self, stripe: FakeStripe) -> None:
        super().__init__(("127.0.0.1", 0), _handler(stripe))
        self._connections: set[socket.socket] = set()

    def process_request(self, request: Any, client_address: Any) -> None:
        self._connections.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        self._connections.discard(request)
        super().shutdown_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        if not isinstance(sys.exception(), ConnectionError):  # a client that was killed is no error of ours
            super().handle_error(request, client_address)

    def hang_up(self) -> None:
        for connection in list(self._connections):
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)


def _handler(stripe: FakeStripe) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        wbufsize = -1  # headers and body leave together: else each answer waits for the client's delayed ACK

        def do_GET(self) -> None:
            self.do_POST()

        def do_DELETE(self) -> None:
            self.do_POST()

        def do_POST(self) -> None:
            address = urlsplit(self.path)
            raw = self.rfile.read(int(self.headers.get("Content-Length") or 0)).decode()
            is_json = self.headers.get_content_type() == "application/json"
            params = json.loads(raw or "{}") if is_json else decoded(raw or address.query)
            key = (self.headers.get("Authorization") or "").removeprefix("Bearer ")
            idempotency_key = self.headers.get("Idempotency-Key")
            self._send(stripe.answer(Request(self.command, address.path, params, key, idempotency_key)))

        def _send(self, answer: Fault) -> None:
            self.close_connection = self.close_connection or answer.body is None or answer.is_cut_off
            if answer.body is None:
                return
            body = answer.body.encode()
            self.send_response_only(answer.status)
            self.send_header("Date", formatdate(stripe.clock(), usegmt=True))
            self.send_header("Request-Id", f"req_{len(stripe.requests)}")
            is_json = body.startswith(b"{")
            self.send_header("Content-Type", "application/json" if is_json else "text/html; charset=utf-8")
            self.send_header("Content-Length", str(len(body) + answer.is_cut_off * 100))
            for name, value in (answer.headers or {}).items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    return Handler
