"""How far draws are from an exact answer, and how far i.i.d. draws of the same number would be.

A *target* is anything with a ``cdf``, such as a one-column `GaussianMixture` or a column of a
`LatentQuadrature`.  Draws of one column may have shape (s,) or (s, 1).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, Protocol, TypeVar

import numpy as np
from numpy.typing import ArrayLike
from scipy.spatial.distance import cdist
from scipy.stats import ks_1samp, uniform

from .mixture import Array, GaussianMixture, Seed

_TAIL = 1e-12  # probability beyond the interval of integration, on either side
_INTERVALS = 50_000  # sets how finely `wasserstein` resolves the target
_BLOCK = 2**22  # distances held in memory at once by `energy_distance`


class HasCDF(Protocol):
    """What draws of one column are compared with."""

    def cdf(self, x: Array, /) -> Array:
        """Cumulative distribution function at ``x``, any shape."""
        ...


class HasSample(Protocol):
    """What exact draws can be had from."""

    def sample(self, num_samples: int, /, seed: Seed) -> Array:
        """Draw rows, shape (s, d)."""
        ...


Target = TypeVar("Target", bound=HasSample)


class Floor(NamedTuple):
    """What a distance scores for exact i.i.d. draws: mean and standard deviation."""

    mean: float
    std: float


def wasserstein(draws: ArrayLike, target: HasCDF, weights: ArrayLike | None = None) -> float:
    """1-Wasserstein distance between draws of one column and their exact distribution.

    Parameters
    ----------
    draws : array_like, shape (s,) or (s, 1)
    target : object with ``cdf``
        Its distribution must have a finite mean.
    weights : array_like, shape (s,), optional
        Weights of the draws; equal by default.

    Returns
    -------
    float
        In the units of the column.

    Notes
    -----
    The distance is the integral of |F_s - F|, where F_s is the empirical distribution function
    (Vallender, 1974).  F is taken as linear between points that include all draws and are so
    close that interval length times rise in F stays below range / 50,000².  As F never falls,
    the error is below range / 100,000 whatever F is; for smooth F it is far smaller.
    """
    x, cumulative = _empirical(draws, weights)
    low, high = _support(x, target)
    grid = np.union1d(x, np.linspace(low, high, 1025))
    F = np.asarray(target.cdf(grid), float)
    steps = np.append(0.0, cumulative)[np.searchsorted(x, grid[:-1], side="right")]
    intervals, total = np.stack([grid[:-1], grid[1:], F[:-1], F[1:], steps]), 0.0
    while True:
        left, right, F_left, F_right, step = intervals
        middle = 0.5 * (left + right)
        long = (right - left) * (F_right - F_left) > (high - low) / _INTERVALS**2
        long &= (left < middle) & (middle < right)
        total += _area_between(*intervals[:, ~long])
        if not long.any():
            return total
        (left, right, F_left, F_right, step), middle = intervals[:, long], middle[long]
        F_middle = np.asarray(target.cdf(middle), float)
        intervals = np.hstack([[left, middle, F_left, F_middle, step], [middle, right, F_middle, F_right, step]])


def kolmogorov_smirnov(draws: ArrayLike, target: HasCDF, weights: ArrayLike | None = None) -> float:
    """Kolmogorov–Smirnov distance, the largest |F_s - F|; arguments as for `wasserstein`.

    The target's distribution must be continuous.
    """
    x, cumulative = _empirical(draws, weights)
    F = np.asarray(target.cdf(x), float)
    if weights is None:  # F(x) is uniform if x is drawn from the target
        return float(ks_1samp(F, uniform.cdf, method="asymp").statistic)
    return float(max((cumulative - F).max(), (F - np.concatenate([[0.0], cumulative[:-1]])).max()))


def energy_distance(draws: ArrayLike, reference: ArrayLike) -> float:
    """Energy distance between two samples of several columns.

    Parameters
    ----------
    draws : array_like, shape (s, d)
    reference : array_like, shape (r, d)
        Exact draws.  One column may be given flat.

    Returns
    -------
    float
        2 E|X - Y| - E|X - X'| - E|Y - Y'| (Székely & Rizzo, 2013), in the units of the columns.

    Notes
    -----
    This is the V-statistic: the means run over all pairs, a draw with itself included.  It is
    never negative, and above zero by about (1/s + 1/r) E|X - X'| when the distributions are
    equal.  Subtract nothing: compare it with `iid_floor`.  Distances are Euclidean, so bring
    columns to like units first.  Time grows with (s + r)², memory does not.
    """
    x, y = (np.asarray(a, float) for a in (draws, reference))
    x, y = (a[:, None] if a.ndim == 1 else a for a in (x, y))
    for name, a in (("draws", x), ("reference", y)):
        if a.ndim != 2 or not a.size or not np.isfinite(a).all():
            raise ValueError(f"{name} must be finite, of shape (s, d), and not empty.")
    if x.shape[1] != y.shape[1]:
        raise ValueError(f"draws have {x.shape[1]} columns and reference {y.shape[1]}; select the same columns.")
    return 2 * _mean_distance(x, y) - _mean_distance(x, x) - _mean_distance(y, y)


def mode_weight_error(draws: ArrayLike, mixture: GaussianMixture, weights: ArrayLike | None = None) -> float:
    """Total variation between the weights of the modes in the draws and the exact weights.

    Parameters
    ----------
    draws : array_like, shape (s, d), or (s,) for one column
    mixture : GaussianMixture
        Its components are the modes.
    weights : array_like, shape (s,), optional
        Weights of the draws; equal by default.

    Returns
    -------
    float
        Between 0 and 1.

    Notes
    -----
    A draw counts for each component by the probability that it came from there.  Under exact
    draws the expected counts are the exact weights, even where components overlap.
    """
    shares = np.atleast_2d(mixture.responsibilities(draws))
    found = _normalised(weights, len(shares)) @ shares
    return float(0.5 * np.abs(found - mixture.weights).sum())


def iid_floor(
    distance: Callable[[Array, Target], float], target: Target, num_samples: int, replicates: int = 20, seed: int = 0
) -> Floor:
    """Score exact i.i.d. draws, so that a distance has something to be compared with.

    Parameters
    ----------
    distance : callable
        Called as ``distance(draws, target)``.
    target : object with ``sample(num_samples, seed)``
    num_samples : int
        Number of draws in each replicate, s.
    replicates : int
        Number of replicates, at least 2.
    seed : int
        The same seed gives the same floor.

    Returns
    -------
    Floor
        Mean and standard deviation of the distance over replicates.

    Examples
    --------
    For distances between samples, hold the reference fixed::

        iid_floor(lambda x, _: energy_distance(x, reference), mixture, 5_000)
    """
    if num_samples < 1 or replicates < 2:
        raise ValueError(f"iid_floor needs num_samples >= 1 and replicates >= 2; got {num_samples}, {replicates}.")
    children = np.random.SeedSequence(seed).spawn(replicates)
    scores = [distance(target.sample(num_samples, seed=np.random.default_rng(child)), target) for child in children]
    return Floor(float(np.mean(scores)), float(np.std(scores, ddof=1)))


def _normalised(weights: ArrayLike | None, num: int) -> Array:
    if weights is None:
        return np.full(num, 1 / num)
    weights = np.asarray(weights, float)
    if weights.shape != (num,):
        raise ValueError(f"weights must have shape ({num},), one per draw; got {weights.shape}.")
    if not np.isfinite(weights).all() or (weights < 0).any() or weights.sum() <= 0:
        raise ValueError("weights must be finite, none negative, and not all zero.")
    return weights / weights.sum()


def _empirical(draws: ArrayLike, weights: ArrayLike | None) -> tuple[Array, Array]:
    """Sorted draws and the empirical distribution function at each of them."""
    x = np.asarray(draws, float)
    if x.ndim == 2 and x.shape[1] == 1:
        x = x[:, 0]
    if x.ndim != 1 or not x.size:
        raise ValueError(f"draws must be one column, not empty; got shape {np.shape(draws)}.")
    if not np.isfinite(x).all():
        raise ValueError("draws must be finite; remove NaN and infinities.")
    order = np.argsort(x, kind="stable")
    cumulative = np.cumsum(_normalised(weights, x.size)[order])
    return x[order], cumulative / cumulative[-1]


def _support(x: Array, target: HasCDF) -> Array:
    """Find the ends of an interval with all draws inside and a probability below 1e-12 on either side."""
    ends, reach = x[[0, -1]], 1e-3 * ((x[-1] - x[0]) or 1e-9 * abs(x[0]) or 1e-300)
    while (short := np.abs(target.cdf(ends) - np.array([0, 1])) > _TAIL).any():
        ends = np.where(short, x[[0, -1]] + [-reach, reach], ends)
        reach *= 2
        if reach > 1e300:
            raise ValueError("target.cdf does not go from 0 to 1; check the target.")
    return ends


def _area_between(left: Array, right: Array, F_left: Array, F_right: Array, step: Array) -> float:
    """Area between ``step`` and F, summed over intervals in which F rises linearly."""
    outside = np.abs(step - 0.5 * (F_left + F_right))
    inside = (step > F_left) & (step < F_right)
    rise = np.where(inside, F_right - F_left, 1.0)
    mean = np.where(inside, ((step - F_left) ** 2 + (F_right - step) ** 2) / (2 * rise), outside)
    return float((mean * (right - left)).sum())


def _mean_distance(x: Array, y: Array) -> float:
    rows = max(1, _BLOCK // len(y))
    return sum(cdist(x[i : i + rows], y).sum() for i in range(0, len(x), rows)) / len(x) / len(y)
