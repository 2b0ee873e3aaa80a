"""Exact conditionals of a model: quadrature over a small latent space, and a closed form.

These are answers about the *model*.  How far the model is from the data's distribution is a
separate question; for a Gaussian mixture, `GaussianMixture.condition` answers it.
"""

from .truth.linear_gaussian import LinearGaussian
from .truth.quadrature import DiscreteColumn, LatentQuadrature, NormalColumn, quadrature

__all__ = ["DiscreteColumn", "LatentQuadrature", "LinearGaussian", "NormalColumn", "quadrature"]
