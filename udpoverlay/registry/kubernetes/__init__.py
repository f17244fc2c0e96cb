"""Leases as annotations of Kubernetes Nodes."""
