"""`python -m udpoverlay.cli` is `udpoverlay`."""

import sys

from udpoverlay.cli.entry import udpoverlay

sys.exit(udpoverlay())
