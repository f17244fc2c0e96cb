"""Where the checks' facts come from: registries, the admin socket, clocks of others, probes."""
