"""Metropolis-within-Gibbs (Mattei and Frellsen 2018)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

from .core import (
    Info,
    clamp,
    draw_normal,
    encode,
    impute,
    impute_from_prior,
    log_joint,
    log_q,
    metropolis_test,
    select,
)

import tensorflow as tf


class State(NamedTuple):
    x: Any  # current completion (n, C, d)
    z: Any  # current latent (n, C, l)
    parameters: Any  # of p(x | z)
    iteration: Any


def init(model, observed, num_chains, seed, start=None):
    """Complete the row (from the prior, or ``start``) and draw z from the encoder."""
    seeds = tf.random.split(seed)
    if start is None:
        x = impute_from_prior(model, observed, num_chains, seeds[0])
    else:
        x = clamp(observed, start)
    z = draw_normal(*encode(model, x), seeds[1])
    return State(x, z, model.decode(z), tf.constant(0))


def log_acceptance_ratio(model, state, z_new, parameters_new, loc, scale):
    """log of p(x|z') p(z') q(z|x) / [p(x|z) p(z) q(z'|x)], at the current completion x."""
    return (
        log_joint(model, state.x, z_new, parameters_new)
        - log_joint(model, state.x, state.z, state.parameters)
        + log_q(state.z, loc, scale)
        - log_q(z_new, loc, scale)
    )


@dataclass(frozen=True)
class MetropolisWithinGibbs:
    """Pseudo-Gibbs whose move of z is a Metropolis-Hastings proposal.

    Exact in the limit: the stationary distribution is p(z, x_m | x_o). It sticks where z and x_m
    pin each other down, because a new z must suit the old x_m.

    Parameters
    ----------
    pseudo_gibbs_steps : int
        Steps at the start that accept every move, to leave a poor first guess. They must be part
        of the warm-up.

    References
    ----------
    Mattei and Frellsen (2018), Leveraging the exact likelihood of deep latent variable models.
    """

    pseudo_gibbs_steps: int = 20

    exact = True
    weighted = False
    warmup, thin, draws_per_chain = 500, 50, 10
    calls = (1, 1)

    def init(self, model, observed, num_chains, num_steps, seed, start=None):
        return init(model, observed, num_chains, seed, start)

    def step(self, model, observed, state, seed):
        seeds = [seed + [0, i] for i in range(3)]
        # 1. Propose z' ~ q(z | x_o, x_m).
        loc, scale = encode(model, state.x)
        z = draw_normal(loc, scale, seeds[0])
        parameters = model.decode(z)
        # 2. Accept it by the Metropolis-Hastings ratio at the current x = (x_o, x_m).
        log_ratio = log_acceptance_ratio(model, state, z, parameters, loc, scale)
        accepted, probability = metropolis_test(log_ratio, seeds[1])
        accepted |= state.iteration < self.pseudo_gibbs_steps
        z, parameters = select(accepted, (z, parameters), (state.z, state.parameters))
        # 3. Redraw x_m ~ p(x_m | z), also after a rejection.
        x = impute(model, observed, parameters, seeds[2])
        return State(x, z, parameters, state.iteration + 1), Info(probability)
