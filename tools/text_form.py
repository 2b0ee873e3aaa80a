"""The text form of a figure, which a diff and the figure gate read beside the picture.

The kernels of `make book`, `make publish` and nbval run `startup.py`, which registers it.
JupyterLab and the book show the picture alone.
"""

from __future__ import annotations

import re

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle, StepPatch
from matplotlib.text import Text
from matplotlib.transforms import Transform
from numpy.typing import ArrayLike, NDArray


def register() -> None:
    """Let IPython print every figure by `describe`.

    Registering a printer with IPython would not last: choosing the inline backend clears those of Figure.
    """
    Figure._repr_pretty_ = lambda figure, printer, cycle: printer.text(describe(figure))  # type: ignore[attr-defined]


def describe(figure: Figure) -> str:
    """Return what a figure shows as text: labels, limits, and each curve and cloud in numbers.

    Curves and clouds are given in fractions of the axes, as mean and spread of x, the same of y,
    and quartiles of y. A hundredth is then a hundredth of the panel whatever the units.
    """
    lines = [f"Figure of {len(figure.axes)} panels"]
    if figure.get_suptitle():
        lines.append(f"title: {figure.get_suptitle()}")
    for number, ax in enumerate(figure.axes, 1):
        legend = ax.get_legend()
        ticks = [t.get_text() for axis in (ax.xaxis, ax.yaxis) for t in axis.get_ticklabels()]
        words = [t for t in ticks if any(c.isalpha() for c in t) and "mathdefault" not in t]
        lines += [
            f"panel {number}: {ax.get_title()}",
            f"  x: {ax.get_xlabel()}, {_limits(*ax.get_xlim())}",
            f"  y: {ax.get_ylabel()}, {_limits(*ax.get_ylim())}",
        ]
        lines += [f"  ticks: {', '.join(words)}"] if words else []
        lines += [f"  legend: {', '.join(t.get_text() for t in legend.get_texts())}"] if legend else []
        lines += [f"  text: {t.get_text()}" for t in ax.texts if t.get_text()]
        # A line or cloud placed in axes coordinates (a floor, a zero line) is taken in those.
        lines += [f"  line: {_summary(line.get_xydata(), line.get_transform(), ax)}" for line in ax.lines]
        clouds = [c for c in ax.collections if len(np.asarray(c.get_offsets())) > 1]
        lines += [f"  points: {_summary(c.get_offsets(), c.get_offset_transform(), ax)}" for c in clouds]
        arrays = [a for m in (*ax.images, *ax.collections) if (a := m.get_array()) is not None]
        lines += [f"  colours: mean {np.mean(a):#.3g}, spread {np.std(a):#.3g}" for a in arrays]
        boxes = [p for p in ax.patches if isinstance(p, Rectangle)]
        bars = [(p.get_x() + p.get_width() / 2, p.get_y() + p.get_height()) for p in boxes]
        lines += [f"  bars: {_summary(bars, ax.transData, ax)}"] if bars else []
        for values, edges, _ in [p.get_data() for p in ax.patches if isinstance(p, StepPatch)]:
            lines.append(f"  steps: {_summary(np.column_stack([edges[1:], values]), ax.transData, ax)}")
    # Last, when the loop above has made the axes write their tick labels.
    return "\n".join([*lines, *_smallest_text(figure)])


def _smallest_text(figure: Figure) -> list[str]:
    """Return the size of the smallest letters, by which the pages know how small they may show the figure."""
    sizes = []
    for text in figure.findobj(Text):
        if isinstance(text, Text) and text.get_visible() and text.get_text().strip():
            # Mathtext sets exponents and indices at 0.7 of the size.
            small = 0.7 if re.search(r"\$[^$]*[_^][^$]*\$", text.get_text()) else 1.0
            sizes.append(float(text.get_fontsize()) * small)
    return [f"smallest text: {min(sizes):.1f} pt"] if sizes else []


def _summary(points: ArrayLike, transform: Transform, ax: Axes) -> str:
    xy: NDArray = np.ma.filled(np.ma.asarray(points, float), np.nan).reshape(-1, 2)
    xy = np.asarray(ax.transAxes.inverted().transform(transform.transform(xy)))
    xy = xy[np.isfinite(xy).all(1)]
    if not len(xy):
        return "empty"
    (x, y), (x_spread, y_spread) = xy.mean(0), xy.std(0)
    numbers = [x, x_spread, y, y_spread, *np.quantile(xy[:, 1], [0, 0.25, 0.5, 0.75, 1])]
    return f"{len(xy)} at " + " ".join(f"{v + 0.0:.2f}".replace("-0.00", "0.00") for v in numbers)


def _limits(low: float, high: float) -> str:
    decimals = int(np.clip(2 - np.floor(np.log10(abs(high - low) or 1)), 1, 9))
    return f"{low:.{decimals}f} to {high:.{decimals}f}"
