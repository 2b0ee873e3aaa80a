"""Odd but plausible input: the right answer, or a clear error before anything is computed."""

import keras
import numpy as np
import pandas as pd
import pytest
import tensorflow as tf

import cvae_tutorial as ct

ROWS = ct.two_ridges().sample(64, seed=0)


def small(**settings):
    vae = ct.VAE(2, hidden=(4,), seed=0, **settings)
    vae.compile("adam", run_eagerly=True)
    return vae


@pytest.fixture(scope="module")
def published():
    return ct.load_vae("two_ridges")


def test_a_constant_column_whose_mean_rounds_keeps_its_unit():
    vae = small()
    vae.adapt(np.c_[np.full(1001, 0.1), np.arange(1001.0)])  # np.std of the first is 1e-15
    np.testing.assert_allclose(vae.shift[0], 0.1, rtol=1e-6)
    assert vae.scale[0] == 1.0


@pytest.mark.parametrize("dtype", ["float64", "float32", "int32"])
def test_datasets_of_any_number_type_train_and_evaluate(dtype):
    vae = small()
    vae.adapt(ROWS)
    batches = tf.data.Dataset.from_tensor_slices(ROWS.astype(dtype)).batch(32)
    history = vae.fit(batches, verbose=0, validation_data=batches).history
    assert np.isfinite(history["loss"] + history["val_loss"]).all()
    assert np.isfinite(vae.evaluate(batches, verbose=0)).all()


@pytest.mark.parametrize("rows", [ROWS.tolist(), (ROWS.tolist(),), (ROWS, ROWS), (pd.DataFrame(ROWS),)])
def test_validation_rows_as_lists_and_in_tuples(rows):
    history = small().fit(ROWS, verbose=0, validation_data=rows).history
    assert np.isfinite(history["val_loss"]).all()


def test_rows_as_lists_are_evaluated():
    assert np.isfinite(small().evaluate(ROWS.tolist(), verbose=0)).all()


def test_a_refused_table_leaves_no_names_behind():
    vae = small()
    with pytest.raises(ValueError, match="3 columns given, the model has 2"):
        vae.fit(pd.DataFrame(np.c_[ROWS, ROWS[:, 0]], columns=list("abc")))
    with pytest.raises(ValueError, match="'t' is not a number"):
        vae.fit(pd.DataFrame({"a": ROWS[:, 0], "b": "t"}))
    assert vae.feature_names is None
    vae.fit(pd.DataFrame(ROWS, columns=["u", "v"]), verbose=0)
    assert vae.feature_names == ("u", "v")


def test_names_as_an_array_and_repeated_names():
    assert small(feature_names=np.array(["a", "b"])).feature_names == ("a", "b")
    with pytest.raises(ValueError, match="named twice"):
        small(feature_names=["a", "a"])


@pytest.mark.parametrize("policy", ["mixed_float16", "float64"])
def test_other_precisions_train_and_sample(policy):
    keras.mixed_precision.set_global_policy(policy)
    try:
        vae = small()
        vae.fit(ROWS, verbose=0)
        draws = ct.sample_conditional(vae, {0: 1.0}, 50, "importance", seed=0)
    finally:
        keras.mixed_precision.set_global_policy("float32")
    assert vae.shift.dtype == "float32" and np.isfinite(draws.values).all()


@pytest.mark.parametrize(
    "settings, message",
    [
        ({"max_memory": np.inf}, "max_memory"),
        ({"max_memory": "1"}, "max_memory"),
        ({"num_chains": 2**31}, "lower"),
        ({"num_steps": 2**31}, "lower"),
        ({"method": "pseudo_gibbs", "thin": 2**31}, "lower"),
        ({"method": "pseudo_gibbs", "num_chains": 4, "start": np.full((4, 2), np.inf)}, "finite value"),
        ({"method": ct.samplers.MetropolisWithinGibbs(50), "warmup": 10}, "pseudo_gibbs_steps=50"),
    ],
)
def test_settings_that_cannot_work_are_refused(published, settings, message):
    with pytest.raises(ValueError, match=message):
        ct.sample_conditional(published, {0: 1.0}, 20, **{"method": "importance", **settings})


@pytest.mark.parametrize("model", [None, "two_ridges", ct.VAE])
def test_what_is_no_model_is_refused(model):
    with pytest.raises(TypeError, match="model must be a VAE"):
        ct.sample_conditional(model, {0: 1.0})


def network(inputs, *outputs):
    layer = keras.Input((inputs,))
    made = [keras.layers.Dense(width)(layer) for width in outputs]
    return keras.Model(layer, made if len(made) > 1 else made[0])


@pytest.mark.parametrize(
    "encoder, decoder, likelihood, message",
    [
        (None, network(2, 4), ct.Bernoulli(), "encoder must be a built"),
        (keras.Sequential([keras.layers.Dense(2)]), network(2, 4), ct.Bernoulli(), "encoder must be a built"),
        (network(4, 2, 2), None, ct.Bernoulli(), "decoder must be a built"),
        (network(4, 2, 2), network(2, 5), ct.Bernoulli(), "writes 5 columns"),
        (network(4, 2, 2), network(2, 4, 4), ct.Bernoulli(), "returns one output"),
        (network(4, 2, 2), network(2, 4), ct.Bernoulli, "likelihood object"),
    ],
)
def test_networks_that_do_not_fit_are_refused_by_wrap(encoder, decoder, likelihood, message):
    with pytest.raises((ValueError, TypeError), match=message):
        ct.wrap(encoder, decoder, likelihood)
    with pytest.raises(ValueError, match="1 feature_names for 4"):
        ct.wrap(network(4, 2, 2), network(2, 4), ct.Bernoulli(), feature_names=["a"])


def test_many_short_chains_go_to_arviz_without_a_warning(published, recwarn):
    settings = {"num_chains": 200, "warmup": 50, "thin": 5}
    draws = ct.sample_conditional(published, {0: 1.0}, 400, "adaptive_collapsed", seed=0, **settings)
    draws.to_arviz()
    assert not [w for w in recwarn if "chain" in str(w.message)]


@pytest.mark.parametrize("rows", [(ROWS, ROWS), (ROWS,)])
def test_a_tuple_of_tables_is_refused_by_fit(rows):
    with pytest.raises(TypeError, match="x is one table"):
        small().fit(rows)


def test_a_tensor_is_a_table():
    assert np.isfinite(small().fit(tf.constant(ROWS), verbose=0).history["loss"]).all()


@pytest.mark.parametrize("likelihood", ["normal", ct.Normal, 3])
def test_what_is_no_likelihood_is_refused(likelihood):
    with pytest.raises(TypeError, match="likelihood object such as Normal()"):
        ct.VAE(2, likelihood=likelihood)
    with pytest.raises(TypeError, match="likelihood object such as Normal()"):
        ct.Columns([likelihood])


@pytest.mark.parametrize("num_samples", [0, -1, 1.5, "3", True])
def test_a_number_of_draws_that_cannot_be_is_refused(published, num_samples):
    with pytest.raises(ValueError, match="num_samples must be a positive integer"):
        published.sample(num_samples)


@pytest.mark.parametrize(
    "frame, error, message",
    [
        (pd.DataFrame({"a": [None, None]}), ValueError, "'a' has no observed value"),
        (pd.DataFrame({"a": [np.nan, np.nan]}), ValueError, "'a' has no observed value"),
        (pd.DataFrame([[1.0, 2.0]], columns=["a", "a"]), ValueError, "'a' stands twice"),
        (pd.DataFrame({"a": ["x", "x", None]}), ValueError, "'a' holds one category only, 'x'"),
        (pd.DataFrame({"a": pd.Categorical(["x"])}), ValueError, "one category only"),
        (pd.DataFrame({"a": pd.to_datetime(["2020-01-01"])}), TypeError, "'a' holds datetime64"),
        (pd.DataFrame({"a": [1j]}), TypeError, "'a' holds complex"),
        (pd.DataFrame({"a": [{}, {}]}), TypeError, "must be a string or a number"),
    ],
)
def test_columns_that_have_no_likelihood_are_refused(frame, error, message):
    with pytest.raises(error, match=message):
        ct.Columns.from_frame(frame)


def test_likelihoods_are_guessed_by_what_a_column_holds():
    frame = pd.DataFrame(
        {
            "float": [1.5, None],
            "numbers": pd.Series([1, None], dtype=object),
            "flag": [True, False],
            "maybe": pd.Series([True, None], dtype=object),
            "zeros": pd.Categorical([0, 1]),
            "text": ["a", "b"],
        }
    )
    normal, bernoulli = ct.Normal(), ct.Bernoulli()
    assert ct.Columns.from_frame(frame).kinds == (
        normal,
        normal,
        bernoulli,
        bernoulli,
        ct.Categorical((0, 1)),
        ct.Categorical(("a", "b")),
    )
