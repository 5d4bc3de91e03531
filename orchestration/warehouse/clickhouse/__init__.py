"""ClickHouse as the engine: its client, loading the lake into it, publishing its marts."""
