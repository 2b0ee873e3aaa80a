"""Column likelihoods p(x_j | z): how a decoder's output becomes a distribution over data.

Columns are independent given the latent variable, so every likelihood returns one log density per
column. That is what lets a sampler keep the observed columns and leave out the missing ones.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Hashable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from reprlib import repr as short
from typing import Any, ClassVar, TypeAlias

import keras
import numpy as np
import pandas as pd
import tensorflow as tf
from numpy.typing import NDArray

from .seeds import normal, split, uniform

LOG_2PI = math.log(2.0 * math.pi)
LOWEST = -1e30  # the log density of "impossible": finite, so that weights never become NaN

Parameters: TypeAlias = Any  # a tensor or nested tuples of tensors, each (..., ·): what the likelihood says

_serializable = keras.saving.register_keras_serializable(package="cvae_tutorial")


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


def _tensors(outputs: Any, num: int, needed: str, remedy: str = "") -> Sequence[tf.Tensor]:
    """Return a decoder's outputs if they are ``num`` tensors of one width."""
    parts = outputs if isinstance(outputs, list | tuple) else [outputs]
    if len(parts) != num or any(map(tf.nest.is_nested, parts)) or len({part.shape[-1] for part in parts}) > 1:
        raise ValueError(f"{needed}, got {len(parts)}: {output_shapes(outputs)}{remedy}")
    return parts


def log_normal(x: Any, loc: Any, scale: Any) -> tf.Tensor:
    """Elementwise log N(x; loc, scale²), never below -1e30."""
    return tf.maximum(-0.5 * tf.square((x - loc) / scale) - tf.math.log(scale) - 0.5 * LOG_2PI, LOWEST)


@_serializable
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
            (loc,) = _tensors(outputs, 1, "a Normal(scale=...) decoder returns one output")
            return loc, tf.fill(tf.shape(loc), tf.cast(self.scale, loc.dtype))
        needed = f"a Normal decoder returns [loc, {'log variance' if self.from_log_variance else 'scale'}]"
        remedy = "; if it returns loc alone, state the scale, for example Normal(scale=0.1)"
        loc, spread = _tensors(outputs, 2, needed, remedy)
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


@_serializable
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
        (outputs,) = _tensors(outputs, 1, "a Bernoulli decoder returns one output")
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


@_serializable
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
        (logits,) = _tensors(outputs, 1, "a Categorical decoder returns one output")
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


@_serializable
class Columns(Likelihood):
    """A table whose columns have different likelihoods.

    Parameters
    ----------
    kinds : mapping or sequence
        ``{name: likelihood}`` in column order, or likelihoods without names.

    Examples
    --------
    >>> Columns({"mass": Normal(), "sex": Categorical(["female", "male"])}).names
    ('mass', 'sex')
    """

    def __init__(self, kinds: Mapping[str, Likelihood] | Mapping[Hashable, Likelihood] | Sequence[Likelihood]) -> None:
        self.names = tuple(kinds) if isinstance(kinds, Mapping) else None
        self.kinds = tuple(kinds.values() if isinstance(kinds, Mapping) else kinds)
        if not self.kinds:
            raise ValueError("Columns needs at least one column")
        self._groups: list[tuple[Likelihood, list[int]]] = []
        for j, kind in enumerate(self.kinds):
            if not isinstance(kind, Likelihood) or isinstance(kind, Columns):
                raise TypeError(f"Columns needs a likelihood object such as Normal() for each column, got {kind!r}")
            # Columns of one kind are handled together, unless they must stand alone.
            same = [columns for other, columns in self._groups if not kind.one_column and other == kind]
            if same:
                same[0].append(j)
            else:
                self._groups.append((kind, [j]))
        self.draws_by_row = all(kind.draws_by_row for kind in self.kinds)
        self._order = np.argsort([j for _, columns in self._groups for j in columns])

    @classmethod
    def from_frame(cls, frame: pd.DataFrame) -> Columns:
        """Guess the likelihoods from a pandas DataFrame.

        Columns of numbers become `Normal`, of booleans `Bernoulli`, of anything else `Categorical`
        with the categories found, in sorted order. Missing cells do not count.

        Raises
        ------
        ValueError, TypeError
            For a column that has no observed value or a single category, dates, complex numbers,
            cells that cannot be a category, and repeated names.
        """
        for twice in frame.columns[frame.columns.duplicated()]:
            raise ValueError(f"column {twice!r} stands twice in the table")
        kinds: dict[Hashable, Likelihood] = {}
        for name, column in frame.items():
            known, found, label = column.dropna(), pd.api.types.infer_dtype(column, skipna=True), f"column {name!r}"
            if known.empty:
                raise ValueError(f"{label} has no observed value: leave it out of the model")
            if found in ("floating", "integer", "mixed-integer-float", "decimal"):
                kinds[name] = Normal()
                continue
            if found == "complex" or found.startswith(("date", "time", "period", "interval")):
                raise TypeError(f"{label} holds {found} values: give numbers, such as days since the first")
            for cell in (cell for cell in known if not pd.api.types.is_hashable(cell)):
                raise TypeError(f"{label}: argument must be a string or a number, got {cell!r}")
            declared = found == "categorical"
            categories = column.cat.categories.tolist() if declared else sorted(known.unique().tolist(), key=str)
            if not declared and set(categories) <= {True, False}:
                kinds[name] = Bernoulli()
            elif len(categories) == 1:
                raise ValueError(f"{label} holds one category only, {categories[0]!r}: leave it out of the model")
            else:
                kinds[name] = Categorical(categories)
        return cls(kinds)

    def num_inputs(self, num_features: int) -> int:
        return sum(kind.num_inputs(len(columns)) for kind, columns in self._groups)

    def num_parameters(self, num_features: int) -> int:
        if num_features != len(self.kinds):
            raise ValueError(f"{len(self.kinds)} likelihoods for {num_features} columns")
        return sum(kind.num_parameters(len(columns)) for kind, columns in self._groups)

    def units(self, x: NDArray) -> tuple[NDArray, NDArray]:
        shift, scale = np.zeros(x.shape[1]), np.ones(x.shape[1])
        for kind, columns in self._groups:
            shift[columns], scale[columns] = kind.units(x[:, columns])
        return shift, scale

    def features(self, x: tf.Tensor, observed: tf.Tensor, shift: tf.Tensor, scale: tf.Tensor) -> tf.Tensor:
        parts = ([tf.gather(a, own, axis=-1) for a in (x, observed, shift, scale)] for _, own in self._groups)
        return tf.concat([kind.features(*part) for part, (kind, _) in zip(parts, self._groups, strict=True)], axis=-1)

    def constrain(self, raw: tf.Tensor, shift: tf.Tensor, scale: tf.Tensor) -> Parameters:
        widths = [kind.num_parameters(len(columns)) for kind, columns in self._groups]
        return tuple(
            kind.constrain(own, tf.gather(shift, columns), tf.gather(scale, columns))
            for own, (kind, columns) in zip(tf.split(raw, widths, axis=-1), self._groups, strict=True)
        )

    def from_outputs(self, outputs: Any) -> Parameters:
        """Parameters from a list with the finished outputs of each kind, in the order of its first column."""
        parts = [kind.from_outputs(output) for kind, output in self._by_group(outputs)]
        for part, (kind, columns) in zip(parts, self._groups, strict=True):
            if (width := kind.mean(part).shape[-1]) != len(columns):
                raise ValueError(f"the decoder writes {width} columns for {kind!r}, which describes {columns}")
        return tuple(parts)

    def check_outputs(self, outputs: Any) -> None:
        for kind, output in self._by_group(outputs):
            kind.check_outputs(output)

    def _by_group(self, outputs: Any) -> list[tuple[Likelihood, Any]]:
        if len(self._groups) == 1:  # Keras unpacks a list of one
            outputs = [outputs]
        if not isinstance(outputs, list | tuple) or len(outputs) != len(self._groups):
            needed = ", ".join(f"{kind!r} for columns {columns}" for kind, columns in self._groups)
            raise ValueError(f"a decoder of Columns returns a list of {needed}; got {output_shapes(outputs)}")
        return [(kind, output) for output, (kind, _) in zip(outputs, self._groups, strict=True)]

    def log_prob(self, parameters: Parameters, x: tf.Tensor) -> tf.Tensor:
        parts = zip(parameters, self._groups, strict=True)
        return self._gather(kind.log_prob(own, tf.gather(x, columns, axis=-1)) for own, (kind, columns) in parts)

    def sample(self, parameters: Parameters, seed: Any) -> tf.Tensor:
        parts = zip(parameters, split(seed, len(self._groups)), self._groups, strict=True)
        return self._gather(kind.sample(own, its) for own, its, (kind, _) in parts)

    def mean(self, parameters: Parameters) -> tf.Tensor:
        return self._gather(kind.mean(own) for own, (kind, _) in zip(parameters, self._groups, strict=True))

    def fisher_root(self, parameters: Parameters, tangents: Parameters, x: tf.Tensor) -> tf.Tensor:
        parts = zip(parameters, tangents, self._groups, strict=True)
        roots: list[Any] = [
            kind.fisher_root(own, its, tf.gather(x, columns, axis=-1)) for own, its, (kind, columns) in parts
        ]
        width = max(root.shape[-1] for root in roots)
        roots = [tf.pad(root, [[0, 0]] * (len(root.shape) - 1) + [[0, width - root.shape[-1]]]) for root in roots]
        return tf.gather(tf.concat(roots, axis=-2), self._order, axis=-2)

    def kind(self, j: int) -> Likelihood:
        return self.kinds[j]

    def part(self, parameters: Parameters, j: int) -> tuple[Likelihood, Parameters]:
        parts = zip(parameters, self._groups, strict=True)
        return next(kind.part(own, columns.index(j)) for own, (kind, columns) in parts if j in columns)

    def _gather(self, parts: Iterable[tf.Tensor]) -> tf.Tensor:
        """Put the groups' columns back into the table's order."""
        return tf.gather(tf.concat(list(parts), axis=-1), self._order, axis=-1)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Columns) and (self.kinds, self.names) == (other.kinds, other.names)

    def __hash__(self) -> int:
        return hash((self.kinds, self.names))

    def __repr__(self) -> str:
        return f"Columns({dict(zip(self.names or range(len(self.kinds)), self.kinds, strict=True))})"

    def get_config(self) -> dict[str, Any]:
        kinds = [keras.saving.serialize_keras_object(kind) for kind in self.kinds]
        return {"kinds": kinds, "names": self.names}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Columns:
        kinds = [keras.saving.deserialize_keras_object(kind) for kind in config["kinds"]]
        return cls(kinds if config["names"] is None else dict(zip(config["names"], kinds, strict=True)))
