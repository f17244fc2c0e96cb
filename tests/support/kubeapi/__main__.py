"""The API double as a process of its own, for hosts in namespaces.

python -m tests.support.kubeapi ADDRESS:PORT

Requests without credentials are an administrator's, the token `daemon` has flannel's rights.
"""

from __future__ import annotations

import asyncio
import sys

from tests.support.kubeapi.rbac import ADMIN, ANONYMOUS, DAEMON
from tests.support.kubeapi.server import KubeApi


async def main(listen: str) -> None:
    """Serve until killed."""
    address, _, port = listen.rpartition(":")
    api = KubeApi(address=address, port=int(port))
    api.auth.rules[ANONYMOUS] = ADMIN
    api.auth.rules["daemon"] = DAEMON
    api.auth.tokens["daemon"] = "daemon"
    await api.start()
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
