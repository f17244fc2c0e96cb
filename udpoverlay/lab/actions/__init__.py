"""What the agent does inside a host's namespaces."""
