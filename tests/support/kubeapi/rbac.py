"""Who may do what: the part of RBAC that a client can feel."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from tests.support.kubeapi.status import ApiError

GROUPS = {
    "leases": "coordination.k8s.io",
    "selfsubjectaccessreviews": "authorization.k8s.io",
}
ANONYMOUS = "system:anonymous"


@dataclass(frozen=True)
class Rule:
    """One line of a role; resources may be `nodes/status`, names and namespaces () for all."""

    verbs: Sequence[str]
    resources: Sequence[str]
    names: Sequence[str] = ()
    namespaces: Sequence[str] = ()

    def covers(self, verb: str, resource: str, name: str, namespace: str) -> bool:
        return (
            (verb in self.verbs or "*" in self.verbs)
            and (resource in self.resources or "*" in self.resources)
            and (not self.names or name in self.names)
            and (not self.namespaces or namespace in self.namespaces)
        )


ADMIN = (Rule(("*",), ("*",)),)

DAEMON = (
    Rule(("get",), ("pods",)),
    Rule(("get", "list", "watch"), ("nodes",)),
    Rule(("patch",), ("nodes/status",)),
)
"""flannel's ClusterRole (Documentation/kube-flannel.yml)."""


@dataclass
class Authorizer:
    """Tokens, users and their rules; all may be changed while the server runs."""

    tokens: dict[str, str] = field(default_factory=dict)
    basic: dict[str, str] = field(default_factory=dict)
    """user:password → user."""
    rules: dict[str, Sequence[Rule]] = field(default_factory=dict)

    def allowed(self, user: str, verb: str, resource: str, name: str, namespace: str) -> bool:
        if resource == "selfsubjectaccessreviews":
            return user != ANONYMOUS
        return any(
            rule.covers(verb, resource, name, namespace) for rule in self.rules.get(user, ())
        )

    def check(self, user: str, verb: str, resource: str, name: str, namespace: str) -> None:
        if self.allowed(user, verb, resource, name, namespace):
            return
        plain = resource.partition("/")[0]
        where = f'in the namespace "{namespace}"' if namespace else "at the cluster scope"
        what = f'{plain} "{name}"' if name else plain
        group = GROUPS.get(plain, "")
        raise ApiError(
            403,
            f"{what if not group else what.replace(plain, f'{plain}.{group}', 1)} is forbidden: "
            f'User "{user}" cannot {verb} resource "{resource}" in API group "{group}" {where}',
            details={"name": name, "kind": plain},
        )
