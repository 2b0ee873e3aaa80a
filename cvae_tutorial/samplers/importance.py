"""Importance resampling with a proposal that does not adapt."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, NamedTuple

import tensorflow as tf

from .core import Info, clamp, draw_normal, encode, impute_from_prior, log_gamma, log_prior, log_q


class Particles(NamedTuple):
    z: Any  # (n, C, P, l)
    log_weight: Any  # (n, C, P), unnormalised


def propose(model, observed, x, num_prior, seed):
    """Draw one z from the encoder at each of K completions and R from the prior, and weigh them.

    Every draw is weighed against the whole mixture (the balance heuristic),
    w = p(z) p(x_o | z) / {[sum_k q(z | x_o, x_m^k) + R p(z)] / (K + R)}.

    Parameters
    ----------
    x : tensor (n, C, K, d)
        Completions; K may be 0.

    Returns
    -------
    particles : Particles, with P = K + R
    parameters : of p(x | z), with leading axes (n, C * P)
    """
    seeds = [seed + [0, i] for i in range(2)]
    num_rows, num_chains, num_encoders = tf.unstack(tf.shape(x)[:3])
    prior_shape = tf.stack([num_rows, num_chains, num_prior, model.latent_dim])
    z = tf.random.stateless_normal(prior_shape, seeds[0])
    if x.shape[2] != 0:
        loc, scale = encode(model, x)
        z = tf.concat([draw_normal(loc, scale, seeds[1]), z], axis=2)
        proposal = log_mixture(z, loc, scale, num_prior)
    else:
        proposal = log_prior(z)
    num_particles = num_encoders + num_prior
    flat = tf.reshape(z, (num_rows, num_chains * num_particles, model.latent_dim))
    parameters = model.decode(flat)
    gamma = tf.reshape(log_gamma(model, observed, flat, parameters), tf.shape(proposal))
    return Particles(z, gamma - proposal), parameters


def log_mixture(z, loc, scale, num_prior):
    """log {[sum_k q(z | x_o, x_m^k) + R p(z)] / (K + R)} of every particle, (n, C, P).

    ``z`` is (n, C, P, l); ``loc`` and ``scale`` of the encoders are (n, C, K, l).
    """
    # log q of every particle under every encoder, (n, C, P, K): by far the largest tensor, so this
    # is log_q with the constants taken out, and with the latent axis before the encoders, as
    # TensorFlow is slow to sum over a short last axis.
    centre, precision = (tf.linalg.matrix_transpose(a)[:, :, None] for a in (loc, 1.0 / scale))
    residual = (z[..., None] - centre) * precision  # (n, C, P, l, K)
    constant = log_q(loc, loc, scale)[:, :, None]
    encoders = tf.maximum(constant - 0.5 * tf.reduce_sum(tf.square(residual), -2), -1e30)
    total = tf.reduce_logsumexp(encoders, -1)
    if num_prior:
        total = tf.reduce_logsumexp([total, log_prior(z) + math.log(num_prior)], axis=0)
    return total - tf.math.log(tf.cast(tf.shape(loc)[2] + num_prior, "float32"))


@dataclass(frozen=True)
class Importance:
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
    oversampling : int
        Proposals for each draw asked for.

    References
    ----------
    Rubin (1987), the sampling/importance resampling algorithm; Vehtari et al. (2024), Pareto
    smoothed importance sampling, for the diagnostic.
    """

    num_encoders: int = 0
    num_prior: int = 100
    oversampling: int = 40

    exact = True
    weighted = True
    num_steps = 1

    def __post_init__(self):
        if self.num_encoders < 0 or self.num_prior < 1 or self.oversampling < 1:
            raise ValueError("num_encoders must be at least 0, num_prior and oversampling at least 1")

    @property
    def calls(self):
        return self.num_encoders, self.num_encoders + self.num_prior

    class State(NamedTuple):
        x: Any  # completions of the encoders (n, C, K, d), fixed
        particles: Any

    def init(self, model, observed, num_chains, num_steps, seed, start=None):
        x = complete(model, observed, num_chains, self.num_encoders, seed, start)
        return self.State(x, empty_particles(model, x, self.num_encoders + self.num_prior))

    def step(self, model, observed, state, seed):
        particles, _ = propose(model, observed, state.x, self.num_prior, seed)
        return self.State(state.x, particles), Info(tf.ones(tf.shape(particles.z)[:2]))


def complete(model, observed, num_chains, per_chain, seed, start=None):
    """First completions (n, C, K, d): draws from the prior, or rows of ``start`` (n, C * K, d)."""
    if start is None:
        start = impute_from_prior(model, observed, num_chains * per_chain, seed)
    shape = tf.shape(start)
    x = tf.reshape(clamp(observed, start), tf.stack([shape[0], num_chains, per_chain, shape[2]]))
    return tf.ensure_shape(x, (None, None, per_chain, None))


def empty_particles(model, x, num_particles):
    shape = tf.concat([tf.shape(x)[:2], [num_particles]], 0)
    return Particles(tf.zeros(tf.concat([shape, [model.latent_dim]], 0)), tf.zeros(shape))
