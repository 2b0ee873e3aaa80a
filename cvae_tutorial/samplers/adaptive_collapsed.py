"""Adaptive collapsed Metropolis-within-Gibbs (Simkus and Gutmann 2023)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, NamedTuple

import tensorflow as tf

from .base import Chain, Info, count, log_prior, log_q, metropolis_test, select
from .metropolis_within_gibbs import begin


@dataclass(frozen=True)
class AdaptiveCollapsed(Chain):
    """Metropolis-Hastings on z alone, with a proposal built from the chain's own past.

    The target is p(z | x_o): x_m is integrated out of the acceptance, so a new z need not suit the
    old x_m. The proposal is the encoder at a completion drawn from the chain's history, mixed with
    the prior. A completion made from the current z joins the history only once z has been left.
    So no proposal reads what the current z has made, and each step leaves the target as it is for
    any fixed history. The history itself still depends on the chain's path. That leaves a small error
    in a short run, which dies out as the history grows: the chain is exact in the limit.

    Parameters
    ----------
    prior_probability : float
        Weight epsilon of the prior in the proposal, in (0, 1]. It gives the proposal the support
        of the prior and lets the chain jump between modes.
    num_marginal : int
        Completions drawn from the marginal p(x_m) that stand at the start of each chain's history.
        With probability epsilon the encoder reads one of these, so that a mode which the chain has
        not yet seen keeps being proposed. 0 is the published algorithm.
    num_chains, warmup, thin : int, optional
        Of the run, see `Chain`: 500 steps of warm-up and 50 for each of 4 draws of a chain.

    References
    ----------
    Simkus and Gutmann (2023), Conditional sampling of variational autoencoders via iterated
    approximate ancestral sampling (AC-MWG). The published epsilon is .01 to .3.
    """

    prior_probability: float = 0.3
    num_marginal: int = 50

    default_warmup, default_thin, draws_per_chain = 500, 50, 4

    def __post_init__(self):
        super().__post_init__()
        if not 0.0 < self.prior_probability <= 1.0:
            raise ValueError(f"prior_probability must be in (0, 1], got {self.prior_probability}")
        if self.num_marginal < 0:
            raise ValueError(f"num_marginal must be at least 0, got {self.num_marginal}")

    class State(NamedTuple):
        x: Any  # newest completion (n, C, d)
        z: Any  # (n, C, l)
        parameters: Any
        log_gamma: Any  # (n, C), log p(z) p(x_o | z)
        history: Any  # completions (M + 1 + T, n, C, d): marginal ones, the first, one for each step
        available: Any  # (n, C), how many of them the proposal may use
        newest: Any  # slot of the newest completion

    def init(self, target, plan, seed, start=None):
        of_first, of_marginal = seed.split()
        x, z, parameters, _ = begin(target, plan, of_first, start)
        marginal = target.guess(plan.num_chains * self.num_marginal, of_marginal)
        shape = tf.shape(x)
        marginal = tf.reshape(marginal, tf.stack([shape[0], self.num_marginal, shape[1], shape[2]]))
        empty = tf.zeros(tf.concat([[plan.num_steps], shape], 0))
        history = tf.concat([tf.transpose(marginal, (1, 0, 2, 3)), x[None], empty], 0)
        available = tf.fill(shape[:2], self.num_marginal + 1)
        gamma = target.log_gamma(z, parameters)
        return self.State(x, z, parameters, gamma, history, available, tf.constant(self.num_marginal))

    def log_proposal(self, z, loc, scale):
        """Log of (1 - epsilon) q(z | x_o, x~_m) + epsilon p(z)."""
        epsilon = self.prior_probability
        prior = math.log(epsilon) + log_prior(z)
        if epsilon == 1.0:
            return prior
        return tf.reduce_logsumexp([math.log1p(-epsilon) + log_q(z, loc, scale), prior], axis=0)

    def step(self, target, state, seed):
        of_slot, of_z, of_test, of_x = seed.split(4)
        # 1. Draw a completion x~ uniformly from this chain's available history, or with
        #    probability epsilon from its marginal part. Neither depends on the current z.
        uniform = of_slot.uniform(tf.concat([[3], tf.shape(state.available)[1:]], 0))
        place, explore, from_prior = tf.unstack(uniform, num=3, axis=1)
        span = state.available
        if self.num_marginal:
            span = tf.where(explore < self.prior_probability, self.num_marginal, span)
        slot = tf.minimum(tf.cast(place * tf.cast(span, "float32"), "int32"), span - 1)
        x = _take_slots(state.history, slot)
        # 2. Propose z' from the encoder at x~, or with probability epsilon from the prior.
        loc, scale = target.encode(x)
        noise = of_z.normal(tf.shape(loc)[1:])
        from_prior = (from_prior < self.prior_probability)[..., None]
        z = tf.where(from_prior, noise, loc + scale * noise)
        parameters, calls = target.decode(z), count(z)
        gamma = target.log_gamma(z, parameters)
        # 3. Accept with the same x~ in both proposal densities, and observed columns only.
        log_ratio = gamma - state.log_gamma + self.log_proposal(state.z, loc, scale) - self.log_proposal(z, loc, scale)
        accepted, probability = metropolis_test(log_ratio, of_test)
        # 4. Leaving z releases the completions that it made.
        available = tf.where(accepted, state.newest + 1, state.available)
        z, parameters, gamma = select(accepted, (z, parameters, gamma), (state.z, state.parameters, state.log_gamma))
        # 5. Complete the row from z and append it to the history.
        x = target.impute(parameters, of_x)
        # In place: a copy of the whole history in every step would cost more than the networks.
        # x was made from what step 1 read, so the write comes after the reading.
        history = tf.raw_ops.InplaceUpdate(x=state.history, i=[state.newest + 1], v=x[None])
        state = self.State(x, z, parameters, gamma, history, available, state.newest + 1)
        return state, Info(probability, calls, calls)

    def memory(self, target, plan):
        history = self.num_marginal + 1 + plan.num_steps
        return super().memory(target, plan) + 2 * history * target.num_features


def _take_slots(history, slot):
    """``history[slot[i, c], i, c]`` for every row i and chain c: (n, C, d)."""
    rows, chains = tf.meshgrid(tf.range(tf.shape(slot)[0]), tf.range(tf.shape(slot)[1]), indexing="ij")
    return tf.gather_nd(history, tf.stack([slot, rows, chains], -1))
