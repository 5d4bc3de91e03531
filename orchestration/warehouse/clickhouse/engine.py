"""ClickHouse as the engine of the marts: the lake is loaded into it, and its marts become the published copy."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import SecretStr

from orchestration.lake.lake import Lake
from orchestration.usage.findings import Finding
from orchestration.usage.formatting import counted
from orchestration.warehouse.clickhouse import load, publish
from orchestration.warehouse.clickhouse.client import ClickHouse, environment
from orchestration.warehouse.engine import Columns, EngineError


@dataclass(frozen=True)
class ClickHouseEngine:
    """The server at `url`, which finds the lake at `seen_at`."""

    url: SecretStr
    seen_at: str
    lock: Path
    published: Path
    dbt_folder = "dbt_clickhouse"

    @property
    def dbt_environment(self) -> Mapping[str, str]:
        return environment(self.url)

    def load(self, lake: Lake, say: Callable[[str], object]) -> None:
        load.load(ClickHouse(self.url), lake, self.seen_at, self.lock, say)

    def inspect(self, tables: list[str]) -> tuple[dict[str, int], dict[str, Any]]:
        return ClickHouse(self.url).inspect(tables)

    def publish(self, columns: Callable[[], Columns]) -> dict[str, int]:
        return publish.publish(ClickHouse(self.url), columns(), self.published, self.lock)

    def examine(self, lake: Lake) -> Iterator[Finding]:
        server = ClickHouse(self.url)
        try:
            yield from server.examine()
            behind = load.lag(server, lake, self.seen_at)
        except EngineError as error:
            yield Finding("ClickHouse", str(error))
            return
        waiting = f"{counted(behind, 'batch', 'batches')} of the lake waiting for the next run"
        words = waiting if behind else "it has the whole lake"
        yield Finding(f"ClickHouse: {words}")
