"""`VAEImputer`: a scikit-learn transformer that fills the holes of a table from a VAE trained on it."""

from __future__ import annotations

import json
import math
import threading
import warnings
from collections.abc import Hashable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from itertools import chain, cycle, islice, repeat
from numbers import Integral, Real
from os import PathLike
from typing import Any, Protocol, TypeAlias, overload

import keras
import numpy as np
import pandas as pd
import tensorflow as tf
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, OneToOneFeatureMixin, TransformerMixin
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils import check_random_state, check_scalar
from sklearn.utils.validation import check_is_fitted, validate_data

from ..draws import SamplingWarning, diagnose
from ..evidence import column_label, from_polars, is_dask, to_array
from ..likelihoods import Categorical, Columns, Likelihood, Normal
from ..model import VAE
from ..samplers import METHODS, Auto, Laplace, Sampler, as_sampler
from ..sampling import sample_conditional
from .factors import fit_factors, networks

_EPOCH = 50  # gradient steps between two looks at the held-out rows
_MAX_HELD_OUT = 5_000
_POOL = 5  # imputations that are drawn together
_ROWS_CHECKED = 50  # of a block, for warnings
_FORMAT = 2
_AUTO = Auto(first=Laplace(num_starts=4))  # few climbs, as the encoder has seen rows with holes
_SHARED = threading.Lock()  # threads share the filters of warnings and the noise of a model

Table: TypeAlias = ArrayLike | pd.DataFrame
Bound: TypeAlias = float | Mapping[Hashable, float] | None
Filled: TypeAlias = NDArray | pd.DataFrame
RandomState: TypeAlias = int | np.random.RandomState | None


class DaskFrame(Protocol):
    """What a type checker sees of a Dask DataFrame, which need not be installed."""

    @property
    def npartitions(self) -> int:
        """Number of parts."""
        ...

    def compute(self) -> Any:
        """Bring it into memory."""


@dataclass(kw_only=True, eq=False, repr=False)  # its constructor alone: scikit-learn does the rest
class VAEImputer(OneToOneFeatureMixin, TransformerMixin, BaseEstimator):
    """Fill the missing cells of a table from a variational autoencoder trained on its incomplete rows.

    `fit` trains a `VAE` on the observed cells alone [1]_, `transform` and `sample_imputations` draw
    the missing cells of each row given its observed ones with `sample_conditional`.

    What comes back: with arrays (the default), numbers. Text categories are their codes 0, 1, ... in
    sorted order, which `inverse_transform` turns back; every other observed cell is what it was, to
    the bit. With ``set_output(transform="pandas")`` or ``"polars"``, a frame of the user's own values, with
    integer, boolean and categorical columns as they were fitted. Imputed cells of integer columns are whole.

    Parameters
    ----------
    strategy : {"mean", "sample"}
        What `transform` puts into a hole. ``"mean"`` (default), the mean over ``num_draws`` draws (of
        categories and booleans the most frequent), has the smallest squared error and suits
        prediction. It narrows spreads and inflates correlations; ``"sample"``, one draw, does not.
        For estimates with standard errors use `sample_imputations` and pool.
    num_draws : int
        Draws behind a mean.
    likelihood : likelihood or mapping, optional
        `Transformed`, `Normal`, `Bernoulli`, `Categorical` or `Columns`, or those of some columns by name.
        What is left out is guessed, as `Columns.from_frame` does: numbers stay within what was
        observed and are whole where all are whole, two values are two categories. ``kinds_`` says what
        was guessed.
    min_value, max_value : float or mapping, optional
        Lowest and highest value that numbers can have, of all columns or of some by name. By default
        the lowest and the highest that was observed.
    min_scale : float
        Smallest noise of a number given z, as a fraction of the column's spread.
    latent_dim : int, optional
        Latent dimensions l; by default half the columns, at least 1 and at most 10.
    hidden : sequence of int
        Widths of the hidden layers of encoder and decoder.
    num_importance : int
        Draws K in the importance-weighted bound.
    max_iter : int
        Gradient steps at most, in epochs of about 50.
    batch_size : int
        Rows per step.
    learning_rate : float
        Step size of Adam, which falls to zero over ``max_iter`` steps (cosine).
    validation_fraction : float
        Share of the rows held out (5,000 rows at most), whose bound decides when to stop. 0 trains
        on all rows and watches their bound.
    patience : int
        Stop after so many steps without a better bound, in whole epochs; the best weights are kept.
    method : str or method object
        How to draw, as in `sample_conditional`; ``"auto"`` with fewer climbs than there.
    num_models : int
        Models, each trained on a bootstrap sample of the rows if there are several; imputations are drawn
        from them in turn. One model leaves out how uncertain its weights are; five or more make the
        imputations proper, so that pooled intervals are not too narrow for that reason [2]_.
    missing_values : number or str
        What marks a hole, besides NaN and None, which always do.
    handle_unknown : {"error", "ignore"}
        What to do with a category that `fit` has not seen: refuse the table, or take the cell for no
        evidence and leave it as it came (NaN in arrays, which have no code for it).
    add_indicator : bool
        Append a column for every column that had holes in `fit`, which says where they are.
    keep_empty_features : bool
        A column without any observed value cannot be learned. False leaves it out of the result,
        True returns it as it came, holes included. Either way `fit` warns.
    random_state : int, RandomState instance or None
        Same integer, same bits, on one machine, in any thread; no other generator is read or changed.
    verbose : int
        1 shows the progress of `fit` (Keras's own) and of `transform`.

    Attributes
    ----------
    vae_ : VAE or None
        The trained model of the columns that vary, in data units; None if none does. With several, the first.
    vaes_ : list of VAE
        All models.
    kinds_ : dict
        Likelihood of every column that varies, by name: what it can hold.
    n_iter_ : int
        Gradient steps taken.
    bound_ : float
        Best bound on the held-out rows, in nats per row.
    n_features_in_, feature_names_in_
        As in scikit-learn.

    References
    ----------
    .. [1] Mattei and Frellsen (2019), MIWAE.
    .. [2] Rubin (1987), Multiple imputation for nonresponse in surveys. von Hippel and Bartlett (2021),
       Maximum likelihood multiple imputation.

    Examples
    --------
    >>> imputer = VAEImputer(random_state=0).set_output(transform="pandas")
    >>> filled = imputer.fit_transform(frame)  # doctest: +SKIP
    >>> five = imputer.sample_imputations(frame, 5)  # doctest: +SKIP
    """

    strategy: str = "mean"
    num_draws: int = 100
    likelihood: Likelihood | Mapping[Hashable, Likelihood] | None = None
    min_value: Bound = None
    max_value: Bound = None
    min_scale: float = 0.01
    latent_dim: int | None = None
    hidden: Sequence[int] = (64, 64)
    num_importance: int = 5
    max_iter: int = 1_500
    batch_size: int = 128
    learning_rate: float = 2e-3
    validation_fraction: float = 0.1
    patience: int = 300
    method: str | Sampler | Auto = "auto"
    num_models: int = 1
    missing_values: Any = np.nan
    handle_unknown: str = "error"
    add_indicator: bool = False
    keep_empty_features: bool = False
    random_state: RandomState = None
    verbose: int = 0

    def fit(self, X: Table, y: object = None) -> VAEImputer:
        """Train on the observed cells of ``X`` (n, d), an array or a frame with holes; ``y`` is ignored."""
        self._check_settings()
        frame = self._frame(X, reset=True)
        self.seed_ = int(check_random_state(self.random_state).randint(2**31 - 1))
        kinds = self._describe(frame)
        self.kinds_ = kinds
        self.vaes_: list[VAE] = []
        self.n_iter_, self.bound_ = 1, 0.0
        if not self.kept_:
            raise ValueError("the table has no observed value at all")
        if kinds:
            table = self._named(frame)
            several = range(self.num_models) if self.num_models > 1 else [None]
            self.vaes_ = [self._train(table, Columns(kinds), number) for number in several]
        return self

    @property
    def vae_(self) -> VAE | None:
        """The first model, or None."""
        check_is_fitted(self)
        return self.vaes_[0] if self.vaes_ else None

    @overload
    def transform(self, X: DaskFrame) -> Any: ...
    @overload
    def transform(self, X: Table) -> Filled: ...
    def transform(self, X: Any) -> Any:
        """Fill the holes of ``X`` (n, d) as ``strategy`` says; observed cells stay what they are.

        Of a Dask DataFrame, lazily and part by part, with the bits that it would get in memory.
        """
        if is_dask(X):
            from . import dask as lazy

            return lazy.impute(self, X, "transform", 1)[0]
        mean = self.strategy == "mean"
        return next(self._tables(X, self.num_draws if mean else 1, mean))

    @overload
    def sample_imputations(self, X: DaskFrame, m: int = 5, random_state: RandomState = None) -> list[Any]: ...
    @overload
    def sample_imputations(self, X: Table, m: int = 5, random_state: RandomState = None) -> list[Filled]: ...
    def sample_imputations(self, X: Any, m: int = 5, random_state: RandomState = None) -> list[Any]:
        """Multiple imputation: ``m`` filled tables, each hole with a draw of its own in each.

        Draws vary as p(x_m | x_o) of the trained models does. The first tables are the same whatever
        ``m``. What a row gets follows from ``random_state`` and from the row's label in a frame that is
        labelled by different whole numbers, else from its place: parts of such a frame get what the whole
        would.

        Parameters
        ----------
        X : array or DataFrame (n, d)
            Rows with holes. A Dask DataFrame gives Dask collections: compute them together.
        m : int
            Number of tables.
        random_state : int, RandomState instance or None
            By default the imputer's own, so that a second call returns the same tables.

        Returns
        -------
        list of array (n, d) or DataFrame
            What `transform` would return, ``m`` times.
        """
        check_scalar(m, "m", Integral, min_val=1)
        if is_dask(X):
            from . import dask as lazy

            return lazy.impute(self, X, "sample_imputations", m, (m, random_state))
        return list(islice(self._tables(X, _POOL, False, random_state), m))

    def inverse_transform(self, X: Table) -> pd.DataFrame:
        """Turn numbers that `transform` returned into a frame (n, d) of the user's own values.

        It has the names, categories, integers and booleans of the table that was fitted.
        """
        check_is_fitted(self)
        names = self.get_feature_names_out()
        frame = _pandas(X) if hasattr(X, "columns") else pd.DataFrame(np.asarray(X))
        if frame.shape[1] != len(names):
            raise ValueError(f"{frame.shape[1]} columns given, the imputer returns {len(names)}")
        columns = {}
        for place, j in enumerate(self.kept_):
            column = frame.iloc[:, place]
            is_code = column.notna().to_numpy() & pd.api.types.is_numeric_dtype(column.dtype)  # names stay names
            columns[place] = self._filled(j, column, is_code, column[is_code].to_numpy(float))
        return pd.DataFrame(columns, frame.index).set_axis(names[: len(self.kept_)], axis=1)

    inverse = inverse_transform

    def score(self, X: Table, y: object = None) -> float:
        """Mean bound (100 draws) on log p(x_o) of the rows of ``X``, in nats per row."""
        check_is_fitted(self)
        frame = self._frame(X, reset=False)
        if self.vae_ is None:
            return 0.0
        rows = to_array(self._named(frame), len(self.modelled_), self.vae_.likelihood, self.vae_.feature_names)
        with _SHARED:
            self.vae_.noise.state.assign([self.seed_, 0])  # the same draws every time
            parts = [self.vae_.bound(rows[i : i + 1000], 100)[0].numpy() for i in range(0, len(rows), 1000)]
        return float(np.concatenate(parts).mean(dtype=float))

    def get_feature_names_out(self, input_features: ArrayLike | None = None) -> NDArray:
        """Names of the columns that `transform` returns."""
        names: Any = super().get_feature_names_out(input_features)
        return np.append(names[self.kept_], [f"missingindicator_{names[j]}" for j in self.indicated_]).astype(object)

    def save(self, path: str | PathLike) -> None:
        """Write the fitted imputer to one file: JSON and plain arrays in an npz, no pickle."""
        check_is_fitted(self)
        state: dict[str, Any] = self.__getstate__()
        models = state.pop("vaes_")
        params: dict[str, Any] = {name: state.pop(name) for name in self.get_params(deep=False)}
        if not isinstance(params["random_state"], Integral | None):
            raise TypeError("only an imputer with an integer random_state (or None) can be saved")
        likelihood = params["likelihood"]
        if isinstance(likelihood, Mapping):
            params["likelihood"] = [
                [name, keras.saving.serialize_keras_object(kind)] for name, kind in likelihood.items()
            ]
        else:
            params["likelihood"] = keras.saving.serialize_keras_object(likelihood)
        state["kinds_"] = [keras.saving.serialize_keras_object(kind) for kind in state["kinds_"].values()]
        params["method"] = _stored(params["method"])
        for name in (name for names in state["categories_"] for name in names or ()):
            if not isinstance(name, str | int | float | np.generic):
                raise TypeError(f"only text and numbers can be saved as categories, got {name!r}")
        stored = {
            "format": _FORMAT,
            "params": params,
            "state": state,
            "vaes": [(config, len(own)) for config, own in models],
        }
        weights = [weight for _, own in models for weight in own]
        arrays: dict[str, Any] = {"settings": json.dumps(stored, default=lambda a: a.tolist())}
        with open(path, "wb") as file:
            np.savez_compressed(file, **arrays, **{f"weight_{i}": weight for i, weight in enumerate(weights)})

    @classmethod
    def load(cls, path: str | PathLike) -> VAEImputer:
        """Read what `save` wrote."""
        with np.load(path, allow_pickle=False) as file:
            arrays = dict(file)
        if "settings" not in arrays:
            raise ValueError(f"{path} was not written by VAEImputer.save")
        stored = json.loads(str(arrays.pop("settings")))
        if stored["format"] != _FORMAT:
            raise ValueError(f"{path} has format {stored['format']}, this version reads {_FORMAT}")
        params, state = stored["params"], stored["state"]
        params["hidden"] = tuple(params["hidden"])
        likelihood = params["likelihood"]
        if isinstance(likelihood, list):
            params["likelihood"] = {name: keras.saving.deserialize_keras_object(kind) for name, kind in likelihood}
        else:
            params["likelihood"] = keras.saving.deserialize_keras_object(likelihood)
        params["method"] = _restored(params["method"])
        names = [state["labels_"][j] for j in state["modelled_"]]
        kinds = map(keras.saving.deserialize_keras_object, state["kinds_"])
        state["kinds_"] = dict(zip(names, kinds, strict=True))
        if "feature_names_in_" in state:
            state["feature_names_in_"] = np.array(state["feature_names_in_"], dtype=object)
        imputer = cls(**params)
        weights = iter(arrays.values())
        models = [(config, list(islice(weights, count))) for config, count in stored["vaes"]]
        imputer.__setstate__(state | {"vaes_": models})
        return imputer

    # How scikit-learn, pickle and copy see it.

    def __getstate__(self):
        own: Any = super().__getstate__()
        state = dict(own)
        if "vaes_" in state:
            state["vaes_"] = [(vae.get_config(), vae.get_weights()) for vae in state["vaes_"]]
        return state

    def __setstate__(self, state):
        models = [(VAE.from_config(config), weights) for config, weights in state.get("vaes_", ())]
        for vae, weights in models:
            vae.set_weights(weights)
        super().__setstate__(state | ({"vaes_": [vae for vae, _ in models]} if "vaes_" in state else {}))

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        return tags

    # The table. Columns are known by their place j; each has a number for every value.

    def _check_settings(self):
        if self.strategy not in ("mean", "sample"):
            raise ValueError(f"strategy must be 'mean' or 'sample', got {self.strategy!r}")
        if self.handle_unknown not in ("error", "ignore"):
            raise ValueError(f"handle_unknown must be 'error' or 'ignore', got {self.handle_unknown!r}")
        if not pd.api.types.is_scalar(self.missing_values):
            raise TypeError(f"missing_values is one value, such as -1 or 'unknown', got {self.missing_values!r}")
        for name in ("num_draws", "max_iter", "batch_size", "patience", "num_models"):
            check_scalar(getattr(self, name), name, Integral, min_val=1)
        if self.latent_dim is not None:
            check_scalar(self.latent_dim, "latent_dim", Integral, min_val=1)
        hidden = self.hidden if isinstance(self.hidden, list | tuple) else [0]
        if not all(isinstance(width, int | np.integer) and width > 0 for width in hidden):
            raise ValueError(f"hidden must be a sequence of positive widths, got {self.hidden!r}")
        share = self.validation_fraction
        check_scalar(share, "validation_fraction", Real, min_val=0, max_val=1, include_boundaries="left")
        as_sampler(self.method)

    def _frame(self, X: Any, reset):
        """``X`` as a frame with columns 0, 1, ..., after scikit-learn's checks."""
        if isinstance(X, np.ma.MaskedArray):
            X = np.ma.filled(X.astype(float), np.nan)
        if hasattr(X, "collect") or hasattr(X, "compute"):
            what = f"{type(X).__name__} is no table in memory: call its collect() or compute() first"
            raise TypeError(f"{what}, on a sample if it is large")
        if not hasattr(X, "columns"):
            X = validate_data(self, X, reset=reset, dtype=None, ensure_all_finite=False)
            if X.dtype.kind in "US" and (X == "nan").any() and self.missing_values != "nan":
                what = "the array holds the text 'nan': NumPy makes it of NaN among words"
                raise ValueError(f"{what}. Give a DataFrame or dtype=object, or say missing_values='nan'")
            return self._with_holes(pd.DataFrame(X).infer_objects())
        frame: Any = _pandas(X)
        if 0 in frame.shape:
            raise ValueError(f"the table has no {'rows' if len(frame) == 0 else 'columns'}: its shape is {frame.shape}")
        if frame.columns.has_duplicates:
            raise ValueError(f"column {frame.columns[frame.columns.duplicated()][0]!r} stands twice in the table")
        validate_data(self, frame, reset=reset, skip_check_array=True)
        return self._with_holes(frame.set_axis(range(frame.shape[1]), axis=1))

    def _with_holes(self, frame):
        """Return the frame with holes where ``missing_values`` stands; columns of integers stay such."""
        if pd.isna(self.missing_values):
            return frame
        marked = (frame == self.missing_values).fillna(False).astype(bool)
        columns = {}
        for j, column in frame.items():
            whole = isinstance(column.dtype, np.dtype) and column.dtype.kind in "iu" and marked[j].any()
            columns[j] = (column.convert_dtypes() if whole else column).mask(marked[j])
        return pd.DataFrame(columns, frame.index)

    def _named(self, frame):
        """Return the modelled columns under their own names, with holes for categories that are to be ignored."""
        ignored = [j for j in self.modelled_ if self.handle_unknown == "ignore" and self.categories_[j] is not None]
        known = {j: frame[j].where(frame[j].isin(self.categories_[j])) for j in ignored}
        return pd.DataFrame({j: known.get(j, frame[j]) for j in self.modelled_}).set_axis(
            [self.labels_[j] for j in self.modelled_], axis=1
        )

    def _describe(self, frame):
        """Note of every column what it holds; return the likelihoods ``{name: kind}`` of those that vary."""
        self.labels_ = list(getattr(self, "feature_names_in_", frame))
        self.types_, self.dtypes_, self.categories_, self.constants_, kinds = [], [], [], [], {}
        for (j, column), kind in zip(frame.items(), self._given_kinds(), strict=True):
            label, known, constant, categories = self.labels_[j], column.dropna(), False, None
            with suppress(TypeError):  # of cells that cannot be hashed: the likelihood refuses them
                constant = known.nunique() == 1
            if len(known) and not constant:
                kinds[label] = kind = self._guess(label, column) if kind is None else kind
            declared = isinstance(column.dtype, pd.CategoricalDtype)
            if isinstance(kind, Categorical):
                categories = kind.decode(np.arange(kind.num_categories)).tolist()
            elif declared:
                categories = column.cat.categories.tolist()
            elif constant and kind is None and not pd.api.types.is_numeric_dtype(known.infer_objects().dtype):
                categories = [known.iloc[0]]
            self.types_.append(pd.api.types.infer_dtype(known))
            self.dtypes_.append("ordered category" if declared and column.cat.ordered else str(column.dtype))
            self.categories_.append(categories)
            self.constants_.append(float(self._encode(j, known.iloc[:1])[0]) if constant else None)
        empty = [j for j in frame if frame[j].isna().all()]
        if empty:
            keep, names = self.keep_empty_features, ", ".join(column_label(j, self.labels_) for j in empty)
            fate = f"{'come back as they are' if keep else 'are left out'} (keep_empty_features={keep})"
            warnings.warn(f"no observed value in {names}: such columns {fate}", stacklevel=3)
        self.indicated_ = [j for j in frame if self.add_indicator and frame[j].isna().any()]
        self.modelled_ = [j for j in frame if self.labels_[j] in kinds]
        self.kept_ = [j for j in frame if self.keep_empty_features or j not in empty]
        return kinds

    def _guess(self, label, column):
        """Guess what a column can hold, within the bounds that are given for it."""
        return Columns.from_frame(column.to_frame(label), self.min_value, self.max_value, self.min_scale).kind(0)

    def _given_kinds(self):
        """Return the user's likelihood, column by column; None where it is to be guessed."""
        likelihood = self.likelihood
        for setting in ("likelihood", "min_value", "max_value"):
            given = getattr(self, setting)
            for name in given if isinstance(given, Mapping) else ():
                if name not in self.labels_:
                    raise ValueError(f"{setting} names a column {name!r}, the table has {self.labels_}")
        if isinstance(likelihood, Mapping):
            return [likelihood.get(label) for label in self.labels_]
        if not isinstance(likelihood, Columns):
            return [likelihood] * len(self.labels_)
        names = list(likelihood.names or self.labels_)
        if len(likelihood.kinds) != len(self.labels_) or set(names) != set(self.labels_):
            raise ValueError(f"the likelihood describes the columns {names}, the table has {self.labels_}")
        return [likelihood.kinds[names.index(label)] for label in self.labels_]

    def _encode(self, j, column):
        """Check a column and turn it into numbers (n,), NaN in the holes."""
        label = column_label(j, self.labels_)
        if self.categories_[j] is None:
            return to_array(column.to_frame(0), 1, Normal(), self.labels_[j : j + 1])[:, 0]
        known = self._known(j)
        numbers = column.astype(object).map(dict(zip(known, known.index, strict=True))).to_numpy(float, na_value=np.nan)
        unknown = np.isnan(numbers) & column.notna().to_numpy() & (self.handle_unknown == "error")
        for cell in column[unknown]:
            raise ValueError(f"{label}: category {cell!r} was never seen; known are {self.categories_[j]}")
        return numbers

    def _known(self, j):
        """Return the categories of a column by what stands for them in an array: a number itself, else the code."""
        categories = self.categories_[j]
        codes = any(isinstance(c, bool) or not isinstance(c, Real) for c in categories)
        return pd.Series(categories, np.array(range(len(categories)) if codes else categories, float), dtype=object)

    def _filled(self, j, column, holes, numbers):
        """Put the user's own values for ``numbers`` into the ``holes`` of a column.

        It gets the dtype that it had in `fit`, where that changes no other value.
        """
        if holes.any():
            natural = pd.Series(numbers)
            if self.categories_[j] is None:
                natural = natural.map({"boolean": bool, "integer": int}.get(self.types_[j], float))
            else:
                known = self._known(j)
                natural = natural.map(known)
                for number in numbers[natural.isna()]:
                    label = column_label(j, self.labels_)
                    raise ValueError(f"{label}: {number:g} stands for no category; known are {known.to_dict()}")
            column = column.astype(object)
            column[holes] = natural.astype(object).to_numpy()
        dtype = self.dtypes_[j]
        if dtype.endswith("category"):
            dtype = pd.CategoricalDtype(self.categories_[j], ordered=dtype.startswith("ordered"))
        with suppress(TypeError, ValueError, OverflowError), np.errstate(invalid="ignore"):
            cast = column.astype(dtype)
            if cast[~holes].astype(object).equals(column[~holes].astype(object)):
                return cast
        return column.infer_objects()

    # Training and drawing.

    def _train(self, table, likelihood, number=None):
        """Train the model of this number on a bootstrap sample of the rows; the only one on all rows."""
        names = list(table)
        rows = to_array(table, len(names), likelihood, names)
        size = np.nanmax(abs(rows), axis=0)
        for j in np.flatnonzero((size < 1e-30) | (size > 1e30)).tolist():
            what = f"{column_label(j, names)} reaches up to {size[j]:.2g}, beyond single precision"
            raise ValueError(f"{what}: give it in other units")
        latent_dim = int(np.clip(len(names) // 2, 1, 10)) if self.latent_dim is None else self.latent_dim
        seed = (
            self.seed_
            if number is None
            else int(np.random.SeedSequence([self.seed_, number]).generate_state(1)[0] >> 1)
        )
        rows = np.random.default_rng(seed).permutation(rows[~np.isnan(rows).all(axis=1)].astype("float32"))
        held_out = min(round(self.validation_fraction * len(rows)), len(rows) - 1, _MAX_HELD_OUT)
        kept = rows[held_out:]
        if number is not None:
            kept = kept[np.random.default_rng([seed, 1]).integers(len(kept), size=len(kept))]
        vae = self._begin(table, likelihood, kept, latent_dim, seed)
        # One batch, every row three times: a less noisy estimate of its bound.
        watched = tf.data.Dataset.from_tensors(rows[: held_out or _MAX_HELD_OUT].repeat(3, axis=0))
        train = tf.constant(kept)
        epochs = max(1, round(self.max_iter / _EPOCH))
        steps = self.max_iter // epochs
        decay: Any = keras.optimizers.schedules.CosineDecay(self.learning_rate, epochs * steps)
        adam = keras.optimizers.Adam(decay)
        quick = epochs == 1  # a few steps are over before a graph is made
        vae.compile(adam, run_eagerly=quick, steps_per_execution=1 if quick else math.gcd(steps, 10))
        adam.build(vae.trainable_weights)  # inside the first step it would cost a second trace
        start, weights = vae.evaluate(watched, steps=1, verbose=0, return_dict=True)["bound"], vae.get_weights()
        stopping = keras.callbacks.EarlyStopping(
            "val_bound", mode="max", patience=math.ceil(self.patience / steps), restore_best_weights=True
        )
        history = vae.fit(
            _batches(train, min(self.batch_size, len(train)), seed),
            epochs=epochs,
            steps_per_epoch=steps,
            validation_data=watched,
            validation_steps=1,
            callbacks=[stopping],
            shuffle=False,
            verbose=self.verbose,
        )
        best: Any = stopping.best
        n_iter, bound = int(adam.iterations), float(best)
        if not bound > start:
            bound = start
            vae.set_weights(weights)
            # From where it starts there may be nowhere to go; but down it must not lead.
            if not (quick or history.history["val_bound"][-1] > start - len(names)):
                warnings.warn("training did not raise the bound: lower learning_rate", ConvergenceWarning, stacklevel=3)
        if not number:
            self.n_iter_, self.bound_ = n_iter, bound
        return vae

    def _begin(self, table, likelihood, rows, latent_dim, seed):
        """Make a model in the units of the ``table`` that starts as the factor analysis of some of its ``rows``."""
        shift, scale = likelihood.units(to_array(table, len(likelihood.kinds), likelihood, likelihood.names))
        units = (tf.constant(a, "float32") for a in (shift, np.where(scale > 0, scale, 1.0)))
        observed = ~np.isnan(rows)
        known = tf.constant(np.where(observed, rows, 0.0), "float32")
        features = likelihood.features(known, tf.constant(observed), *units).numpy()
        factors = fit_factors(features, observed[:, likelihood.columns_of_inputs()], latent_dim)
        encoder, decoder = networks(likelihood, factors, tuple(self.hidden), self.min_scale, seed % 2**20)
        vae = VAE(
            None,
            latent_dim,
            self.hidden,
            self.num_importance,
            likelihood,
            "tanh",
            encoder,
            decoder,
            seed=seed,
            reads_mask=True,
        )
        vae.adapt(table)
        return vae

    def _tables(self, X, num_draws, mean, random_state=None) -> Iterator[Filled]:
        """Yield filled tables without end, one for each draw (or for the mean of each pool of draws)."""
        check_is_fitted(self)
        self._check_settings()
        if random_state is None:  # of this call, else set since the fit, else that of the fit
            random_state = self.random_state if isinstance(self.random_state, Integral) else self.seed_
        seed = check_random_state(random_state).randint(2**31 - 1)
        frame = self._frame(X, reset=False)
        container = type(_Empty.transform(self, None))
        as_frame = container is not np.ndarray
        missing = frame.isna().to_numpy()
        numbers = np.full(frame.shape, np.nan)
        for j in self.kept_:
            constant = self.constants_[j]
            if not as_frame or j in self.modelled_ or constant is not None:
                numbers[:, j] = self._encode(j, frame[j])
            if constant is not None:
                numbers[missing[:, j], j] = constant
        rows = np.flatnonzero(missing[:, self.modelled_].any(axis=1))
        cells = np.ix_(rows, self.modelled_)
        vaes = self.vaes_
        draws: Any = repeat(np.empty((len(rows), 0)))
        if mean and vaes:  # of draws from all models in turn
            shares = [len(range(i, num_draws, len(vaes))) for i in range(len(vaes))]
            draws = self._draws(list(zip(vaes, shares, strict=True)), frame, rows, True, [seed, 0])
        elif vaes:
            size = _POOL if len(vaes) == 1 else 1  # drawn together
            pools = (self._draws([(vae, size)], frame, rows, False, [seed, i]) for i, vae in enumerate(cycle(vaes)))
            draws = chain.from_iterable(pools)
        for draw in draws:
            numbers[cells] = np.where(missing[cells], draw, numbers[cells])
            yield self._finish(frame, missing, numbers, container)

    def _draws(self, models, frame, rows, mean, entropy):
        """Draws (s, r, k) of ``rows`` by some models, or their mean (1, r, k), in blocks of bounded memory.

        ``models`` holds pairs of a model and the number of its draws.
        """
        table, num_draws = self._named(frame), sum(size for _, size in models)
        out = np.empty((1 if mean else num_draws, len(rows), len(self.modelled_)))
        block = int(np.clip(2**24 // (num_draws * (40 + 4 * len(self.modelled_))), 1, 2**13))
        seeds = np.random.SeedSequence(entropy).generate_state(len(models)).tolist()
        numbers = _row_numbers(frame)[rows]
        found: dict[str, tuple[str, list[int]]] = {}
        bar = keras.utils.Progbar(len(rows), verbose=self.verbose, unit_name="row")
        with _SHARED, warnings.catch_warnings():
            warnings.simplefilter("ignore", SamplingWarning)  # what it finds is said once, below
            for start in range(0, len(rows), block):
                part = rows[start : start + block]
                parts = []
                for (vae, size), seed in zip(models, seeds, strict=True):
                    drawn = sample_conditional(
                        vae,
                        table.iloc[part],
                        size,
                        _AUTO if self.method == "auto" else self.method,
                        seed=seed,
                        progress=False,
                        max_memory=0.25,
                        row_numbers=numbers[start : start + block],
                    )
                    parts.append(drawn.values)
                    for finding in diagnose(drawn, _ROWS_CHECKED):
                        of_kind = found.setdefault(finding.kind, (finding.message, []))
                        of_kind[1].extend(part[list(finding.rows)].tolist())
                draws = np.concatenate(parts, axis=1)
                for place, j in enumerate(self.modelled_):
                    cells = draws[..., place].T
                    if mean:
                        cells = self.kinds_[self.labels_[j]].centre(cells, axis=0)
                    if self.categories_[j] is not None:
                        cells = self._known(j).index.to_numpy()[cells.astype(int)]
                    elif self.types_[j] == "integer":
                        cells = np.rint(cells)
                        if pd.api.types.is_integer_dtype(self.dtypes_[j]):  # else objects, of any size
                            whole: Any = pd.api.types.pandas_dtype(self.dtypes_[j]).type
                            limits = np.iinfo(whole)
                            cells = cells.clip(limits.min, limits.max)
                    out[:, start : start + len(part), place] = cells
                bar.add(len(part))
        if found:
            told = "; ".join(_told(message, frame.index[sorted(set(where))]) for message, where in found.values())
            warnings.warn(f"{told}. A method with other settings goes into method=", SamplingWarning, stacklevel=5)
        return out

    def _finish(self, frame, missing, numbers, container):
        """Return one filled table: the observed cells of ``frame``, ``numbers`` in the holes, and where these were."""
        if container is not np.ndarray:
            holes = missing & ~np.isnan(numbers)
            columns = [self._filled(j, frame[j], holes[:, j], numbers[holes[:, j], j]) for j in self.kept_]
            columns += [pd.Series(missing[:, j], frame.index) for j in self.indicated_]
            names = self.get_feature_names_out()
            if container is pd.DataFrame:
                return pd.DataFrame(dict(enumerate(columns)), frame.index).set_axis(names, axis=1)
            return container({name: _plain(column) for name, column in zip(names, columns, strict=True)})
        cells = frame.to_numpy()
        if cells.dtype.kind in "fiub" and frame.dtypes.nunique() == 1:
            dtype = np.result_type(cells, np.float32) if cells.dtype.kind == "f" else cells.dtype
            numbers = np.where(missing, numbers, cells).astype(dtype)
        else:
            for j in self.kept_:
                if pd.api.types.is_integer_dtype(frame.dtypes[j]) and (abs(numbers[:, j]) > 2**53).any():
                    what = f"{column_label(j, self.labels_)} holds integers too large for an array of floats"
                    raise ValueError(f"{what}: use set_output(transform='pandas')")
        return np.column_stack([numbers[:, self.kept_], missing[:, self.indicated_].astype(numbers.dtype)])


# It minds set_output itself, and scikit-learn's wrapper would read a Dask table into memory.
VAEImputer.transform = VAEImputer.transform.__wrapped__  # type: ignore


class _Empty(TransformerMixin):
    """scikit-learn's own wrapper of `transform` puts an empty table into the container asked for."""

    def transform(self: Any, X: object) -> NDArray:
        return np.empty((0, len(self.kept_) + len(self.indicated_)))


def _pandas(X):
    """Return a frame as pandas has it: integers with holes stay integers."""
    frame = from_polars(X)
    if frame is X:  # of another library
        return X if isinstance(X, pd.DataFrame) else X.to_pandas()
    whole = {name: str(dtype) for name, dtype in X.schema.items() if dtype.is_integer() and X[name].null_count()}
    return frame.astype(whole).infer_objects()


def _plain(column):
    """Return the cells of a column as Python's own values, None for a hole: what polars reads without pyarrow."""
    return [None if hole else cell for cell, hole in zip(column.tolist(), column.isna(), strict=True)]


def _row_numbers(frame):
    """Return what the draws of the rows follow from: their labels, if these are different whole numbers, or places."""
    labels = frame.index
    if pd.api.types.is_integer_dtype(labels.dtype) and labels.is_unique and labels.min() >= 0 and labels.max() < 2**31:
        return labels.to_numpy(np.int64)
    return np.arange(len(frame))


def _told(message, labels):
    """Say of which rows something is wrong."""
    some = ", ".join(map(repr, labels[:5].tolist())) + (", ..." if len(labels) > 5 else "")
    return f"rows {some}: {message}"


def _stored(method):
    """Return a method as plain values."""
    if isinstance(method, str):
        return method
    if isinstance(method, Auto):
        return ["auto", {"first": _stored(method.first), "then": _stored(method.then)}]
    names = {cls: name for name, cls in METHODS.items()}
    if type(method) not in names:
        raise TypeError(f"only the package's own methods can be saved, got {method!r}")
    return [names[type(method)], asdict(method)]


def _restored(stored):
    """Make a method from what `_stored` returned."""
    if isinstance(stored, str):
        return stored
    name, settings = stored
    if name == "auto":
        return Auto(**{part: _restored(own) for part, own in settings.items()})
    return METHODS[name](**settings)


def _batches(rows, size, seed):
    """Batches (size, k) of ``rows`` (n, k) without end, each pass in an order of its own that follows from ``seed``."""

    def one_pass(number):
        shuffle: Any = tf.random.experimental.stateless_shuffle  # pyright: ignore[reportAttributeAccessIssue]
        order = shuffle(tf.range(len(rows)), [seed, number])
        batches = tf.reshape(order[: len(rows) // size * size], (-1, size))
        return tf.data.Dataset.from_tensor_slices(tf.gather(rows, batches))

    return tf.data.Dataset.counter().flat_map(one_pass)
