"""The figures, as Prometheus reads them."""

from prometheus_client.parser import text_string_to_metric_families

from orchestration.collector.metrics import Distribution
from tests.orchestration.collector.loopback import Collecting, post, request


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
    family = distribution.family("name", "text")
    assert [(sample.labels, sample.value) for sample in family.samples if sample.labels] == [
        ({"le": "1.0"}, 2),
        ({"le": "2.0"}, 4),
        ({"le": "+Inf"}, 5),
    ]
