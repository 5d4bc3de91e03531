"""What an engine of the marts has to do. No module but engines.py asks which one it is.

How to add one: docs/contribute.md#a-warehouse-engine.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Protocol

from orchestration.usage.findings import Finding

if TYPE_CHECKING:
    from orchestration.lake.lake import Lake

Columns = Mapping[str, Mapping[str, str]]
"""DuckDB's type of each column of what is published, by table."""


class EngineError(RuntimeError):
    """The engine is away or refuses. The message says why and what to do."""


class Engine(Protocol):
    """Where dbt builds the marts. Two of the same configuration are equal."""

    @property
    def dbt_folder(self) -> str:
        """Name of the folder below the data folder for what dbt writes."""

    @property
    def dbt_environment(self) -> Mapping[str, str]:
        """What dbt's profile looks up. Holds secrets: never for messages."""

    def load(self, lake: "Lake", say: Callable[[str], object]) -> None:
        """Bring the lake to where the models read it. Waits for a build that runs.

        :raises EngineError: nothing is lost; the next load puts all right.
        """

    def inspect(self, tables: list[str]) -> tuple[dict[str, int], dict[str, Any]]:
        """Rows of the named tables right after a build, and the row of data_quality where it is one of them.

        :raises EngineError: it cannot be asked.
        """

    def publish(self, columns: Callable[[], Columns]) -> dict[str, int]:
        """Replace the published copy, atomically; the rows of each table. Waits for a build that runs.

        :raises EngineError: the copy that was there stays.
        """

    def examine(self, lake: "Lake") -> Iterator[Finding]:
        """Whether it is there and fit to build on, for `headroom doctor`."""
