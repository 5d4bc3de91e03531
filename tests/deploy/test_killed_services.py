"""Code server, daemon and run of compose.yaml, killed with SIGKILL in every combination: no run stays in progress, none
that works is closed, and the queue of one place goes on by itself.
"""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import dagster as dg
import pytest
import yaml

from orchestration.settings import PROJECT_ROOT
from tests.fakes.postgres import Postgres
from tests.support.waiting import RUN_SECONDS, free_port, wait_until

DEPLOY = PROJECT_ROOT / "deploy"
SERVICES = yaml.safe_load((DEPLOY / "compose.yaml").read_text())["services"]
COMMANDS = {name: SERVICES[name]["command"] for name in ("code", "daemon")}
STATUS = dg.DagsterRunStatus
COMBINATIONS = [
    {"run"},
    {"code"},
    {"daemon"},
    {"code", "run"},
    {"daemon", "run"},
    {"code", "daemon"},
    {"code", "daemon", "run"},
]


class Services:
    """Code server and daemon by the commands of compose.yaml, on a small code location and storage of the test."""

    def __init__(self, folder: Path, postgres_url: str | None) -> None:
        self.data, self.home, self.port = folder / "data", folder / "home", str(free_port())
        self.data.mkdir()
        self.home.mkdir()
        config = yaml.safe_load((DEPLOY / "dagster.yaml").read_text().replace("/data/", f"{self.data}/"))
        if postgres_url is None:
            config["storage"] = {"sqlite": {"base_dir": str(folder / "sqlite")}}
        (self.home / "dagster.yaml").write_text(yaml.safe_dump(config))
        self.workspace = folder / "workspace.yaml"
        text = (DEPLOY / "workspace.yaml").read_text()
        self.workspace.write_text(text.replace("4000", self.port).replace("host: code", "host: 127.0.0.1"))
        self.environment = {
            **{name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ},
            "HEADROOM_DATA": str(self.data),
            "HEADROOM_DAGSTER_POSTGRES_URL": postgres_url or "",
            "DAGSTER_HOME": str(self.home),
        }
        self.log = (folder / "log").open("wb")
        self.processes: dict[str, subprocess.Popen[bytes]] = {}

    def start(self, name: str) -> None:
        words = " ".join(COMMANDS[name]).replace("4000", self.port).replace("0.0.0.0", "127.0.0.1")
        words = words.replace("orchestration.definitions", "tests.deploy.waiting_location")
        program, *arguments = words.replace("deploy/workspace.yaml", str(self.workspace)).split()
        self.processes[name] = subprocess.Popen(
            [str(Path(sys.executable).parent / program), *arguments],
            cwd=PROJECT_ROOT,
            env=self.environment,
            stdout=self.log,
            stderr=self.log,
            start_new_session=True,
        )

    def kill(self, what: set[str], run_process: int) -> None:
        """A service with all its processes, but for the run that the code server has started."""
        found = [pid for name in what & set(COMMANDS) for pid in session_of(self.processes[name].pid)]
        for pid in {*found} - {run_process} | ({run_process} if "run" in what else set()):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        for name in what & set(COMMANDS):
            self.processes[name].wait()

    def stop(self) -> None:
        for process in self.processes.values():
            for pid in session_of(process.pid):
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            process.wait()
        self.log.close()


def session_of(leader: int) -> Iterator[int]:
    """Processes that a service has started, those of a leader that is gone, too."""
    for path in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):  # it has just ended
            if int(path.read_text().rpartition(")")[2].split()[3]) == leader:
                yield int(path.parent.name)


def is_alive(pid: int) -> bool:
    with suppress(OSError):
        return re.search(r"\) [^Z]", Path(f"/proc/{pid}/stat").read_text()) is not None
    return False


def survives(services: Services, instance: dg.DagsterInstance, killed: set[str], number: int) -> None:
    """One run in whose middle these are killed and then started again, and all that comes of it."""
    wanted, may_end = services.data / f"wanted-{number}", services.data / "may-end"
    may_end.unlink(missing_ok=True)
    wanted.touch()
    [run] = wait_until(lambda: instance.get_runs(dg.RunsFilter(tags={"dagster/run_key": wanted.name})), RUN_SECONDS)
    note = services.data / f"{run.run_id}.pid"
    process = int(wait_until(lambda: note.exists() and note.read_text(), RUN_SECONDS))

    services.kill(killed, process)
    for name in killed & set(COMMANDS):
        services.start(name)
    restarted = time.time()
    if "run" in killed:
        again = dg.RunsFilter(tags={"dagster/run_key": f"again|{run.run_id}"})
        [second] = wait_until(lambda: instance.get_runs(again), RUN_SECONDS)
        assert status(instance, run.run_id) is STATUS.FAILURE
        may_end.touch()
        wait_until(lambda: status(instance, second.run_id) is STATUS.SUCCESS, RUN_SECONDS)
    else:
        wait_until(lambda: looked_after(instance, restarted), RUN_SECONDS)
        assert is_alive(process)
        assert status(instance, run.run_id) is STATUS.STARTED
        may_end.touch()
        wait_until(lambda: status(instance, run.run_id) is STATUS.SUCCESS, RUN_SECONDS)
    assert not instance.get_runs(dg.RunsFilter(statuses=[STATUS.STARTED, STATUS.STARTING, STATUS.QUEUED]))


def looked_after(instance: dg.DagsterInstance, moment: float) -> bool:
    """Whether the sensor has begun and ended a look after that moment."""
    for state in instance.all_instigator_state():
        if state.instigator_name == "interrupted_runs_sensor":
            ticks = instance.get_ticks(state.instigator_origin_id, state.selector_id, limit=5)
            return any(tick.timestamp > moment and tick.end_timestamp for tick in ticks)
    return False


def status(instance: dg.DagsterInstance, run_id: str) -> dg.DagsterRunStatus:
    run = instance.get_run_by_id(run_id)
    assert run
    return run.status


@pytest.mark.kills
@pytest.mark.parametrize("storage", ["postgres", "sqlite"])
def test_no_run_needs_a_hand_after_services_were_killed(
    storage: str, tmp_path: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    server: Postgres | None = request.getfixturevalue("postgres") if storage == "postgres" else None
    services = Services(tmp_path, server.database() if server else None)
    for name in ("DAGSTER_HOME", "HEADROOM_DAGSTER_POSTGRES_URL"):
        monkeypatch.setenv(name, services.environment[name])
    try:
        with dg.DagsterInstance.get() as instance:
            for name in COMMANDS:
                services.start(name)
            for number, killed in enumerate(COMBINATIONS):
                survives(services, instance, killed, number)
    finally:
        services.stop()
