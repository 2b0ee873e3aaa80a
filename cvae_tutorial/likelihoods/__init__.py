"""Column likelihoods p(x_j | z): how a decoder's output becomes a distribution over data.

Columns are independent given the latent variable, so every likelihood returns one log density per
column. That is what lets a sampler keep the observed columns and leave out the missing ones.
"""

from .base import LOG_2PI, LOWEST, Likelihood, Parameters, log_normal, output_shapes
from .columns import Columns
from .kinds import Bernoulli, Categorical, Normal
from .transformed import Transformed

__all__ = [
    "LOG_2PI",
    "LOWEST",
    "Bernoulli",
    "Categorical",
    "Columns",
    "Likelihood",
    "Normal",
    "Parameters",
    "Transformed",
    "log_normal",
    "output_shapes",
]
