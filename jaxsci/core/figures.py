"""Matplotlib figures in the house style, through the object API: no pyplot, no global state left behind.

    @style()
    def plot_error(days, rmse):
        figure, axes = new_figure(1, 1, (6, 4))
        axes[0, 0].plot(days, rmse)
        return figure

Matplotlib reads its settings when each line, tick and label is made, hence the decorator.
"""

import io
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from cycler import cycler
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from jaxsci.core.files import write_atomic

# Okabe and Ito's colours, told apart with every common form of colour blindness; less their yellow, too pale
# for a line, and with a grey for what matters least.
BLUE, ORANGE, GREEN, PURPLE, AMBER, SKY, GREY = (
    "#0072B2",
    "#D55E00",
    "#009E73",
    "#CC79A7",
    "#E69F00",
    "#56B4E9",
    "#6B7280",
)
COLOURS = (BLUE, ORANGE, GREEN, PURPLE, AMBER, SKY, GREY)
FIELD_MAP = "viridis"  # fields
DIFFERENCE_MAP = "RdBu_r"  # signed differences, with limits symmetric about zero

_INK, _FAINT = "#1F2937", "#D1D5DB"
_STYLE: dict[Any, Any] = {
    "figure.dpi": 150,
    "figure.constrained_layout.use": True,
    "figure.titlesize": 14,
    "figure.titleweight": "bold",
    "figure.facecolor": "white",
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],  # ships with matplotlib, so a figure is the same on every machine
    "font.size": 11,
    "text.color": _INK,
    "axes.titlesize": 12,
    "axes.titlelocation": "left",
    "axes.titlepad": 8,
    "axes.labelsize": 11,
    "axes.labelcolor": _INK,
    "axes.edgecolor": "#6B7280",
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.prop_cycle": cycler(color=COLOURS),
    "axes.axisbelow": True,
    "axes.grid": True,
    "grid.color": _FAINT,
    "grid.linewidth": 0.6,
    "xtick.labelsize": 10,
    "ytick.labelsize": 10,
    "xtick.color": "#6B7280",
    "ytick.color": "#6B7280",
    "xtick.labelcolor": _INK,
    "ytick.labelcolor": _INK,
    "lines.linewidth": 2.0,
    "lines.markersize": 6,
    "legend.fontsize": 10,
    "legend.frameon": False,
    "image.cmap": FIELD_MAP,
}


@contextmanager
def style() -> Iterator[None]:
    """The house style for the code inside; as a decorator, `@style()`, for a whole function."""
    with matplotlib.rc_context(_STYLE):
        yield


def new_figure(rows: int = 1, columns: int = 1, size: tuple[float, float] = (8.0, 4.5)) -> tuple[Figure, np.ndarray]:
    """A figure of `size` inches (width, height) and its axes as an array of shape `(rows, columns)`."""
    with style():
        figure = Figure(figsize=size)
        FigureCanvasAgg(figure)
        return figure, figure.subplots(rows, columns, squeeze=False)


def png(figure: Figure) -> bytes:
    """The figure as a PNG at 150 dots per inch."""
    buffer = io.BytesIO()
    with style():  # ticks are made as late as here
        figure.savefig(buffer, format="png", dpi=_STYLE["figure.dpi"])
    return buffer.getvalue()


def save(figure: Figure, path: Path) -> Path:
    """Write the figure as PNG, atomically, and return `path`. Raises `JaxsciError` when the disk refuses."""
    write_atomic(path, png(figure))
    return path
