"""Marts to the read-only copy that analysts, the terminal and the deliveries read."""

from datetime import timedelta

import dagster as dg

from orchestration.defs.resources import OWNERS, Project, failing_in_a_sentence
from orchestration.settings import Settings
from orchestration.usage.formatting import counted
from orchestration.warehouse import limits

THE_NEWEST = dg.DataVersion("the newest")
"""Always the same one: what is sent is decided by the ledger, at its own hours. With a version for each build, Dagster
would show digest, notices and Stripe as out of sync after every refresh, and offer to make them again.
"""


def build_published_copy(models: dg.AssetsDefinition, stale_after: timedelta) -> dg.AssetsDefinition:
    """The copy depends on every model behind staging, so that a failed one keeps the last good copy in place.

    On each of them itself: where people materialize one model and the copy, Dagster orders the two by a dependency of
    their own, not by a path through assets that the run leaves out.

    Dagster shows it as overdue where it was not made anew for `stale_after`: no run came this far. How old the data in
    it is, the check calls_are_recent says.
    """
    tables = sorted(
        spec.key
        for spec in models.specs
        if spec.metadata["dagster_dbt/unique_id"].startswith("model.") and spec.group_name != "staging"
    )

    @dg.asset(
        deps=tables,
        group_name="publish",
        owners=OWNERS,
        kinds={"duckdb"},
        freshness_policy=dg.FreshnessPolicy.time_window(fail_window=stale_after),
        description=(
            "`published.duckdb`: the warehouse after a build whose tests passed, replaced atomically. Open it"
            " read-only with DuckDB 1.5 or later, or query it with `headroom sql`. The digest and Stripe reports read"
            " it too, so that all show the same numbers. Beside it is `limits.json`: for gates, where accounts stand"
            " against its limits. Where that cannot be written, the log says why, and gates keep the one before."
        ),
    )
    def published_copy(context: dg.AssetExecutionContext, project: Project) -> dg.MaterializeResult[None]:
        settings = project.settings
        with failing_in_a_sentence():
            rows = project.engine().publish(project.dbt().published_columns)
        return dg.MaterializeResult(
            data_version=THE_NEWEST,
            metadata={
                "path": dg.MetadataValue.path(str(settings.published)),
                "size_bytes": settings.published.stat().st_size,
                "tables": len(rows),
                "rows": sum(rows.values()),
                "limits": _limits(context, settings),
            },
        )

    return published_copy


def _limits(context: dg.AssetExecutionContext, settings: Settings) -> str:
    """Write `limits.json`, and say what it holds, or why it was not written: then digest and bills go out all the same.

    It is made of the copy alone, so the next run puts right what a failure or a kill left out.
    """
    usage_url = f"{settings.pages_url.rstrip('/')}/u/" if settings.pages_url else None
    try:
        written = limits.write(settings.published, settings.env, usage_url)
    except Exception as error:
        context.log.exception("limits.json was not written: gates keep the one before. The next run writes it again")
        return f"not written: {str(error).partition(chr(10))[0]}"
    return (
        f"{written.path.name}: {counted(written.accounts, 'row')}, {written.size_bytes:,} bytes,"
        f" {written.compressed_bytes:,} compressed"
    )
