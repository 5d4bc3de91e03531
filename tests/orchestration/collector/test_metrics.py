"""The figures, as Prometheus reads them."""

import hashlib
import platform
import time
from importlib.metadata import version

from prometheus_client.parser import text_string_to_metric_families

from orchestration.collector.board import Board
from orchestration.collector.metrics import Distribution, Metrics
from orchestration.collector.metrics_page import page
from tests.orchestration.collector.loopback import KEY, Collecting, post, request


def samples(collector: Collecting) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    page = request(collector.port, "/metrics", method="GET")
    assert page.headers["content-type"].startswith("text/plain; version=0.0.4")
    families = text_string_to_metric_families(page.body.decode())
    return {
        (sample.name.removeprefix("headroom_collector_"), tuple(sorted(sample.labels.items()))): sample.value
        for family in families
        for sample in family.samples
    }


def test_every_request_is_counted_by_template_and_status(collector: Collecting) -> None:
    body = b'{"a":1}\nbad\n'
    post(collector.port, body, "/v1/analytics/one/")
    post(collector.port, body, "/v1/analytics/two")
    post(collector.port, body, "/any/where")
    post(collector.port, b"bad", "/batch")
    request(collector.port, "/batch/", b"{}", {"X-API-Key": "wrong"})
    request(collector.port, "/secret/path", method="GET")
    request(collector.port, "/batch", method="PUT")
    found = samples(collector)
    requests = {labels: value for (name, labels), value in found.items() if name == "requests_total"}
    assert {tuple(value for _, value in labels): count for labels, count in requests.items()}.items() >= {
        ("/v1/analytics/{project}", "200"): 2,
        ("/{any}", "200"): 1,
        ("/batch", "400"): 1,
        ("/batch", "401"): 1,
        ("/{any}", "404"): 1,
        ("/{any}", "405"): 1,
    }.items()
    assert found["events_total", ()] == found["quarantined_lines_total", ()] == 3
    assert found["body_bytes_total", ()] == 3 * len(body)
    assert found["refused_total", (("reason", "json"),)] == found["refused_total", (("reason", "key"),)] == 1
    assert found["commit_requests_sum", ()] == 3
    assert found["commit_seconds_count", ()] == found["commit_seconds_bucket", (("le", "+Inf"),)] >= 1
    assert found["commit_seconds_sum", ()] > 0
    assert found["open_segment_age_seconds", ()] > 0
    assert found["pending_bytes", ()] == found["sealed_segments_total", ()] == 0
    assert found["connections", ()] >= 1


def test_distribution_counts_up_to_and_with_a_bound() -> None:
    distribution = Distribution((1, 2))
    for value in (0.5, 1, 1.5, 2, 3):
        distribution.observe(value)
    assert (distribution.counts, distribution.total) == ([2, 2, 1], 8)


def test_page_names_keys_build_process_and_time_of_requests(collector: Collecting) -> None:
    post(collector.port, [{"event": "api_call"}] * 3)
    found = samples(collector)
    name = (("key", f"key-{hashlib.sha256(KEY.encode()).hexdigest()[:8]}"),)
    assert (found["key_requests_total", name], found["key_events_total", name]) == (1, 3)
    path = ("path", "/v1/analytics/{project}")
    assert found["request_seconds_count", (path,)] == found["request_seconds_bucket", (("le", "+Inf"), path)] == 1
    assert [labels for name, labels in found if name == "build_info"] == [
        (("python", platform.python_version()), ("version", version("headroom")))
    ]
    assert found["workers", ()] == 1
    assert found["process_cpu_seconds_total", ()] > 0
    assert found["process_resident_memory_bytes", ()] > 2**20
    assert found["process_open_fds", ()] > 3
    assert abs(found["process_start_time_seconds", ()] - time.time()) < 3600 * 24


def filled() -> Metrics:
    figures = Metrics()
    figures.requests["/batch", 200] += 2
    figures.refused["key"] += 1
    figures.requests_of_keys["acme"] += 2
    figures.events_of_keys["acme"] += 5
    figures.events += 5
    figures.observe_commit(0.01, 2)
    figures.observe_request("/batch", 0.02)
    figures.connections = lambda: 3
    return figures


def test_page_of_two_workers_is_their_sum() -> None:
    one, two = (page([filled().snapshot()] * count).decode() for count in (1, 2))
    for sample, value in (
        ('requests_total{path="/batch",status="200"}', 2),
        ('key_events_total{key="acme"}', 5),
        ("events_total", 5),
        ("connections", 3),
        ("workers", 1),
        ("commit_seconds_count", 1),
        ('request_seconds_bucket{le="+Inf",path="/batch"}', 1),
    ):
        assert f"headroom_collector_{sample} {float(value)}\n" in one, sample
        assert f"headroom_collector_{sample} {float(2 * value)}\n" in two, sample


def test_worker_goes_on_where_the_one_before_it_ended() -> None:
    board = Board(2)
    assert board.all() == []
    board.write(1, filled().snapshot())
    figures = filled()
    before = board.read(1)
    assert before is not None
    figures.go_on_from(before)
    figures.connections = lambda: 0
    after = figures.snapshot()
    assert (after["counts"]["events"], after["connections"]) == (5, 0)
    figures.observe_commit(0.01, 2)
    assert sum(figures.snapshot()["commit_seconds"][0]) == 2
    assert after["process"]["cpu_seconds"] >= before["process"]["cpu_seconds"]


def test_figures_that_do_not_fit_leave_those_of_before() -> None:
    board, figures = Board(1), filled()
    board.write(0, figures.snapshot())
    figures.refused["x" * 2**20] += 1
    board.write(0, figures.snapshot())
    [read] = board.all()
    assert read["refused"] == {"key": 1}
