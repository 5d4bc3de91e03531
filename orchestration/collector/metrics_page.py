"""The page that Prometheus scrapes, of the figures of one process, or of all workers together."""

import platform
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from prometheus_client import CollectorRegistry, Metric, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.registry import Collector

from orchestration.collector.metrics import REQUESTS, SECONDS, Snapshot

CONTENT_TYPE = b"text/plain; version=0.0.4; charset=utf-8"
_PREFIX = "headroom_collector"
_COUNTS = {
    "events": "Events stored",
    "body_bytes": "Bytes of bodies stored, as they were sent",
    "quarantined_lines": "Stored lines that are not JSON: ingest will reject them",
    "sealed_segments": "Segments handed to ingest",
}
_PROCESS: dict[str, tuple[str, Callable[[Iterable[float]], float]]] = {
    "virtual_memory_bytes": ("Virtual memory of all workers", sum),
    "resident_memory_bytes": ("Resident memory of all workers", sum),
    "open_fds": ("Open files of all workers", sum),
    "max_fds": ("Files that a worker may open", min),
    "start_time_seconds": ("When the first of them started, in seconds since 1970", min),
}


def page(snapshots: Sequence[Snapshot]) -> bytes:
    """All figures of the processes: sums, so that it does not matter which of them is asked."""
    registry = CollectorRegistry()
    registry.register(_Figures(snapshots))
    return generate_latest(registry)


class _Figures(Collector):
    def __init__(self, snapshots: Sequence[Snapshot]) -> None:
        self._all = snapshots

    def describe(self) -> Iterator[Metric]:
        """Nothing: the names are not needed before somebody asks."""
        yield from ()

    def collect(self) -> Iterator[Metric]:
        requests: Counter[tuple[str, int]] = Counter()
        for snapshot in self._all:
            for path, status, count in snapshot["requests"]:
                requests[path, status] += count
        family = CounterMetricFamily(f"{_PREFIX}_requests", "Answered requests", labels=["path", "status"])
        for (path, status), count in sorted(requests.items()):
            family.add_metric([path, str(status)], count)
        yield family
        for name, source, label, text in (
            ("refused", "refused", "reason", "Requests of which nothing was stored"),
            ("key_requests", "requests_of_keys", "key", "Requests stored, by the name of their key"),
            ("key_events", "events_of_keys", "key", "Events stored, by the name of their key"),
        ):
            family = CounterMetricFamily(f"{_PREFIX}_{name}", text, labels=[label])
            for value, count in sorted(sum((Counter(each[source]) for each in self._all), Counter[str]()).items()):
                family.add_metric([value], count)
            yield family
        for name, text in _COUNTS.items():
            value = sum(snapshot["counts"][name] for snapshot in self._all)
            yield CounterMetricFamily(f"{_PREFIX}_{name}", text, value=value)
        gauges: tuple[tuple[str, str, Callable[[Iterable[float]], float]], ...] = (
            ("pending_bytes", "Bytes being read or waiting for the disk", sum),
            ("connections", "Open connections", sum),
            ("open_segment_age_seconds", "0: none is open", max),
        )
        for name, text, together in gauges:
            yield GaugeMetricFamily(f"{_PREFIX}_{name}", text, value=together(each[name] for each in self._all))
        yield GaugeMetricFamily(f"{_PREFIX}_workers", "Processes that take requests", value=len(self._all))
        yield _histogram("commit_seconds", "Writing and syncing one group", SECONDS, self._of("commit_seconds"))
        yield _histogram("commit_requests", "Requests that shared one sync", REQUESTS, self._of("commit_requests"))
        templates = sorted({template for each in self._all for template in each["request_seconds"]})
        latency = HistogramMetricFamily(
            f"{_PREFIX}_request_seconds", "From the end of a request's head to its answer", labels=["path"]
        )
        for template in templates:
            parts = [each["request_seconds"][template] for each in self._all if template in each["request_seconds"]]
            buckets, total = _buckets(SECONDS, parts)
            latency.add_metric([template], buckets, total)
        yield latency
        yield from self._program()

    def _of(self, name: str) -> list[Any]:
        return [snapshot[name] for snapshot in self._all]

    def _program(self) -> Iterator[Metric]:
        build = GaugeMetricFamily(f"{_PREFIX}_build_info", "What runs here", labels=["version", "python"])
        build.add_metric([_version(), platform.python_version()], 1)
        yield build
        cpu_seconds = sum(snapshot["process"]["cpu_seconds"] for snapshot in self._all)
        yield CounterMetricFamily("process_cpu_seconds", "Processor time of all workers", value=cpu_seconds)
        for name, (text, together) in _PROCESS.items():
            values = [snapshot["process"][name] for snapshot in self._all if name in snapshot["process"]]
            if values:
                yield GaugeMetricFamily(f"process_{name}", text, value=together(values))


def _histogram(name: str, text: str, bounds: tuple[float, ...], parts: list[Any]) -> HistogramMetricFamily:
    buckets, total = _buckets(bounds, parts)
    return HistogramMetricFamily(f"{_PREFIX}_{name}", text, buckets=buckets, sum_value=total)


def _buckets(bounds: tuple[float, ...], parts: list[Any]) -> tuple[list[tuple[str, int]], float]:
    buckets, seen = [], 0
    for index, bound in enumerate((*bounds, float("inf"))):
        seen += sum(counts[index] for counts, _ in parts)
        buckets.append(("+Inf" if bound == float("inf") else str(float(bound)), seen))
    return buckets, sum(total for _, total in parts)


def _version() -> str:
    try:
        return version("headroom")
    except PackageNotFoundError:
        return "unknown"
