"""`VAEImputer`: scikit-learn's own checks, and what comes back from odd tables."""

import math
import pickle
import random
import warnings
from concurrent.futures import ThreadPoolExecutor

import keras
import numpy as np
import pandas as pd
import pytest
import sklearn
import tensorflow as tf
from sklearn.base import clone
from sklearn.compose import make_column_selector, make_column_transformer
from sklearn.exceptions import ConvergenceWarning
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.model_selection import GridSearchCV, ShuffleSplit, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

import cvae_tutorial as ct
from cvae_tutorial import VAEImputer

QUICK = {"max_iter": 5, "num_draws": 10, "hidden": (8,), "method": "importance", "random_state": 0}


def quick(**settings):
    return VAEImputer(**{**QUICK, **settings})


@pytest.fixture(autouse=True)
def few_steps_sample_badly():
    """Five steps of training make no good model: what the sampler says of it is not the matter here."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ct.SamplingWarning)
        yield


def mixed(n=60, seed=0):
    """Every kind of column, with holes; column ``whole`` has none."""
    rng = np.random.default_rng(seed)
    frame = pd.DataFrame(
        {
            "mass": rng.normal(50.1, 3.3, n),
            "single": rng.normal(size=n).astype("float32"),
            "whole": rng.integers(0, 9, n),
            "count": pd.array(rng.integers(0, 200, n), dtype="UInt8"),
            "flag": pd.array(rng.random(n) < 0.4, dtype="boolean"),
            "yes": pd.Series(rng.random(n) < 0.4, dtype=object),
            "sex": rng.choice(["female", "male"], n),
            "island": pd.Categorical(rng.choice(["c", "a", "b"], n), categories=["c", "b", "a"], ordered=True),
            "text": pd.Series(rng.choice(["x", "y"], n), dtype=object),
            "grade": pd.Categorical(rng.choice([10, 20, 30], n)),
            "pair": pd.Series([("a", 1), ("b", 2)] * (n // 2), dtype=object),
        }
    ).set_axis([f"row {i}" for i in range(n)])
    holes = rng.random(frame.shape) < 0.2
    holes[:, 2] = False
    return frame.mask(holes).astype(frame.dtypes), holes


# One check is skipped by scikit-learn itself unless SCIPY_ARRAY_API is set: it concerns array
# libraries other than NumPy, which this estimator does not claim to take.
@parametrize_with_checks([VAEImputer(max_iter=2, num_draws=10, hidden=(8,), method="importance")])
def test_scikit_learns_own_checks(estimator, check):
    check(estimator)


def bits(cells):
    return np.asarray(cells).view(f"u{np.asarray(cells).itemsize}")


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_observed_cells_of_arrays_come_back_to_the_bit(dtype):
    rng = np.random.default_rng(0)
    x = (rng.normal(size=(50, 3)) * [1e-9, 1.0, 1e9] + 0.1).astype(dtype)
    x[0, 0] = -0.0
    x[rng.random(x.shape) < 0.3] = np.nan
    before = x.copy()
    imputer = quick().fit(x)
    known = ~np.isnan(before)
    for strategy in ("mean", "sample"):
        filled = imputer.set_params(strategy=strategy).transform(x)
        assert filled.dtype == dtype and np.isfinite(filled).all()
        np.testing.assert_array_equal(bits(filled[known]), bits(before[known]))
    np.testing.assert_array_equal(bits(x), bits(before))  # the input too


@pytest.fixture(scope="module")
def fitted():
    frame, _ = mixed()
    return quick(likelihood=None).fit(frame)


@pytest.mark.parametrize("strategy", ["mean", "sample"])
def test_frames_come_back_as_they_were(fitted, strategy):
    frame, holes = mixed()
    imputer = fitted.set_params(strategy=strategy).set_output(transform="pandas")
    filled = imputer.transform(frame)
    assert list(filled.columns) == list(frame.columns) and filled.index.equals(frame.index)
    assert not filled.isna().any(axis=None)
    assert (filled.dtypes.drop("yes") == frame.dtypes.drop("yes")).all()
    assert filled["yes"].isin([True, False]).all()
    for j, name in enumerate(frame):
        known = ~holes[:, j]
        assert filled[name][known].tolist() == frame[name][known].tolist()
    assert filled["island"].cat.ordered and set(filled["sex"]) == {"female", "male"}


def test_the_container_is_what_scikit_learn_says():
    frame = pd.DataFrame({"x": np.arange(20.0), "s": ["a", "b"] * 10})  # without holes: nothing is drawn
    never_told, told = quick().fit(frame), clone(quick().set_output(transform="default")).fit(frame)
    with sklearn.config_context(transform_output="pandas"):
        assert isinstance(never_told.transform(frame), pd.DataFrame)
        assert isinstance(told.transform(frame), np.ndarray)  # its own word counts
    assert isinstance(never_told.transform(frame), np.ndarray)
    assert isinstance(told.set_output(transform="pandas").transform(frame), pd.DataFrame)


def test_lists_of_text_and_numbers():
    filled = quick().fit([["a", 1.0], ["b", 3], [None, 4], ["a", None]])
    back = filled.inverse_transform(filled.transform([["b", None], [None, 2.0]]))
    assert back.iloc[0, 0] == "b" and back.iloc[1, 0] in ("a", "b") and back.iloc[1, 1] == 2.0
    assert back.dtypes.iloc[1] == "float64"


def test_numbers_and_back(fitted):
    frame, _ = mixed()
    numbers = fitted.set_output(transform="default").transform(frame)
    assert numbers.dtype == float and numbers.shape == frame.shape
    assert set(numbers[:, 6]) == {0.0, 1.0} and set(numbers[:, 9]) == {10.0, 20.0, 30.0}
    named = fitted.set_output(transform="pandas").transform(frame)
    back = fitted.inverse_transform(numbers)
    pd.testing.assert_frame_equal(back.set_axis(named.index), named, check_dtype=False)
    pd.testing.assert_frame_equal(fitted.inverse(named), named, check_dtype=False)
    typed = ["whole", "count", "flag", "island"]
    assert (back.dtypes[typed] == frame.dtypes[typed]).all()
    numbers[3, 6] = 0.5
    with pytest.raises(ValueError, match="'sex': 0.5 stands for no category"):
        fitted.inverse_transform(numbers)


def test_integers_and_booleans_stay_so_when_a_hole_turns_them_into_floats():
    rng = np.random.default_rng(0)
    n, b = rng.integers(0, 250, 40).astype("uint8"), rng.random(40) < 0.5
    train = pd.DataFrame({"n": n, "b": b, "x": rng.normal(size=40)})
    imputer = quick(strategy="sample").set_output(transform="pandas").fit(train)
    test = pd.DataFrame({"n": [3.0, np.nan], "b": pd.Series([None, True], dtype=object), "x": [np.nan, 2.0]})
    filled = imputer.transform(test)
    assert filled["n"].dtype == "uint8" and filled["b"].dtype == bool
    assert filled["n"][0] == 3 and filled["b"][1] and filled["x"][1] == 2.0
    broken = imputer.transform(test.assign(n=[3.5, np.nan]))["n"]
    assert broken[0] == 3.5 and broken[1] == filled["n"][1]  # no value is rounded away
    array = imputer.set_output(transform="default").transform(test)
    assert array[1, 0] == filled["n"][1] and array[0, 1] == filled["b"][0]


def test_large_integers_are_kept_or_refused():
    train = pd.DataFrame({"id": 2**60 + 2**50 * np.arange(40), "x": [np.nan, *np.arange(39.0)]})
    imputer = quick().set_output(transform="pandas").fit(train)
    assert imputer.transform(train)["id"].tolist() == train["id"].tolist()
    with pytest.raises(ValueError, match="'id' holds integers too large for an array"):
        imputer.set_output(transform="default").transform(train)


def test_constant_columns_are_filled_with_their_constant():
    frame = pd.DataFrame({"c": [0.1] * 30, "t": ["only"] * 30, "x": np.arange(30.0), "f": [True] * 30})
    frame.loc[3, ["c", "x"]] = np.nan
    frame.loc[5, ["t"]] = None
    imputer = quick().set_output(transform="pandas")
    filled = imputer.fit_transform(frame)
    assert (filled["c"] == 0.1).all() and (filled["t"] == "only").all() and filled["f"].all()
    back = imputer.inverse_transform(imputer.set_output(transform="default").transform(frame))
    assert (back["t"] == "only").all() and back["f"].dtype == bool
    with pytest.raises(ValueError, match="'other' was never seen; known are"):
        imputer.transform(frame.assign(t="other"))


def test_a_table_of_constants_needs_no_model():
    imputer = quick().fit([[1.0, 2.0], [1.0, np.nan]])
    assert imputer.vae_ is None and imputer.score([[1.0, 2.0]]) == 0.0
    np.testing.assert_array_equal(imputer.transform([[np.nan, np.nan]]), [[1.0, 2.0]])


@pytest.mark.parametrize("keep", [False, True])
def test_columns_without_any_value(keep):
    x = np.random.default_rng(0).normal(size=(30, 3))
    x[:, 1] = np.nan
    x[0, 0] = np.nan
    imputer = quick(keep_empty_features=keep)
    with pytest.warns(UserWarning, match="no observed value in column 1.*" + ("as they are" if keep else "left out")):
        filled = imputer.fit_transform(x)
    names = imputer.get_feature_names_out()
    assert filled.shape[1] == len(names) == (3 if keep else 2) and np.isfinite(filled[:, [0, -1]]).all()
    if keep:
        assert np.isnan(filled[:, 1]).all()
    frame = pd.DataFrame({"a": x[:, 0], "b": pd.Series([None] * 30, dtype=object)})
    with pytest.warns(UserWarning, match="column 'b'"):
        filled = imputer.set_output(transform="pandas").fit_transform(frame)
    assert list(filled) == (["a", "b"] if keep else ["a"]) and imputer.inverse_transform(filled).equals(filled)


def test_a_table_without_any_value_is_refused():
    with pytest.warns(UserWarning, match="no observed value"), pytest.raises(ValueError, match="value at all"):
        quick().fit(np.full((5, 2), np.nan))


def test_sample_imputations_differ_in_the_holes_only(fitted):
    frame, holes = mixed()
    fitted.set_output(transform="default")
    tables = fitted.sample_imputations(frame, 4)
    assert len(tables) == 4
    stack = np.array(tables)
    same = (stack == stack[0]).all(axis=0)
    assert same[~holes].all() and not same[holes].all()
    np.testing.assert_array_equal(stack, fitted.sample_imputations(frame, 4))  # same seed, same bits
    np.testing.assert_array_equal(stack, fitted.sample_imputations(frame, 7)[:4])
    other = np.array(fitted.sample_imputations(frame, 1, random_state=1))
    assert not (other == stack[:1])[:, holes].all()
    changed = fitted.set_params(random_state=1).sample_imputations(frame, 1)
    np.testing.assert_array_equal(changed, other)
    fitted.set_params(random_state=0)
    frames = fitted.set_output(transform="pandas").sample_imputations(frame, 2)
    assert all((f.dtypes["island"] == frame.dtypes["island"]) and not f.isna().any(axis=None) for f in frames)


def states():
    """Every random state that others may rely on, TensorFlow's and Keras's by what they would draw next."""
    drawn = [float(tf.random.normal(())), float(keras.random.normal(()))]
    return random.getstate(), np.random.get_state()[1].tolist(), drawn


def test_threads_give_the_bits_of_a_serial_fit_and_leave_all_that_is_shared_alone():
    x = np.random.default_rng(0).normal(size=(80, 1)) * [1.0, 2.0, 3.0]
    x[::3, 1] = np.nan
    settings = {**QUICK, "max_iter": 76, "learning_rate": 0.02, "strategy": "sample"}  # two epochs: compiled
    keras.utils.set_random_seed(7)
    before, filters = states(), list(warnings.filters)
    keras.utils.set_random_seed(7)
    with warnings.catch_warnings():
        warnings.simplefilter("error", ConvergenceWarning)  # it must train, else all weights are those of the start
        serial = VAEImputer(**settings).fit(x)
    filled = serial.transform(x)
    assert states() == before
    keras.utils.set_random_seed(8)
    with ThreadPoolExecutor(3) as pool:
        for imputer in pool.map(lambda _: VAEImputer(**settings).fit(x), range(3)):
            for one, other in zip(imputer.vae_.get_weights(), serial.vae_.get_weights(), strict=True):
                np.testing.assert_array_equal(one, other)
            assert imputer.bound_ == serial.bound_
    with ThreadPoolExecutor(8) as pool:
        for again in pool.map(lambda _: serial.transform(x), range(8)):
            np.testing.assert_array_equal(again, filled)
    assert warnings.filters == filters
    weights, others = (quick(random_state=seed, max_iter=1).fit(x).vae_.encoder.get_weights()[0] for seed in (0, 1))
    assert not np.array_equal(weights, others)


@pytest.mark.parametrize("likelihood", [None, "given"])
def test_save_and_load(tmp_path, likelihood):
    frame = mixed()[0].drop(columns="pair")
    if likelihood:
        frame = frame[["mass", "sex"]]
        likelihood = ct.Columns({"mass": ct.Normal(0.1), "sex": ct.Categorical(["female", "male", "none"])})
    imputer = quick(likelihood=likelihood, method=ct.samplers.Importance(num_prior=50)).fit(frame)
    imputer.set_output(transform="pandas").save(tmp_path / "one.file")
    assert [path.name for path in tmp_path.iterdir()] == ["one.file"]
    loaded = VAEImputer.load(tmp_path / "one.file")
    pd.testing.assert_frame_equal(loaded.transform(frame), imputer.transform(frame))
    assert str(loaded.get_params()) == str(imputer.get_params()) and loaded.score(frame) == imputer.score(frame)
    clone(loaded).fit(frame)
    if likelihood is None:
        copied = pickle.loads(pickle.dumps(imputer))
        pd.testing.assert_frame_equal(copied.transform(frame), imputer.transform(frame))


def test_what_cannot_be_saved_or_loaded_says_so(tmp_path):
    x = np.arange(20.0).reshape(10, 2)
    with pytest.raises(TypeError, match="integer random_state"):
        quick(random_state=np.random.RandomState(0)).fit(x).save(tmp_path / "a")
    times = pd.DataFrame({"t": pd.Series([("a", 1), ("b", 2)] * 5, dtype=object)})
    with pytest.raises(TypeError, match="only text and numbers"):
        quick().fit(times).save(tmp_path / "a")
    np.savez(tmp_path / "b.npz", a=np.ones(2))
    with pytest.raises(ValueError, match="not written by VAEImputer"):
        VAEImputer.load(tmp_path / "b.npz")
    assert [path.name for path in tmp_path.iterdir()] == ["b.npz"]


def test_pipelines_columns_and_grid_search():
    frame, _ = mixed(90)
    y = np.arange(90) % 2
    frame = frame[["mass", "whole", "sex"]]
    encode = make_column_transformer(
        (StandardScaler(), make_column_selector(dtype_include="number")),
        (OneHotEncoder(), make_column_selector(dtype_exclude="number")),
    )
    pipeline = make_pipeline(quick().set_output(transform="pandas"), encode, LogisticRegression())
    assert pipeline.fit(frame, y).predict(frame).shape == (90,)
    assert np.isfinite(cross_val_score(quick(), frame, cv=2, error_score="raise")).all()  # by its own score
    x = frame[["mass", "whole"]].to_numpy()
    search = GridSearchCV(
        make_pipeline(quick(), LinearRegression()),
        {"vaeimputer__latent_dim": [1, 2]},
        cv=ShuffleSplit(1, random_state=0),
        error_score="raise",
        refit=False,
    ).fit(x, y)
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()


@pytest.fixture(scope="module")
def trained():
    """Four views of one quantity around 5, -5, 0 and 0 (standard deviation 1.04), 30 % of them hidden."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(500, 1)) + 0.3 * rng.normal(size=(500, 4)) + [5.0, -5.0, 0.0, 0.0]
    holes = rng.random(x.shape) < 0.3
    imputer = VAEImputer(max_iter=1_000, hidden=(50,), num_importance=5, num_draws=50, random_state=0)
    return imputer.fit(np.where(holes, np.nan, x)[:400]), x, holes


def test_it_imputes_better_than_the_mean_and_one_draw_keeps_the_spread(trained):
    imputer, x, holes = trained
    x, holes = x[:400], holes[:400]
    filled = imputer.set_params(strategy="mean").transform(np.where(holes, np.nan, x))
    error = np.mean((filled - x)[holes] ** 2)
    assert error < 0.2  # the mean's is 1.09, the exact conditional mean's about 0.12
    draws = np.stack(
        [
            imputer.set_params(strategy="sample", random_state=seed).transform(np.where(holes, np.nan, x))
            for seed in range(8)
        ]
    )
    imputer.set_params(random_state=0)
    ratio = np.mean((draws - x)[:, holes] ** 2, axis=1) / error  # twice, if the spread is right
    assert abs(ratio.mean() - 2) < 3 * ratio.std(ddof=1) / math.sqrt(8) + 0.1
    assert (abs(draws.std(axis=1).mean(axis=0) / x.std(axis=0) - 1) < 0.05).all()


def test_the_score_prefers_the_model_that_trained(trained):
    imputer, x, holes = trained
    unseen = np.where(holes, np.nan, x)[400:]
    alone = np.random.default_rng(0).permuted(x, axis=0)  # columns that know nothing of one another
    assert imputer.score(unseen) > quick().fit(alone).score(unseen) + 0.5
    assert imputer.score(unseen) == imputer.score(unseen)
    # The reported bound is that of unseen rows, and training stopped because it rose no more.
    assert abs(imputer.bound_ - imputer.score(unseen)) < 0.5
    assert 0 < imputer.n_iter_ <= imputer.max_iter and imputer.n_iter_ % 50 == 0


def test_a_row_with_everything_missing_is_a_draw_from_the_model(trained):
    nothing = np.full((1, 4), np.nan)
    (row,) = trained[0].set_params(strategy="mean").transform(nothing)
    np.testing.assert_allclose(row, [5.0, -5.0, 0.0, 0.0], atol=0.5)
    draws = np.array(trained[0].sample_imputations(nothing, 200))[:, 0]
    np.testing.assert_allclose(draws.std(axis=0), 1.04, atol=0.3)


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("max_iter, steps", [(1, 1), (99, 98)])
def test_no_more_steps_than_asked_for(max_iter, steps):
    """Even where the last epoch would not be full; and with hardly a row to train on."""
    rows = np.random.default_rng(0).normal(size=(3, 2))
    assert quick(max_iter=max_iter, validation_fraction=0.9).fit(rows).n_iter_ == steps


@pytest.mark.parametrize(
    "table, error, message",
    [
        (np.array([[1.0, np.inf], [2.0, 3.0]]), ValueError, "infinite"),
        (np.array([[1, 1e300], [2, 3], [3, 4]]), ValueError, "column 1.* reach up to 1e.300, beyond single precision"),
        (np.array([[1e-40], [2e-40], [3e-40]]), ValueError, "beyond single precision"),
        (np.array([[1.7e9], [1.7e9 + 1], [1.7e9 + 3]]), ValueError, "too little for single precision"),
        (pd.DataFrame({"t": pd.to_datetime(["2020-01-01", "2021-01-01"])}), TypeError, "'t' holds datetime64"),
        (pd.DataFrame([[1, 2], [2, 3]], columns=["a", "a"]), ValueError, "'a' stands twice"),
        (pd.DataFrame({"a": []}), ValueError, "no rows"),
        (pd.DataFrame(index=[0, 1]), ValueError, "no columns"),
        (pd.DataFrame({"a": [{}, {}, 1]}), TypeError, "must be a string or a number"),
        (np.zeros((2, 2, 2)), ValueError, "dim"),
        (pd.DataFrame({"a": [1j, 2j]}), TypeError, "complex"),
    ],
)
def test_odd_tables_are_refused(table, error, message):
    with pytest.raises(error, match=message):
        quick().fit(table)


def test_masked_arrays_are_tables_with_holes():
    x = np.ma.masked_greater(np.arange(40).reshape(20, 2), 36)
    filled = quick().fit_transform(x)
    assert filled[18, 1] != 37 and filled[19, 0] != 38 and filled[17, 1] == 35


@pytest.fixture(scope="module")
def plain():
    return quick().fit(pd.DataFrame({"x": np.arange(20.0), "s": ["a", "b"] * 10}))


@pytest.mark.parametrize(
    "table, message",
    [
        (pd.DataFrame({"x": [1.0], "s": ["c"]}), "'s': category 'c' was never seen"),
        (pd.DataFrame({"s": ["a"], "x": [1.0]}), "feature names should match"),
        (pd.DataFrame({"x": [1.0]}), "missing"),
        (pd.DataFrame({"x": ["?"], "s": ["a"]}), "'x': '\\?' is not a number"),
        (pd.DataFrame({"x": [np.inf], "s": ["a"]}), "infinite"),
    ],
)
def test_new_tables_that_do_not_fit_are_refused(table, message, plain):
    for output in ("default", "pandas"):
        with pytest.raises(ValueError, match=message):
            plain.set_output(transform=output).transform(table)


@pytest.mark.parametrize(
    "settings, message",
    [
        ({"strategy": "median"}, "strategy"),
        ({"num_draws": 0}, "num_draws"),
        ({"max_iter": 2.5}, "max_iter"),
        ({"validation_fraction": 1.0}, "validation_fraction"),
        ({"method": "gibbs"}, "unknown method"),
        ({"latent_dim": -1}, "latent_dim"),
        ({"likelihood": "normal"}, "likelihood"),
        ({"likelihood": ct.Columns([ct.Normal()])}, "the likelihood describes"),
        ({"batch_size": 0}, "batch_size"),
        ({"hidden": 8}, "hidden"),
        ({"patience": 0}, "patience"),
    ],
)
def test_settings_that_cannot_work_are_refused(settings, message):
    with pytest.raises((ValueError, TypeError), match=message):
        quick(**settings).fit(np.random.default_rng(0).normal(size=(30, 2)))


@pytest.mark.parametrize("m, error", [(0, ValueError), (2.5, TypeError)])
def test_the_number_of_tables_is_checked(fitted, m, error):
    with pytest.raises(error, match="^m "):
        fitted.sample_imputations(mixed()[0], m)


def test_many_rows_go_in_blocks_and_warn_once(recwarn, monkeypatch):
    """Blocks give complete rows, and the sampler's warning is passed on once."""
    x = np.random.default_rng(0).normal(size=(20_000, 2))
    x[:, 0] = np.nan
    imputer = quick(method="one_pass", strategy="sample", max_iter=2).fit(np.random.default_rng(1).normal(size=(50, 2)))
    warnings.simplefilter("always")
    filled = imputer.transform(x)
    assert np.isfinite(filled).all() and len(np.unique(filled[:, 0])) > 19_000
    assert len([w for w in recwarn if issubclass(w.category, ct.SamplingWarning)]) == 1
    import cvae_tutorial.tables.imputer as room

    sizes = []
    monkeypatch.setattr(room, "sample_conditional", lambda model, rows, s, *a, **k: sizes.append(len(rows)) or 1 / 0)
    with pytest.raises(ZeroDivisionError):
        imputer.set_params(strategy="mean", num_draws=1000).transform(x)
    assert sizes == [2**24 // (1000 * 48)]


def test_training_that_leads_nowhere_says_so():
    x = np.random.default_rng(0).normal(size=(30, 2))
    with pytest.warns(ConvergenceWarning, match="lower learning_rate"):
        imputer = quick(learning_rate=1e6, max_iter=100).fit(x)
    assert np.isfinite(imputer.bound_) and np.isfinite(imputer.score(x))  # the weights it started from


def test_progress_is_shown_when_asked_for(capsys):
    x = np.random.default_rng(0).normal(size=(30, 2))
    x[0, 0] = np.nan
    quick(verbose=1).fit_transform(x)
    shown = capsys.readouterr().out
    assert "5/5" in shown and "bound" in shown and "1/1" in shown
    quick().fit_transform(x)
    assert capsys.readouterr().out == ""


# ---------------------------------------------------------------- containers


def test_polars_comes_back_as_it_went_in():
    polars = pytest.importorskip("polars")
    cells = {
        "sex": ["f", "m", None] * 20,
        "n": [1, None, 3] * 20,
        "x": [0.5, 1.5, None] * 20,
        "b": [True, None, False] * 20,
    }
    table = polars.DataFrame(cells)
    imputer = quick().set_output(transform="polars").fit(table)
    for filled in (imputer.transform(table), *imputer.sample_imputations(table, 2)):
        assert filled.schema == table.schema and filled.null_count().sum_horizontal().item() == 0
        for name in table.columns:
            was = table[name].is_not_null()
            assert filled[name].filter(was).to_list() == table[name].filter(was).to_list()
    with pytest.raises(TypeError, match=r"LazyFrame is no table in memory: call its collect"):
        imputer.transform(table.lazy())


def test_text_that_was_nan_is_no_category():
    table = np.array([["male", 3.0], ["female", np.nan], [np.nan, 5.0]] * 10)
    with pytest.raises(ValueError, match="holds the text 'nan'.*missing_values='nan'"):
        quick().fit(table)
    imputer = quick(missing_values="nan").fit(table)
    assert (
        imputer.categories_[0] == ["female", "male"]
        and imputer.inverse_transform(imputer.transform(table))["x0"].isin(["female", "male"]).all()
    )


def test_holes_may_be_marked_and_are_indicated():
    frame = pd.DataFrame(
        {"a": [1, 2, -1, 4, 5] * 10, "b": ["u", "v", "w", "u", "v"] * 10, "c": [0.1, 0.2, 0.3, -1, 0.5] * 10}
    )
    imputer = quick(missing_values=-1, add_indicator=True).set_output(transform="pandas").fit(frame)
    filled, holes = imputer.transform(frame), frame == -1
    assert filled.columns.tolist() == ["a", "b", "c", "missingindicator_a", "missingindicator_c"]
    assert filled["a"].dtype == "Int64" and filled["a"].between(1, 5).all() and filled["c"].between(0.1, 0.5).all()
    assert (filled[["missingindicator_a", "missingindicator_c"]].to_numpy() == holes[["a", "c"]].to_numpy()).all()
    assert (filled[["a", "b", "c"]].where(~holes, 0) == frame.where(~holes, 0)).all(axis=None)
    assert imputer.inverse_transform(filled).columns.tolist() == ["a", "b", "c"]
    array = quick(missing_values=-1, add_indicator=True).fit_transform(frame[["a", "c"]].to_numpy())
    assert array.shape == (50, 4) and (array[:, 2:] == holes[["a", "c"]].to_numpy()).all()
    other = SimpleImputer(missing_values=-1, add_indicator=True).set_output(transform="pandas")
    numbers = frame[["a", "c"]]
    assert other.fit(numbers).get_feature_names_out().tolist() == [
        *quick(missing_values=-1, add_indicator=True).fit(numbers).get_feature_names_out()
    ]


def test_unknown_categories_are_refused_or_left_as_they_came():
    frame = pd.DataFrame({"n": [1.5, 2.5, 3.5, 4.5] * 10, "c": ["u", "v", "u", "v"] * 10})
    new = pd.DataFrame({"n": [np.nan, np.nan], "c": ["new", "u"]})
    with pytest.raises(ValueError, match="category 'new' was never seen"):
        quick().fit(frame).transform(new)
    imputer = quick(handle_unknown="ignore").fit(frame)
    array = imputer.transform(new)
    assert np.isnan(array[0, 1]) and array[1, 1] == 0 and np.isfinite(array[:, 0]).all()
    assert imputer.set_output(transform="pandas").transform(new)["c"].tolist() == ["new", "u"]
    assert np.isfinite(imputer.score(new))
    with pytest.raises(ValueError, match="handle_unknown must be"):
        quick(handle_unknown="drop").fit(frame)
    with pytest.raises(TypeError, match="missing_values is one value, .* got \\[-1, -9\\]"):
        quick(missing_values=[-1, -9]).fit(np.zeros((5, 2)))
