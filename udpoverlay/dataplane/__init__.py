"""The packets' half of the program: TUN device, UDP socket, workers, feature probe.

`Engine` is all that the rest of the program needs; docs/architecture.md draws the seam.
"""
