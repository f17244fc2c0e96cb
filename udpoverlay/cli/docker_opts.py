"""`udpoverlay docker-opts`: what flannel's mk-docker-opts.sh does, with its options."""

from __future__ import annotations

import argparse
import json
import sys

from netaddr import IPNetwork

from udpoverlay.errors import OperatorError
from udpoverlay.gocompat.net import parse_cidr4
from udpoverlay.host import subnetfile
from udpoverlay.host.routes import gateway_routes
from udpoverlay.model.dockeropts import docker_options, format_docker_opts
from udpoverlay.model.subnetenv import parse_subnet_env

__all__ = ["configure", "run"]

_EXAMPLE = """\
example:
  udpoverlay docker-opts -c -d /run/docker_opts.env
  with EnvironmentFile=/run/docker_opts.env and dockerd $DOCKER_OPTS in Docker's unit
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the options of mk-docker-opts.sh."""
    add = parser.add_argument
    add("-f", dest="subnet_file", default="/run/flannel/subnet.env", metavar="FILE",
        help="the subnet file (default %(default)s)")  # fmt: skip
    add("-d", dest="docker_file", default="/run/docker_opts.env", metavar="FILE",
        help="the file to write, - for standard output (default %(default)s)")  # fmt: skip
    add("-i", dest="individual", action="store_true", help="write each option as its own variable")
    add("-c", dest="combined", action="store_true", help="write all options in one variable")
    add("-k", dest="key", default="DOCKER_OPTS", metavar="NAME",
        help="name of that variable (default %(default)s)")  # fmt: skip
    add("-m", dest="no_ip_masq", action="store_true", help="leave --ip-masq out (old Docker)")
    add("--json", action="store_true", help="print the options as JSON and write no file")
    parser.description = (
        f"{parser.description} Without -i and -c it writes both. "
        "It fails where the subnet is routed elsewhere."
    )
    parser.epilog = _EXAMPLE


def run(args: argparse.Namespace) -> int:
    """Write the file."""
    text = subnetfile.read_text(args.subnet_file)
    if text is None:
        raise OperatorError(
            f"the subnet file {args.subnet_file!r} does not exist",
            fix="start udpoverlayd or flanneld first; -f names another file",
        )
    if not args.key.isidentifier():
        raise OperatorError(
            f"-k {args.key!r} is not the name of a variable", fix="use one such as DOCKER_OPTS"
        )
    env = parse_subnet_env(text)
    options = docker_options(env, ip_masq=not args.no_ip_masq)
    both = not args.individual and not args.combined
    if args.json:
        sys.stdout.write(json.dumps(options, indent=2) + "\n")
    else:
        written = format_docker_opts(
            options,
            individual=args.individual or both,
            combined=args.combined or both,
            key=args.key,
        )
        if args.docker_file == "-":
            sys.stdout.write(written)
        else:
            subnetfile.write_text(args.docker_file, written)
    _refuse_routed(parse_cidr4(env.get("FLANNEL_SUBNET", "")))
    return 0


def _refuse_routed(subnet: IPNetwork | None) -> None:
    """A subnet behind a gateway is another host's: Docker's bridge would take it over."""
    if subnet is None:
        return
    for network, device in gateway_routes():
        if network == subnet:
            raise OperatorError(
                f"the routing table sends {subnet} to a gateway by {device} already",
                fix=f"remove that route: ip route del {subnet}",
            )
