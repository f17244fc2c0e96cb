"""The Kubernetes API client and what it reads of Nodes."""
