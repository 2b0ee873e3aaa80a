"""Tempered sequential Monte Carlo (Del Moral, Doucet and Jasra 2006)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, NamedTuple

import tensorflow as tf

from .base import Info, Population, log_prior, metropolis_test, resample, select, shaped_like, take


@dataclass(frozen=True)
class TemperedSMC(Population):
    """A population of latents that goes from the prior to p(z | x_o) in small steps.

    At temperature b the target is p(z) p(x_o | z)^b: the prior at b = 0, the posterior at b = 1.
    Each step raises b by as much as the population bears, resamples it by p(x_o | z)^(increase of
    b), and moves every member by random-walk Metropolis steps as wide as the population itself. x_m
    is drawn at the end. The encoder is not used. The draws are consistent as the population grows.

    Parameters
    ----------
    num_moves : int
        Metropolis moves of each member per step.
    ess_share : float
        The effective sample size to which one step may reduce the population, as a share of it. It
        sets the temperatures, for each row by itself.
    num_chains, warmup, thin : int, optional
        Of the run, see `Population`: one member for each draw, 200 at the least; 4 steps of warm-up.

    References
    ----------
    Del Moral, Doucet and Jasra (2006), Sequential Monte Carlo samplers. Jasra, Stephens, Doucet and
    Tsagaris (2011) choose the temperatures by the effective sample size. Neal (2001), Annealed
    importance sampling.
    """

    num_moves: int = 10
    ess_share: float = 0.5

    def __post_init__(self):
        super().__post_init__()
        if self.num_moves < 1 or not 0.0 < self.ess_share < 1.0:
            raise ValueError("num_moves must be at least 1, ess_share between 0 and 1")

    class State(NamedTuple):
        z: Any  # the population (n, C, l)
        log_likelihood: Any  # log p(x_o | z), (n, C)
        temperature: Any  # b, (n, 1)
        log_width: Any  # of the random walk, in standard deviations of the population, (n, 1)

    def init(self, target, plan, seed, start=None):
        z = seed.normal((plan.num_chains, target.latent_dim))
        log_likelihood = target.log_likelihood(target.decode(z))
        none = tf.zeros_like(log_likelihood[:, :1])
        # 2.38 / sqrt(l) is the best width for a normal target (Roberts, Gelman and Gilks 1997).
        return self.State(z, log_likelihood, none, none + math.log(2.38 / target.latent_dim**0.5))

    def ready(self, state):
        """Whether a row has reached the posterior (n,)."""
        return state.temperature[:, 0] == 1.0

    def step(self, target, state, seed):
        of_index, of_moves = seed.split()
        # 1. Raise the temperature, resample by the ratio of the new target to the old.
        b = self.next_temperature(state.log_likelihood, state.temperature)
        log_weight = (b - state.temperature) * state.log_likelihood
        index = resample(log_weight, tf.shape(log_weight)[1], of_index, systematic=True)
        members = take((state.z, state.log_likelihood), index)
        # 2. The population's own shape is the shape of its random walk.
        root = tf.map_fn(population_root, members[0])

        def move(number, members, log_width, acceptance):
            z, log_likelihood = members
            of_noise, of_test = of_moves.fold_in(number).split()
            # 3. Propose z' = z + width L e, accept by p(z') p(x_o | z')^b / [p(z) p(x_o | z)^b].
            noise = of_noise.normal(tf.shape(z)[1:])
            width = tf.exp(log_width + tf.zeros_like(log_likelihood))[..., None]
            z_new = z + width * tf.matmul(noise, root, transpose_b=True)
            likelihood_new = target.log_likelihood(target.decode(z_new))
            log_ratio = b * (likelihood_new - log_likelihood) + log_prior(z_new) - log_prior(z)
            accepted, probability = metropolis_test(log_ratio, of_test)
            members = shaped_like(select(accepted, (z_new, likelihood_new), members), members)
            # 4. Narrower after too many rejections, wider after too few.
            log_width += tf.reduce_mean(probability, 1, keepdims=True) - 0.3
            return number + 1, members, log_width, acceptance + probability / self.num_moves

        _, (z, log_likelihood), log_width, acceptance = tf.while_loop(
            lambda number, *_: number < self.num_moves,
            move,
            (0, members, state.log_width, tf.zeros_like(state.log_likelihood)),
        )
        calls = self.num_moves * tf.shape(z)[1]
        return self.State(z, log_likelihood, b, log_width), Info(acceptance, 0, calls)

    def next_temperature(self, log_likelihood, b):
        """Find the largest temperature up to 1 at which the effective sample size keeps its share (n, 1)."""
        best = tf.reduce_max(log_likelihood, 1, keepdims=True)
        share = self.ess_share * tf.cast(tf.shape(log_likelihood)[1], "float32")

        def bears(new):
            weight = tf.exp((new - b) * (log_likelihood - best))
            total, squares = (tf.reduce_sum(a, 1, keepdims=True) for a in (weight, tf.square(weight)))
            return tf.square(total) >= share * squares

        def halve(_, low, high):
            middle = 0.5 * (low + high)
            fine = bears(middle)
            return _ + 1, tf.where(fine, middle, low), tf.where(fine, high, middle)

        _, low, _ = tf.while_loop(lambda i, *_: i < 30, halve, (0, b, tf.ones_like(b)))
        return tf.where(bears(tf.ones_like(b)), 1.0, tf.maximum(low, b + 1e-12))


def population_root(z):
    """Cholesky factor of the population's covariance (l, l), for the members ``z`` (C, l) of one row."""
    centred = z - tf.reduce_mean(z, 0)
    covariance = tf.matmul(centred, centred, transpose_a=True) / tf.cast(tf.shape(z)[0], "float32")
    # Shrunk a little towards its diagonal: it must be regular for small populations, too.
    diagonal = tf.linalg.diag_part(covariance)
    covariance = tf.linalg.set_diag(0.99 * covariance, diagonal + 1e-8)
    return tf.linalg.cholesky(covariance)
