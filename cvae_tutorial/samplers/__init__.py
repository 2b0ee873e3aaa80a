"""The methods, one file each.

A method is a frozen dataclass of its settings with two functions. ``init(model, observed,
num_chains, num_steps, seed, start)`` returns a state; ``step(model, observed, state, seed)`` returns
the next state and an ``Info``. Tensors have axes (n rows, C chains, ...). A chain's state has the
completion ``x``; a weighted method's state has ``particles``, draws of z with unnormalised log
weights, which are pooled over chains and steps, resampled and decoded at the end.

A method of your own needs the same two functions and the class attributes ``exact``, ``weighted``,
``calls``, and for chains ``warmup``, ``thin``, ``draws_per_chain``, for weighted draws
``oversampling`` and ``num_steps``. A chain that needs a number of steps of its own before its
warm-up says when it is ready with ``finished(state)``.
"""

from .adaptive_collapsed import AdaptiveCollapsed
from .importance import Importance
from .lair import LAIR
from .metropolis_within_gibbs import MetropolisWithinGibbs
from .one_pass import OnePass
from .pseudo_gibbs import PseudoGibbs
from .tempered_smc import TemperedSMC

METHODS = {
    "one_pass": OnePass,
    "pseudo_gibbs": PseudoGibbs,
    "metropolis_within_gibbs": MetropolisWithinGibbs,
    "adaptive_collapsed": AdaptiveCollapsed,
    "importance": Importance,
    "lair": LAIR,
    "tempered_smc": TemperedSMC,
}

__all__ = ["METHODS", *(cls.__name__ for cls in METHODS.values())]
