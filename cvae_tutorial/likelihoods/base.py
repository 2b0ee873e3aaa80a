"""What every likelihood has: the protocol and its defaults."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from contextlib import suppress
from reprlib import repr as short
from typing import Any, ClassVar, TypeAlias

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

LOG_2PI = math.log(2.0 * math.pi)
LOWEST = -1e30  # the log density of "impossible": finite, so that weights never become NaN

Parameters: TypeAlias = Any  # a tensor or nested tuples of tensors, each (..., ·): what the likelihood says

serializable = keras.saving.register_keras_serializable(package="cvae_tutorial")


class Likelihood(ABC):
    """Distribution p(x | z) of d columns that are independent given z: the protocol and its defaults.

    A likelihood of one's own defines `num_parameters`, `log_prob`, `sample` and `mean`, in TensorFlow
    and for any leading axes (...). It overrides a default where that does not fit: `constrain` if the
    network's output must be made into parameters, `check` if not every finite number is a value.
    Make it a frozen dataclass of its settings and register it with Keras, so that a model that uses it
    can be saved.

    Attributes
    ----------
    is_number : bool
        Whether values are measurements, which have a mean and quantiles; False for labels.
    has_mean : bool
        Whether draws have a mean that says something; False for categories.
    one_column : bool
        Whether it describes a single column, with parameters of a width of their own.
    draws_by_row : bool
        Whether `sample` draws with `cvae_tutorial.seeds`, by which rows draw for themselves. One that
        does not is asked row by row.

    Examples
    --------
    >>> @keras.saving.register_keras_serializable(package="mine")
    ... @dataclass(frozen=True)
    ... class Poisson(Likelihood):
    ...     def num_parameters(self, num_features):
    ...         return num_features
    ...     def log_prob(self, parameters, x):  # the parameters are log rates
    ...         return x * parameters - tf.exp(parameters) - tf.math.lgamma(x + 1.0)
    ...     def sample(self, parameters, seed):
    ...         return tf.random.stateless_poisson(tf.shape(parameters), seed, tf.exp(parameters), tf.float32)
    ...     def mean(self, parameters):
    ...         return tf.exp(parameters)
    ...     def check(self, cells):
    ...         counts = super().check(cells)
    ...         for count in counts[(counts < 0) | (counts != np.floor(counts))]:
    ...             raise ValueError(f"a count is 0, 1, 2, ..., got {count:g}")
    ...         return counts
    """

    is_number: ClassVar[bool] = True
    has_mean: ClassVar[bool] = True
    one_column: ClassVar[bool] = False
    draws_by_row: bool = False

    # From the data to the encoder.

    def num_inputs(self, num_features: int) -> int:
        """Width of what the encoder reads for d columns."""
        return num_features

    def units(self, x: NDArray) -> tuple[NDArray, NDArray]:
        """Shift and scale, each (d,), that standardise the columns of ``x`` (n, d); NaN is ignored."""
        return np.zeros(x.shape[1]), np.ones(x.shape[1])

    def features(self, x: tf.Tensor, observed: tf.Tensor, shift: tf.Tensor, scale: tf.Tensor) -> tf.Tensor:
        """Standardise the columns for the encoder, (..., num_inputs); zero where a cell is not observed."""
        return tf.where(observed, (x - shift) / scale, 0.0)

    # From the decoder to the data.

    @abstractmethod
    def num_parameters(self, num_features: int) -> int:
        """Width of what the decoder writes for d columns."""

    def constrain(self, raw: tf.Tensor, shift: tf.Tensor, scale: tf.Tensor) -> Parameters:
        """Parameters in data units from the raw output (..., num_parameters) of a `VAE`'s decoder."""
        return raw

    def from_outputs(self, outputs: Any) -> Parameters:
        """Parameters from the finished outputs of a decoder that was trained elsewhere."""
        return outputs

    def check_outputs(self, outputs: Any) -> None:  # noqa: B027 (a default: any will do)
        """Raise ValueError if ``outputs``, a decoder's for a few z, cannot be what `from_outputs` takes."""

    @abstractmethod
    def log_prob(self, parameters: Parameters, x: tf.Tensor) -> tf.Tensor:
        """Log density of each column (..., d), in nats; finite (`LOWEST` for "impossible")."""

    @abstractmethod
    def sample(self, parameters: Parameters, seed: Any) -> tf.Tensor:
        """One draw of each column (..., d); ``seed`` is a pair of integers, or a `RowSeed` if `draws_by_row`."""

    @abstractmethod
    def mean(self, parameters: Parameters) -> tf.Tensor:
        """Mean of each column (..., d)."""

    def fisher_root(self, parameters: Parameters, tangents: Parameters, x: tf.Tensor) -> tf.Tensor:
        """Say how much an observation of each column tells of a step in z, (..., d, q).

        Squared and summed over q, it is the Fisher information along the step, that is the variance of
        the score. The default is for one parameter a column, and takes the curvature at what was observed.

        Parameters
        ----------
        parameters, tangents : of one structure
            The parameters at z, and their derivatives along the step.
        x : tensor (..., d)
            The values observed.

        Raises
        ------
        NotImplementedError
            By default, for a likelihood with several parameters a column.
        """
        if tf.nest.is_nested(parameters) or parameters.shape[-1] != x.shape[-1]:
            raise NotImplementedError(
                f"{type(self).__name__} has several parameters a column and no fisher_root of its own, "
                "which Laplace needs: define it, or use method='tempered_smc'"
            )
        step = 0.03
        at = [self.log_prob(parameters + shift, x) for shift in (-step, 0.0, step)]
        curvature = tf.maximum(2.0 * at[1] - at[0] - at[2], 0.0) / step**2
        return (tf.sqrt(curvature) * tangents)[..., None]

    # One column at a time.

    @property
    def family(self) -> Any:
        """Equal for kinds that `join` describes together; None for one that stands alone."""
        return None if self.one_column else self

    def join(self, kinds: Sequence[Likelihood]) -> Likelihood:
        """One likelihood for several columns of this family."""
        return self

    def kind(self, j: int) -> Likelihood:
        """Return the likelihood of column ``j``: it has `is_number`, `check`, `decode` and `centre` for it."""
        return self

    def part(self, parameters: Parameters, j: int) -> tuple[Likelihood, Parameters]:
        """Return `kind` of column ``j`` and the parameters of this column alone, each (..., ·)."""
        own = slice(None) if self.one_column else slice(j, j + 1)
        return self, tf.nest.map_structure(lambda a: a[..., own], parameters)

    def check(self, cells: NDArray) -> NDArray:
        """Floats from the known cells (n,) of one column; ValueError says why a cell is no value."""
        try:
            values = cells.astype(float)
        except (TypeError, ValueError, OverflowError):
            values = np.full(len(cells), np.nan)
            for i, cell in enumerate(cells):
                with suppress(TypeError, ValueError, OverflowError):
                    values[i] = float(cell)
        for cell, value in zip(cells[~np.isfinite(values)], values[~np.isfinite(values)], strict=True):
            what = "infinite values cannot be observed" if np.isinf(value) else f"{short(cell)} is not a number"
            raise ValueError(f"{what}; use NaN for a missing cell")
        return values

    def decode(self, values: NDArray) -> NDArray:
        """Turn numbers of one column into the user's own values; labels without names are integers."""
        return values if self.is_number else values.astype(int)

    def centre(self, draws: NDArray, axis: int = -1) -> NDArray:
        """One value for many draws of one column: the mean, or the most frequent label (ties: the lowest)."""
        if self.is_number:
            return draws.mean(axis=axis)
        labels = np.unique(draws)
        return labels[np.argmax([(draws == label).sum(axis=axis) for label in labels], axis=0)]

    # Keras keeps a likelihood with the model.

    def get_config(self) -> dict[str, Any]:
        """Return the settings by name: the attributes, which the constructor takes under these names."""
        return dict(vars(self))

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Likelihood:
        """Make the likelihood again from `get_config`."""
        return cls(**config)


def output_shapes(outputs: Any) -> Any:
    """Return the shapes of one row of a network's outputs, in their structure."""
    return tf.nest.map_structure(lambda output: tuple(output.shape[1:]), outputs)


def tensors(outputs: Any, num: int, needed: str, remedy: str = "") -> Sequence[tf.Tensor]:
    """Return a decoder's outputs if they are ``num`` tensors of one width."""
    parts = outputs if isinstance(outputs, list | tuple) else [outputs]
    if len(parts) != num or any(map(tf.nest.is_nested, parts)) or len({part.shape[-1] for part in parts}) > 1:
        raise ValueError(f"{needed}, got {len(parts)}: {output_shapes(outputs)}{remedy}")
    return parts


def log_normal(x: Any, loc: Any, scale: Any) -> tf.Tensor:
    """Elementwise log N(x; loc, scale²), never below -1e30."""
    return tf.maximum(-0.5 * tf.square((x - loc) / scale) - tf.math.log(scale) - 0.5 * LOG_2PI, LOWEST)
