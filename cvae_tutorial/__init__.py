"""Sample any conditional distribution of a trained variational autoencoder.

>>> import cvae_tutorial as ct
>>> vae = ct.load_vae("two_ridges")
>>> draws = ct.sample_conditional(vae, {0: 1.0}, num_samples=5_000, seed=0)
>>> draws.values.shape
(5000, 2)
"""

from . import _quiet as _quiet  # before TensorFlow
from . import distances, exact, likelihoods, samplers
from .draws import ConditionalDraws, Finding, SamplingWarning, diagnose
from .evidence import Evidence
from .guide import amortise
from .likelihoods import Bernoulli, Categorical, Columns, Likelihood, Normal, Transformed
from .model import VAE, KLWarmup, LatentVariableModel, WrappedVAE, wrap
from .recipes import FreshRows
from .recipes.checkpoints import checkpoint_card, load_vae, save_vae
from .sampling import conditional_sampler, sample_conditional
from .tables.imputer import VAEImputer
from .truth.mixture import GaussianMixture, fractional_brownian_motion, two_ridges

__all__ = [
    "Bernoulli",
    "Categorical",
    "Columns",
    "ConditionalDraws",
    "Evidence",
    "Finding",
    "FreshRows",
    "GaussianMixture",
    "KLWarmup",
    "LatentVariableModel",
    "Likelihood",
    "Normal",
    "SamplingWarning",
    "Transformed",
    "VAE",
    "VAEImputer",
    "WrappedVAE",
    "amortise",
    "checkpoint_card",
    "conditional_sampler",
    "diagnose",
    "distances",
    "exact",
    "fractional_brownian_motion",
    "likelihoods",
    "load_vae",
    "sample_conditional",
    "samplers",
    "save_vae",
    "two_ridges",
    "wrap",
]
__version__ = "0.1.0"
