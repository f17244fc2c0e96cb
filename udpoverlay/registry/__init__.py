"""Where leases are kept: one protocol, three implementations."""
