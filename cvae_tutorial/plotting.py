"""The book's figures: one style, one colour per method, the truth always black."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from numpy.typing import ArrayLike

# Okabe and Ito's palette and three of Tol's colours, which colour-blind readers can tell apart.
METHOD_COLORS = {
    "one_pass": "#D55E00",
    "pseudo_gibbs": "#E69F00",
    "metropolis_within_gibbs": "#CC79A7",
    "adaptive_collapsed": "#0072B2",
    "importance": "#009E73",
    "lair": "#56B4E9",
    "tempered_smc": "#882255",
    "laplace": "#332288",
    "auto": "#117733",
}
METHOD_LABELS = {
    "one_pass": "one pass",
    "pseudo_gibbs": "pseudo-Gibbs",
    "metropolis_within_gibbs": "Metropolis-within-Gibbs",
    "adaptive_collapsed": "adaptive collapsed",
    "importance": "importance resampling",
    "lair": "LAIR",
    "tempered_smc": "tempered SMC",
    "laplace": "Laplace",
    "auto": "the default",
}
TRUTH = "black"
DATA = "#8C8C8C"


def set_style() -> None:
    """Give every figure drawn from now on the book's style."""
    sns.set_theme(
        context="notebook",
        style="ticks",
        font="DejaVu Sans",
        palette=list(METHOD_COLORS.values()),
        rc={
            "figure.figsize": (7.0, 4.0),
            "figure.dpi": 120,
            "figure.facecolor": "white",
            "axes.facecolor": "white",
            "axes.spines.top": False,
            "axes.spines.right": False,
            "legend.frameon": False,
            "mathtext.fontset": "dejavusans",
            "image.cmap": "viridis",
        },
    )


def conditional_histogram(
    draws: ArrayLike,
    grid: ArrayLike,
    density: ArrayLike,
    *,
    method: str | None = None,
    ax: Axes | None = None,
    bins: int = 80,
    title: str | None = None,
) -> Axes:
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
    label = METHOD_LABELS.get(method or "", method or "draws")
    if outside := draws.size - inside.sum():
        label += f" ({outside:,} of {draws.size:,} outside)"
    # Normalised by all draws, so that those outside are missed in the area too.
    ax.stairs(
        inside / draws.size / np.diff(edges),
        edges,
        fill=True,
        alpha=0.6,
        color=METHOD_COLORS.get(method or "", DATA),
        label=label,
    )
    ax.plot(grid, np.ravel(density), color=TRUTH, label="exact")
    ax.set(title=title, ylabel="density", xlim=(low, high), ylim=(0, None))
    ax.legend()
    return ax


def floor_line(ax: Axes, floor: float) -> Line2D:
    """Mark the distance that exact i.i.d. draws of the same number would score."""
    return ax.axhline(floor, color=TRUTH, linestyle=":", label="i.i.d. floor")
