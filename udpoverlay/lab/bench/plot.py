"""A bench as a picture: one panel a metric, one bar a path, whiskers over all samples.

Owns: the only use of matplotlib, an optional extra.
"""

from __future__ import annotations

import io
from typing import Any

from udpoverlay.errors import OperatorError
from udpoverlay.lab.bench.runner import METRICS, Runner

__all__ = ["check", "draw"]

FORMATS = (".svg", ".png", ".pdf")
_PANELS = ("tcp_gbit", "tcp_n_gbit", "udp64_kpps", "udp1400_kpps", "rr_p50", "tcp_cpu")


def _figure_class() -> Any:
    try:
        # Not pyplot: that keeps global state and looks for a display.
        from matplotlib.figure import Figure  # noqa: PLC0415 - an optional extra
    except ImportError:
        raise OperatorError(
            "--plot needs matplotlib", fix="pip install 'udpoverlay[plot]'"
        ) from None
    return Figure


def check(path: str) -> None:
    """Refuse before the bench what would fail after it. Raises OperatorError."""
    _figure_class()
    if not path.endswith(FORMATS):
        raise OperatorError(f"--plot={path}: unknown format", fix=f"one of {', '.join(FORMATS)}")


def draw(path: str, runner: Runner, subtitle: str) -> bytes:
    """The picture, in the format that the ending of `path` names."""
    keys = [key for key in _PANELS if any((name, key) in runner.rows for name in runner.names())]
    columns = 3
    lines = -(-len(keys) // columns)
    figure = _figure_class()(figsize=(4.5 * columns, 0.9 + 2.9 * lines), layout="constrained")
    axes = figure.subplots(lines, columns, squeeze=False).flat
    for axis, key in zip(axes, keys, strict=False):
        metric = METRICS[key]
        rows = [
            runner.rows[name, key]
            for name in reversed(runner.names())
            if (name, key) in runner.rows
        ]
        medians = [row.median for row in rows]
        whiskers = [
            [row.median - min(row.samples.values()) for row in rows],
            [max(row.samples.values()) - row.median for row in rows],
        ]
        colours = ["#1f77b4" if row.path.startswith("fast") else "#9aa5b1" for row in rows]
        axis.barh([row.path for row in rows], medians, xerr=whiskers, color=colours, capsize=2)
        title = metric.title.replace("N streams", f"{runner.plan.streams} streams")
        better = "more" if metric.higher_is_better else "less"
        axis.set_title(f"{title}, {metric.unit} ({better} is better)", fontsize=9)
        axis.tick_params(labelsize=8)
    for axis in list(axes)[len(keys) :]:
        axis.set_visible(False)
    figure.suptitle(subtitle, fontsize=9)
    picture = io.BytesIO()
    figure.savefig(picture, format=path.rpartition(".")[2])
    return picture.getvalue()
