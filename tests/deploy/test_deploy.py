"""What deploy/ says, read as the tools that use it would. No container engine is needed: the services' own commands and
health checks are started from this clone, on free ports."""

import fnmatch
import json
import os
import re
import shlex
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

import dagster as dg
import pytest
import yaml
from dagster._core.instance.config import dagster_instance_config
from prometheus_client.parser import text_string_to_metric_families

from orchestration.cli.run import PID_TAG
from orchestration.collector.metrics import Metrics
from orchestration.collector.metrics_page import page
from orchestration.defs import interrupted
from orchestration.settings import PROJECT_ROOT, READ_BY_OTHERS, Settings
from tests.support.waiting import PATIENCE_SECONDS, RUN_SECONDS, free_port, wait_until

DEPLOY = PROJECT_ROOT / "deploy"
POSTGRES_URL = {"env": "HEADROOM_DAGSTER_POSTGRES_URL"}
PINNED = re.compile(r"[\w./<>-]+:\d+\.\d+(\.\d+)?(-[\w-]+)?")
VARIABLES = {str(field.alias) for field in Settings.model_fields.values()}


def read(name: str) -> Any:
    return yaml.safe_load((DEPLOY / name).read_text())


SERVICES: dict[str, dict[str, Any]] = read("compose.yaml")["services"]


def dockerfile() -> list[tuple[str, str]]:
    """Instructions and what they say, each on one line."""
    text = re.sub(r"^#.*\n", "", (DEPLOY / "Dockerfile").read_text(), flags=re.MULTILINE).replace("\\\n", " ")
    return [(line.split()[0], line.split(maxsplit=1)[1]) for line in text.splitlines() if line.strip()]


def test_image_is_made_of_what_is_pinned() -> None:
    lines = dockerfile()

    assert {said.split()[0] for name, said in lines if name == "FROM"} == {"python:3.12.13-slim-bookworm"}
    installs = [part for name, said in lines if name == "RUN" for part in said.split("&&") if "pip install" in part]
    assert len(installs) == 3
    for install in installs:
        assert "--require-hashes" in install or "--no-deps --build-constraint requirements.lock" in " ".join(
            install.split()
        )
    assert not re.search(r"https?://|index-url|trusted-host", (DEPLOY / "Dockerfile").read_text())


def test_image_runs_without_root_and_reports_its_health() -> None:
    last_stage = [(name, said) for name, said in dockerfile()][-10:]

    users = [said for name, said in dockerfile() if name == "USER"]
    assert users == ["headroom"]
    names = [name for name, _ in last_stage]
    assert names.index("USER") < names.index("CMD")
    assert "HEALTHCHECK" in names
    assert json.loads(dict(last_stage)["CMD"]) == SERVICES["code"]["command"]


def test_everything_that_is_copied_exists_and_reaches_the_builder() -> None:
    ignored = (DEPLOY / "Dockerfile.dockerignore").read_text().splitlines()
    allowed = [line[1:] for line in ignored if line.startswith("!")]
    copied = [said.split()[:-1] for name, said in dockerfile() if name == "COPY" and "--from" not in said]

    assert "*" in ignored
    for source in (source for sources in copied for source in sources):
        assert (PROJECT_ROOT / source).exists(), source
        assert source in allowed
    assert not [secret for secret in (".env", "deploy/.env") if any(fnmatch.fnmatch(secret, each) for each in allowed)]


def test_services_for_others_have_ports_and_only_locally() -> None:
    published = {name: service["ports"] for name, service in SERVICES.items() if "ports" in service}

    assert published == {
        "webserver": ["127.0.0.1:3000:3000"],
        "collector": ["${HEADROOM_COLLECT_BIND:-127.0.0.1}:8080:8080"],
        "pages": ["${HEADROOM_PAGES_BIND:-127.0.0.1}:8090:8090"],
    }
    for name in re.findall(r"\$\{(HEADROOM_\w+_BIND)", str(published)):
        assert READ_BY_OTHERS.fullmatch(name)  # of .env, which the code server reads as well


@pytest.mark.parametrize("name", SERVICES)
def test_service_is_pinned_watched_and_confined(name: str) -> None:
    service = SERVICES[name]

    assert PINNED.fullmatch(service["image"])
    if name == "migrate":
        assert service["restart"] == "no"
    else:
        assert service["restart"] == "unless-stopped"
        assert service["healthcheck"]["test"][0] == "CMD"
    if name != "postgres":
        assert service["cap_drop"] == ["ALL"]
        assert service["volumes"] == (["data:/data:ro"] if name == "pages" else ["data:/data"])
        assert service.get("read_only", False) == (name == "pages")  # strangers speak to it
        assert service["environment"]["HEADROOM_DATA"] == "/data"  # whatever .env says
    assert ("env_file" in service) == (name == "code")  # the others need not know Slack's and Stripe's secrets


@pytest.mark.parametrize("name", SERVICES)
def test_no_secret_is_in_the_file(name: str) -> None:
    for variable, value in SERVICES[name].get("environment", {}).items():
        if re.search("PASSWORD|URL", variable) and value is not None:  # without a value: from .env
            assert "${POSTGRES_PASSWORD:?" in value
        if re.search("KEYS|SECRETS", variable):
            assert value is None
        if variable.startswith("HEADROOM_"):
            assert variable in VARIABLES


def dagster_home(folder: Path, *, is_in_postgres: bool) -> Path:
    """A folder with dagster.yaml as it is, or with SQLite in place of the server that is not there."""
    config = yaml.safe_load((DEPLOY / "dagster.yaml").read_text().replace("/data/", f"{folder}/"))
    if not is_in_postgres:
        config["storage"] = {"sqlite": {"base_dir": str(folder / "sqlite")}}
    home = folder / "home"
    home.mkdir()
    (home / "dagster.yaml").write_text(yaml.safe_dump(config))
    return home


def test_dagster_accepts_its_configuration(tmp_path: Path) -> None:
    config, _ = dagster_instance_config(str(dagster_home(tmp_path, is_in_postgres=True)))

    assert config["storage"] == {"postgres": {"postgres_url": POSTGRES_URL}}


def test_runs_queue_for_the_one_place_and_are_not_started_again(tmp_path: Path) -> None:
    home = dagster_home(tmp_path, is_in_postgres=False)

    with dg.DagsterInstance.from_config(str(home)) as instance:
        queue = instance.get_concurrency_config().run_queue_config
        assert queue is not None
        assert queue.max_concurrent_runs == 1
        assert not instance.run_retries_enabled
        assert not instance.telemetry_enabled
        assert instance.run_monitoring_enabled
        assert instance.run_monitoring_max_runtime_seconds == interrupted.MAX_RUNTIME.total_seconds()


class Started:
    """The services that are Headroom's own, by their commands, with ports, files and storage of the test."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.ports = {port: str(free_port()) for port in ("3000", "4000", "8080", "8090")}
        (folder / "data").mkdir()
        workspace = (DEPLOY / "workspace.yaml").read_text().replace("4000", self.ports["4000"])
        (folder / "workspace.yaml").write_text(workspace.replace("host: code", "host: 127.0.0.1"))
        inherited = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
        self.environment = {
            **inherited,
            "HEADROOM_DATA": str(folder / "data"),
            "HEADROOM_COLLECT_KEYS": "a-key-for-the-tests",
            "HEADROOM_COLLECT_PORT": self.ports["8080"],
            "HEADROOM_PAGES_PORT": self.ports["8090"],
            "DAGSTER_HOME": str(dagster_home(folder, is_in_postgres=False)),
        }
        self.processes: dict[str, subprocess.Popen[bytes]] = {}

    def leave_a_killed_run(self) -> None:
        """What is there after a power cut: a run in progress, and its lock, which nobody holds."""
        with dg.DagsterInstance.from_config(self.environment["DAGSTER_HOME"]) as instance:
            by_hand = {PID_TAG: "1"}  # which is not started again: that would take the whole job
            instance.add_run(dg.DagsterRun("daily_job", "killed", status=dg.DagsterRunStatus.STARTED, tags=by_hand))
        (self.folder / "data" / "runs").mkdir()
        (self.folder / "data" / "runs" / "killed").touch()

    def start(self, name: str) -> None:
        with (self.folder / f"{name}.log").open("wb") as log:
            self.processes[name] = subprocess.Popen(
                self.here(SERVICES[name]["command"]),
                cwd=PROJECT_ROOT,
                env=self.environment,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def here(self, command: list[str]) -> list[str]:
        """The command as the image would run it."""
        program, *arguments = command
        binaries = Path(sys.executable).parent
        first = {
            "headroom": [sys.executable, "-m", "orchestration.cli.main"],
            "python": [sys.executable],
        }.get(program, [str(binaries / program)])
        words = " ".join(shlex.quote(argument) for argument in arguments)
        for port, free in self.ports.items():
            words = re.sub(rf"\b{port}\b", free, words)
        words = words.replace("0.0.0.0", "127.0.0.1").replace("deploy/workspace.yaml", f"{self.folder}/workspace.yaml")
        return [*first, *shlex.split(words)]

    def wait_until_it_listens(self, name: str, port: str) -> None:
        """A health check costs seconds of CPU: the first one comes when it can succeed."""
        wait_until(lambda: self.is_alive(name) and listens(self.ports[port]), RUN_SECONDS)

    def wait_until_healthy(self, name: str) -> None:
        check = self.here(SERVICES[name]["healthcheck"]["test"][1:])
        run = partial(subprocess.run, check, cwd=PROJECT_ROOT, env=self.environment, capture_output=True)
        wait_until(lambda: self.is_alive(name) and run().returncode == 0, RUN_SECONDS)

    def is_alive(self, name: str) -> bool:
        assert self.processes[name].poll() is None, (self.folder / f"{name}.log").read_text()
        return True

    def stop(self) -> None:
        for process in self.processes.values():
            process.terminate()
        for process in self.processes.values():
            with suppress(subprocess.TimeoutExpired):  # a Dagster server may take longer than a test wants to wait
                process.wait(10)
            kill_group(process.pid)
            process.wait()


def kill_group(leader: int) -> None:
    try:
        os.killpg(leader, 9)
    except ProcessLookupError:
        return


def listens(port: str) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", int(port))) == 0


@pytest.fixture(scope="module")
def started(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Started]:
    """In the order of compose.yaml."""
    services = Started(tmp_path_factory.mktemp("services"))
    try:
        services.leave_a_killed_run()
        services.start("collector")
        services.start("pages")
        services.start("code")
        services.wait_until_it_listens("code", "4000")
        services.start("webserver")
        services.start("daemon")
        services.wait_until_it_listens("webserver", "3000")
        yield services
    finally:
        services.stop()


@pytest.mark.parametrize("name", ["code", "collector", "pages", "webserver", "daemon"])
def test_service_starts_by_its_command_and_its_health_check_says_so(started: Started, name: str) -> None:
    started.wait_until_healthy(name)


def test_webserver_shows_what_the_code_server_loaded(started: Started) -> None:
    query = "{ repositoriesOrError { ... on RepositoryConnection { nodes { location { name } jobs { name } } } } }"
    request = Request(
        f"http://127.0.0.1:{started.ports['3000']}/graphql",
        json.dumps({"query": query}).encode(),
        {"content-type": "application/json"},
    )
    with urlopen(request, timeout=PATIENCE_SECONDS) as answer:
        [node] = json.load(answer)["data"]["repositoriesOrError"]["nodes"]

    assert node["location"]["name"] == "headroom"
    assert {"daily_job", "hourly_job", "refresh_job"} <= {job["name"] for job in node["jobs"]}


def test_daemon_and_code_server_close_the_run_that_was_killed_with_them(started: Started) -> None:
    with dg.DagsterInstance.from_config(started.environment["DAGSTER_HOME"]) as instance:
        wait_until(lambda: [run.status for run in instance.get_runs()] == [dg.DagsterRunStatus.FAILURE], RUN_SECONDS)


def test_every_metric_of_the_dashboard_exists() -> None:
    metrics = Metrics()
    metrics.requests["/batch/", 200] += 1
    metrics.refused["key"] += 1
    metrics.requests_of_keys["acme"] += 1
    metrics.events_of_keys["acme"] += 1
    metrics.observe_request("/batch/", 0.1)
    families = list(text_string_to_metric_families(page([metrics.snapshot()]).decode()))
    samples = {sample.name for family in families for sample in family.samples}
    labels = {label for family in families for sample in family.samples for label in sample.labels}
    panels = json.loads((DEPLOY / "grafana.json").read_text())["panels"]
    queries = [target["expr"] for panel in panels for target in panel["targets"]]
    asked = {name for query in queries for name in re.findall(r"(?:headroom|process)_\w+", query)}

    assert asked <= samples
    assert {family.name for family in families} == {re.sub(r"_(total|bucket|sum|count)$", "", name) for name in asked}
    assert {
        label for query in queries for group in re.findall(r"by \(([^)]+)\)", query) for label in group.split(", ")
    } <= (labels)
    for panel in panels:
        assert panel["datasource"] == {"type": "prometheus", "uid": "${datasource}"}


def test_chart_values_are_of_the_same_system() -> None:
    values = read("values.yaml")
    [deployment] = values["dagster-user-deployments"]["deployments"]
    containers = [deployment, *deployment["initContainers"], *deployment["sidecarContainers"]]
    code = SERVICES["code"]["command"]

    assert ["-m", "orchestration.definitions"] == deployment["codeServerArgs"] == code[7:9]
    assert [str(deployment["port"]), deployment["name"]] == [code[6], code[10]]
    for sidecar in deployment["sidecarContainers"]:
        assert sidecar["command"] == SERVICES[sidecar["name"]]["command"]
    assert deployment["initContainers"][0]["command"] == SERVICES["migrate"]["command"]
    data = [(each.get("name"), each["volumeMounts"][0]) for each in containers]
    for name, mount in data:
        only_reads = {"readOnly": True} if name == "pages" else {}
        assert mount == {"name": "data", "mountPath": "/data", **only_reads}
    image = deployment["image"]
    assert {each["image"] for each in containers[1:]} == {f"{image['repository']}:{image['tag']}"}
    assert SERVICES["code"]["image"] == f"headroom:{image['tag']}"
    assert set(deployment["env"]) <= VARIABLES
    assert deployment["deploymentStrategy"] == {"type": "Recreate"}
    monitoring = values["additionalInstanceConfig"]["run_monitoring"]
    assert monitoring["enabled"]
    assert monitoring == read("dagster.yaml")["run_monitoring"]
    assert values["dagsterDaemon"]["runCoordinator"]["config"]["queuedRunCoordinator"]["maxConcurrentRuns"] == 1
    launcher = values["runLauncher"]["config"]["customRunLauncher"]
    assert getattr(dg, launcher["class"]) is dg.DefaultRunLauncher
