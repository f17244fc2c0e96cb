"""What flanneld makes of a subnet file that is there already: ours leaves the same behind."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.cluster import UDPOVERLAYD, Cluster, wait_until

pytestmark = [pytest.mark.root, pytest.mark.etcd, pytest.mark.flanneld]

PATH = "/run/x/subnet.env"
PREPARED = {
    "link to a file": "echo old >/run/x/target; chmod 600 /run/x/target; ln -s target {}",
    "dangling link": "ln -s target {}",
    "file of mode 0600": "touch {}; chmod 600 {}",
    "file of mode 0664": "touch {}; chmod 664 {}",
    "nothing": "umask 077",
}


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    with Cluster("n1") as cluster:
        yield cluster


def left_by(cluster: Cluster, program: list[str], commands: str) -> str:
    """Kind, mode and name of everything in the folder after the program wrote its file."""
    host = cluster.fabric.hosts["n1"]
    script = f"rm -rf /run/x; mkdir /run/x; {commands.format(PATH, PATH)}"
    status, output = host.run(["sh", "-c", script])
    assert status == 0, output
    node = cluster.spawn("n1", f"--subnet-file={PATH}", program=program)
    wait_until(lambda: "FLANNEL_SUBNET" in host.run(["cat", PATH])[1], "the subnet file is written")
    node.process.stop()
    listing = "find /run/x -mindepth 1 -printf '%y %m %f %l\\n' | sort"
    _, output = host.run(["sh", "-c", listing])
    return output


@pytest.mark.parametrize("state", PREPARED)
def test_both_daemons_leave_the_same(cluster: Cluster, state: str) -> None:
    theirs = left_by(cluster, ["flanneld", "--iptables-forward-rules=false"], PREPARED[state])
    ours = left_by(cluster, UDPOVERLAYD, PREPARED[state])
    assert "subnet.env" in ours
    assert ours == theirs
