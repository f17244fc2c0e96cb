"""doctor/checks/cni.py: configuration and plugins that are missing, broken or another's."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.support.patient import levels, look, patient
from udpoverlay.doctor.base import Finding
from udpoverlay.doctor.checks.cni import CHECK
from udpoverlay.model.config import DaemonConfig

OURS = json.dumps(
    {
        "name": "cbr0",
        "plugins": [
            {"type": "flannel", "delegate": {"isDefaultGateway": True}},
            {"type": "portmap"},
        ],
    }
)
PLUGINS = {f"/opt/cni/bin/{name}": "" for name in ("flannel", "bridge", "host-local", "portmap")}
CONF = "/etc/cni/net.d/10-flannel.conflist"
KUBERNETES = DaemonConfig(kube_subnet_mgr=True)


async def found(tmp_path: Path, files: dict[str, str], **known: Any) -> list[Finding]:
    return await look(CHECK, patient(tmp_path, files, **known))


async def test_files_that_are_there(tmp_path: Path) -> None:
    assert levels(await found(tmp_path, {**PLUGINS, CONF: OURS})) == ["ok"]


async def test_host_without_cni(tmp_path: Path) -> None:
    assert levels(await found(tmp_path, {})) == ["skipped"]


async def test_no_configuration_is_a_failure_in_kubernetes_alone(tmp_path: Path) -> None:
    assert levels(await found(tmp_path, PLUGINS, config=KUBERNETES)) == ["failure"]
    assert levels(await found(tmp_path, PLUGINS)) == ["warning"]


@pytest.mark.parametrize("missing", ["flannel", "bridge", "host-local", "portmap"])
async def test_each_missing_plugin_is_a_failure(tmp_path: Path, missing: str) -> None:
    rest = {path: "" for path in PLUGINS if not path.endswith(f"/{missing}")}
    findings = await found(tmp_path, {**rest, CONF: OURS})
    assert levels(findings) == ["failure"]
    assert missing in findings[0].fact


async def test_delegate_of_another_type_needs_its_plugin(tmp_path: Path) -> None:
    conf = OURS.replace('"isDefaultGateway": true', '"type": "ptp"')
    findings = await found(tmp_path, {**PLUGINS, CONF: conf})
    assert levels(findings) == ["failure"]
    assert "'ptp'" in findings[0].fact


@pytest.mark.parametrize("text", ["", "{", "[]", '{"plugins": 7}', '{"plugins": [7]}'])
async def test_configuration_that_is_none_is_a_failure(tmp_path: Path, text: str) -> None:
    assert levels(await found(tmp_path, {**PLUGINS, CONF: text})) == ["failure"]


async def test_another_network_in_front_is_a_warning(tmp_path: Path) -> None:
    other = json.dumps({"name": "x", "type": "bridge"})
    findings = await found(tmp_path, {**PLUGINS, CONF: OURS, "/etc/cni/net.d/00-x.conf": other})
    assert levels(findings) == ["warning"]
    assert "00-x.conf" in findings[0].fix
    # Behind it does no harm; what is no configuration is not looked at.
    (tmp_path / "etc/cni/net.d/00-x.conf").rename(tmp_path / "etc/cni/net.d/99-x.conf")
    (tmp_path / "etc/cni/net.d/00-README").write_text("")
    assert levels(await found(tmp_path, {})) == ["ok"]


async def test_plugins_that_cannot_be_seen_are_not_missing(tmp_path: Path) -> None:
    assert levels(await found(tmp_path, {CONF: OURS})) == ["skipped"]
