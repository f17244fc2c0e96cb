"""HTTP in front of the store: paths, verbs, authentication, watches as streams."""

from __future__ import annotations

import asyncio
import base64
import binascii
import json
import ssl
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

from tests.support.kubeapi import merge, rules, status
from tests.support.kubeapi.faults import Call, Faults, Refused
from tests.support.kubeapi.lists import page
from tests.support.kubeapi.rbac import ADMIN, ANONYMOUS, Authorizer, Rule
from tests.support.kubeapi.store import Key, Store

Json = dict[str, Any]

GROUPS = {
    ("api", "v1"): ("nodes", "pods", "namespaces"),
    ("apis", "coordination.k8s.io", "v1"): ("leases",),
    ("apis", "authorization.k8s.io", "v1"): ("selfsubjectaccessreviews",),
}
KNOWN_QUERY = {
    "watch", "resourceVersion", "resourceVersionMatch", "allowWatchBookmarks", "timeoutSeconds",
    "limit", "continue", "fieldManager", "sendInitialEvents", "pretty",
}  # fmt: skip


@dataclass(eq=False)
class _Watch:
    """An open watch and the raw lines that a test wants in it."""

    request: web.Request
    lines: list[bytes] = field(default_factory=list)


class KubeApi:
    """`async with KubeApi() as api:`; `api.url`, `api.admin_token`, `api.user(name, rules)`."""

    def __init__(
        self,
        ssl_context: ssl.SSLContext | None = None,
        *,
        address: str = "127.0.0.1",
        port: int = 0,
    ) -> None:
        self.store = Store()
        self.faults = Faults()
        self.calls: list[Call] = []
        self.auth = Authorizer()
        self.address = address
        self.port = port
        self.ssl_context = ssl_context
        self.bookmark_every = 60.0
        self.admin_token = self.user("admin", ADMIN)
        self._runner: web.AppRunner | None = None
        self._watches: list[_Watch] = []

    @property
    def url(self) -> str:
        scheme = "https" if self.ssl_context else "http"
        return f"{scheme}://{self.address}:{self.port}"

    def user(self, name: str, rules_: Sequence[Rule]) -> str:
        """Create `name` (or change its rights); returns its bearer token."""
        token = f"token-of-{name}"
        self.auth.tokens[token] = name
        self.auth.rules[name] = rules_
        return token

    async def __aenter__(self) -> KubeApi:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    async def start(self) -> None:
        """Listen, on the port of the last time if there was one."""
        app = web.Application(client_max_size=1 << 24)
        app.router.add_route("*", "/{path:.*}", self._answer)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.05)
        await self._runner.setup()
        site = web.TCPSite(self._runner, self.address, self.port, ssl_context=self.ssl_context)
        await site.start()
        if self.port == 0:
            self.port = self._runner.addresses[0][1]

    async def stop(self) -> None:
        """Stop listening and cut every connection; the data stays."""
        self.cut_watches()
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    async def restart(self) -> None:
        await self.stop()
        await self.start()

    def cut_watches(self) -> None:
        """Break every open watch without a word, as a lost connection does."""
        for watch in self._watches:
            if watch.request.transport is not None:
                watch.request.transport.abort()

    @property
    def open_watches(self) -> int:
        return len(self._watches)

    async def bookmark(self, resource: str = "nodes") -> None:
        """Send a bookmark with the present version to every watch."""
        api_version, kind = rules.KINDS[resource]
        obj = {
            "kind": kind,
            "apiVersion": api_version,
            "metadata": {"resourceVersion": str(self.store.revision)},
        }
        await self.say({"type": "BOOKMARK", "object": obj})

    async def say(self, event: Json | bytes) -> None:
        """Write one line into every open watch."""
        line = event if isinstance(event, bytes) else json.dumps(event).encode() + b"\n"
        for watch in self._watches:
            watch.lines.append(line)
        await self.store.notify()

    # --- one request -----------------------------------------------------------------------

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        try:
            user = self._who(request)
            path = [part for part in request.path.split("/") if part]
            if path in (["readyz"], ["healthz"], ["livez"]):
                return web.Response(text="ok")
            if path == ["version"]:
                return web.json_response({"major": "1", "minor": "34", "gitVersion": "v1.34.0"})
            resource, key, sub = self._parse(path)
            call = await self._call(request, user, resource, key, sub)
            self.calls.append(call)
            self.auth.check(user, call.verb, call.resource, key[2], key[1])
            await self.faults.meet(call)
            return await self._act(request, call, key, sub)
        except status.ApiError as error:
            headers = error.headers if isinstance(error, Refused) else {}
            return web.json_response(error.body(), status=error.code, headers=headers)

    def _who(self, request: web.Request) -> str:
        """The user of the token, the password or the client certificate."""
        scheme, _, secret = request.headers.get("Authorization", "").partition(" ")
        if scheme == "Bearer" and secret in self.auth.tokens:
            return self.auth.tokens[secret]
        if scheme == "Basic":
            try:
                pair = base64.b64decode(secret).decode()
            except (binascii.Error, UnicodeDecodeError):
                pair = ""
            if pair in self.auth.basic:
                return self.auth.basic[pair]
        if scheme:
            raise status.ApiError(401, "Unauthorized")
        transport = request.transport
        certificate = transport.get_extra_info("peercert") if transport is not None else None
        for part in (certificate or {}).get("subject", ()):
            for name, value in part:
                if name == "commonName":
                    return str(value)
        return ANONYMOUS

    def _parse(self, path: list[str]) -> tuple[str, Key, str]:
        for prefix, resources in GROUPS.items():
            if tuple(path[: len(prefix)]) != prefix:
                continue
            rest = path[len(prefix) :]
            namespace = ""
            if len(rest) > 2 and rest[0] == "namespaces":
                namespace, rest = rest[1], rest[2:]
            if not rest or rest[0] not in resources or len(rest) > 3:
                break
            name = rest[1] if len(rest) > 1 else ""
            return rest[0], (rest[0], namespace, name), rest[2] if len(rest) > 2 else ""
        raise status.ApiError(404, "the server could not find the requested resource")

    async def _call(
        self, request: web.Request, user: str, resource: str, key: Key, sub: str
    ) -> Call:
        query = {name: value for name, value in request.query.items()}
        if set(query) - KNOWN_QUERY:
            raise status.ApiError(400, f"the double knows no {sorted(set(query) - KNOWN_QUERY)}")
        watching = query.get("watch") in {"1", "true"}
        verb = {
            "GET": "get" if key[2] else "watch" if watching else "list",
            "POST": "create",
            "PUT": "update",
            "PATCH": "patch",
            "DELETE": "delete",
        }.get(request.method)
        if verb is None:
            raise status.ApiError(405, "the server does not allow this method")
        body = None
        if request.can_read_body:
            try:
                body = json.loads(await request.read())
            except ValueError as error:
                raise status.ApiError(400, f"couldn't decode the body: {error}") from None
        return Call(
            user=user,
            verb=verb,
            resource=f"{resource}/{sub}" if sub else resource,
            name=key[2],
            namespace=key[1],
            query=query,
            content_type=request.content_type,
            body=body,
            authorization=request.headers.get("Authorization", ""),
        )

    async def _act(
        self, request: web.Request, call: Call, key: Key, sub: str
    ) -> web.StreamResponse:
        if call.verb == "watch":
            return await self._watch(request, key[0], key[1], call.query)
        created = call.verb == "create"
        return web.json_response(await self._result(call, key, sub), status=201 if created else 200)

    async def _result(self, call: Call, key: Key, sub: str) -> Json:
        if call.resource == "selfsubjectaccessreviews":
            return self._review(call)
        if call.verb == "get":
            return self.store.get(key)
        if call.verb == "list":
            return page(self.store, key[0], key[1], call.query)
        if call.verb == "create":
            obj = rules.prepare_create(key[0], call.body)
            target = (key[0], key[1], str(obj["metadata"].get("name", "")))
            return await self.store.create(target, obj)
        if call.verb == "delete":
            gone = await self.store.delete(key)
            done: Json = {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success"}
            done["details"] = {"name": key[2], "kind": key[0], "uid": gone["metadata"]["uid"]}
            return done
        return await self._change(call, key, sub)

    async def _change(self, call: Call, key: Key, sub: str) -> Json:
        if (
            call.verb == "update"
            and key not in self.store.objects
            and call.body["metadata"].get("uid")
        ):
            # The uid is a precondition that nothing fulfils.
            raise status.conflict(key[0], key[2])
        old = self.store.get(key)
        if call.verb == "update":
            new = call.body
            version = new.get("metadata", {}).get("resourceVersion", "")
            if not version and key[0] in rules.NEEDS_VERSION_TO_UPDATE:
                raise status.invalid(
                    rules.KINDS[key[0]][1],
                    key[2],
                    "metadata.resourceVersion: Invalid value: 0: must be specified for an update",
                )
        elif call.content_type == "application/strategic-merge-patch+json":
            new = merge.strategic_merge(old, call.body)
        elif call.content_type == "application/merge-patch+json":
            new = merge.json_merge(old, call.body)
        elif call.content_type == "application/json-patch+json":
            new = merge.json_patch(old, call.body)
        else:
            raise status.ApiError(415, "the body of the request was in an unknown format")
        meta = new.get("metadata", {})
        if meta.get("resourceVersion", old["metadata"]["resourceVersion"]) not in (
            "",
            old["metadata"]["resourceVersion"],
        ):
            raise status.conflict(key[0], key[2])
        if meta.get("uid", old["metadata"]["uid"]) != old["metadata"]["uid"]:
            raise status.invalid(
                rules.KINDS[key[0]][1],
                key[2],
                f'metadata.uid: Invalid value: "{meta["uid"]}": field is immutable',
            )
        return await self.store.replace(key, rules.prepare_update(key[0], sub, new, old))

    def _review(self, call: Call) -> Json:
        asked = call.body["spec"]["resourceAttributes"]
        resource = asked.get("resource", "")
        if asked.get("subresource"):
            resource += "/" + asked["subresource"]
        allowed = self.auth.allowed(
            call.user,
            asked.get("verb", ""),
            resource,
            asked.get("name", ""),
            asked.get("namespace", ""),
        )
        return {**call.body, "status": {"allowed": allowed}}

    # --- watches ---------------------------------------------------------------------------

    async def _watch(
        self, request: web.Request, resource: str, namespace: str, query: dict[str, str]
    ) -> web.StreamResponse:
        text = query.get("resourceVersion", "")
        if text and not text.isdecimal():
            raise status.ApiError(400, f"resourceVersion: Invalid value: {text!r}")
        response = web.StreamResponse(headers={"Content-Type": "application/json"})
        response.enable_chunked_encoding()
        await response.prepare(request)
        watch = _Watch(request)
        self._watches.append(watch)
        try:
            await self._stream(watch, response, resource, namespace, query)
        except status.ApiError as error:
            await _line(response, {"type": "ERROR", "object": error.body()})
        except (ConnectionError, asyncio.CancelledError):
            return response
        finally:
            self._watches.remove(watch)
        await response.write_eof()
        return response

    async def _stream(
        self,
        watch: _Watch,
        response: web.StreamResponse,
        resource: str,
        namespace: str,
        query: dict[str, str],
    ) -> None:
        store = self.store
        cursor = int(query.get("resourceVersion") or 0)
        if cursor == 0:
            cursor = store.revision
            for _, obj in list(store.select(resource, namespace)):
                await _line(response, {"type": "ADDED", "object": obj})
        end = time.monotonic() + float(query.get("timeoutSeconds") or 1800)
        marks = query.get("allowWatchBookmarks") in {"1", "true"}
        next_mark = time.monotonic() + self.bookmark_every
        while True:
            while watch.lines:
                await response.write(watch.lines.pop(0))
            if not self.faults.mute:
                changes = store.since(cursor, resource, namespace)
                cursor = max(cursor, store.revision)
                for change in changes:
                    await _line(response, {"type": change.kind, "object": change.object})
            now = time.monotonic()
            if marks and (now >= next_mark or now >= end):
                await _line(response, {"type": "BOOKMARK", "object": self._mark(resource, cursor)})
                next_mark = now + self.bookmark_every
            if now >= end:
                return
            async with store.changed:
                if not watch.lines and (self.faults.mute or store.revision <= cursor):
                    try:
                        until = min(end, next_mark) if marks else end
                        await asyncio.wait_for(store.changed.wait(), max(0.0, until - now))
                    except asyncio.TimeoutError:
                        pass

    def _mark(self, resource: str, revision: int) -> Json:
        api_version, kind = rules.KINDS[resource]
        return {
            "kind": kind,
            "apiVersion": api_version,
            "metadata": {"resourceVersion": str(revision)},
        }


async def _line(response: web.StreamResponse, event: Json) -> None:
    await response.write(json.dumps(event).encode() + b"\n")
