"""The code location: everything in defs/, nothing else."""

import warnings
from datetime import timedelta

import dagster as dg

from orchestration.defs import automation
from orchestration.defs.digest import build_usage_digest, first_day
from orchestration.defs.dispositions import raw_alerts
from orchestration.defs.export import pages_export
from orchestration.defs.ingest import ingest, raw_meter_reports
from orchestration.defs.notices import BY_KIND, invoice_differences
from orchestration.defs.postgres import postgres_tables
from orchestration.defs.publish import build_published_copy
from orchestration.defs.resources import Project
from orchestration.defs.stripe import (
    catalogue_at_stripe,
    stripe_certificates,
    stripe_invoices,
    stripe_parity,
    stripe_usage,
)
from orchestration.defs.stripe_gauges import stripe_gauges
from orchestration.defs.transform import build_models


@dg.definitions
def headroom() -> dg.Definitions:
    # Single-run backfills are marked beta; every process that loads this would say so on its terminal.
    warnings.filterwarnings("ignore", "Parameter `backfill_policy`", dg.BetaWarning)
    project = Project()
    models = build_models(project)
    return dg.Definitions(
        assets=[
            ingest,
            raw_meter_reports,
            raw_alerts,
            models,
            build_published_copy(models, timedelta(hours=project.settings.stale_after_hours)),
            build_usage_digest(project.settings.timezone, first_day(project)),
            stripe_usage,
            stripe_invoices,
            stripe_parity,
            stripe_certificates,
            stripe_gauges,
            invoice_differences,
            *BY_KIND.values(),
            postgres_tables,
            *([pages_export] if project.settings.pages_export else []),
        ],
        asset_checks=[catalogue_at_stripe],
        jobs=automation.JOBS,
        schedules=automation.build_schedules(project),
        sensors=automation.build_sensors(project),
        resources={"project": project},
        executor=dg.in_process_executor,  # the work is one process's; a process for each step costs 3 s a step
    )
