"""What clients rely on, asked of the API double and of a real kube-apiserver alike.

Where the answers differ, tests/support/kubeapi is wrong.
"""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.kubeapi.rbac import Rule
from tests.support.kubecluster import MERGE, NODES, STRATEGIC, Cluster, Kube
from tests.support.kubewatch import Json

LEASES = "/apis/coordination.k8s.io/v1/namespaces/default/leases"
LEASE = {"metadata": {"name": "l"}, "spec": {"holderIdentity": "a", "leaseDurationSeconds": 15}}


def test_a_new_node_is_answered_with_its_version_uid_and_the_not_ready_taint(kube: Kube) -> None:
    async def scenario(cluster: Cluster) -> None:
        node = await cluster.node("n1", "10.244.1.0/24")
        assert node["kind"] == "Node"
        assert node["metadata"]["uid"]
        assert node["metadata"]["resourceVersion"].isdecimal()
        assert node["spec"]["podCIDR"] == "10.244.1.0/24"
        assert node["spec"]["podCIDRs"] == ["10.244.1.0/24"]
        assert [taint["key"] for taint in node["spec"]["taints"]] == [
            "node.kubernetes.io/not-ready"
        ]

    kube(scenario)


def test_one_pod_cidr_stands_for_both_fields(kube: Kube) -> None:
    async def scenario(cluster: Cluster) -> None:
        node = await cluster.node("n1", podCIDR="10.244.1.0/24")
        assert node["spec"]["podCIDRs"] == ["10.244.1.0/24"]
        node = await cluster.node("n2", podCIDRs=["10.244.2.0/24", "fd00:1::/64"])
        assert node["spec"]["podCIDR"] == "10.244.2.0/24"

    kube(scenario)


def test_a_pod_cidr_can_be_set_once_and_never_changed(kube: Kube) -> None:
    async def scenario(cluster: Cluster) -> None:
        await cluster.node("n1")
        path = f"{NODES}/n1"
        for content_type in (MERGE, STRATEGIC):
            patch = {"spec": {"podCIDR": "10.244.3.0/24", "podCIDRs": ["10.244.3.0/24"]}}
            await cluster.ok("PATCH", path, patch, content_type=content_type)
            other = {"spec": {"podCIDR": "10.244.4.0/24", "podCIDRs": ["10.244.4.0/24"]}}
            code, status = await cluster.call("PATCH", path, other, content_type=content_type)
            assert (code, status["reason"]) == (422, "Invalid")
            assert "node updates may not change podCIDR" in status["message"]

    kube(scenario)


def test_a_patch_with_an_old_version_is_a_conflict(kube: Kube) -> None:
    async def scenario(cluster: Cluster) -> None:
        old = (await cluster.node("n1"))["metadata"]["resourceVersion"]
        await cluster.annotate("n1", public_ip="192.0.2.1")
        patch = {
            "metadata": {"resourceVersion": old},
            "spec": {"podCIDR": "10.244.3.0/24", "podCIDRs": ["10.244.3.0/24"]},
        }
        code, status = await cluster.call("PATCH", f"{NODES}/n1", patch, content_type=MERGE)
        assert (code, status["reason"]) == (409, "Conflict")
        assert "podCIDR" not in (await cluster.get_node("n1"))["spec"]

    kube(scenario)


def test_a_patch_for_another_uid_is_refused(kube: Kube) -> None:
    async def scenario(cluster: Cluster) -> None:
        old = (await cluster.node("n1"))["metadata"]["uid"]
        await cluster.delete_node("n1")
        await cluster.node("n1")
        patch = {"metadata": {"uid": old, "annotations": {"a.b/c": "d"}}}
        code, status = await cluster.call("PATCH", f"{NODES}/n1", patch, content_type=MERGE)
        assert (code, status["reason"]) == (422, "Invalid")

    kube(scenario)


def test_a_patch_that_changes_nothing_makes_no_new_version(kube: Kube) -> None:
    async def scenario(cluster: Cluster) -> None:
        await cluster.node("n1")
        first = await cluster.annotate("n1", public_ip="192.0.2.1")
        again = await cluster.annotate("n1", public_ip="192.0.2.1")
        assert again["metadata"]["resourceVersion"] == first["metadata"]["resourceVersion"]

    kube(scenario)


def test_conditions_merge_by_type_in_a_strategic_patch(kube: Kube) -> None:
    async def scenario(cluster: Cluster) -> None:
        await cluster.node("n1")
        path = f"{NODES}/n1/status"
        for condition in (
            {"type": "Ready", "status": "False"},
            {"type": "NetworkUnavailable", "status": "True"},
            {"type": "NetworkUnavailable", "status": "False", "reason": "FlannelIsUp"},
        ):
            patch = {"status": {"conditions": [condition]}}
            await cluster.ok("PATCH", path, patch, content_type=STRATEGIC)
        conditions = (await cluster.get_node("n1"))["status"]["conditions"]
        assert {c["type"]: c["status"] for c in conditions} == {
            "Ready": "False",
            "NetworkUnavailable": "False",
        }
        code, _ = await cluster.call(
            "PATCH", path, {"status": {"conditions": [{"status": "x"}]}}, content_type=STRATEGIC
        )
        assert code >= 400

    kube(scenario)


def test_a_status_patch_may_annotate_but_not_touch_spec(kube: Kube) -> None:
    async def scenario(cluster: Cluster) -> None:
        await cluster.node("n1")
        patch = {
            "metadata": {"annotations": {"a.b/c": "d"}},
            "spec": {"podCIDR": "10.244.3.0/24", "podCIDRs": ["10.244.3.0/24"]},
        }
        node = await cluster.ok("PATCH", f"{NODES}/n1/status", patch, content_type=STRATEGIC)
        assert node["metadata"]["annotations"] == {"a.b/c": "d"}
        assert "podCIDR" not in node["spec"]

    kube(scenario)


def test_taints_are_replaced_whole(kube: Kube) -> None:
    async def scenario(cluster: Cluster) -> None:
        await cluster.node("n1", taints=[{"key": "a", "effect": "NoSchedule"}])
        keep = [{"key": "b", "effect": "NoSchedule"}]
        for content_type in (STRATEGIC, MERGE):
            node = await cluster.ok(
                "PATCH", f"{NODES}/n1", {"spec": {"taints": keep}}, content_type=content_type
            )
            assert node["spec"]["taints"] == keep
        node = await cluster.ok(
            "PATCH", f"{NODES}/n1", {"spec": {"taints": None}}, content_type=MERGE
        )
        assert "taints" not in node["spec"]

    kube(scenario)


@pytest.mark.parametrize(
    ("method", "path", "body", "options", "wanted"),
    [
        ("GET", f"{NODES}/none", None, {}, (404, "NotFound")),
        ("DELETE", f"{NODES}/none", None, {}, (404, "NotFound")),
        ("PATCH", f"{NODES}/none", {}, {"content_type": MERGE}, (404, "NotFound")),
        ("PATCH", f"{NODES}/n1", {}, {"content_type": "text/plain"}, (415, "UnsupportedMediaType")),
        ("POST", NODES, {"metadata": {"name": "n1"}}, {}, (409, "AlreadyExists")),
        ("POST", NODES, {"metadata": {"name": "N_1"}}, {}, (422, "Invalid")),
        (
            "PATCH",
            f"{NODES}/n1",
            {"metadata": {"annotations": {"A B": "c"}}},
            {"content_type": MERGE},
            (422, "Invalid"),
        ),
        ("GET", NODES, None, {"token": "wrong"}, (401, "Unauthorized")),
        ("GET", NODES, None, {"token": ""}, (403, "Forbidden")),
    ],
)
def test_refusals_have_a_code_and_a_reason(  # noqa: PLR0917 - one row of the table
    kube: Kube, method: str, path: str, body: Any, options: Json, wanted: tuple[int, str]
) -> None:
    async def scenario(cluster: Cluster) -> None:
        await cluster.node("n1")
        got, status = await cluster.call(method, path, body, **options)
        assert status["kind"] == "Status"
        assert (got, status["reason"]) == wanted

    kube(scenario)


@pytest.mark.parametrize(
    ("method", "path", "verb", "resource"),
    [
        ("GET", NODES, "list", "nodes"),
        ("GET", f"{NODES}/n1", "get", "nodes"),
        ("GET", f"{NODES}?watch=1", "watch", "nodes"),
        ("PATCH", f"{NODES}/n1/status", "patch", "nodes/status"),
        ("GET", "/api/v1/namespaces/default/pods/p", "get", "pods"),
        ("GET", f"{LEASES}/l", "get", "leases"),
    ],
)
def test_a_denial_names_user_verb_and_resource(
    kube: Kube, method: str, path: str, verb: str, resource: str
) -> None:
    async def scenario(cluster: Cluster) -> None:
        token, name = await cluster.user(())
        code, status = await cluster.call(
            method, path, {} if method == "PATCH" else None, token=token, content_type=MERGE
        )
        assert (code, status["reason"]) == (403, "Forbidden")
        assert f'User "{name}" cannot {verb} resource "{resource}"' in status["message"]

    kube(scenario)


def test_rights_are_per_verb_resource_and_name(kube: Kube) -> None:
    async def scenario(cluster: Cluster) -> None:
        await cluster.node("n1")
        await cluster.ok("POST", LEASES, LEASE)
        token, _ = await cluster.user(
            [Rule(("get",), ("nodes",)), Rule(("get",), ("leases",), ("l",))]
        )
        assert (await cluster.call("GET", f"{NODES}/n1", token=token))[0] == 200
        assert (await cluster.call("GET", NODES, token=token))[0] == 403
        assert (await cluster.call("GET", f"{LEASES}/l", token=token))[0] == 200
        assert (await cluster.call("GET", f"{LEASES}/m", token=token))[0] == 403

    kube(scenario)


def test_anybody_may_ask_what_he_may(kube: Kube) -> None:
    async def scenario(cluster: Cluster) -> None:
        token, _ = await cluster.user([Rule(("patch",), ("nodes/status",))])
        review: Json = {
            "apiVersion": "authorization.k8s.io/v1",
            "kind": "SelfSubjectAccessReview",
            "spec": {"resourceAttributes": {"verb": "patch", "group": "", "resource": "nodes"}},
        }
        path = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"
        assert (await cluster.ok("POST", path, review, token=token))["status"]["allowed"] is False
        review["spec"]["resourceAttributes"]["subresource"] = "status"
        assert (await cluster.ok("POST", path, review, token=token))["status"]["allowed"] is True

    kube(scenario)


def test_a_lease_is_updated_only_with_its_present_version(kube: Kube) -> None:
    async def scenario(cluster: Cluster) -> None:
        lease = await cluster.ok("POST", LEASES, LEASE)
        code, status = await cluster.call("POST", LEASES, LEASE)
        assert (code, status["reason"]) == (409, "AlreadyExists")
        lease["spec"]["holderIdentity"] = "b"
        newer = await cluster.ok("PUT", f"{LEASES}/l", lease)
        code, status = await cluster.call("PUT", f"{LEASES}/l", lease)
        assert (code, status["reason"]) == (409, "Conflict")
        del newer["metadata"]["resourceVersion"]
        code, status = await cluster.call("PUT", f"{LEASES}/l", newer)
        assert (code, status["reason"]) == (422, "Invalid")
        newer["metadata"]["resourceVersion"] = "1"
        newer["spec"]["leaseDurationSeconds"] = 0
        code, status = await cluster.call("PUT", f"{LEASES}/l", newer)
        assert code in (409, 422)

    kube(scenario)


def test_an_update_of_what_was_deleted_is_a_conflict(kube: Kube) -> None:
    async def scenario(cluster: Cluster) -> None:
        lease = await cluster.ok("POST", LEASES, LEASE)
        await cluster.ok("DELETE", f"{LEASES}/l")
        code, status = await cluster.call("PUT", f"{LEASES}/l", lease)
        assert (code, status["reason"]) == (409, "Conflict")
        assert (await cluster.call("GET", f"{LEASES}/l"))[0] == 404

    kube(scenario)
