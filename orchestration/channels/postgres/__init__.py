"""The user's own Postgres: which rows go to which of its tables (mapping), and writing them (tables)."""
