"""Commands: flags, environment, exit codes. Nothing below knows any of the three."""
