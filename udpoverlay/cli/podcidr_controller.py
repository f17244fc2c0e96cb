"""`udpoverlay podcidr-controller`: gives Nodes a podCIDR where no controller-manager does.

Owns: its flags, how its facts are printed, its exit codes (0 asked to stop or all is well; 1
something to fix; 2 a wrong flag). Must not know: how ranges are given.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import socket
import sys
import uuid
from functools import partial
from typing import Any

from udpoverlay import log as log_module
from udpoverlay.cli import entry
from udpoverlay.errors import OperatorError
from udpoverlay.kubernetes.cidr_set import pools_of
from udpoverlay.log import escape, get_logger
from udpoverlay.model.config import KubeConfigSource

__all__ = ["configure", "run"]

log = get_logger(__name__)

_EXAMPLE = """
Run it in the cluster: kubectl apply -f deploy/kubernetes/podcidr-controller.yaml
Two or more replicas are safe: one acts, the others wait for its Lease to run out.

examples:
  udpoverlay podcidr-controller --cluster-cidr 10.244.0.0/16
  udpoverlay podcidr-controller --cluster-cidr 10.244.0.0/16,fd00:10::/48 \\
      --node-cidr-mask-size-ipv4 25 --remove-taints example.com/no-network
  udpoverlay podcidr-controller --cluster-cidr 10.244.0.0/16 --kubeconfig ~/.kube/config --check
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the flags."""
    parser.epilog = _EXAMPLE
    ranges = parser.add_argument_group("ranges (as of kube-controller-manager)")
    ranges.add_argument(
        "--cluster-cidr",
        action="append",
        default=[],
        metavar="CIDR[,CIDR]",
        help="the cluster's pod range: IPv4, IPv6, or one of each",
    )
    for suffix, usual in (("", ""), ("-ipv4", " (24)"), ("-ipv6", " (64)")):
        ranges.add_argument(
            f"--node-cidr-mask-size{suffix}",
            type=int,
            metavar="BITS",
            help=f"prefix length of each Node's range{usual}",
        )
    ranges.add_argument(
        "--remove-taints",
        action="append",
        default=[],
        metavar="KEY",
        help="remove taints of this key from Nodes that have their range (repeatable)",
    )
    api = parser.add_argument_group("Kubernetes API (default: the pod's service account)")
    api.add_argument("--kubeconfig", default="", metavar="FILE", help="a kubeconfig")
    api.add_argument("--kube-api-url", default="", metavar="URL", help="the API server")
    lease = parser.add_argument_group("leader election")
    lease.add_argument("--lease-namespace", default="kube-system", metavar="NAME")
    lease.add_argument("--lease-name", default="udpoverlay-podcidr-controller", metavar="NAME")
    lease.add_argument("--identity", default="", metavar="NAME", help="the pod's or host's name")
    for name, default, text in (
        ("--lease-duration", 15.0, "a Lease not renewed for so long may be taken over"),
        ("--renew-deadline", 10.0, "a leader that could not renew for so long stops acting"),
        ("--retry-period", 2.0, "between two renewals"),
    ):
        lease.add_argument(
            name, type=float, default=default, metavar="S", help=f"seconds: {text} (%(default)g)"
        )
    other = parser.add_argument_group("other")
    other.add_argument("--healthz-ip", default="0.0.0.0", metavar="IP", help="(%(default)s)")  # noqa: S104 - probes
    other.add_argument(
        "--healthz-port",
        type=int,
        default=0,
        metavar="PORT",
        help="serve /healthz, /readyz and /status there; 0: do not (%(default)s)",
    )
    other.add_argument("-v", "--verbosity", type=int, default=0, metavar="N", help="log more")
    other.add_argument(
        "--check", action="store_true", help="show what would be found, change nothing"
    )
    other.add_argument("--json", action="store_true", help="with --check: print JSON")


def run(args: argparse.Namespace) -> int:
    """Run a replica until a signal, or check. Raises OperatorError for a wrong flag."""
    cidrs = [part.strip() for text in args.cluster_cidr for part in text.split(",") if part.strip()]
    pools = pools_of(
        cidrs,
        args.node_cidr_mask_size,
        args.node_cidr_mask_size_ipv4,
        args.node_cidr_mask_size_ipv6,
    )
    _check_periods(args)
    # Late: a wrong flag must not wait for the event loop and the HTTP library to load.
    from udpoverlay.loop import run_until_signal  # noqa: PLC0415 - late
    from udpoverlay.podcidr import process  # noqa: PLC0415 - late
    from udpoverlay.podcidr.election import ElectionPeriods  # noqa: PLC0415 - late

    name = args.identity or os.environ.get("POD_NAME") or socket.gethostname()
    settings = process.ControllerSettings(
        pools=pools,
        source=KubeConfigSource(
            api_url=args.kube_api_url,
            kubeconfig_file=args.kubeconfig,
            environment=dict(os.environ),
        ),
        identity=f"{name}_{uuid.uuid4()}",
        remove_taints=tuple(args.remove_taints),
        lease_namespace=args.lease_namespace,
        lease_name=args.lease_name,
        periods=ElectionPeriods(args.lease_duration, args.renew_deadline, args.retry_period),
        healthz_ip=args.healthz_ip,
        healthz_port=args.healthz_port,
    )
    log_module.configure(args.verbosity)
    entry.at_end(log_module.flush)
    if args.check:
        facts = asyncio.run(process.check(settings))
        _print(facts, as_json=args.json)
        return 1 if facts["findings"] or facts["without_pod_cidr"] else 0
    status = run_until_signal(
        partial(process.run, settings, process.BootClock()),
        lambda name: log.info("stopping", signal=name),
    )
    log.info("stopped")
    return status


def _check_periods(args: argparse.Namespace) -> None:
    if not 0 < args.retry_period < args.renew_deadline < args.lease_duration:
        raise OperatorError(
            f"--retry-period {args.retry_period:g}, --renew-deadline {args.renew_deadline:g} and "
            f"--lease-duration {args.lease_duration:g} are not in this order",
            fix="each must be longer than the one before, like 2, 10 and 15",
        )
    if not 0 <= args.healthz_port <= 65535:
        raise OperatorError(f"--healthz-port {args.healthz_port} is no port", fix="use 1 to 65535")


def _print(facts: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        print(json.dumps(facts, indent=2))
        return
    rows = [
        ("leader", facts["holder"] or "none"),
        ("nodes", facts["nodes"]),
        ("without a podCIDR", ", ".join(facts["without_pod_cidr"]) or "none"),
        *((f"free in {cidr}", count) for cidr, count in facts["free"].items()),
    ]
    width = max(len(name) for name, _ in rows) + 2
    lines = [f"{name:<{width}}{value}" for name, value in rows]
    for found in facts["findings"]:
        fix = f" ({found['fix']})" if found["fix"] else ""
        lines.append(f"Node {found['node']}: {found['what']}{fix}")
    sys.stdout.write("\n".join(escape(line) for line in lines) + "\n")
