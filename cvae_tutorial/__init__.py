"""Sample any conditional distribution of a trained variational autoencoder.

>>> import cvae_tutorial as ct
>>> vae = ct.load_vae("two_ridges")                                       # doctest: +SKIP
>>> draws = ct.sample_conditional(vae, {0: 1.0}, num_samples=5_000)       # doctest: +SKIP
"""

from . import likelihoods, samplers
from .evidence import Evidence
from .likelihoods import Bernoulli, Categorical, Columns, Normal
from .sampling import ConditionalDraws, SamplingWarning, conditional_sampler, sample_conditional
from .vae import VAE, KLWarmup, LatentVariableModel, wrap
