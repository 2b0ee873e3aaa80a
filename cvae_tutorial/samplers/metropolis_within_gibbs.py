"""Metropolis-within-Gibbs (Mattei and Frellsen 2018)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import tensorflow as tf

from .base import Chain, Info, count, draw_normal, log_q, metropolis_test, select


class State(NamedTuple):
    """A chain on (z, x_m)."""

    x: Any  # current completion (n, C, d)
    z: Any  # current latent (n, C, l)
    parameters: Any  # of p(x | z)
    iteration: Any


def begin(target, plan, seed, start):
    """Complete the row (from the prior, or ``start``) and draw z from the encoder."""
    of_x, of_z = seed.split()
    x = target.complete(plan.num_chains, of_x, start)
    z = draw_normal(target.encode(x), of_z)
    return State(x, z, target.decode(z), tf.constant(0))


def log_acceptance_ratio(target, state, z_new, parameters_new, loc, scale):
    """Log of p(x|z') p(z') q(z|x) / [p(x|z) p(z) q(z'|x)], at the current completion x."""
    return (
        target.log_joint(state.x, z_new, parameters_new)
        - target.log_joint(state.x, state.z, state.parameters)
        + log_q(state.z, loc, scale)
        - log_q(z_new, loc, scale)
    )


@dataclass(frozen=True)
class MetropolisWithinGibbs(Chain):
    """Pseudo-Gibbs whose move of z is a Metropolis-Hastings proposal.

    Exact in the limit: the stationary distribution is p(z, x_m | x_o). It sticks where z and x_m
    pin each other down, because a new z must suit the old x_m.

    Parameters
    ----------
    pseudo_gibbs_steps : int, optional
        Steps at the start that accept every move, to leave a poor first guess: 20, or the whole of
        a shorter warm-up. They must be part of the warm-up.
    num_chains, warmup, thin : int, optional
        Of the run, see `Chain`: 500 steps of warm-up and 50 for each of 10 draws of a chain.

    References
    ----------
    Mattei and Frellsen (2018), Leveraging the exact likelihood of deep latent variable models.
    """

    pseudo_gibbs_steps: int | None = None

    def plan(self, num_samples, latent_dim=2):
        sampler, plan = super().plan(num_samples, latent_dim)
        free = min(20, plan.warmup) if self.pseudo_gibbs_steps is None else self.pseudo_gibbs_steps
        if free > plan.warmup:  # no biased step may be kept
            raise ValueError(
                f"pseudo_gibbs_steps={free} accept every move and must lie within warmup={plan.warmup}: "
                "raise warmup or lower pseudo_gibbs_steps"
            )
        return replace(sampler, pseudo_gibbs_steps=free), plan

    def init(self, target, plan, seed, start=None):
        free = tf.minimum(20, plan.warmup) if self.pseudo_gibbs_steps is None else self.pseudo_gibbs_steps
        return begin(target, plan, seed, start)._replace(iteration=-tf.convert_to_tensor(free))

    def step(self, target, state, seed):
        of_z, of_test, of_x = seed.split(3)
        # 1. Propose z' ~ q(z | x_o, x_m).
        loc, scale = target.encode(state.x)
        z = draw_normal((loc, scale), of_z)
        parameters = target.decode(z)
        # 2. Accept it by the Metropolis-Hastings ratio at the current x = (x_o, x_m).
        log_ratio = log_acceptance_ratio(target, state, z, parameters, loc, scale)
        accepted, probability = metropolis_test(log_ratio, of_test)
        accepted |= state.iteration < 0  # the pseudo-Gibbs steps
        calls = count(z)
        z, parameters = select(accepted, (z, parameters), (state.z, state.parameters))
        # 3. Redraw x_m ~ p(x_m | z), also after a rejection.
        x = target.impute(parameters, of_x)
        return State(x, z, parameters, state.iteration + 1), Info(probability, calls, calls)
