"""Published marts to tables of the user's own Postgres."""

from collections.abc import Iterator

import dagster as dg

from orchestration.channels.postgres import tables as postgres
from orchestration.channels.postgres.tables import UnusableDestinationError
from orchestration.defs.resources import OWNERS, Project
from orchestration.usage.formatting import counted

LISTED = 20
"""Refused rows that are listed one by one."""

ROWS_ARE_TAKEN = dg.AssetCheckSpec(
    "rows_are_taken",
    asset="postgres_tables",
    description=(
        "Warns about rows that a constraint or trigger of your table refuses, and says why. All other rows are"
        " delivered, and each run tries these again. Change the constraint or the row's account, and run again."
    ),
)


@dg.asset(
    deps=["published_copy"],
    group_name="publish",
    owners=OWNERS,
    kinds={"postgres"},
    check_specs=[ROWS_ARE_TAKEN],
    description=(
        "Writes rows of the marts to tables of your own Postgres, as `destination.toml` says. Crossings and reported"
        " limits are delivered row by row, each once and as it was then. Other marts are copied and replaced as a"
        " whole. Headroom creates and alters no table there.\n\n"
        "If it fails, the message says which table needs what; `headroom postgres check` says the same without"
        " writing. Run it again as often as you like: a unique delivery key in each table identifies delivered"
        " rows.\n\n"
        "Without HEADROOM_DESTINATION_URL it delivers nothing."
    ),
)
def postgres_tables(project: Project) -> Iterator[dg.MaterializeResult[None] | dg.AssetCheckResult]:
    settings = project.settings
    try:
        tables = postgres.configured(settings)
        if tables is None:
            outcome = {"outcome": "nothing delivered: HEADROOM_DESTINATION_URL is not set"}
            yield dg.MaterializeResult(metadata=outcome)
            yield judge_refused([])
            return
        written = tables.write(settings.published)
    except (UnusableDestinationError, ValueError) as error:
        raise dg.Failure(str(error), allow_retries=False) from None
    lines = ["| table | mart | new | known | refused |", "|---|---|---|---|---|"]
    for each in written:
        to = each.destination
        lines.append(f"| {to.table} | {to.mart} | {each.rows:,} | {each.known:,} | {len(each.refused):,} |")
    metadata: dict[str, dg.MetadataValue] = {
        "rows": dg.MetadataValue.int(sum(each.rows for each in written)),
        "tables": dg.MetadataValue.md("\n".join(lines)),
    }
    refused = [f"- {each.destination.table}: {row}" for each in written for row in each.refused]
    yield dg.MaterializeResult(metadata=metadata)
    yield judge_refused(refused)


def judge_refused(refused: list[str]) -> dg.AssetCheckResult:
    """The outcome of rows_are_taken."""
    words = f"Postgres refused {counted(len(refused), 'row')} and has all others:\n" + "\n".join(refused[:LISTED])
    return dg.AssetCheckResult(
        check_name=ROWS_ARE_TAKEN.name,
        passed=not refused,
        severity=dg.AssetCheckSeverity.WARN,
        description=words if refused else None,
    )
