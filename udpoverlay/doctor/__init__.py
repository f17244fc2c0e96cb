"""Checks of the host, the registry and the peers; each failure comes with the command to fix it."""
