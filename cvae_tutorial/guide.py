"""Amortised proposals: networks that read the observed columns and answer with a distribution of z.

They learn from rows that the model itself draws, so that any model of the protocol will do, and no
data are needed. `samplers.Guided` weighs what they propose.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import ArrayLike

from . import model as models
from .likelihoods import Likelihood
from .samplers.mixture import Mixture

_FARTHEST = 8.0  # standard deviations of a column, beyond which a network is not asked


class Guide(keras.Model):
    """A distribution q(z | x_o) for every set of observed columns, as a mixture of normal distributions.

    Made and trained by `amortise`, saved and loaded as any Keras model. A call with ``(x, observed)``,
    each (n, d), returns log weights (n, K), locations (n, K, l), and triangular W (n, K, l, l) with
    WᵀW the precisions.

    Parameters
    ----------
    num_features, latent_dim : int
        Columns d and latent dimensions l.
    likelihood : Likelihood
        The model's, which turns columns into inputs of a network.
    seed : int
        Of the initial weights.
    """

    def __init__(self, num_features: int, latent_dim: int, likelihood: Likelihood, seed: int = 0, **kwargs: Any):
        super().__init__(**kwargs)
        self.num_features, self.latent_dim, self.likelihood, self.seed = num_features, latent_dim, likelihood, seed
        self.supports_jit = False
        fixed: dict[str, Any] = {"shape": (num_features,), "trainable": False}
        self.shift = self.add_weight(initializer="zeros", name="shift", **fixed)
        self.scale = self.add_weight(initializer="ones", name="scale", **fixed)

    def adapt(self, x: np.ndarray) -> None:
        """Take the units of the columns from rows ``x`` (n, d)."""
        spread = x.std(axis=0)
        self.shift.assign(x.mean(axis=0))
        self.scale.assign(np.where(spread > 0, spread, 1.0))

    num_components = 1  # of the mixture of one row
    learning_rate = 2e-3

    def near(self, x: Any) -> tf.Tensor:
        """``x`` (..., d), brought back to where the guide has been trained."""
        return tf.clip_by_value(x, self.shift - _FARTHEST * self.scale, self.shift + _FARTHEST * self.scale)

    def mixture(self, x: Any, observed: Any) -> Mixture:
        """Return q(z | x_o) of rows ``x`` (n, d) with a mask (n, d), True where a cell is observed."""
        log_weight, loc, white = self((x, observed))
        return Mixture(log_weight, loc, tf.linalg.inv(white), white)

    def compute_loss(self, x: Any = None, y: Any = None, y_pred: Any = None, sample_weight=None, training=True):
        """Mean of -log q(z | x_o), in nats, over rows and the latents ``y`` (n, l) that they were drawn from."""
        log_weight, loc, white = y_pred
        return -tf.reduce_mean(Mixture(log_weight, loc, None, white).log_prob(y[:, None]))

    def start(self, name: str) -> Any:
        """Make the initial weights of a layer, which follow from the seed."""
        return keras.initializers.GlorotUniform(_seed(self.seed, name))

    def get_config(self) -> dict[str, Any]:
        """Return the settings, as Keras saves them."""
        likelihood = keras.saving.serialize_keras_object(self.likelihood)
        own = {"num_features": self.num_features, "latent_dim": self.latent_dim, "seed": self.seed}
        return {**super().get_config(), **own, "likelihood": likelihood}

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: dict[str, Any] | None = None):
        """Make a guide from what `get_config` returned; weights start anew."""
        likelihood = keras.saving.deserialize_keras_object(config["likelihood"], custom_objects)
        return cls(**{**config, "likelihood": likelihood})


@keras.saving.register_keras_serializable(package="cvae_tutorial")
class MixtureGuide(Guide):
    """A perceptron that reads columns and mask, and writes a mixture of normals.

    Parameters
    ----------
    num_features, latent_dim, likelihood, seed
        As for `Guide`.
    num_components : int
        Components K, with full covariances.
    hidden : sequence of int
        Widths of the hidden layers.

    References
    ----------
    Bishop (1994), Mixture density networks. Papamakarios and Murray (2016), Fast epsilon-free inference
    of simulation models with Bayesian conditional density estimation.
    """

    def __init__(
        self,
        num_features: int,
        latent_dim: int,
        likelihood: Likelihood,
        seed: int = 0,
        num_components: int = 8,
        hidden: Sequence[int] = (128, 128),
        **kwargs: Any,
    ):
        super().__init__(num_features, latent_dim, likelihood, seed, **kwargs)
        self.num_components, self.widths = num_components, tuple(hidden)
        names = [f"hidden_{i}" for i in range(len(self.widths))]
        self.hidden_layers = [
            keras.layers.Dense(width, "gelu", kernel_initializer=self.start(name), name=name)
            for width, name in zip(self.widths, names, strict=True)
        ]
        dim = latent_dim
        self.sizes = [num_components, num_components * dim, num_components * dim * (dim + 1) // 2]
        self.head = keras.layers.Dense(sum(self.sizes), kernel_initializer=self.start("head"), name="head")
        apart = np.random.default_rng(_seed(seed, "apart")).normal(0.0, 0.7, (num_components, dim))
        self.apart = self.add_weight(shape=apart.shape, initializer="zeros", trainable=False, name="apart")
        self.apart.assign(apart)

    def call(self, inputs):
        """Read ``(x, observed)``, write the parts of a mixture, as `Guide` says."""
        x, observed = inputs
        observed = tf.cast(observed, "bool")
        x = self.near(tf.where(observed, x, self.shift))
        features = self.likelihood.features(x, observed, self.shift, self.scale)
        inputs = tf.concat([features, 2.0 * tf.cast(observed, "float32") - 1.0], -1)
        h = inputs
        for layer in self.hidden_layers:
            h = layer(h)
        log_weight, loc, raw = tf.split(self.head(tf.concat([h, inputs], -1)), self.sizes, -1)
        lead, dim = tf.shape(x)[:-1], self.latent_dim
        loc = tf.reshape(loc, tf.concat([lead, [self.num_components, dim]], 0)) + self.apart
        raw = tf.reshape(raw, tf.concat([lead, [self.num_components, dim * (dim + 1) // 2]], 0))
        place = np.zeros((dim, dim), int)
        place[np.tril_indices(dim)] = np.arange(dim * (dim + 1) // 2)
        white = tf.gather(raw, place, axis=-1) * np.tri(dim, dtype="float32")
        diagonal = 1e-3 + tf.nn.softplus(tf.linalg.diag_part(white) + math.log(math.e - 1.0))
        return tf.nn.log_softmax(log_weight), loc, tf.linalg.set_diag(white, diagonal)

    def get_config(self) -> dict[str, Any]:
        """Return the settings, as Keras saves them."""
        return {**super().get_config(), "num_components": self.num_components, "hidden": self.widths}


@keras.saving.register_keras_serializable(package="cvae_tutorial")
class ProductOfExperts(Guide):
    """One small network for each column, and Bayes' rule to put the observed ones together.

    The network of column j turns x_j into a pseudo-measurement: u·z = t, with noise of unit variance.
    So each observed column multiplies the prior by one normal band, and with any columns observed
    q(z | x_o) is normal, with precision I + Σ u uᵀ and location (I + Σ u uᵀ)⁻¹ Σ t u. Where the decoder is
    linear with constant noise, this is the posterior. The mean of the single answers is not.

    Parameters
    ----------
    num_features, latent_dim, likelihood, seed
        As for `Guide`.
    width : int
        Hidden units of each network.

    References
    ----------
    Hinton (2002), Training products of experts by minimizing contrastive divergence. Wu and Goodman
    (2018), Multimodal generative models for scalable weakly-supervised learning.
    """

    learning_rate = 2e-2  # directions and places are in units of the noise, and may be far from 0

    def __init__(
        self,
        num_features: int,
        latent_dim: int,
        likelihood: Likelihood,
        seed: int = 0,
        width: int = 32,
        **kwargs: Any,
    ):
        super().__init__(num_features, latent_dim, likelihood, seed, **kwargs)
        self.units, out = width, latent_dim + 1
        normal, zeros = (lambda name, sd: keras.initializers.RandomNormal(0.0, sd, _seed(seed, name))), "zeros"
        self.enter = self.add_weight(shape=(num_features, width), initializer=normal("enter", 1.0), name="enter")
        self.bias = self.add_weight(shape=(num_features, width), initializer=normal("bias", 1.0), name="bias")
        self.leave = self.add_weight(shape=(num_features, width, out), initializer=zeros, name="leave")
        self.slope = self.add_weight(shape=(num_features, out), initializer=normal("slope", 0.1), name="slope")
        self.level = self.add_weight(shape=(num_features, out), initializer=normal("level", 0.3), name="level")

    def bands(self, x: Any) -> tuple[Any, Any]:
        """Directions u (..., d, l) and places t (..., d) of the bands of columns ``x`` (..., d)."""
        y: Any = (self.near(x) - self.shift) / self.scale
        h: Any = tf.tanh(y[..., None] * self.enter + self.bias)
        out: Any = tf.reduce_sum(h[..., None] * self.leave, -2) + y[..., None] * self.slope + self.level
        return out[..., :-1], out[..., -1]

    def call(self, inputs):
        """Read ``(x, observed)``, write the parts of a mixture, as `Guide` says."""
        x, given = inputs
        observed: Any = tf.cast(given, "bool")
        u, t = self.bands(tf.where(observed, x, self.shift))
        u = tf.where(tf.expand_dims(observed, -1), u, 0.0)
        precision = tf.matmul(u, u, transpose_a=True) + tf.eye(self.latent_dim)
        root = tf.linalg.cholesky(precision)
        loc: Any = tf.linalg.cholesky_solve(root, tf.expand_dims(tf.reduce_sum(t[..., None] * u, -2), -1))
        white: Any = tf.linalg.matrix_transpose(root)
        return tf.zeros_like(loc[..., 0, :]), tf.linalg.matrix_transpose(loc), white[..., None, :, :]

    def get_config(self) -> dict[str, Any]:
        """Return the settings, as Keras saves them."""
        return {**super().get_config(), "width": self.units}


def amortise(
    model: models.LatentVariableModel,
    masks: ArrayLike | None = None,
    *,
    guide: Guide | str = "mixture",
    num_steps: int = 3_000,
    batch_size: int = 256,
    learning_rate: float | None = None,
    seed: int = 0,
    verbose: Any = "auto",
) -> Guide:
    """Learn q(z | x_o) for every set of observed columns, from rows that the model draws.

    Each step draws z from the prior, x from p(x | z), and a mask, and lowers -log q(z | x_o): in the
    mean over x_o this is the Kullback-Leibler divergence of q from p(z | x_o), up to a constant.

    Parameters
    ----------
    model : LatentVariableModel
        A `VAE`, a wrapped one, or any model of the protocol.
    masks : array of bool (m, d), optional
        Sets of observed columns (True) to prepare for, one of which is drawn for each row. By default
        every number of columns, and every set of them: each row draws a share between 0 and 1, and
        then each of its columns is observed with that probability.
    guide : "mixture", "experts" or Guide
        A `MixtureGuide`, a `ProductOfExperts`, or one of your own settings, which is trained on.
    num_steps, batch_size : int
        Gradient steps, and rows for each of them.
    learning_rate : float, optional
        Of Adam, at the start; it falls to zero by a cosine. By default .002, of experts .02.
    seed : int
        Of weights and rows.
    verbose : "auto", 0, 1 or 2
        Progress, as in ``keras.Model.fit``.

    Returns
    -------
    Guide
        For ``samplers.Guided(guide)``. What a badly trained guide costs is effective sample size.

    References
    ----------
    Papamakarios and Murray (2016), Fast epsilon-free inference of simulation models with Bayesian
    conditional density estimation. Le, Baydin and Wood (2017), Inference compilation and universal
    probabilistic programming.

    Examples
    --------
    >>> guide = amortise(vae)  # doctest: +SKIP
    >>> draws = sample_conditional(vae, {0: 1.0}, 100, samplers.Guided(guide))  # doctest: +SKIP
    """
    models.check_model(model)
    shape = models.num_features(model), model.latent_dim
    learned: Any = guide
    if isinstance(guide, str):
        kinds: dict[str, type[Guide]] = {"mixture": MixtureGuide, "experts": ProductOfExperts}
        if guide not in kinds:
            raise ValueError(f"unknown guide {guide!r}: choose one of {', '.join(kinds)}, or give a Guide")
        learned = kinds[guide](*shape, model.likelihood, seed)
    if (learned.num_features, learned.latent_dim) != shape:
        found = learned.num_features, learned.latent_dim
        raise ValueError(f"the guide is for {found} columns and latents, not {shape}")
    for name, value in (("num_steps", num_steps), ("batch_size", batch_size)):
        if not isinstance(value, int | np.integer) or value < 1:
            raise ValueError(f"{name} must be a positive integer, got {value!r}")
    simulate = _simulator(model, masks, batch_size, seed)
    rows = np.concatenate([simulate(-1 - i)[0][0] for i in range(math.ceil(2_000 / batch_size))])
    if not np.isfinite(rows).all():
        raise ValueError("the model draws values that are not finite")
    learned.adapt(rows)
    schedule: Any = keras.optimizers.schedules.CosineDecay(learning_rate or learned.learning_rate, num_steps)
    learned.compile(keras.optimizers.Adam(schedule, global_clipnorm=1.0))
    learned.fit(tf.data.Dataset.range(num_steps).map(simulate).prefetch(2), shuffle=False, verbose=verbose)
    return learned


def _simulator(model, masks, batch_size, seed):
    """Return a function of a number that draws a batch: rows with their masks, and the latents behind them."""
    dim, columns = model.latent_dim, models.num_features(model)
    pair: Any = np.random.SeedSequence(seed).generate_state(2).astype(np.int32)
    if masks is not None:
        masks = np.asarray(masks)
        if masks.dtype != bool or masks.ndim != 2 or masks.shape[1] != columns or not len(masks):
            raise ValueError(f"masks must be an array of bool (m, {columns}), got {masks.dtype} {masks.shape}")
        masks = tf.constant(masks)

    @tf.function(input_signature=[tf.TensorSpec((), "int64")], autograph=False)
    def simulate(number):
        own: Any = tf.random.fold_in(pair, number)
        of_z, of_x, of_mask, of_cell = tf.unstack(tf.random.split(own, 4), num=4)
        z = tf.random.stateless_normal((batch_size, dim), of_z)
        x = tf.ensure_shape(model.likelihood.sample(model.decode(z), of_x), (batch_size, columns))
        if masks is None:
            share = tf.random.stateless_uniform((batch_size, 1), of_mask)
            observed = tf.random.stateless_uniform((batch_size, columns), of_cell) < share
        else:
            which = tf.random.stateless_uniform((batch_size,), of_mask, 0, tf.shape(masks)[0], "int32")
            observed = tf.gather(masks, which)
        return (x, observed), z

    return lambda number: simulate(tf.cast(number, "int64"))


def _seed(seed, name):
    """Make a seed for what is called ``name``."""
    return int(np.random.SeedSequence([seed, *name.encode()]).generate_state(1)[0])
