"""Column likelihoods p(x_j | z): how a decoder's output becomes a distribution over data.

Columns are independent given the latent variable, so every likelihood returns one log density per
column. That is what lets a sampler keep the observed columns and leave out the missing ones.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping
from dataclasses import dataclass, fields

import keras
import numpy as np
import tensorflow as tf

from .seeds import normal, split, uniform

_LOG_2PI = math.log(2.0 * math.pi)
LOWEST = -1e30  # the log density of "impossible": finite, so that weights never become NaN

_serializable = keras.saving.register_keras_serializable(package="cvae_tutorial")


class _Settings:
    """Dataclass fields as a Keras configuration, so that a saved VAE keeps its likelihood."""

    draws_by_row = True  # `sample` takes a RowSeed, too
    is_number = True

    def kind(self, j):
        return self

    def decode(self, values):
        return values

    def get_config(self):
        return {field.name: getattr(self, field.name) for field in fields(self)}

    @classmethod
    def from_config(cls, config):
        return cls(**config)


def log_normal(x, loc, scale):
    """Elementwise log N(x; loc, scale²), never below -1e30."""
    return tf.maximum(
        -0.5 * tf.square((x - loc) / scale) - tf.math.log(scale) - 0.5 * _LOG_2PI, LOWEST
    )


@_serializable
@dataclass(frozen=True)
class Normal(_Settings):
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
    """

    min_scale: float = 0.01
    scale: float | None = None

    def num_inputs(self, num_features):
        """Width of what the encoder reads."""
        return num_features

    def num_parameters(self, num_features):
        """Width of what the decoder writes."""
        return num_features if self.scale is not None else 2 * num_features

    def units(self, x):
        """Shift and scale, each (d,), that standardise the columns of ``x`` (n, d); NaN is ignored."""
        return np.nanmean(x, axis=0), np.nanstd(x, axis=0)

    def features(self, x, observed, shift, scale):
        """Encoder input: standardised columns, zero (the mean) where a cell is missing."""
        return tf.where(observed, (x - shift) / scale, 0.0)

    def constrain(self, raw, shift, scale):
        """Turn raw network output (..., num_parameters) into ``(loc, scale)`` in data units."""
        if self.scale is not None:
            loc = shift + scale * raw
            return loc, tf.fill(tf.shape(loc), tf.cast(self.scale, loc.dtype))
        loc, spread = tf.split(raw, 2, axis=-1)
        return shift + scale * loc, scale * (self.min_scale + tf.nn.softplus(spread))

    def from_outputs(self, outputs):
        """Parameters from a decoder's finished outputs: ``[loc, scale]``, or ``loc`` if the scale is fixed."""
        if isinstance(outputs, list | tuple):
            if len(outputs) != 2:
                raise ValueError(f"a Normal decoder returns [loc, scale], got {len(outputs)} outputs")
            return tuple(outputs)
        if self.scale is None:
            raise ValueError(
                "this decoder returns one output and Normal() needs loc and scale: "
                "state the scale, for example Normal(scale=0.1)"
            )
        return outputs, tf.fill(tf.shape(outputs), tf.cast(self.scale, outputs.dtype))

    def log_prob(self, parameters, x):
        """Log density per column, (..., d)."""
        return log_normal(x, *parameters)

    def sample(self, parameters, seed):
        """One draw per column, (..., d); ``seed`` is a pair of integers."""
        loc, scale = parameters
        return loc + scale * normal(tf.shape(loc), seed)

    def mean(self, parameters):
        """Mean per column, (..., d)."""
        return parameters[0]


@_serializable
@dataclass(frozen=True)
class Bernoulli(_Settings):
    """Columns of zeros and ones. The parameters are logits of shape (..., d).

    Parameters
    ----------
    from_logits : bool
        Whether the decoder of a wrapped model returns logits (True) or probabilities (False, what a
        final sigmoid gives). The package's own ``VAE`` always works with logits.
    """

    from_logits: bool = False

    def decode(self, values):
        return values.astype(int)

    def num_inputs(self, num_features):
        return num_features

    def num_parameters(self, num_features):
        return num_features

    def units(self, x):
        return np.zeros(x.shape[1]), np.ones(x.shape[1])

    def features(self, x, observed, shift, scale):
        return tf.where(observed, 2.0 * x - 1.0, 0.0)

    def constrain(self, raw, shift, scale):
        return raw

    def from_outputs(self, outputs):
        if self.from_logits:
            return outputs
        probabilities = tf.clip_by_value(outputs, 1e-6, 1.0 - 1e-6)
        return tf.math.log(probabilities) - tf.math.log1p(-probabilities)

    def log_prob(self, parameters, x):
        return x * parameters - tf.nn.softplus(parameters)

    def sample(self, parameters, seed):
        draws = uniform(tf.shape(parameters), seed)
        return tf.cast(draws < tf.sigmoid(parameters), parameters.dtype)

    def mean(self, parameters):
        return tf.sigmoid(parameters)


@_serializable
@dataclass(frozen=True)
class Categorical(_Settings):
    """One column of categories, held as the codes 0, 1, …, k-1. The parameters are logits (..., k).

    Parameters
    ----------
    categories : int or sequence
        Number of categories, or their names in the order of the codes.
    """

    categories: int | tuple[Hashable, ...]

    is_number = False

    def decode(self, values):
        if isinstance(self.categories, int | np.integer):
            return values.astype(int)
        categories = np.empty(len(self.categories), dtype=object)
        categories[:] = self.categories
        return categories[values.astype(int)]

    def __post_init__(self):
        if not isinstance(self.categories, int | np.integer):
            object.__setattr__(self, "categories", tuple(self.categories))
            if len(set(self.categories)) != len(self.categories):
                raise ValueError(f"a category is named twice in {self.categories}")
        if self.num_categories < 2:
            raise ValueError("a categorical column needs at least two categories")

    @property
    def num_categories(self):
        return self.categories if isinstance(self.categories, int | np.integer) else len(self.categories)

    def num_inputs(self, num_features):
        return self.num_categories

    def num_parameters(self, num_features):
        if num_features != 1:
            raise ValueError("Categorical describes one column; use Columns for several")
        return self.num_categories

    def units(self, x):
        return np.zeros(x.shape[1]), np.ones(x.shape[1])

    def features(self, x, observed, shift, scale):
        return self._one_hot(x) * tf.cast(observed, x.dtype)

    def constrain(self, raw, shift, scale):
        return raw

    def from_outputs(self, outputs):
        return outputs

    def log_prob(self, parameters, x):
        return tf.reduce_sum(
            self._one_hot(x) * tf.nn.log_softmax(parameters), axis=-1, keepdims=True
        )

    def sample(self, parameters, seed):
        # Gumbel-max: the largest of logits + Gumbel noise is a draw from the softmax.
        gumbel = -tf.math.log(-tf.math.log(tf.maximum(uniform(tf.shape(parameters), seed), 1e-20)))
        return tf.cast(tf.argmax(parameters + gumbel, axis=-1)[..., None], parameters.dtype)

    def mean(self, parameters):
        """The most probable code: categories have no mean."""
        return tf.cast(tf.argmax(parameters, axis=-1)[..., None], parameters.dtype)

    def _one_hot(self, x):
        return tf.one_hot(tf.cast(x[..., 0], tf.int32), self.num_categories, dtype=x.dtype)


@_serializable
class Columns:
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

    def __init__(self, kinds):
        if isinstance(kinds, Mapping):
            self.names, kinds = tuple(kinds), tuple(kinds.values())
        else:
            kinds = tuple(kinds)
            self.names = None
        if not kinds:
            raise ValueError("Columns needs at least one column")
        for kind in kinds:
            if isinstance(kind, type) or not hasattr(kind, "constrain"):
                raise TypeError(f"Columns needs a likelihood object such as Normal() for each column, got {kind!r}")
        self.kinds = kinds
        self.draws_by_row = all(kind.draws_by_row for kind in kinds)
        # Columns of one kind are handled together; a categorical column stands alone.
        groups = {}
        for index, kind in enumerate(kinds):
            key = (kind, index) if isinstance(kind, Categorical) else kind
            groups.setdefault(key, (kind, []))[1].append(index)
        self._groups = list(groups.values())
        self._order = np.argsort([i for _, columns in self._groups for i in columns])

    @classmethod
    def from_frame(cls, frame):
        """Guess the likelihoods from a pandas DataFrame.

        Columns of numbers become `Normal`, of booleans `Bernoulli`, of anything else `Categorical`
        with the categories found, in sorted order. Missing cells do not count.

        Raises
        ------
        ValueError, TypeError
            For a column that has no observed value or a single category, dates, complex numbers,
            cells that cannot be a category, and repeated names.
        """
        import pandas as pd

        repeated = frame.columns[frame.columns.duplicated()]
        if len(repeated):
            raise ValueError(f"column {repeated[0]!r} stands twice in the table")
        kinds = {}
        for name, column in frame.items():
            found, label = pd.api.types.infer_dtype(column, skipna=True), f"column {name!r}"
            if not column.notna().any():
                raise ValueError(f"{label} has no observed value: leave it out of the model")
            if found in ("floating", "integer", "mixed-integer-float", "decimal"):
                kinds[name] = Normal()
                continue
            if found == "complex" or found.startswith(("date", "time", "period", "interval")):
                raise TypeError(f"{label} holds {found} values: give numbers, such as days since the first")
            if isinstance(column.dtype, pd.CategoricalDtype):
                categories = column.cat.categories.tolist()
            else:
                try:
                    categories = sorted(column.dropna().unique().tolist(), key=str)
                except TypeError:  # what cannot be hashed is no category
                    raise TypeError(
                        f"{label}: argument must be a string or a number, got {column.dropna().iloc[0]!r}"
                    ) from None
            if found != "categorical" and set(categories) <= {True, False}:
                kinds[name] = Bernoulli()
            elif len(categories) == 1:
                raise ValueError(f"{label} holds one category only, {categories[0]!r}: leave it out of the model")
            else:
                kinds[name] = Categorical(tuple(categories))
        return cls(kinds)

    def kind(self, j):
        return self.kinds[j]

    def num_inputs(self, num_features):
        return sum(kind.num_inputs(len(columns)) for kind, columns in self._groups)

    def num_parameters(self, num_features):
        if num_features != len(self.kinds):
            raise ValueError(f"{len(self.kinds)} likelihoods for {num_features} columns")
        return sum(kind.num_parameters(len(columns)) for kind, columns in self._groups)

    def units(self, x):
        shift, scale = np.zeros(x.shape[1]), np.ones(x.shape[1])
        for kind, columns in self._groups:
            shift[columns], scale[columns] = kind.units(x[:, columns])
        return shift, scale

    def features(self, x, observed, shift, scale):
        parts = []
        for kind, columns in self._groups:
            part = [tf.gather(a, columns, axis=-1) for a in (x, observed, shift, scale)]
            parts.append(kind.features(*part))
        return tf.concat(parts, axis=-1)

    def constrain(self, raw, shift, scale):
        widths = [kind.num_parameters(len(columns)) for kind, columns in self._groups]
        return tuple(
            kind.constrain(part, tf.gather(shift, columns), tf.gather(scale, columns))
            for part, (kind, columns) in zip(tf.split(raw, widths, axis=-1), self._groups, strict=True)
        )

    def from_outputs(self, outputs):
        return tuple(
            kind.from_outputs(output)
            for output, (kind, _) in zip(outputs, self._groups, strict=True)
        )

    def log_prob(self, parameters, x):
        return self._gather(
            kind.log_prob(part, tf.gather(x, columns, axis=-1))
            for part, (kind, columns) in zip(parameters, self._groups, strict=True)
        )

    def sample(self, parameters, seed):
        return self._gather(
            kind.sample(part, own)
            for part, own, (kind, _) in zip(parameters, split(seed, len(self._groups)), self._groups, strict=True)
        )

    def mean(self, parameters):
        return self._gather(
            kind.mean(part) for part, (kind, _) in zip(parameters, self._groups, strict=True)
        )

    def _gather(self, parts):
        """Put the groups' columns back into the table's order."""
        return tf.gather(tf.concat(list(parts), axis=-1), self._order, axis=-1)

    def __eq__(self, other):
        return isinstance(other, Columns) and (self.kinds, self.names) == (other.kinds, other.names)

    def __hash__(self):
        return hash((self.kinds, self.names))

    def __repr__(self):
        names = self.names or range(len(self.kinds))
        return f"Columns({dict(zip(names, self.kinds, strict=True))})"

    def get_config(self):
        kinds = [keras.saving.serialize_keras_object(kind) for kind in self.kinds]
        return {"kinds": kinds, "names": self.names}

    @classmethod
    def from_config(cls, config):
        kinds = [keras.saving.deserialize_keras_object(kind) for kind in config["kinds"]]
        names = config["names"]
        return cls(kinds if names is None else dict(zip(names, kinds, strict=True)))


def kind_of(likelihood, column):
    """The likelihood of one column: itself, or its part of a `Columns`."""
    return likelihood.kinds[column] if isinstance(likelihood, Columns) else likelihood
