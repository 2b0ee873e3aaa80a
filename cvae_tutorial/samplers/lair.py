"""Latent-adaptive importance resampling, LAIR (Simkus and Gutmann 2023)."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import tensorflow as tf

from .base import Info, Particles, Weighted, count, resample, take, untested
from .importance import in_groups, no_particles, propose


@dataclass(frozen=True)
class LAIR(Weighted):
    """Importance resampling whose proposal is made of its own completions.

    Each step draws z from the encoder at K completions and from the prior, weighs the draws against
    that whole mixture, resamples K of them and completes the row anew. At the end the weighted
    draws of *all* steps are pooled, resampled once and decoded once. The steps themselves are
    biased by O(1/K), the pooled draws are consistent.

    Parameters
    ----------
    num_proposals : int, optional
        Completions K, each with one encoder proposal per step. By default 10 for a few draws, up to
        200 for thousands: a mode of weight 1/K is easily lost by a group of K completions, and
        groups that have lost it make the pooled weights uneven.
    num_prior : int, optional
        Prior proposals R per step and group. At least 1 bounds the weights. By default as many as
        the group has completions: they find modes that the encoder leaves out, and cost no encoder
        call.
    group_size : int, optional
        Split the K completions into groups of this size, dealt out anew at every step. The mixture
        and the resampling stay inside a group, so the weights cost O(K group_size) instead of
        O(K²). By default one group.
    oversampling, num_chains, num_steps : int, optional
        Of the run, see `Weighted`: 40 proposals for each draw, 20 steps.

    References
    ----------
    Simkus and Gutmann (2023), Conditional sampling of variational autoencoders via iterated
    approximate ancestral sampling. Published settings are K=4 and K=19 with R=1.
    """

    num_proposals: int | None = None
    num_prior: int | None = None
    group_size: int | None = None

    default_steps = 20

    def __post_init__(self):
        super().__post_init__()
        proposals, prior = self.num_proposals or 1, self.num_prior or 0
        if min(proposals, self.oversampling) < 1 or prior < 0 or self.num_proposals == 0:
            raise ValueError("num_proposals and oversampling must be at least 1, num_prior at least 0")
        if self.group_size is not None and (
            self.num_proposals is None or self.group_size < 1 or proposals % self.group_size
        ):
            raise ValueError(f"group_size must divide num_proposals={self.num_proposals}, got {self.group_size}")

    def plan(self, num_samples, latent_dim=2):
        proposals, prior = self.num_proposals, self.num_prior
        if proposals is None:
            tens = math.ceil(self.oversampling * num_samples / (20 * (self.num_steps or self.default_steps)))
            proposals = 10 * min(max(tens, 1), 20)
        if prior is None:
            prior = self.group_size or proposals
        sampler, plan = Weighted.plan(replace(self, num_proposals=proposals, num_prior=prior), num_samples, latent_dim)
        return sampler, plan._replace(num_encoders=proposals, num_prior=sampler.num_particles - proposals)

    def kernel(self):
        free = self if self.group_size else replace(self, num_proposals=None, num_prior=None)  # the plan holds K and R
        return Weighted.kernel(free)

    @property
    def num_particles(self):
        proposals, prior = self.num_proposals or 0, self.num_prior or 0
        return proposals + prior * (proposals // self.group_size if self.group_size else 1)

    class State(NamedTuple):
        x: Any  # completions (n, C, K, d)
        particles: Any  # weighted draws of the last step, P = K + R times the groups

    def init(self, target, plan, seed, start=None):
        x = in_groups(target, plan.num_chains, plan.num_encoders, seed, start)
        return self.State(x, no_particles(x, plan.num_encoders + plan.num_prior, target.latent_dim))

    def step(self, target, state, seed):
        of_z, of_index, of_x = seed.split(3)
        num_rows, num_chains, num_proposals = tf.unstack(tf.shape(state.x)[:3])
        size = self.group_size or num_proposals
        groups = num_proposals // size
        num_prior = tf.shape(state.particles.log_weight)[2] // groups - size
        # 1. Deal the completions out: group g takes g, g + G, g + 2G, ...
        x = state.x
        if self.group_size:
            x = tf.reshape(x, tf.stack([num_rows, num_chains, size, groups, target.num_features]))
            x = tf.transpose(x, (0, 1, 3, 2, 4))
            x = tf.reshape(x, tf.stack([num_rows, num_chains * groups, size, target.num_features]))
        # 2. Propose from the encoders and the prior, weigh against their mixture.
        particles, parameters = propose(target, x, num_prior, of_z)
        # 3. Resample K of the K + R, group by group.
        index = resample(particles.log_weight, size, of_index, systematic=True)
        index += (size + num_prior) * tf.range(num_chains * groups)[:, None]
        index = tf.reshape(index, tf.stack([num_rows, -1]))
        # 4. Complete the row from each: x_m ~ p(x_m | z).
        x = tf.reshape(target.impute(take(parameters, index), of_x), tf.shape(state.x))
        shape = tf.shape(state.particles.z)
        particles = Particles(tf.reshape(particles.z, shape), tf.reshape(particles.log_weight, shape[:3]))
        info = Info(untested(particles.z), num_chains * num_proposals, count(particles.z))
        return self.State(x, particles), info
