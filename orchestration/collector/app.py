"""Which path is taken how, and what its clients want to hear.

From a request's headers to a refusal, and from its body to an answer when its lines are durable. Bytes on the wire
are in `protocol.py`; bodies, keys and storage have modules of their own. The answers are facts about real clients, see
the README: PostHog's Python library takes only 200 for a success, OpenMeter's only 204.
"""

import logging
import re
import time
import traceback
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC
from functools import lru_cache
from pathlib import Path
from typing import Any

import orjson

from orchestration.collector import answers, bodies, cloudevents, metrics, otlp
from orchestration.collector.answers import Answer, RefusedError
from orchestration.collector.cors import PREFLIGHT, Origins
from orchestration.collector.keys import Keys, Proof
from orchestration.collector.parsed_body import ParsedBody
from orchestration.collector.spool import Spool
from orchestration.settings import Settings

SCHEMA = Path(__file__).parent.parent / "usage" / "event.schema.json"
logger = logging.getLogger("headroom.collector")


@dataclass(frozen=True)
class Route:
    """A path that takes events. `template` is its name in the metrics."""

    template: str
    answer: Answer | Callable[[int, int, Sequence[Any]], Answer]
    """Or what makes it from the number of events, of lines that are none, and the events."""
    is_sdk: bool = False
    """Its clients send JSON and drop a batch on 400; elsewhere lines of text are expected, and kept."""


def _counts(accepted: int, quarantined: int, _: Sequence[Any]) -> Answer:
    if accepted == 1 and quarantined == 0:
        return _ONE
    return Answer(200, b'{"accepted":%d,"quarantined":%d}' % (accepted, quarantined))


def _results(_accepted: int, _quarantined: int, events: Sequence[Any]) -> Answer:
    """PostHog's newer protocol wants to see each event's uuid: what is missing is sent again."""
    uuids = [event["uuid"] for event in events if isinstance(event, dict) and isinstance(event.get("uuid"), str)]
    return Answer(200, orjson.dumps({"results": {uuid: {"result": "ok"} for uuid in uuids}}))


_ONE = Answer(200, b'{"accepted":1,"quarantined":0}')
_SEGMENT = Answer(200, b'{"success":true}')
ROUTES = {
    **dict.fromkeys(("/batch/", "/batch"), Route("/batch", Answer(200, b'{"status":1}'), is_sdk=True)),
    **{path: Route(path, _SEGMENT, is_sdk=True) for path in ("/v1/batch", "/v1/track", "/v1/import")},
    "/i/v1/analytics/events": Route("/i/v1/analytics/events", _results, is_sdk=True),
    "/api/v1/events": Route("/api/v1/events", Answer(204, b""), is_sdk=True),
}
_LOGS = Route("/v1/logs", Answer(200, b"", content_type=otlp.PROTOBUF), is_sdk=True)
ROUTES["/v1/logs"] = _LOGS
_ANALYTICS = Route("/v1/analytics/{project}", _counts)
ANY = Route("/{any}", _counts)
UNREAD = "/{unread}"
"""In the metrics: the path of a request that was refused before its head was complete."""
_ANALYTICS_PATH = re.compile(r"/v1/analytics/[^/]+/?")


@lru_cache(1024)
def route_of(path: str) -> Route:
    """How a POST to this path is taken."""
    return ROUTES.get(path) or (_ANALYTICS if _ANALYTICS_PATH.fullmatch(path) else ANY)


class Request:
    """One request on its way, from its headers to its answer."""

    __slots__ = ("accepted", "answer", "body_bytes", "headers", "proof", "quarantined", "reply", "route", "share")

    def __init__(
        self, route: Route, headers: dict[bytes, bytes], share: bodies.Share, reply: Callable[[Answer], None]
    ) -> None:
        self.route = route
        self.headers = headers
        self.share = share
        self.reply = reply
        """To be called once."""
        self.proof = Proof.IN_BODY
        self.answer = _ONE
        """Given when all is stored. Made before, so that parsed events need not stay: 64 waiting batches are slow."""
        self.accepted = self.quarantined = self.body_bytes = 0


class Collector:
    """Takes requests, and answers them when their lines are durable."""

    def __init__(self, settings: Settings, keys: Keys, spool: Spool, figures: metrics.Metrics) -> None:
        self.spool = spool
        self.budget = bodies.Budget(settings.collect_max_pending_bytes)
        self.figures = figures
        self.max_body_bytes = settings.collect_max_body_bytes
        self.origins = Origins.of(settings)
        self._keys = keys
        self._max_events = settings.collect_max_events
        self._fixed_now = settings.fixed_now
        self._schema = Answer(200, SCHEMA.read_bytes(), content_type=b"application/schema+json")
        figures.pending_bytes = lambda: self.budget.used_bytes

    def begin(self, path: str, headers: dict[bytes, bytes], reply: Callable[[Answer], None]) -> Request | None:
        """A POST whose body is to be read; None where it is not worth reading and the answer was given already."""
        request = Request(route_of(path), headers, bodies.Share(self.budget), reply)
        try:
            request.proof = self._keys.check_headers(headers)
            if request.proof is Proof.IN_BODY and (request.route is _LOGS or cloudevents.VERSION_HEADER in headers):
                self._keys.check_body(None)  # these bodies have no place for a key
            declared = headers.get(b"content-length")
            if declared is not None:
                if int(declared) > self.max_body_bytes:
                    raise bodies.body_too_large(self.max_body_bytes)
                self.budget.check(int(declared))
        except RefusedError as refusal:
            self.refuse(request, refusal)
            return None
        except Exception:  # noqa: BLE001
            self.refuse(request, self._unexpected())
            return None
        return request

    def take(self, request: Request, raw: bytes) -> None:
        """Parse and store a body; the request is answered as soon as it is known what became of it."""
        try:
            batch = self._parse(request, raw)
            request.accepted, request.quarantined = accepted, quarantined = len(batch.events), len(batch.bad_lines)
            answer = batch.answer or request.route.answer
            request.answer = answer if isinstance(answer, Answer) else answer(accepted, quarantined, batch.events)
            request.body_bytes = len(raw)
            if accepted or quarantined:
                lines = [self._keys.scrub(line) for line in batch.lines(self._received_at())]
                request.share.hold(sum(map(len, lines)))
                self.spool.append(lines, lambda problem: self._stored(request, problem))
            else:
                self._stored(request, None)
        except RefusedError as refusal:
            self.refuse(request, refusal)
        except Exception:  # noqa: BLE001 - logged with its traceback, but without keys
            self.refuse(request, self._unexpected())

    def _unexpected(self) -> RefusedError:
        text = self._keys.scrub(traceback.format_exc().encode(errors="replace")).decode()
        logger.error("unexpected, while taking a request\n%s", text)
        return answers.unavailable("unexpected", "something went wrong here: send it again", 5)

    def count(self, template: str, refusal: RefusedError) -> None:
        """Count a request that was refused before it got here."""
        self.figures.refused[refusal.reason] += 1
        self.figures.requests[template, refusal.answer.status] += 1

    def refuse(self, request: Request, refusal: RefusedError) -> None:
        """Answer a request of which nothing is stored."""
        request.share.hold(0)
        self.figures.refused[refusal.reason] += 1
        self._answer(request, refusal.answer)

    def forget(self, request: Request) -> None:
        """The client is gone before the end of its request."""
        request.share.hold(0)
        self.figures.refused["disconnected"] += 1

    def _stored(self, request: Request, problem: str | None) -> None:
        request.share.hold(0)
        if problem is not None:
            text = f"the events could not be stored ({problem}): send them again"
            self.refuse(request, answers.unavailable("storage", text))
            return
        figures = self.figures
        figures.events += request.accepted
        figures.quarantined_lines += request.quarantined
        figures.body_bytes += request.body_bytes
        self._answer(request, request.answer)

    def _answer(self, request: Request, answer: Answer) -> None:
        self.figures.requests[request.route.template, answer.status] += 1
        request.reply(answer)

    def _parse(self, request: Request, raw: bytes) -> ParsedBody:
        headers, proof = request.headers, request.proof
        if proof is Proof.SIGNATURE:
            self._keys.check_signature(headers, raw, time.time())
        body = raw
        encoding = headers.get(b"content-encoding", b"")
        try:
            if encoding or raw.startswith(bodies.GZIP_MAGIC):
                body = bodies.inflate(raw, encoding, self.max_body_bytes, is_proven=proof is not Proof.IN_BODY)
                request.share.hold(len(raw) + len(body))
        except zlib.error:
            if request.route.is_sdk:
                raise RefusedError(400, "compression", "the compressed body is damaged or incomplete") from None
            if proof is Proof.IN_BODY:
                self._keys.check_body(None)
            return ParsedBody(bad_lines=[raw])  # syslog-ng repeats a 4xx for ever
        if proof is Proof.IN_BODY:
            self._keys.check_text(body)
        if cloudevents.VERSION_HEADER in headers:
            batch = cloudevents.parse_binary(headers, body)
        elif request.route is _LOGS:
            batch = otlp.parse_logs(body, headers.get(b"content-type", b""), self._max_events)
        else:
            batch = bodies.parse(body, is_sdk=request.route.is_sdk, max_events=self._max_events)
        if proof is Proof.IN_BODY:
            self._keys.check_body(batch.root)
        key = headers.get(b"idempotency-key") or (headers.get(b"webhook-id") if proof is Proof.SIGNATURE else None)
        if key:
            batch.give_ids(key)
        batch.drop_secrets()
        return batch

    def _received_at(self) -> bytes:
        if self._fixed_now is not None:
            return f"{self._fixed_now.astimezone(UTC):%Y-%m-%dT%H:%M:%S.%fZ}".encode()
        return _stamp(time.time_ns())

    def show(self, method: str, path: str, headers: Mapping[bytes, bytes], reply: Callable[[Answer], None]) -> None:
        """The pages for people and machines that look after the collector, and the refusal of other methods."""
        template = path
        if method == "OPTIONS" and self.origins is not None and self.origins.is_preflight(headers):
            template, answer = route_of(path).template, PREFLIGHT
        elif method not in ("GET", "HEAD"):
            template = ANY.template
            answer = answers.error(405, "send events with POST", (b"allow", b"GET, HEAD, POST"))
        elif path == "/healthz":
            answer = _HEALTHY
        elif path == "/readyz":
            self.spool.check(lambda problem: reply(self._readiness(problem)))
            return
        elif path == "/metrics":
            answer = Answer(200, self.figures.text(), content_type=metrics.CONTENT_TYPE)
        elif path == "/v1/schema.json":
            answer = self._schema
        else:
            template = ANY.template
            answer = answers.error(404, "nothing is here: POST events, or GET /healthz, /readyz, /metrics")
        self.figures.requests[template, answer.status] += 1
        reply(answer)

    def _readiness(self, problem: str | None) -> Answer:
        answer = _READY
        if problem is not None:
            answer = answers.unavailable("storage", f"cannot store events: {problem}").answer
        self.figures.requests["/readyz", answer.status] += 1
        return answer


_HEALTHY = Answer(200, b'{"status":"ok"}')
_READY = Answer(200, b'{"status":"ready"}')
_second = (0, b"")


def _stamp(now_ns: int) -> bytes:
    """ISO 8601 in UTC with microseconds. The part up to the second is kept: making it costs most of the time."""
    global _second
    seconds, rest = divmod(now_ns, 1_000_000_000)
    if _second[0] != seconds:
        _second = (seconds, time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds)).encode())
    return b"%b.%06dZ" % (_second[1], rest // 1000)
