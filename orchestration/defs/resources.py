"""What assets work with. The resource has no fields, so that no setting, and no secret, shows in Dagster's UI."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path

import dagster as dg

from orchestration import settings
from orchestration.defs import interrupted
from orchestration.defs.sending import Ways
from orchestration.lake.lake import Lake
from orchestration.lake.sources import Sources
from orchestration.ledger.ledger import Ledger
from orchestration.settings import Settings
from orchestration.usage.meters import Meter
from orchestration.warehouse import seeds
from orchestration.warehouse.dbt import DbtProject
from orchestration.warehouse.engine import Engine, EngineError
from orchestration.warehouse.engines import engine_of

OWNERS = ["team:data"]
MODELS_STEP = "models"


class Project(dg.ConfigurableResource):  # type: ignore[type-arg]
    """This clone and its data folder, as the environment configures them."""

    def setup_for_execution(self, context: dg.InitResourceContext) -> None:
        """Each run has this resource: its process shows here that it works. A sensor has no run.

        Where the run comes to the models, dbt starts now, beside what is before them.
        """
        if context.run:
            interrupted.hold(self.settings.runs, context.run.run_id)
            steps = context.run.step_keys_to_execute  # None in what a schedule or a sensor starts: all of the selection
            if MODELS_STEP in steps if steps is not None else not context.run.asset_selection:
                self.dbt().warm()

    @property
    def settings(self) -> Settings:
        """Read again where the environment or `.env` changed: a run asks 45 times, at 4 ms each."""
        path = Path(str(Settings.model_config.get("env_file") or os.devnull))
        return _settings(path, path.read_bytes() if path.is_file() else b"", frozenset(os.environ.items()))

    def lake(self) -> Lake:
        config = self.settings
        return Lake(config.lake, config.lake_url)

    def meters(self) -> list[Meter]:
        """What is counted: the rows of meters.csv, the main one first.

        :raises dg.Failure: the file has mistakes, each in a sentence.
        """
        try:
            return seeds.read_meters(self.settings.dbt_project)
        except seeds.MetersError as error:
            raise dg.Failure(str(error), allow_retries=False) from None

    def landing(self) -> Sources:
        """Where events arrive: the landing folder, and a bucket where one is set."""
        return Sources(self.settings.landing, self.settings.landing_url)

    def dbt(self) -> DbtProject:
        config = self.settings
        config.export()
        return DbtProject.of(config)

    def engine(self) -> Engine:
        """Where the marts are built."""
        return engine_of(self.settings)

    def ledger(self) -> Ledger:
        return Ledger(self.settings.ledger_url)

    def ways(self, run_id: str = "") -> Ways:
        """The routes of messages and their channels. `run_id` is the run that sends."""
        return Ways(self.settings, clock, run_id)


@lru_cache(maxsize=1)
def _settings(_path: Path, _file: bytes, _environment: frozenset[tuple[str, str]]) -> Settings:
    return settings.load()


@contextmanager
def failing_in_a_sentence() -> Iterator[None]:
    """A server that is away, or refuses, fails the step with what it says of that and not with a stack."""
    try:
        yield
    except EngineError as error:
        raise dg.Failure(f"{error}. Nothing was published or sent", allow_retries=False) from None


def clock() -> datetime:
    """The real time, for attempts; never the fixed one of a replay."""
    return datetime.now(UTC)
