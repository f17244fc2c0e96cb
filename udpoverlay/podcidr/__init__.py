"""The podCIDR controller: a program of its own."""
