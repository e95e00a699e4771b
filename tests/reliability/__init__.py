"""Checks that a run survives what happens to runs, one file a check (docs/reliability.md)."""
