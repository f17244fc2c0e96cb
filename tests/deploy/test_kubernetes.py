"""deploy/kubernetes: the manifests grant what the programs need, no more, and name real flags."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.podcidr.test_process import process
from tests.support.kubeapi.rbac import Rule
from tests.support.kubecluster import Kube
from tests.support.podcidr import served
from udpoverlay.cli import podcidr_controller

MANIFEST = Path(__file__).parents[2] / "deploy" / "kubernetes" / "podcidr-controller.yaml"


def documents() -> list[dict[str, Any]]:
    return [each for each in yaml.safe_load_all(MANIFEST.read_text()) if each]


def of_kind(kind: str) -> dict[str, Any]:
    [found] = [each for each in documents() if each["kind"] == kind]
    return found


def container() -> dict[str, Any]:
    [found] = of_kind("Deployment")["spec"]["template"]["spec"]["containers"]
    return dict(found)


def granted() -> list[Rule]:
    """The manifest's rights, as the test server understands them."""
    rules = []
    for kind in ("ClusterRole", "Role"):
        role = of_kind(kind)
        namespace = role["metadata"].get("namespace")
        rules += [
            Rule(
                rule["verbs"],
                rule["resources"],
                rule.get("resourceNames", ()),
                (namespace,) if namespace else (),
            )
            for rule in role["rules"]
        ]
    return rules


def test_the_container_is_started_with_flags_that_exist() -> None:
    parser = argparse.ArgumentParser()
    podcidr_controller.configure(parser)
    assert container()["command"] == ["udpoverlay", "podcidr-controller"]
    args = parser.parse_args(container()["args"])
    assert args.healthz_port == container()["livenessProbe"]["httpGet"]["port"]


def test_roles_are_bound_to_the_account_that_the_pods_use() -> None:
    account = of_kind("Deployment")["spec"]["template"]["spec"]["serviceAccountName"]
    for kind, role in (("ClusterRoleBinding", "ClusterRole"), ("RoleBinding", "Role")):
        binding = of_kind(kind)
        assert binding["roleRef"]["name"] == of_kind(role)["metadata"]["name"]
        assert [subject["name"] for subject in binding["subjects"]] == [account]


async def test_its_rights_are_enough(kube: Kube) -> None:
    token, _ = await kube.user(granted())
    taint = {"key": "example.com/no-network", "effect": "NoSchedule"}
    await kube.node("n1", taints=[taint])
    async with process(
        f"--kubeconfig={kube.kubeconfig(token)}",
        "--cluster-cidr=10.244.0.0/16",
        "--remove-taints=example.com/no-network",
    ):
        await served(kube, "n1")


@pytest.mark.parametrize("rule", range(3))
async def test_each_of_its_rights_is_needed(double: Kube, rule: int) -> None:
    used = set()
    rules = granted()
    token, _ = await double.user(rules)
    await double.node("n1")
    async with process(
        f"--kubeconfig={double.kubeconfig(token)}",
        "--cluster-cidr=10.244.0.0/16",
        "--retry-period=0.1",
    ):
        await served(double, "n1")
    used = {(c.verb, c.resource) for c in double.api.calls if c.user != "admin"}
    # `get nodes` is for a Node that changes while it is being written.
    used.add(("get", "nodes"))
    for verb in rules[rule].verbs:
        assert (verb, rules[rule].resources[0]) in used
