"""Headroom: which account comes close to its API quota, and the same count billed exactly once."""
