"""`VAEImputer` on Dask DataFrames, lazily and part by part.

Imported when a Dask collection is given, never before. What a row gets follows from its label or its
place in the whole table, as in memory, so the parts may be cut anywhere and computed anywhere.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from sklearn import config_context
from sklearn.utils.validation import check_is_fitted, validate_data

from ..parts import compute, da, dd, delayed, loaded, places, send
from .imputer import VAEImputer, _Empty


def impute(imputer: VAEImputer, table: Any, method: str, num_tables: int, settings: Sequence[Any] = ()) -> list[Any]:
    """Call a method of the imputer on every part of a Dask DataFrame.

    Parameters
    ----------
    imputer : VAEImputer
        A fitted one.
    table : dask.dataframe.DataFrame
        Rows with holes. If its divisions are known whole numbers, nothing is read; otherwise its
        index is, once, to learn the labels or places of the rows.
    method : {"transform", "sample_imputations"}
    num_tables : int
        Tables that the method returns for a part.
    settings : sequence
        Further arguments of the method.

    Returns
    -------
    list of dask.dataframe.DataFrame, or of dask.array.Array (n, d)
        As the imputer's ``set_output`` says. Arrays are of floats, their numbers of rows unknown.
    """
    if not isinstance(table, dd.DataFrame):
        raise TypeError(f"a Dask DataFrame is needed, got {type(table).__name__}: make one with dd.from_dask_array")
    check_is_fitted(imputer)
    imputer._check_settings()
    meta = _meta(imputer, table._meta)
    sent = send(imputer)
    firsts = _first_numbers(table)
    filled: list[Any] = [
        delayed(_impute_part)(sent, part, first, meta, method, num_tables, tuple(settings))
        for part, first in zip(table.to_delayed(), firsts, strict=True)
    ]
    tables = []
    for number in range(num_tables):
        parts = [part[number] for part in filled]
        if isinstance(meta, pd.DataFrame):
            tables.append(dd.from_delayed(parts, meta, table.divisions, verify_meta=False))
        else:
            arrays = [da.from_delayed(part, (np.nan, meta.shape[1]), meta.dtype) for part in parts]
            tables.append(da.concatenate(arrays, allow_unknown_chunksizes=True))
    return tables


# In the workers


def _impute_part(sent, part, first, meta, method, num_tables, settings):
    """Return what ``method`` makes of one part: a list of frames or arrays."""
    if not len(part):
        return [meta] * num_tables
    labels = part.index
    if first is not None:
        part = part.set_axis(range(first, first + len(part)), axis=0)
    elif not labels.is_unique:
        twice = labels[labels.duplicated()].tolist()[0]
        raise ValueError(f"two rows have the label {twice!r}: after ddf.clear_divisions() rows go by their places")
    as_frame = isinstance(meta, pd.DataFrame)
    with config_context(transform_output="pandas" if as_frame else "default"):  # as where the graph was made
        made = getattr(loaded(sent), method)(part, *settings)
    filled = made if isinstance(made, list) else [made]
    if not as_frame:
        return [table.astype(meta.dtype) for table in filled]
    for name, dtype in filled[0].dtypes.items():
        if dtype != meta.dtypes[name]:
            what = f"column {name!r} of a part comes back as {dtype}, that of the fitted table as {meta.dtypes[name]}"
            raise ValueError(f"{what}: change it with ddf.astype")
    return [table.set_axis(labels, axis=0) for table in filled]


# Where the graph is made


def _meta(imputer, meta):
    """Return an empty result, with names and dtypes, for an empty frame; refuses other columns than the fitted."""
    validate_data(imputer, meta, reset=False, skip_check_array=True)
    container = type(_Empty.transform(imputer, None))
    if container not in (np.ndarray, pd.DataFrame):
        raise TypeError(f"Dask holds no {container.__module__} frames: call set_output(transform='pandas')")
    frame = imputer._with_holes(meta.iloc[:0].set_axis(range(meta.shape[1]), axis=1))
    nothing = np.empty(frame.shape)
    empty = imputer._finish(frame, nothing.astype(bool), nothing, container)
    if isinstance(empty, pd.DataFrame):
        return empty.set_axis(meta.index[:0], axis=0)
    return empty if empty.dtype.kind == "f" else empty.astype(float)


def _first_numbers(table) -> list[int | None]:
    """Return the number of the first row of each part; None where the rows of all parts go by their labels.

    The rule is that of tables in memory: different whole numbers are labels, else places count.
    """
    by_label: list[int | None] = [None] * table.npartitions
    ends = table.divisions
    if all(isinstance(end, int | np.integer) for end in ends) and ends[0] >= 0 and ends[-1] < 2**31:
        return by_label
    looks = compute(*[delayed(_look)(part) for part in table.index.to_delayed()])
    spans = sorted(span for size, span in looks if size and span)
    if len(spans) == sum(size > 0 for size, _ in looks):
        widest, doubtful = (-1, -1, True), False
        for span in spans:
            if span[0] <= widest[1]:
                if span[2] and widest[2]:  # both hold every number of their span: a label stands twice
                    break
                doubtful = True
            widest = max(widest, span, key=lambda s: s[1])
        else:
            if doubtful:
                raise ValueError(
                    "parts of the table may share row labels: sort it by its index (ddf.set_index), or give it the "
                    "labels 0, 1, ... in every part (ddf.reset_index(drop=True)), and rows go by their places"
                )
            return by_label
    first: list[int | None] = [*places([size for size, _ in looks])]
    return first


def _look(labels):
    """Size of a part, and its lowest and highest label and whether all between them are there, or None."""
    whole = len(labels) and pd.api.types.is_integer_dtype(labels.dtype) and labels.is_unique
    if not whole or labels.min() < 0 or labels.max() >= 2**31:
        return len(labels), None
    low, high = int(labels.min()), int(labels.max())
    return len(labels), (low, high, high - low + 1 == len(labels))
