"""Notion: a row of a database for each message."""
