"""Tempered sequential Monte Carlo (Del Moral, Doucet and Jasra 2006) with cross-fitted moves."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import tensorflow as tf

from .base import (
    Info,
    Particles,
    Population,
    comb,
    log_prior,
    metropolis_test,
    select,
    shaped_like,
)
from .mixture import Mixture, fit_mixture


@dataclass(frozen=True)
class TemperedSMC(Population):
    """Populations of latents that go from the prior to p(z | x_o) in small steps.

    At inverse temperature b the target is p(z) p(x_o | z)^b: the prior at b = 0, the posterior at
    b = 1. Each step raises b by as much as a population bears, resamples it by p(x_o | z)^(increase
    of b), and moves every member by Metropolis steps. x_m is drawn at the end. The encoder is not used.

    The moves are made for several modes. A population is cut in two, and a small mixture of normals
    fitted to each half moves the *other* half: by random walks as wide as one of its components, and
    in turn by jumps to a draw from the mixture. (Moved by a mixture that it has shaped itself, a
    population loses its rare modes.)

    Several populations run independently of one another. How far their means differ says how much
    the draws are worth (`ConditionalDraws.population_ess`), and the average of their estimates of
    p(x_o) is unbiased (`ConditionalDraws.log_evidence`), which weighs the populations when draws are
    picked from them. A mode that all populations have missed stays invisible.

    Parameters
    ----------
    num_moves : int
        Metropolis moves of each member per step: random walks and jumps in turn, at least 2.
    ess_share : float
        The effective sample size to which one step may reduce a population, as a share of it. It
        sets the inverse temperatures, for each population by itself.
    num_components : int
        Components of the mixtures.
    num_populations : int
        Independent populations, at least 2.
    num_chains, warmup, thin : int, optional
        Of the run, see `Population`. Members in all, a multiple of 16: by default one for
        each draw, and at least 100 for each latent dimension and 64 in a population. A row that has
        arrived goes on until each member has jumped three times on average; ``warmup`` steps follow.

    References
    ----------
    Del Moral, Doucet and Jasra (2006), Sequential Monte Carlo samplers. Jasra, Stephens, Doucet and
    Tsagaris (2011) choose the temperatures by the effective sample size. Cappé, Douc, Guillin, Marin
    and Robert (2008) propose from mixtures fitted to the particles. Neal (2001), Annealed importance
    sampling.
    """

    num_moves: int = 6
    ess_share: float = 0.5
    num_components: int = 4
    num_populations: int = 4

    default_warmup = 0
    most_rounds = 10  # after arrival

    def __post_init__(self):
        super().__post_init__()
        if self.num_moves < 2 or not 0.0 < self.ess_share < 1.0:
            raise ValueError("num_moves must be at least 2, ess_share between 0 and 1")
        if self.num_components < 1 or self.num_populations < 2:
            raise ValueError("num_components must be at least 1, num_populations at least 2")

    def plan(self, num_samples, latent_dim=2):
        count, unit = self.num_populations, math.lcm(16, 4 * self.num_populations)
        wanted = self.num_chains or max(num_samples, 64 * count, 100 * latent_dim)
        chains = unit * math.ceil(wanted / unit)
        return Population.plan(replace(self, num_chains=chains), num_samples, latent_dim)

    class State(NamedTuple):
        particles: Any  # the members (n, C, l), weighted by the evidence that their population found
        log_likelihood: Any  # log p(x_o | z), (n, C)
        temperature: Any  # b of each population, (n, R)
        log_width: Any  # of the random walk, in standard deviations of a component, (n, R)
        jumps: Any  # accepted by a member on average since arrival, (n, R)
        rounds: Any  # since arrival, (n, R)

    def init(self, target, plan, seed, start=None):
        z = seed.normal((plan.num_chains, target.latent_dim))
        log_likelihood = target.log_likelihood(target.decode(z))
        none = tf.zeros_like(log_likelihood[:, : self.num_populations])
        # 2.38 / sqrt(l) is the best width for a normal target (Roberts, Gelman and Gilks 1997).
        width = none + math.log(2.38 / target.latent_dim**0.5)
        return self.State(Particles(z, tf.zeros_like(log_likelihood)), log_likelihood, none, width, none, none)

    def ready(self, state):
        """Whether all populations of a row have reached the posterior and jumped about in it (n,)."""
        moved = (state.jumps >= 3.0) | (state.rounds >= self.most_rounds)
        return tf.reduce_all((state.temperature == 1.0) & moved, 1)

    def settled(self, state):
        """Whether a row is ready and each of its populations has jumped as often as it should (n,)."""
        return self.ready(state) & tf.reduce_all(state.jumps >= 3.0, 1)

    def step(self, target, state, seed):
        of_ancestors, of_fit, of_moves = seed.split(3)
        count = self.num_populations
        z, log_likelihood, log_evidence = (
            tf.reshape(a, tf.concat([[tf.shape(a)[0], count, -1], tf.shape(a)[2:]], 0))
            for a in (state.particles.z, state.log_likelihood, state.particles.log_weight)
        )
        num_rows, size, dim = tf.shape(z)[0], tf.shape(z)[2], z.shape[-1]
        # 1. Raise the temperature of each population; the mean weight estimates the ratio of the evidences.
        b = self.next_temperature(log_likelihood, state.temperature)
        log_weight = (b - state.temperature)[..., None] * log_likelihood
        # (In double precision what rounds otherwise at the end of a tensor is no difference in single.)
        mean = tf.reduce_logsumexp(tf.cast(log_weight, "float64"), -1) - tf.math.log(tf.cast(size, "float64"))
        log_evidence += tf.cast(mean, "float32")[..., None]
        # 2. Resample the members in a random order. Copies stand side by side, so that the cut into
        #    two halves parts ancestors, not copies of one.
        index = self.ancestors(log_weight, of_ancestors)
        z, log_likelihood = (tf.gather(a, index, batch_dims=2) for a in (z, log_likelihood))
        half = tf.stack([num_rows, count, 2, size // 2])
        z = tf.reshape(z, tf.stack([num_rows, count, 2, size // 2, dim]))
        log_likelihood = tf.reshape(log_likelihood, half)
        # 3. Fit a mixture to each half, and give it to the other.
        mixture = self.cross_fit(z, of_fit)
        inverse = tf.reshape(b, tf.stack([num_rows, count, 1, 1]))

        def move(number, members, log_width, acceptance, jumps):
            z, log_likelihood = members
            of_component, of_noise, of_test = of_moves.fold_in(number).split(3)
            # 4. By turns: walk by z' = z + width A_k e, or jump to z' = m_k + A_k e of a random component k.
            walks = number % 2 == 0
            centre, deviation = mixture.pick(of_component.uniform(half[1:]), of_noise.normal(tf.shape(z)[1:]))
            width = tf.cast(tf.exp(tf.cast(log_width, "float64")), "float32")[..., None, None, None]
            z_new = tf.where(walks, z + width * deviation, centre + deviation)
            # 5. Accept by p(z') p(x_o | z')^b / [p(z) p(x_o | z)^b], times q(z) / q(z') for a jump.
            likelihood_new = self.log_likelihood(target, z_new)
            log_ratio = inverse * (likelihood_new - log_likelihood) + log_prior(z_new) - log_prior(z)
            log_ratio += tf.cond(walks, lambda: tf.zeros_like(log_ratio), lambda: log_q_ratio(mixture, z, z_new))
            accepted, probability = metropolis_test(log_ratio, of_test)
            members = shaped_like(select(accepted, (z_new, likelihood_new), members), members)
            # 6. Narrower walks after too many rejections, wider after too few.
            mean = tf.reduce_mean(probability, [2, 3])
            log_width = tf.where(walks, log_width + mean - 0.25, log_width)
            return number + 1, members, log_width, acceptance + probability, tf.where(walks, jumps, jumps + mean)

        _, (z, log_likelihood), log_width, acceptance, jumps = tf.while_loop(
            lambda number, *_: number < self.num_moves,
            move,
            (0, (z, log_likelihood), state.log_width, tf.zeros_like(log_likelihood), tf.zeros_like(b)),
        )
        arrived = b == 1.0
        particles = Particles(
            tf.reshape(z, tf.shape(state.particles.z)), tf.reshape(log_evidence, tf.shape(state.log_likelihood))
        )
        new = self.State(
            particles,
            tf.reshape(log_likelihood, tf.shape(state.log_likelihood)),
            b,
            log_width,
            tf.where(arrived, state.jumps + jumps, 0.0),
            tf.where(arrived, state.rounds + 1.0, 0.0),
        )
        calls = self.num_moves * tf.shape(state.log_likelihood)[1]
        acceptance = tf.reshape(acceptance, tf.shape(state.log_likelihood)) / self.num_moves
        return new, Info(acceptance, 0, calls)

    def ancestors(self, log_weight, seed):
        """Draw who survives (n, R, N), by systematic resampling along a random order of the members."""
        of_order, of_place = seed.split()
        order = tf.argsort(of_order.uniform(tf.shape(log_weight)[1:]), axis=-1)
        shuffled = tf.gather(log_weight, order, batch_dims=2)
        return tf.gather(order, comb(shuffled, tf.shape(log_weight)[-1], of_place), batch_dims=2)

    def cross_fit(self, z, seed):
        """Mixtures fitted to halves ``z`` (n, R, 2, N / 2, l), each in the place of the other."""
        uniform = seed.uniform(tf.concat([tf.shape(z)[1:3], [self.num_components]], 0))
        # Row by row: products of many matrices round by how many there are.
        spec = [tf.TensorSpec((self.num_populations, 2, self.num_components, *[z.shape[-1]] * k)) for k in (0, 1, 2, 2)]
        mixture = tf.map_fn(lambda row: fit_mixture(*row), (z, uniform), fn_output_signature=Mixture(*spec))
        return tf.nest.map_structure(lambda a: tf.reverse(a, [2]), mixture)

    def log_likelihood(self, target, z):
        """Log p(x_o | z) (n, R, 2, N / 2), decoded as members of one population."""
        flat = tf.reshape(z, tf.stack([tf.shape(z)[0], -1, z.shape[-1]]))
        return tf.reshape(target.log_likelihood(target.decode(flat)), tf.shape(z)[:-1])

    def next_temperature(self, log_likelihood, b):
        """Find the largest temperature up to 1 at which the effective sample size keeps its share (n, R)."""
        best = tf.reduce_max(log_likelihood, -1, keepdims=True)
        share = self.ess_share * tf.cast(tf.shape(log_likelihood)[-1], "float32")

        def bears(new):
            weight = tf.exp((new - b)[..., None] * (log_likelihood - best))
            return tf.square(tf.reduce_sum(weight, -1)) >= share * tf.reduce_sum(tf.square(weight), -1)

        def halve(_, low, high):
            middle = 0.5 * (low + high)
            fine = bears(middle)
            return _ + 1, tf.where(fine, middle, low), tf.where(fine, high, middle)

        _, low, _ = tf.while_loop(lambda i, *_: i < 30, halve, (0, b, tf.ones_like(b)))
        return tf.where(bears(tf.ones_like(b)), 1.0, tf.maximum(low, b + 1e-12))


def log_q_ratio(mixture, z, z_new):
    """Log q(z) / q(z') of jumps from z to z'."""
    return mixture.log_prob(z) - mixture.log_prob(z_new)
