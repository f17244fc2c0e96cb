"""Which peer has which route: lease table, holdover, route plan."""
