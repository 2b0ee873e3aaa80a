"""Importance resampling from Laplace approximations."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import tensorflow as tf

from ..seeds import RowSeed
from .base import AT_ONCE, Target, select, shaped_like
from .mixture import Mixture, inverse_of
from .proposal import FromMixture

_STEP = 1e-2  # of the differences by which the decoder is differentiated, in prior standard deviations
_FEWEST = 12 * AT_ONCE  # climbs that go on together


@dataclass(frozen=True)
class Laplace(FromMixture):
    """Climb to the modes of p(z | x_o), propose from the normal distributions that fit there, weigh, resample.

    From a few starts, half of them drawn from the encoder at completions of the row (or at the row itself,
    if it is a `VAE` that reads its mask) and half from the prior, damped Fisher scoring climbs
    log p(z) p(x_o | z). The precision at the end is I + Jᵀ F J, with the decoder's Jacobian J and the
    likelihood's Fisher information F of the observed columns. The proposal is the mixture of these
    normals, a little inflated, and of the prior, which bounds the weights. Where the decoder is linear,
    it is the posterior itself. The draws are consistent as the proposals grow; where the approximation
    is poor, the weights say so.

    Parameters
    ----------
    num_starts : int, optional
        Starts for each row: by default 12, or 24 or 48 where these take no more than a quarter of the
        decoder's calls. Where two modes share the prior evenly, all climbs miss one of them with
        probability 2 / 2^(num_starts), and in many dimensions the prior's proposals do not meet it either.
    inflation : float
        Factor on the covariances, at least 1.
    num_iterations : int
        Steps of each climb, at the most.
    prior_share : float
        Share of the proposals that come from the prior, in (0, 1). They meet what no climb has found.
    oversampling, num_chains, num_steps : int, optional
        Of the run, see `Weighted`: 4 proposals for each draw, 400 at the least, in groups of 100.

    References
    ----------
    Tierney and Kadane (1986), Accurate approximations for posterior moments and marginal densities.
    Hesterberg (1995), Weighted average importance sampling and defensive mixture distributions.
    """

    num_starts: int | None = None
    inflation: float = 1.3
    num_iterations: int = 20

    def __post_init__(self):
        super().__post_init__()
        starts = 1 if self.num_starts is None else self.num_starts
        if min(starts, self.num_iterations) < 1 or not self.inflation >= 1.0:
            raise ValueError("num_starts, num_iterations and inflation must be at least 1")

    def plan(self, num_samples, latent_dim=2):
        sampler, plan = super().plan(num_samples, latent_dim)
        if self.num_starts is None:
            climb = 10 * (latent_dim + 1)  # calls of one, roughly
            paid = plan.num_chains * plan.num_steps * self.num_particles / (4 * climb)
            sampler = replace(sampler, num_starts=48 if paid >= 48 else 24 if paid >= 24 else 12)
        return sampler, plan

    @property
    def num_components(self) -> int:
        return self.num_starts or 12

    def make(self, target: Target, seed: RowSeed) -> tuple[Mixture, Any]:
        of_encoders, of_prior = seed.split()
        num_starts = self.num_components
        reads_holes = getattr(target.model, "reads_mask", False)
        num_encoders = num_starts // 2
        guessed = 0 if reads_holes else num_encoders + -num_encoders % AT_ONCE  # decoded, then encoded
        z = of_prior.normal((num_starts, target.latent_dim))
        if num_encoders:
            # In sixteens, as the climbs below.
            x = tf.repeat(target.holes, AT_ONCE, 1) if reads_holes else target.guess(guessed, of_encoders)
            loc, scale = (a[:, :1] if reads_holes else a[:, :num_encoders] for a in target.encode(x))
            z = tf.concat([loc + scale * z[:, :num_encoders], z[:, num_encoders:]], 1)
        z = tf.ensure_shape(z, (None, num_starts, target.latent_dim))
        mixture, calls = self.climb(target, z)
        return mixture, tf.stack([min(1, num_encoders) if reads_holes else guessed, guessed + calls])

    def climb(self, target, z):
        """Fit a normal distribution to the mode above each of the starts ``z`` (n, K, l); count the decoder's calls."""
        # 1. Fisher scoring, damped where a step has led down, by all climbs that have not arrived.
        count, dim = z.shape[1], target.latent_dim
        num_rows, total = tf.shape(z)[0], tf.shape(z)[0] * count
        row = tf.repeat(tf.range(num_rows), count)
        start: Any = tf.reshape(z, (-1, 1, dim))  # each climb as a row with one chain
        none = tf.zeros_like(start[..., 0])
        unit = tf.eye(dim) + tf.zeros_like(start[..., None])
        # At first nobody knows the slope: the first step goes nowhere, and is accepted.
        first = (none > 0.0, start, none + 5.0, none - math.inf, tf.zeros_like(start), unit)

        def ascend(number, climbed, arrived, *state):
            climbing = tf.where(~arrived[:, 0])[:, 0]
            # In sixteens, and not in a small matrix, so that the climbs beside one change no rounding.
            size = tf.maximum(tf.size(climbing), _FEWEST)
            climbing = tf.concat([climbing, tf.repeat(climbing[:1], size + -size % AT_ONCE - tf.size(climbing))], 0)
            z, damping, gamma, gradient, precision = (tf.gather(a, climbing) for a in state)
            diagonal = tf.linalg.diag_part(precision)
            damped = tf.linalg.set_diag(precision, diagonal * (1.0 + damping[..., None]))
            z_new = z + solve(damped, gradient)
            gamma_new, *slope_new = slope(target.take(tf.gather(row, climbing)), z_new)
            up = gamma_new >= gamma
            flat = (up & (gamma_new - gamma < 1e-3)) | (damping > 1e3)
            best = select(up, (z_new, gamma_new, *slope_new), (z, gamma, gradient, precision))
            new = flat, best[0], tf.where(up, 0.2 * damping, 5.0 * damping), *best[1:]
            all_climbs = zip((arrived, *state), new, strict=True)
            put = tuple(tf.tensor_scatter_nd_update(a, climbing[:, None], b) for a, b in all_climbs)
            return number + 1, climbed + tf.size(climbing), *shaped_like(put, first)

        _, climbed, _, z, _, gamma, gradient, precision = tf.while_loop(
            lambda number, climbed, arrived, *_: (number <= self.num_iterations) & ~tf.reduce_all(arrived),
            ascend,
            (0, total, *first),
        )
        # 2. One undamped step: it is exact where the decoder is linear.
        last = z + solve(precision, gradient)
        gamma_last, _, precision_last = slope(target.take(row), last)
        found = select(gamma_last >= gamma, (last, gamma_last, precision_last), (z, gamma, precision))
        z, gamma, precision = (tf.reshape(a, (num_rows, count, *a.shape[2:])) for a in found)
        # 3. Each mode holds a mass, and gets proposals by the square root of it: so even a mode of 2 % gets
        #    enough of them, and one that several climbs have found does not crowd out the others.
        white = tf.linalg.matrix_transpose(tf.linalg.cholesky(precision / self.inflation))
        root = tf.linalg.matrix_transpose(inverse_of(tf.linalg.matrix_transpose(white)))
        mass = gamma - tf.reduce_sum(tf.math.log(tf.linalg.diag_part(white)), -1)
        calls = -(-climbed * (dim + 1) // num_rows)  # on average over the rows
        return Mixture(tf.nn.log_softmax(0.5 * mass), z, root, white), calls

    def memory(self, target, plan):
        climbs = self.num_components * target.latent_dim * 2.0 * (target.width + 6 * target.num_features)
        return super().memory(target, plan) + climbs / plan.num_chains


def slope(target, z):
    """Log p(z) p(x_o | z) at ``z`` (n, K, l), its gradient, and the precision I + Jᵀ F J (n, K, l, l)."""
    dim, likelihood = target.latent_dim, target.model.likelihood
    with tf.GradientTape() as tape:
        tape.watch(z)
        parameters = target.decode(z)
        gamma = target.log_gamma(z, parameters)
    gradient = tape.gradient(gamma, z)
    # The decoder's Jacobian by differences, one latent dimension at a time.
    points = tf.reshape(z[:, :, None] + _STEP * tf.eye(dim), tf.stack([tf.shape(z)[0], -1, dim]))

    def differ(there, here):
        there = tf.reshape(there, tf.concat([tf.shape(z)[:2], [dim, there.shape[-1]]], 0))
        return (there - here[:, :, None]) / _STEP

    tangents = tf.nest.map_structure(differ, target.decode(points), parameters)
    here = tf.nest.map_structure(lambda a: a[:, :, None], parameters)
    root = likelihood.fisher_root(here, tangents, target.values[:, :, None])  # (n, K, l, d, q)
    root = tf.where(target.observed[:, :, None, :, None] & tf.math.is_finite(root), root, 0.0)
    root = tf.reshape(root, tf.concat([tf.shape(root)[:3], [-1]], 0))
    information = tf.matmul(root, root, transpose_b=True)
    return gamma, tf.where(tf.math.is_finite(gradient), gradient, 0.0), information + tf.eye(dim)


def solve(precision, gradient):
    """Solve for the step ``precision``⁻¹ ``gradient`` (n, K, l), no longer than a few prior standard deviations."""
    step = tf.linalg.cholesky_solve(tf.linalg.cholesky(precision), gradient[..., None])[..., 0]
    size = tf.norm(step, axis=-1, keepdims=True)
    return step * tf.minimum(1.0, 5.0 * math.sqrt(gradient.shape[-1]) / tf.maximum(size, 1e-9))
