"""The machine of a soak, run as a program in one version of the project: it imports everything once and then forks.

A process that is started as in production imports Dagster, dbt and the definitions for five seconds before it works;
a month has hundreds of them. Here each is a fork of this one. From there on it is real: a process of its own, which
opens its own files and connections, and which SIGKILL ends. There are three kinds.

- server: what Dagster's daemon does at each look: schedules, sensors, the queue, run monitoring. One line on its
  standard input is one look; the line `schedules` leaves the sensors out.
- run: one run, by its id, as Dagster's launcher starts it.
- dbt: the worker of `warehouse/dbt_worker.py`.

Started with the folder for logs; imports nothing of the tests, because the project may be an older version.
"""

import gc
import json
import os
import select
import signal
import socket
import sys
import traceback
import warnings
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from soak_asking import SOCKET, ask_for, is_child

Task = Callable[[], None]


def main(logs: Path) -> None:
    warnings.simplefilter("ignore")
    from orchestration import definitions as location
    from orchestration import settings
    from orchestration.warehouse import dbt, dbt_worker

    config = settings.load()
    config.export()
    project = dbt.DbtProject.of(config)
    parse = dbt_worker.parse
    if hasattr(project, "mark_parsed"):  # an older version leaves lock and mark to its worker
        with project.parse_lock:
            parsed = parse(project)
            project.mark_parsed()
    else:
        parsed = parse(project)
    definitions = location.headroom()
    location.headroom = definitions  # so that servers find them made
    definitions.get_repository_def()
    dbt_worker.parse = lambda wanted, *options: parsed if wanted == known else parse(wanted, *options)
    known = dbt.DbtProject(project.folder, project.target, project.warehouse)
    dbt.subprocess = SimpleNamespace(Popen=ForkedWorker, PIPE=None)  # type: ignore[assignment]
    gc.collect()
    gc.freeze()
    kinds: dict[str, Callable[[dict[str, Any]], None]] = {
        "server": lambda _: serve(),
        "run": lambda what: execute(definitions, what["run_id"]),
        "dbt": lambda what: work(what),
    }
    children: list[int] = []
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # ended children are gone at once
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(os.environ[SOCKET])
        listening.listen(16)
        say("ready")
        while listening in select.select([listening, sys.stdin], [], [])[0]:  # its starter has ended where it can read
            connection, _ = listening.accept()
            line, descriptors, *_ = socket.recv_fds(connection, 1 << 20, 2)
            what = json.loads(line)
            pid = os.fork()
            if pid == 0:
                listening.close()
                connection.close()
                begin(logs, what, descriptors, kinds[what["kind"]])
            for descriptor in descriptors:
                os.close(descriptor)
            say(f"{pid} {what['kind']}")
            connection.sendall(f"{pid}\n".encode())
            connection.close()
            children.append(pid)
    for pid in children:
        if is_child(pid, os.getpid()):
            os.kill(pid, signal.SIGKILL)


def say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def begin(logs: Path, what: dict[str, Any], descriptors: list[int], act: Callable[[dict[str, Any]], None]) -> None:
    """The life of a forked process."""
    status = 1
    try:
        os.setsid()
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        with (logs / f"{what['kind']}.log").open("a", buffering=1) as log:
            os.dup2(log.fileno(), 2)
            for number, descriptor in enumerate(descriptors):
                os.dup2(descriptor, number)
                os.close(descriptor)
            if not descriptors:
                os.dup2(log.fileno(), 1)
            sys.stdin, sys.stdout = os.fdopen(0), os.fdopen(1, "w", buffering=1)
            act(what)
            status = 0
    except BaseException:  # noqa: BLE001 - it ends here
        traceback.print_exc()
    finally:
        os._exit(status)


class ForkedWorker:
    """What the project takes for the dbt process that it starts."""

    def __init__(self, command: list[str], env: dict[str, str], **_: object) -> None:
        to_it, from_it = os.pipe(), os.pipe()
        what = {"kind": "dbt", "arguments": command[3:], "env": env}
        self._machine = os.getppid()
        self.pid = ask_for(what, [to_it[0], from_it[1]])
        os.close(to_it[0])
        os.close(from_it[1])
        self.stdin, self.stdout = os.fdopen(to_it[1], "w"), os.fdopen(from_it[0])

    def poll(self) -> int | None:
        return None if is_child(self.pid, self._machine) else 0

    def wait(self) -> int:
        return 0


def work(what: dict[str, Any]) -> None:
    from orchestration.warehouse import dbt_worker

    os.environ.update(what["env"])
    sys.argv = ["dbt_worker", *what["arguments"]]
    dbt_worker.main()


def execute(definitions: Any, run_id: str) -> None:
    """As `dagster api execute_run` does it, without loading the definitions again."""
    import dagster as dg
    from dagster._core.definitions.job_base import InMemoryJob
    from dagster._core.events import EngineEventData
    from dagster._core.execution.api import execute_run_iterator

    with dg.DagsterInstance.get() as instance:
        run = instance.get_run_by_id(run_id)
        assert run
        instance.report_engine_event(
            f"Started process for run (pid: {os.getpid()}).", run, EngineEventData.in_process(os.getpid())
        )
        job = InMemoryJob(definitions.resolve_job_def(run.job_name))
        for _ in execute_run_iterator(job, run, instance):
            pass


def serve() -> None:
    """Looks as often as it is asked to, and says how many runs wait or work then."""
    import logging

    import dagster as dg
    from dagster._core.remote_origin import InProcessCodeLocationOrigin
    from dagster._core.test_utils import create_test_daemon_workspace_context
    from dagster._core.types.loadable_target_origin import LoadableTargetOrigin
    from dagster._core.workspace.load_target import InProcessWorkspaceLoadTarget
    from dagster._daemon.monitoring.run_monitoring import execute_run_monitoring_iteration
    from dagster._daemon.run_coordinator.queued_run_coordinator_daemon import QueuedRunCoordinatorDaemon
    from dagster._daemon.sensor import execute_sensor_iteration
    from dagster._scheduler.scheduler import launch_scheduled_runs
    from dagster._time import get_current_datetime

    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # whatever Dagster prints must not look like an answer
    logger, times = logging.getLogger("soak"), {}
    target = LoadableTargetOrigin(
        executable_path=sys.executable, module_name="orchestration.definitions", working_directory=str(Path.cwd())
    )
    origin = InProcessCodeLocationOrigin(target, location_name="headroom")
    with (
        dg.DagsterInstance.get() as instance,
        create_test_daemon_workspace_context(InProcessWorkspaceLoadTarget(origin), instance) as workspace,
    ):
        unfinished = [each for each in dg.DagsterRunStatus if each.value not in ("SUCCESS", "FAILURE", "CANCELED")]
        queue = QueuedRunCoordinatorDaemon(interval_seconds=1)
        print("ready", file=answers)
        parts: dict[str, Callable[[], Any]] = {
            # one run for each schedule, however much time has passed: a month takes minutes here
            "schedules": lambda: launch_scheduled_runs(
                workspace, logger, get_current_datetime(), times, max_catchup_runs=1
            ),
            "sensors": lambda: execute_sensor_iteration(workspace, logger, None, None),
            "monitoring": lambda: execute_run_monitoring_iteration(workspace, logger),
            "queue": lambda: queue.run_iteration(workspace),
        }
        for line in sys.stdin:
            failed = 0
            for name, part in parts.items():
                if name == "sensors" and line.strip() == "schedules":
                    continue
                try:  # as Dagster's daemon does: an error ends this look of this part, and the next one tries again
                    failed += sum(each is not None for each in part())
                except Exception:  # noqa: BLE001
                    traceback.print_exc()
                    failed += 1
            try:
                runs = instance.get_runs(dg.RunsFilter(statuses=unfinished))
                found = [[run.run_id, run.job_name, run.status.value] for run in runs]
            except Exception:  # noqa: BLE001
                traceback.print_exc()
                found, failed = [], failed + 1
            print(json.dumps({"failed": failed, "in_progress": found}), file=answers)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
