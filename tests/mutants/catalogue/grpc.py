"""gRPC to etcd: connections, messages, odd replies, users, members that freeze."""

from __future__ import annotations

from tests.mutants.mutant import Mutant

_CHANNEL = "udpoverlay/registry/etcd/channel.py"
_GRPC = "udpoverlay/registry/etcd/grpc.py"
_CLIENT = "udpoverlay/registry/etcd/client.py"
_ERRORS = "udpoverlay/registry/etcd/errors.py"
_LISTING = "udpoverlay/registry/etcd/listing.py"
_MESSAGES = "udpoverlay/registry/etcd/messages.py"
_REGISTRY = "udpoverlay/registry/etcd/registry.py"
_STREAM = "udpoverlay/registry/etcd/stream.py"
_TLS = "udpoverlay/registry/etcd/tls.py"
_WATCH = "udpoverlay/registry/etcd/watch.py"
_WIRE = "udpoverlay/registry/etcd/wire.py"

_ODD = "tests/registry/etcd/test_odd_replies.py"
_FAULTS = "tests/registry/etcd/test_faults.py"


MUTANTS = (
    Mutant(
        name="token-not-sent",
        bug="an etcd with users takes the certificate's name instead of the user name given",
        file=_CLIENT,
        old='            metadata["token"] = self._token\n',
        new="            pass\n",
        tests=(
            "tests/registry/etcd/test_secured.py::test_users_and_a_certificate_that_names_nobody_known",
        ),
    ),
    Mutant(
        name="client-certificate-not-shown",
        bug="an etcd whose users are named by their certificates refuses the daemon",
        file=_TLS,
        old="        context.load_cert_chain(certfile, keyfile, password=refuse_prompt)\n",
        new="        pass\n",
        tests=(
            "tests/registry/etcd/test_secured.py::test_users_by_their_certificate_alone",
            "tests/registry/etcd/test_secured.py::test_a_server_certificate_for_servers_alone",
        ),
    ),
    Mutant(
        name="token-for-each-request",
        bug="a password is checked (bcrypt, 0.1 s of etcd's CPU) for each request",
        file=_CLIENT,
        old="        if self._config.username and self._token is None:\n",
        new="        if self._config.username:\n",
        tests=(
            "tests/registry/etcd/test_client_auth.py::test_a_user_name_where_authentication_is_off_is_harmless",
        ),
    ),
    Mutant(
        name="no-fail-over",
        bug="with one of three endpoints down the daemon waits for that one",
        file=_CLIENT,
        old="            except TRY_ELSEWHERE as error:\n                failures.append(error)\n",
        new="            except TRY_ELSEWHERE as error:\n                failures.append(error)\n"
        "                raise\n",
        tests=("tests/registry/etcd/test_client.py",),
    ),
    Mutant(
        name="second-read-instead-of-progress",
        bug="each host asks etcd for all its leases every five seconds of silence",
        file=_WATCH,
        old="            for _ in range(2):  # etcd",
        new="            for _ in range(0):  # etcd",
        tests=(f"{_FAULTS}::test_a_quiet_watch_is_left_alone",),
    ),
    Mutant(
        name="aiohttp-with-etcd",
        bug="every host with etcd holds 11 MB of a library that only Kubernetes needs",
        file=_CLIENT,
        old="import contextlib\nimport ssl\n",
        new="import contextlib\nimport ssl\nimport aiohttp\n",
        tests=("tests/daemon/test_imports.py",),
    ),
    Mutant(
        name="errors-from-english",
        bug="another version of etcd words its errors differently: a refusal is not known any more",
        file=_ERRORS,
        old="    kind, what, fix = _MEANING.get(code, (RegistryUnavailable, "
        '"cannot answer", ""))\n',
        new="    kind, what, fix = _MEANING.get(code, (RegistryUnavailable, "
        '"cannot answer", ""))\n'
        '    kind = EtcdTokenRefused if "auth token" in message else kind\n',
        tests=("tests/registry/etcd/test_errors.py",),
    ),
    Mutant(
        name="frozen-member-kept",
        bug="a member stopped by SIGSTOP is asked for ever: no change of any lease is seen",
        file=_WATCH,
        old="            if stream.heard != heard or await self._is_alive(stream):\n",
        new="            if stream.heard != heard or stream.heard:\n",
        tests=(f"{_FAULTS}::test_a_frozen_member_costs_seconds",),
    ),
    Mutant(
        name="frozen-member-asked-first",
        bug="a watch is opened again on the member that just fell silent",
        file=_CLIENT,
        old="        if self.endpoint == endpoint:\n",
        new="        if False:\n",
        tests=(
            "tests/registry/etcd/test_client.py",
            f"{_FAULTS}::test_a_frozen_member_costs_seconds",
        ),
    ),
    Mutant(
        name="mute-connection-kept",
        bug="a request that gets no answer leaves the watch on the same dead connection",
        file=_CHANNEL,
        old="                self.abort()\n            raise self._translated(error) from error\n",
        new="                pass\n            raise self._translated(error) from error\n",
        tests=("tests/registry/etcd/test_client.py",),
    ),
    Mutant(
        name="odd-bytes-end-the-loop",
        bug="bytes that h2 does not expect leave a connection that neither works nor ends",
        file=_GRPC,
        old="        except Exception as error:  # what h2 and grpclib did not foresee\n"
        "            self.give_up(error)\n",
        new="        except ZeroDivisionError as error:\n            self.give_up(error)\n",
        tests=(f"{_ODD}::test_an_odd_reply_to_any_request_is_a_value_or_one_error",),
    ),
    Mutant(
        name="reply-of-any-length",
        bug="a reply of 4 GB is read into memory",
        file=_GRPC,
        old="            if length > self._most:\n",
        new="            if False:\n",
        tests=(
            "tests/registry/etcd/test_hostile.py::test_190_mb_of_junk_cost_neither_memory_nor_the_start",
        ),
    ),
    Mutant(
        name="answers-pile-up",
        bug="a peer that pings without end and reads nothing takes all memory",
        file=_GRPC,
        old="        if self._transport.get_write_buffer_size() > _MOST_UNSENT:\n",
        new="        if False:\n",
        tests=("tests/registry/etcd/test_channel_bounds.py",),
    ),
    Mutant(
        name="messages-pile-up",
        bug="a watch whose reader is busy takes in messages without end",
        file=_CHANNEL,
        old="                    while self._waiting > _MOST_WAITING:\n",
        new="                    while False:\n",
        tests=("tests/registry/etcd/test_channel_bounds.py",),
    ),
    Mutant(
        name="message-cut-off-is-an-index-error",
        bug="a message that ends too early is an internal error: the daemon ends",
        file=_WIRE,
        old="    except IndexError:\n        at = end + 1\n",
        new="    except ZeroDivisionError:\n        at = end + 1\n",
        tests=("tests/registry/etcd/test_fuzz.py", "tests/registry/etcd/test_messages.py"),
    ),
    Mutant(
        name="number-without-end",
        bug="a number of a million bytes is computed for minutes",
        file=_WIRE,
        old="        if shift >= _LONGEST_VARINT:\n",
        new="        if False:\n",
        tests=("tests/registry/etcd/test_messages.py",),
    ),
    Mutant(
        name="fields-without-end",
        bug="a message of a million empty fields stops the event loop for seconds",
        file=_WIRE,
        old="_MOST_FIELDS = 1 << 17\n",
        new="_MOST_FIELDS = 1 << 30\n",
        tests=("tests/registry/etcd/test_fuzz.py",),
    ),
    Mutant(
        name="empty-reply-believed",
        bug="a reply without a revision counts as an empty etcd: every route is withdrawn",
        file=_MESSAGES,
        old="    if header is None or not header.revision:\n"
        '        raise BadMessage("etcd sent a reply without its revision")\n    return header\n',
        new="    return header or Header(0, 0)\n",
        tests=("tests/registry/etcd/test_messages.py",),
    ),
    Mutant(
        name="foreign-key-believed",
        bug="an answer to another question takes routes away",
        file=_MESSAGES,
        old="            if kv.key <= last or not in_range(kv.key, key, range_end):\n",
        new="            if False:\n",
        tests=("tests/registry/etcd/test_messages.py",),
    ),
    Mutant(
        name="huge-revision-believed",
        bug="after one absurd revision every etcd looks older: leases are held for ever",
        file=_MESSAGES,
        old="    if value >= _MOST_REVISION:\n",
        new="    if False:\n",
        tests=("tests/registry/etcd/test_messages.py",),
    ),
    Mutant(
        name="junk-read-whole",
        bug="190 MB of junk under the prefix are held in memory",
        file=_MESSAGES,
        old="            content = data[value : min(stop, value + LONGEST_VALUE + 1)]\n",
        new="            content = data[value:stop]\n",
        tests=("tests/registry/etcd/test_messages.py",),
    ),
    Mutant(
        name="junk-stops-the-start",
        bug="with 190 MB of junk under the prefix no listing ever ends: no route at all",
        file=_LISTING,
        old="                if size > 1:\n                    size = max(1, size // 8)\n",
        new="                if size > 1:\n",
        tests=(
            "tests/registry/etcd/test_hostile.py::test_190_mb_of_junk_cost_neither_memory_nor_the_start",
        ),
    ),
    Mutant(
        name="junk-values-listed",
        bug="values under keys that no lease has are read, all 190 MB of them",
        file=_LISTING,
        old="key, part.end, limit=size, revision=revision, keys_only=part.names_only\n",
        new="key, part.end, limit=size, revision=revision\n",
        tests=(
            "tests/registry/etcd/test_hostile.py::test_190_mb_of_junk_cost_neither_memory_nor_the_start",
        ),
    ),
    Mutant(
        name="changes-before-the-cancellation-lost",
        bug="a lease told in the message that cancels the watch never gets its route",
        file=_WATCH,
        old="                        if events:\n"
        "                            yield Changes(events)\n"
        "                        if end is not None:\n"
        "                            raise end\n",
        new="                        if end is not None:\n"
        "                            raise end\n"
        "                        if events:\n"
        "                            yield Changes(events)\n",
        tests=(f"{_ODD}::test_changes_in_the_message_that_cancels_the_watch_are_handed_on",),
    ),
    Mutant(
        name="resumed-after-what-could-not-be-read",
        bug="a change that could not be read is passed over: its lease never gets a route",
        file=_WATCH,
        old="isinstance(error, RegistryUnavailable) and not isinstance(error, BadMessage)\n",
        new="isinstance(error, RegistryUnavailable)\n",
        tests=(f"{_ODD}::test_an_event_that_cannot_be_read_is_found_by_listing",),
    ),
    Mutant(
        name="half-a-revision-is-an-anchor",
        bug="of two leases written in one transaction the second one never gets its route",
        file=_WATCH,
        old="            if not reply.fragment:\n",
        new="            if True:\n",
        tests=(f"{_ODD}::test_a_watch_that_breaks_within_a_revision_misses_nothing",),
    ),
    Mutant(
        name="cancelled-call-left-open",
        bug="each watch that is opened again leaves a stream open on etcd's side",
        file=_CHANNEL,
        old='        self._end(why or RegistryUnavailable("the call was closed"))\n'
        "        self._task.cancel()\n",
        new='        self._end(why or RegistryUnavailable("the call was closed"))\n',
        tests=("tests/registry/etcd/test_cancelled_calls.py",),
    ),
    Mutant(
        name="unopened-watch-left-open",
        bug="a watch that etcd does not open in time stays open on the connection",
        file=_STREAM,
        old="        except asyncio.TimeoutError:\n            self.close()\n",
        new="        except asyncio.TimeoutError:\n",
        tests=("tests/registry/etcd/test_cancelled_calls.py",),
    ),
    Mutant(
        name="cancelled-request-left-open",
        bug="each request that is given up leaves a stream open on etcd's side",
        file=_CHANNEL,
        old="    except asyncio.CancelledError:\n        task.cancel()\n",
        new="    except asyncio.CancelledError:\n",
        tests=("tests/registry/etcd/test_cancelled_calls.py",),
    ),
    Mutant(
        name="follower-ends-by-an-unforeseen-error",
        bug="one unforeseen exception ends the daemon, or leaves routes that go stale",
        file=_REGISTRY,
        old="            except Exception as error:\n                follower.begin_again()\n",
        new="            except ZeroDivisionError as error:\n                raise\n"
        "            except Exception as error:\n                follower.begin_again()\n",
        tests=("tests/registry/etcd/test_unforeseen.py",),
    ),
    Mutant(
        name="min-mod-revision-off-by-one",
        bug="a stalled watch is not noticed when exactly one change is missing",
        file=_MESSAGES,
        old="        + int_field(10, newer_than + 1 if newer_than else 0)\n",
        new="        + int_field(10, newer_than)\n",
        tests=("tests/registry/etcd/test_messages.py", "tests/registry/etcd/test_protobuf.py"),
    ),
    Mutant(
        name="held-back-lease-not-noticed",
        bug="a watch that stalled behind etcd's gRPC proxy is trusted for ever",
        file=_WATCH,
        old="        return bool(reply.kvs) or reply.count != self._count\n",
        new="        return False\n",
        tests=("tests/registry/etcd/test_silent_watch.py",),
    ),
    Mutant(
        name="held-back-deletion-not-noticed",
        bug="a peer that left keeps its route on hosts whose watch stalled",
        file=_WATCH,
        old="        return bool(reply.kvs) or reply.count != self._count\n",
        new="        return bool(reply.kvs)\n",
        tests=("tests/registry/etcd/test_silent_watch.py",),
    ),
    Mutant(
        name="silence-is-a-stall",
        bug="behind etcd's gRPC proxy each host lists all leases again every few seconds",
        file=_WATCH,
        old="        if reply.header.revision == self._seen:\n            return False\n"
        "        return bool(reply.kvs) or reply.count != self._count\n",
        new="        return True\n",
        tests=("tests/registry/etcd/test_silent_watch.py",),
    ),
)
