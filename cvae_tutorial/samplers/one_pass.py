"""One pass: the origin note's method, kept as it is so that its error can be measured."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import tensorflow as tf

from .core import Info, clamp, draw_normal, encode, impute_from_prior


@dataclass(frozen=True)
class OnePass:
    """Clamp the observed columns of a row, encode and decode once, return the decoder's *mean*.

    It is one step of `PseudoGibbs`, started from the marginal and stopped at once, without the
    decoder's spread. It has no stationary distribution and does not sample p(x_m | x_o).

    References
    ----------
    "Sampling conditional distributions with a trained variational autoencoder", blog note, 2018.
    """

    exact = False
    weighted = False
    warmup, thin, draws_per_chain = 0, 1, 1
    calls = (1, 1)  # rows through the encoder and the decoder, per chain and step

    class State(NamedTuple):
        x: Any  # (n, C, d)

    def init(self, model, observed, num_chains, num_steps, seed, start=None):
        x = impute_from_prior(model, observed, num_chains, seed) if start is None else clamp(observed, start)
        return self.State(x)

    def step(self, model, observed, state, seed):
        loc, scale = encode(model, state.x)
        z = draw_normal(loc, scale, seed)
        x = clamp(observed, model.likelihood.mean(model.decode(z)))
        return self.State(x), Info(tf.ones(tf.shape(z)[:2]))
