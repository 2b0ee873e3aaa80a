"""`VAEImputer`: a scikit-learn transformer that fills the holes of a table from a VAE trained on it."""

from __future__ import annotations

import json
import random
import warnings
from dataclasses import asdict

import keras
import numpy as np
import pandas as pd
import tensorflow as tf
from sklearn.base import BaseEstimator, OneToOneFeatureMixin, TransformerMixin
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils import check_random_state
from sklearn.utils._set_output import _get_output_config
from sklearn.utils.validation import check_is_fitted, validate_data

from ..draws import SamplingWarning
from ..evidence import column_label, to_array
from ..likelihoods import Bernoulli, Categorical, Columns, Normal
from ..model import VAE
from ..samplers import METHODS, as_sampler
from ..sampling import sample_conditional

_ROUND = 50  # gradient steps between two looks at the held-out rows
_MAX_HELD_OUT = 5_000
_FORMAT = 1


class VAEImputer(OneToOneFeatureMixin, TransformerMixin, BaseEstimator):
    """Fill the missing cells of a table from a variational autoencoder trained on its incomplete rows.

    `fit` trains a `VAE` on the observed cells alone [1]_, `transform` and `sample_imputations` draw
    the missing cells of each row given its observed ones with `sample_conditional`.

    What comes back: with arrays (the default), numbers. Text categories are their codes 0, 1, ... in
    sorted order, which `inverse_transform` turns back; every other observed cell is what it was, to
    the bit. With ``set_output(transform="pandas")``, a frame of the user's own values, with integer,
    boolean and categorical columns as they were fitted. Imputed cells of integer columns are whole.

    Parameters
    ----------
    strategy : {"mean", "sample"}
        What `transform` puts into a hole. ``"mean"`` (default), the mean over ``num_draws`` draws (of
        categories and booleans the most frequent), has the smallest squared error and suits
        prediction. It narrows spreads and inflates correlations; ``"sample"``, one draw, does not.
        For estimates with standard errors use `sample_imputations` and pool.
    num_draws : int
        Draws behind a mean.
    likelihood : likelihood, optional
        `Normal`, `Bernoulli`, `Categorical` or `Columns`. By default guessed column by column:
        numbers `Normal`, booleans `Bernoulli`, text and categories `Categorical`.
    latent_dim : int, optional
        Latent dimensions l; by default half the columns, at least 1 and at most 10.
    hidden : sequence of int
        Widths of the hidden layers of encoder and decoder.
    num_importance : int
        Draws K in the importance-weighted bound.
    max_iter : int
        Gradient steps at most.
    batch_size : int
        Rows per step.
    learning_rate : float
        Step size of Adam, which falls to zero over ``max_iter`` steps (cosine).
    validation_fraction : float
        Share of the rows held out (5,000 rows at most), whose bound decides when to stop. 0 trains
        on all rows and watches their bound.
    patience : int
        Stop after so many steps without a better bound; the best weights are kept.
    method : str or method object
        How to draw, as in `sample_conditional`. ``"lair"`` costs least for a few draws of many rows;
        ``"tempered_smc"`` is the safer one where many columns pin down many latent dimensions.
    keep_empty_features : bool
        A column without any observed value cannot be learned. False leaves it out of the result,
        True returns it as it came, holes included. Either way `fit` warns.
    random_state : int, RandomState instance or None
        Same integer, same bits, on one machine.
    verbose : int
        1 shows the progress of `fit` and of `transform`.

    Attributes
    ----------
    vae_ : VAE or None
        The trained model of the columns that vary, in data units; None if none does.
    n_iter_ : int
        Gradient steps taken.
    bound_ : float
        Best bound on the held-out rows, in nats per row.
    n_features_in_, feature_names_in_
        As in scikit-learn.

    References
    ----------
    .. [1] Mattei and Frellsen (2019), MIWAE.

    Examples
    --------
    >>> imputer = VAEImputer(random_state=0).set_output(transform="pandas")
    >>> filled = imputer.fit_transform(frame)  # doctest: +SKIP
    >>> five = imputer.sample_imputations(frame, 5)  # doctest: +SKIP
    """

    def __init__(
        self, *, strategy="mean", num_draws=100, likelihood=None, latent_dim=None, hidden=(128, 128),
        num_importance=20, max_iter=1_500, batch_size=128, learning_rate=2e-3, validation_fraction=0.1,
        patience=300, method="lair", keep_empty_features=False, random_state=None, verbose=0,
    ):
        self.strategy = strategy
        self.num_draws = num_draws
        self.likelihood = likelihood
        self.latent_dim = latent_dim
        self.hidden = hidden
        self.num_importance = num_importance
        self.max_iter = max_iter
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.validation_fraction = validation_fraction
        self.patience = patience
        self.method = method
        self.keep_empty_features = keep_empty_features
        self.random_state = random_state
        self.verbose = verbose

    def fit(self, X, y=None):
        """Train on the observed cells of ``X`` (n, d), an array or a frame with holes; ``y`` is ignored."""
        self._check_settings()
        frame = self._frame(X, reset=True)
        self.seed_ = int(check_random_state(self.random_state).randint(2**31 - 1))
        kinds = self._describe(frame)
        self.vae_, self.n_iter_, self.bound_ = None, 1, 0.0
        if not self.kept_:
            raise ValueError("the table has no observed value at all")
        if kinds:
            self._train(self._named(frame), Columns(kinds))
        return self

    def transform(self, X):
        """Fill the holes of ``X`` (n, d) as ``strategy`` says; observed cells stay what they are."""
        mean = self.strategy == "mean"
        return next(self._tables(X, self.num_draws if mean else 1, mean))

    def sample_imputations(self, X, m=5):
        """Multiple imputation: ``m`` filled tables, each hole with an independent draw in each.

        Draws vary as p(x_m | x_o) of the trained model does; its weights are the same for all.

        Returns
        -------
        list of array (n, d) or DataFrame
            What `transform` would return, ``m`` times.
        """
        if not isinstance(m, int | np.integer) or isinstance(m, bool) or m < 1:
            raise ValueError(f"m must be a positive integer, got {m!r}")
        return list(self._tables(X, int(m), mean=False))

    def inverse_transform(self, X):
        """Names and categories from the numbers that `transform` returned: a frame (n, d) with the
        columns, categories, integers and booleans of the table that was fitted.
        """
        check_is_fitted(self)
        names = self.get_feature_names_out()
        frame = X if isinstance(X, pd.DataFrame) else pd.DataFrame(np.asarray(X))
        if frame.shape[1] != len(names):
            raise ValueError(f"{frame.shape[1]} columns given, the imputer returns {len(names)}")
        columns = {}
        for place, j in enumerate(self.kept_):
            column = frame.iloc[:, place]
            if pd.api.types.is_numeric_dtype(column.dtype):  # names stay names
                known = column.notna().to_numpy()
                cells = np.full(len(frame), None)
                cells[known] = self._natural(j, column[known].to_numpy(float))
                column = pd.Series(cells, frame.index).infer_objects()
            columns[place] = self._as_fitted(j, column)
        return pd.DataFrame(columns, frame.index).set_axis(names, axis=1)

    inverse = inverse_transform

    def score(self, X, y=None):
        """Mean bound (100 draws) on log p(x_o) of the rows of ``X``, in nats per row."""
        check_is_fitted(self)
        frame = self._frame(X, reset=False)
        if self.vae_ is None:
            return 0.0
        rows = to_array(self._named(frame), len(self.modelled_), self.vae_.likelihood, self.vae_.feature_names)
        self.vae_.noise.state.assign([self.seed_, 0])  # the same draws every time
        parts = [self.vae_.bound(rows[i : i + 1000], 100)[0].numpy() for i in range(0, len(rows), 1000)]
        return float(np.concatenate(parts).mean(dtype=float))

    def get_feature_names_out(self, input_features=None):
        """Names of the columns that `transform` returns."""
        return super().get_feature_names_out(input_features)[self.kept_]

    def save(self, path):
        """Write the fitted imputer to one file: JSON and plain arrays in an npz, no pickle."""
        check_is_fitted(self)
        state = self.__getstate__()
        config, weights = state.pop("vae_") or (None, [])
        params = {name: state.pop(name) for name in self.get_params(deep=False)}
        if not isinstance(params["random_state"], int | np.integer | None):
            raise TypeError("only an imputer with an integer random_state (or None) can be saved")
        params["likelihood"] = keras.saving.serialize_keras_object(params["likelihood"])
        if not isinstance(params["method"], str):
            names = [name for name, cls in METHODS.items() if cls is type(params["method"])]
            if not names:
                raise TypeError(f"only the package's own methods can be saved, got {params['method']!r}")
            params["method"] = [names[0], asdict(params["method"])]
        for name in (name for names in state["categories_"] for name in names or ()):
            if not isinstance(name, str | int | float | np.generic):
                raise TypeError(f"only text and numbers can be saved as categories, got {name!r}")
        stored = {"format": _FORMAT, "params": params, "state": state, "vae": config}
        arrays = {f"weight_{i}": weight for i, weight in enumerate(weights)}
        with open(path, "wb") as file:
            np.savez_compressed(file, settings=json.dumps(stored, default=lambda a: a.tolist()), **arrays)

    @classmethod
    def load(cls, path):
        """Read what `save` wrote."""
        with np.load(path, allow_pickle=False) as arrays:
            if "settings" not in arrays:
                raise ValueError(f"{path} was not written by VAEImputer.save")
            stored = json.loads(str(arrays["settings"]))
            weights = [arrays[f"weight_{i}"] for i in range(len(arrays.files) - 1)]
        if stored["format"] != _FORMAT:
            raise ValueError(f"{path} has format {stored['format']}, this version reads {_FORMAT}")
        params, state = stored["params"], stored["state"]
        params["hidden"] = tuple(params["hidden"])
        params["likelihood"] = keras.saving.deserialize_keras_object(params["likelihood"])
        if not isinstance(params["method"], str):
            params["method"] = METHODS[params["method"][0]](**params["method"][1])
        if "feature_names_in_" in state:
            state["feature_names_in_"] = np.array(state["feature_names_in_"], dtype=object)
        imputer = cls(**params)
        imputer.__setstate__(state | {"vae_": stored["vae"] and (stored["vae"], weights)})
        return imputer

    # How scikit-learn, pickle and copy see it.

    def __getstate__(self):
        state = dict(super().__getstate__())
        if state.get("vae_") is not None:
            state["vae_"] = (self.vae_.get_config(), self.vae_.get_weights())
        return state

    def __setstate__(self, state):
        if state.get("vae_") is not None:
            config, weights = state["vae_"]
            vae = _seeded(0, lambda: VAE.from_config(config))
            vae.set_weights(weights)
            state = state | {"vae_": vae}
        super().__setstate__(state)

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        return tags

    # The table. Columns are known by their place j; each has a number for every value.

    def _check_settings(self):
        if self.strategy not in ("mean", "sample"):
            raise ValueError(f"strategy must be 'mean' or 'sample', got {self.strategy!r}")
        for name in ("num_draws", "max_iter", "batch_size", "patience"):
            value = getattr(self, name)
            if not isinstance(value, int | np.integer) or isinstance(value, bool) or value < 1:
                raise ValueError(f"{name} must be a positive integer, got {value!r}")
        widths = self.hidden if isinstance(self.hidden, list | tuple) else [None]
        if not all(isinstance(width, int | np.integer) and width > 0 for width in widths):
            raise ValueError(f"hidden must be a sequence of positive widths, got {self.hidden!r}")
        if not 0 <= self.validation_fraction < 1:
            raise ValueError(f"validation_fraction must be at least 0 and below 1, got {self.validation_fraction!r}")
        as_sampler(self.method)

    def _frame(self, X, reset):
        """``X`` as a frame with columns 0, 1, ..., after scikit-learn's checks."""
        if isinstance(X, np.ma.MaskedArray):
            X = X.astype(float).filled(np.nan)
        if not hasattr(X, "columns"):
            X = validate_data(self, X, reset=reset, dtype=None, ensure_all_finite=False)
            return pd.DataFrame(X).infer_objects()
        frame = X if isinstance(X, pd.DataFrame) else X.to_pandas()
        if 0 in frame.shape:
            raise ValueError(f"the table has no {'rows' if len(frame) == 0 else 'columns'}: its shape is {frame.shape}")
        if frame.columns.has_duplicates:
            raise ValueError(f"column {frame.columns[frame.columns.duplicated()][0]!r} stands twice in the table")
        validate_data(self, frame, reset=reset, skip_check_array=True)
        return frame.set_axis(range(frame.shape[1]), axis=1)

    def _named(self, frame):
        """The modelled columns under their own names."""
        return frame.iloc[:, self.modelled_].set_axis([self.labels_[j] for j in self.modelled_], axis=1)

    def _describe(self, frame):
        """Note of every column what it holds; return the likelihoods ``{name: kind}`` of those that vary."""
        names = getattr(self, "feature_names_in_", None)
        self.labels_ = list(range(frame.shape[1])) if names is None else names.tolist()
        given = self._given_kinds()
        self.types_, self.dtypes_, self.categories_, self.constants_, kinds = [], [], [], [], {}
        for j, column in frame.items():
            label, known, kind = self.labels_[j], column.dropna(), given[j]
            constant = len(known) > 0 and _all_equal(known)
            if len(known) and kind is None and not constant:
                kind = Columns.from_frame(column.to_frame(label)).kinds[0]
            declared = isinstance(column.dtype, pd.CategoricalDtype)
            self.types_.append(pd.api.types.infer_dtype(known))
            self.dtypes_.append("ordered category" if declared and column.cat.ordered else str(column.dtype))
            categories = None
            if isinstance(kind, Categorical):
                counted = isinstance(kind.categories, int | np.integer)
                categories = list(range(kind.categories) if counted else kind.categories)
            elif declared:
                categories = column.cat.categories.tolist()
            elif constant and kind is None and not pd.api.types.is_numeric_dtype(known.infer_objects().dtype):
                categories = [known.iloc[0]]
            self.categories_.append(categories)
            self.constants_.append(float(self._encode(j, known.iloc[:1])[0]) if constant else None)
            if len(known) and not constant:
                kinds[label] = kind
        empty = [j for j in frame if not frame[j].notna().any()]
        if empty:
            fate = "come back as they are" if self.keep_empty_features else "are left out"
            warnings.warn(
                f"no observed value in {', '.join(column_label(j, self.labels_) for j in empty)}: such columns "
                f"{fate} (keep_empty_features={self.keep_empty_features})", UserWarning, stacklevel=3,
            )
        self.modelled_ = [j for j in frame if self.labels_[j] in kinds]
        self.kept_ = [j for j in frame if self.keep_empty_features or j not in empty]
        return kinds

    def _given_kinds(self):
        """The user's likelihood, column by column; None where it is to be guessed."""
        likelihood = self.likelihood
        if not isinstance(likelihood, Columns):
            return [likelihood] * len(self.labels_)
        names = list(likelihood.names or self.labels_)
        if len(likelihood.kinds) != len(self.labels_) or set(names) != set(self.labels_):
            raise ValueError(f"the likelihood describes the columns {names}, the table has {self.labels_}")
        return [likelihood.kinds[names.index(label)] for label in self.labels_]

    def _encode(self, j, column):
        """The numbers (n,) of a column, NaN in the holes; checked."""
        label = column_label(j, self.labels_)
        if self.categories_[j] is None:
            return to_array(column.to_frame(0), 1, Normal(), self.labels_[j : j + 1])[:, 0]
        table = dict(zip(self.categories_[j], _numbers_of(self.categories_[j]), strict=True))
        numbers = column.astype(object).map(table).to_numpy(float, na_value=np.nan)
        for cell in column[np.isnan(numbers) & column.notna().to_numpy()]:
            raise ValueError(f"{label}: category {cell!r} was never seen; known are {self.categories_[j]}")
        return numbers

    def _natural(self, j, numbers):
        """The user's own values for numbers: categories, booleans, integers; an array of objects."""
        if self.categories_[j] is not None:
            table = dict(zip(_numbers_of(self.categories_[j]), self.categories_[j], strict=True))
            for number in numbers:
                if number not in table:
                    label = column_label(j, self.labels_)
                    raise ValueError(f"{label}: {number:g} stands for no category; known are {table}")
            values = [table[number] for number in numbers]
        else:
            natural = {"boolean": bool, "integer": int}.get(self.types_[j], float)
            values = [natural(number) for number in numbers]
        return pd.Series(values, dtype=object).to_numpy()

    def _as_fitted(self, j, column):
        """``column`` with the dtype that it had in `fit`, where that changes no value."""
        dtype = self.dtypes_[j]
        if dtype.endswith("category"):
            dtype = pd.CategoricalDtype(self.categories_[j], ordered=dtype.startswith("ordered"))
        if column.dtype == dtype:
            return column
        try:
            with np.errstate(invalid="ignore"):
                cast = column.astype(dtype)
            same = cast.astype(object) == column.astype(object)
            return cast if same.fillna(False).all() else column
        except (TypeError, ValueError):
            return column

    # Training and drawing.

    def _train(self, table, likelihood):
        rng, names = np.random.default_rng(self.seed_), list(table)
        rows = to_array(table, len(names), likelihood, names)
        size = np.nanmax(abs(rows), axis=0)
        for j in np.flatnonzero((size < 1e-30) | (size > 1e30)):
            raise ValueError(
                f"{column_label(j, names)} reaches up to {size[j]:.2g}, beyond single precision: give it in other units"
            )
        latent_dim = int(np.clip(len(names) // 2, 1, 10)) if self.latent_dim is None else self.latent_dim
        vae = self.vae_ = _seeded(self.seed_, lambda: VAE(
            len(names), latent_dim, self.hidden, self.num_importance, likelihood, "tanh", seed=self.seed_
        ))
        vae.compile(keras.optimizers.Adam(keras.optimizers.schedules.CosineDecay(self.learning_rate, self.max_iter)))
        vae.optimizer.build(vae.trainable_weights)
        vae.adapt(table)
        rows = rng.permutation(rows[~np.isnan(rows).all(axis=1)])
        held_out = min(round(self.validation_fraction * len(rows)), _MAX_HELD_OUT)
        watched = tf.constant(rows[: held_out or _MAX_HELD_OUT], "float32")
        train = tf.constant(rows[held_out:], "float32")
        batch = min(self.batch_size, len(train))

        def advance(order):
            """Train on the rows ``order`` (steps, batch); return the bound on the watched rows."""
            def one_step(i):
                vae.train_step(tf.gather(train, order[i]))
                return (i + 1,)

            tf.while_loop(lambda i: i < tf.shape(order)[0], one_step, (tf.constant(0),))
            return tf.reduce_mean(vae.bound(watched, 50)[0])

        if self.max_iter > _ROUND:  # a few steps are over before a graph is made
            shape = tf.TensorSpec((None, batch), "int64")
            advance = tf.function(advance, autograph=False, input_signature=[shape])
        bar = keras.utils.Progbar(self.max_iter, verbose=self.verbose, stateful_metrics=["bound"], unit_name="step")
        queue, self.n_iter_, best = np.empty(0, int), 0, 0
        start = self.bound_ = float(advance(tf.zeros((0, batch), "int64")))
        weights = vae.get_weights()
        while self.n_iter_ < self.max_iter and self.n_iter_ - best < self.patience:
            steps = min(_ROUND, self.max_iter - self.n_iter_)
            while len(queue) < steps * batch:
                queue = np.append(queue, rng.permutation(len(train)))
            order, queue = queue[: steps * batch], queue[steps * batch :]
            bound = float(advance(tf.constant(order.reshape(steps, batch))))
            self.n_iter_ += steps
            if bound > self.bound_:
                weights, self.bound_, best = vae.get_weights(), bound, self.n_iter_
            bar.update(self.n_iter_, [("bound", bound)], finalize=self.n_iter_ - best >= self.patience or None)
        vae.set_weights(weights)
        if not self.bound_ > start and self.n_iter_ > _ROUND:
            warnings.warn("training did not raise the bound: lower learning_rate", ConvergenceWarning, stacklevel=3)

    def _tables(self, X, num_draws, mean):
        """Filled tables, one for each draw (or the one of means), as arrays or frames."""
        check_is_fitted(self)
        self._check_settings()
        frame = self._frame(X, reset=False)
        as_frame = _get_output_config("transform", self)["dense"] == "pandas"
        missing = frame.isna().to_numpy()
        numbers = np.full(frame.shape, np.nan)
        for j in self.kept_:
            if not as_frame or j in self.modelled_ or self.constants_[j] is not None:
                numbers[:, j] = self._encode(j, frame[j])
            if self.constants_[j] is not None:
                numbers[missing[:, j], j] = self.constants_[j]
        rows = np.flatnonzero(missing[:, self.modelled_].any(axis=1))
        for draw in self._draws(frame, rows, num_draws, mean):
            for place, j in enumerate(self.modelled_):
                holes = missing[rows, j]
                numbers[rows[holes], j] = draw[holes, place]
            yield self._finish(X, frame, missing, numbers, as_frame)

    def _draws(self, frame, rows, num_draws, mean):
        """Draws (s, r, k) of ``rows``, or their mean (1, r, k), in blocks of bounded memory."""
        table, kinds = self._named(frame), None if self.vae_ is None else self.vae_.likelihood.kinds
        out = np.empty((1 if mean else num_draws, len(rows), len(self.modelled_)))
        block = int(np.clip(2**24 // (num_draws * (40 + 4 * len(self.modelled_))), 1, 2**13))
        starts = range(0, len(rows), block)
        seeds = np.random.SeedSequence([self.seed_, num_draws]).generate_state(len(starts))
        bar = keras.utils.Progbar(len(rows), verbose=self.verbose, unit_name="row")
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always", SamplingWarning)
            for start, seed in zip(starts, seeds, strict=True):
                part = rows[start : start + block]
                draws = sample_conditional(
                    self.vae_, table.iloc[part], num_draws, self.method, seed=int(seed), progress=False,
                    max_memory=0.25,
                ).values
                for place, kind in enumerate(kinds):
                    cells, j = draws[..., place], self.modelled_[place]
                    if mean:
                        cells = _centre(cells, kind)[:, None]
                    if isinstance(kind, Categorical):
                        cells = np.array(_numbers_of(self.categories_[j]))[cells.astype(int)]
                    elif self.types_[j] == "integer":
                        cells = np.rint(np.clip(cells, *_range(self.dtypes_[j])))
                    out[:, start : start + len(part), place] = cells.T
                bar.add(len(part))
        told = False
        for item in caught:  # of many blocks with the same trouble, one speaks
            if not (told and item.category is SamplingWarning):
                warnings.warn(item.message, item.category, stacklevel=5)
            told |= item.category is SamplingWarning
        return out

    def _finish(self, X, frame, missing, numbers, as_frame):
        """One filled table: the observed cells of ``frame``, and ``numbers`` in the holes."""
        names = self.get_feature_names_out()
        if as_frame:
            columns = {}
            for j in self.kept_:
                column, holes = frame[j], missing[:, j] & ~np.isnan(numbers[:, j])
                if holes.any():
                    natural = self._natural(j, numbers[holes, j])
                    try:
                        cells = column.array.copy()
                        cells[holes] = natural if cells.dtype == object else natural.tolist()
                    except (TypeError, ValueError):  # such as booleans that came as objects
                        cells = column.astype(object).array.copy()
                        cells[holes] = natural
                    column = pd.Series(cells, frame.index)
                columns[j] = self._as_fitted(j, column)
            return pd.DataFrame(columns, frame.index).set_axis(names, axis=1)
        cells = frame.to_numpy()
        if cells.dtype.kind not in "fiub" or len(set(frame.dtypes)) > 1:
            for j in self.kept_:
                if pd.api.types.is_integer_dtype(frame.dtypes[j]) and (abs(numbers[:, j]) > 2**53).any():
                    raise ValueError(
                        f"{column_label(j, self.labels_)} holds integers too large for an array of floats: "
                        "use set_output(transform='pandas')"
                    )
            return numbers[:, self.kept_]
        if cells.dtype.kind == "f":
            cells = cells.astype(np.result_type(cells.dtype, np.float32))
        return np.where(missing, numbers, cells)[:, self.kept_].astype(cells.dtype)


def _numbers_of(categories):
    """What stands for each category in an array: the category if it is a number, else its code."""
    if all(isinstance(c, int | float | np.number) and not isinstance(c, bool) for c in categories):
        return [float(c) for c in categories]
    return [float(code) for code in range(len(categories))]


def _centre(draws, kind):
    """The mean of draws (n, s) of one column, or the most frequent value: (n,)."""
    if isinstance(kind, Categorical):
        counts = [(draws == code).sum(axis=1) for code in range(kind.num_categories)]
        return np.argmax(counts, axis=0)
    centre = draws.mean(axis=1)
    return (centre > 0.5).astype(float) if isinstance(kind, Bernoulli) else centre


def _range(dtype):
    """Smallest and largest number of an integer dtype given by name; all numbers for others."""
    dtype = pd.api.types.pandas_dtype(dtype)
    dtype = getattr(dtype, "numpy_dtype", dtype)
    if not isinstance(dtype, np.dtype) or dtype.kind not in "iu":
        return -np.inf, np.inf
    return float(np.iinfo(dtype).min), float(np.iinfo(dtype).max)


def _all_equal(known):
    try:
        return known.nunique() == 1
    except TypeError:  # cells that cannot be hashed; the likelihood says so
        return False


def _seeded(seed, build):
    """``build()`` with Keras's initial weights seeded, which come from Python's own generator."""
    state = random.getstate()
    random.seed(seed)
    try:
        return build()
    finally:
        random.setstate(state)
