"""Importance resampling with a proposal that does not adapt."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import tensorflow as tf

from .base import Info, Particles, Weighted, count, draw_normal, log_prior, log_q, untested


def propose(target, x, num_prior, seed):
    """Draw one z from the encoder at each of K completions and R from the prior, and weigh them.

    Every draw is weighed against the whole mixture (the balance heuristic),
    w = p(z) p(x_o | z) / {[sum_k q(z | x_o, x_m^k) + R p(z)] / (K + R)}.

    Parameters
    ----------
    target : Target
    x : tensor (n, C, K, d)
        Completions; K may be 0.
    num_prior : int
        R, at least 1 if K is 0.
    seed : RowSeed

    Returns
    -------
    particles : Particles, with P = K + R
    parameters : of p(x | z), with leading axes (n, C * P)
    """
    of_prior, of_encoders = seed.split()
    num_rows, num_chains = tf.shape(x)[0], tf.shape(x)[1]
    z = of_prior.normal(tf.stack([num_chains, num_prior, target.latent_dim]))
    if x.shape[2] == 0:
        proposal = log_prior(z)
    else:
        loc, scale = target.encode(x)
        z = tf.concat([draw_normal((loc, scale), of_encoders), z], axis=2)
        proposal = log_mixture(z, loc, scale, num_prior)
    flat = tf.reshape(z, tf.stack([num_rows, -1, target.latent_dim]))
    parameters = target.decode(flat)
    gamma = tf.reshape(target.log_gamma(flat, parameters), tf.shape(proposal))
    return Particles(z, gamma - proposal), parameters


def log_mixture(z, loc, scale, num_prior):
    """Log {[sum_k q(z | x_o, x_m^k) + R p(z)] / (K + R)} of every particle, (n, C, P).

    ``z`` is (n, C, P, l); ``loc`` and ``scale`` of the encoders are (n, C, K, l).
    """
    # log q of every particle under every encoder, (n, C, P, K): by far the largest tensor, so this
    # is log_q with the constants taken out, and with the latent axis before the encoders, as
    # TensorFlow is slow to sum over a short last axis.
    centre, precision = (tf.linalg.matrix_transpose(a)[:, :, None] for a in (loc, 1.0 / scale))
    residual = (z[..., None] - centre) * precision  # (n, C, P, l, K)
    constant = log_q(loc, loc, scale)[:, :, None]
    encoders = tf.maximum(constant - 0.5 * tf.reduce_sum(tf.square(residual), -2), -1e30)
    prior = log_prior(z) + tf.math.log(tf.cast(num_prior, "float32"))  # -inf without proposals from it
    total = tf.reduce_logsumexp([tf.reduce_logsumexp(encoders, -1), prior], axis=0)
    return total - tf.math.log(tf.cast(tf.shape(loc)[2] + num_prior, "float32"))


@dataclass(frozen=True)
class Importance(Weighted):
    """Draw z from a fixed proposal, weigh it by p(z) p(x_o | z) / proposal(z), resample.

    Consistent as the number of proposals grows. The effective sample size falls as more columns
    are observed; Pareto-k tells when it has failed.

    Parameters
    ----------
    num_encoders : int
        Encoders K in the proposal, at completions drawn from the prior. 0 (default) proposes from
        the prior alone, and the weight is p(x_o | z).
    num_prior : int
        Prior components R of the proposal, each drawn from once per step.
    oversampling, num_chains, num_steps : int, optional
        Of the run, see `Weighted`: 40 proposals for each draw, one step.

    References
    ----------
    Rubin (1987), the sampling/importance resampling algorithm; Vehtari et al. (2024), Pareto
    smoothed importance sampling, for the diagnostic.
    """

    num_encoders: int = 0
    num_prior: int = 100

    def __post_init__(self):
        super().__post_init__()
        if self.num_encoders < 0 or self.num_prior < 1 or self.oversampling < 1:
            raise ValueError("num_encoders must be at least 0, num_prior and oversampling at least 1")

    @property
    def num_particles(self):
        return self.num_encoders + self.num_prior

    def plan(self, num_samples, latent_dim=2):
        sampler, plan = super().plan(num_samples, latent_dim)
        return sampler, plan._replace(num_encoders=self.num_encoders, num_prior=self.num_prior)

    class State(NamedTuple):
        x: Any  # completions of the encoders (n, C, K, d), fixed
        particles: Any

    def init(self, target, plan, seed, start=None):
        if self.num_encoders:
            x = in_groups(target, plan.num_chains, self.num_encoders, seed, start)
        else:
            x = tf.zeros(tf.stack([tf.shape(target.values)[0], plan.num_chains, 0, target.num_features]))
        return self.State(x, no_particles(x, self.num_particles, target.latent_dim))

    def step(self, target, state, seed):
        particles, _ = propose(target, state.x, self.num_prior, seed)
        return self.State(state.x, particles), Info(untested(particles.z), count(state.x), count(particles.z))


def in_groups(target, num_chains, per_chain, seed, start=None):
    """First completions (n, C, K, d): draws from the prior, or rows of ``start`` (n, C * K, d)."""
    x = target.complete(num_chains * per_chain, seed, start)
    return tf.reshape(x, tf.stack([tf.shape(x)[0], num_chains, per_chain, target.num_features]))


def no_particles(x, num_particles, latent_dim):
    """Particles (n, C, P) of a state that has taken no step."""
    shape = tf.concat([tf.shape(x)[:2], [num_particles]], 0)
    return Particles(tf.zeros(tf.concat([shape, [latent_dim]], 0)), tf.zeros(shape))
