"""Dagster only, in flow order: ingest, transform, publish, deliver; automation on one page. No arithmetic, no HTTP."""
