"""The API client and the registry behind it: odd replies, dead tasks, lost Nodes."""

from __future__ import annotations

from tests.mutants.mutant import Mutant

_AUTH = "udpoverlay/kubernetes/auth.py"
_CODEC = "udpoverlay/kubernetes/codec.py"
_CLIENT = "udpoverlay/kubernetes/client.py"
_NODES = "udpoverlay/kubernetes/nodes.py"
_TRANSPORT = "udpoverlay/kubernetes/transport.py"
_REGISTRY = "udpoverlay/registry/kubernetes/registry.py"
_OWN_NODE = "udpoverlay/registry/kubernetes/own_node.py"
_LEASES = "udpoverlay/registry/kubernetes/node_leases.py"
_ANNOTATIONS = "udpoverlay/registry/kubernetes/annotations.py"

_HOSTILE = "tests/registry/kubernetes/test_hostile.py"
_NOT_TOLD = "::test_hostile_replies_end_no_task_and_cost_no_route"

MUTANTS = (
    Mutant(
        name="null-list-is-empty",
        bug="a list whose items are null deletes every route",
        file=_CODEC,
        old='        raise KubeUndecodable(f"{what}: items is missing or null")',
        new="        found.items = []",
        tests=(f"{_HOSTILE}{_NOT_TOLD}[null items]",),
    ),
    Mutant(
        name="deep-json-is-fatal",
        bug="a deeply nested reply ends the work that follows Nodes with a RecursionError",
        file=_CODEC,
        old="except (ValueError, RecursionError, OverflowError) as error:",
        new="except (ValueError, OverflowError) as error:",
        tests=(f"{_HOSTILE}{_NOT_TOLD}[deep]",),
    ),
    Mutant(
        name="odd-http-is-unforeseen",
        bug="an answer that aiohttp cannot read is an error that nobody foresaw",
        file=_TRANSPORT,
        old="            except Exception as error:\n"
        '                self._counters["request_failures"] += 1\n'
        "                raise connection_error(error, self.access.server) from error\n"
        "            if 200",
        new="            except OSError as error:\n"
        '                self._counters["request_failures"] += 1\n'
        "                raise connection_error(error, self.access.server) from error\n"
        "            if 200",
        tests=(f"{_HOSTILE}{_NOT_TOLD}[no HTTP]",),
    ),
    Mutant(
        name="token-file-not-text",
        bug="a token file that is no text for a moment ends the work that follows Nodes",
        file=_AUTH,
        old="        except UnicodeDecodeError:",
        new="        except ZeroDivisionError:",
        tests=("tests/kubernetes/test_kubeconfig.py",),
    ),
    Mutant(
        name="nodes-task-unowned",
        bug="the task that follows Nodes dies without a word, and routes go stale for good",
        file=_REGISTRY,
        old='self._supervisor.start("kube-nodes", self._feed.run)',
        new="self._task = asyncio.ensure_future(self._feed.run())",
        tests=(f"{_HOSTILE}::test_an_unforeseen_error_in_following_nodes_is_survived",),
    ),
    Mutant(
        name="own-node-task-unowned",
        bug="the task that keeps our Node annotated dies without a word",
        file=_REGISTRY,
        old='self._supervisor.start("kube-own-node", self._own.keep)',
        new="self._task = asyncio.ensure_future(self._own.keep())",
        tests=(f"{_HOSTILE}::test_an_unforeseen_error_in_keeping_our_node_is_survived",),
    ),
    Mutant(
        name="half-a-change-is-kept",
        bug="after an unforeseen error a change that was half taken in is never seen",
        file=_NODES,
        old='                self.revision = ""\n                raise',
        new="                raise",
        tests=(f"{_HOSTILE}::test_an_unforeseen_error_in_following_nodes_is_survived",),
    ),
    Mutant(
        name="untold-leases",
        bug="after an unforeseen error in the difference of leases some are never told",
        file=_REGISTRY,
        old="                    follower.start_over(news.lost_history)\n",
        new="",
        tests=(f"{_HOSTILE}::test_an_unforeseen_error_in_telling_leases_is_survived",),
    ),
    Mutant(
        name="one-node-hides-all",
        bug="one Node that cannot be read hides the changes of all others",
        file=_LEASES,
        old="        except Exception as error:",
        new="        except NotALease as error:",
        tests=(f"{_HOSTILE}::test_an_unforeseen_error_in_reading_leases_is_survived",),
    ),
    Mutant(
        name="damaged-node-loses-peer",
        bug="a Node that a list shows damaged loses its route",
        file=_NODES,
        old="                    if (known := self._known(odd)) is not None:",
        new="                    if (known := self._known(odd)) is None:",
        tests=(f"{_HOSTILE}::test_a_damaged_node_in_a_list_loses_no_peer",),
    ),
    Mutant(
        name="anchored-for-ever",
        bug="an event that does not decode is replayed for ever, and no list follows",
        file=_NODES,
        old="if self._refused > 1 and self.revision:",
        new="if self._refused > 1000 and self.revision:",
        tests=(f"{_HOSTILE}::test_an_event_that_never_decodes_is_passed_by_a_list",),
    ),
    Mutant(
        name="empty-watch-is-fine",
        bug="a watch that ends at once without an event counts as one that works",
        file=_NODES,
        old="        if self._events == before:\n",
        new="        if before < 0:\n",
        tests=(f"{_HOSTILE}::test_lists_and_watches_make_up_for_each_other[watch-empty]",),
    ),
    Mutant(
        name="watch-without-back-off",
        bug="an API server that refuses is asked without a pause",
        file=_NODES,
        old="await clock.sleep(backoff.next(timing.denied_retry if denied else None))",
        new="await clock.sleep(0)",
        tests=("tests/kubernetes/test_nodes.py",),
    ),
    Mutant(
        name="bomb-in-one-piece",
        bug="a gzip bomb is decompressed whole before its size is looked at",
        file=_TRANSPORT,
        old="inflate.decompress(chunk, _PIECE)",
        new="inflate.decompress(chunk)",
        tests=(f"{_HOSTILE}::test_a_reply_costs_no_more_memory_than_a_page_may",),
    ),
    Mutant(
        name="large-page-never-read",
        bug="a cluster whose page is over the limit is never listed",
        file=_CLIENT,
        old="                limit = max(1, limit // 2)\n                continue\n",
        new="                raise\n",
        tests=(f"{_HOSTILE}::test_a_page_that_is_too_large_is_asked_for_in_smaller_ones",),
    ),
    Mutant(
        name="ipv6-lines-missing",
        bug="in dual stack subnet.env lacks the IPv6 lines, and pods get no IPv6 address",
        file=_ANNOTATIONS,
        old="v6 if self.v6_range else None)",
        new="v6 if self.v6 else None)",
        tests=(
            "tests/registry/kubernetes/test_watch.py::"
            "test_udp_peers_are_seen_with_ipv6_enabled_too[double]",
        ),
    ),
    Mutant(
        name="condition-forgotten",
        bug="a condition NetworkUnavailable that could not be set is never set",
        file=_OWN_NODE,
        old="            await self._say_network_works()\n            view =",
        new="            view =",
        tests=(
            "tests/registry/kubernetes/test_watch.py::"
            "test_a_condition_that_could_not_be_set_is_set_later",
        ),
    ),
)
