"""Marts to the read-only copy that analysts, the terminal and the deliveries read."""

from datetime import timedelta

import dagster as dg

from orchestration.defs.resources import OWNERS, Project, failing_in_a_sentence


def build_published_copy(models: dg.AssetsDefinition, stale_after: timedelta) -> dg.AssetsDefinition:
    """The copy depends on every mart, so that a failed one keeps the last good copy in place.

    Dagster shows it as overdue where it was not made anew for `stale_after`: no run came this far. How old the data in
    it is, the check calls_are_recent says.
    """
    marts = sorted(key for key, group in models.group_names_by_key.items() if group == "marts")

    @dg.asset(
        deps=marts,
        group_name="publish",
        owners=OWNERS,
        kinds={"duckdb"},
        freshness_policy=dg.FreshnessPolicy.time_window(fail_window=stale_after),
        description=(
            "`published.duckdb`: the warehouse after a build whose tests passed, swapped in atomically. Open it read"
            " only with any DuckDB from 1.5 on, or ask `headroom sql`. Digest and Stripe reports read it too, so that"
            " everyone sees the same numbers."
        ),
    )
    def published_copy(project: Project) -> dg.MaterializeResult[None]:
        settings = project.settings
        with failing_in_a_sentence():
            rows = project.engine().publish(project.dbt().published_columns)
        return dg.MaterializeResult(
            metadata={
                "path": dg.MetadataValue.path(str(settings.published)),
                "size_bytes": settings.published.stat().st_size,
                "tables": len(rows),
                "rows": sum(rows.values()),
            }
        )

    return published_copy
