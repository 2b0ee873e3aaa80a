"""Importance resampling from a guide."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import tensorflow as tf

from ..seeds import RowSeed
from .base import AT_ONCE, Target
from .mixture import Mixture
from .proposal import FromMixture


@dataclass(frozen=True)
class Guided(FromMixture):
    """Propose z from a network that has learned q(z | x_o), and from the prior; weigh; resample.

    One call of the guide replaces the climbs of `Laplace`. The weights correct what it has learned
    badly, and say how badly.

    Parameters
    ----------
    guide : Guide
        What `amortise` returns, for the model that is sampled.
    prior_share : float
        Share of the proposals that come from the prior, in (0, 1). They meet what the guide leaves out.
    oversampling, num_chains, num_steps : int, optional
        Of the run, see `Weighted`: 4 proposals for each draw, 400 at the least, in groups of 100.

    References
    ----------
    Le, Baydin and Wood (2017), Inference compilation and universal probabilistic programming.
    Hesterberg (1995), Weighted average importance sampling and defensive mixture distributions.
    """

    guide: Any = field(default=None)

    def __post_init__(self):
        super().__post_init__()
        if not hasattr(self.guide, "mixture"):
            raise TypeError(f"guide must be a Guide such as amortise(model) returns, got {self.guide!r}")

    @property
    def num_components(self) -> int:
        return self.guide.num_components

    def make(self, target: Target, seed: RowSeed) -> tuple[Mixture, Any]:
        shape = self.guide.num_features, self.guide.latent_dim
        if shape != (target.num_features, target.latent_dim):
            raise ValueError(f"the guide is for {shape[0]} columns and {shape[1]} latent dimensions")
        # Sixteen copies of each row, so that rows beside it change no rounding.
        x, observed = (tf.repeat(a[:, 0], AT_ONCE, 0) for a in (target.values, target.observed))
        one = tf.nest.map_structure(lambda a: a[::AT_ONCE], self.guide.mixture(x, observed))
        # A guide that was badly trained may overflow: the prior stands in.
        fine = tf.reduce_all(tf.math.is_finite(one.loc), -1) & tf.reduce_all(tf.math.is_finite(one.root), [-2, -1])
        unit = tf.eye(target.latent_dim) + tf.zeros_like(one.white)
        prior = Mixture(one.log_weight, tf.zeros_like(one.loc), unit, unit)
        parts = [
            tf.where(tf.reshape(fine, tf.concat([tf.shape(fine), [1] * (len(a.shape) - 2)], 0)), a, b)
            for a, b in zip(one[1:], prior[1:], strict=True)
        ]
        return Mixture(one.log_weight, *parts), tf.zeros(2, tf.int32)
