"""The likelihoods of plain columns: normal, binary, categorical."""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from ..seeds import normal, uniform
from .base import Likelihood, Parameters, log_normal, serializable, tensors


@serializable
@dataclass(frozen=True)
class Normal(Likelihood):
    """Normal columns with learned or fixed scale.

    Parameters of the distribution are the pair ``(loc, scale)``, each of shape (..., d), in the
    units of the data.

    Parameters
    ----------
    min_scale : float
        Smallest scale a network can reach, as a fraction of the column's standard deviation.
        It keeps the likelihood bounded.
    scale : float, optional
        Fixed scale in data units, for decoders that output the mean only.
    from_log_variance : bool
        Whether the decoder of a wrapped model returns ``[loc, log variance]`` (True) or ``[loc, scale]``
        (False). The package's own ``VAE`` makes a scale of what its decoder writes.
    """

    min_scale: float = 0.01
    scale: float | None = None
    from_log_variance: bool = False
    draws_by_row = True

    def __post_init__(self) -> None:
        if not (self.min_scale >= 0.0 and (self.scale is None or self.scale > 0.0)):
            raise ValueError(f"a scale is positive, got {self}")

    def num_parameters(self, num_features: int) -> int:
        return num_features if self.scale is not None else 2 * num_features

    def units(self, x: NDArray) -> tuple[NDArray, NDArray]:
        return np.nanmean(x, axis=0), np.nanstd(x, axis=0)

    def constrain(self, raw: tf.Tensor, shift: tf.Tensor, scale: tf.Tensor) -> Parameters:
        """Turn raw network output (..., num_parameters) into ``(loc, scale)`` in data units."""
        if self.scale is not None:
            loc = shift + scale * raw
            return loc, tf.fill(tf.shape(loc), tf.cast(self.scale, loc.dtype))
        loc, spread = tf.split(raw, 2, axis=-1)
        return shift + scale * loc, scale * (self.min_scale + tf.nn.softplus(spread))

    def from_outputs(self, outputs: Any) -> Parameters:
        """Parameters from finished outputs: ``[loc, scale]`` (or log variance), or ``loc`` if the scale is fixed."""
        if self.scale is not None:
            (loc,) = tensors(outputs, 1, "a Normal(scale=...) decoder returns one output")
            return loc, tf.fill(tf.shape(loc), tf.cast(self.scale, loc.dtype))
        needed = f"a Normal decoder returns [loc, {'log variance' if self.from_log_variance else 'scale'}]"
        remedy = "; if it returns loc alone, state the scale, for example Normal(scale=0.1)"
        loc, spread = tensors(outputs, 2, needed, remedy)
        return loc, tf.exp(0.5 * spread) if self.from_log_variance else spread

    def check_outputs(self, outputs: Any) -> None:
        scale = self.from_outputs(outputs)[1]
        low, high = np.min(scale), np.max(scale)
        if not (low > 0 and high < np.inf):
            remedy = "if it is a log variance, use Normal(from_log_variance=True), otherwise add a small constant to it"
            if self.from_log_variance:
                remedy = "if the decoder returns the scale itself, use Normal()"
            raise ValueError(f"scales go from {low:.3g} to {high:.3g}, and must be finite and above zero: {remedy}")

    def log_prob(self, parameters: Parameters, x: tf.Tensor) -> tf.Tensor:
        return log_normal(x, *parameters)

    def sample(self, parameters: Parameters, seed: Any) -> tf.Tensor:
        loc, scale = parameters
        return loc + scale * normal(tf.shape(loc), seed)

    def mean(self, parameters: Parameters) -> tf.Tensor:
        return parameters[0]

    def fisher_root(self, parameters: Parameters, tangents: Parameters, x: tf.Tensor) -> tf.Tensor:
        scale = parameters[1]
        return tf.stack([tangents[0] / scale, math.sqrt(2.0) * tangents[1] / scale], axis=-1)


@serializable
@dataclass(frozen=True)
class Bernoulli(Likelihood):
    """Columns of zeros and ones. The parameters are logits of shape (..., d).

    Parameters
    ----------
    from_logits : bool
        Whether the decoder of a wrapped model returns logits (True) or probabilities (False, what a
        final sigmoid gives). The package's own ``VAE`` always works with logits.
    """

    from_logits: bool = False
    is_number: ClassVar[bool] = False
    draws_by_row = True

    def num_parameters(self, num_features: int) -> int:
        return num_features

    def features(self, x: tf.Tensor, observed: tf.Tensor, shift: tf.Tensor, scale: tf.Tensor) -> tf.Tensor:
        return tf.where(observed, 2.0 * x - 1.0, 0.0)

    def from_outputs(self, outputs: Any) -> Parameters:
        (outputs,) = tensors(outputs, 1, "a Bernoulli decoder returns one output")
        if self.from_logits:
            return outputs
        probabilities = tf.clip_by_value(outputs, 1e-6, 1.0 - 1e-6)
        return tf.math.log(probabilities) - tf.math.log1p(-probabilities)

    def check_outputs(self, outputs: Any) -> None:
        low, high = np.min(outputs), np.max(outputs)
        found = f"the decoder's outputs go from {low:.3g} to {high:.3g}"
        if not self.from_logits and (low < -1e-3 or high > 1 + 1e-3):
            raise ValueError(f"{found} and look like logits: use Bernoulli(from_logits=True)")
        if self.from_logits and 0 <= low < 0.05 and 0.95 < high <= 1:
            raise ValueError(f"{found} and look like probabilities: use Bernoulli()")

    def log_prob(self, parameters: Parameters, x: tf.Tensor) -> tf.Tensor:
        return x * parameters - tf.nn.softplus(parameters)

    def sample(self, parameters: Parameters, seed: Any) -> tf.Tensor:
        return tf.cast(uniform(tf.shape(parameters), seed) < tf.sigmoid(parameters), parameters.dtype)

    def mean(self, parameters: Parameters) -> tf.Tensor:
        return tf.sigmoid(parameters)

    def fisher_root(self, parameters: Parameters, tangents: Parameters, x: tf.Tensor) -> tf.Tensor:
        variance = tf.sigmoid(parameters) * tf.sigmoid(-parameters)
        return (tf.sqrt(variance) * tangents)[..., None]

    def check(self, cells: NDArray) -> NDArray:
        values = super().check(cells)
        for value in values[(values != 0.0) & (values != 1.0)]:
            raise ValueError(f"Bernoulli values are 0 and 1, got {value:g}")
        return values


@serializable
@dataclass(frozen=True)
class Categorical(Likelihood):
    """One column of categories, held as the codes 0, 1, …, k-1. The parameters are logits (..., k).

    Parameters
    ----------
    categories : int or sequence
        Number of categories, or their names in the order of the codes.
    """

    categories: int | Sequence[Hashable]
    is_number: ClassVar[bool] = False
    has_mean: ClassVar[bool] = False
    one_column: ClassVar[bool] = True
    draws_by_row = True

    def __post_init__(self) -> None:
        given = self.categories
        object.__setattr__(self, "categories", int(given) if isinstance(given, int | np.integer) else tuple(given))
        if len(set(self._values)) < len(self._values):
            raise ValueError(f"a category is named twice in {self.categories}")
        if self.num_categories < 2:
            raise ValueError("a categorical column needs at least two categories")

    @property
    def _values(self) -> Sequence[Hashable]:
        """What the codes stand for."""
        return range(self.categories) if isinstance(self.categories, int) else self.categories

    @property
    def num_categories(self) -> int:
        """Number of categories, k."""
        return len(self._values)

    def num_inputs(self, num_features: int) -> int:
        return self.num_categories

    def num_parameters(self, num_features: int) -> int:
        if num_features != 1:
            raise ValueError("Categorical describes one column; use Columns for several")
        return self.num_categories

    def features(self, x: tf.Tensor, observed: tf.Tensor, shift: tf.Tensor, scale: tf.Tensor) -> tf.Tensor:
        return self._one_hot(x) * tf.cast(observed, x.dtype)

    def from_outputs(self, outputs: Any) -> Parameters:
        (logits,) = tensors(outputs, 1, "a Categorical decoder returns one output")
        if logits.shape[-1] != self.num_categories:
            raise ValueError(f"{self!r} needs {self.num_categories} logits, the decoder writes {logits.shape[-1]}")
        return logits

    def check_outputs(self, outputs: Any) -> None:
        if np.min(outputs) >= 0 and np.allclose(np.sum(outputs, axis=-1), 1.0, atol=1e-2):
            raise ValueError("outputs add up to 1 and look like probabilities: give logits, without the last softmax")

    def log_prob(self, parameters: Parameters, x: tf.Tensor) -> tf.Tensor:
        return tf.reduce_sum(self._one_hot(x) * tf.nn.log_softmax(parameters), axis=-1, keepdims=True)

    def sample(self, parameters: Parameters, seed: Any) -> tf.Tensor:
        # Gumbel-max: the largest of logits + Gumbel noise is a draw from the softmax.
        gumbel = -tf.math.log(-tf.math.log(tf.maximum(uniform(tf.shape(parameters), seed), 1e-20)))
        return tf.cast(tf.expand_dims(tf.argmax(parameters + gumbel, axis=-1), -1), parameters.dtype)

    def mean(self, parameters: Parameters) -> tf.Tensor:
        """Return the most probable code: categories have no mean."""
        return tf.cast(tf.expand_dims(tf.argmax(parameters, axis=-1), -1), parameters.dtype)

    def fisher_root(self, parameters: Parameters, tangents: Parameters, x: tf.Tensor) -> tf.Tensor:
        probability = tf.nn.softmax(parameters)
        centred = tangents - tf.reduce_sum(probability * tangents, axis=-1, keepdims=True)
        return (tf.sqrt(probability) * centred)[..., None, :]

    def check(self, cells: NDArray) -> NDArray:
        codes = {value: code for code, value in enumerate(self._values)}
        values = np.empty(len(cells))
        for i, cell in enumerate(cells.tolist()):
            try:
                values[i] = codes[cell]
            except (KeyError, TypeError):  # what cannot be hashed is no category
                raise ValueError(f"category {cell!r} was never seen; known are {list(self._values)}") from None
        return values

    def decode(self, values: NDArray) -> NDArray:
        codes, named = super().decode(values), not isinstance(self.categories, int)
        return np.fromiter(self._values, object, self.num_categories)[codes] if named else codes

    def _one_hot(self, x: tf.Tensor) -> tf.Tensor:
        return tf.one_hot(tf.cast(tf.gather(x, 0, axis=-1), tf.int32), self.num_categories, dtype=x.dtype)
