"""Latent-adaptive importance resampling, LAIR (Simkus and Gutmann 2023)."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import tensorflow as tf

from .core import Info, impute, resample, take
from .importance import complete, empty_particles, propose


@dataclass(frozen=True)
class LAIR:
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
    oversampling : int
        Proposals for each draw asked for.

    References
    ----------
    Simkus and Gutmann (2023), Conditional sampling of variational autoencoders via iterated
    approximate ancestral sampling. Published settings are K=4 and K=19 with R=1.
    """

    num_proposals: int | None = None
    num_prior: int | None = None
    group_size: int | None = None
    oversampling: int = 40

    exact = True
    weighted = True
    num_steps = 20

    def __post_init__(self):
        proposals, prior = self.num_proposals or 1, self.num_prior or 0
        if min(proposals, self.oversampling) < 1 or prior < 0 or self.num_proposals == 0:
            raise ValueError("num_proposals and oversampling must be at least 1, num_prior at least 0")
        if self.group_size is not None and (
            self.num_proposals is None or self.group_size < 1 or proposals % self.group_size
        ):
            raise ValueError(f"group_size must divide num_proposals={self.num_proposals}, got {self.group_size}")

    def sized(self, num_samples):
        """The settings with their defaults filled in for ``num_samples`` draws per row."""
        proposals = self.num_proposals
        if proposals is None:
            tens = math.ceil(self.oversampling * num_samples / (20 * self.num_steps))
            proposals = 10 * min(max(tens, 1), 20)
        prior = self.num_prior
        if prior is None:
            prior = self.group_size or proposals
        return replace(self, num_proposals=proposals, num_prior=prior)

    @property
    def num_groups(self):
        return 1 if self.group_size is None else self.num_proposals // self.group_size

    @property
    def calls(self):
        return self.num_proposals, self.num_proposals + self.num_groups * self.num_prior

    class State(NamedTuple):
        x: Any  # completions (n, C, K, d)
        particles: Any  # weighted draws of the last step

    def init(self, model, observed, num_chains, num_steps, seed, start=None):
        x = complete(model, observed, num_chains, self.num_proposals, seed, start)
        return self.State(x, empty_particles(model, x, self.calls[1]))

    def step(self, model, observed, state, seed):
        seeds = [seed + [0, i] for i in (0, 2, 3)]
        num_rows, num_chains, _, num_features = tf.unstack(tf.shape(state.x))
        groups, size = self.num_groups, self.num_proposals // self.num_groups
        # 1. Deal the completions out: group g takes g, g + G, g + 2G, ...
        x = tf.reshape(state.x, tf.stack([num_rows, num_chains, size, groups, num_features]))
        x = tf.reshape(
            tf.transpose(x, (0, 1, 3, 2, 4)),
            tf.stack([num_rows, num_chains * groups, size, num_features]),
        )
        x = tf.ensure_shape(x, (None, None, size, state.x.shape[-1]))
        # 2. Propose from the encoders and the prior, weigh against their mixture.
        particles, parameters = propose(model, observed, x, self.num_prior, seeds[0])
        # 3. Resample K of the K + R, group by group.
        width = size + self.num_prior
        log_weight = tf.reshape(particles.log_weight, (-1, width))
        index = tf.reshape(resample(log_weight, size, seeds[1], systematic=True), (num_rows, num_chains * groups, size))
        offset = width * tf.range(num_chains * groups)[None, :, None]
        index = tf.reshape(index + offset, (num_rows, -1))
        # 4. Complete the row from each: x_m ~ p(x_m | z).
        x = impute(model, observed, take(parameters, index), seeds[2])
        x = tf.reshape(x, tf.shape(state.x))
        z = tf.reshape(particles.z, tf.stack([num_rows, num_chains, self.calls[1], model.latent_dim]))
        log_weight = tf.reshape(particles.log_weight, tf.shape(z)[:3])
        return self.State(x, type(particles)(z, log_weight)), Info(tf.ones(tf.shape(z)[:2]))
