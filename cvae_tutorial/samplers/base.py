"""The protocol of a sampler: what it is given (`Target`, `Plan`), what it reports (`Info`), and its three kinds."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass, field, fields, replace
from typing import Any, ClassVar, NamedTuple, Self

import numpy as np
import tensorflow as tf

from .. import model as models
from ..likelihoods import LOWEST, log_normal
from ..seeds import RowSeed

AT_ONCE = 16  # numbers that a processor computes at once, at the most
# Beyond this many prior standard deviations a proposal is of no use, and a network may overflow.
_FARTHEST = 50.0


class Target:
    """p(z | x_o) of n rows of one model, known up to a constant.

    Tensors have axes (n rows, C chains, ...). ``x`` is a completed row, in the units of the data.

    Attributes
    ----------
    latent_dim, num_features : int
        Dimensions l of z and columns d of x.
    values, observed : tensors (n, 1, d)
        The evidence, and where there is some (True = observed).
    width : int
        Numbers that the model's networks hold for one row.
    """

    def __init__(self, model, values, known):
        self.model, self.values, self._known = model, values, known
        self.latent_dim, self.num_features = model.latent_dim, models.num_features(model)
        self.width = models.width(model)

    def take(self, rows):
        """Take these rows, by their places (m,)."""
        return Target(self.model, tf.gather(self.values, rows), tf.gather(self._known, rows))

    @property
    def observed(self):
        # Made anew where it is used: of booleans that go into a loop oneDNN complains on some processors.
        return self._known > 0

    @property
    def holes(self):
        """The rows as an encoder that has learned from rows with holes reads them (n, 1, d): NaN where one is."""
        return tf.where(self.observed, self.values, math.nan)

    def encode(self, x):
        """Location and scale (n, C, l) of q(z | x), as a proposal.

        Any density is a valid proposal: where an encoder overflows, far outside its data, the prior
        stands in, and what is absurdly far is brought back.
        """
        loc, scale = self.model.encode(x)
        finite = tf.math.is_finite(loc) & tf.math.is_finite(scale)
        loc = tf.where(finite, tf.clip_by_value(loc, -_FARTHEST, _FARTHEST), 0.0)
        return loc, tf.where(finite, tf.clip_by_value(scale, 1e-6, _FARTHEST), 1.0)

    def decode(self, z):
        """Parameters of p(x | z), for z (n, C, l)."""
        return self.model.decode(z)

    def log_likelihood(self, parameters):
        """Return log p(x_o | z) (n, C), observed columns only. Where a decoder overflows, nothing is likely."""
        log_prob = self.model.likelihood.log_prob(parameters, self.values)
        total = tf.reduce_sum(tf.where(self.observed, log_prob, 0.0), -1)
        return tf.where(tf.math.is_nan(total), LOWEST, total)

    def log_gamma(self, z, parameters):
        """Return log p(z) p(x_o | z) (n, C), the target up to a constant."""
        return log_prior(z) + self.log_likelihood(parameters)

    def log_joint(self, x, z, parameters):
        """Return log p(z) p(x | z) (n, C), all columns."""
        return log_prior(z) + tf.reduce_sum(self.model.likelihood.log_prob(parameters, x), -1)

    def clamp(self, x):
        """``x`` (n, C, d) with the observed values in their places."""
        return tf.where(self.observed, self.values, x)

    def impute(self, parameters, seed):
        """x_m ~ p(x_m | z) (n, C, d), beside the observed values."""
        likelihood = self.model.likelihood
        if likelihood.draws_by_row:
            return self.clamp(likelihood.sample(parameters, seed))
        # A likelihood that knows nothing of rows draws for one row at a time.
        x = tf.map_fn(
            lambda row: likelihood.sample(*row),
            (parameters, seed.pairs()),
            fn_output_signature=tf.TensorSpec((None, self.num_features), tf.float32),
        )
        return self.clamp(x)

    def guess(self, num, seed):
        """First completions (n, num, d): x_m ~ p(x_m), beside the observed values."""
        of_z, of_x = seed.split()
        return self.impute(self.decode(of_z.normal((num, self.latent_dim))), of_x)

    def complete(self, num, seed, start=None):
        """`guess`, or the rows of ``start`` (n, num, d) with the observed values in their places."""
        return self.guess(num, seed) if start is None else self.clamp(start)


class Plan(NamedTuple):
    """The length of a run. In `Sampler.init` every entry is an integer tensor.

    Attributes
    ----------
    num_chains : int
        Chains C of each row; groups of particles, or members of a population.
    warmup, num_kept, thin : int
        Steps before the first kept state, kept states t, and steps for each of them.
    num_encoders, num_prior : int
        Proposals of one group from encoders and from the prior, for weighted samplers.
    """

    num_chains: Any
    warmup: Any
    num_kept: Any
    thin: Any
    num_encoders: Any = 1
    num_prior: Any = 0

    @property
    def num_steps(self):
        """Steps in all, warm-up included."""
        return self.warmup + self.num_kept * self.thin


class Info(NamedTuple):
    """What a step reports.

    Attributes
    ----------
    acceptance : tensor (n, C)
        Probability with which the Metropolis test accepts its move; NaN without such a test.
    encoder_calls, decoder_calls : int
        Rows that it sent through each network for one row of the table.
    """

    acceptance: Any
    encoder_calls: Any
    decoder_calls: Any


@dataclass(frozen=True)
class Sampler(ABC):
    """Settings of a method, and its steps.

    A sampler of your own derives from one of the kinds: `Chain`, `Weighted` or `Population`.

    Attributes
    ----------
    exact : bool
        Whether its draws are those of p(x_m | x_o) as the run grows.
    coupled : bool
        Whether the chains of a row are one estimate, which memory must not cut apart.
    accepts_start : bool
        Whether it can start from completed rows.
    keeps : str
        The field of its state that a run keeps.
    """

    num_chains: int | None = field(default=None, kw_only=True)

    exact: ClassVar[bool] = True
    coupled: ClassVar[bool] = False
    accepts_start: ClassVar[bool] = True
    keeps: ClassVar[str] = "x"

    def __post_init__(self):
        for name in self.run_settings():
            value, least = getattr(self, name), 0 if name == "warmup" else 1
            whole = isinstance(value, int | np.integer) and not isinstance(value, bool)
            if value is not None and not (whole and value >= least):
                raise ValueError(f"{name} must be a {'positive' if least else 'non-negative'} integer, got {value!r}")

    @classmethod
    def run_settings(cls) -> list[str]:
        """Names of the settings that say how long a run is."""
        return [f.name for f in fields(cls) if f.name in ("num_chains", "warmup", "thin", "num_steps")]

    def kernel(self) -> Self:
        """Leave out what the plan holds: runs of any length share the compiled steps."""
        return replace(self, **dict.fromkeys(self.run_settings()))

    @abstractmethod
    def plan(self, num_samples: int, latent_dim: int = 2) -> tuple[Sampler, Plan]:
        """Fill in the defaults for ``num_samples`` draws of each row, and plan the run."""

    @abstractmethod
    def init(self, target: Target, plan: Plan, seed: RowSeed, start=None) -> Any:
        """Make the first state, a named tuple of tensors (n, C, ...).

        ``start`` holds completed rows (n, C * num_encoders, d) where the sampler accepts them.
        """

    @abstractmethod
    def step(self, target: Target, state: Any, seed: RowSeed) -> tuple[Any, Info]:
        """Take a step to the next state."""

    def ready(self, state: Any):
        """Say which rows may begin their warm-up (n,), of a sampler that needs steps of its own before.

        All tensors of its state begin with the axis of rows.
        """
        return tf.constant(True)

    def settled(self, state: Any):
        """Say which of the rows that are `ready` have become so by themselves (n,), not by running out of time."""
        return self.ready(state)

    def memory(self, target: Target, plan: Plan) -> float:
        """Return the floats that one chain of a row keeps alive, roughly."""
        return 2.0 * (target.width + 6 * target.num_features + 6 * target.latent_dim)


@dataclass(frozen=True)
class Chain(Sampler):
    """Markov chains whose states hold a completed row ``x`` (n, C, d).

    Parameters
    ----------
    num_chains : int, optional
        Chains C per row. By default one for every few draws, in sixteens.
    warmup, thin : int, optional
        Steps before the first kept state, and steps for each kept state.
    """

    warmup: int | None = field(default=None, kw_only=True)
    thin: int | None = field(default=None, kw_only=True)

    default_warmup: ClassVar[int] = 500
    default_thin: ClassVar[int] = 50
    draws_per_chain: ClassVar[int] = 10

    def plan(self, num_samples, latent_dim=2):
        per_chain, thin = self.draws_per_chain, self.thin
        warmup = self.default_warmup if self.warmup is None else self.warmup
        several = num_samples if per_chain == 1 else max(4, in_sixteens(math.ceil(num_samples / per_chain)))
        chains = self.num_chains or several
        keep = math.ceil(num_samples / chains)
        if per_chain > 1:
            # At least 100 kept states, so that R-hat means something for a handful of draws too.
            keep = max(keep, math.ceil(100 / chains))
        if thin is None:
            length = self.default_thin * max(per_chain, keep)
            if per_chain > 1:  # chains of a few states each would say nothing of their own memory
                keep = max(keep, LEAST_STATES)
            thin = max(1, length // keep)
        sampler = replace(self, num_chains=chains, warmup=warmup, thin=thin)
        return sampler, Plan(chains, warmup, keep, thin)

    def memory(self, target, plan):
        return super().memory(target, plan) + plan.num_kept * target.num_features


def in_sixteens(number: int) -> int:
    """Round a number above 16 up to a multiple of 16, as many as a processor computes at once."""
    return number if number <= 16 else 16 * math.ceil(number / 16)


LEAST_STATES = 20  # of a chain: with fewer, its effective sample size is an artefact


class Particles(NamedTuple):
    """Draws of z with unnormalised log weights.

    Attributes
    ----------
    z : tensor (n, C, P, l)
    log_weight : tensor (n, C, P)
    """

    z: Any
    log_weight: Any


@dataclass(frozen=True)
class Weighted(Sampler):
    """Samplers whose states hold ``particles``: pooled over chains and steps, resampled and decoded once.

    Parameters
    ----------
    oversampling : int
        Proposals for each draw asked for; 2,000 at the least, as a pool of m proposals is biased by O(1/m).
    num_chains : int, optional
        Independent groups of proposals per row.
    num_steps : int, optional
        Steps, each of which adds its particles to the pool.
    """

    oversampling: int = field(default=40, kw_only=True)
    num_steps: int | None = field(default=None, kw_only=True)

    keeps: ClassVar[str] = "particles"
    default_steps: ClassVar[int] = 1
    min_proposals: ClassVar[int] = 2_000

    @property
    @abstractmethod
    def num_particles(self) -> int:
        """Particles P of one chain and step."""

    def from_prior(self, num_proposals: int) -> np.ndarray:
        """Say which of a pool's proposals the prior has drawn, (num_proposals,): all, if that is not known."""
        return np.ones(num_proposals, bool)

    def plan(self, num_samples, latent_dim=2):
        steps = self.num_steps or self.default_steps
        wanted = max(self.oversampling * num_samples, self.min_proposals)
        chains = self.num_chains or math.ceil(wanted / (steps * self.num_particles))
        return replace(self, num_chains=chains, num_steps=steps), Plan(chains, 0, steps, 1)

    def memory(self, target, plan):
        particles = plan.num_encoders + plan.num_prior
        weights = 4 * plan.num_encoders * particles * target.latent_dim  # every draw under every encoder
        return particles * (super().memory(target, plan) / 2 + plan.num_kept * (target.latent_dim + 1)) + weights


@dataclass(frozen=True)
class Population(Sampler):
    """Samplers whose ``particles`` are the members of populations: pooled by weight, completed at the end.

    The members ``z`` (n, C, l) belong to ``num_populations`` independent populations of equal size, one
    after the other; the ``log_weight`` (n, C) of a member is its population's estimate of log p(x_o), or
    zero.

    Parameters
    ----------
    num_populations : int
        Independent populations.
    num_chains : int, optional
        Members in all. By default one for each draw, at least 200, a multiple of 16.
    warmup, thin : int, optional
        Steps after the arrival at the posterior, and steps between two populations that are kept.
    """

    num_populations: int = field(default=1, kw_only=True)
    warmup: int | None = field(default=None, kw_only=True)
    thin: int | None = field(default=None, kw_only=True)

    coupled: ClassVar[bool] = True
    accepts_start: ClassVar[bool] = False
    keeps: ClassVar[str] = "particles"
    default_warmup: ClassVar[int] = 4
    min_chains: ClassVar[int] = 200  # fewer members say too little about the shape of the target

    def plan(self, num_samples, latent_dim=2):
        chains = self.num_chains or in_sixteens(max(num_samples, self.min_chains))
        warmup = self.default_warmup if self.warmup is None else self.warmup
        sampler = replace(self, num_chains=chains, warmup=warmup, thin=self.thin or 1)
        return sampler, Plan(chains, warmup, math.ceil(num_samples / chains), sampler.thin)

    def memory(self, target, plan):
        return super().memory(target, plan) + plan.num_kept * target.latent_dim


def count(tensor):
    """Rows that a tensor (n, ..., k) holds for one row of the table."""
    return tf.size(tensor[0, ..., 0])


def untested(tensor):
    """Return the acceptance (n, C) of a step without a Metropolis test: NaN."""
    return tf.fill(tf.shape(tensor)[:2], math.nan)


def draw_normal(moments, seed):
    """One draw from N(loc, scale²) (n, C, l), for ``moments`` (loc, scale)."""
    loc, scale = moments
    return loc + scale * seed.normal(tf.shape(loc)[1:])


def log_q(z, loc, scale):
    """Return log N(z; loc, scale²) summed over latent dimensions, never below -1e30."""
    return tf.maximum(tf.reduce_sum(log_normal(z, loc, scale), -1), LOWEST)


def log_prior(z):
    """Return log p(z), the standard normal, summed over latent dimensions."""
    return -0.5 * tf.reduce_sum(tf.square(z) + math.log(2.0 * math.pi), -1)


def select(accepted, new, old):
    """Take ``new`` where ``accepted`` (n,) or (n, C), else ``old``; works on nested tensors (n, C, ...)."""

    def choose(a, b):
        ones = tf.ones(tf.rank(a) - tf.rank(accepted), tf.int32)
        return tf.where(tf.reshape(accepted, tf.concat([tf.shape(accepted), ones], 0)), a, b)

    return tf.nest.map_structure(choose, new, old)


def shaped_like(new, old):
    """Give ``new`` the static shapes of ``old``, which a loop needs of what it carries."""
    return tf.nest.map_structure(lambda a, b: tf.ensure_shape(a, b.shape), new, old)


def metropolis_test(log_ratio, seed):
    """Accept with probability min(1, exp(log_ratio)). Returns (accepted, probability); NaN is a no."""
    uniform = 1.0 - seed.uniform(tf.shape(log_ratio)[1:])  # above zero
    probability = tf.exp(tf.minimum(log_ratio, 0.0))
    probability = tf.where(tf.math.is_nan(probability), 0.0, probability)
    return tf.math.log(uniform) < log_ratio, probability


def take(tree, index):
    """Gather along axis 1, row by row: ``index`` (n, k) into nested tensors (n, m, ...)."""
    return tf.nest.map_structure(lambda a: tf.gather(a, index, axis=1, batch_dims=1), tree)


def comb(log_weight, num_samples, seed):
    """Draw indices (n, ..., k) in proportion to exp(log_weight) (n, ..., m) by systematic resampling, sorted."""
    place = seed.uniform(tf.concat([tf.shape(log_weight)[1:-1], [1]], 0), "float64")
    teeth = (tf.cast(tf.range(num_samples), "float64") + place) / tf.cast(num_samples, "float64")
    return _at(log_weight, teeth)


def resample(log_weight, num_samples, seed, systematic=False):
    """Draw indices (n, ..., k) in proportion to exp(log_weight) (n, ..., m).

    By multinomial resampling, or systematic resampling, which keeps a rare mode when k is small.
    """
    of_place, of_order = seed.split()
    size = tf.concat([tf.shape(log_weight)[1:-1], [num_samples]], 0)
    if not systematic:
        return _at(log_weight, of_place.uniform(size, "float64"))
    # The comb returns them sorted, and its ends over-represent what is rare: whoever reads the
    # first of them, or every tenth, must meet each with the same probability.
    order = tf.argsort(of_order.uniform(size), axis=-1)
    return tf.gather(comb(log_weight, num_samples, of_place), order, batch_dims=len(log_weight.shape) - 1)


def _at(log_weight, quantile):
    weight = tf.exp(tf.cast(log_weight - tf.reduce_max(log_weight, -1, keepdims=True), "float64"))
    cumulative = tf.cumsum(weight, axis=-1)
    index = tf.searchsorted(cumulative, quantile * cumulative[..., -1:], side="right")
    return tf.minimum(index, tf.shape(weight)[-1] - 1)
