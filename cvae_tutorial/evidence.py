"""What the user observed, checked before anything is computed.

The word is always *observed*: True in a mask means that the value is known.
"""

from __future__ import annotations

import sys
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from .likelihoods import Likelihood

TableLike: TypeAlias = Mapping[int, object] | Mapping[str, object] | Mapping[int | str, object] | ArrayLike
Names: TypeAlias = Sequence[Hashable] | None


@dataclass(frozen=True)
class Evidence:
    """Checked evidence.

    Attributes
    ----------
    values : ndarray (n, d)
        Observed values as numbers (categories as codes), NaN in the holes.
    observed : ndarray of bool (n, d)
        True where the value is known.
    single : bool
        Whether one row was given, so that results have no row axis.
    names : tuple of str or None
        Column names.
    """

    values: NDArray[np.float64]
    observed: NDArray[np.bool_]
    single: bool
    names: tuple[Hashable, ...] | None

    def take(self, rows: NDArray[np.intp]) -> Evidence:
        """Evidence of these rows, as a table."""
        return Evidence(self.values[rows], self.observed[rows], False, self.names)


def check_evidence(
    observed: TableLike, num_features: int, likelihood: Likelihood, names: Names = None, mask: ArrayLike | None = None
) -> Evidence:
    """Turn what the user observed into `Evidence`.

    Parameters
    ----------
    observed : mapping, array or table
        ``{column: value}`` with indices or names; one row (d,) or a table (n, d) with NaN in the
        holes (NumPy, pandas, polars, nested lists, masked arrays). Labelled columns may stand in any
        order, and those that are left out are missing.
    num_features : int
        Columns of the model, d.
    likelihood : Likelihood
        Likelihood of the columns, which says what values they take.
    names : sequence of str, optional
        Column names.
    mask : array or table of bool, optional
        True where ``observed`` holds a known value; the other cells are ignored. Rows and columns
        are those of ``observed``, by label if both have labels.

    Returns
    -------
    Evidence

    Raises
    ------
    ValueError, TypeError, KeyError
        With the column and the remedy.
    """
    if isinstance(observed, Mapping):
        if mask is not None:
            raise TypeError("a mask goes with an array; a dict says by its keys what is observed")
        for label, cell in observed.items():
            if pd.api.types.is_list_like(cell):
                what = f"one value is needed, got a {type(cell).__name__}; give a table for several rows"
                raise ValueError(f"{column_label(column_index(label, num_features, names), names)}: {what}")
        labels, cells = list(observed), np.fromiter(observed.values(), object, len(observed))
        mask = np.ones(len(cells), bool)
    else:
        observed, mask = from_polars(observed), from_polars(mask)
        labels, cells = _labels(observed, names), _cells(observed)
    single = cells.ndim == 1
    if cells.ndim not in (1, 2):
        raise ValueError(f"a row (d,) or a table (n, d) is needed, got {cells.ndim} axes")
    cells = np.atleast_2d(cells)
    if labels is None and cells.shape[1] != num_features:
        raise ValueError(f"{cells.shape[1]} columns given, the model has {num_features}; mark missing cells with NaN")
    if not len(cells):
        raise ValueError("the table has no rows")

    # The model's columns, in its order.
    everywhere = list(range(num_features))
    places = everywhere if labels is None else [column_index(label, num_features, names) for label in labels]
    for place in np.flatnonzero(np.bincount(places) > 1).tolist():
        twice = " and as ".join(repr(label) for label, at in zip(labels or (), places, strict=True) if at == place)
        raise ValueError(f"{column_label(place, names)} is given twice, as {twice}")
    table = cells
    if places != everywhere:
        table = np.full((len(cells), num_features), np.nan, cells.dtype if cells.dtype.kind == "f" else object)
        table[:, places] = cells

    # What is observed.
    try:
        missing = pd.isna(table)
    except ArithmeticError:
        raise ValueError("a signalling NaN cannot be observed; use NaN for a missing cell") from None
    if isinstance(observed, np.ma.MaskedArray):
        missing |= np.ma.getmaskarray(observed)
    known = ~missing
    if mask is not None:
        known = np.zeros(table.shape, bool)
        known[:, places] = _mask(mask, observed, names, cells, single)
        for row, place in np.argwhere(known & missing).tolist():
            is_dict = isinstance(observed, Mapping)
            what = "leave the column out to have it sampled" if is_dict else f"the mask says observed in row {row}"
            raise ValueError(f"{column_label(place, names)}: {table[row, place]!r} is not a value; {what}")

    # Its values, as numbers.
    values = np.full(table.shape, np.nan)
    for j in np.flatnonzero(known.any(axis=0)).tolist():
        here = known[:, j]
        try:
            values[:, j][here] = likelihood.kind(j).check(table[:, j][here])
        except ValueError as error:
            text = type(observed) is np.ndarray and observed.dtype.kind in "US"
            hint = "; an array of text cannot say what is missing: give an array of objects or a frame" if text else ""
            raise ValueError(f"{column_label(j, names)}: {error}{hint}") from None
    return Evidence(values, known, single, None if names is None else tuple(names))


def to_array(table: ArrayLike, num_features: int, likelihood: Likelihood, names: Names = None) -> NDArray[np.float64]:
    """Numbers (n, d) from an array or DataFrame: categories as codes, NaN where a cell is missing.

    The same checks as `check_evidence`; names the column and the remedy.
    """
    return check_evidence(table, num_features, likelihood, names).values


def column_label(column: int, names: Names) -> str:
    """How errors and tables call a column."""
    return f"column {column}" if names is None else f"column {names[column]!r}"


def column_index(column: Hashable, num_features: int, names: Names) -> int:
    """Index of a column given by index or name."""
    is_bool = isinstance(column, bool | np.bool_)  # True is no column, although it equals 1
    if names is not None and not is_bool and column in names:
        return list(names).index(column)
    if isinstance(column, int | np.integer) and not is_bool:
        if 0 <= column < num_features:
            return int(column)
        raise KeyError(f"unknown column {column}: the model has columns 0 to {num_features - 1}")
    known = f"columns 0 to {num_features - 1}" if names is None else f"columns {list(names)}"
    raise KeyError(f"unknown column {column!r}: the model has {known}")


def from_polars(table):
    """Polars as pandas objects, cell by cell: that needs no pyarrow."""
    polars = sys.modules.get("polars")
    if polars is not None and isinstance(table, polars.DataFrame):
        return pd.DataFrame(table.to_dict(as_series=False), dtype=object)
    return table.to_list() if polars is not None and isinstance(table, polars.Series) else table


def is_dask(table: object) -> bool:
    """Say whether a table is one of Dask, which is not imported for the question."""
    dask = sys.modules.get("dask")
    return dask is not None and bool(dask.is_dask_collection(table))


def _labels(table, names):
    """Column labels of a pandas table; None where columns go by their position."""
    labels = table.axes[-1].tolist() if isinstance(table, pd.DataFrame | pd.Series) else None
    by_number = labels is not None and all(isinstance(label, int | np.integer) for label in labels)
    return labels if by_number or names is not None else None


def _cells(table):
    """Return the cells of a table or row: an array of numbers, or of objects as they came."""
    try:
        # Numbers in lists stay numbers beside text.
        cells = np.asarray(table, dtype=object if isinstance(table, Sequence) else None)
    except ValueError:
        raise ValueError("the rows have different lengths; mark missing cells with NaN") from None
    if cells.dtype.kind == "c":
        raise TypeError("complex numbers cannot be observed")
    if cells.dtype.kind in "mM":
        raise TypeError("dates and times cannot be observed: give numbers, such as days since the first")
    if cells.dtype == object and cells.ndim == 1 and any(isinstance(cell, list | tuple) for cell in cells):
        raise ValueError("the rows have different lengths; mark missing cells with NaN")
    return cells if cells.dtype.kind in "fiub" else cells.astype(object)


def _mask(mask, observed, names, cells, single):
    """Return the mask as booleans, (n, k) or (k,), in the order of the cells (n, k)."""
    if isinstance(mask, pd.DataFrame | pd.Series):
        by_label = isinstance(observed, pd.DataFrame | pd.Series)
        axes = observed.axes if by_label else [pd.Index(range(cells.shape[1]) if names is None else names)]
        for back, (have, want) in enumerate(zip(mask.axes[::-1], axes[::-1], strict=False), start=1):
            if pd.RangeIndex in (type(have), type(want)) and have.intersection(want).empty:
                continue  # only one of the two has labels
            if not have.equals(want) and not (have.is_unique and want.isin(have).all()):
                raise ValueError("the mask has other labels than the values; mask.to_numpy() goes by position")
            if isinstance(mask, pd.DataFrame) and back == 1:
                mask = mask.reindex(columns=want)
            else:
                mask = mask.reindex(index=want)
    mask = np.asarray(mask, dtype=None if isinstance(mask, np.ndarray) else object)
    found = pd.api.types.infer_dtype(mask.ravel(), skipna=False)
    if found != "boolean":
        raise TypeError(f"the mask must be boolean (True means observed), got {found}")
    if mask.shape not in (cells.shape, cells.shape[1:]):
        raise ValueError(f"the mask has shape {mask.shape}, the values have {cells.shape[single:]}")
    return mask.astype(bool)
