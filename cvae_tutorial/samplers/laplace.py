"""Importance resampling from Laplace approximations."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import tensorflow as tf

from .base import Info, Particles, Weighted, count, log_prior, select, shaped_like, untested
from .importance import no_particles
from .mixture import Mixture, inverse_of

_STEP = 1e-2  # of the differences by which the decoder is differentiated, in prior standard deviations


@dataclass(frozen=True)
class Laplace(Weighted):
    """Climb to the modes of p(z | x_o), propose from the normal distributions that fit there, weigh, resample.

    From a few starts, half of them drawn from the encoder at completions of the row and half from the prior,
    damped Fisher scoring climbs log p(z) p(x_o | z). The precision at the end is I + Jᵀ F J, with the
    decoder's Jacobian J and the likelihood's Fisher information F of the observed columns. The
    proposal is the mixture of these normals, a little inflated, and of the prior, which bounds the
    weights. Where the decoder is linear, it is the posterior itself. The draws are consistent as the
    proposals grow; where the approximation is poor, the weights say so.

    Parameters
    ----------
    num_starts : int, optional
        Starts for each row: by default 12, or 24 or 48 where these take no more than a quarter of the
        decoder's calls. Where two modes share the prior evenly, all climbs miss one of them with
        probability 2 / 2^(num_starts), and in many dimensions the prior's proposals do not meet it either.
    inflation : float
        Factor on the covariances, at least 1.
    prior_share : float
        Share of the proposals that come from the prior, in (0, 1). They meet what no climb has found.
    num_iterations : int
        Steps of each climb, at the most.
    oversampling, num_chains, num_steps : int, optional
        Of the run, see `Weighted`: 4 proposals for each draw, 400 at the least, in groups of 100.

    References
    ----------
    Tierney and Kadane (1986), Accurate approximations for posterior moments and marginal densities.
    Hesterberg (1995), Weighted average importance sampling and defensive mixture distributions.
    """

    num_starts: int | None = None
    inflation: float = 1.3
    prior_share: float = 0.25
    num_iterations: int = 20
    oversampling: int = 4

    min_proposals = 400
    accepts_start = False

    @property
    def num_particles(self):
        return 100

    def __post_init__(self):
        super().__post_init__()
        counts = (1 if self.num_starts is None else self.num_starts, self.num_iterations, self.oversampling)
        if min(counts) < 1 or not self.inflation >= 1.0:
            raise ValueError("num_starts, num_iterations, oversampling and inflation must be at least 1")
        if not 0.01 <= self.prior_share <= 0.99:
            raise ValueError(f"prior_share must be between .01 and .99, got {self.prior_share}")

    def num_from_prior(self, num_proposals):
        return round(self.prior_share * num_proposals)

    def plan(self, num_samples, latent_dim=2):
        sampler, plan = super().plan(num_samples, latent_dim)
        if self.num_starts is None:
            climb = 10 * (latent_dim + 1)  # calls of one, roughly
            paid = plan.num_chains * plan.num_steps * self.num_particles / (4 * climb)
            sampler = replace(sampler, num_starts=48 if paid >= 48 else 24 if paid >= 24 else 12)
        return sampler, plan._replace(num_prior=self.num_particles - 1)

    class State(NamedTuple):
        particles: Any  # weighted draws of the last step, (n, C, 100)
        mixture: Any  # the normals at the ends of the climbs, K of each row
        climbs: Any  # rows that the climbs sent through the decoder, counted with the first step

    def init(self, target, plan, seed, start=None):
        of_encoders, of_prior = seed.split()
        num_encoders = self.num_starts // 2
        z = of_prior.normal((self.num_starts, target.latent_dim))
        if num_encoders:
            loc, scale = target.encode(target.guess(num_encoders, of_encoders))
            z = tf.concat([loc + scale * z[:, :num_encoders], z[:, num_encoders:]], 1)
        z = tf.ensure_shape(z, (None, self.num_starts, target.latent_dim))
        empty = tf.zeros(tf.stack([tf.shape(z)[0], plan.num_chains]))
        return self.State(no_particles(empty, self.num_particles, target.latent_dim), *self.climb(target, z))

    def climb(self, target, z):
        """Fit a normal distribution to the mode above each of the starts ``z`` (n, K, l); count the decoder's calls."""
        # 1. Fisher scoring, damped where a step has led down. A climb that has arrived waits for the others.
        none = tf.zeros_like(z[..., 0])
        first = (z, none + 1.0, none > 0.0, *slope(target, z))

        def ascend(number, z, damping, arrived, gamma, gradient, precision):
            diagonal = tf.linalg.diag_part(precision)
            damped = tf.linalg.set_diag(precision, diagonal * (1.0 + damping[..., None]))
            z_new = z + solve(damped, gradient)
            gamma_new, gradient_new, precision_new = slope(target, z_new)
            up = (gamma_new >= gamma) & ~arrived
            flat = (up & (gamma_new - gamma < 1e-3)) | (damping > 1e3)
            damping = tf.where(up, 0.2 * damping, 5.0 * damping)
            best = select(up, (z_new, gamma_new, gradient_new, precision_new), (z, gamma, gradient, precision))
            new = (best[0], damping, arrived | flat, *best[1:])
            return number + 1, *shaped_like(new, first)

        number, z, _, _, gamma, gradient, precision = tf.while_loop(
            lambda number, z, damping, arrived, *_: (number < self.num_iterations) & ~tf.reduce_all(arrived),
            ascend,
            (0, *first),
        )
        # 2. One undamped step: it is exact where the decoder is linear.
        last = z + solve(precision, gradient)
        gamma_last, _, precision_last = slope(target, last)
        z, gamma, precision = select(gamma_last >= gamma, (last, gamma_last, precision_last), (z, gamma, precision))
        # 3. Each mode holds a mass, and gets proposals by the square root of it: so even a mode of 2 % gets
        #    enough of them, and one that several climbs have found does not crowd out the others.
        white = tf.linalg.matrix_transpose(tf.linalg.cholesky(precision / self.inflation))
        root = tf.linalg.matrix_transpose(inverse_of(tf.linalg.matrix_transpose(white)))
        mass = gamma - tf.reduce_sum(tf.math.log(tf.linalg.diag_part(white)), -1)
        calls = (number + 2) * self.num_starts * (target.latent_dim + 1)
        return Mixture(tf.nn.log_softmax(0.5 * mass), z, root, white), calls

    def step(self, target, state, seed):
        z, log_proposal = propose(state.mixture, tf.shape(state.particles.log_weight), self.prior_share, seed)
        gamma = target.log_gamma(z, target.decode(z))
        shape = tf.shape(state.particles.z)
        particles = Particles(tf.reshape(z, shape), tf.reshape(gamma - log_proposal, shape[:3]))
        info = Info(untested(z[:, :1]), 0, count(z) + state.climbs)
        return self.State(particles, state.mixture, tf.zeros_like(state.climbs)), info

    def memory(self, target, plan):
        climbs = self.num_starts * target.latent_dim * 2.0 * (target.width + 6 * target.num_features)
        return super().memory(target, plan) + climbs / plan.num_chains


def propose(mixture, shape, prior_share, seed):
    """Draw z (n, C P, l) from a mixture and the prior, in their shares; returns also the log density.

    ``shape`` is (n, C, P). The components' shares are drawn by systematic resampling.
    """
    of_component, of_noise, of_prior = seed.split(3)
    total = shape[1] * shape[2]
    from_prior = tf.cast(tf.round(prior_share * tf.cast(total, "float32")), "int32")
    rest = total - from_prior
    place = tf.cast(tf.range(rest), "float32") + of_component.uniform((1,))
    dim = mixture.loc.shape[-1]
    centre, deviation = mixture.pick(place / tf.cast(rest, "float32"), of_noise.normal(tf.stack([rest, dim])))
    z = tf.concat([centre + deviation, of_prior.normal(tf.stack([from_prior, dim]))], 1)
    share = tf.cast(from_prior, "float32") / tf.cast(total, "float32")
    parts = [tf.math.log1p(-share) + mixture.log_prob(z), tf.math.log(share) + log_prior(z)]
    return z, tf.reduce_logsumexp(parts, axis=0)


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
