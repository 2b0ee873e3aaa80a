"""The default: the cheapest method whose own diagnostics pass, row by row."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from .base import Population, Sampler, Weighted
from .laplace import Laplace
from .tempered_smc import TemperedSMC

_MOST = 100_000  # proposals of another try: about as many calls as tempered SMC makes


@dataclass(frozen=True)
class Auto:
    """Try a cheap weighted method on every row; rows whose weights say no go to a thorough one.

    A row fails if its Pareto-k is above 0.7, if its effective sample size is below the number of
    draws asked for, or if more than five draws fall on the prior's proposals that are drawn more than
    twice: so a small mode shows that only these have met. It is then tried afresh with four times the
    proposals, with sixteen times, and if that fails too, or would take more than 100,000, handed on. It is
    judged by its own weights alone, so that its draws do not depend on the other rows. What failed is
    forgotten, but for its cost.

    Parameters
    ----------
    first : Weighted
        The cheap method: `Laplace`, or `Guided` for one that has learned.
    then : Sampler
        The thorough one, such as tempered SMC, which says itself whether its populations agree.

    References
    ----------
    Vehtari, Simpson, Gelman, Yao and Gabry (2024), Pareto smoothed importance sampling: when weights fail.
    """

    first: Weighted = field(default_factory=Laplace)
    then: Sampler = field(default_factory=TemperedSMC)

    def tries(self, num_samples: int) -> list[Weighted]:
        """Return the cheap method, and what it is with four and with sixteen times the proposals."""
        enough = [self.first.oversampling * more for more in (1, 4, 16)]
        return [replace(self.first, oversampling=n) for n in enough if n == enough[0] or n * num_samples <= _MOST]

    def __post_init__(self):
        if not isinstance(self.first, Weighted):
            raise TypeError(f"first must be a weighted method, which can judge itself, got {self.first!r}")
        if not isinstance(self.then, Population | Weighted):
            raise TypeError(f"then must be a population or a weighted method, got {self.then!r}")
