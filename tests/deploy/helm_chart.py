"""What Dagster's Helm chart makes of deploy/values.yaml, as far as the comparison with compose.yaml needs it.

The chart itself is a download from outside the package registry, so this is a model of its documented templates
(`deployment-user.yaml`, `deployment-daemon.yaml`, `_deployment-webserver.tpl`, `configmap-instance.yaml`,
`configmap-workspace.yaml` of 1.13), written by hand. What the values say and the model does not know fails, so that no
value is believed to do something that the chart does not do.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

KUBERNETES_GRACE_SECONDS = 30
CHART_IMAGE = "docker.io/dagster/dagster-celery-k8s"
WORKSPACE = "/dagster-workspace/workspace.yaml"
USED = {
    "": {
        "global",
        "generatePostgresqlPasswordSecret",
        "postgresql",
        "dagster-user-deployments",
        "dagsterWebserver",
        "dagsterDaemon",
        "retention",
        "additionalInstanceConfig",
        "runLauncher",
        "telemetry",
        "rabbitmq",
        "redis",
        "flower",
    },
    "deployment": {
        "name",
        "image",
        "codeServerArgs",
        "port",
        "deploymentStrategy",
        "env",
        "envSecrets",
        "resources",
        "podSecurityContext",
        "securityContext",
        "volumes",
        "volumeMounts",
        "initContainers",
        "sidecarContainers",
    },
    "webserver": {"replicaCount", "service", "resources"},
    "daemon": {"resources", "runCoordinator", "runMonitoring", "runRetries", "sensors", "schedules"},
}


@dataclass(frozen=True)
class Container:
    """One process, as Kubernetes starts it."""

    image: str
    command: Sequence[str]
    mounts: Mapping[str, str]
    """Path by volume, with `:ro` where it is only read."""
    variables: frozenset[str]
    """Set, or taken from a secret by name."""
    secrets: frozenset[str] = frozenset()
    """Secrets of which each key is a variable."""
    pre_stop_seconds: int = 0
    grace_seconds: int = KUBERNETES_GRACE_SECONDS
    """Of its pod, counted from before the pre-stop hook."""
    probes: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Chart:
    """Everything that the release starts, and the files that it reads."""

    processes: Mapping[str, Container]
    before_code: Sequence[str]
    """Processes that end well before the code server starts."""
    strategy: Mapping[str, Any]
    dagster_yaml: Mapping[str, Any]
    workspace_yaml: Mapping[str, Any]


def render(values: Mapping[str, Any], patch: Mapping[str, Any]) -> Chart:
    """The chart with these values, the code server's deployment with this patch."""
    webserver, daemon = values["dagsterWebserver"], values["dagsterDaemon"]
    [deployment] = values["dagster-user-deployments"]["deployments"]
    said = {"": values, "deployment": deployment, "webserver": webserver, "daemon": daemon}
    for part, known in USED.items():
        assert set(said[part]) <= known, f"does the chart have a value for {set(said[part]) - known}?"
    grace = patch["spec"]["template"]["spec"]["terminationGracePeriodSeconds"]
    own, image = deployment["name"], f"{deployment['image']['repository']}:{deployment['image']['tag']}"
    server = ["dagster", "code-server", "start", "-h", "0.0.0.0", "-p", str(deployment["port"])]
    processes = {
        "code": Container(
            image,
            [*server, *deployment["codeServerArgs"]],
            _mounts(deployment),
            frozenset({*deployment["env"], "DAGSTER_PG_PASSWORD", "DAGSTER_HOME"}),
            frozenset(each["name"] for each in deployment["envSecrets"]),
            grace_seconds=grace,
            probes={"readiness": ["dagster", "api", "grpc-health-check", "-p", str(deployment["port"])]},
        ),
        "webserver": _of_chart(["dagster-webserver", "-h", "0.0.0.0", "-p", "80", "-w", WORKSPACE]),
        "daemon": _of_chart(["dagster-daemon", "run", "-w", WORKSPACE]),
        **{each["name"]: _container(each, grace) for each in deployment["initContainers"]},
        **{each["name"]: _container(each, grace) for each in deployment["sidecarContainers"]},
    }
    return Chart(
        processes,
        [each["name"] for each in deployment["initContainers"]],
        deployment["deploymentStrategy"],
        _dagster_yaml(values),
        {"load_from": [{"grpc_server": {"host": own, "port": deployment["port"], "location_name": own}}]},
    )


def _container(said: Mapping[str, Any], grace: int) -> Container:
    hook = said.get("lifecycle", {}).get("preStop", {}).get("exec", {}).get("command", ["sleep", "0"])
    assert hook[0] == "sleep"
    return Container(
        said["image"],
        [*said["command"], *said.get("args", [])],
        _mounts(said),
        frozenset(each["name"] for each in said.get("env", [])),
        frozenset(each["secretRef"]["name"] for each in said.get("envFrom", [])),
        int(hook[1]),
        grace,
        {kind: said[f"{kind}Probe"] for kind in ("readiness", "liveness") if f"{kind}Probe" in said},
    )


def _of_chart(command: Sequence[str]) -> Container:
    """With the chart's own image, whose version is the chart's, and a password of the database alone."""
    return Container(CHART_IMAGE, command, {}, frozenset({"DAGSTER_PG_PASSWORD", "DAGSTER_HOME"}))


def _mounts(said: Mapping[str, Any]) -> dict[str, str]:
    return {
        each["name"]: each["mountPath"] + (":ro" if each.get("readOnly") else "")
        for each in said.get("volumeMounts", [])
    }


def _dagster_yaml(values: Mapping[str, Any]) -> dict[str, Any]:
    daemon, postgres = values["dagsterDaemon"], values["postgresql"]
    storage = {
        "username": postgres["postgresqlUsername"],
        "password": {"env": "DAGSTER_PG_PASSWORD"},
        "hostname": postgres["postgresqlHost"],
        "db_name": postgres["postgresqlDatabase"],
        "port": 5432,
    }
    launcher = values["runLauncher"]["config"]["customRunLauncher"]
    queue = daemon["runCoordinator"]["config"]["queuedRunCoordinator"]
    assert set(queue) == {"maxConcurrentRuns"}
    assert not daemon["runMonitoring"]["enabled"], "of this block the chart renders only some keys"
    assert not daemon["runRetries"]["enabled"]
    return {
        "storage": {"postgres": {"postgres_db": storage}},
        "run_launcher": {name: launcher[name] for name in ("module", "class", "config")},
        "run_coordinator": {
            "module": "dagster.core.run_coordinator",
            "class": daemon["runCoordinator"]["type"],
            "config": {"max_concurrent_runs": queue["maxConcurrentRuns"]},
        },
        "compute_logs": {
            "module": "dagster._core.storage.noop_compute_log_manager",
            "class": "NoOpComputeLogManager",
        },
        **{kind: _threads(daemon[kind]) for kind in ("sensors", "schedules")},
        "retention": {
            kind: {"purge_after_days": values["retention"][kind]["purgeAfterDays"]}
            for kind in ("schedule", "sensor")
            if values["retention"]["enabled"]
        },
        "telemetry": values["telemetry"],
        **values["additionalInstanceConfig"],
    }


def _threads(said: Mapping[str, Any]) -> dict[str, Any]:
    return {"use_threads": said["useThreads"], "num_workers": said["numWorkers"]}
