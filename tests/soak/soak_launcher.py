"""Dagster's run launcher of a soak, which dagster.yaml names. It works beside any version of the project."""

from typing import Any

from dagster._core.launcher.base import LaunchRunContext, RunLauncher
from dagster._serdes import ConfigurableClass, ConfigurableClassData
from soak_asking import ask_for


class ForkingLauncher(RunLauncher, ConfigurableClass):
    """A process for each run, as Dagster's own launcher does it, but forked from one that has imported everything."""

    def __init__(self, inst_data: ConfigurableClassData | None = None) -> None:
        self._inst_data = inst_data
        super().__init__()

    @property
    def inst_data(self) -> ConfigurableClassData | None:
        return self._inst_data

    @classmethod
    def config_type(cls) -> dict[str, Any]:
        return {}

    @classmethod
    def from_config_value(cls, inst_data: ConfigurableClassData | None, config_value: Any) -> "ForkingLauncher":
        return cls(inst_data)

    def launch_run(self, context: LaunchRunContext) -> None:
        ask_for({"kind": "run", "run_id": context.dagster_run.run_id})

    def terminate(self, run_id: str) -> bool:
        return False
