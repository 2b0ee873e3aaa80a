"""Gaussian mixtures whose marginals and conditionals are exact.

Everything is computed in float64 from triangular square roots of the covariances.  A marginal
or a conditional takes its square root from the parent's by a QR decomposition.  It never
subtracts covariances, so it stays accurate when a covariance is nearly singular.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.linalg import solve_triangular
from scipy.special import log_ndtr, log_softmax, ndtr, ndtri, softmax

Array: TypeAlias = NDArray[np.float64]
Observed: TypeAlias = (
    Mapping[int, float] | Mapping[np.int64, float] | ArrayLike
)  # {column: value}, or a row (d,) with NaN in its holes
Seed: TypeAlias = int | Sequence[int] | np.random.SeedSequence | np.random.Generator | None

_LOG_2PI = np.log(2 * np.pi)


@dataclass(frozen=True, eq=False, init=False)
class GaussianMixture:
    """A mixture of K multivariate normal distributions over d columns.

    Parameters
    ----------
    weights : array_like, shape (K,)
        Weights of the components: none negative, sum 1.
    means : array_like, shape (K, d)
        Means of the components.
    covariances : array_like, shape (K, d, d)
        Covariances of the components, symmetric and positive definite.
    factors : array_like, shape (K, d, d), optional
        Lower-triangular square roots of the covariances, if they are known already.

    Raises
    ------
    ValueError
        If shapes disagree, or if a weight or a covariance is not admissible.

    Notes
    -----
    Weights are held as logarithms too, so a component whose weight underflows to zero still
    counts when evidence far in the tails makes it the likeliest.
    """

    weights: Array
    means: Array
    covariances: Array
    factors: Array = field(repr=False)
    _log_weights: Array = field(repr=False)

    def __init__(
        self,
        weights: ArrayLike,
        means: ArrayLike,
        covariances: ArrayLike,
        factors: ArrayLike | None = None,
        _log_weights: ArrayLike | None = None,
    ) -> None:
        weights, means, covariances = (np.array(a, float) for a in (weights, means, covariances))
        shape = means.shape  # (K, d)
        if len(shape) != 2 or not means.size or (weights.shape, covariances.shape) != (shape[:1], shape + shape[1:]):
            raise ValueError(
                "GaussianMixture needs weights of shape (K,), means of shape (K, d) and one d-by-d matrix per "
                f"component; got shapes {weights.shape}, {shape} and {covariances.shape}."
            )
        if not all(np.isfinite(a).all() for a in (weights, means, covariances)):
            raise ValueError("weights, means and covariances must be finite; remove NaN and infinities.")
        if (weights < 0).any() or abs(weights.sum() - 1) > 1e-6:
            raise ValueError(f"weights must not be negative and must sum to 1; got {weights}. Divide by the sum.")
        weights = weights / weights.sum()
        if factors is None:
            factors = np.stack([_cholesky(c, k) for k, c in enumerate(covariances)])
        if _log_weights is None:
            with np.errstate(divide="ignore"):
                _log_weights = np.log(weights)
        values = (weights, means, covariances, factors, _log_weights)
        for name, value in zip(self.__dataclass_fields__, values, strict=True):
            value = np.array(value, float)
            value.flags.writeable = False
            object.__setattr__(self, name, value)

    @property
    def num_features(self) -> int:
        """Number of columns, d."""
        return self.means.shape[1]

    @property
    def mean(self) -> Array:
        """Mean of the mixture, shape (d,)."""
        return self.weights @ self.means

    @property
    def covariance(self) -> Array:
        """Covariance of the mixture, shape (d, d)."""
        centred = self.means - self.mean
        between = np.einsum("k,ki,kj->ij", self.weights, centred, centred)
        return np.einsum("k,kij->ij", self.weights, self.covariances) + between

    @property
    def std(self) -> Array:
        """Standard deviation of each column, shape (d,)."""
        return np.sqrt(np.diag(self.covariance))

    def sample(self, num_samples: int, seed: Seed = None, stratified: bool = False) -> Array:
        """Draw rows.

        Parameters
        ----------
        num_samples : int
            Number of rows, s.
        seed : int, numpy.random.Generator or None
            The same integer gives the same rows.
        stratified : bool
            Take ``num_samples * weight`` rows from each component (rounded), in shuffled order.
            The default draws the component of each row at random, which gives i.i.d. rows.

        Returns
        -------
        numpy.ndarray, shape (s, d)
        """
        if num_samples != int(num_samples) or num_samples < 0:
            raise ValueError(f"num_samples must be a whole number of at least 0; got {num_samples}.")
        num_samples, rng = int(num_samples), np.random.default_rng(seed)
        if stratified:
            edges = np.rint(np.cumsum(self.weights) * num_samples)
            component = rng.permutation(np.searchsorted(edges, np.arange(num_samples), "right"))
        else:
            component = rng.choice(len(self.weights), num_samples, p=self.weights)
        x = rng.standard_normal((num_samples, self.num_features))
        for k in np.unique(component):
            rows = component == k
            x[rows] = self.means[k] + x[rows] @ self.factors[k].T
        return x

    def _component_log_prob(self, x: ArrayLike) -> Array:
        """Log of weight times density for each component, shape (..., K)."""
        x = np.asarray(x, float)
        if self.num_features == 1 and x.ndim <= 1:
            x = x[..., None]
        if x.ndim == 0 or x.shape[-1] != self.num_features:
            raise ValueError(f"x must have {self.num_features} columns in its last axis; got shape {x.shape}.")
        rows, out = x.reshape(-1, self.num_features), []
        for log_weight, mean, factor in zip(self._log_weights, self.means, self.factors, strict=True):
            scaled = solve_triangular(factor, (rows - mean).T, lower=True, check_finite=False)
            log_scale = np.log(np.diag(factor)).sum() + 0.5 * self.num_features * _LOG_2PI
            out.append(log_weight - log_scale - 0.5 * (scaled**2).sum(0))
        return np.stack(out, -1).reshape(*x.shape[:-1], len(self.weights))

    def log_prob(self, x: ArrayLike) -> Array:
        """Log density in nats of rows ``x``, shape (..., d), or (n,) if there is one column."""
        return np.logaddexp.reduce(self._component_log_prob(x), axis=-1)

    def prob(self, x: ArrayLike) -> Array:
        """Density of rows ``x``, shape (..., d), or (n,) if there is one column."""
        return np.exp(self.log_prob(x))

    def responsibilities(self, x: ArrayLike) -> Array:
        """Probability that each row came from each component, shape (..., K)."""
        return softmax(self._component_log_prob(x), axis=-1)

    def entropy(self, num_samples: int = 100_000, seed: Seed = 0) -> float:
        """Differential entropy in nats, by Monte Carlo with ``num_samples`` draws."""
        return float(-self.log_prob(self.sample(num_samples, seed)).mean())

    def marginal(self, columns: Iterable[int | np.integer]) -> GaussianMixture:
        """Return the mixture over ``columns`` alone, in the order given."""
        columns = list(columns)
        if not columns:
            raise ValueError("marginal needs at least one column; got none.")
        columns = _check_columns(columns, self.num_features)
        factors = _refactor(self.factors[:, columns])
        covariances = self.covariances[:, columns][:, :, columns]
        return GaussianMixture(self.weights, self.means[:, columns], covariances, factors, self._log_weights)

    def condition(self, observed: Observed) -> GaussianMixture:
        """Return the exact conditional of the other columns.

        Parameters
        ----------
        observed : mapping of int to float
            Value of each observed column.  A row of length d with NaN in its holes will do too.

        Returns
        -------
        GaussianMixture
            Over the missing columns, in increasing order; the mixture itself if nothing is
            observed.

        Raises
        ------
        ValueError
            If a column is unknown, a value is not finite, or no column is missing.
        """
        columns, values, missing = split_observed(observed, self.num_features)
        if not columns:
            return self
        if not missing:
            raise ValueError("Every column is observed, so none is left; leave at least one out.")
        num = len(columns)
        # With the observed columns first, L = [[L_oo, 0], [L_mo, L_mm]] and the conditional is
        # N(mean_m + L_mo L_oo^-1 (x_o - mean_o), L_mm L_mm').
        factors = _refactor(self.factors[:, columns + missing])
        log_weights, means = self._log_weights.copy(), self.means[:, missing].copy()
        with np.errstate(over="ignore"):
            for k, factor in enumerate(factors):
                L_oo, L_mo = factor[:num, :num], factor[num:, :num]
                scaled = solve_triangular(L_oo, values - self.means[k, columns], lower=True)
                means[k] += L_mo @ scaled
                log_weights[k] -= np.log(np.diag(L_oo)).sum() + 0.5 * scaled @ scaled
        if not np.isfinite(log_weights).any() or not np.isfinite(means).all():
            raise ValueError(
                "The observed values lie too far from every component for float64: "
                f"{dict(zip(columns, values.tolist(), strict=True))}. Check their units."
            )
        log_weights = log_softmax(log_weights)
        L_mm = factors[:, num:, num:]
        return GaussianMixture(np.exp(log_weights), means, L_mm @ L_mm.swapaxes(-1, -2), L_mm, log_weights)

    def _one_column(self) -> tuple[Array, Array]:
        if self.num_features != 1:
            raise ValueError(
                f"cdf and ppf need one column; this mixture has {self.num_features}. Call marginal([column]) first."
            )
        return self.means[:, 0], self.factors[:, 0, 0]

    def cdf(self, x: ArrayLike) -> Array:
        """Cumulative distribution function at ``x``, any shape; one column only."""
        loc, scale = self._one_column()
        return ndtr((np.asarray(x, float)[..., None] - loc) / scale) @ self.weights

    def ppf(self, q: ArrayLike) -> Array:
        """Quantiles at levels ``q`` in [0, 1], any shape; one column only."""
        loc, scale = self._one_column()
        q = np.asarray(q, float)
        if not ((q >= 0) & (q <= 1)).all():
            raise ValueError("q must lie between 0 and 1.")
        # A quantile of the mixture lies between the least and the greatest of its components'.
        used = self.weights > 0
        quantiles = loc[used] + scale[used] * ndtri(q)[..., None]
        low, high = quantiles.min(-1), quantiles.max(-1)
        upper, level = q > 0.5, np.where(q > 0.5, 1 - q, q)
        with np.errstate(divide="ignore"):
            level = np.log(level)
        sign = np.where(upper, -1.0, 1.0)[..., None]

        def is_below(x: Array) -> NDArray[np.bool_]:
            # Compare logarithms of the nearer tail, so that extreme levels keep their digits.
            tail = np.logaddexp.reduce(self._log_weights + log_ndtr(sign * (x[..., None] - loc) / scale), axis=-1)
            return np.where(upper, tail > level, tail < level)

        return bisect(is_below, low, high)


def two_ridges() -> GaussianMixture:
    """Return the two-component mixture that this book studies.

    It is the mixture of the 2018 note "Sampling conditional distributions with a trained
    variational autoencoder" (script ``model5.py`` of ``lukasz-treszczotko/CVAEs``): two long
    ridges that cross, of equal weight.

    Returns
    -------
    GaussianMixture
        Over two columns.  Its entropy is 1.461 nats.
    """
    covariances = [[[0.52, -0.5], [-0.5, 0.52]], [[0.52, 0.5], [0.5, 0.52]]]
    return GaussianMixture([0.5, 0.5], [[-0.5, 0.0], [0.5, 0.5]], covariances)


def fractional_brownian_motion(hurst: float = 0.5, num_times: int = 32) -> GaussianMixture:
    """Return the exact distribution of fractional Brownian motion at the times 1/n, 2/n, ..., 1.

    It is normal with mean zero and covariance (s^2H + t^2H - |t - s|^2H) / 2 [1]_, so `condition`
    gives bridges, forecasts and gaps exactly.

    Parameters
    ----------
    hurst : float
        Hurst index H, between 0 and 1: rough paths below 1/2, Brownian motion at 1/2, smoother ones
        with a trend above.
    num_times : int
        Number of times n, the columns.

    Returns
    -------
    GaussianMixture
        With one component. Column j is the path at time (j + 1) / n; its standard deviation is that
        time to the power H.

    References
    ----------
    .. [1] Mandelbrot and Van Ness (1968), Fractional Brownian motions, fractional noises and
       applications.
    """
    if not 0.0 < hurst < 1.0:
        raise ValueError(f"the Hurst index lies between 0 and 1, got {hurst!r}")
    if not isinstance(num_times, int | np.integer) or num_times < 1:
        raise ValueError(f"num_times must be a positive integer, got {num_times!r}")
    t = np.arange(1, num_times + 1) / num_times
    power = 2.0 * hurst
    covariance = 0.5 * (t[:, None] ** power + t**power - np.abs(t[:, None] - t) ** power)
    return GaussianMixture([1.0], np.zeros((1, num_times)), covariance[None])


def bisect(is_below: Callable[[Array], NDArray[np.bool_]], low: Array, high: Array) -> Array:
    """Where ``is_below`` turns from True to False, between ``low`` and ``high`` of any shape."""
    for _ in range(100):  # halving a float64 interval ends long before this
        middle = 0.5 * (low + high)
        below = is_below(middle)
        low, high = np.where(below, middle, low), np.where(below, high, middle)
    return 0.5 * (low + high)


def split_observed(observed: Observed, num_features: int) -> tuple[list[int], Array, list[int]]:
    """Return observed columns, their values and missing columns, all in increasing order.

    Parameters
    ----------
    observed : mapping of int to float, or array_like of shape (d,) with NaN in the holes
    num_features : int
        Number of columns, d.
    """
    if not isinstance(observed, Mapping):
        row = np.asarray(observed, float)
        if row.shape != (num_features,):
            raise ValueError(
                f"observed must be a dict from column to value, or one row of {num_features} "
                f"values with NaN in the holes; got shape {row.shape}."
            )
        observed = {j: v for j, v in enumerate(row) if not np.isnan(v)}
    given = dict(zip(_check_columns(observed, num_features), observed.values(), strict=True))
    columns = sorted(given)
    values = np.array([given[j] for j in columns], float)
    for column, value in zip(columns, values, strict=True):
        if not np.isfinite(value):
            raise ValueError(f"Column {column} is observed as {value}; give a finite value or leave it out.")
    return columns, values, [j for j in range(num_features) if j not in given]


def _check_columns(columns: Iterable[int | np.integer], num_features: int) -> list[int]:
    columns = list(columns)
    for column in columns:
        whole = isinstance(column, int | np.integer) and not isinstance(column, bool)
        if not whole or not 0 <= column < num_features:
            raise ValueError(f"Unknown column {column!r}; columns are the integers 0 to {num_features - 1}.")
    if len(set(columns)) < len(columns):
        raise ValueError(f"Repeated column in {columns}; name each column once.")
    return [int(column) for column in columns]


def _cholesky(covariance: Array, k: int) -> Array:
    if not np.allclose(covariance, covariance.T, rtol=1e-10, atol=0):
        raise ValueError(f"covariances[{k}] is not symmetric; use (C + C.T) / 2.")
    try:
        return np.linalg.cholesky(covariance).astype(float)
    except np.linalg.LinAlgError:
        raise ValueError(
            f"covariances[{k}] is not positive definite; drop columns that depend on the "
            "others, or add a small positive number to the diagonal."
        ) from None


def _refactor(rows: Array) -> NDArray[np.floating]:
    """Lower-triangular L with L L' = rows rows', diagonal positive, for each component."""
    upper = np.linalg.qr(rows.swapaxes(-1, -2)).R
    sign = np.where(np.diagonal(upper, axis1=-2, axis2=-1) < 0, -1.0, 1.0)
    return (upper * sign[..., None]).swapaxes(-1, -2)
