"""One pass: the origin note's method, kept as it is so that its error can be measured."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

from .base import Chain, Info, count, draw_normal, untested


@dataclass(frozen=True)
class OnePass(Chain):
    """Clamp the observed columns of a row, encode and decode once, return the decoder's *mean*.

    It is one step of `PseudoGibbs`, started from the marginal and stopped at once, without the
    decoder's spread. It has no stationary distribution and does not sample p(x_m | x_o).

    Parameters
    ----------
    num_chains : int, optional
        One for each draw by default.

    References
    ----------
    "Sampling conditional distributions with a trained variational autoencoder", blog note, 2018.
    """

    exact = False
    default_warmup, default_thin, draws_per_chain = 0, 1, 1

    class State(NamedTuple):
        x: Any  # (n, C, d)

    def init(self, target, plan, seed, start=None):
        return self.State(target.complete(plan.num_chains, seed, start))

    def step(self, target, state, seed):
        z = draw_normal(target.encode(state.x), seed)
        x = target.clamp(target.model.likelihood.mean(target.decode(z)))
        return self.State(x), Info(untested(z), count(z), count(z))
