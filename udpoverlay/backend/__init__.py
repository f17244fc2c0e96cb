"""What a Backend.Type of the network configuration means."""
