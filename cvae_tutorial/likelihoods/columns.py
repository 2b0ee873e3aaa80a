"""A table whose columns have different likelihoods."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping, Sequence
from typing import Any

import keras
import numpy as np
import pandas as pd
import tensorflow as tf
from numpy.typing import NDArray

from ..seeds import split
from .base import Likelihood, Parameters, output_shapes, serializable
from .kinds import Bernoulli, Categorical, Normal
from .transformed import Transformed


@serializable
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
        for kind in self.kinds:
            if not isinstance(kind, Likelihood) or isinstance(kind, Columns):
                raise TypeError(f"Columns needs a likelihood object such as Normal() for each column, got {kind!r}")
        # Columns of one family are handled together.
        places: list[list[int]] = []
        for j, kind in enumerate(self.kinds):
            same = [own for own in places if kind.family is not None and kind.family == self.kinds[own[0]].family]
            if same:
                same[0].append(j)
            else:
                places.append([j])
        self._groups = [(self.kinds[own[0]].join([self.kinds[j] for j in own]), own) for own in places]
        self.draws_by_row = all(kind.draws_by_row for kind in self.kinds)
        self._order = np.argsort([j for _, columns in self._groups for j in columns])

    @classmethod
    def from_frame(
        cls,
        frame: pd.DataFrame,
        min_value: float | Mapping[Hashable, float] | None = None,
        max_value: float | Mapping[Hashable, float] | None = None,
        min_scale: float = 0.01,
    ) -> Columns:
        """Guess from a pandas DataFrame what its columns can hold.

        Columns of numbers become `Transformed`, which stay within the values found, whole where all are
        whole; if only two values are found, they are two categories. Booleans, zeros and ones become
        `Bernoulli`, anything else `Categorical` with the categories found, in sorted order. Missing cells
        do not count.

        Parameters
        ----------
        frame : DataFrame (n, d)
        min_value, max_value : float or mapping, optional
            Bounds of all columns of numbers, or of some by name; by default the values found.
        min_scale : float
            Of `Transformed`.

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
                low, high = (
                    bound.get(name) if isinstance(bound, Mapping) else bound for bound in (min_value, max_value)
                )
                kinds[name] = _of_numbers(known, low, high, min_scale, label)
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

    def groups(self) -> list[tuple[Likelihood, list[int]]]:
        """Likelihoods that describe several columns together, with their columns, in the order of the networks."""
        return [(kind, list(columns)) for kind, columns in self._groups]

    def columns_of_inputs(self) -> list[int]:
        """Column that each input of the encoder tells of."""
        sizes = ((columns, kind.num_inputs(len(columns)) // len(columns)) for kind, columns in self._groups)
        return [column for columns, size in sizes for column in columns for _ in range(size)]

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


def _of_numbers(known, low, high, min_scale, label):
    """Guess what a column of numbers can hold."""
    try:
        values = known.to_numpy(float)
    except (TypeError, ValueError, OverflowError):
        values = np.array([np.nan])
    if not np.isfinite(values).all():
        raise ValueError(f"{label}: infinite values cannot be observed; use NaN for a missing cell")
    found = np.unique(values)
    if len(found) == 1:
        return Normal()
    if len(found) == 2 and low is None and high is None:
        return Bernoulli() if found.tolist() == [0.0, 1.0] else Categorical(found.tolist())
    try:
        return Transformed.from_values(values, low, high, min_scale)
    except ValueError as error:
        raise ValueError(f"{label}: {error}") from None
