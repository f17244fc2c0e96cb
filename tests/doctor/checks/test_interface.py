"""doctor/checks/interface.py against the kernel's links."""

from __future__ import annotations

import pytest

from tests.support.patient import LINK, UNKNOWN, in_namespace, levels
from udpoverlay.doctor.base import Finding
from udpoverlay.doctor.checks.interface import CHECK
from udpoverlay.doctor.patient import Patient
from udpoverlay.errors import OperatorError
from udpoverlay.model.config import DaemonConfig

pytestmark = pytest.mark.root

UP = f"{LINK}ip link set eth0 up"


def found(commands: str, **config: object) -> list[Finding]:
    def here() -> Patient:
        learned = {"side": UNKNOWN, "netconf": UNKNOWN}
        return Patient(DaemonConfig(**config), learned=learned)  # type: ignore[arg-type]

    return in_namespace(CHECK, commands, here)


def test_interface_and_address_are_told() -> None:
    findings = found(UP, iface=("eth0",))
    assert levels(findings) == ["ok"]
    assert findings[0].fact == "eth0 with 192.0.2.1"


def test_interface_that_is_down_is_a_warning() -> None:
    findings = found(LINK, iface=("eth0",))
    assert levels(findings) == ["ok", "warning"]
    assert findings[1].fix == "ip link set eth0 up"


def test_public_address_of_no_interface_here_is_a_warning() -> None:
    findings = found(UP, iface=("eth0",), public_ip="198.51.100.7")
    assert levels(findings) == ["ok", "warning"]
    assert "198.51.100.7" in findings[1].fact


def test_no_interface_is_an_error_with_what_there_is() -> None:
    with pytest.raises(OperatorError, match="eth9") as caught:
        found(UP, iface=("eth9",))
    assert "eth0 (192.0.2.1" in caught.value.fix
