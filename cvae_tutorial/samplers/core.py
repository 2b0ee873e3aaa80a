"""What the methods share: the evidence as tensors, the densities, and the clamp."""

from __future__ import annotations

from typing import Any, NamedTuple

import tensorflow as tf

from ..likelihoods import _LOG_2PI, _LOWEST

# Beyond this many prior standard deviations a proposal is of no use, and a network may overflow.
_FARTHEST = 50.0


class Observed(NamedTuple):
    """Evidence of n rows, with an axis for chains: values and mask (True = observed), both (n, 1, d)."""

    values: Any
    mask: Any


class Info(NamedTuple):
    """What a step reports: the probability (n, C) with which the Metropolis test accepts its move."""

    acceptance: Any


def encode(model, x):
    """q(z | x) as a proposal. Far outside its data an encoder may overflow; any density is a valid
    proposal, so what is not finite becomes the prior and what is absurdly far is brought back."""
    loc, scale = model.encode(x)
    finite = tf.math.is_finite(loc) & tf.math.is_finite(scale)
    loc = tf.where(finite, tf.clip_by_value(loc, -_FARTHEST, _FARTHEST), 0.0)
    return loc, tf.where(finite, tf.clip_by_value(scale, 1e-6, _FARTHEST), 1.0)


def draw_normal(loc, scale, seed):
    """One draw from N(loc, scale²)."""
    return loc + scale * tf.random.stateless_normal(tf.shape(loc), seed)


def log_q(z, loc, scale):
    """log N(z; loc, scale²) summed over latent dimensions, never below -1e30."""
    constant = tf.reduce_sum(tf.math.log(scale) + 0.5 * _LOG_2PI, -1)
    return tf.maximum(-0.5 * tf.reduce_sum(tf.square((z - loc) / scale), -1) - constant, _LOWEST)


def log_prior(z):
    """log p(z), the standard normal, summed over latent dimensions."""
    return -0.5 * tf.reduce_sum(tf.square(z) + _LOG_2PI, -1)


def log_gamma(model, observed, z, parameters):
    """log p(z) p(x_o | z): observed columns only."""
    log_prob = model.likelihood.log_prob(parameters, observed.values)
    return log_prior(z) + tf.reduce_sum(tf.where(observed.mask, log_prob, 0.0), -1)


def log_joint(model, x, z, parameters):
    """log p(z) p(x | z): all columns."""
    return log_prior(z) + tf.reduce_sum(model.likelihood.log_prob(parameters, x), -1)


def clamp(observed, x):
    """Put the observed values into ``x`` (n, C, d)."""
    return tf.where(observed.mask, observed.values, x)


def impute(model, observed, parameters, seed):
    """x_m ~ p(x_m | z), beside the observed values."""
    return clamp(observed, model.likelihood.sample(parameters, seed))


def impute_from_prior(model, observed, num_chains, seed):
    """A first guess of the missing columns: x_m ~ p(x_m), beside the observed values."""
    seeds = tf.random.split(seed)
    shape = (tf.shape(observed.values)[0], num_chains, model.latent_dim)
    z = tf.random.stateless_normal(shape, seeds[0])
    return impute(model, observed, model.decode(z), seeds[1])


def select(accepted, new, old):
    """Per chain (n, C): ``new`` where accepted, else ``old``; works on nested tensors (n, C, ...)."""

    def choose(a, b):
        flag = tf.reshape(accepted, tf.concat([tf.shape(accepted), tf.ones(tf.rank(a) - 2, tf.int32)], 0))
        return tf.where(flag, a, b)

    return tf.nest.map_structure(choose, new, old)


def shaped_like(new, old):
    """``new`` with the static shapes of ``old``, which a loop needs of what it carries."""
    return tf.nest.map_structure(lambda a, b: tf.ensure_shape(a, b.shape), new, old)


def metropolis_test(log_ratio, seed):
    """Accept with probability min(1, exp(log_ratio)). Returns (accepted, probability); NaN is a no."""
    uniform = tf.random.stateless_uniform(tf.shape(log_ratio), seed, minval=1e-38)
    probability = tf.exp(tf.minimum(log_ratio, 0.0))
    probability = tf.where(tf.math.is_nan(probability), 0.0, probability)
    return tf.math.log(uniform) < log_ratio, probability


def take(tree, index):
    """Gather along axis 1, row by row: ``index`` (n, k) into nested tensors (n, m, ...)."""
    return tf.nest.map_structure(lambda a: tf.gather(a, index, axis=1, batch_dims=1), tree)


def resample(log_weight, num_samples, seed, systematic=False):
    """Indices (n, k) drawn in proportion to exp(log_weight) (n, m): multinomial resampling, or
    systematic resampling, which keeps a rare mode when k is small."""
    weight = tf.exp(tf.cast(log_weight - tf.reduce_max(log_weight, -1, keepdims=True), "float64"))
    cumulative = tf.cumsum(weight, axis=-1)
    rows = tf.shape(weight)[0]
    if systematic:
        comb = tf.cast(tf.range(num_samples), "float64") / tf.cast(num_samples, "float64")
        offset = tf.random.stateless_uniform((rows, 1), seed, dtype="float64")
        uniform = comb[None] + offset / tf.cast(num_samples, "float64")
    else:
        uniform = tf.random.stateless_uniform((rows, num_samples), seed, dtype="float64")
    index = tf.searchsorted(cumulative, uniform * cumulative[:, -1:], side="right")
    index = tf.minimum(index, tf.shape(weight)[1] - 1)
    if systematic:
        # The comb returns them sorted, and its ends over-represent what is rare: whoever reads the
        # first of them, or every tenth, must meet each with the same probability.
        order = tf.argsort(tf.random.stateless_uniform((rows, num_samples), seed + [0, 1]), axis=-1)
        index = tf.gather(index, order, batch_dims=1)
    return index
