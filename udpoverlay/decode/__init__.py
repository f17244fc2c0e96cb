"""Reads captured packets, takes them apart and names what is wrong with them; offline."""
