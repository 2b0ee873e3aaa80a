"""The book's figures: one style, one colour per method, the truth always black.

``set_style()`` at the top of a chapter also gives every figure a text form: its
labels, limits and what it shows, in numbers. JupyterLab and the book show the
picture; the text form is what a diff and the figure gate read.
"""
from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import seaborn as sns
from matplotlib.figure import Figure

# Okabe and Ito's palette and a wine red of Tol's, which colour-blind readers can tell apart.
METHOD_COLORS = {
    "one_pass": "#D55E00",
    "pseudo_gibbs": "#E69F00",
    "metropolis_within_gibbs": "#CC79A7",
    "adaptive_collapsed": "#0072B2",
    "importance": "#009E73",
    "lair": "#56B4E9",
    "tempered_smc": "#882255",
}
METHOD_LABELS = {
    "one_pass": "one pass",
    "pseudo_gibbs": "pseudo-Gibbs",
    "metropolis_within_gibbs": "Metropolis-within-Gibbs",
    "adaptive_collapsed": "adaptive collapsed",
    "importance": "importance resampling",
    "lair": "LAIR",
    "tempered_smc": "tempered SMC",
}
TRUTH = "black"
DATA = "#8C8C8C"


def set_style() -> None:
    """Give every figure of a notebook the book's style and a text form."""
    sns.set_theme(context="notebook", style="ticks", font="DejaVu Sans", palette=list(METHOD_COLORS.values()), rc={
        "figure.figsize": (7.0, 4.0), "figure.dpi": 120, "figure.facecolor": "white", "axes.facecolor": "white",
        "axes.spines.top": False, "axes.spines.right": False, "legend.frameon": False,
        "mathtext.fontset": "dejavusans", "image.cmap": "viridis",
    })
    # IPython's hook for the text form of an object. Registering a printer with IPython
    # would not last: choosing the inline backend clears those of Figure.
    Figure._repr_pretty_ = lambda figure, printer, cycle: printer.text(describe(figure))


def conditional_histogram(draws, grid, density, *, method=None, ax=None, bins=80, title=None):
    """Histogram of draws of one column, with the exact density over it.

    Parameters
    ----------
    draws : array_like, shape (s,)
        Draws of the column, in its units.
    grid, density : array_like, shape (g,)
        Points, and the exact density there.
    method : str, optional
        The method that made the draws; it sets colour and label.
    ax : matplotlib.axes.Axes, optional
        Where to draw; a new figure when left out.
    bins : int
        Bins over the range of ``grid``. Draws outside it are counted in the label.
    title : str, optional

    Returns
    -------
    matplotlib.axes.Axes
    """
    draws, grid = np.ravel(draws), np.ravel(grid)
    ax = plt.subplots()[1] if ax is None else ax
    low, high = grid.min(), grid.max()
    edges = np.linspace(low, high, bins + 1)
    inside = np.histogram(draws, edges)[0]
    label = METHOD_LABELS.get(method, method or "draws")
    if outside := draws.size - inside.sum():
        label += f" ({outside:,} of {draws.size:,} outside)"
    # Normalised by all draws, so that those outside are missed in the area too.
    ax.stairs(inside / draws.size / np.diff(edges), edges, fill=True, alpha=0.6,
              color=METHOD_COLORS.get(method, DATA), label=label)
    ax.plot(grid, np.ravel(density), color=TRUTH, label="exact")
    ax.set(title=title, ylabel="density", xlim=(low, high), ylim=(0, None))
    ax.legend()
    return ax


def floor_line(ax, floor):
    """Mark the distance that exact i.i.d. draws of the same number would score."""
    return ax.axhline(floor, color=TRUTH, linestyle=":", label="i.i.d. floor")


def describe(figure: Figure) -> str:
    """What a figure shows, as text: labels, limits, and each curve and cloud in numbers.

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
        lines += [f"panel {number}: {ax.get_title()}", f"  x: {ax.get_xlabel()}, {_limits(ax.get_xlim())}",
                  f"  y: {ax.get_ylabel()}, {_limits(ax.get_ylim())}"]
        lines += [f"  ticks: {', '.join(words)}"] if words else []
        lines += [f"  legend: {', '.join(t.get_text() for t in legend.get_texts())}"] if legend else []
        lines += [f"  text: {t.get_text()}" for t in ax.texts if t.get_text()]
        # A line or cloud placed in axes coordinates (a floor, a zero line) is taken in those.
        lines += [f"  line: {_summary(line.get_xydata(), line.get_transform(), ax)}" for line in ax.lines]
        lines += [f"  points: {_summary(c.get_offsets(), c.get_offset_transform(), ax)}"
                  for c in ax.collections if len(c.get_offsets()) > 1]
        arrays = [m.get_array() for m in (*ax.images, *ax.collections) if m.get_array() is not None]
        lines += [f"  colours: mean {np.mean(a):#.3g}, spread {np.std(a):#.3g}" for a in arrays]
        bars = [(p.get_x() + p.get_width() / 2, p.get_y() + p.get_height()) for p in ax.patches if hasattr(p, "get_height")]
        lines += [f"  bars: {_summary(bars, ax.transData, ax)}"] if bars else []
        stairs = [p.get_data() for p in ax.patches if hasattr(p, "get_data")]
        lines += [f"  steps: {_summary(np.column_stack([s.edges[1:], s.values]), ax.transData, ax)}" for s in stairs]
    return "\n".join(lines)


def _summary(points, transform, ax) -> str:
    points = np.ma.filled(np.ma.asarray(points, float), np.nan).reshape(-1, 2)
    points = ax.transAxes.inverted().transform(transform.transform(points))
    points = points[np.isfinite(points).all(1)]
    if not len(points):
        return "empty"
    (x, y), (x_spread, y_spread) = points.mean(0), points.std(0)
    numbers = [x, x_spread, y, y_spread, *np.quantile(points[:, 1], [0, 0.25, 0.5, 0.75, 1])]
    return f"{len(points)} at " + " ".join(f"{v + 0.0:.2f}".replace("-0.00", "0.00") for v in numbers)


def _limits(limits) -> str:
    decimals = int(np.clip(2 - np.floor(np.log10(abs(limits[1] - limits[0]) or 1)), 1, 9))
    return " to ".join(f"{v:.{decimals}f}" for v in limits)
