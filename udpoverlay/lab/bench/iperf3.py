"""iperf3 on the way without a tunnel: shows that our own generator is not what limits a bench."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping

from udpoverlay.errors import LabError
from udpoverlay.lab.bench.runner import Plan
from udpoverlay.lab.bench.testbed import Duo

__all__ = ["ABOUT", "NAME", "iperf3", "missing"]

NAME = "iperf3"
ABOUT = "no tunnel, iperf3's generator"
_PORT = "5201"
_EXTRA_SECONDS = 20.0


def missing() -> str | None:
    """Why it cannot take part, None when it can."""
    return None if shutil.which("iperf3") else "no iperf3 on PATH"


def iperf3(duo: Duo) -> Mapping[str, Callable[[Plan], dict[str, float]]]:
    """Runs by test between the hosts of `direct`."""
    duo.b.popen(["iperf3", "--server", "--bind", duo.b_address, "--port", _PORT])

    def measure(plan: Plan, *words: str) -> dict[str, float]:
        # iperf3 takes whole seconds; half a second more than asked for is no harm.
        seconds = str(max(1, round(plan.seconds)))
        argv = ["iperf3", "--client", duo.b_address, "--port", _PORT, "--json"]
        status, said = duo.a.run([*argv, "--time", seconds, *words], plan.seconds + _EXTRA_SECONDS)
        if status != 0:
            raise LabError("iperf3 failed", details=said)
        end: dict[str, float] = json.loads(said)["end"].get(
            "sum_received" if "--udp" not in words else "sum", {}
        )
        return end

    def congestion(plan: Plan) -> tuple[str, ...]:
        return ("--congestion", plan.congestion) if plan.congestion else ()

    def tcp(plan: Plan) -> dict[str, float]:
        return {"tcp_gbit": measure(plan, *congestion(plan))["bits_per_second"] / 1e9}

    def tcpn(plan: Plan) -> dict[str, float]:
        parallel = ("--parallel", str(plan.streams), *congestion(plan))
        return {"tcp_n_gbit": measure(plan, *parallel)["bits_per_second"] / 1e9}

    def udp(size: int) -> Callable[[Plan], dict[str, float]]:
        def run(plan: Plan) -> dict[str, float]:
            end = measure(plan, "--udp", "--bitrate", "0", "--length", str(size))
            received = end["packets"] - end["lost_packets"]
            return {
                f"udp{size}_kpps": received / end["seconds"] / 1000,
                f"udp{size}_loss": end["lost_percent"],
            }

        return run

    return {"tcp": tcp, "tcpn": tcpn, "udp64": udp(64), "udp1400": udp(1400)}
