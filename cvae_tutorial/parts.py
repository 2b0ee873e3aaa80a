"""Tables in parts, as Dask holds them: what `sample_conditional` and the imputer need to draw them part by part.

Imported when a Dask collection is given, never before.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import lru_cache
from itertools import accumulate
from typing import Any

import numpy as np
import tensorflow as tf

from . import model as models

try:
    import cloudpickle
    import dask.array as da
    import dask.dataframe as dd
    from dask.base import compute
    from dask.delayed import delayed
except ImportError as error:
    raise ImportError("tables of Dask need the extra: pip install 'cvae_tutorial[dask]'") from error

_LOADING = threading.Lock()


def conditionals(
    draw: Callable[..., Any],
    model: models.LatentVariableModel,
    observed: Any,
    num_samples: int,
    seed: int | None,
    settings: dict[str, Any],
) -> da.Array:
    """Draw the missing columns of every part of a Dask DataFrame or array.

    Parameters
    ----------
    draw : callable
        `sample_conditional`.
    model : LatentVariableModel
        One that cloudpickle can send to other processes, such as a `VAE`.
    observed : dask.dataframe.DataFrame or dask.array.Array (n, d)
        Rows with NaN in the holes. Numbers of rows that are unknown are counted at once.
    num_samples, seed, settings
        Arguments of `sample_conditional`.

    Returns
    -------
    dask.array.Array (n, s, d)
        The values of the draws.
    """
    for name in ("mask", "start", "row_numbers"):
        if settings.pop(name) is not None:
            raise TypeError(f"{name} goes with a table in memory: of a Dask table, NaN marks the holes")
    if isinstance(observed, da.Array):
        if observed.ndim != 2:
            raise ValueError(f"a table (n, d) is needed, got {observed.ndim} axes")
        whole_rows: Any = {1: -1}
        observed = observed.rechunk(whole_rows)
        parts, known = observed.to_delayed()[:, 0].tolist(), observed.chunks[0]
    elif isinstance(observed, dd.DataFrame):
        parts, known = observed.to_delayed(), (np.nan,)
    else:
        raise TypeError(f"a Dask DataFrame or array is needed, got {type(observed).__name__}")
    sizes: Any = compute(*[delayed(len)(part) for part in parts]) if np.isnan(known).any() else known
    seed = int(np.random.default_rng().integers(2**31)) if seed is None else seed
    shape = num_samples, models.num_features(model)
    sent = send(model)
    drawn = [
        da.from_delayed(delayed(_draw_part)(draw, sent, part, first, shape, seed, settings), (size, *shape), np.float64)
        for part, first, size in zip(parts, places(sizes), sizes, strict=True)
    ]
    return da.concatenate(drawn)


def places(sizes: Sequence[int]) -> list[int]:
    """Return the place of the first row of each part in the whole table."""
    firsts = list(accumulate(sizes, initial=0))
    if firsts[-1] >= 2**31:
        raise ValueError(f"the table has {firsts[-1]:,} rows, and places end at 2,147,483,647: draw it in two tables")
    return firsts[:-1]


def send(model: Any) -> Any:
    """Return the model or imputer as bytes that every worker gets once."""
    return delayed(cloudpickle.dumps(model))


# In the workers


def _draw_part(draw, sent, part, first, shape, seed, settings):
    """Return the draws (n, s, d) of one part."""
    if not len(part):
        return np.empty((0, *shape))
    numbers = np.arange(first, first + len(part))
    return draw(loaded(sent), part, shape[0], seed=seed, row_numbers=numbers, **settings).values


def loaded(sent: bytes) -> Any:
    """Return the model or imputer that was sent, made once in a process: what is compiled for it stays."""
    with _LOADING:
        return _load(sent)


@lru_cache(maxsize=4)
def _load(sent):
    if "distributed" in sys.modules:
        from distributed import get_worker

        with suppress(ValueError, RuntimeError):  # no worker; or TensorFlow has begun, as in the user's own process
            threads = get_worker().state.nthreads
            tf.config.threading.set_inter_op_parallelism_threads(threads)
            tf.config.threading.set_intra_op_parallelism_threads(threads)
    return cloudpickle.loads(sent)
