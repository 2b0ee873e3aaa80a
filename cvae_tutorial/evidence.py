"""What the user observed, checked before anything is computed.

The word is always *observed*: True in a mask means that the value is known.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from .likelihoods import Bernoulli, Categorical, kind_of

_NUMBERS = "fiub"  # kinds of arrays whose cells need not be looked at one by one


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

    values: np.ndarray
    observed: np.ndarray
    single: bool
    names: tuple | None


def check_evidence(observed, num_features, likelihood, names=None, mask=None):
    """Turn what the user observed into `Evidence`.

    Parameters
    ----------
    observed : mapping, array or table
        ``{column: value}`` with indices or names; one row (d,) or a table (n, d) with NaN in the
        holes (NumPy, pandas, nested lists, masked arrays).
    num_features : int
        Columns of the model, d.
    likelihood : likelihood
        Likelihood of the columns, which says what values they take.
    names : sequence of str, optional
        Column names.
    mask : array of bool, optional
        True where ``observed`` holds a known value; the other cells are ignored.

    Returns
    -------
    Evidence

    Raises
    ------
    ValueError, TypeError, KeyError
        With the column and the remedy.
    """
    if isinstance(observed, Mapping) and not hasattr(observed, "columns"):
        if mask is not None:
            raise TypeError("a mask goes with an array; a dict says by its keys what is observed")
        table = _row_from_mapping(observed, num_features, names)
        single = True
    else:
        if isinstance(observed, np.ma.MaskedArray):
            if mask is None:
                mask = ~np.ma.getmaskarray(observed)
            observed = observed.data
        table, mask, single = _table(observed, mask, num_features, names)
        if mask is not None:
            table = _apply_mask(table, mask, single, names)
    values = np.column_stack(
        [_column(table[:, j], kind_of(likelihood, j), column_label(j, names)) for j in range(num_features)]
    )
    return Evidence(values, ~np.isnan(values), single, None if names is None else tuple(names))


def to_array(table, num_features, likelihood, names=None):
    """Numbers (n, d) from an array or DataFrame: categories as codes, NaN where a cell is missing.

    The same checks as `check_evidence`; names the column and the remedy.
    """
    return check_evidence(table, num_features, likelihood, names).values


def column_label(column, names):
    """How errors and tables call a column."""
    return f"column {column}" if names is None else f"column {names[column]!r}"


def column_index(column, num_features, names):
    """Index of a column given by index or name."""
    if names is not None and not isinstance(column, bool | np.bool_) and column in names:
        return list(names).index(column)
    if isinstance(column, int | np.integer) and not isinstance(column, bool | np.bool_):
        if 0 <= column < num_features:
            return int(column)
        raise KeyError(f"unknown column {column}: the model has columns 0 to {num_features - 1}")
    known = f"columns 0 to {num_features - 1}" if names is None else f"columns {list(names)}"
    raise KeyError(f"unknown column {column!r}: the model has {known}")


def _row_from_mapping(observed, num_features, names):
    row = np.full((1, num_features), None, dtype=object)
    seen = {}
    for key, value in observed.items():
        column = column_index(key, num_features, names)
        if column in seen:
            raise ValueError(f"{column_label(column, names)} is given twice, as {seen[column]!r} and as {key!r}")
        seen[column] = key
        if _is_container(value):
            raise ValueError(
                f"{column_label(column, names)}: one value is needed, got a {type(value).__name__}; "
                "give a table for several rows"
            )
        if _is_missing(value):
            raise ValueError(
                f"{column_label(column, names)}: {value!r} is not a value; leave the column out to have it sampled"
            )
        row[0, column] = value
    return row


def _table(observed, mask, num_features, names):
    """An object array (n, d) and the mask in the model's column order, and whether one row was given."""
    single = False
    if hasattr(observed, "to_frame") and not hasattr(observed, "columns"):  # a pandas Series is one row
        observed, single = observed.to_frame().T, True
    if hasattr(observed, "columns"):
        columns = list(observed.columns)
        repeated = {name for name in columns if columns.count(name) > 1}
        if repeated:
            raise ValueError(f"column {sorted(repeated, key=str)[0]!r} stands twice in the table")
        if hasattr(mask, "reindex"):  # a pandas mask goes by its own labels
            labels = "columns" if hasattr(mask, "columns") else "index"
            mask = mask.reindex(**{labels: columns}).to_numpy()
        table = observed.to_numpy()
        if table.dtype.kind not in _NUMBERS:
            table = observed.to_numpy(dtype=object)
        if mask is not None:
            mask = _as_mask(mask, table, single)
        numbered = list(range(num_features))
        if columns != numbered and (names is not None or all(type(c) in (int, np.int64) for c in columns)):
            order = numbered if names is None else list(names)
            places = [column_index(name, num_features, names) if name in order else None for name in columns]
            if None in places:
                unknown = columns[places.index(None)]
                known = f"0 to {num_features - 1}" if names is None else order
                raise KeyError(f"unknown column {unknown!r}: the model has columns {known}")
            wide = np.full((len(table), num_features), None, dtype=object)
            wide[:, places] = table
            if mask is not None:
                narrow, mask = mask, np.zeros(wide.shape, bool)
                mask[:, places] = narrow
            table = wide
    else:
        try:
            # Typed arrays show what they hold; lists keep their cells as they are, numbers as numbers.
            typed = hasattr(observed, "__array__")
            table = np.asarray(observed) if typed else np.asarray(observed, dtype=object)
        except ValueError as error:
            raise ValueError("the rows have different lengths; mark missing cells with NaN") from error
        if table.dtype.kind == "c":
            raise TypeError("complex numbers cannot be observed")
        if table.dtype.kind in "mM":
            raise TypeError("dates and times cannot be observed: give numbers, such as days since the first")
        if table.dtype == object and any(isinstance(cell, list | tuple) for cell in table.flat):
            raise ValueError("the rows have different lengths; mark missing cells with NaN")
        if table.dtype.kind not in _NUMBERS:
            table = table.astype(object)
    if table.ndim == 1:
        table, single = table[None], True
    if table.ndim != 2:
        raise ValueError(f"a row (d,) or a table (n, d) is needed, got {table.ndim} axes")
    if table.shape[1] != num_features:
        raise ValueError(
            f"{table.shape[1]} columns given, the model has {num_features}; mark columns to be sampled with NaN"
        )
    if not len(table):
        raise ValueError("the table has no rows")
    return table, mask, single


def _as_mask(mask, table, single):
    """The mask as booleans (n, d), checked against the table."""
    try:
        mask = np.asarray(mask)
    except ValueError:
        mask = np.asarray(mask, dtype=object)
    if mask.dtype != bool:
        raise TypeError(f"the mask must be boolean (True means observed), got {mask.dtype}")
    expected = table.shape[1:] if single else table.shape
    if mask.shape not in (expected, table.shape, table.shape[1:]):
        raise ValueError(f"the mask has shape {mask.shape}, the values have {expected}")
    return np.broadcast_to(mask, table.shape)


def _apply_mask(table, mask, single, names):
    mask = _as_mask(mask, table, single)
    missing = _missing(table)
    if (missing & mask).any():
        row, column = np.argwhere(missing & mask)[0]
        raise ValueError(
            f"{column_label(column, names)}, row {row}: the mask says observed, but the value is missing"
        )
    return np.where(mask, table.astype(object), None)


def _column(cells, kind, label):
    """One column as floats: categories as codes, NaN where missing; checked."""
    missing = _missing(cells)
    values = np.full(len(cells), np.nan)
    known = cells[~missing]
    if isinstance(kind, Categorical):
        values[~missing] = _codes(known, kind, label)
        return values
    try:
        numbers = known.astype(float)
        wrong = list(known[np.isnan(numbers)])  # such as the text "nan"
    except (TypeError, ValueError, OverflowError):
        wrong = [cell for cell in known if not _is_number(cell)] or [known[0]]
    if wrong:
        text = repr(wrong[0])
        text = text if len(text) < 60 else text[:57] + "..."
        raise ValueError(f"{label}: {text} is not a number; use NaN for a missing cell")
    if np.isinf(numbers).any():
        raise ValueError(f"{label}: infinite values cannot be observed; use NaN for a missing cell")
    if isinstance(kind, Bernoulli) and not np.isin(numbers, (0.0, 1.0)).all():
        wrong = numbers[~np.isin(numbers, (0.0, 1.0))][0]
        raise ValueError(f"{label} is Bernoulli: its values are 0 and 1, got {wrong:g}")
    values[~missing] = numbers
    return values


def _codes(cells, kind, label):
    named = not isinstance(kind.categories, int | np.integer)
    names = list(kind.categories) if named else list(range(kind.categories))
    codes = {name: code for code, name in enumerate(names)}
    out = np.empty(len(cells))
    for i, cell in enumerate(cells.tolist()):
        try:
            out[i] = codes[cell]
        except (KeyError, TypeError):
            raise ValueError(f"{label}: category {cell!r} was never seen; known are {names}") from None
    return out


def _missing(cells):
    """True where a cell of an array is missing, in the array's shape."""
    if cells.dtype != object:
        return np.isnan(cells)
    return np.array([_is_missing(cell) for cell in cells.ravel()], dtype=bool).reshape(cells.shape)


def _is_missing(cell):
    if cell is None:
        return True
    try:
        return bool(cell != cell)  # NaN and NaT differ from themselves
    except TypeError:  # pandas.NA answers neither yes nor no
        return True
    except (ValueError, ArithmeticError):  # an array, a signalling NaN: no hole, and no value either
        return False


def _is_container(value):
    try:
        return np.ndim(value) != 0
    except ValueError:  # lists of different lengths
        return True


def _is_number(cell):
    try:
        return not math.isnan(float(cell)) and not _is_container(cell)
    except (TypeError, ValueError, OverflowError):
        return False
