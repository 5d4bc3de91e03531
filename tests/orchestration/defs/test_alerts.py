"""Failed runs: one message each."""

from pathlib import Path

from orchestration.defs.alerts import alert_failed_run
from orchestration.defs.resources import Project
from orchestration.delivery.ledger import State


def test_failed_run_is_reported_once(data: Path) -> None:
    project = Project()
    for _ in range(2):
        assert alert_failed_run(project, "run-1", "hourly_job", "models failed") is State.PREVIEWED
    assert alert_failed_run(project, "run-2", "hourly_job", None) is State.PREVIEWED
    deliveries = project.ledger().deliveries()
    assert {delivery.key for delivery in deliveries} == {"local|run_failure|run-1", "local|run_failure|run-2"}
    [text] = [delivery.payload["message"]["text"] for delivery in deliveries if delivery.key.endswith("run-1")]
    assert "hourly_job" in text
    assert "models failed" in text
