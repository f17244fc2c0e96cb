"""Our own subnet on disk: remembered from the last life of the daemon, published in this one.

Owns: that a file that cannot be used costs only what it is for. Must not know: how it is written
(subnetfile.py), or what is in it (model/subnetenv.py).
"""

from __future__ import annotations

from udpoverlay.errors import OperatorError
from udpoverlay.host import subnetfile
from udpoverlay.log import get_logger
from udpoverlay.model import subnetenv
from udpoverlay.model.config import DaemonConfig
from udpoverlay.model.lease import Subnet
from udpoverlay.model.netconf import NetConf

__all__ = ["publish", "remembered"]

_log = get_logger(__name__)


def remembered(path: str) -> Subnet | None:
    """The subnet that the file names; None when it names none or cannot be read."""
    try:
        text = subnetfile.read_text(path)
    except OperatorError as error:
        _log.warning("the previous subnet is not known", reason=str(error))
        return None
    return None if text is None else subnetenv.previous_subnet(text)


def publish(config: DaemonConfig, netconf: NetConf, subnet: Subnet, mtu: int) -> bool:
    """Write the file; false when it cannot be: nothing else is wrong, but CNI will not find us."""
    path = config.subnet_file
    text = subnetenv.format_subnet_env(netconf, subnet, mtu, config.firewall.masquerade)
    try:
        subnetfile.write_text(path, text)
    except OperatorError as error:
        _log.warning("the subnet file is not written", reason=str(error))
        return False
    _log.info("subnet file written", path=path)
    return True
