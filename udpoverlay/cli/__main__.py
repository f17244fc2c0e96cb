"""`python -m udpoverlay.cli` is `udpoverlay`."""

import sys

from udpoverlay.cli.main import udpoverlay

sys.exit(udpoverlay())
