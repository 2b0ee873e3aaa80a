"""Mixtures of normal distributions over z: proposals, given or fitted to members of a population."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import tensorflow as tf

from ..likelihoods import LOG_2PI, LOWEST


class Mixture(NamedTuple):
    """K normal components in l dimensions, for every leading index (...).

    Attributes
    ----------
    log_weight : tensor (..., K)
        Logarithms of the weights, which add up to 1.
    loc : tensor (..., K, l)
    root, white : tensors (..., K, l, l)
        A triangular factor A of each covariance A Aᵀ, and its inverse.
    """

    log_weight: Any
    loc: Any
    root: Any
    white: Any

    def log_parts(self, z):
        """Log density of every component times its weight, (..., K, m), at ``z`` (..., m, l)."""
        residual = tf.matmul(z[..., None, :, :] - self.loc[..., None, :], self.white, transpose_b=True)
        log_det = tf.reduce_sum(tf.math.log(tf.linalg.diag_part(self.white)), -1) - 0.5 * z.shape[-1] * LOG_2PI
        return (self.log_weight + log_det)[..., None] - 0.5 * tf.reduce_sum(tf.square(residual), -1)

    def log_prob(self, z):
        """Log density (..., m), never below -1e30."""
        return tf.maximum(tf.reduce_logsumexp(self.log_parts(z), -2), LOWEST)

    def pick(self, uniform, noise):
        """Centre and deviation, each (..., m, l), of the components that ``uniform`` (..., m) picks.

        ``noise`` (..., m, l) is standard normal. Their sum is a draw from the mixture.
        """
        edges = tf.cumsum(tf.exp(self.log_weight), axis=-1)[..., :-1]
        chosen = tf.reduce_sum(tf.cast(uniform[..., None] > edges[..., None, :], "int32"), -1)
        one = tf.one_hot(chosen, self.loc.shape[-2], axis=-1)  # (..., m, K)
        deviation = tf.matmul(noise[..., None, :, :], self.root, transpose_b=True)  # (..., K, m, l)
        return tf.matmul(one, self.loc), tf.reduce_sum(tf.linalg.matrix_transpose(one)[..., None] * deviation, -3)


def fit_mixture(z, uniform, num_steps=8):
    """Fit a mixture to members ``z`` (..., m, l), group by group, by the EM algorithm.

    ``uniform`` (..., K), random numbers in [0, 1), choose the members at which the components begin.
    Covariances are shrunk to a small multiple of the group's own, so that a component of few members
    stays regular.

    References
    ----------
    Dempster, Laird and Rubin (1977), Maximum likelihood from incomplete data via the EM algorithm.
    Arthur and Vassilvitskii (2007), k-means++, for where it begins.
    """
    dim, shape, num_components = z.shape[-1], tf.shape(z), uniform.shape[-1]
    num = tf.cast(shape[-2], "float32")
    # 1. In units in which the group's covariance is the identity.
    centre = tf.reduce_mean(z, -2, keepdims=True)
    root = cholesky(tf.matmul(z - centre, z - centre, transpose_a=True) / num)
    inverse = inverse_of(root)
    y = tf.matmul(z - centre, inverse, transpose_b=True)
    # 2. Begin at members far from one another: each in proportion to its squared distance from the others.
    loc: Any = tf.gather(y, _place(tf.ones_like(y[..., 0]), uniform[..., :1]), batch_dims=len(z.shape) - 2)
    nearest = tf.reduce_sum(tf.square(y - loc), -1)
    for k in range(1, num_components):
        new = tf.gather(y, _place(nearest, uniform[..., k : k + 1]), batch_dims=len(z.shape) - 2)
        nearest = tf.minimum(nearest, tf.reduce_sum(tf.square(y - new), -1))
        loc = tf.concat([loc, new], -2)
    size = num_components ** (-2.0 / dim)
    unit = tf.eye(dim) + tf.zeros(tf.concat([shape[:-2], [num_components, 1, 1]], 0))
    flat = tf.fill(tf.concat([shape[:-2], [num_components]], 0), -math.log(num_components))
    mixture = Mixture(flat, loc, size**0.5 * unit, unit / size**0.5)
    # 3. Share the members out, then fit each component to its share.
    for _ in range(num_steps):
        share: Any = tf.nn.softmax(mixture.log_parts(y), axis=-2)  # (..., K, m)
        total: Any = tf.reduce_sum(share, -1) + 1e-9
        loc = tf.matmul(share, y) / total[..., None]
        residual = y[..., None, :, :] - loc[..., None, :]  # (..., K, m, l)
        scatter = tf.matmul(share[..., None] * residual, residual, transpose_a=True)
        prior = dim + 2.0
        own = (scatter + prior * 0.05 * size * tf.eye(dim)) / (total + prior)[..., None, None]
        part = cholesky(own)
        mixture = Mixture(tf.math.log((total + 1.0) / (num + num_components)), loc, part, inverse_of(part))
    # 4. Back into the units of z.
    loc = centre + tf.matmul(mixture.loc, root, transpose_b=True)
    return Mixture(
        mixture.log_weight,
        loc,
        tf.matmul(root[..., None, :, :], mixture.root),
        tf.matmul(mixture.white, inverse[..., None, :, :]),
    )


def cholesky(covariance):
    """Cholesky factor of covariances (..., l, l), shrunk by a trifle so that they are regular."""
    diagonal = tf.linalg.diag_part(covariance)
    return tf.linalg.cholesky(tf.linalg.set_diag(0.999 * covariance, diagonal * 1.0001 + 1e-10))


def inverse_of(root):
    """Inverse of lower triangular matrices (..., l, l)."""
    return tf.linalg.triangular_solve(root, tf.eye(root.shape[-1]) + tf.zeros_like(root))


def _place(weight, uniform):
    """Index (..., 1) drawn in proportion to ``weight`` (..., m)."""
    edges = tf.cumsum(weight, axis=-1)
    below = tf.cast(edges <= uniform * edges[..., -1:], "int32")
    return tf.minimum(tf.reduce_sum(below, -1, keepdims=True), tf.shape(weight)[-1] - 1)
