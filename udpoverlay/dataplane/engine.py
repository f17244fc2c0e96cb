"""The engine: opens device and socket, runs workers in threads, and sums up what they count.

Owns: the life of descriptors and workers. Must not know: registries, addresses and link state of
the device, flags. No packet passes through Python.

    open ─► start ─► (packets flow; replace(routes) at any time) ─► stop
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import platform
import socket
from collections.abc import Mapping
from pathlib import Path

from netaddr import IPNetwork

from udpoverlay import _fastpath as fp
from udpoverlay.dataplane.fallbacks import describe, read_fallbacks
from udpoverlay.dataplane.features import Features
from udpoverlay.dataplane.impairments import Impairments
from udpoverlay.dataplane.kernel_drops import device_drops, socket_drops
from udpoverlay.dataplane.recorder import Recorder
from udpoverlay.dataplane.reports import Reports, open_reports
from udpoverlay.dataplane.senders import SenderWatch
from udpoverlay.dataplane.sink import Publisher
from udpoverlay.dataplane.threads import WorkerThreads
from udpoverlay.dataplane.traffic import read_traffic
from udpoverlay.dataplane.tun import Tun, check_tun, open_tun
from udpoverlay.dataplane.tunnel import Tunnel
from udpoverlay.dataplane.udp import Sockets, fit_send_buffer, open_icmp, open_udp
from udpoverlay.errors import KernelError
from udpoverlay.model.dataplane import DataplaneSettings
from udpoverlay.model.endpoint import Endpoint
from udpoverlay.model.fallback import Fallback
from udpoverlay.model.histogram import Histogram
from udpoverlay.model.report import PathReport
from udpoverlay.model.sender import RefusedSender
from udpoverlay.model.traffic import PeerTraffic, WorkerTimes
from udpoverlay.supervisor import Supervisor

__all__ = ["Engine", "make_recorder", "open_sockets", "wanted_queues"]

DEFAULT_THREADS = 1
DEFAULT_BUSY_POLL_US = 50


class Engine:
    """One tunnel: a TUN device, a UDP socket and what moves packets between them.

    The constructor adopts open descriptors, which `stop` closes; `open` makes them.
    """

    def __init__(  # noqa: PLR0913 - its surroundings are its parameters
        self,
        tunnel: Tunnel,
        settings: DataplaneSettings,
        tun: Tun,
        sockets: Sockets,
        features: Features | None = None,
        *,
        recorder: Recorder | None = None,
    ) -> None:
        self.tunnel = tunnel
        self._tun = tun
        self._sockets = sockets
        self._udp = udp = sockets.udp
        self._features = features or Features.wanted(settings)
        for offload, reason in tun.refused.items():
            self._features.refuse(offload, reason)
        if not tun.vnet_header:
            for offload in ("uso", "coalesce-tcp", "coalesce-udp"):
                self._features.refuse(offload, "needs vnet-hdr")
        self._features.refuse_known(platform.release(), tunnels=_other_tunnels())
        self._features.probe_udp(udp)
        self._table = fp.RouteTable()
        self._publisher = Publisher(self._table)
        self._pump = fp.Pump(
            self._table,
            mtu=tunnel.mtu,
            tun_address=tunnel.address.packed,
            icmp_fd=-1 if sockets.icmp is None else sockets.icmp.fileno(),
            busy_poll_us=_busy_poll_us(settings) if self._features.on("busy-poll") else 0,
            batch=fp.BATCH_MAX if self._features.on("mmsg") else 1,
            vnet_header=tun.vnet_header,
            udp_segment=self._features.on("udp-segment"),
            udp_gro=self._features.on("udp-gro"),
            coalesce_tcp=self._features.on("coalesce-tcp"),
            coalesce_udp=self._features.on("coalesce-udp"),
            path_reports=sockets.reports is not None,
            source_check=settings.source_check,
            subnet=(tunnel.subnet.ip.packed, tunnel.subnet.prefixlen),
            own_addresses=_own_addresses(tunnel),
            allow_impair=settings.allow_impair,
        )
        self._workers = [
            fp.Worker(
                self._pump,
                roles=roles,
                tun_fds=queues,
                udp_fd=udp.fileno(),
                recorder=recorder.rings if recorder else None,
                number=number,
            )
            for number, (roles, queues) in enumerate(
                _assignments(_thread_count(settings), tun.queues)
            )
        ]
        self._threads = WorkerThreads(self._workers)
        self._senders = SenderWatch(self._pump, self._workers, self._publisher, udp, tunnel.address)
        self.impairments = Impairments(self._pump, self._workers, allowed=settings.allow_impair)
        self._reports = Reports(sockets.reports, self._table.path_report)
        self._supervisor = Supervisor()
        self._ended: asyncio.Future[None] | None = None
        self._stopped = False
        self._last_traffic: dict[str, PeerTraffic] = {}

    @staticmethod
    def check(bind: tuple[str, int]) -> None:
        """Raise the KernelError with which `open` would end, as far as that can be foreseen.

        For callers who are about to tell others of this host: nothing is made, nothing stays open.
        """
        check_tun()
        open_udp(*bind).close()

    @classmethod
    def open(
        cls, tunnel: Tunnel, settings: DataplaneSettings, *, recorder: Recorder | None = None
    ) -> Engine:
        """Create the device and bind the socket; nothing is left behind on KernelError.

        What the workers do is recorded in `recorder`, which outlives the engine.
        """
        features = Features.wanted(settings)
        with contextlib.ExitStack() as undo:
            sockets = open_sockets(tunnel.bind)
            undo.callback(sockets.close)
            tun = open_tun(
                tunnel.device,
                vnet_header=features.on("vnet-hdr"),
                uso=features.on("uso"),
                queues=_queue_count(settings, features),
            )
            undo.callback(tun.close)
            engine = cls(tunnel, settings, tun, sockets, features, recorder=recorder)
            undo.pop_all()
        return engine

    @classmethod
    def adopt(
        cls,
        tunnel: Tunnel,
        settings: DataplaneSettings,
        tun: Tun,
        sockets: Sockets,
        *,
        recorder: Recorder | None = None,
    ) -> Engine:
        """Go on with what another engine released; `sockets` are bound as `tunnel` says.

        On KernelError device and sockets are as they were.
        """
        if sockets.reports is None or sockets.reports.fileno() < 0:
            sockets.reports = open_reports(*tunnel.bind)
        return cls(tunnel, settings, tun, sockets, recorder=recorder)

    def descriptors(self) -> tuple[list[int], int]:
        """Of the device's queues and of the UDP socket: ours, for others to duplicate."""
        return list(self._tun.queues), self._udp.fileno()

    @property
    def tun_name(self) -> str:
        """The device's name as the kernel made it, for example flannel0."""
        return self._tun.name

    @property
    def tun_index(self) -> int:
        """The device's interface index."""
        return self._tun.index

    def replace(self, routes: Mapping[IPNetwork, Endpoint]) -> None:
        """Publish `routes` as the whole of what is known; packets see the old or the new table.

        Raises MemoryError, also when the table would take more than 256 MiB.
        """
        self._publisher.publish(routes)
        fit_send_buffer(self._udp, self._table.peers)
        self._move_packets()

    def route_count(self) -> int:
        """Routes in the current table."""
        return len(self._table)

    async def start(self) -> None:
        """Packets flow from here, or from the first routes, until stop().

        Without routes every peer would be an unknown sender, and every destination unreachable:
        what comes before them waits in the socket and in the device.
        """
        loop = asyncio.get_running_loop()
        self._ended = loop.create_future()
        self._supervisor.start("senders", self._senders.run)
        if self.impairments.allowed:
            self._supervisor.start("impairments", self.impairments.run)
        self._reports.start(loop)
        self._move_packets()

    def _move_packets(self) -> None:
        if self._ended is None or self._stopped or self._threads.started:
            return
        if self._table.generation > 0:
            self._threads.start(self._ended.get_loop(), self._failed)

    async def wait(self) -> None:
        """Return after stop(); KernelError when packets stopped flowing by themselves."""
        assert self._ended is not None, "start() comes first"
        await asyncio.shield(self._ended)

    async def stop(self) -> None:
        """Stop, then close device and socket: the device vanishes. Idempotent."""
        tun, sockets = await self.release()
        tun.close()
        sockets.close()

    async def release(self) -> tuple[Tun, Sockets]:
        """Stop, and give device and sockets away, open, for another engine to adopt. Idempotent.

        What waits in them waits for that engine.
        """
        if not self._stopped:
            self._stopped = True
            await self._supervisor.aclose()
            self._reports.stop()
            await self._threads.stop()
            self._last_traffic = read_traffic(self._table)
            self.impairments.stop()
            for worker in self._workers:
                worker.close()
            if self._ended is not None and not self._ended.done():
                self._ended.set_result(None)
        return self._tun, self._sockets

    def alive(self) -> bool:
        """Whether packets can flow: started, not stopped, and no worker ended by itself."""
        return self._ended is not None and not self._ended.done()

    def counters(self) -> dict[str, int]:
        """Verdicts and counters by name, summed over workers; also after stop()."""
        names = [facts[0] for facts in (*fp.VERDICTS, *fp.COUNTERS)]
        sums = [0] * len(names)
        for worker in self._workers:
            verdicts, counters = worker.counts()
            for position, count in enumerate((*verdicts, *counters)):
                sums[position] += count
        return dict(zip(names, sums, strict=True))

    def histograms(self) -> dict[str, Histogram]:
        """Sizes of batches and super-packets, and how long batches take; also after stop()."""
        found: dict[str, Histogram] = {}
        for worker in self._workers:
            for (name, *_), (counts, total) in zip(fp.HISTOGRAMS, worker.histograms(), strict=True):
                timed = name.endswith("_ns")
                made = Histogram(
                    tuple(counts), total * 1e-9 if timed else total, 1e-6 if timed else 1
                )
                found[name] = found[name] + made if name in found else made
        return found

    def worker_times(self) -> list[WorkerTimes]:
        """What each worker spent its time on since it began; also after stop()."""
        return [WorkerTimes(*(part * 1e-9 for part in worker.times())) for worker in self._workers]

    def kernel_drops(self) -> dict[str, int]:
        """Packets that the kernel dropped in front of a worker, by direction; 0 after stop()."""
        return {
            "outbound_kernel_dropped": device_drops(self._tun.index),
            "inbound_kernel_dropped": socket_drops(self._udp),
        }

    def fallbacks(self) -> list[Fallback]:
        """Offloads that the kernel refused, by peer: the cause and when they are tried again."""
        return read_fallbacks(self._table, self._workers)

    def traffic(self) -> dict[str, PeerTraffic]:
        """What went to each peer and came from it, by its public IP; also after stop()."""
        return self._last_traffic if self._stopped else read_traffic(self._table)

    def heard(self, since_ns: int) -> int:
        """How many peers sent a datagram at that time of the monotonic clock or later."""
        return self._table.heard(since_ns)

    def report_counters(self) -> dict[str, int]:
        """ICMP errors that came back for our datagrams, by kind; empty if they cannot be read."""
        return self._reports.counters()

    def path_reports(self) -> list[PathReport]:
        """The same by peer, the latest first."""
        return self._reports.by_peer()

    def sender_counters(self) -> dict[str, int]:
        """What was done to find out from where peers send."""
        return {**self._senders.counters(), "watch_errors": self._supervisor.failures}

    def refused_senders(self) -> list[RefusedSender]:
        """Who sent what did not pass the source check, the latest first."""
        return self._senders.refused()

    def proved_senders(self) -> dict[str, list[str]]:
        """Public IP of a peer → other addresses that it was proved to send from."""
        return self._senders.proved()

    def features(self) -> dict[str, str]:
        """Offload → "on", "on, fallen back …: cause", "off (switch)" or "unavailable: reason"."""
        fallbacks = self.fallbacks()
        return {
            offload: describe(offload, fallbacks) if self._features.on(offload) else state
            for offload, state in self._features.state.items()
        }

    def _failed(self, error: BaseException) -> None:
        """A worker ended by itself."""
        if self._ended is None or self._ended.done():
            return
        code = error.errno or 0 if isinstance(error, OSError) else 0
        failure = KernelError(
            f"packets stopped flowing through {self.tun_name}: "
            f"{os.strerror(code) if code else error!r}",
            fix="the device was removed or the socket closed: start again",
            errno=code,
        )
        failure.__cause__ = error
        self._ended.set_exception(failure)
        self._ended.exception()  # retrieved: there may be no waiter yet


def open_sockets(bind: tuple[str, int]) -> Sockets:
    """All that an engine talks to the underlay with; nothing is left behind on KernelError."""
    sockets = Sockets(open_udp(*bind))
    try:
        sockets.icmp = open_icmp()
        sockets.reports = open_reports(*bind)
    except BaseException:
        sockets.close()
        raise
    return sockets


def make_recorder(settings: DataplaneSettings) -> Recorder | None:
    """The flight recorder of all engines with these settings; None: none is wanted."""
    if settings.flight_recorder == 0:
        return None
    return Recorder(_thread_count(settings), settings.flight_recorder)


# ---- how many workers, and which does what


def _thread_count(settings: DataplaneSettings) -> int:
    return DEFAULT_THREADS if settings.workers == "auto" else int(settings.workers)


def wanted_queues(settings: DataplaneSettings) -> int:
    """How many queues a device made for these settings has."""
    return _queue_count(settings, Features.wanted(settings))


def _queue_count(settings: DataplaneSettings, features: Features) -> int:
    """One queue for each thread that sends: all but the one that receives, from three on."""
    threads = _thread_count(settings)
    if threads < 3:
        features.refuse("multi-queue", "needs 3 workers: one that receives, two that send")
    return threads - 1 if features.on("multi-queue") else 1


def _assignments(threads: int, queues: list[int]) -> list[tuple[int, list[int]]]:
    """(directions, TUN queues) for each worker.

    One thread does both directions; from two on, one receives and the others send. More than
    one must not receive: the datagrams of one peer all come by one address pair, so two readers
    would only bring its packets out of order.
    """
    if threads == 1:
        return [(fp.OUTBOUND | fp.INBOUND, queues)]
    return [(fp.INBOUND, queues), *((fp.OUTBOUND, [queue]) for queue in queues)]


def _own_addresses(tunnel: Tunnel) -> set[bytes]:
    """IPv4 addresses of this host that the kernel may not know, or that we must not wait for it."""
    texts = {tunnel.bind[0], str(tunnel.public_ip or "")}
    return {socket.inet_aton(text) for text in texts if text.count(".") == 3}


def _other_tunnels() -> bool:
    """Whether the host has VXLAN or Geneve devices, by what udev is told of them."""
    for path in Path("/sys/class/net").glob("*/uevent"):
        with contextlib.suppress(OSError):
            if {"DEVTYPE=vxlan", "DEVTYPE=geneve"} & set(path.read_text().splitlines()):
                return True
    return False


def _busy_poll_us(settings: DataplaneSettings) -> int:
    return DEFAULT_BUSY_POLL_US if settings.busy_poll_us < 0 else settings.busy_poll_us
