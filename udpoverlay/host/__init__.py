"""What is asked of the host: links, addresses, routes, the subnet file, readiness."""
