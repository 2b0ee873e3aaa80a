"""Pseudo-Gibbs (Rezende, Mohamed and Wierstra 2014)."""

from __future__ import annotations

from dataclasses import dataclass

from .core import Info, draw_normal, encode, impute, metropolis_test
from .metropolis_within_gibbs import State, init, log_acceptance_ratio


@dataclass(frozen=True)
class PseudoGibbs:
    """Alternate z ~ q(z | x_o, x_m) and x_m ~ p(x_m | z).

    It is Gibbs sampling with the encoder in place of the posterior. It has a stationary
    distribution, and that is p(x_m | x_o) only if q(z | x) = p(z | x) wherever the chain goes.
    The acceptance it reports is what the Metropolis test of `MetropolisWithinGibbs` *would* have
    been: far below 1, its moves are not moves of the target, and the draws are biased.

    References
    ----------
    Rezende, Mohamed and Wierstra (2014), Stochastic backpropagation and approximate inference in
    deep generative models.
    """

    exact = False
    weighted = False
    warmup, thin, draws_per_chain = 100, 5, 10
    calls = (1, 1)

    def init(self, model, observed, num_chains, num_steps, seed, start=None):
        return init(model, observed, num_chains, seed, start)

    def step(self, model, observed, state, seed):
        seeds = [seed + [0, i] for i in range(3)]
        # 1. z ~ q(z | x_o, x_m)
        loc, scale = encode(model, state.x)
        z = draw_normal(loc, scale, seeds[0])
        parameters = model.decode(z)
        # 2. x_m ~ p(x_m | z)
        x = impute(model, observed, parameters, seeds[1])
        # The test that the move did not have to pass.
        log_ratio = log_acceptance_ratio(model, state, z, parameters, loc, scale)
        _, probability = metropolis_test(log_ratio, seeds[2])
        return State(x, z, parameters, state.iteration + 1), Info(probability)
