"""What was decided and sent: the memory of every delivery and report, on SQLite or Postgres.

docs/billing/ledger.md explains it.
"""
