"""Does the registry answer, what does it hold, may we write our lease: nothing is written."""

from __future__ import annotations

from collections.abc import Sequence

from netaddr import IPNetwork

from udpoverlay.backend.kinds import backend_of
from udpoverlay.doctor.base import Check, Finding, failure, good, warning
from udpoverlay.doctor.facts.etcd import EtcdSide
from udpoverlay.doctor.patient import Patient
from udpoverlay.errors import UdpOverlayError
from udpoverlay.model.lease import Subnet
from udpoverlay.model.netconf import NetConf

__all__ = ["CHECK"]


async def _look(patient: Patient) -> Sequence[Finding]:
    side = await patient.side()
    if patient.config.kube_subnet_mgr:
        return _configured(await patient.netconf(), patient.config.kube.net_config_path)
    assert isinstance(side, EtcdSide)
    endpoints = await _endpoints(side)
    if not any(finding.fix == "" for finding in endpoints):
        return endpoints
    try:
        netconf = await patient.netconf()
    except UdpOverlayError as error:
        return [*endpoints, failure(error.what, error.fix)]
    return [
        *endpoints,
        *_configured(netconf, side.config_key),
        await _leases(patient, side),
        await _writable(side, netconf),
    ]


async def _endpoints(side: EtcdSide) -> list[Finding]:
    refused = {endpoint: await side.reach(endpoint) for endpoint in side.endpoints}
    bad = warning if None in refused.values() else failure
    return [
        good(f"etcd at {endpoint} answers") if error is None else bad(error.what, error.fix)
        for endpoint, error in refused.items()
    ]


def _configured(netconf: NetConf, where: str) -> list[Finding]:
    """Raises OperatorError for a configuration that the daemon would refuse."""
    backend = backend_of(netconf)
    port = f" on port {backend.port}" if backend.port else ""
    return [good(f"{where}: Network {backend.network}, {backend.name}{port}")]


async def _leases(patient: Patient, side: EtcdSide) -> Finding:
    leases = await patient.leases()
    if side.skipped:
        return warning(
            f"{side.skipped} entries below the leases' prefix are no leases",
            "the log of udpoverlayd names them (registry entry skipped); etcdctl del them",
        )
    return good(f"leases: {len(leases)}")


async def _writable(side: EtcdSide, netconf: NetConf) -> Finding:
    subnet = Subnet(IPNetwork(f"{netconf.subnet_min}/{netconf.subnet_len}"))
    try:
        await side.may_write(subnet)
    except UdpOverlayError as error:
        return failure(f"a lease such as {side.lease_key(subnet)}: {error.what}", error.fix)
    return good("leases may be written")


CHECK = Check("registry", "registry", _look)
