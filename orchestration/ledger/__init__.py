"""What was decided and sent: the memory of every delivery and report, on SQLite or Postgres. README.md explains it."""
