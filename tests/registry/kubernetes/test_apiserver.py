"""What clients rely on, asked of the API double and of a real kube-apiserver alike.

Where the answers differ, tests/support/kubeapi is wrong.
"""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.kubeapi.rbac import Rule
from tests.support.kubecluster import MERGE, NODES, STRATEGIC, Kube
from tests.support.kubewatch import Json

LEASES = "/apis/coordination.k8s.io/v1/namespaces/default/leases"
LEASE = {"metadata": {"name": "l"}, "spec": {"holderIdentity": "a", "leaseDurationSeconds": 15}}


async def test_a_new_node_is_answered_with_its_version_uid_and_the_not_ready_taint(
    kube: Kube,
) -> None:
    node = await kube.node("n1", "10.244.1.0/24")
    assert node["kind"] == "Node"
    assert node["metadata"]["uid"]
    assert node["metadata"]["resourceVersion"].isdecimal()
    assert node["spec"]["podCIDR"] == "10.244.1.0/24"
    assert node["spec"]["podCIDRs"] == ["10.244.1.0/24"]
    assert [taint["key"] for taint in node["spec"]["taints"]] == ["node.kubernetes.io/not-ready"]


async def test_one_pod_cidr_stands_for_both_fields(kube: Kube) -> None:
    node = await kube.node("n1", podCIDR="10.244.1.0/24")
    assert node["spec"]["podCIDRs"] == ["10.244.1.0/24"]
    node = await kube.node("n2", podCIDRs=["10.244.2.0/24", "fd00:1::/64"])
    assert node["spec"]["podCIDR"] == "10.244.2.0/24"


async def test_a_pod_cidr_can_be_set_once_and_never_changed(kube: Kube) -> None:
    await kube.node("n1")
    path = f"{NODES}/n1"
    for content_type in (MERGE, STRATEGIC):
        patch = {"spec": {"podCIDR": "10.244.3.0/24", "podCIDRs": ["10.244.3.0/24"]}}
        await kube.ok("PATCH", path, patch, content_type=content_type)
        other = {"spec": {"podCIDR": "10.244.4.0/24", "podCIDRs": ["10.244.4.0/24"]}}
        code, status = await kube.call("PATCH", path, other, content_type=content_type)
        assert (code, status["reason"]) == (422, "Invalid")
        assert "node updates may not change podCIDR" in status["message"]


async def test_a_patch_with_an_old_version_is_a_conflict(kube: Kube) -> None:
    old = (await kube.node("n1"))["metadata"]["resourceVersion"]
    await kube.annotate("n1", public_ip="192.0.2.1")
    patch = {
        "metadata": {"resourceVersion": old},
        "spec": {"podCIDR": "10.244.3.0/24", "podCIDRs": ["10.244.3.0/24"]},
    }
    code, status = await kube.call("PATCH", f"{NODES}/n1", patch, content_type=MERGE)
    assert (code, status["reason"]) == (409, "Conflict")
    assert "podCIDR" not in (await kube.get_node("n1"))["spec"]


async def test_a_patch_for_another_uid_is_refused(kube: Kube) -> None:
    old = (await kube.node("n1"))["metadata"]["uid"]
    await kube.delete_node("n1")
    await kube.node("n1")
    patch = {"metadata": {"uid": old, "annotations": {"a.b/c": "d"}}}
    code, status = await kube.call("PATCH", f"{NODES}/n1", patch, content_type=MERGE)
    assert (code, status["reason"]) == (422, "Invalid")


async def test_a_patch_that_changes_nothing_makes_no_new_version(kube: Kube) -> None:
    await kube.node("n1")
    first = await kube.annotate("n1", public_ip="192.0.2.1")
    again = await kube.annotate("n1", public_ip="192.0.2.1")
    assert again["metadata"]["resourceVersion"] == first["metadata"]["resourceVersion"]


async def test_conditions_merge_by_type_in_a_strategic_patch(kube: Kube) -> None:
    await kube.node("n1")
    path = f"{NODES}/n1/status"
    for condition in (
        {"type": "Ready", "status": "False"},
        {"type": "NetworkUnavailable", "status": "True"},
        {"type": "NetworkUnavailable", "status": "False", "reason": "FlannelIsUp"},
    ):
        patch = {"status": {"conditions": [condition]}}
        await kube.ok("PATCH", path, patch, content_type=STRATEGIC)
    conditions = (await kube.get_node("n1"))["status"]["conditions"]
    assert {c["type"]: c["status"] for c in conditions} == {
        "Ready": "False",
        "NetworkUnavailable": "False",
    }
    code, _ = await kube.call(
        "PATCH", path, {"status": {"conditions": [{"status": "x"}]}}, content_type=STRATEGIC
    )
    assert code >= 400


async def test_a_status_patch_may_annotate_but_not_touch_spec(kube: Kube) -> None:
    await kube.node("n1")
    patch = {
        "metadata": {"annotations": {"a.b/c": "d"}},
        "spec": {"podCIDR": "10.244.3.0/24", "podCIDRs": ["10.244.3.0/24"]},
    }
    node = await kube.ok("PATCH", f"{NODES}/n1/status", patch, content_type=STRATEGIC)
    assert node["metadata"]["annotations"] == {"a.b/c": "d"}
    assert "podCIDR" not in node["spec"]


async def test_taints_are_replaced_whole(kube: Kube) -> None:
    await kube.node("n1", taints=[{"key": "a", "effect": "NoSchedule"}])
    keep = [{"key": "b", "effect": "NoSchedule"}]
    for content_type in (STRATEGIC, MERGE):
        node = await kube.ok(
            "PATCH", f"{NODES}/n1", {"spec": {"taints": keep}}, content_type=content_type
        )
        assert node["spec"]["taints"] == keep
    node = await kube.ok("PATCH", f"{NODES}/n1", {"spec": {"taints": None}}, content_type=MERGE)
    assert "taints" not in node["spec"]


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
async def test_refusals_have_a_code_and_a_reason(  # noqa: PLR0917 - one row of the table
    kube: Kube, method: str, path: str, body: Any, options: Json, wanted: tuple[int, str]
) -> None:
    await kube.node("n1")
    got, status = await kube.call(method, path, body, **options)
    assert status["kind"] == "Status"
    assert (got, status["reason"]) == wanted


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
async def test_a_denial_names_user_verb_and_resource(
    kube: Kube, method: str, path: str, verb: str, resource: str
) -> None:
    token, name = await kube.user(())
    code, status = await kube.call(
        method, path, {} if method == "PATCH" else None, token=token, content_type=MERGE
    )
    assert (code, status["reason"]) == (403, "Forbidden")
    assert f'User "{name}" cannot {verb} resource "{resource}"' in status["message"]


async def test_rights_are_per_verb_resource_and_name(kube: Kube) -> None:
    await kube.node("n1")
    await kube.ok("POST", LEASES, LEASE)
    token, _ = await kube.user([Rule(("get",), ("nodes",)), Rule(("get",), ("leases",), ("l",))])
    assert (await kube.call("GET", f"{NODES}/n1", token=token))[0] == 200
    assert (await kube.call("GET", NODES, token=token))[0] == 403
    assert (await kube.call("GET", f"{LEASES}/l", token=token))[0] == 200
    assert (await kube.call("GET", f"{LEASES}/m", token=token))[0] == 403


async def test_anybody_may_ask_what_he_may(kube: Kube) -> None:
    token, _ = await kube.user([Rule(("patch",), ("nodes/status",))])
    review: Json = {
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SelfSubjectAccessReview",
        "spec": {"resourceAttributes": {"verb": "patch", "group": "", "resource": "nodes"}},
    }
    path = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"
    assert (await kube.ok("POST", path, review, token=token))["status"]["allowed"] is False
    review["spec"]["resourceAttributes"]["subresource"] = "status"
    assert (await kube.ok("POST", path, review, token=token))["status"]["allowed"] is True


async def test_a_lease_is_updated_only_with_its_present_version(kube: Kube) -> None:
    lease = await kube.ok("POST", LEASES, LEASE)
    code, status = await kube.call("POST", LEASES, LEASE)
    assert (code, status["reason"]) == (409, "AlreadyExists")
    lease["spec"]["holderIdentity"] = "b"
    newer = await kube.ok("PUT", f"{LEASES}/l", lease)
    code, status = await kube.call("PUT", f"{LEASES}/l", lease)
    assert (code, status["reason"]) == (409, "Conflict")
    del newer["metadata"]["resourceVersion"]
    code, status = await kube.call("PUT", f"{LEASES}/l", newer)
    assert (code, status["reason"]) == (422, "Invalid")
    newer["metadata"]["resourceVersion"] = "1"
    newer["spec"]["leaseDurationSeconds"] = 0
    code, status = await kube.call("PUT", f"{LEASES}/l", newer)
    assert code in (409, 422)


async def test_an_update_of_what_was_deleted_is_a_conflict(kube: Kube) -> None:
    lease = await kube.ok("POST", LEASES, LEASE)
    await kube.ok("DELETE", f"{LEASES}/l")
    code, status = await kube.call("PUT", f"{LEASES}/l", lease)
    assert (code, status["reason"]) == (409, "Conflict")
    assert (await kube.call("GET", f"{LEASES}/l"))[0] == 404
