"""Tempered sequential Monte Carlo (Del Moral, Doucet and Jasra 2006)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import tensorflow as tf

from ..likelihoods import _LOWEST
from .core import Info, impute, log_gamma, log_prior, metropolis_test, resample, select, shaped_like, take


@dataclass(frozen=True)
class TemperedSMC:
    """A population of latents that goes from the prior to p(z | x_o) in small steps.

    At temperature b the target is p(z) p(x_o | z)^b: the prior at b = 0, the posterior at b = 1.
    Each step raises b by as much as the population bears, resamples it by p(x_o | z)^(increase of
    b), and moves every member by random-walk Metropolis steps as wide as the population itself. x_m
    is drawn at the end. The encoder is not used. The draws are consistent as the population grows.

    The chains of `sample_conditional` are the members of the population.

    Parameters
    ----------
    num_moves : int
        Metropolis moves of each member per step.
    ess_share : float
        The effective sample size to which one step may reduce the population, as a share of it. It
        sets the temperatures, for each row by itself.

    References
    ----------
    Del Moral, Doucet and Jasra (2006), Sequential Monte Carlo samplers. Jasra, Stephens, Doucet and
    Tsagaris (2011) choose the temperatures by the effective sample size. Neal (2001), Annealed
    importance sampling.
    """

    num_moves: int = 10
    ess_share: float = 0.5

    exact = True
    weighted = False
    warmup, thin, draws_per_chain = 4, 1, 1  # warmup counts from the arrival at the posterior
    min_chains = 200  # fewer members say too little about the shape of the target
    takes_start = False

    def __post_init__(self):
        if self.num_moves < 1 or not 0.0 < self.ess_share < 1.0:
            raise ValueError("num_moves must be at least 1, ess_share between 0 and 1")

    @property
    def calls(self):
        return 0, self.num_moves

    class State(NamedTuple):
        x: Any  # completions (n, C, d)
        z: Any  # the population (n, C, l)
        parameters: Any  # of p(x | z)
        log_likelihood: Any  # log p(x_o | z), (n, C)
        temperature: Any  # b, (n, 1)
        width: Any  # of the random walk, in standard deviations of the population, (n, 1)

    def init(self, model, observed, num_chains, num_steps, seed, start=None):
        shape = tf.stack([tf.shape(observed.values)[0], num_chains, model.latent_dim])
        z = tf.random.stateless_normal(shape, seed)
        parameters, log_likelihood = self.decode(model, observed, z)
        x = impute(model, observed, parameters, seed + [0, 1])
        none = tf.zeros_like(log_likelihood[:, :1])
        # 2.38 / sqrt(l) is the best width for a normal target (Roberts, Gelman and Gilks 1997).
        return self.State(x, z, parameters, log_likelihood, none, none + 2.38 / model.latent_dim**0.5)

    def finished(self, state):
        """Whether every row has reached the posterior."""
        return bool(tf.reduce_all(state.temperature == 1.0))

    def step(self, model, observed, state, seed):
        # 1. Raise the temperature, resample by the ratio of the new target to the old.
        b = self.next_temperature(state.log_likelihood, state.temperature)
        log_weight = (b - state.temperature) * state.log_likelihood
        index = resample(log_weight, tf.shape(log_weight)[1], seed, systematic=True)
        z, parameters, log_likelihood = take((state.z, state.parameters, state.log_likelihood), index)
        # 2. The population's own shape is the shape of its random walk.
        root = population_root(z)

        def move(number, members, width, acceptance):
            z, _, log_likelihood = members
            seeds = [seed + [0, 3 + i] + [0, 2] * number for i in range(2)]
            # 3. Propose z' = z + width L e, accept by p(z') p(x_o | z')^b / [p(z) p(x_o | z)^b].
            noise = tf.random.stateless_normal(tf.shape(z), seeds[0])
            z_new = z + width[..., None] * tf.matmul(noise, root, transpose_b=True)
            parameters_new, likelihood_new = self.decode(model, observed, z_new)
            log_ratio = b * (likelihood_new - log_likelihood) + log_prior(z_new) - log_prior(z)
            accepted, probability = metropolis_test(log_ratio, seeds[1])
            members = shaped_like(select(accepted, (z_new, parameters_new, likelihood_new), members), members)
            # 4. Narrower after too many rejections, wider after too few.
            width *= tf.exp(tf.reduce_mean(probability, 1, keepdims=True) - 0.3)
            return number + 1, members, width, acceptance + probability / self.num_moves

        members, acceptance = (z, parameters, log_likelihood), tf.zeros_like(log_likelihood)
        _, (z, parameters, log_likelihood), width, acceptance = tf.while_loop(
            lambda number, *_: number < self.num_moves, move, (0, members, state.width, acceptance)
        )
        # 5. Complete the row: x_m ~ p(x_m | z).
        x = impute(model, observed, parameters, seed + [0, 2])
        return self.State(x, z, parameters, log_likelihood, b, width), Info(acceptance)

    def decode(self, model, observed, z):
        """Parameters of p(x | z), and log p(x_o | z) (n, C)."""
        parameters = model.decode(z)
        log_likelihood = log_gamma(model, observed, z, parameters) - log_prior(z)
        # Far from the data a decoder may overflow: nothing is observed there.
        return parameters, tf.where(tf.math.is_nan(log_likelihood), _LOWEST, log_likelihood)

    def next_temperature(self, log_likelihood, b):
        """The largest temperature up to 1 at which the effective sample size keeps its share (n, 1)."""
        share = self.ess_share * tf.cast(tf.shape(log_likelihood)[1], "float32")

        def bears(new):
            log_weight = (new - b) * log_likelihood
            top, bottom = (tf.reduce_logsumexp(k * log_weight, 1, keepdims=True) for k in (1.0, 2.0))
            return tf.exp(2.0 * top - bottom) >= share

        low, high = b, tf.ones_like(b)
        for _ in range(30):
            middle = 0.5 * (low + high)
            fine = bears(middle)
            low, high = tf.where(fine, middle, low), tf.where(fine, high, middle)
        return tf.where(bears(tf.ones_like(b)), 1.0, tf.maximum(low, b + 1e-12))


def population_root(z):
    """Cholesky factor of the population's covariance (n, l, l), for ``z`` (n, C, l)."""
    centred = z - tf.reduce_mean(z, 1, keepdims=True)
    covariance = tf.matmul(centred, centred, transpose_a=True) / tf.cast(tf.shape(z)[1], "float32")
    # Shrunk a little towards its diagonal: it must be regular for small populations, too.
    diagonal = tf.linalg.diag_part(covariance)
    covariance = tf.linalg.set_diag(0.99 * covariance, diagonal + 1e-8)
    return tf.linalg.cholesky(covariance)
