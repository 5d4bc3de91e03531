"""Dagster only, in flow order: ingest, transform, publish, digest, notices, stripe, postgres; automation on one page.

Here the rooms are plugged together. No arithmetic, no HTTP.
"""
