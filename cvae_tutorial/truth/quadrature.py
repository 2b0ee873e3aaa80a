"""Exact conditionals of a model by quadrature over a small latent space.

These are answers about the *model*.  How far the model is from the data's distribution is a
separate question; for a Gaussian mixture, `GaussianMixture.condition` answers it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import tensorflow as tf
from numpy.typing import ArrayLike, NDArray
from scipy import ndimage
from scipy.interpolate import CubicHermiteSpline
from scipy.special import ndtr

from ..evidence import TableLike, check_evidence
from ..likelihoods import LOG_2PI, Bernoulli, Categorical, Likelihood, Normal, Parameters
from ..model import LatentVariableModel, feature_names, num_features
from .mixture import Array, Seed, bisect

_PRUNED = 1e-9  # mass of the quadrature nodes left out of the result
_CELLS = {1: 8192, 2: 512}  # cells of the first grid along each latent dimension


# Quadrature


def quadrature(
    model: LatentVariableModel, observed: TableLike, tolerance: float = 1e-4, max_nodes: int = 4_000_000
) -> LatentQuadrature:
    """Compute a model's own conditional by quadrature over a latent space of 1 or 2 dimensions.

    Parameters
    ----------
    model : LatentVariableModel
        Only ``latent_dim``, ``decode`` and ``likelihood`` are used; the prior is N(0, I).
    observed : mapping or array_like of shape (d,)
        Value of each observed column, or one row with NaN in the holes.
    tolerance : float
        Two successive resolutions must agree to this in the log evidence (nats) and in the
        distribution functions of the missing columns; for a likelihood of one's own, in its mean,
        in standard deviations of that over the nodes.  At most eight columns are compared.
    max_nodes : int
        Largest number of nodes to hold.

    Returns
    -------
    LatentQuadrature

    Raises
    ------
    ValueError
        If the latent space has other than 1 or 2 dimensions, or the evidence is not admissible.
    RuntimeError
        If ``max_nodes`` do not suffice to reach ``tolerance``, or no latent value explains the
        evidence.

    Notes
    -----
    The integrand is γ(z) = p(z) p(x_o | z). The first grid covers [-8, 8] in each dimension, or twice
    as much until no mass touches its border. The midpoint rule on a uniform grid converges faster
    than any power of the spacing for a smooth γ, and with its square across the kinks of a ReLU
    network. Each resolution halves the cells near which γ is not negligible and drops the others. The
    first will do if no peak in it is as narrow as its cells, for more of those may hide, and if the
    sets of every third node in each dimension agree. Normal densities are evaluated in float64.
    """
    if model.latent_dim not in (1, 2):
        raise ValueError(
            f"quadrature needs 1 or 2 latent dimensions; this model has {model.latent_dim}. "
            "Compare with a long run of importance resampling instead."
        )
    evidence = check_evidence(observed, num_features(model), model.likelihood, feature_names(model))
    if len(evidence.values) != 1:
        raise ValueError("quadrature takes one row of evidence; call it once per row.")
    grid = _Grid(model, evidence.values[0], max_nodes)
    reach = 8.0
    while grid.cover(reach) > 1e-9:
        reach *= 2
        if reach > 1e6:
            raise RuntimeError("The observed values pull the latent variables beyond a million; check their units.")
    result = grid.result(grid.kept)
    difference = np.inf if grid.may_hide_a_peak() else grid.spread()
    while difference > tolerance:
        previous = result
        grid.refine()
        result = grid.result(grid.kept)
        difference = np.abs(_summary(previous, result) - _summary(result, result)).max()
    return result


@dataclass(frozen=True, eq=False)
class LatentQuadrature:
    """The conditional of a model given observed columns, as nodes and weights over its latent.

    Attributes
    ----------
    nodes : numpy.ndarray, shape (g, l)
        Points of the latent space.
    weights : numpy.ndarray, shape (g,)
        Mass of p(z | x_o) that each node stands for; they sum to 1.
    log_evidence : float
        log p(x_o) in nats.
    missing : tuple of int
        The columns that were not observed.
    model : LatentVariableModel
        Decodes the nodes again for columns that are not in ``described``, so that wide tables need
        no memory.
    described : dict of int to numpy.ndarray, shape (g, k)
        The distribution of the compared columns at each node: location and scale, probabilities,
        or the mean alone if the likelihood is one's own.
    """

    nodes: Array
    weights: Array
    log_evidence: float
    missing: tuple[int, ...]
    model: LatentVariableModel = field(repr=False)
    described: dict[int, Array] = field(repr=False)

    def column(self, j: int) -> NormalColumn | DiscreteColumn:
        """Return the conditional of missing column ``j``.

        Raises
        ------
        ValueError
            If the column is not missing, or its likelihood is one's own.
        """
        if j not in self.missing:
            raise ValueError(f"Column {j} is not missing; the missing columns are {self.missing}.")
        kind = self.model.likelihood.kind(j)
        values = np.concatenate([values for _, (values,) in self._described((j,))])
        if isinstance(kind, Normal):
            return NormalColumn(self.weights, *values.T)
        if isinstance(kind, Bernoulli | Categorical):
            return DiscreteColumn(self.weights @ values)
        raise ValueError(
            f"Column {j} has a likelihood of your own, {kind!r}, whose distribution function quadrature "
            "does not know; use mean or sample."
        )

    @cached_property
    def mean(self) -> Array:
        """Mean of the missing columns, shape (m,); NaN for a categorical column."""
        total = np.zeros(len(self.missing))
        for weights, mean, _ in self._moments():
            total += weights @ mean
        return total

    @cached_property
    def covariance(self) -> Array:
        """Covariance of the missing columns, shape (m, m).

        NaN for a categorical column, and in the variance of a column whose likelihood is one's own.
        """
        total = np.zeros((len(self.missing),) * 2)
        for weights, mean, variance in self._moments():
            centred = mean - self.mean
            total += (weights[:, None] * centred).T @ centred + np.diag(weights @ variance)
        return total

    def sample(self, num_samples: int, seed: Seed = None) -> Array:
        """Draw the missing columns jointly, shape (s, m)."""
        rng = np.random.default_rng(seed)
        chosen = rng.choice(len(self.nodes), num_samples, p=self.weights)
        draws = np.empty((num_samples, len(self.missing)))
        for rows, parameters in _decoder(self.model, lambda parameters: parameters)(self.nodes[chosen]):
            pair = rng.integers(2**31 - 1, size=2).astype(np.int32)
            x = self.model.likelihood.sample(tf.nest.map_structure(tf.constant, parameters), pair)
            draws[rows] = np.asarray(x)[:, list(self.missing)]
        return draws

    def _described(self, columns: tuple[int, ...]) -> Iterator[tuple[slice, list[Array]]]:
        """Yield what `_describe` says of the columns, at all nodes at once or in batches."""
        if all(j in self.described for j in columns):
            return iter([(slice(None), [self.described[j] for j in columns])])
        likelihood = self.model.likelihood
        return _decoder(self.model, lambda p: [_describe(likelihood, p, j) for j in columns])(self.nodes)

    def _moments(self) -> Iterator[tuple[Array, Array, Array]]:
        """Weights (b,), and means and variances (b, m) of the missing columns given each node."""
        kinds = [self.model.likelihood.kind(j) for j in self.missing]
        for rows, columns in self._described(self.missing):
            moments = np.empty((2, len(self.weights[rows]), len(kinds)))
            for i, (kind, values) in enumerate(zip(kinds, columns, strict=True)):
                moments[0, :, i], moments[1, :, i] = _moments(kind, values)
            yield self.weights[rows], moments[0], moments[1]


@dataclass(frozen=True, eq=False)
class DiscreteColumn:
    """Conditional of a Bernoulli or categorical column.

    Attributes
    ----------
    probabilities : numpy.ndarray, shape (k,)
        Probability of each code 0, …, k-1.
    """

    probabilities: Array

    def sample(self, num_samples: int, seed: Seed = None) -> Array:
        """Draw codes, shape (s, 1)."""
        rng, p = np.random.default_rng(seed), self.probabilities
        return rng.choice(len(p), (num_samples, 1), p=p / p.sum()).astype(float)


@dataclass(frozen=True, eq=False)
class NormalColumn:
    """Conditional of a Normal column: a mixture with one component per quadrature node.

    It has the names and shapes of a one-column `GaussianMixture`, and is fast with 100,000
    components: ``cdf`` is a monotone cubic interpolant, within 1e-6 of the exact sum where that
    was checked, in the middle of each interval.

    Attributes
    ----------
    weights, loc, scale : numpy.ndarray, shape (g,)
    """

    weights: Array
    loc: Array
    scale: Array

    @property
    def mean(self) -> Array:
        """Mean, shape (1,)."""
        return np.array([np.average(self.loc, weights=self.weights)])

    @property
    def std(self) -> Array:
        """Standard deviation, shape (1,)."""
        return np.sqrt([np.average(self.scale**2 + (self.loc - self.mean) ** 2, weights=self.weights)])

    def sample(self, num_samples: int, seed: Seed = None) -> Array:
        """Draw values, shape (s, 1)."""
        rng = np.random.default_rng(seed)
        k = rng.choice(len(self.weights), num_samples, p=self.weights)
        return (self.loc[k] + self.scale[k] * rng.standard_normal(num_samples))[:, None]

    def pdf(self, x: ArrayLike) -> Array:
        """Density at ``x``, any shape, summed over all nodes."""
        return self.sums(x)[1]

    prob = pdf

    def cdf(self, x: ArrayLike) -> Array:
        """Cumulative distribution function at ``x``, any shape."""
        knots = self._spline.x
        return np.clip(self._spline(np.clip(x, knots[0], knots[-1])), 0.0, 1.0)

    def ppf(self, q: ArrayLike) -> Array:
        """Quantiles at levels ``q`` in [0, 1], any shape; 0 and 1 give the ends of the support."""
        q, spline = np.asarray(q, float), self._spline
        if not ((q >= 0) & (q <= 1)).all():
            raise ValueError("q must lie between 0 and 1.")
        right = np.clip(np.searchsorted(spline(spline.x), q), 1, len(spline.x) - 1)
        low, high = spline.x[right - 1], spline.x[right]
        return bisect(lambda x: spline(x) < q, low, high)

    def sums(self, x: ArrayLike) -> Array:
        """Distribution function and density at ``x``, shape (2, ...), summed over all nodes.

        They are exact but for tails beyond 6.5 scales (4e-11).
        """
        flat, inverse = np.unique(np.asarray(x, float), return_inverse=True)
        total = np.zeros((2, flat.size))
        for start in range(0, self.loc.size, 1024):
            weights, loc, scale = self._by_loc[:, start : start + 1024]
            first = np.searchsorted(flat, (loc - 6.5 * scale).min())
            last = np.searchsorted(flat, (loc + 6.5 * scale).max())
            total[0, last:] += weights.sum()
            for i in range(first, last, 1024):
                rows = slice(i, min(i + 1024, last))
                scaled = (flat[rows, None] - loc) / scale
                total[0, rows] += ndtr(scaled) @ weights
                total[1, rows] += np.exp(-0.5 * (scaled**2 + LOG_2PI)) @ (weights / scale)
        return total[:, inverse.ravel()].reshape(2, *np.shape(x))

    @cached_property
    def _by_loc(self) -> Array:
        return np.stack([self.weights, self.loc, self.scale])[:, np.argsort(self.loc)]

    @cached_property
    def _spline(self) -> CubicHermiteSpline:
        low, high = (self.loc - 8 * self.scale).min(), (self.loc + 8 * self.scale).max()
        weights, loc, _ = self._by_loc
        ranks = np.searchsorted(np.cumsum(weights), np.linspace(0, 1, 33)[1:-1])
        x = np.unique(np.concatenate([np.linspace(low, high, 33), loc[np.minimum(ranks, len(loc) - 1)]]))
        F, f = self.sums(x)
        active = np.ones(len(x) - 1, bool)
        while active.any():
            spline, todo = _monotone(x, F, f), np.flatnonzero(active)
            middle = 0.5 * (x[todo] + x[todo + 1])
            F_middle, f_middle = self.sums(middle)
            rough = (np.abs(spline(middle) - F_middle) > 5e-7) | (np.diff(F)[todo] > 0.01)
            rough &= x[todo + 1] - x[todo] > 1e-12 * (high - low)
            x, F = np.insert(x, todo + 1, middle), np.insert(F, todo + 1, F_middle)
            f = np.insert(f, todo + 1, f_middle)
            left = todo + np.arange(len(todo))
            active = np.zeros(len(x) - 1, bool)
            active[left] = active[left + 1] = rough
        return _monotone(x, F, f)


# Details of the quadrature


class _Grid:
    """A uniform grid of square cells over the latent space, kept only where γ matters."""

    def __init__(self, model: LatentVariableModel, row: Array, max_nodes: int) -> None:
        self.model, self.dimensions, self.max_nodes = model, model.latent_dim, max_nodes
        self.missing = tuple(int(j) for j in np.flatnonzero(np.isnan(row)))
        self.compared = self.missing[:: max(1, -(-len(self.missing) // 8))]

        def read(parameters: Parameters) -> tuple[tf.Tensor, list[tf.Tensor]]:
            described = [_describe(model.likelihood, parameters, j) for j in self.compared]
            return _log_likelihood(model.likelihood, parameters, row), described

        self.decode = _decoder(model, read)

    def cover(self, reach: float) -> float:
        """Lay the first grid over [-reach, reach] in each dimension; return the mass at its border."""
        self.reach, self.cells, self.is_first = reach, _CELLS[self.dimensions], True
        self._evaluate(np.indices((self.cells,) * self.dimensions).reshape(self.dimensions, -1).T)
        return self.weights[((self.index == 0) | (self.index == self.cells - 1)).any(1)].sum()

    def may_hide_a_peak(self) -> bool:
        """Whether γ falls steeply from a peak of the first grid to the cells around."""
        field = self.log_gamma.reshape((self.cells,) * self.dimensions)
        highest, lowest = ndimage.maximum_filter(field, 3), ndimage.minimum_filter(field, 3)
        return bool((highest - lowest)[(field == highest) & (field > field.max() - 40)].max() > 3)

    def spread(self) -> float:
        """How far the sets of every third node in each dimension are from one another.

        Every second would not do: both halves agree on a peak midway between two nodes.
        """
        part = (self.index % 3) @ 3 ** np.arange(self.dimensions)
        parts = [self.kept & (part == k) for k in range(3**self.dimensions)]
        if not all(rows.any() for rows in parts):
            return np.inf
        results = list(map(self.result, parts))
        return np.ptp([_summary(result, results[0]) for result in results], axis=0).max()

    def refine(self) -> None:
        """Halve the cells in which γ is not negligible, and their neighbours."""
        # A peak may be narrower than a cell of the first grid, so only hopeless cells go there.
        index = self.index[self.log_gamma > self.log_gamma.max() - (40 if self.is_first else 25)]
        shape = (self.cells,) * self.dimensions
        for step in np.eye(self.dimensions, dtype=int):
            near = np.concatenate([index - step, index, index + step]).clip(0, self.cells - 1)
            keys = np.sort(np.ravel_multi_index(tuple(near.T), shape))  # np.unique takes thirty times as long
            index = np.stack(np.unravel_index(keys[np.diff(keys, prepend=-1) > 0], shape), 1)
        halves = np.indices((2,) * self.dimensions).reshape(self.dimensions, -1).T
        if len(index) * len(halves) > self.max_nodes:
            raise RuntimeError(
                f"quadrature did not reach its tolerance with {self.max_nodes} nodes; raise "
                "max_nodes or tolerance. Decoders with very small scales need more nodes."
            )
        self.cells, self.is_first = 2 * self.cells, False
        self._evaluate((2 * index[:, None] + halves).reshape(-1, self.dimensions))

    def _evaluate(self, index: NDArray[np.int64]) -> None:
        """Log γ and mass of the cells, and what the decoder says of the compared columns there."""
        side = 2 * self.reach / self.cells
        self.index, self.nodes = index, (index.astype(float) + 0.5) * side - self.reach
        outputs = [output for _, output in self.decode(self.nodes)]
        log_likelihood, self.described = tf.nest.map_structure(lambda *batches: np.concatenate(batches), *outputs)
        self.log_gamma = log_likelihood - 0.5 * (self.nodes**2).sum(1) - 0.5 * self.dimensions * LOG_2PI
        highest = self.log_gamma.max()
        masses = np.exp(self.log_gamma - highest) * side**self.dimensions
        self.log_evidence = float(highest + np.log(masses.sum()))
        if not np.isfinite(self.log_evidence):
            raise RuntimeError(
                "The decoder gives the observed values no finite density anywhere; check its "
                "outputs for NaN and the observed values for their units."
            )
        self.weights = masses / masses.sum()
        ascending = np.sort(self.weights)
        self.kept = self.weights >= ascending[np.searchsorted(np.cumsum(ascending), _PRUNED)]
        self.weights *= self.kept / self.weights[self.kept].sum()

    def result(self, rows: NDArray[np.bool_]) -> LatentQuadrature:
        """Return what the chosen cells say."""
        weights = self.weights[rows]
        log_evidence = self.log_evidence + float(np.log(weights.sum()))
        described = {j: values[rows] for j, values in zip(self.compared, self.described, strict=True)}
        weights = weights / weights.sum()
        return LatentQuadrature(self.nodes[rows], weights, log_evidence, self.missing, self.model, described)


def _summary(result: LatentQuadrature, reference: LatentQuadrature) -> Array:
    """Log evidence, and distribution functions, probabilities and means of the compared columns.

    The reference says at which points, and what the unit of a mean is.
    """
    entries = [np.array([result.log_evidence])]
    for j, values in result.described.items():
        kind = result.model.likelihood.kind(j)
        if isinstance(kind, Normal):
            column = NormalColumn(reference.weights, *reference.described[j].T)
            points = column.mean + column.std * np.linspace(-4, 4, 33)
            entries.append(NormalColumn(result.weights, *values.T).sums(points)[0])
        else:
            unit = (kind.is_number and reference.described[j].std()) or 1.0
            entries.append(result.weights @ values / unit)
    return np.nan_to_num(np.concatenate(entries))  # NaN is a mean that does not exist


def _decoder(
    model: LatentVariableModel, read: Callable[[Parameters], Any]
) -> Callable[[Array], Iterator[tuple[slice, Any]]]:
    """Compile what is read off the parameters at nodes (g, l), in batches of one shape."""
    size = 2 ** int(np.clip(np.log2(2**22 / num_features(model)), 8, 13))
    shape = tf.TensorSpec((size, model.latent_dim))
    compiled = tf.function(lambda z: read(model.decode(z)), autograph=False).get_concrete_function(shape)

    def decode(nodes: Array) -> Any:
        padded = np.zeros((size, model.latent_dim), np.float32)
        padded[: len(nodes)] = nodes
        return tf.nest.map_structure(lambda a: a.numpy()[: len(nodes)], compiled(tf.constant(padded)))

    return lambda nodes: (
        (slice(start, start + size), decode(nodes[start : start + size])) for start in range(0, len(nodes), size)
    )


def _log_likelihood(likelihood: Likelihood, parameters: Parameters, row: Array) -> tf.Tensor:
    """Compute log p(x_o | z) of decoded nodes (b,) in float64, in which Normal columns are computed."""
    observed = np.flatnonzero(~np.isnan(row)).tolist()
    normal = [j for j in observed if isinstance(likelihood.kind(j), Normal)]
    others = [j for j in observed if j not in normal]
    total = tf.zeros(tf.shape(tf.nest.flatten(parameters)[0])[:1], tf.float64)
    if normal:
        parts = zip(*(likelihood.part(parameters, j)[1] for j in normal), strict=True)
        loc, scale = (tf.cast(tf.concat(part, 1), tf.float64) for part in parts)
        total -= tf.reduce_sum(0.5 * (((row[normal] - loc) / scale) ** 2 + LOG_2PI) + tf.math.log(scale), 1)
    if others:
        log_prob = likelihood.log_prob(parameters, tf.constant(np.nan_to_num(row)[None], tf.float32))
        total += tf.reduce_sum(tf.cast(tf.gather(log_prob, others, axis=1), tf.float64), 1)
    return total


def _describe(likelihood: Likelihood, parameters: Parameters, j: int) -> tf.Tensor:
    """Location and scale, probabilities or mean of column ``j`` at decoded nodes (b, k), in float64."""
    kind, part = likelihood.part(parameters, j)
    if isinstance(kind, Normal):
        return tf.cast(tf.concat(part, 1), tf.float64)
    if isinstance(kind, Bernoulli):
        logit = tf.cast(part, tf.float64)
        return tf.sigmoid(tf.concat([-logit, logit], 1))
    if isinstance(kind, Categorical):
        return tf.nn.softmax(tf.cast(part, tf.float64))
    return tf.cast(kind.mean(part), tf.float64)


def _moments(kind: Likelihood, values: Array) -> tuple[ArrayLike, ArrayLike]:
    """Mean and variance (b,) from what `_describe` says; NaN where there is none, or none is known."""
    if isinstance(kind, Normal):
        return values[:, 0], values[:, 1] ** 2
    if isinstance(kind, Bernoulli):
        return values[:, 1], values[:, 0] * values[:, 1]
    return values[:, 0] if kind.has_mean else np.nan, np.nan


def _monotone(x: Array, F: Array, f: Array) -> CubicHermiteSpline:
    # A slope of at most 3 times the neighbouring secants keeps a cubic monotone
    # (Fritsch and Carlson, 1980).
    secant = np.diff(F) / np.diff(x)
    limit = 3 * np.minimum(np.r_[secant[0], secant], np.r_[secant, secant[-1]])
    return CubicHermiteSpline(x, F, np.minimum(f, limit))
