"""What `/metrics` shows. Counted in plain integers, turned into Prometheus' families when somebody asks.

A counter of the library costs about a microsecond, a request has forty in all. Labels are path templates, statuses
and reasons from our own code: never a value from a request, so that no key and no account can get here.
"""

import time
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Iterator

from prometheus_client import CollectorRegistry, Metric, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.registry import Collector

CONTENT_TYPE = b"text/plain; version=0.0.4; charset=utf-8"
_SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
_REQUESTS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)


class Distribution:
    """Counts by size, as a Prometheus histogram wants them."""

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.total = 0.0

    def observe(self, value: float) -> None:
        self.counts[bisect_left(self.bounds, value)] += 1
        self.total += value

    def family(self, name: str, text: str) -> HistogramMetricFamily:
        buckets, seen = [], 0
        for bound, count in zip((*self.bounds, float("inf")), self.counts, strict=True):
            seen += count
            buckets.append(("+Inf" if bound == float("inf") else str(float(bound)), seen))
        return HistogramMetricFamily(name, text, buckets=buckets, sum_value=self.total)


class Metrics(Collector):
    """The figures of one process."""

    def __init__(self) -> None:
        self.requests: Counter[tuple[str, int]] = Counter()
        self.refused: Counter[str] = Counter()
        self.events = 0
        self.body_bytes = 0
        self.quarantined_lines = 0
        self.sealed_segments = 0
        self.segment_opened_at_seconds: float | None = None
        self.pending_bytes: Callable[[], int] = lambda: 0
        self.connections: Callable[[], int] = lambda: 0
        self._commit_seconds = Distribution(_SECONDS)
        self._commit_requests = Distribution(_REQUESTS)
        self._registry = CollectorRegistry()
        self._registry.register(self)

    def observe_commit(self, seconds: float, requests: int) -> None:
        self._commit_seconds.observe(seconds)
        self._commit_requests.observe(requests)

    def text(self) -> bytes:
        """The page that Prometheus scrapes."""
        return generate_latest(self._registry)

    def describe(self) -> Iterator[Metric]:
        """Nothing: the names are not needed before somebody asks."""
        yield from ()

    def collect(self) -> Iterator[Metric]:
        requests = CounterMetricFamily("headroom_collector_requests", "Answered requests", labels=["path", "status"])
        for (path, status), count in sorted(self.requests.items()):
            requests.add_metric([path, str(status)], count)
        yield requests
        refused = CounterMetricFamily(
            "headroom_collector_refused", "Requests of which nothing was stored", labels=["reason"]
        )
        for reason, count in sorted(self.refused.items()):
            refused.add_metric([reason], count)
        yield refused
        for name, text, value in (
            ("events", "Events stored", self.events),
            ("body_bytes", "Bytes of bodies stored, as they were sent", self.body_bytes),
            ("quarantined_lines", "Stored lines that are not JSON: ingest will reject them", self.quarantined_lines),
            ("sealed_segments", "Segments handed to ingest", self.sealed_segments),
        ):
            yield CounterMetricFamily(f"headroom_collector_{name}", text, value=value)
        opened_at = self.segment_opened_at_seconds
        for name, text, current in (
            ("pending_bytes", "Bytes being read or waiting for the disk", self.pending_bytes()),
            ("connections", "Open connections", self.connections()),
            ("open_segment_age_seconds", "0: none is open", time.monotonic() - opened_at if opened_at else 0.0),
        ):
            yield GaugeMetricFamily(f"headroom_collector_{name}", text, value=current)
        yield self._commit_seconds.family("headroom_collector_commit_seconds", "Writing and syncing one group")
        yield self._commit_requests.family("headroom_collector_commit_requests", "Requests that shared one sync")
