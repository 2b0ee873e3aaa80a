"""The methods, one file each, and the protocol of one's own (`base`)."""

from .adaptive_collapsed import AdaptiveCollapsed
from .auto import Auto
from .base import Chain, Info, Particles, Plan, Population, Sampler, Target, Weighted
from .guided import Guided
from .importance import Importance
from .lair import LAIR
from .laplace import Laplace
from .metropolis_within_gibbs import MetropolisWithinGibbs
from .one_pass import OnePass
from .pseudo_gibbs import PseudoGibbs
from .tempered_smc import TemperedSMC

METHODS: dict[str, type[Sampler]] = {
    "one_pass": OnePass,
    "pseudo_gibbs": PseudoGibbs,
    "metropolis_within_gibbs": MetropolisWithinGibbs,
    "adaptive_collapsed": AdaptiveCollapsed,
    "importance": Importance,
    "lair": LAIR,
    "laplace": Laplace,
    "tempered_smc": TemperedSMC,
}


def as_sampler(method: str | Sampler | Auto) -> Sampler | Auto:
    """Return the sampler of a name, or the settings object itself.

    Raises
    ------
    ValueError
        For a name that no method has.
    TypeError
        For anything else that is not a `Sampler`.
    """
    if method == "auto":
        return Auto()
    if isinstance(method, str):
        if method not in METHODS:
            raise ValueError(f"unknown method {method!r}: choose one of auto, {', '.join(METHODS)}")
        return METHODS[method]()
    if not isinstance(method, Sampler | Auto):
        raise TypeError(
            f"method must be a name or a settings object such as samplers.LAIR(), got {method!r}; "
            "a sampler of your own derives from samplers.Chain, Weighted or Population"
        )
    return method


__all__ = [
    "LAIR",
    "METHODS",
    "AdaptiveCollapsed",
    "Auto",
    "Chain",
    "Guided",
    "Importance",
    "Info",
    "Laplace",
    "MetropolisWithinGibbs",
    "OnePass",
    "Particles",
    "Plan",
    "Population",
    "PseudoGibbs",
    "Sampler",
    "Target",
    "TemperedSMC",
    "Weighted",
    "as_sampler",
]
