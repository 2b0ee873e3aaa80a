"""Exact conditionals of a model by quadrature over a small latent space.

These are answers about the *model*.  How far the model is from the data's distribution is a
separate question; for a Gaussian mixture, `GaussianMixture.condition` answers it.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import tensorflow as tf
from scipy.interpolate import CubicHermiteSpline
from scipy.special import expit, logsumexp, ndtr, softmax

from ..evidence import check_evidence
from ..likelihoods import Bernoulli, Categorical, Columns, Normal

_LOG_2PI = np.log(2 * np.pi)
_PRUNED = 1e-9  # mass of the quadrature nodes left out of the result
_CELLS = {1: 8192, 2: 512}  # cells of the first grid along each latent dimension


# Quadrature


def quadrature(
    model, observed, tolerance: float = 1e-4, reach: float = 8.0, max_nodes: int = 4_000_000
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
        distribution functions of the missing columns.  At most eight columns are compared.
    reach : float
        The first grid covers [-reach, reach] in each dimension.  It doubles until no mass
        touches the border.
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
        If ``max_nodes`` do not suffice to reach ``tolerance``.

    Notes
    -----
    The integrand is γ(z) = p(z) p(x_o | z). The midpoint rule on a uniform grid converges faster
    than any power of the spacing for a smooth γ, and with its square across the kinks of a ReLU
    network. Each resolution halves the cells near which γ is not negligible and drops the others.
    Normal densities are evaluated in float64.
    """
    if model.latent_dim not in (1, 2):
        raise ValueError(
            f"quadrature needs 1 or 2 latent dimensions; this model has {model.latent_dim}. "
            "Compare with a long run of importance resampling instead."
        )
    width = _width(model)
    names = getattr(model, "feature_names", None)
    evidence = check_evidence(observed, width, model.likelihood, names)
    if len(evidence.values) != 1:
        raise ValueError("quadrature takes one row of evidence; call it once per row.")
    row = evidence.values[0]
    while reach < 1e6:
        grid = _Grid(model, row, reach, max_nodes)
        if grid.border_mass < 1e-9:
            break
        reach *= 2
    missing = tuple(int(j) for j in np.flatnonzero(np.isnan(row)))
    points, previous = None, None
    while True:
        result = grid.result(missing)
        if points is None:
            points = {j: _check_points(result, j) for j in _evenly(missing, 8)}
        current = np.concatenate(
            [[result.log_evidence], *(_check_values(result, j, p) for j, p in points.items())]
        )
        if previous is not None and np.abs(current - previous).max() < tolerance:
            return result
        previous = current
        grid.refine()


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
        Decodes the nodes when a result is asked for, so that wide tables need no memory.
    """

    nodes: np.ndarray
    weights: np.ndarray
    log_evidence: float
    missing: tuple[int, ...]
    model: Any = field(repr=False)

    def column(self, j: int) -> NormalColumn | DiscreteColumn:
        """Return the conditional of missing column ``j``."""
        if j not in self.missing:
            raise ValueError(f"Column {j} is not missing; the missing columns are {self.missing}.")
        kind, parts = None, []
        for _, parameters in _decoded(self.model, self.nodes):
            kind, part = _column(self.model.likelihood, parameters, j)
            parts.append(part)
        part = np.concatenate(parts)
        if isinstance(kind, Normal):
            return NormalColumn(self.weights, part[:, 0], part[:, 1])
        return DiscreteColumn(self.weights @ part)

    @property
    def mean(self) -> np.ndarray:
        """Mean of the missing columns, shape (m,); NaN for a categorical column."""
        return sum(self.weights[rows] @ mean for rows, mean, _ in self._moments())

    @property
    def covariance(self) -> np.ndarray:
        """Covariance of the missing columns, shape (m, m); NaN for a categorical column."""
        centre, total = self.mean, 0.0
        for rows, mean, variance in self._moments():
            weights, centred = self.weights[rows], mean - centre
            total = total + (weights[:, None] * centred).T @ centred + np.diag(weights @ variance)
        return total

    def sample(self, num_samples: int, seed=None) -> np.ndarray:
        """Draw the missing columns jointly, shape (s, m)."""
        rng = np.random.default_rng(seed)
        chosen = rng.choice(len(self.nodes), num_samples, p=self.weights)
        draws = np.empty((num_samples, len(self.missing)))
        for rows, parameters in _decoded(self.model, self.nodes[chosen]):
            pair = rng.integers(2**31 - 1, size=2).astype(np.int32)
            x = np.asarray(self.model.likelihood.sample(parameters, pair))
            draws[rows] = x[:, list(self.missing)]
        return draws

    def _moments(self) -> Iterator[tuple[slice, np.ndarray, np.ndarray]]:
        for rows, parameters in _decoded(self.model, self.nodes):
            moments = []
            for j in self.missing:
                kind, part = _column(self.model.likelihood, parameters, j)
                if isinstance(kind, Normal):
                    moments.append((part[:, 0], part[:, 1] ** 2))
                elif isinstance(kind, Bernoulli):
                    moments.append((part[:, 1], part[:, 0] * part[:, 1]))
                else:
                    moments.append((np.full(len(part), np.nan),) * 2)
            mean, variance = (np.stack(a, 1) for a in zip(*moments, strict=True))
            yield rows, mean, variance


@dataclass(frozen=True, eq=False)
class DiscreteColumn:
    """Conditional of a Bernoulli or categorical column.

    Attributes
    ----------
    probabilities : numpy.ndarray, shape (k,)
        Probability of each code 0, …, k-1.
    """

    probabilities: np.ndarray

    def sample(self, num_samples: int, seed=None) -> np.ndarray:
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

    weights: np.ndarray
    loc: np.ndarray
    scale: np.ndarray

    @property
    def mean(self) -> np.ndarray:
        """Mean, shape (1,)."""
        return np.array([self.weights @ self.loc])

    @property
    def std(self) -> np.ndarray:
        """Standard deviation, shape (1,)."""
        return np.sqrt([self.weights @ (self.scale**2 + (self.loc - self.mean) ** 2)])

    def sample(self, num_samples: int, seed=None) -> np.ndarray:
        """Draw values, shape (s, 1)."""
        rng = np.random.default_rng(seed)
        k = rng.choice(len(self.weights), num_samples, p=self.weights)
        return (self.loc[k] + self.scale[k] * rng.standard_normal(num_samples))[:, None]

    def pdf(self, x) -> np.ndarray:
        """Density at ``x``, any shape, summed over all nodes."""
        return self._sum(x)[1]

    prob = pdf

    def cdf(self, x) -> np.ndarray:
        """Cumulative distribution function at ``x``, any shape."""
        knots = self._spline.x
        return np.clip(self._spline(np.clip(x, knots[0], knots[-1])), 0.0, 1.0)

    def ppf(self, q) -> np.ndarray:
        """Quantiles at levels ``q`` in [0, 1], any shape; 0 and 1 give the ends of the support."""
        q, spline = np.asarray(q, float), self._spline
        if not ((q >= 0) & (q <= 1)).all():
            raise ValueError("q must lie between 0 and 1.")
        right = np.clip(np.searchsorted(spline(spline.x), q), 1, len(spline.x) - 1)
        low, high = spline.x[right - 1], spline.x[right]
        for _ in range(60):
            middle = 0.5 * (low + high)
            too_low = spline(middle) < q
            low, high = np.where(too_low, middle, low), np.where(too_low, high, middle)
        return 0.5 * (low + high)

    def _sum(self, x) -> tuple[np.ndarray, np.ndarray]:
        """Distribution function and density, exact but for tails beyond 6.5 scales (4e-11)."""
        flat, inverse = np.unique(np.asarray(x, float), return_inverse=True)
        total, order = np.zeros((2, flat.size)), np.argsort(self.loc)
        for start in range(0, len(order), 1024):
            k = order[start : start + 1024]
            weights, loc, scale = self.weights[k], self.loc[k], self.scale[k]
            first = np.searchsorted(flat, (loc - 6.5 * scale).min())
            last = np.searchsorted(flat, (loc + 6.5 * scale).max())
            total[0, last:] += weights.sum()
            for i in range(first, last, 1024):
                rows = slice(i, min(i + 1024, last))
                scaled = (flat[rows, None] - loc) / scale
                total[0, rows] += ndtr(scaled) @ weights
                total[1, rows] += np.exp(-0.5 * (scaled**2 + _LOG_2PI)) @ (weights / scale)
        return tuple(total[:, inverse.ravel()].reshape(2, *np.shape(x)))

    @cached_property
    def _spline(self) -> CubicHermiteSpline:
        low, high = (self.loc - 8 * self.scale).min(), (self.loc + 8 * self.scale).max()
        order = np.argsort(self.loc)
        ranks = np.searchsorted(np.cumsum(self.weights[order]), np.linspace(0, 1, 33)[1:-1])
        starts = self.loc[order][np.minimum(ranks, len(order) - 1)]
        x = np.unique(np.concatenate([np.linspace(low, high, 33), starts]))
        F, f = self._sum(x)
        active = np.ones(len(x) - 1, bool)
        while active.any():
            spline, todo = _monotone(x, F, f), np.flatnonzero(active)
            middle = 0.5 * (x[todo] + x[todo + 1])
            F_middle, f_middle = self._sum(middle)
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

    def __init__(self, model, row, reach, max_nodes):
        self.model, self.row, self.reach, self.max_nodes = model, row, reach, max_nodes
        self.cells = _CELLS[model.latent_dim]  # along each dimension
        axes = np.meshgrid(*[np.arange(self.cells)] * model.latent_dim, indexing="ij")
        self.index = np.stack(axes, -1).reshape(-1, model.latent_dim)
        self.log_gamma = self._evaluate()

    @property
    def nodes(self):
        """Centres of the cells (g, l)."""
        return (self.index + 0.5) * (2 * self.reach / self.cells) - self.reach

    @property
    def log_masses(self):
        """Log of γ times the volume of each cell (g,)."""
        return self.log_gamma + self.model.latent_dim * np.log(2 * self.reach / self.cells)

    @property
    def log_evidence(self):
        total = logsumexp(self.log_masses)
        if not np.isfinite(total):
            raise RuntimeError(
                "The decoder gives the observed values no finite density anywhere; check its "
                "outputs for NaN and the observed values for their units."
            )
        return total

    @property
    def border_mass(self):
        """Share of the evidence in the outermost cells."""
        outermost = ((self.index == 0) | (self.index == self.cells - 1)).any(1)
        return np.exp(logsumexp(self.log_masses[outermost]) - self.log_evidence)

    def refine(self):
        """Halve the cells in which γ is not negligible, and their neighbours."""
        dimensions = self.index.shape[1]
        # A peak may be narrower than a cell of the first grid, so only hopeless cells go there.
        depth = 40.0 if self.cells == _CELLS[dimensions] else 25.0
        kept = self.index[self.log_gamma > self.log_gamma.max() - depth]
        steps = itertools.product([-1, 0, 1], repeat=dimensions)
        around = np.unique(np.concatenate([self._keys(kept + step) for step in steps]))
        around = around[around >= 0]
        halves = np.array(list(itertools.product([0, 1], repeat=dimensions)))
        if len(around) * len(halves) > self.max_nodes:
            raise RuntimeError(
                f"quadrature did not reach its tolerance with {self.max_nodes} nodes; raise "
                "max_nodes or tolerance. Decoders with very small scales need more nodes."
            )
        index = np.stack(np.unravel_index(around, (self.cells,) * dimensions), -1)
        self.index = (2 * index[:, None] + halves).reshape(-1, dimensions)
        self.cells *= 2
        self.log_gamma = self._evaluate()

    def _keys(self, index):
        """One number for each cell; -1 outside the grid."""
        inside = ((index >= 0) & (index < self.cells)).all(1)
        shape = (self.cells,) * index.shape[1]
        return np.where(inside, np.ravel_multi_index(index.T, shape, mode="clip"), -1)

    def result(self, missing):
        """Return the nodes that carry mass."""
        weights = np.exp(self.log_masses - self.log_evidence)
        order = np.argsort(weights)
        kept = np.sort(order[np.cumsum(weights[order]) > _PRUNED])
        weights = weights[kept] / weights[kept].sum()
        return LatentQuadrature(self.nodes[kept], weights, float(self.log_evidence), missing, self.model)

    def _evaluate(self):
        """Log γ at the centres (g,)."""
        nodes = self.nodes
        log_gamma = -0.5 * (nodes**2).sum(1) - 0.5 * self.model.latent_dim * _LOG_2PI
        columns = np.flatnonzero(~np.isnan(self.row))
        for rows, parameters in _decoded(self.model, nodes):
            log_gamma[rows] += self._log_likelihood(parameters, columns)
        return log_gamma

    def _log_likelihood(self, parameters, columns):
        """Log p(x_o | z) of decoded nodes (b,), Normal columns in float64."""
        likelihood, others, total = self.model.likelihood, None, 0.0
        for j in columns:
            if isinstance(likelihood.kind(j), Normal):
                loc, scale = _column(likelihood, parameters, j)[1].T
                total = total - 0.5 * (((self.row[j] - loc) / scale) ** 2 + _LOG_2PI) - np.log(scale)
            else:
                if others is None:
                    row = tf.constant(np.nan_to_num(self.row)[None], tf.float32)
                    others = np.asarray(likelihood.log_prob(parameters, row), float)
                total = total + others[:, j]
        return total


def _decoded(model, nodes) -> Iterator[tuple[slice, Any]]:
    """Decode nodes in batches of one shape, so that nothing is traced twice."""
    size = 2 ** int(np.clip(np.log2(2**22 / _width(model)), 8, 15))
    for start in range(0, len(nodes), size):
        part = nodes[start : start + size]
        padded = np.zeros((size, nodes.shape[1]), np.float32)
        padded[: len(part)] = part
        parameters = model.decode(tf.constant(padded))
        yield (
            slice(start, start + len(part)),
            tf.nest.map_structure(lambda a, n=len(part): a[:n], parameters),
        )


def _width(model) -> int:
    """Number of columns, d."""
    parameters = model.decode(tf.zeros((1, model.latent_dim)))
    return int(model.likelihood.mean(parameters).shape[-1])


def _column(likelihood, parameters, j) -> tuple[Any, np.ndarray]:
    """Kind of column ``j``, and its (loc, scale) or probabilities in float64, shape (b, ·)."""
    kind, i = likelihood.kind(j), j
    if isinstance(likelihood, Columns):
        groups = zip(parameters, likelihood._groups, strict=True)
        parameters, i = next((part, own.index(j)) for part, (_, own) in groups if j in own)
    if isinstance(kind, Normal):
        return kind, np.stack([np.asarray(a[:, i], float) for a in parameters], 1)
    if isinstance(kind, Bernoulli):
        logit = np.asarray(parameters[:, i], float)
        return kind, np.stack([expit(-logit), expit(logit)], 1)
    if isinstance(kind, Categorical):
        return kind, softmax(np.asarray(parameters, float), axis=1)
    raise ValueError(f"Column {j} has a likelihood with no exact conditional here: {kind!r}.")


def _evenly(columns, num):
    """At most ``num`` of the columns, evenly spread."""
    return columns[:: max(1, -(-len(columns) // num))]


def _check_points(result, j):
    column = result.column(j)
    if isinstance(column, DiscreteColumn):
        return None
    return column.mean + column.std * np.linspace(-4, 4, 33)


def _check_values(result, j, points):
    column = result.column(j)
    return column.probabilities if points is None else column._sum(points)[0]


def _monotone(x, F, f) -> CubicHermiteSpline:
    # A slope of at most 3 times the neighbouring secants keeps a cubic monotone
    # (Fritsch and Carlson, 1980).
    secant = np.diff(F) / np.diff(x)
    limit = 3 * np.minimum(np.r_[secant[0], secant], np.r_[secant, secant[-1]])
    return CubicHermiteSpline(x, F, np.minimum(f, limit))
