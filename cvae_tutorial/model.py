"""The model.

What a sampler needs of one (`LatentVariableModel`), one to train (`VAE`), and a wrapper for a VAE
that somebody else trained (`wrap`).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias, TypeGuard, runtime_checkable

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import ArrayLike, NDArray

from .evidence import column_label, to_array
from .likelihoods import Columns, Likelihood, Normal, log_normal, output_shapes

if TYPE_CHECKING:
    import pandas as pd

    Rows: TypeAlias = "NDArray[Any] | Sequence[Any] | tf.Tensor"
    Table: TypeAlias = "ArrayLike | pd.DataFrame | tf.Tensor"
    Data: TypeAlias = "Table | tf.data.Dataset | keras.utils.PyDataset"


@runtime_checkable
class LatentVariableModel(Protocol):
    """Everything the samplers know of a model. The prior p(z) is standard normal.

    ``x`` is in the units of the data, categories as codes. Leading axes are free: (..., d), (..., l).

    Attributes
    ----------
    latent_dim : int
        Number of latent dimensions, l.
    likelihood : Likelihood
        A likelihood of `cvae_tutorial.likelihoods`, which reads the decoder's parameters.
    num_features : int, optional
        Number of columns, d; without it, as many as the model decodes.
    feature_names : sequence of str, optional
        Column names; without them, those of the likelihood, if it has any.
    encoder, decoder : keras.Model, optional
        The networks; how wide they are says how many rows fit into memory at a time.
    """

    @property
    def latent_dim(self) -> int: ...

    @property
    def likelihood(self) -> Likelihood: ...

    def encode(self, x: Any, /) -> tuple[tf.Tensor, tf.Tensor]:
        """Location and scale of q(z | x), each (..., l)."""
        ...

    def decode(self, z: Any, /) -> Any:
        """Parameters of p(x | z): a tensor or a nested structure of tensors (..., ·)."""


def check_model(model: object) -> None:
    """Raise a TypeError unless ``model`` is a `LatentVariableModel`."""
    missing = [name for name in ("latent_dim", "likelihood", "encode", "decode") if not hasattr(model, name)]
    if missing or isinstance(model, type):
        what = f"{model!r} has no {missing[0]}" if missing else f"got the class {model!r}"
        raise TypeError(f"model must be a VAE, a wrapped one or an object with what LatentVariableModel lists; {what}")


def num_features(model: LatentVariableModel) -> int:
    """Return the number of columns of a model, d."""
    stated: Any = getattr(model, "num_features", None)
    if stated is None:
        (stated,) = model.likelihood.mean(model.decode(tf.zeros((1, model.latent_dim)))).shape[1:]
    return int(stated)


def feature_names(model: LatentVariableModel) -> tuple | None:
    """Return the column names of a model, or None."""
    return _names(getattr(model, "feature_names", None), model.likelihood, num_features(model))


def width(model: LatentVariableModel) -> int:
    """Return how many floats both networks of a model hold for one row; 256 at least."""
    networks = getattr(model, "encoder", None), getattr(model, "decoder", None)
    return max(256, sum(_floats(network) for network in networks if isinstance(network, keras.Model)))


def _floats(layer) -> int:
    if isinstance(layer, keras.Model):
        return sum(_floats(inner) for inner in layer.layers)
    try:
        outputs = tf.nest.flatten(layer.output)
    except AttributeError:  # inside a subclassed network no layer knows what it writes
        return 0
    return sum(math.prod(size or 1 for size in output.shape[1:]) for output in outputs)


class NegativeBound(keras.losses.Loss):
    """The loss of `VAE`, by Keras's own rules for weights, precision and replicas."""

    def call(self, y_true, y_pred):
        return -y_pred


@keras.saving.register_keras_serializable(package="cvae_tutorial")
class VAE(keras.Model):
    """A variational autoencoder that trains with ordinary ``compile`` and ``fit``.

    The loss is the negative importance-weighted bound [1]_ on log p(x), with ``num_importance``
    draws from the encoder; one draw gives the ELBO [2]_. A NaN in a row is a missing cell: the
    bound then covers the observed cells only, and the encoder reads zero there [3]_. Penalties of
    the networks' own (regularisers, ``add_loss``) are added to it, as to any Keras loss.

    Columns are standardised inside the model, from the first data given to ``fit`` (or `adapt`).
    Everything that goes in or comes out is in the units of the data.

    Parameters
    ----------
    num_features : int, optional
        Number of columns, d. It may be left out when ``likelihood`` is a `Columns`.
    latent_dim : int
        Number of latent dimensions, l.
    hidden : sequence of int
        Widths of the hidden layers of encoder and decoder.
    num_importance : int
        Number of draws K in the bound. 1 is the ELBO.
    likelihood : Likelihood, optional
        `Normal` (default), `Bernoulli`, `Categorical` or `Columns`.
    activation : str or callable
        Activation of the hidden layers.
    encoder, decoder : keras.Model, optional
        Networks of your own, of any dtype policy. The encoder maps (n, num_inputs) to (n, 2 l):
        location, and scale before a softplus. The decoder maps (n, l) to
        (n, likelihood.num_parameters(d)).
    feature_names : sequence of str, optional
        Column names; taken from ``likelihood`` or from a DataFrame given to ``fit``.
    seed : int, optional
        Seed of the initial weights and of the reparameterisation noise: the same seed gives the same
        model, and no other random state is read or changed. Without one, initial weights follow
        ``keras.utils.set_random_seed``. Networks of your own come with weights of their own.
        (The published weights were drawn before this was so: their recipes, run again, start elsewhere.)

    reads_mask : bool
        Whether the encoder reads, beside the columns, which of them are observed. Otherwise it reads
        zero for a missing cell, which also means "average". It then reads num_inputs + d numbers.

    References
    ----------
    .. [1] Burda, Grosse and Salakhutdinov (2016), Importance weighted autoencoders.
    .. [2] Kingma and Welling (2014), Auto-encoding variational Bayes.
    .. [3] Mattei and Frellsen (2019), MIWAE.

    Examples
    --------
    >>> vae = VAE(num_features=2, latent_dim=2, num_importance=10)
    >>> vae.compile(optimizer="adam")
    >>> vae.fit(x, epochs=40, batch_size=500)  # x: (n, 2)        # doctest: +SKIP
    """

    def __init__(
        self,
        num_features: int | None = None,
        latent_dim: int = 2,
        hidden: Sequence[int] = (100, 100),
        num_importance: int = 1,
        likelihood: Likelihood | None = None,
        activation: Any = "relu",
        encoder: keras.Model | None = None,
        decoder: keras.Model | None = None,
        feature_names: Sequence | None = None,
        seed: int | None = None,
        reads_mask: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(autocast=False, **kwargs)  # data units do not fit into half precision
        likelihood, seed = Normal() if likelihood is None else likelihood, None if seed is None else int(seed)
        if not isinstance(likelihood, Likelihood):
            raise TypeError(f"likelihood must be a likelihood object such as Normal(), got {likelihood!r}")
        if num_features is None:
            if not isinstance(likelihood, Columns):
                raise ValueError("num_features is needed: the number of columns of the data")
            num_features = len(likelihood.kinds)
        self.num_features = _positive("num_features", num_features)
        self.latent_dim = _positive("latent_dim", latent_dim)
        self.num_importance = _positive("num_importance", num_importance)
        self.likelihood = likelihood
        self.feature_names = _names(feature_names, likelihood, num_features)
        self._settings = {"hidden": tuple(hidden), "activation": activation, "seed": seed}
        own = {"encoder": encoder, "decoder": decoder}
        self._own_networks = [name for name in own if own[name] is not None]
        mlp = {**self._settings, "dtype": self.dtype_policy}
        self.reads_mask = bool(reads_mask)
        num_inputs = likelihood.num_inputs(num_features) + num_features * self.reads_mask
        self.encoder = _network(encoder, "encoder", num_inputs, 2 * latent_dim, **mlp)
        self.decoder = _network(decoder, "decoder", latent_dim, likelihood.num_parameters(num_features), **mlp)
        fixed: dict[str, Any] = {"trainable": False, "dtype": "float32", "autocast": False}
        self.shift = self.add_weight(shape=(num_features,), initializer="zeros", name="shift", **fixed)
        self.scale = self.add_weight(shape=(num_features,), initializer="ones", name="scale", **fixed)
        self.adapted = self.add_weight(shape=(), initializer="zeros", name="adapted", **fixed)
        self.kl_weight = self.add_weight(shape=(), initializer="ones", name="kl_weight", **fixed)
        self.noise = keras.random.SeedGenerator(seed)
        self.parts = [keras.metrics.Mean(name=name) for name in ("bound", "reconstruction", "kl")]
        self.supports_jit = False  # XLA does not speed up networks this small
        self.built = True

    # The model, in the terms of `LatentVariableModel`.

    def encode(self, x: Rows, training: bool = False) -> tuple[tf.Tensor, tf.Tensor]:
        """Location and scale of q(z | x), each (..., l), for ``x`` (..., d); NaN is a missing cell."""
        x = tf.cast(x, "float32")
        observed = tf.math.logical_not(tf.math.is_nan(x))
        features = self.likelihood.features(tf.where(observed, x, 0.0), observed, self.shift, self.scale)
        if self.reads_mask:
            features = tf.concat([features, tf.cast(observed, "float32")], -1)
        loc, spread = tf.split(_apply(self.encoder, features, training), 2, axis=-1)
        return loc, 1e-4 + tf.nn.softplus(spread)

    def decode(self, z: Rows, training: bool = False) -> Any:
        """Parameters of p(x | z) in the units of the data, for ``z`` (..., l)."""
        return self.likelihood.constrain(_apply(self.decoder, z, training), self.shift, self.scale)

    def call(self, x: Rows) -> tf.Tensor:
        """Mean reconstruction (n, d): decode the mean of q(z | x)."""
        return self.likelihood.mean(self.decode(self.encode(x)[0]))

    def bound(
        self, x: Rows, num_importance: int | None = None, training: bool = False
    ) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        """Importance-weighted bound on log p(x) of each row, with its parts.

        Parameters
        ----------
        x : array (n, d)
            Rows in data units; NaN is a missing cell.
        num_importance : int, optional
            Draws K; the model's own by default.
        training : bool
            Whether layers such as Dropout and BatchNormalization act as in training.

        Returns
        -------
        bound, reconstruction, kl : tensors (n,)
            log (1/K) sum_k p(x, z_k) / q(z_k | x), the mean of log p(x | z_k), and KL(q || p), in nats.
            The KL weight applies to the first only.
        """
        x = tf.cast(x, "float32")
        num_draws = num_importance or self.num_importance
        loc, scale = (a[:, None] for a in self.encode(x, training))
        shape = (tf.shape(x)[0], num_draws, self.latent_dim)
        noise: Any = keras.random.normal(shape, dtype="float32", seed=self.noise)
        z = loc + scale * noise
        observed = tf.math.logical_not(tf.math.is_nan(x))
        log_prob = self.likelihood.log_prob(self.decode(z, training), tf.where(observed, x, 0.0)[:, None])
        log_likelihood = tf.reduce_sum(tf.where(observed[:, None], log_prob, 0.0), -1)  # (n, K)
        log_ratio = tf.reduce_sum(log_normal(z, 0.0, 1.0) - log_normal(z, loc, scale), -1)
        log_weight = log_likelihood + self.kl_weight * log_ratio
        bound = tf.reduce_logsumexp(log_weight, -1) - math.log(num_draws)
        kl = 0.5 * tf.reduce_sum(loc**2 + scale**2 - 1.0 - 2.0 * tf.math.log(scale), [-2, -1])
        return bound, tf.reduce_mean(log_likelihood, -1), kl

    # Training, by Keras: its own steps call `compute_loss`.

    def compute_loss(self, x: Any = None, y=None, y_pred=None, sample_weight=None, training=True):
        """Negative bound, averaged over the rows of a batch with their weights, plus the networks' own penalties."""
        if self.loss is not None:
            raise ValueError("the loss of a VAE is its negative bound: leave loss out of compile()")
        if sample_weight is not None and len(sample_weight.shape) != 1:
            raise ValueError(f"sample_weight must hold one weight for each row, got shape {tuple(sample_weight.shape)}")
        parts = self.bound(x, training=training)
        for tracker, part in zip(self.parts, parts, strict=True):
            tracker.update_state(part, sample_weight)
        loss = NegativeBound()(parts[0], parts[0], sample_weight)
        return loss + super().compute_loss(x, y, y_pred, sample_weight, training) if self.losses else loss

    def train_step(self, data):
        return self._for_workers(super().train_step(data))

    def test_step(self, data):
        return self._for_workers(super().test_step(data))

    def _for_workers(self, logs):
        """Give logs the axis along which Keras 3 averages those of several workers; its own have none, and it fails."""
        strategy = self.distribute_strategy
        several = isinstance(strategy, tf.distribute.MultiWorkerMirroredStrategy) and strategy.num_replicas_in_sync > 1
        return {name: value[None] for name, value in logs.items()} if several else logs

    def adapt(self, x: Table) -> None:
        """Take the units of the columns (and their names, from a DataFrame) from ``x`` (n, d)."""
        rows = self._rows(x)
        if not len(rows):
            raise ValueError("there are no rows to learn the columns' units from")
        labels = [column_label(column, self.feature_names) for column in range(self.num_features)]
        for column in np.flatnonzero(np.isnan(rows).all(axis=0)):
            raise ValueError(f"{labels[column]} has no observed value: leave it out of the model")
        shift, scale = self.likelihood.units(rows)
        scale = np.where(np.nanmin(rows, 0) < np.nanmax(rows, 0), scale, 0.0)  # 0.1 repeated has a tiny std
        for column in np.flatnonzero((scale > 0) & (scale < 1e-5 * np.abs(shift))):
            raise ValueError(
                f"{labels[column]} varies by {scale[column]:.3g} around {shift[column]:.6g}, too little "
                "for single precision: subtract a constant from it"
            )
        self.shift.assign(shift)
        self.scale.assign(np.where(scale > 0, scale, 1.0))  # a constant column keeps its unit
        self.adapted.assign(1.0)

    def fit(
        self, x: Data | None = None, y=None, *args, sample_weight=None, validation_data=None, **kwargs
    ) -> keras.callbacks.History:
        """Train, as ``keras.Model.fit`` does.

        Parameters
        ----------
        x : array, DataFrame or dataset of batches
            Rows (n, d), NaN in the holes. With a dataset, call `adapt` first.
        y : optional
            Not part of the loss, for a VAE has no targets. Metrics given to ``compile`` compare it
            with the mean reconstruction.
        sample_weight : array (n,), optional
            Weights of the rows. The loss is the mean over a batch of weight times negative bound;
            bound, reconstruction and KL are reported as weighted means.
        validation_data : array, DataFrame, dataset, or tuple, optional
            Rows, ``(rows, y)`` or ``(rows, y, sample_weight)``, where y may be None.
        *args, **kwargs
            As in Keras.
        """
        if isinstance(x, tuple):
            raise TypeError("x is one table (n, d); rows with targets, or several tables, cannot be given as a tuple")
        if kwargs.get("class_weight") is not None:
            raise ValueError("class_weight goes by targets, and a VAE has none: give sample_weight, one for each row")
        x = x.numpy() if isinstance(x, tf.Tensor) else x
        if not self.adapted.numpy():
            if not _is_table(x):
                raise ValueError("call vae.adapt(rows) before fitting on a dataset: it sets the columns' units")
            self.adapt(x)
        if validation_data is not None:
            parts = validation_data if isinstance(validation_data, tuple) else (validation_data,)
            validation_data = self._checked(*parts)
        x, y, sample_weight = self._checked(x, y, sample_weight)
        if self.compiled and not self.optimizer.built:  # or Keras traces the first step twice
            with self.distribute_strategy.scope():
                self.optimizer.build(self.trainable_variables)
        return super().fit(x, y, *args, sample_weight=sample_weight, validation_data=validation_data, **kwargs)

    def evaluate(self, x: Data | None = None, y=None, *args, sample_weight=None, **kwargs):
        """Mean bound, reconstruction and KL over ``x`` (n, d), in nats per row."""
        x, y, sample_weight = self._checked(x, y, sample_weight)
        return super().evaluate(x, y, *args, sample_weight=sample_weight, **kwargs)

    def sample(self, num_samples: int, seed: int | np.random.Generator | None = None) -> NDArray[np.float64]:
        """Joint draws from the model: z from the prior, then x from p(x | z). Array (s, d)."""
        num_samples = _positive("num_samples", num_samples)
        generator = np.random.default_rng(seed)
        z = generator.standard_normal((num_samples, self.latent_dim), dtype="float32")
        pair = generator.integers(2**31, size=2, dtype="int32")
        return self.likelihood.sample(self.decode(z), pair).numpy().astype(float)

    def _rows(self, x):
        names = self.feature_names
        if names is None and hasattr(x, "columns") and len(x.columns) == self.num_features:
            names = tuple(x.columns)
        rows = to_array(x, self.num_features, self.likelihood, names)
        self.feature_names = names  # only from a table that passed the checks
        return rows

    def _checked(self, x, y=None, sample_weight=None):
        """Rows, targets and weights, a table of rows as a tensor.

        `fit` hands its validation rows to `evaluate`, which must not read category codes as names:
        tensors are numbers already.
        """
        if _is_table(x):
            x = tf.constant(self._rows(x), "float32")
        if sample_weight is not None:
            sample_weight = np.asarray(sample_weight, "float32")
            y = x if y is None else y  # Keras drops weights that come without targets
        return x, y, sample_weight

    def get_config(self) -> dict[str, Any]:
        """Return the settings, networks of one's own included, as Keras saves them."""
        names = ("num_features", "latent_dim", "num_importance", "feature_names", "reads_mask")
        objects = {"likelihood": self.likelihood, **{name: getattr(self, name) for name in self._own_networks}}
        return {
            **super().get_config(),
            **{name: getattr(self, name) for name in names},
            **self._settings,
            "activation": keras.activations.serialize(keras.activations.get(self._settings["activation"])),
            **{name: keras.saving.serialize_keras_object(made) for name, made in objects.items()},
        }

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: dict[str, Any] | None = None) -> VAE:
        """Make a model from what `get_config` returned; weights start anew."""
        made = {name: config[name] for name in ("likelihood", "encoder", "decoder") if config.get(name) is not None}
        return cls(**{**config, **keras.saving.deserialize_keras_object(made, custom_objects)})


class KLWarmup(keras.callbacks.Callback):
    """Raise the weight of log p(z) - log q(z | x) in the loss from 0 to 1 over the first epochs.

    Parameters
    ----------
    epochs : int
        Length of the ramp.

    References
    ----------
    Sonderby et al. (2016), Ladder variational autoencoders.
    """

    def __init__(self, epochs: int) -> None:
        super().__init__()
        self.epochs = epochs

    def on_epoch_begin(self, epoch, logs=None):
        self.model.kl_weight.assign(min(1.0, epoch / self.epochs))  # pyright: ignore[reportOptionalMemberAccess]

    def on_train_end(self, logs=None):
        self.model.kl_weight.assign(1.0)  # pyright: ignore[reportOptionalMemberAccess]


def wrap(
    encoder: keras.Model, decoder: keras.Model, likelihood: Likelihood, feature_names: Sequence | None = None
) -> WrappedVAE:
    """Make a `LatentVariableModel` from the encoder and decoder of a VAE trained elsewhere.

    Parameters
    ----------
    encoder : keras.Model
        Maps rows to mean and *log variance* of q(z | x), as ``[mean, log variance]`` or
        ``[mean, log variance, draw]``, the outputs of the usual Keras VAE example. An encoder that
        returns a scale or a variance in that place cannot be told by its numbers: take its
        logarithm first.
    decoder : keras.Model
        Maps z (n, l) to what ``likelihood.from_outputs`` takes: probabilities for `Bernoulli` (or
        logits, ``from_logits=True``), ``[loc, scale]`` for `Normal` (or ``[loc, log variance]``,
        ``from_log_variance=True``), ``loc`` for ``Normal(scale=...)``, logits for `Categorical`,
        a list of these for `Columns`.
    likelihood : Likelihood
        What the decoder's output means.
    feature_names : sequence of str, optional
        Column names.

    Returns
    -------
    WrappedVAE
        Rows are flattened: an image of shape (28, 28, 1) is a row of 784 columns. Networks of any
        dtype policy will do; what they return is cast to float32.

    Raises
    ------
    ValueError
        If the networks do not fit one another, or if the decoder, tried at a few z, returns what
        cannot be meant, such as probabilities above 1 or scales below 0.
    """
    return WrappedVAE(encoder, decoder, likelihood, feature_names)


@dataclass(eq=False)
class WrappedVAE:
    """What `wrap` returns: two trained networks in the terms of `LatentVariableModel`."""

    encoder: keras.Model
    decoder: keras.Model
    likelihood: Likelihood
    feature_names: Sequence | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.likelihood, Likelihood):
            raise TypeError(f"likelihood must be a likelihood object such as Bernoulli(), got {self.likelihood!r}")
        self._row_shape = _input_shape("encoder", self.encoder)
        self._latent_shape = _input_shape("decoder", self.decoder)
        self.num_features, self.latent_dim = math.prod(self._row_shape), math.prod(self._latent_shape)
        self.feature_names = _names(self.feature_names, self.likelihood, self.num_features)
        self._try()

    def encode(self, x: Rows) -> tuple[tf.Tensor, tf.Tensor]:
        """Location and scale of q(z | x), each (..., l), for ``x`` (..., d)."""
        mean, log_variance = _apply(self.encoder, x, shape=self._row_shape)[:2]
        return mean, tf.exp(0.5 * log_variance)

    def decode(self, z: Rows) -> Any:
        """Parameters of p(x | z) for ``z`` (..., l)."""
        return self.likelihood.from_outputs(_apply(self.decoder, z, shape=self._latent_shape))

    def _try(self):
        """Refuse networks whose outputs, at draws from the prior and at some further out, cannot be meant."""
        z = np.random.default_rng(0).standard_normal((48, self.latent_dim))
        z[32:] *= 3.0
        outputs = _apply(self.decoder, z, shape=self._latent_shape)
        _all_finite("the decoder's output", outputs)
        x = self.likelihood.mean(self.likelihood.from_outputs(outputs))
        if x.shape[-1] != self.num_features:
            raise ValueError(f"the decoder writes {x.shape[-1]} columns, the encoder reads {self.num_features}")
        inferred = _apply(self.encoder, x[:32], shape=self._row_shape)
        listed = isinstance(inferred, list | tuple) and not any(map(tf.nest.is_nested, inferred))
        if not listed or len(inferred) not in (2, 3):
            raise ValueError(
                "the encoder must return [mean, log variance] or [mean, log variance, draw], not "
                f"{output_shapes(inferred)}: pick or split its outputs in keras.Model(encoder.input, [...])"
            )
        for name, output in zip(("mean", "log variance"), inferred, strict=False):
            if (found := output.shape[-1]) != self.latent_dim:
                raise ValueError(f"the encoder's {name} has {found} dimensions, the decoder reads {self.latent_dim}")
        self.likelihood.check_outputs(outputs)
        _all_finite("the encoder's output", inferred)
        if (highest := np.max(inferred[1])) > 50:
            raise ValueError(
                f"the encoder's log variance reaches {highest:.3g}, where that of the prior is 0: it is another "
                "quantity, or the rows are in other units than those of its training"
            )


def _input_shape(role, network):
    """Shape of a row as a network of somebody else's reads it."""
    shape = getattr(network, "input_shape", None) if isinstance(network, keras.Model) and network.built else None
    if not isinstance(shape, tuple) or None in shape[1:]:
        raise ValueError(
            f"the {role} must be a built Keras model with one input of fixed shape, got {shape or network!r}; give "
            "a subclassed one as keras.Model(inputs, network(inputs)) with inputs = keras.Input(shape)"
        )
    return shape[1:]


def _all_finite(what, outputs):
    if not all(np.isfinite(output).all() for output in tf.nest.flatten(outputs)):
        raise ValueError(f"{what} is NaN or infinite for draws from the prior")


def _positive(name, value):
    if not isinstance(value, int | np.integer) or isinstance(value, bool) or value < 1:
        raise ValueError(f"{name} must be a positive integer, got {value!r}")
    return int(value)


def _names(feature_names, likelihood, num_features):
    """Column names as a tuple, one for each column, or None."""
    names = getattr(likelihood, "names", None) if feature_names is None else feature_names
    names = None if names is None else tuple(names)
    if names is not None and len(names) != num_features:
        raise ValueError(f"{len(names)} feature_names for {num_features} columns")
    if names is not None and len(set(names)) < len(names):
        raise ValueError(f"a column is named twice in feature_names {names}")
    return names


def _is_table(x: object) -> TypeGuard[Table]:
    return isinstance(x, np.ndarray | list) or hasattr(x, "columns")


def _network(network, name, num_inputs, num_outputs, hidden, activation, seed, dtype):
    """Make a perceptron, every layer with a seed of its own, or build and check a network of the user's."""
    if network is None:
        widths, names = [*hidden, num_outputs], [*(f"hidden_{i}" for i in range(len(hidden))), "output"]
        entropy = None if seed is None else np.random.SeedSequence([seed, *name.encode()])
        seeds = [None] * len(widths) if entropy is None else entropy.generate_state(len(widths)).tolist()
        activations = [activation] * len(hidden) + [None]
        starts: Any = map(keras.initializers.GlorotUniform, seeds)
        layers = [
            keras.layers.Dense(width, function, kernel_initializer=start, name=layer, dtype=dtype)
            for width, function, start, layer in zip(widths, activations, starts, names, strict=True)
        ]
        network = keras.Sequential([keras.Input((num_inputs,)), *layers], name=name)
    outputs = network(tf.zeros((1, num_inputs)), training=False)
    if tf.nest.is_nested(outputs) or outputs.shape != (1, num_outputs):
        raise ValueError(
            f"network {network.name!r} maps {num_inputs} inputs to shape {output_shapes(outputs)}, "
            f"it must give ({num_outputs},)"
        )
    return network


def _apply(network, x, training=False, shape=None):
    """Apply a network of rows to ``x`` (..., a), in float32 outside: (..., b), or a structure of such.

    ``shape`` is that of a row as the network reads it, (a,) by default.
    """
    x = tf.cast(x, "float32")
    lead = tf.shape(x)[:-1]

    def unflatten(output):
        width = math.prod(output.shape[1:])
        output = tf.reshape(tf.cast(output, "float32"), tf.concat([lead, [width]], 0))
        return tf.ensure_shape(output, [*x.shape[:-1], width])

    outputs = network(tf.reshape(x, (-1, *(x.shape[-1:] if shape is None else shape))), training=training)
    return tf.nest.map_structure(unflatten, outputs)
