"""Importance resampling from a mixture of normals that is made once for each row."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, NamedTuple, Self

import numpy as np
import tensorflow as tf

from ..seeds import RowSeed
from .base import Info, Particles, Target, Weighted, count, log_prior, untested
from .importance import no_particles
from .mixture import Mixture


@dataclass(frozen=True)
class FromMixture(Weighted):
    """Methods that propose from a mixture of normal distributions and from the prior, weigh, and resample.

    The prior's share bounds the weights, by p(x_o | z) over its share, and meets what the mixture leaves out.

    Parameters
    ----------
    prior_share : float
        Share of the proposals that come from the prior, in (0, 1).
    oversampling, num_chains, num_steps : int, optional
        Of the run, see `Weighted`: 4 proposals for each draw, 400 at the least, in groups of 100.
    """

    prior_share: float = field(default=0.25, kw_only=True)
    oversampling: int = field(default=4, kw_only=True)

    min_proposals: ClassVar[int] = 400
    accepts_start: ClassVar[bool] = False

    @property
    def num_particles(self):
        return 100

    def __post_init__(self):
        super().__post_init__()
        if not 0.01 <= self.prior_share <= 0.99:
            raise ValueError(f"prior_share must be between .01 and .99, got {self.prior_share}")
        if self.oversampling < 1:
            raise ValueError(f"oversampling must be at least 1, got {self.oversampling}")

    def from_prior(self, num_proposals):
        return np.arange(num_proposals) % self.num_particles >= self.num_particles - self.num_prior

    @property
    def num_prior(self):
        """Proposals of a group that come from the prior, its last ones."""
        return round(self.prior_share * self.num_particles)

    def plan(self, num_samples, latent_dim=2):
        sampler, plan = super().plan(num_samples, latent_dim)
        return sampler, plan._replace(num_prior=self.num_particles - 1)

    def kernel(self) -> Self:
        return replace(super().kernel(), oversampling=1)  # which the plan holds

    class State(NamedTuple):
        particles: Any  # weighted draws of the last step, (n, C, 100)
        mixture: Any  # K normals of each row
        calls: Any  # rows that making it sent through encoder and decoder (2,), counted with the first step

    @property
    @abstractmethod
    def num_components(self) -> int:
        """Components K of the mixture of one row."""

    @abstractmethod
    def make(self, target: Target, seed: RowSeed) -> tuple[Mixture, Any]:
        """Return the mixture for each row, and the calls of encoder and decoder that it took (2,)."""

    def init(self, target, plan, seed, start=None):
        mixture, calls = self.make(target, seed)
        empty = tf.zeros(tf.stack([tf.shape(mixture.loc)[0], plan.num_chains]))
        return self.State(no_particles(empty, self.num_particles, target.latent_dim), mixture, calls)

    def step(self, target, state, seed):
        z, log_proposal = propose(state.mixture, tf.shape(state.particles.log_weight), self.num_prior, seed)
        gamma = target.log_gamma(z, target.decode(z))
        shape = tf.shape(state.particles.z)
        particles = Particles(tf.reshape(z, shape), tf.reshape(gamma - log_proposal, shape[:3]))
        info = Info(untested(z[:, :1]), state.calls[0], count(z) + state.calls[1])
        return self.State(particles, state.mixture, tf.zeros_like(state.calls)), info

    def memory(self, target, plan):
        densities = 4 * self.num_particles * self.num_components * target.latent_dim  # of one group
        return super().memory(target, plan) + densities / plan.num_chains


def propose(mixture, shape, num_prior, seed):
    """Draw z (n, C P, l) from a mixture, and the last ``num_prior`` of each group of P from the prior.

    ``shape`` is (n, C, P). The components' shares are drawn by systematic resampling. Returns also the
    log density of the whole proposal.
    """
    of_component, of_noise = seed.split()
    num_rows, num_groups, size = tf.unstack(shape)
    share, dim = num_prior / tf.cast(size, "float32"), mixture.loc.shape[-1]
    place = tf.cast(tf.range(num_groups)[:, None] * (size - num_prior) + tf.range(size), "float32")
    offset, total = of_component.uniform((1,)), tf.cast(num_groups * (size - num_prior), "float32")
    noise = of_noise.normal(tf.stack([num_groups, size, dim]))

    def group(arguments):  # by group, as the densities of all z under all components are large
        place, noise = arguments
        centre, deviation = mixture.pick((place + offset) / total, noise)
        z = tf.where((tf.range(size) < size - num_prior)[:, None], centre + deviation, noise)
        parts = [tf.math.log1p(-share) + mixture.log_prob(z), tf.math.log(share) + log_prior(z)]
        return z, tf.reduce_logsumexp(parts, axis=0)

    z, log_density = tf.map_fn(
        group,
        (place, tf.transpose(noise, [1, 0, 2, 3])),
        fn_output_signature=(tf.TensorSpec((None, None, dim)), tf.TensorSpec((None, None))),
        parallel_iterations=1,
    )
    z = tf.reshape(tf.transpose(z, [1, 0, 2, 3]), tf.stack([num_rows, -1, dim]))
    return z, tf.reshape(tf.transpose(log_density, [1, 0, 2]), tf.stack([num_rows, -1]))
