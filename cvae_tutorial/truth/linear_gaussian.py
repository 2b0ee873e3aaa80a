"""A model whose every conditional is known in closed form."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import tensorflow as tf

from ..likelihoods import Normal
from .mixture import GaussianMixture, split_observed


@dataclass(frozen=True, eq=False)
class LinearGaussian:
    """x = offset + loadings z + noise: factor analysis, or probabilistic PCA with equal noise.

    It is a `LatentVariableModel` whose every conditional is known in closed form [1]_.

    Parameters
    ----------
    loadings : array_like, shape (d, l)
    offset : array_like, shape (d,)
    noise_scale : float or array_like, shape (d,)
        Standard deviation of the noise, above zero.
    encoder_scale : float
        Factor on the encoder's scale: 1 gives each latent dimension the standard deviation it has
        under the exact posterior; below 1 the encoder is too narrow, above 1 too wide.

    References
    ----------
    .. [1] Tipping and Bishop (1999), Probabilistic principal component analysis.
    """

    loadings: np.ndarray
    offset: np.ndarray
    noise_scale: np.ndarray | float
    encoder_scale: float = 1.0

    def __post_init__(self):
        loadings, offset = np.array(self.loadings, float), np.array(self.offset, float)
        if loadings.ndim != 2 or offset.shape != loadings.shape[:1]:
            raise ValueError(
                "LinearGaussian needs loadings of shape (d, l) and offset of shape (d,); "
                f"got {loadings.shape} and {offset.shape}."
            )
        noise = np.broadcast_to(np.asarray(self.noise_scale, float), offset.shape).copy()
        if not (noise > 0).all() or not self.encoder_scale > 0:
            raise ValueError("noise_scale and encoder_scale must be above zero.")
        for name, value in (("loadings", loadings), ("offset", offset), ("noise_scale", noise)):
            object.__setattr__(self, name, value)

    @property
    def num_features(self) -> int:
        """Number of columns, d."""
        return self.loadings.shape[0]

    @property
    def latent_dim(self) -> int:
        """Number of latent dimensions, l."""
        return self.loadings.shape[1]

    @property
    def likelihood(self) -> Normal:
        """Normal columns; their parameters are location and scale."""
        return Normal()

    def encode(self, x) -> tuple[tf.Tensor, tf.Tensor]:
        """Mean (exact) and scale (of each dimension alone) of p(z | x), each (..., l)."""
        gain, scale = self._encoder
        loc = tf.tensordot(x - self.offset.astype(np.float32), gain, 1)
        return loc, tf.broadcast_to(scale, tf.shape(loc))

    def decode(self, z) -> tuple[tf.Tensor, tf.Tensor]:
        """Location and scale of p(x | z), each (..., d)."""
        loadings, offset, noise = (
            a.astype(np.float32) for a in (self.loadings.T, self.offset, self.noise_scale)
        )
        loc = tf.tensordot(z, loadings, 1) + offset
        return loc, tf.broadcast_to(noise, tf.shape(loc))

    def joint(self) -> GaussianMixture:
        """Return the joint normal distribution of (z, x), of l + d columns."""
        l, d = self.latent_dim, self.num_features
        root = np.block([[np.eye(l), np.zeros((l, d))], [self.loadings, np.diag(self.noise_scale)]])
        return GaussianMixture([1.0], [np.r_[np.zeros(l), self.offset]], [root @ root.T], [root])

    def condition(self, observed) -> GaussianMixture:
        """Return the exact conditional of the missing columns, in increasing order."""
        return self.joint().marginal(range(self.latent_dim, self._total)).condition(observed)

    def posterior(self, observed) -> GaussianMixture:
        """Return p(z | x_o), over the l latent dimensions."""
        columns, values, _ = split_observed(observed, self.num_features)
        shifted = {self.latent_dim + j: v for j, v in zip(columns, values, strict=True)}
        return self.joint().condition(shifted).marginal(range(self.latent_dim))

    @property
    def _total(self) -> int:
        return self.latent_dim + self.num_features

    @cached_property
    def _encoder(self) -> tuple[np.ndarray, np.ndarray]:
        whitened = self.loadings / self.noise_scale[:, None]
        covariance = np.linalg.inv(np.eye(self.latent_dim) + whitened.T @ whitened)
        gain = (whitened / self.noise_scale[:, None]) @ covariance
        scale = self.encoder_scale * np.sqrt(np.diag(covariance))
        return gain.astype(np.float32), scale.astype(np.float32)
