"""Lake to marts: the engine that dbt builds on, dbt's process, the published copy, and the queries that read it."""
