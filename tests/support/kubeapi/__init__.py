"""A Kubernetes API server inside the test process: real HTTP, the semantics that clients rely on.

It answers list, watch, get, create, update, patch and delete for nodes, pods, namespaces and
leases, and SelfSubjectAccessReview, as kube-apiserver does: resourceVersion and optimistic
concurrency, chunked lists that can expire, watches that replay, bookmark and end, 410 Gone after
compaction, strategic merge patch, validation of what we write, RBAC, restart with its data kept.
tests/registry/kubernetes/test_apiserver.py and test_apiserver_watch.py ask a real kube-apiserver
the same where there is one: where the answers differ, this is what is wrong.

    store.py   objects, versions, history       merge.py    the three patch types
    rules.py   validation of writes             rbac.py     who may do what
    lists.py   lists in pages                   faults.py   what a test can break
    server.py  HTTP in front of all of them
"""

from tests.support.kubeapi.server import KubeApi

__all__ = ["KubeApi"]
