"""What compose.yaml and Helm start is the same, process by process, and where it is not, this says so."""

import copy
import re
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
import yaml
from dagster._core.definitions.run_request import InstigatorType
from dagster._core.instance.config import (
    dagster_instance_config,
    get_default_tick_retention_settings,
    get_tick_retention_settings,
)

from orchestration.settings import PROJECT_ROOT, Settings
from tests.deploy.helm_chart import KUBERNETES_GRACE_SECONDS, WORKSPACE, render

DEPLOY = PROJECT_ROOT / "deploy"
PAGE = PROJECT_ROOT / "docs" / "operate" / "deploy.md"
COMPOSE_GRACE_SECONDS = 10
"""Compose kills after these where a service says nothing."""
OF_DAGSTER = ("webserver", "daemon")
"""They load no code of Headroom's, and run in the chart's own image."""
HAVE_DEFAULTS = (
    "_WORKERS", "_ACCESS_LOG", "_TRUST_HEADER", "_FRAME_ANCESTORS", "_STALE_AFTER_HOURS", "_CRM_URL", "_TEMPLATES",
    "_STRIPE_METER",
)  # fmt: skip
"""Variables that need not be set."""
OF_THE_PLACE = {"storage", "run_launcher", "run_coordinator", "concurrency", "compute_logs"}
"""Parts of dagster.yaml that are written differently here and there; the test below compares what they do."""


def read(name: str) -> Any:
    return yaml.safe_load((DEPLOY / name).read_text())


VALUES: dict[str, Any] = read("values.yaml")
CHART = render(VALUES, read("grace.yaml"))
COMPOSE: dict[str, dict[str, Any]] = read("compose.yaml")["services"]
OURS = [name for name in COMPOSE if name != "postgres"]
IMAGE_VARIABLES = set(re.findall(r"\b([A-Z_]+)=", (DEPLOY / "Dockerfile").read_text()))


def seconds(text: str) -> int:
    assert text.endswith("s")
    return int(text[:-1])


def test_helm_starts_what_compose_starts() -> None:
    assert set(CHART.processes) == set(OURS)


@pytest.mark.parametrize("name", OURS)
def test_helm_starts_the_same_command(name: str) -> None:
    def same(words: list[str]) -> list[str]:
        """But for the port of a pod of its own, and a location that the chart names in its workspace."""
        there = {"80": "3000", WORKSPACE: "deploy/workspace.yaml"}
        kept = words[: words.index("--location-name")] if "--location-name" in words else words
        return [there.get(word, word) for word in kept]

    assert same(list(CHART.processes[name].command)) == same(COMPOSE[name]["command"])


@pytest.mark.parametrize("name", OURS)
def test_helm_gives_a_process_the_same_volume_and_variables(name: str) -> None:
    container, service = CHART.processes[name], COMPOSE[name]
    if name in OF_DAGSTER:
        assert (container.mounts, container.secrets) == ({}, frozenset())
        assert "env_file" not in service
        return
    own = {f"{name}-tmp": path for path in service.get("tmpfs", [])}
    volumes = {volume: path for volume, _, path in (each.partition(":") for each in service["volumes"])}
    assert container.mounts == volumes | own
    # what compose sets by name comes from the same place, or with the secret
    unset = {each for each in service["environment"] if each.endswith(HAVE_DEFAULTS)}
    missing = set(service["environment"]) - container.variables - IMAGE_VARIABLES - unset
    assert not missing or container.secrets == {"headroom"}
    # only the code server and what prepares its tables know the secret as a whole
    assert (container.secrets == {"headroom"}) == (name in ("code", "migrate"))
    named = {variable for variable in container.variables if not variable.startswith("DAGSTER_")}
    assert named <= {str(setting.alias) for setting in Settings.model_fields.values()}


def test_tables_are_of_this_version_before_code_runs_in_both() -> None:
    assert COMPOSE["code"]["depends_on"] == {"migrate": {"condition": "service_completed_successfully"}}
    assert CHART.before_code == ["migrate"]
    assert CHART.strategy == {"type": "Recreate"}


@pytest.mark.parametrize("name", [name for name in OURS if name != "migrate"])
def test_kubernetes_waits_for_a_stop_as_long_as_compose(name: str) -> None:
    container = CHART.processes[name]
    needed = seconds(COMPOSE[name].get("stop_grace_period", f"{COMPOSE_GRACE_SECONDS}s"))

    assert container.grace_seconds - container.pre_stop_seconds >= needed


def test_pod_of_the_code_server_has_time_for_all_its_containers() -> None:
    collector, _ = VALUES["dagster-user-deployments"]["deployments"][0]["sidecarContainers"]
    variables = {each["name"]: each.get("value") for each in collector["env"]}
    config = Settings(_env_file=None, HEADROOM_COLLECT_GRACE_SECONDS=variables["HEADROOM_COLLECT_GRACE_SECONDS"])  # type: ignore[call-arg]
    container = CHART.processes["collector"]
    stop = container.pre_stop_seconds + config.collect_grace_seconds + config.collect_stop_seconds

    assert container.grace_seconds > stop
    assert container.grace_seconds > KUBERNETES_GRACE_SECONDS
    assert seconds(COMPOSE["collector"]["stop_grace_period"]) > config.collect_stop_seconds


def test_webserver_and_daemon_find_the_code_server() -> None:
    assert {each["grpc_server"]["port"] for each in CHART.workspace_yaml["load_from"]} == {4000}
    host = {"host": "code"}  # the service in compose
    assert read("workspace.yaml") == {
        "load_from": [{"grpc_server": {**each["grpc_server"], **host}} for each in CHART.workspace_yaml["load_from"]]
    }


def test_dagster_is_configured_as_in_compose() -> None:
    ours = {name: part for name, part in read("dagster.yaml").items() if name not in OF_THE_PLACE}
    # without a block of its own the chart switches nothing on
    ours.pop("run_retries")

    assert {name: part for name, part in CHART.dagster_yaml.items() if name not in OF_THE_PLACE} == ours


def instance(folder: Path, config: dict[str, Any]) -> dg.DagsterInstance:
    folder.mkdir()
    local = {**copy.deepcopy(config), "storage": {"sqlite": {"base_dir": str(folder)}}}
    local["local_artifact_storage"]["config"]["base_dir"] = str(folder)
    local.pop("compute_logs")
    (folder / "dagster.yaml").write_text(yaml.safe_dump(local))
    return dg.DagsterInstance.from_config(str(folder))


def test_dagster_behaves_as_in_compose(tmp_path: Path) -> None:
    compose = instance(tmp_path / "compose", read("dagster.yaml"))
    helm = instance(tmp_path / "helm", dict(CHART.dagster_yaml))
    with compose, helm:
        for each in (compose, helm):
            queue = each.get_concurrency_config().run_queue_config
            assert queue is not None
            assert queue.max_concurrent_runs == 1
            assert isinstance(each.run_launcher, dg.DefaultRunLauncher)
            assert not each.run_retries_enabled
            assert not each.telemetry_enabled
            assert each.run_monitoring_enabled


@pytest.mark.parametrize("kind", ["schedule", "sensor"])
@pytest.mark.parametrize("config", [read("dagster.yaml"), CHART.dagster_yaml], ids=["compose", "helm"])
def test_ticks_that_end_are_kept_for_some_days_only(config: dict[str, Any], kind: str) -> None:
    defaults = get_default_tick_retention_settings(InstigatorType[kind.upper()])
    days = get_tick_retention_settings(config["retention"][kind], defaults)

    assert {status.value: count for status, count in days.items() if status.value != "STARTED"} == {
        "SKIPPED": 2,
        "SUCCESS": 30,
        "FAILURE": 30,
    }


def test_dagster_accepts_what_the_chart_writes(tmp_path: Path) -> None:
    (tmp_path / "dagster.yaml").write_text(yaml.safe_dump(CHART.dagster_yaml))

    config, _ = dagster_instance_config(str(tmp_path))

    assert config["storage"]["postgres"]["postgres_db"]["password"] == {"env": "DAGSTER_PG_PASSWORD"}


def test_image_and_chart_have_the_locked_versions() -> None:
    locked = re.findall(r"^dagster==(\S+)", (PROJECT_ROOT / "requirements.lock").read_text(), re.MULTILINE)
    named = re.findall(r"--version (\d\S+)", PAGE.read_text() + (DEPLOY / "values.yaml").read_text())

    assert set(named) == set(locked)
    assert {CHART.processes[name].image.rpartition(":")[2] for name in OURS if name not in OF_DAGSTER} == {
        COMPOSE["code"]["image"].rpartition(":")[2]
    }


def test_the_grace_is_patched_into_the_deployment_that_the_values_make() -> None:
    [deployment] = VALUES["dagster-user-deployments"]["deployments"]
    labels = f"component=user-deployments,deployment={deployment['name']}"

    for file in (PAGE, DEPLOY / "grace.yaml"):
        text = file.read_text()
        assert f"--selector {labels}" in text
        assert "--patch-file deploy/grace.yaml" in text


def test_services_and_policy_are_of_the_pod_that_the_values_make() -> None:
    [deployment] = VALUES["dagster-user-deployments"]["deployments"]
    ports = {each["name"]: each for sidecar in deployment["sidecarContainers"] for each in sidecar["ports"]}
    labels = {"component": "user-deployments", "deployment": deployment["name"]}
    objects = list(yaml.safe_load_all((DEPLOY / "services.yaml").read_text()))
    services = {each["metadata"]["name"]: each["spec"] for each in objects if each["kind"] == "Service"}
    [ingress] = [each["spec"] for each in objects if each["kind"] == "Ingress"]
    [policy] = [each["spec"] for each in objects if each["kind"] == "NetworkPolicy"]

    for name, service in services.items():
        [port] = service["ports"]
        assert not name.startswith("headroom")  # Kubernetes makes variables of it
        assert service["selector"] == labels
        assert ports[port["targetPort"]]["containerPort"] == port["port"]
    [path] = ingress["rules"][0]["http"]["paths"]
    target = path["backend"]["service"]
    assert services[target["name"]]["ports"][0]["name"] == target["port"]["name"] == "pages"
    assert ingress["tls"][0]["hosts"] == [ingress["rules"][0]["host"]]
    assert policy["podSelector"] == {"matchLabels": labels}
    open_ports = [{port["port"] for port in rule["ports"]} for rule in policy["ingress"]]
    assert open_ports == [{deployment["port"]}, {port["containerPort"] for port in ports.values()}]


def test_pages_know_where_messages_link_to() -> None:
    [deployment] = VALUES["dagster-user-deployments"]["deployments"]
    _, pages = deployment["sidecarContainers"]
    variables = {each["name"]: each.get("value") for each in pages["env"]}

    for name in ("HEADROOM_PAGES_URL", "HEADROOM_TIMEZONE"):
        assert variables[name] == deployment["env"][name]
