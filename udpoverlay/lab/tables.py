"""The one look of all tables: no lines between columns, so that a table fits 80 columns.

Owns: the style, and how a table that is too wide is printed in parts. A name that is cut cannot be
typed, so a column that holds names or figures never shrinks. Must not know: what is in a table.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from rich import box
from rich.cells import cell_len
from rich.console import Console
from rich.table import Table

__all__ = ["grid", "table"]

_GAP = 2
"""Spaces between two columns."""
_LABEL_WIDTH = 18
"""Columns that the labels of a grid get at least; they wrap."""


def table(title: str) -> Table:
    """An empty table; give `no_wrap=True` to every column that must not shrink."""
    return Table(
        title=title,
        title_justify="left",
        box=box.SIMPLE_HEAD,
        show_edge=False,
        pad_edge=False,
        padding=(0, 1),
        collapse_padding=True,
    )


def grid(
    console: Console, title: str, labels: Sequence[str], columns: Mapping[str, Sequence[str]]
) -> None:
    """Print a table with a label for each row and a heading for each column.

    In as many parts as the console's width asks for, each with all labels.
    """
    widths = {heading: max(map(cell_len, (heading, *cells))) for heading, cells in columns.items()}
    rest = list(columns)
    while rest:
        taken: list[str] = []
        width = _LABEL_WIDTH
        while rest and (not taken or width + _GAP + widths[rest[0]] <= console.width):
            width += _GAP + widths[rest[0]]
            taken.append(rest.pop(0))
        part = table(title)
        part.add_column("")
        for heading in taken:
            part.add_column(heading, justify="right", no_wrap=True)
        for row, label in enumerate(labels):
            part.add_row(label, *(columns[heading][row] for heading in taken))
        console.print(part)
        console.print()
