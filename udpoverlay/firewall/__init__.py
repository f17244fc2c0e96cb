"""Masquerade and forward rules: what must be there, and how it gets there in one step."""
