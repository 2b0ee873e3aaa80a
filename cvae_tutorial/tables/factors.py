"""Factor analysis of a table with holes, and networks that begin as its solution.

A linear decoder with normal noise is factor analysis, whose likelihood the EM algorithm climbs in
closed form. Networks that begin there have only to learn where the table is not linear.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from ..likelihoods import Bernoulli, Categorical, Columns

_LEAST = 1e-3  # noise variance of a standardised column
_MOST_ROWS = 5_000


class Factors(NamedTuple):
    """f = b + W z + noise, for features f (p,).

    Attributes
    ----------
    loadings : array (p, l)
        W.
    mean, variance : arrays (p,)
        b, and the variances of the noise.
    """

    loadings: NDArray
    mean: NDArray
    variance: NDArray


def fit_factors(features: NDArray, observed: NDArray, latent_dim: int, num_steps: int = 50) -> Factors:
    """Fit by EM, from the cells that are observed.

    Parameters
    ----------
    features : array (n, p)
        Standardised columns.
    observed : array of bool (n, p)
    latent_dim : int
        Number of factors, l.
    num_steps : int

    References
    ----------
    Rubin and Thayer (1982), EM algorithms for ML factor analysis.
    """
    known = observed[:_MOST_ROWS].astype(float)
    f = np.where(observed, features, 0.0)[:_MOST_ROWS].astype(float)
    count = known.sum(0)
    mean = f.sum(0) / np.maximum(count, 1)
    deviation = np.where(known > 0, f - mean, 0.0)
    _, size, direction = np.linalg.svd(deviation, full_matrices=False)
    loadings = np.zeros((f.shape[1], latent_dim))
    rank = min(latent_dim, len(size))
    loadings[:, :rank] = direction[:rank].T * size[:rank] / np.sqrt(len(f))
    variance = np.maximum(deviation.var(0) - (loadings**2).sum(1), 0.1)
    diagonal = np.arange(latent_dim)
    for _ in range(num_steps):
        # E step: the posterior N(m, S) of every row, given its observed features.
        m, s = _posterior(f - mean, known / variance, loadings)
        z = np.c_[m, np.ones(len(m))]
        second = z[:, :, None] * z[:, None]
        second[:, :latent_dim, :latent_dim] += s
        # M step: a regression of each feature on z over the rows that have it, with one ridge row of noise.
        moments = (known.T @ second.reshape(len(z), -1)).reshape(-1, latent_dim + 1, latent_dim + 1)
        moments[:, diagonal, diagonal] += variance[:, None]
        product = (known * f).T @ z
        weights = np.linalg.solve(moments, product[..., None])[..., 0]
        left = (known * f**2).sum(0) - (weights * product).sum(1)
        loadings, mean = weights[:, :latent_dim], weights[:, latent_dim]
        variance = np.maximum(left / np.maximum(count, 1), _LEAST)
    return Factors(loadings, mean, variance)


def _posterior(deviation, precision, loadings):
    """Mean (n, l) and covariance (n, l, l) of z, given ``deviation`` (n, p) where the precision is not zero."""
    dim = loadings.shape[1]
    information = (precision @ (loadings[:, :, None] * loadings[:, None]).reshape(-1, dim**2)).reshape(-1, dim, dim)
    covariance = np.linalg.inv(information + np.eye(dim))
    return (covariance @ ((precision * deviation) @ loadings)[..., None])[..., 0], covariance


@keras.saving.register_keras_serializable(package="cvae_tutorial")
class FactorPosterior(keras.layers.Layer):
    """Location and logarithm of the scale of z given some features, by factor analysis: (n, 2 l) from (n, 2 p).

    The inputs are the features, and 1 where one is observed, else 0.
    """

    def __init__(self, latent_dim: int, trainable: bool = False, **kwargs: Any):
        super().__init__(trainable=trainable, **kwargs)
        self.latent_dim = latent_dim

    def build(self, input_shape):
        """Make the weights, which the solution is assigned to."""
        width = input_shape[-1] // 2
        self.loadings = self.add_weight(shape=(width, self.latent_dim), initializer="zeros", name="loadings")
        self.mean = self.add_weight(shape=(width,), initializer="zeros", name="mean")
        self.variance = self.add_weight(shape=(width,), initializer="ones", name="variance")

    def call(self, inputs):
        """Solve for every row."""
        features, observed = tf.split(inputs, 2, -1)
        precision = observed / self.variance
        information = tf.einsum("ij,jk,jm->ikm", precision, self.loadings, self.loadings)
        root = tf.linalg.cholesky(information + tf.eye(self.latent_dim))
        right = tf.matmul(precision * (features - self.mean), self.loadings)
        loc = tf.linalg.cholesky_solve(root, tf.expand_dims(right, -1))[..., 0]
        inverse = tf.linalg.triangular_solve(root, tf.eye(self.latent_dim) + tf.zeros_like(root))
        return tf.concat([loc, 0.5 * tf.math.log(tf.reduce_sum(tf.square(inverse), -2))], -1)

    def get_config(self):
        """Return the settings, as Keras saves them."""
        return {**super().get_config(), "latent_dim": self.latent_dim}


def networks(
    likelihood: Columns, factors: Factors, hidden: tuple[int, ...], min_scale: float, seed: int
) -> tuple[keras.Model, keras.Model]:
    """Make encoder and decoder of a VAE that reads its mask, which begin as factor analysis.

    Beside what is linear each has hidden layers, whose last weights are zero at first.
    """
    width, latent_dim = factors.loadings.shape
    columns = likelihood.columns_of_inputs()
    dense: Any = keras.layers.Dense
    initial = keras.initializers.GlorotUniform
    inputs: Any = keras.Input((width + len(likelihood.kinds),))
    features = inputs[:, :width]
    observed = keras.ops.take(inputs[:, width:], columns, axis=-1)
    linear = FactorPosterior(latent_dim, name="factors")
    known = linear(keras.ops.concatenate([features, observed], -1))
    h = keras.ops.concatenate([known, features, observed], -1)
    for number, size in enumerate(hidden):
        h = dense(size, "tanh", kernel_initializer=initial(seed + number), name=f"encoder_{number}")(h)
    loc = known[:, :latent_dim] + dense(latent_dim, kernel_initializer="zeros", name="encoder_loc")(h)
    log_scale = known[:, latent_dim:] + dense(latent_dim, kernel_initializer="zeros", name="encoder_scale")(h)
    # The model takes softplus of what stands for the scale.
    scale = keras.ops.exp(keras.ops.clip(log_scale, -8.0, 2.0))
    encoder = keras.Model(inputs, keras.ops.concatenate([loc, keras.ops.log(keras.ops.expm1(scale))], -1))
    for weight, value in zip((linear.loadings, linear.mean, linear.variance), factors, strict=True):
        weight.assign(value)
    z = keras.Input((latent_dim,))
    straight = dense(likelihood.num_parameters(len(likelihood.kinds)), kernel_initializer="zeros", name="linear")
    bent = dense(straight.units, kernel_initializer="zeros", use_bias=False, name="bent")
    h = z
    for number, size in enumerate(hidden):
        h = dense(size, "tanh", kernel_initializer=initial(seed + 100 + number), name=f"decoder_{number}")(h)
    decoder = keras.Model(z, straight(z) + bent(h) if hidden else straight(z))
    straight.set_weights(_linear_decoder(likelihood, factors, min_scale))
    return encoder, decoder


def _linear_decoder(likelihood, factors, min_scale):
    """Kernel (l, q) and bias (q,) with which a linear decoder writes what the factors say."""
    loadings, mean, variance = factors
    kernel, bias, start = [], [], 0
    for kind, columns in likelihood.groups():
        own = slice(start, start + kind.num_inputs(len(columns)))
        start = own.stop
        w, b = loadings[own], mean[own]
        if isinstance(kind, Bernoulli):  # features are -1 and 1
            b = np.clip(b, -0.98, 0.98)
            kernel.append(w / (1 - b[:, None] ** 2) * 2)
            bias.append(2 * np.arctanh(b))
        elif isinstance(kind, Categorical):
            b = np.clip(b, 0.02, 1)
            kernel.append(w / b[:, None])
            bias.append(np.log(b))
        else:
            kernel.append(w)
            bias.append(b)
            if kind.num_parameters(len(columns)) == 2 * len(columns):
                spread = np.maximum(np.sqrt(variance[own]) - min_scale, 1e-3)
                kernel.append(np.zeros_like(w))
                bias.append(np.log(np.expm1(spread)))
    return [np.concatenate(kernel).T, np.concatenate(bias)]
