"""The published copy as Dagster sees it: a refresh leaves in sync what is sent at its own hours."""

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import dagster as dg
from dagster._core.definitions.data_version import CachingStaleStatusResolver, StaleStatus
from dagster._core.loader import LoadingContextForTest

from orchestration.defs.postgres import postgres_tables
from orchestration.defs.publish import build_published_copy
from orchestration.defs.resources import Project
from orchestration.defs.stripe import stripe_certificates, stripe_invoices


@dg.multi_asset(
    specs=[
        dg.AssetSpec(
            "daily_usage", group_name="usage", metadata={"dagster_dbt/unique_id": "model.headroom.daily_usage"}
        ),
    ]
)
def models() -> dg.MaterializeResult[None]:
    """Another version each time, as dbt's."""
    return dg.MaterializeResult(asset_key="daily_usage")


class Engine:
    """Publishes an empty file."""

    def __init__(self, published: Path) -> None:
        self._published = published

    def publish(self, _: Callable[[], object]) -> dict[str, int]:
        self._published.touch()
        return {"daily_usage": 0}


class ProjectWithoutWarehouse(Project):
    def engine(self) -> Any:
        return Engine(self.settings.published)


def test_refresh_leaves_what_is_sent_in_sync(data: Path) -> None:
    assets = [
        models,
        build_published_copy(models, timedelta(hours=26)),
        postgres_tables,
        stripe_invoices,
        stripe_certificates,
    ]
    definitions = dg.Definitions(assets, resources={"project": ProjectWithoutWarehouse()})
    keys = [spec.key for asset in assets for spec in asset.specs]
    with dg.DagsterInstance.ephemeral() as instance:

        def status_after(*names: str) -> dict[str, str]:
            definitions.resolve_implicit_global_asset_job_def().execute_in_process(
                instance=instance,
                asset_selection=[dg.AssetKey(name) for name in names] or None,
                run_config={"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}},
            )
            asked = LoadingContextForTest(instance)
            resolver = CachingStaleStatusResolver(instance, definitions.resolve_asset_graph(), asked)
            return {key.to_user_string(): resolver.get_status(key).value for key in keys}

        in_sync = dict.fromkeys((key.to_user_string() for key in keys), StaleStatus.FRESH.value)
        assert status_after() == in_sync  # of an empty copy there are no limits, which stops nothing
        made = instance.get_latest_materialization_event(dg.AssetKey("published_copy"))
        assert made
        assert made.asset_materialization
        assert str(made.asset_materialization.metadata["limits"].value).startswith("not written: ")
        assert status_after("daily_usage", "published_copy") == in_sync
        assert status_after("stripe_invoices") == in_sync
        assert status_after("daily_usage") == {**in_sync, "published_copy": StaleStatus.STALE.value}
