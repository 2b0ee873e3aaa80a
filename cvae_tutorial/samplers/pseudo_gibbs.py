"""Pseudo-Gibbs (Rezende, Mohamed and Wierstra 2014)."""

from __future__ import annotations

from dataclasses import dataclass

from .base import Chain, Info, count, draw_normal, metropolis_test
from .metropolis_within_gibbs import State, begin, log_acceptance_ratio


@dataclass(frozen=True)
class PseudoGibbs(Chain):
    """Alternate z ~ q(z | x_o, x_m) and x_m ~ p(x_m | z).

    It is Gibbs sampling with the encoder in place of the posterior. It has a stationary
    distribution, and that is p(x_m | x_o) only if q(z | x) = p(z | x) wherever the chain goes.
    The acceptance it reports is what the Metropolis test of `MetropolisWithinGibbs` *would* have
    been: far below 1, its moves are not moves of the target, and the draws are biased.

    Parameters
    ----------
    num_chains, warmup, thin : int, optional
        Of the run, see `Chain`: 100 steps of warm-up and 5 for each of 10 draws of a chain.

    References
    ----------
    Rezende, Mohamed and Wierstra (2014), Stochastic backpropagation and approximate inference in
    deep generative models.
    """

    exact = False
    default_warmup, default_thin = 100, 5

    def init(self, target, plan, seed, start=None):
        return begin(target, plan, seed, start)

    def step(self, target, state, seed):
        of_z, of_x, of_test = seed.split(3)
        # 1. z ~ q(z | x_o, x_m)
        loc, scale = target.encode(state.x)
        z = draw_normal((loc, scale), of_z)
        parameters = target.decode(z)
        # 2. x_m ~ p(x_m | z)
        x = target.impute(parameters, of_x)
        # The test that the move did not have to pass.
        log_ratio = log_acceptance_ratio(target, state, z, parameters, loc, scale)
        _, probability = metropolis_test(log_ratio, of_test)
        return State(x, z, parameters, state.iteration + 1), Info(probability, count(z), count(z))
