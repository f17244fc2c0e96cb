"""The API client, the cache of Nodes, and Nodes as leases."""

from __future__ import annotations

from tests.mutants.mutant import Mutant

_ANNOTATIONS = "udpoverlay/registry/kubernetes/annotations.py"
_AUTH = "udpoverlay/kubernetes/auth.py"
_CIDR_SET = "udpoverlay/kubernetes/cidr_set.py"
_CLIENT = "udpoverlay/kubernetes/client.py"
_CODEC = "udpoverlay/kubernetes/codec.py"
_NODE = "udpoverlay/kubernetes/node.py"
_NODES = "udpoverlay/kubernetes/nodes.py"
_NODE_LEASES = "udpoverlay/registry/kubernetes/node_leases.py"
_OWN_NODE = "udpoverlay/registry/kubernetes/own_node.py"
_REGISTRY = "udpoverlay/registry/kubernetes/registry.py"


MUTANTS = (
    Mutant(
        name="only-first-page-of-nodes",
        bug="in a cluster of 300 Nodes every host knows 250 peers",
        file=_CLIENT,
        old="            if not page.next:\n                return\n",
        new="            return\n",
        tests=("tests/kubernetes/test_nodes.py::test_a_list_comes_in_pages",),
    ),
    Mutant(
        name="gone-version-kept",
        bug="after a long outage a host asks for a compacted version for ever",
        file=_NODES,
        old='                self.revision = ""\n            except RegistryError',
        new="            except RegistryError",
        tests=(
            "tests/registry/kubernetes/test_watch.py::test_forgotten_history_is_answered_with_a_fresh_snapshot",
        ),
    ),
    Mutant(
        name="bookmark-ignored",
        bug="a quiet cluster is listed again every few minutes by every host",
        file=_NODES,
        old="        self.revision = event.revision\n",
        new='        if event.kind != "BOOKMARK":\n            self.revision = event.revision\n',
        tests=("tests/kubernetes/test_nodes.py::test_a_bookmark_moves_the_place_to_resume_from",),
    ),
    Mutant(
        name="deleted-node-keeps-its-route",
        bug="packets for a deleted Node are sent into the void until the next list",
        file=_NODES,
        old="            del self.nodes[gone.name]\n            self._tell(gone.name)\n",
        new="            del self.nodes[gone.name]\n",
        tests=(
            "tests/registry/kubernetes/test_watch.py::test_nodes_are_told_as_leases",
            "tests/registry/kubernetes/test_watch.py::test_a_node_made_anew_with_another_pod_cidr_moves",
        ),
    ),
    Mutant(
        name="kube-watch-without-back-off",
        bug="an API server that is away is asked five times a second by every host",
        file=_NODES,
        old="await clock.sleep(backoff.next(timing.denied_retry if denied else None))",
        new="await clock.sleep(timing.first_retry)",
        tests=("tests/kubernetes/test_nodes_listing.py",),
    ),
    Mutant(
        name="damaged-node-loses-its-route",
        bug="one Node that cannot be read in a listing loses its route on every host",
        file=_NODES,
        old="        return known if known is not None and known.uid == odd.uid else None\n",
        new="        return None\n",
        tests=("tests/kubernetes/test_nodes_listing.py",),
    ),
    Mutant(
        name="restored-api-server-not-noticed",
        bug="after a restore of the API server's database a host watches the future in silence",
        file=_NODES,
        old="        if 0 < _number(now) < seen:\n",
        new="        if 0 < _number(now) < 0:\n",
        tests=(
            "tests/kubernetes/test_nodes.py::test_a_server_restored_from_an_older_copy_is_noticed",
        ),
    ),
    Mutant(
        name="heartbeats-are-news",
        bug="each kubelet's heartbeat wakes up every host",
        file=_NODES,
        old="            if was_unreadable or not view.same_facts(before):\n",
        new="            if True:\n",
        tests=("tests/kubernetes/test_nodes.py::test_a_kubelets_heartbeat_is_no_news",),
    ),
    Mutant(
        name="pod-cidr-change-not-seen",
        bug="a Node that gets its podCIDR after it registered never gets a route",
        file=_NODE,
        old="            and self.pod_cidr == other.pod_cidr\n"
        "            and self.pod_cidrs == other.pod_cidrs\n",
        new="",
        tests=("tests/kubernetes/test_nodes_listing.py",),
    ),
    Mutant(
        name="rotated-token-not-read",
        bug="an hour after start every request is refused: the token was rotated on disk",
        file=_AUTH,
        old="        if self._clock() - self._read_at >= TOKEN_REREAD:\n            self._read()\n",
        new="",
        tests=("tests/kubernetes/test_kubeconfig.py",),
    ),
    Mutant(
        name="refused-token-not-read-again",
        bug="a token revoked early stays in use for up to a minute",
        file="udpoverlay/kubernetes/transport.py",
        old="if response.status == 401 and attempt == 1 and self.access.credentials.refused():",
        new="if response.status == 401 and attempt == 3 and self.access.credentials.refused():",
        tests=("tests/kubernetes/test_kubeconfig.py",),
    ),
    Mutant(
        name="foreign-range-not-kept-clear",
        bug="a Node gets a range inside one that an administrator gave by hand",
        file=_CIDR_SET,
        old="        return range((low - base) >> shift, ((high - base) >> shift) + 1)\n",
        new="        return range((low - base) >> shift, ((low - base) >> shift) + 1)\n",
        tests=("tests/kubernetes/test_cidr_set.py",),
    ),
    Mutant(
        name="freed-range-given-at-once",
        bug="a new Node gets the range of one just deleted: old packets reach new pods",
        file=_CIDR_SET,
        old="        self._next = [(s + 1) % pool.slots for pool, s in"
        " zip(self.pools, slots, strict=True)]\n",
        new="",
        tests=("tests/kubernetes/test_cidr_set.py",),
    ),
    Mutant(
        name="unmanaged-node-is-a-peer",
        bug="a Node without the kube-subnet-manager annotation gets a route",
        file=_ANNOTATIONS,
        old="    if said.get(names.kube_subnet_manager) != MANAGED:\n        return None\n",
        new="",
        tests=("tests/registry/kubernetes/test_annotations.py",),
    ),
    Mutant(
        name="public-ip-overwrite-ignored",
        bug="the annotation public-ip-overwrite has no effect: peers send to the private address",
        file=_ANNOTATIONS,
        old="    if not text:\n        return address\n",
        new="    if text:\n        return address\n    return address\n",
        tests=("tests/registry/kubernetes/test_annotations.py",),
    ),
    Mutant(
        name="typo-takes-a-peer-down",
        bug="a typo in a Node's public-ip annotation cuts its working pods off",
        file=_NODE_LEASES,
        old="            return known[1] if known is not None and known[0] == view.uid else None\n",
        new="            return None\n",
        tests=("tests/registry/kubernetes/test_node_leases.py",),
    ),
    Mutant(
        name="recreated-node-keeps-old-lease",
        bug="a recreated Node that cannot be read yet keeps its predecessor's route",
        file=_NODE_LEASES,
        old="known is not None and known[0] == view.uid else None",
        new="known is not None else None",
        tests=("tests/registry/kubernetes/test_node_leases.py",),
    ),
    Mutant(
        name="second-claim-wins",
        bug="a Node that copies another's podCIDR takes its traffic",
        file=_NODE_LEASES,
        old="        return self._leases[min(claims)][1] if claims else None\n",
        new="        return self._leases[max(claims)][1] if claims else None\n",
        tests=(
            "tests/registry/kubernetes/test_watch.py::test_of_two_nodes_with_one_range_the_first_is_believed_until_it_goes",
        ),
    ),
    Mutant(
        name="annotations-written-without-need",
        bug="each restart writes the Node although nothing changed: a storm after an upgrade",
        file=_ANNOTATIONS,
        old='    if all(node.annotations.get(name, "") == value for name, value in'
        " wanted.items()):\n        return {}\n    return {name: value for name, value in"
        " wanted.items() if node.annotations.get(name) != value}\n",
        new="    return wanted\n",
        tests=(
            "tests/registry/kubernetes/test_annotations.py",
            "tests/registry/kubernetes/test_registry.py",
        ),
    ),
    Mutant(
        name="condition-not-tried-again",
        bug="after one failed write the Node stays NetworkUnavailable and gets no pods",
        file=_OWN_NODE,
        old="            self._condition_due = True\n            await self._say_network_works()\n",
        new="            await self._say_network_works()\n",
        tests=(
            "tests/registry/kubernetes/test_watch.py::test_a_condition_that_could_not_be_set_is_set_later",
        ),
    ),
    Mutant(
        name="other-pod-cidr-not-noticed",
        bug="a recreated Node with another podCIDR: the daemon serves the old one in silence",
        file=_OWN_NODE,
        old="            return self.subnet(view) == lease.subnet\n",
        new="            return bool(self.subnet(view))\n",
        tests=(
            "tests/registry/kubernetes/test_watch.py::test_our_node_made_anew_with_another_pod_cidr_is_an_error_in_the_log",
        ),
    ),
    Mutant(
        name="follower-of-nodes-dies",
        bug="one unforeseen exception ends the task that follows Nodes: routes go stale for good",
        file="udpoverlay/supervisor.py",
        old="            error = await _end_of(work())\n"
        "            await self._clock.sleep(self.failed(name, error))\n",
        new="            await _end_of(work())\n            return\n",
        tests=(
            "tests/registry/kubernetes/test_hostile.py::test_an_unforeseen_error_in_following_nodes_is_survived",
            "tests/test_supervisor.py",
        ),
    ),
    Mutant(
        name="nodes-not-listed-after-a-failure",
        bug="an exception between two halves of a change leaves that Node's route stale",
        file=_NODES,
        old='                self.revision = ""\n                raise\n',
        new="                raise\n",
        tests=(
            "tests/registry/kubernetes/test_hostile.py::test_an_unforeseen_error_in_following_nodes_is_survived",
        ),
    ),
    Mutant(
        name="token-file-that-is-no-text",
        bug="a token file that is not UTF-8 for a moment ends the task that follows Nodes",
        file=_AUTH,
        old="        except UnicodeDecodeError:\n"
        '            raise _NoToken("it is not ASCII text") from None\n',
        new="",
        tests=("tests/kubernetes/test_kubeconfig.py",),
    ),
    Mutant(
        name="deep-json-is-unforeseen",
        bug="deep JSON of an API server ends the task that asked",
        file=_CODEC,
        old="    except (ValueError, RecursionError, OverflowError) as error:\n",
        new="    except (ValueError, OverflowError) as error:\n",
        tests=("tests/kubernetes/test_codec.py", "tests/registry/kubernetes/test_hostile.py"),
    ),
    Mutant(
        name="list-of-nothing-believed",
        bug="a reply of {} instead of a list of Nodes withdraws every route",
        file=_CODEC,
        old='    if found.kind != "NodeList":\n',
        new="    if False:\n",
        tests=("tests/kubernetes/test_codec.py",),
    ),
    Mutant(
        name="page-of-any-length",
        bug="a gzip bomb of an API server takes all memory",
        file="udpoverlay/kubernetes/transport.py",
        old="                if len(body) > most:\n",
        new="                if False:\n",
        tests=(
            "tests/registry/kubernetes/test_hostile.py::test_a_reply_costs_no_more_memory_than_a_page_may",
        ),
    ),
    Mutant(
        name="event-of-any-length",
        bug="an event without an end takes all memory",
        file="udpoverlay/kubernetes/transport.py",
        old="                if len(rest) > _MAX_LINE:\n",
        new="                if False:\n",
        tests=("tests/kubernetes/test_nodes.py::test_an_event_without_an_end_is_given_up",),
    ),
    Mutant(
        name="no-ipv6-in-the-subnet-file",
        bug="a dual-stack Node's CNI gets no IPv6 range: flanneld's subnet.env has one",
        file="udpoverlay/model/subnetenv.py",
        old="    if conf.enable_ipv6 and subnet.v6 is not None:\n",
        new="    if False:\n",
        tests=("tests/model/test_subnetenv.py",),
    ),
    Mutant(
        name="no-ipv6-range-with-udp",
        bug="a dual-stack Node's IPv6 podCIDR is left out because the backend carries IPv4 alone",
        file=_ANNOTATIONS,
        old="        return Subnet(v4 if self.v4 else None, v6 if self.v6_range else None)\n",
        new="        return Subnet(v4 if self.v4 else None, v6 if self.v6 else None)\n",
        tests=(
            "tests/registry/kubernetes/test_registry.py::test_a_dual_stack_nodes_subnet_file_has_both_families",
        ),
    ),
)
