"""A model whose every conditional is known in closed form."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import tensorflow as tf
from numpy.typing import ArrayLike, NDArray

from ..likelihoods import Normal
from .mixture import Array, GaussianMixture, Observed, split_observed


@dataclass(frozen=True, eq=False, init=False)
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

    loadings: Array
    offset: Array
    noise_scale: Array
    encoder_scale: float

    def __init__(
        self, loadings: ArrayLike, offset: ArrayLike, noise_scale: ArrayLike, encoder_scale: float = 1.0
    ) -> None:
        loadings, offset = np.array(loadings, float), np.array(offset, float)
        if loadings.ndim != 2 or offset.shape != loadings.shape[:1]:
            raise ValueError(
                "LinearGaussian needs loadings of shape (d, l) and offset of shape (d,); "
                f"got {loadings.shape} and {offset.shape}."
            )
        noise = np.broadcast_to(np.asarray(noise_scale, float), offset.shape).copy()
        if not (noise > 0).all() or not encoder_scale > 0:
            raise ValueError("noise_scale and encoder_scale must be above zero.")
        for name, value in zip(self.__dataclass_fields__, (loadings, offset, noise, encoder_scale), strict=True):
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

    def encode(self, x: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Mean (exact) and scale (of each dimension alone) of p(z | x), each (..., l)."""
        gain, scale = self._encoder
        loc = tf.tensordot(x - self.offset.astype(np.float32), gain, 1)
        return loc, tf.broadcast_to(scale, tf.shape(loc))

    def decode(self, z: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Location and scale of p(x | z), each (..., d)."""
        loadings, offset, noise = (a.astype(np.float32) for a in (self.loadings.T, self.offset, self.noise_scale))
        loc = tf.tensordot(z, loadings, 1) + offset
        return loc, tf.broadcast_to(noise, tf.shape(loc))

    def joint(self) -> GaussianMixture:
        """Return the joint normal distribution of (z, x), of l + d columns."""
        prior, noise = np.eye(self.latent_dim), np.diag(self.noise_scale)
        root = np.block([[prior, np.zeros_like(self.loadings.T)], [self.loadings, noise]])
        return GaussianMixture([1.0], [np.r_[np.zeros(self.latent_dim), self.offset]], [root @ root.T], [root])

    def condition(self, observed: Observed) -> GaussianMixture:
        """Return the exact conditional of the missing columns, in increasing order."""
        return self.joint().marginal(self.latent_dim + np.arange(self.num_features)).condition(observed)

    def posterior(self, observed: Observed) -> GaussianMixture:
        """Return p(z | x_o), over the l latent dimensions."""
        columns, values, _ = split_observed(observed, self.num_features)
        shifted = {self.latent_dim + j: v for j, v in zip(columns, values, strict=True)}
        return self.joint().condition(shifted).marginal(range(self.latent_dim))

    @cached_property
    def _encoder(self) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        whitened = self.loadings / self.noise_scale[:, None]
        covariance = np.linalg.inv(np.eye(self.latent_dim) + whitened.T @ whitened)
        gain = (whitened / self.noise_scale[:, None]) @ covariance
        scale = self.encoder_scale * np.sqrt(np.diag(covariance))
        return gain.astype(np.float32), scale.astype(np.float32)
