"""Folders of the machine with a layer of a lab host's own on top, and our commands in them.

What is written there is seen in that host alone and goes with it, so that a unit or a manifest runs
as it is written: /opt/bin/flanneld, /etc/kube-flannel, /etc/cni/net.d.
"""

from __future__ import annotations

import sys
from pathlib import Path

from udpoverlay.lab.hosts import Host

NAMES = Path(__file__).parents[2] / "deploy" / "container" / "names.sh"


def checked(host: Host, *words: str) -> str:
    """Run a program that must succeed; what it printed."""
    status, output = host.run(list(words))
    assert status == 0, f"{words}: {output}"
    return output


def own_layer(host: Host, folder: str) -> None:
    """Let the host write in `folder` without anybody else seeing it."""
    above = f"/run/layers{folder}"
    checked(host, "mkdir", "-p", f"{above}/upper", f"{above}/work")
    layers = f"lowerdir={folder},upperdir={above}/upper,workdir={above}/work"
    checked(host, "mount", "-t", "overlay", "overlay", "-o", layers, folder)


def our_names(host: Host, folder: str) -> None:
    """Put flanneld, install-conf and mk-docker-opts.sh into `folder`, as the image has them."""
    checked(host, str(NAMES), sys.prefix, folder)
