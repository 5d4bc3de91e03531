"""What is counted for `/metrics`, in plain integers; how the page is made of it is in `metrics_page.py`.

A counter of the library costs about a microsecond, a request has forty in all. Labels are path templates, statuses,
reasons from our own code and names of keys: never a value from a request, so that no key and no account can get here.
"""

import os
import resource
import time
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
REQUESTS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)
COUNTS = ("events", "body_bytes", "quarantined_lines", "sealed_segments")
_STARTED_AT_SECONDS = time.time()

Snapshot = dict[str, Any]
"""The figures of one process as JSON: what workers put side by side for each other (`board.py`)."""


class Distribution:
    """Counts by size, as a Prometheus histogram wants them."""

    __slots__ = ("bounds", "counts", "total")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.total = 0.0

    def observe(self, value: float) -> None:
        self.counts[bisect_left(self.bounds, value)] += 1
        self.total += value


class Metrics:
    """The figures of one process."""

    def __init__(self) -> None:
        self.requests: Counter[tuple[str, int]] = Counter()
        self.refused: Counter[str] = Counter()
        self.requests_of_keys: Counter[str] = Counter()
        self.events_of_keys: Counter[str] = Counter()
        self.events = 0
        self.body_bytes = 0
        self.quarantined_lines = 0
        self.sealed_segments = 0
        self.segment_opened_at_seconds: float | None = None
        self.pending_bytes: Callable[[], int] = lambda: 0
        self.connections: Callable[[], int] = lambda: 0
        self.commit_seconds = Distribution(SECONDS)
        self.commit_requests = Distribution(REQUESTS)
        self.request_seconds: dict[str, Distribution] = {}
        self._cpu_seconds_before = 0.0

    def observe_commit(self, seconds: float, requests: int) -> None:
        self.commit_seconds.observe(seconds)
        self.commit_requests.observe(requests)

    def observe_request(self, template: str, seconds: float) -> None:
        """From the end of a request's head to its answer."""
        distribution = self.request_seconds.get(template)
        if distribution is None:
            distribution = self.request_seconds[template] = Distribution(SECONDS)
        distribution.observe(seconds)

    def snapshot(self) -> Snapshot:
        """All figures as they are now."""
        opened_at = self.segment_opened_at_seconds
        return {
            "requests": [[*labels, count] for labels, count in self.requests.items()],
            "refused": dict(self.refused),
            "requests_of_keys": dict(self.requests_of_keys),
            "events_of_keys": dict(self.events_of_keys),
            "counts": {name: getattr(self, name) for name in COUNTS},
            "commit_seconds": [self.commit_seconds.counts, self.commit_seconds.total],
            "commit_requests": [self.commit_requests.counts, self.commit_requests.total],
            "request_seconds": {name: [each.counts, each.total] for name, each in self.request_seconds.items()},
            "pending_bytes": self.pending_bytes(),
            "connections": self.connections(),
            "open_segment_age_seconds": time.monotonic() - opened_at if opened_at else 0.0,
            "process": self._process(),
        }

    def go_on_from(self, before: Snapshot) -> None:
        """Count on where a worker that died had come to: a total that falls would be read as a new beginning."""
        self.requests.update({(path, status): count for path, status, count in before["requests"]})
        for name in ("refused", "requests_of_keys", "events_of_keys"):
            getattr(self, name).update(before[name])
        for name in COUNTS:
            setattr(self, name, before["counts"][name])
        for distribution, name in ((self.commit_seconds, "commit_seconds"), (self.commit_requests, "commit_requests")):
            distribution.counts, distribution.total = before[name]
        for template, (counts, total) in before["request_seconds"].items():
            self.request_seconds[template] = distribution = Distribution(SECONDS)
            distribution.counts, distribution.total = counts, total
        self._cpu_seconds_before = before["process"]["cpu_seconds"]

    def _process(self) -> dict[str, float]:
        used = resource.getrusage(resource.RUSAGE_SELF)
        figures = {
            "cpu_seconds": self._cpu_seconds_before + used.ru_utime + used.ru_stime,
            "start_time_seconds": _STARTED_AT_SECONDS,
            "max_fds": float(resource.getrlimit(resource.RLIMIT_NOFILE)[0]),
        }
        try:  # Linux alone has these
            virtual, resident, *_ = map(int, Path("/proc/self/statm").read_bytes().split())
            page = os.sysconf("SC_PAGE_SIZE")
            figures["virtual_memory_bytes"], figures["resident_memory_bytes"] = virtual * page, resident * page
            figures["open_fds"] = sum(1 for _ in Path("/proc/self/fd").iterdir())
        except OSError:
            return figures
        return figures
