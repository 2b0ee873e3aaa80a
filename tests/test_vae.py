"""The VAE: the bound against closed forms, training as Keras does it, saving, tables with holes."""

import copy
import pickle
import random
from concurrent.futures import ThreadPoolExecutor

import keras
import numpy as np
import pandas as pd
import pytest
import tensorflow as tf

import cvae_tutorial as ct
from cvae_tutorial.exact import LinearGaussian
from cvae_tutorial.model import check_model, feature_names, num_features, width

NAN = np.nan


@pytest.fixture(scope="module")
def exact():
    """A linear-Gaussian model, its columns in units of their own."""
    return LinearGaussian([[0.8, 0.1], [-3.0, 20.0], [0.02, 0.01]], [5.0, -100.0, 0.3], [0.5, 15.0, 0.02])


@pytest.fixture(scope="module")
def linear(exact):
    """A VAE whose weights are set to those of the linear-Gaussian model, and its encoder to the
    best that independent latents can do. Hidden layers do not come into it: the networks are one
    layer each."""

    def layer(inputs, outputs, name):
        return keras.Sequential([keras.Input((inputs,)), keras.layers.Dense(outputs)], name=name)

    vae = ct.VAE(num_features=3, latent_dim=2, encoder=layer(3, 4, "encoder"), decoder=layer(2, 6, "decoder"), seed=0)
    vae.adapt(np.array([[4.0, -130.0, 0.25], [6.0, -90.0, 0.37]]))
    shift, unit = vae.shift.numpy(), vae.scale.numpy()
    precision = np.eye(2) + exact.loadings.T / exact.noise_scale**2 @ exact.loadings
    gain = np.linalg.solve(precision, exact.loadings.T / exact.noise_scale**2)  # (2, 3)
    scale = np.sqrt(1 / np.diag(precision))

    def unplus(y):
        return np.log(np.expm1(y))

    vae.encoder.set_weights(
        [
            np.hstack([unit[:, None] * gain.T, np.zeros((3, 2))]),
            np.hstack([gain @ (shift - exact.offset), unplus(scale - 1e-4)]),
        ]
    )
    vae.decoder.set_weights(
        [
            np.hstack([(exact.loadings / unit[:, None]).T, np.zeros((2, 3))]),
            np.hstack([(exact.offset - shift) / unit, unplus(exact.noise_scale / unit - 0.01)]),
        ]
    )
    return vae


@pytest.fixture(autouse=True)
def same_noise_in_any_order(linear):
    linear.noise.state.assign([7, 0])


@pytest.fixture(scope="module")
def rows(exact):
    return exact.condition({}).sample(60, seed=1)


@pytest.fixture(scope="module")
def small():
    """A VAE trained for a moment on mixed columns with holes, and its frame."""
    rng = np.random.default_rng(0)
    z = rng.normal(size=600)
    frame = pd.DataFrame(
        {
            "mass": 4000 + 800 * z,
            "wild": z + rng.normal(size=600) > 0,
            "sex": np.where(z + 0.5 * rng.normal(size=600) > 0, "m", "f"),
        }
    )
    holes = rng.random(frame.shape) < 0.2
    holes[0] = True  # a row that says nothing
    frame = frame.astype({"wild": object}).mask(holes)
    keras.utils.set_random_seed(0)
    likelihood = ct.Columns({"mass": ct.Normal(), "wild": ct.Bernoulli(), "sex": ct.Categorical(("f", "m"))})
    vae = ct.VAE(likelihood=likelihood, latent_dim=1, hidden=(16,), num_importance=5, seed=0)
    vae.compile(keras.optimizers.Adam(1e-2), steps_per_execution=4)
    history = vae.fit(
        frame,
        epochs=25,
        batch_size=50,
        verbose=0,
        validation_data=frame.iloc[:100],
        callbacks=[keras.callbacks.TerminateOnNaN()],
    )
    return vae, frame, history


# The bound


def test_bound_meets_the_likelihood(linear, exact, rows):
    """Below log p(x) for any K in the mean, closer with more draws, equal in the limit."""
    log_p = exact.condition({}).log_prob(rows)
    bounds = {k: linear.bound(np.repeat(rows, 100, 0), k)[0].numpy().reshape(60, 100) for k in (1, 10, 500)}
    gaps = [(log_p - bounds[k].mean(1)).mean() for k in (1, 10, 500)]
    assert gaps[0] > 3 * max(gaps[1], 0.0) and gaps[0] > 0.008
    np.testing.assert_allclose(bounds[500].mean(1), log_p, atol=0.02)


def test_the_elbo_misses_by_the_kl_to_the_posterior(linear, exact, rows):
    """The gap in closed form: the encoder has the right mean, and no correlation."""
    precision = np.eye(2) + exact.loadings.T / exact.noise_scale**2 @ exact.loadings
    scale2 = 1 / np.diag(precision)
    gap = 0.5 * (np.trace(precision @ np.diag(scale2)) - 2 - np.linalg.slogdet(precision)[1] - np.log(scale2).sum())
    bound = linear.bound(np.repeat(rows, 4_000, 0), 1)[0].numpy().reshape(60, -1).mean(1)
    assert (exact.condition({}).log_prob(rows) - bound).mean() == pytest.approx(gap, abs=0.005) and gap > 0.01


def test_elbo_splits_into_reconstruction_and_kl(linear, rows):
    bound, reconstruction, kl = (a.numpy() for a in linear.bound(rows, 20_000))
    loc, scale = (a.numpy() for a in linear.encode(rows))
    exact_kl = 0.5 * (loc**2 + scale**2 - 1 - 2 * np.log(scale)).sum(1)
    np.testing.assert_allclose(kl, exact_kl, rtol=1e-5)
    elbo = linear.bound(np.repeat(rows, 2_000, 0), 1)[0].numpy().reshape(60, -1).mean(1)
    np.testing.assert_allclose(elbo, reconstruction - kl, atol=0.15)
    assert (bound >= reconstruction - kl - 0.02).all()


@pytest.fixture
def wide_encoder(linear):
    """For a while, an encoder wider than the prior: weights are then bounded, whatever is missing."""
    kept = linear.encoder.get_weights()
    linear.encoder.set_weights([0 * kept[0], np.array([0.0, 0.0, 1.5, 1.5])])
    yield
    linear.encoder.set_weights(kept)


def test_missing_cells_leave_the_bound(linear, exact, rows, wide_encoder):
    holes = rows[:15].copy()
    holes[:5, 0] = holes[5:10, 1:] = holes[10:] = NAN
    bound, reconstruction, _ = (a.numpy() for a in linear.bound(holes, 20_000))
    whole = exact.condition({})
    np.testing.assert_allclose(bound[:5], whole.marginal([1, 2]).log_prob(rows[:5, 1:]), atol=0.06)
    np.testing.assert_allclose(bound[5:10], whole.marginal([0]).log_prob(rows[5:10, :1]), atol=0.06)
    np.testing.assert_allclose(bound[10:], 0.0, atol=0.06)
    assert (reconstruction[10:] == 0).all()


def test_bound_is_over_one_draw_by_default(linear, rows):
    one = linear.bound(rows)[0].numpy()
    linear.noise.state.assign([7, 0])
    assert (one == linear.bound(rows, 1)[0].numpy()).all()
    linear.noise.state.assign([7, 0])
    assert (one != linear.bound(rows, 2)[0].numpy()).any()


def test_draws_of_the_set_model_are_exact(linear, exact):
    draws = ct.sample_conditional(linear, {0: 6.0}, 4_000, seed=0, progress=False).values[:, 1:]
    target = exact.condition({0: 6.0})
    assert (np.abs(draws.mean(0) - target.mean) < 5 * target.std / np.sqrt(4_000)).all()
    np.testing.assert_allclose(np.cov(draws.T), target.covariance, rtol=0.15, atol=0.1 * np.prod(target.std))
    joint = linear.sample(20_000, seed=0)
    whole = exact.condition({})
    assert (np.abs(joint.mean(0) - whole.mean) < 5 * whole.std / np.sqrt(20_000)).all()
    assert (joint == linear.sample(20_000, seed=0)).all()
    assert (joint != linear.sample(20_000, seed=1)).all(axis=1).mean() > 0.99


def test_reconstruction_in_the_datas_units(linear, exact, rows):
    loc, _ = linear.encode(rows)
    np.testing.assert_allclose(linear(rows), loc.numpy() @ exact.loadings.T + exact.offset, rtol=1e-4, atol=1e-4)


# Training


def test_training_on_a_table_with_holes(small):
    vae, frame, history = small
    expected = {"loss", "bound", "reconstruction", "kl"}
    assert set(history.history) == expected | {f"val_{name}" for name in expected}
    losses = history.history["loss"]
    assert np.isfinite(losses).all() and losses[-1] < losses[0] - 0.1
    assert losses[-1] == pytest.approx(-history.history["bound"][-1])
    assert history.history["kl"][-1] > 0.05  # the latent is in use
    reached = vae.evaluate(frame, verbose=0, return_dict=True)
    assert reached["loss"] == pytest.approx(losses[-1], abs=0.1)
    assert vae.feature_names == ("mass", "wild", "sex")


def test_trained_draws_follow_the_evidence(small):
    vae, _, _ = small
    draws = {
        sex: ct.sample_conditional(vae, {"sex": sex}, 1_000, seed=0, progress=False).column("mass") for sex in "fm"
    }
    # In truth 4000 ± 800 E[z | sign], which is 571 apart from the middle on either side.
    assert 3_000 < draws["f"].mean() < 3_800 < 4_200 < draws["m"].mean() < 5_000
    assert 400 < draws["f"].std() < 900


def test_fits_fresh_rows_and_datasets():
    rows = np.random.default_rng(0).normal(size=(100, 2))
    dataset = tf.data.Dataset.from_tensor_slices(rows.astype("float32")).batch(50)
    vae = ct.VAE(num_features=2, hidden=(4,), seed=0)
    vae.compile("adam")
    with pytest.raises(ValueError, match=r"call vae.adapt\(rows\) before fitting on a dataset"):
        vae.fit(dataset, verbose=0)
    vae.adapt(rows)
    vae.fit(dataset, verbose=0, validation_data=dataset)
    vae.fit(ct.FreshRows(ct.two_ridges(), 100, 50), verbose=0)
    assert vae.optimizer.iterations == 4
    vae.fit(rows + 50, verbose=0, batch_size=50)  # later data leave the units alone
    np.testing.assert_allclose(vae.shift, rows.mean(0), atol=1e-6)


def test_same_seed_same_training():
    def train():
        keras.utils.set_random_seed(1)
        vae = ct.VAE(num_features=2, hidden=(4,), seed=1)
        vae.compile("adam")
        vae.fit(np.arange(40.0).reshape(20, 2) ** 2, epochs=2, verbose=0)
        return vae.get_weights()

    assert all((a == b).all() for a, b in zip(train(), train(), strict=True))


def test_kl_warmup_ramps_and_ends_at_one():
    seen = []
    vae = ct.VAE(num_features=2, hidden=(4,), seed=0)
    vae.compile("adam")
    watch = keras.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: seen.append(float(vae.kl_weight)))
    rows = np.random.default_rng(0).normal(size=(20, 2))
    vae.fit(rows, epochs=6, verbose=0, callbacks=[ct.KLWarmup(4), watch])
    assert seen == [0.0, 0.25, 0.5, 0.75, 1.0, 1.0]
    vae.fit(rows, epochs=2, verbose=0, callbacks=[ct.KLWarmup(4)])  # stopped on the ramp
    assert vae.kl_weight == 1.0
    vae.kl_weight.assign(0.0)
    bound, reconstruction, _ = vae.bound(rows.astype("float32"), 1)
    np.testing.assert_allclose(bound, reconstruction, rtol=1e-6)


# Training is Keras's own: whatever a train step does for another model, it does for this one

ROWS = np.random.default_rng(0).normal([50.0, -3.0], [9.0, 0.5], (60, 2))
WEIGHTS = np.random.default_rng(1).uniform(0, 2, 60)


def linear_pair(regularizer=None, activity=None):
    """An encoder and a decoder of one layer each, the same whenever they are made."""
    start = keras.initializers.GlorotUniform

    def layer(inputs, outputs, seed, **settings):
        dense = keras.layers.Dense(outputs, kernel_initializer=start(seed), **settings)
        return keras.Sequential([keras.Input((inputs,)), dense])

    return {
        "encoder": layer(2, 4, 1, kernel_regularizer=regularizer),
        "decoder": layer(2, 4, 2, activity_regularizer=activity),
    }


def trained(rows=ROWS, networks=None, optimizer=None, compiled=None, dtype=None, **fitted):
    """A VAE after one epoch, and what it was before: weights and reported numbers."""
    vae = ct.VAE(2, seed=0, dtype=dtype, **(linear_pair() if networks is None else networks))
    vae.adapt(ROWS)
    vae.compile(optimizer or keras.optimizers.SGD(0.1), **{"run_eagerly": True} | (compiled or {}))  # to save time
    before = vae.get_weights()
    history = vae.fit(rows, **{"batch_size": 60, "shuffle": False, "verbose": 0} | fitted).history
    return vae, before, history


def step_by_hand(penalty=lambda vae: 0.0, weights=None, networks=None, rows=ROWS):
    """The gradient of the mean of weight times negative bound, plus a penalty: one step of length .1."""
    vae = ct.VAE(2, seed=0, **(networks or linear_pair()))
    vae.adapt(ROWS)
    with tf.GradientTape() as tape:
        bound = vae.bound(rows, training=True)[0]
        loss = -tf.reduce_mean(bound * tf.cast(1.0 if weights is None else weights, "float32")) + penalty(vae)
    keras.optimizers.SGD(0.1).apply(tape.gradient(loss, vae.trainable_weights), vae.trainable_weights)
    return vae, float(loss)


def assert_same(vae, other, rtol=1e-4):
    for a, b in zip(vae.get_weights(), other.get_weights(), strict=True):
        np.testing.assert_allclose(a, b, rtol=rtol, atol=1e-5)


@pytest.mark.parametrize("run", [{"run_eagerly": False}, {}])
def test_a_step_is_the_gradient_of_the_negative_bound(run):
    vae, before, history = trained(compiled=run)
    by_hand, loss = step_by_hand()
    assert_same(vae, by_hand)
    assert history["loss"][0] == pytest.approx(loss, rel=1e-5)
    assert max(np.abs(a - b).max() for a, b in zip(before, vae.get_weights(), strict=True)) > 0.01


@pytest.mark.parametrize("run", [{}, {"run_eagerly": True}, {"steps_per_execution": 3}])
def test_dropout_and_batch_normalization_know_training_from_use(run):
    drop, normalize = keras.layers.Dropout(0.9, seed=0), keras.layers.BatchNormalization(momentum=0.5)
    seen, call = [], drop.call
    drop.call = lambda x, training=False: (seen.append(training), call(x, training=training))[1]
    layers = [keras.Input((2,)), normalize, drop, keras.layers.Dense(4)]
    again = keras.layers.BatchNormalization(momentum=0.5)
    vae = ct.VAE(
        2,
        encoder=keras.Sequential(layers),
        seed=0,
        decoder=keras.Sequential([keras.Input((2,)), again, keras.layers.Dense(4)]),
    )
    vae.compile("adam", **run)
    vae.adapt(ROWS)
    vae.fit(ROWS + [10 * float(vae.scale[0]), 0.0], batch_size=20, verbose=0)  # ten standard deviations off
    after_three_updates = 10 * (1 - 0.5**3)
    assert True in seen and float(normalize.moving_mean[0]) == pytest.approx(after_three_updates, rel=0.05)
    assert not np.allclose(again.moving_variance, 1.0, atol=1e-3)
    seen.clear()
    kept = [layer.get_weights() for layer in (normalize, again)]
    first, second = (vae.evaluate(ROWS, verbose=0, return_dict=True)["kl"] for _ in range(2))
    assert first == second  # no dropout
    vae.encode(ROWS), vae.sample(5, seed=0), vae(ROWS), vae.bound(ROWS), vae.predict(ROWS, verbose=0)
    assert set(seen) == {False}
    np.testing.assert_equal([layer.get_weights() for layer in (normalize, again)], kept)


def test_penalties_of_the_networks_are_added_once():
    """A regulariser, and a loss added in a call: each in the step, and once in what is reported."""
    networks = linear_pair(keras.regularizers.L2(3.0), keras.regularizers.L2(0.1))

    def kernel(vae):
        return 3.0 * tf.reduce_sum(vae.encoder.layers[-1].kernel ** 2)

    vae, _, history = trained(networks=networks)
    # The activity of the decoder is that at the draws of the bound: Keras keeps it on the layer.
    by_hand, loss = step_by_hand(
        lambda vae: kernel(vae) + sum(vae.decoder.losses), networks=linear_pair(None, keras.regularizers.L2(0.1))
    )
    assert_same(vae, by_hand)
    assert history["loss"][0] == pytest.approx(loss, rel=1e-5)
    plain, _ = step_by_hand()
    assert np.abs(plain.encoder.get_weights()[0] - by_hand.encoder.get_weights()[0]).max() > 0.1
    vae.decoder.layers[-1].activity_regularizer = None
    reached = vae.evaluate(ROWS, verbose=0, return_dict=True)
    assert reached["loss"] + reached["bound"] == pytest.approx(float(kernel(vae)), rel=1e-4)


@pytest.mark.parametrize(
    "weights, y, run",
    [
        (WEIGHTS, None, {}),
        (WEIGHTS.tolist(), None, {}),
        (pd.Series(WEIGHTS), np.zeros(60), {}),
        (WEIGHTS, None, {"run_eagerly": False}),
    ],
    ids=["array", "list", "series", "graph"],
)
def test_weights_of_rows(weights, y, run):
    """In the step and in what is reported, with and without targets: Keras itself drops weights without y."""
    vae, _, history = trained(sample_weight=weights, y=y, validation_data=(ROWS, y, weights), compiled=run)
    by_hand, loss = step_by_hand(weights=WEIGHTS)
    assert_same(vae, by_hand)
    plain, _ = step_by_hand()
    assert np.abs(plain.encoder.get_weights()[0] - vae.encoder.get_weights()[0]).max() > 1e-3
    assert history["loss"][0] == pytest.approx(loss, rel=1e-5)
    kl = by_hand.bound(ROWS)[2].numpy()  # no noise in it
    assert history["val_kl"][0] == pytest.approx(np.average(kl, weights=WEIGHTS), rel=1e-4)
    reached = vae.evaluate(ROWS, y, sample_weight=weights, verbose=0, return_dict=True)
    assert reached["kl"] == pytest.approx(np.average(kl, weights=WEIGHTS), rel=1e-4)
    assert abs(np.average(kl, weights=WEIGHTS) / kl.mean() - 1) > 1e-3


def test_weights_of_rows_in_datasets_and_batches():
    batches = tf.data.Dataset.from_tensor_slices((ROWS, np.zeros(60), WEIGHTS)).batch(60)
    by_hand, _ = step_by_hand(weights=WEIGHTS)
    assert_same(trained(batches, batch_size=None)[0], by_hand)
    vae, _, _ = trained(epochs=0)
    vae.train_on_batch(ROWS, sample_weight=WEIGHTS)
    assert_same(vae, by_hand)


def test_rows_without_weight_are_not_learned():
    rows = np.r_[np.full((300, 1), -3.0), np.full((300, 1), 3.0)] + np.random.default_rng(0).normal(0, 0.3, (600, 1))
    vae = ct.VAE(1, latent_dim=1, hidden=(16,), seed=0)
    vae.compile(keras.optimizers.Adam(1e-2))
    vae.fit(rows, sample_weight=np.repeat([0.0, 1.0], 300), epochs=30, verbose=0)
    assert (vae.sample(2_000, seed=0) < 0).mean() < 0.02


def test_targets_serve_metrics_and_not_the_loss():
    y = ROWS + 1.0
    vae, _, history = trained(y=y, compiled={"metrics": ["mae"]})
    assert_same(vae, step_by_hand()[0])
    assert list(history)[0] == "bound" and {"mae", "loss", "kl", "reconstruction"} < set(history)
    reached = vae.evaluate(ROWS, y, verbose=0, return_dict=True)
    assert reached["mae"] == pytest.approx(np.abs(vae(ROWS).numpy() - y).mean(), rel=1e-4)


def test_unequal_batches_count_by_their_rows():
    vae, _, _ = trained(epochs=0)
    reached = vae.evaluate(ROWS, batch_size=50, verbose=0, return_dict=True)  # 50 and 10
    assert reached["kl"] == pytest.approx(vae.bound(ROWS)[2].numpy().mean(), rel=1e-5)
    assert reached["loss"] == pytest.approx(-reached["bound"], rel=1e-5)


def test_half_precision_scales_the_loss():
    """Gradients below what half precision holds: unscaled, they would all be zero."""
    vae, before, _ = trained(
        sample_weight=np.full(60, 1e-8),
        dtype="mixed_float16",
        networks={"hidden": (8,)},
        optimizer=keras.optimizers.SGD(1e7),
    )
    full, begun, _ = trained(
        sample_weight=np.full(60, 1e-8), networks={"hidden": (8,)}, optimizer=keras.optimizers.SGD(1e7)
    )
    assert isinstance(vae.optimizer, keras.optimizers.LossScaleOptimizer)
    assert vae.encoder.layers[0].compute_dtype == "float16"
    moved, expected = (
        np.concatenate([(a - b).ravel() for a, b in zip(m.get_weights(), w, strict=True)])
        for m, w in ((vae, before), (full, begun))
    )
    assert np.abs(expected).max() > 0.01
    assert np.linalg.norm(moved - expected) < 0.1 * np.linalg.norm(expected)


def test_optimizers_clip_and_average_as_they_are_told():
    clipped, before, _ = trained(optimizer=keras.optimizers.SGD(0.1, global_clipnorm=1e-2))
    moved = np.concatenate([(a - b).ravel() for a, b in zip(clipped.get_weights(), before, strict=True)])
    assert np.linalg.norm(moved) == pytest.approx(1e-3, rel=1e-2)
    averaged, _, _ = trained(optimizer=keras.optimizers.SGD(0.1, use_ema=True, ema_momentum=0.5), epochs=2)
    once, twice = trained()[0], trained(epochs=2)[0]
    for a, b, c in zip(averaged.get_weights(), once.get_weights(), twice.get_weights(), strict=True):
        np.testing.assert_allclose(a, 0.5 * (b + c), rtol=1e-4, atol=1e-5)


def test_frozen_networks_stay():
    networks = linear_pair()
    networks["decoder"].trainable = False
    vae, before, _ = trained(networks=networks)
    assert (vae.decoder.get_weights()[0] == before[-2]).all() and (vae.encoder.get_weights()[0] != before[4]).any()


@pytest.mark.parametrize(
    "compiled, fitted, says",
    [
        ({"loss": "mse"}, {"y": ROWS}, "loss of a VAE is its negative bound: leave loss out of compile"),
        ({}, {"y": np.zeros(60), "class_weight": {0: 1.0}}, "give sample_weight, one for each row"),
        ({}, {"sample_weight": np.ones((60, 2))}, r"one weight for each row, got shape \(.*, 2\)"),
    ],
)
def test_what_training_refuses(compiled, fitted, says):
    with pytest.raises(ValueError, match=says):
        trained(compiled=compiled, **fitted)


def test_large_units_in_half_precision():
    rows = ROWS * 1e6  # beyond what half precision holds
    vae = ct.VAE(2, hidden=(4,), seed=0, dtype="mixed_float16")
    vae.compile("adam", run_eagerly=True)
    assert np.isfinite(vae.fit(rows, verbose=0).history["loss"]).all()
    assert vae(rows).dtype == "float32" and np.abs(vae(rows) - rows).max() < 1e9


class Subclassed(keras.Model):
    """A network whose layers do not know their shapes before it is called."""

    def __init__(self, width):
        super().__init__()
        self.dense = keras.layers.Dense(width)

    def call(self, x):
        return self.dense(x)


@pytest.mark.parametrize(
    "encoder", [Subclassed(4), keras.Sequential([keras.layers.Dense(4)])], ids=["subclassed", "no input"]
)
def test_networks_that_are_not_built_are_built(encoder):
    vae, before, _ = trained(networks={"encoder": encoder})
    assert vae.encoder is encoder and (encoder.get_weights()[0] != before[4]).any()
    assert vae.sample(20, seed=0).shape == (20, 2) and width(vae) == 256


@pytest.mark.parametrize(
    "outputs, says",
    [
        (lambda x: [keras.layers.Dense(2)(x), keras.layers.Dense(2)(x)], r"\[\(2,\), \(2,\)\], it must give \(4,\)"),
        (lambda x: {"loc": keras.layers.Dense(4)(x)}, r"\{'loc': \(4,\)\}, it must give \(4,\)"),
        (lambda x: keras.layers.Reshape((2, 2))(keras.layers.Dense(4)(x)), r"\(2, 2\), it must give \(4,\)"),
    ],
    ids=["list", "dict", "axes"],
)
def test_outputs_that_make_no_encoder(outputs, says):
    inputs = keras.Input((2,))
    with pytest.raises(ValueError, match=says):
        ct.VAE(2, encoder=keras.Model(inputs, outputs(inputs)))


# Initial weights


def flat(vae):
    return np.concatenate([w.ravel() for w in vae.get_weights()])


def test_a_seed_gives_the_initial_weights_and_touches_nothing():
    def draw(build):
        keras.utils.set_random_seed(1)
        return build(), random.random(), np.random.rand(), float(tf.random.uniform(())), float(keras.random.uniform(()))

    first, *numbers = draw(lambda: ct.VAE(3, hidden=(5, 5), seed=3))
    assert numbers == list(draw(lambda: None))[1:]
    with ThreadPoolExecutor(4) as pool:
        others = list(pool.map(lambda seed: ct.VAE(3, hidden=(5, 5), seed=seed), [3, 3, np.int64(3), 4]))
    assert all((flat(vae) == flat(first)).all() for vae in others[:3])
    assert (flat(others[3]) != flat(first)).mean() > 0.5
    vae = ct.VAE(3, hidden=(3, 3), latent_dim=3, seed=0)
    kernels = [w.tobytes() for w in vae.get_weights() if w.shape == (3, 3)]
    assert len(set(kernels)) == len(kernels) == 4  # no two layers alike
    limit = np.sqrt(6 / (100 + 100))
    kernel = ct.VAE(2, seed=0).encoder.layers[1].kernel.numpy()  # (100, 100), Glorot's uniform
    assert np.abs(kernel).max() <= limit and kernel.std() == pytest.approx(limit / np.sqrt(3), rel=0.02)


def test_without_a_seed_initial_weights_follow_keras():
    def made(seed):
        keras.utils.set_random_seed(seed)
        return flat(ct.VAE(2, hidden=(5,)))

    assert (made(1) == made(1)).all() and (made(1) != made(2)).any()


# What samplers know of a model


class ByHand:
    """The least that is a model: x = z + noise."""

    latent_dim, likelihood = 2, ct.Normal()

    def encode(self, x):
        return 0.5 * x, tf.fill(tf.shape(x), 0.7)

    def decode(self, z):
        return tf.convert_to_tensor(z), tf.ones_like(z)


def test_the_least_that_is_a_model():
    model = ByHand()
    check_model(model)
    assert num_features(model) == 2 and feature_names(model) is None and width(model) == 256
    model.feature_names = ["a", "b"]
    assert feature_names(model) == ("a", "b")
    model.feature_names = ["a"]
    with pytest.raises(ValueError, match="1 feature_names for 2 columns"):
        feature_names(model)
    draws = ct.sample_conditional(ByHand(), {0: 1.0}, 50, "importance", seed=0)
    assert np.isfinite(draws.values).all()


@pytest.mark.parametrize("name", ["latent_dim", "likelihood", "encode", "decode"])
def test_less_is_no_model(name):
    least = {name: getattr(ByHand, name) for name in ("latent_dim", "likelihood", "encode", "decode")}
    least.pop(name)
    with pytest.raises(TypeError, match=f"with what LatentVariableModel lists; .* has no {name}$"):
        check_model(type("Less", (), least)())
    for what, says in [(ByHand, "got the class"), (None, "None has no latent_dim")]:
        with pytest.raises(TypeError, match=f"model must be a VAE, .*{says}"):
            check_model(what)


def test_how_wide_networks_are(linear):
    assert width(ct.VAE(2, latent_dim=2, hidden=(300, 100))) == 300 + 100 + 4 + 300 + 100 + 2 * 2
    assert width(linear) == 256  # at least
    inner = keras.Sequential([keras.Input((2,)), keras.layers.Dense(500), keras.layers.Dense(4)])
    inputs = keras.Input((2,))
    nested = ct.VAE(2, hidden=(300,), encoder=keras.Model(inputs, inner(inputs)))
    assert width(nested) == 2 + 500 + 4 + 300 + 4  # with the input of a functional model
    assert (num_features(nested), feature_names(nested)) == (2, None)


# Saving


def test_saved_and_loaded_without_loss(small, tmp_path):
    vae, frame, _ = small
    vae.save(tmp_path / "vae.keras")
    again = keras.saving.load_model(tmp_path / "vae.keras")
    assert isinstance(again, ct.VAE) and again.feature_names == vae.feature_names
    assert again.likelihood == vae.likelihood and again.num_importance == 5
    assert all((a == b).all() for a, b in zip(again.get_weights(), vae.get_weights(), strict=True))
    # LAIR: the other graph that TensorFlow makes of another model may round a last bit differently,
    # and tempering passes a bit on to every later move.
    drawn = [ct.sample_conditional(m, {"sex": "m"}, 200, "lair", seed=0, progress=False).values for m in (vae, again)]
    assert drawn[0].tobytes() == drawn[1].tobytes()
    before = again.adapted.numpy(), again.shift.numpy()
    again.fit(frame, epochs=1, verbose=0)  # trains on, with the units it has
    assert before[0] == 1.0 and (again.shift.numpy() == before[1]).all()


def test_networks_of_ones_own_are_saved(tmp_path):
    """Convolutions, on images that are flat outside."""
    encoder = keras.Sequential(
        [
            keras.Input((16,)),
            keras.layers.Reshape((4, 4, 1)),
            keras.layers.Conv2D(3, 3, activation="relu"),
            keras.layers.Flatten(),
            keras.layers.Dense(4),
        ],
        name="eyes",
    )
    decoder = keras.Sequential(
        [
            keras.Input((2,)),
            keras.layers.Dense(12, activation="relu"),
            keras.layers.Reshape((2, 2, 3)),
            keras.layers.Conv2DTranspose(1, 3),
            keras.layers.Flatten(),
        ],
        name="hand",
    )
    vae = ct.VAE(16, 2, likelihood=ct.Bernoulli(), encoder=encoder, decoder=decoder, seed=0)
    vae.compile("adam")
    images = np.random.default_rng(0).integers(2, size=(40, 16)).astype(float)
    vae.fit(images, verbose=0)
    vae.save(tmp_path / "vae.keras")
    again = keras.saving.load_model(tmp_path / "vae.keras")
    assert again.encoder.name == "eyes" and again.decoder.name == "hand"
    assert isinstance(again.decoder.layers[2], keras.layers.Conv2DTranspose)
    row = np.where(np.arange(16) < 8, images[0], NAN)
    drawn = [ct.sample_conditional(m, row, 50, seed=0, progress=False).values for m in (vae, again)]
    assert drawn[0].tobytes() == drawn[1].tobytes() and set(np.unique(drawn[0])) <= {0.0, 1.0}


@pytest.mark.parametrize(
    "settings",
    [
        {"hidden": (5,), "activation": keras.activations.gelu, "feature_names": ["a", "b"], "dtype": "mixed_bfloat16"},
        {"likelihood": ct.Columns({"a": ct.Normal(from_log_variance=True), "b": ct.Bernoulli(from_logits=True)})},
        "own",
    ],
    ids=["settings", "likelihoods", "networks"],
)
def test_every_way_to_copy(settings, tmp_path):
    if settings == "own":
        layers = [keras.layers.BatchNormalization(), keras.layers.Dropout(0.5, seed=1)]
        settings = linear_pair(keras.regularizers.L2(0.1))
        settings["encoder"] = keras.Sequential([keras.Input((2,)), *layers, settings["encoder"]])
    vae = ct.VAE(2, num_importance=3, seed=0, **settings)
    vae.compile("adam", run_eagerly=True)
    rows = np.c_[ROWS[:, 0], ROWS[:, 1] > -3.0].astype(float)
    vae.fit(rows, batch_size=60, verbose=0)
    vae.save(tmp_path / "vae.keras")
    vae.save_weights(tmp_path / "vae.weights.h5")
    copies = [
        keras.saving.load_model(tmp_path / "vae.keras"),
        pickle.loads(pickle.dumps(vae)),
        copy.deepcopy(vae),
        keras.models.clone_model(vae),
        ct.VAE.from_config(vae.get_config()),
    ]
    copies[3].set_weights(vae.get_weights())
    copies[4].load_weights(tmp_path / "vae.weights.h5")
    for again in copies:
        for name in ("likelihood", "feature_names", "num_importance", "hidden", "activation", "seed", "dtype"):
            assert again.get_config()[name] == vae.get_config()[name]
        assert all((a == b).all() for a, b in zip(again.get_weights(), vae.get_weights(), strict=True))
        assert again(rows).numpy().tobytes() == vae(rows).numpy().tobytes()
        assert len(again.losses) == len(vae.losses)
    loaded = copies[0].fit(rows, verbose=0).history  # compiled as it was, and trains on
    assert np.isfinite(loaded["loss"]).all()


# Units and errors


def test_constant_column_keeps_its_unit():
    rows = np.column_stack([np.full(50, 7.0), np.arange(50.0)])
    vae = ct.VAE(num_features=2, hidden=(4,), seed=0)
    vae.compile("adam")
    vae.fit(rows, epochs=2, verbose=0)
    assert vae.shift.numpy()[0] == 7.0 and vae.scale.numpy()[0] == 1.0
    assert np.isfinite(vae.sample(10, seed=0)).all()


@pytest.mark.parametrize(
    "rows, says",
    [
        (np.full((3, 2), NAN), "column 0 has no observed value"),
        (pd.DataFrame({"a": [1.0, 2.0], "b": [NAN, NAN]}), "column 'b' has no observed value"),
        (np.array([[1.0, 1e9], [2.0, 1e9 + 1]]), "column 1 varies by .* subtract a constant"),
        (np.ones((3, 4)), "4 columns given, the model has 2"),
        (np.array([[1.0, np.inf]]), "column 1: infinite"),
        (np.empty((0, 2)), "no rows"),
    ],
)
def test_data_that_cannot_be_trained_on(rows, says):
    vae = ct.VAE(num_features=2, hidden=(4,))
    vae.compile("adam")
    with pytest.raises(ValueError, match=says):
        vae.fit(rows, verbose=0)


@pytest.mark.parametrize(
    "settings, says",
    [
        ({}, "num_features is needed"),
        ({"num_features": 0}, "num_features must be a positive integer"),
        ({"num_features": 2, "latent_dim": 1.5}, "latent_dim"),
        ({"num_features": 2, "num_importance": 0}, "num_importance"),
        ({"num_features": 2, "feature_names": ["a"]}, "1 feature_names for 2 columns"),
        ({"num_features": 2, "likelihood": ct.Categorical(3)}, "one column; use Columns"),
        (
            {"num_features": 2, "decoder": keras.Sequential([keras.Input((2,)), keras.layers.Dense(2)], name="d")},
            r"network 'd' maps 2 inputs to shape \(2,\), it must give \(4,\)",
        ),
    ],
)
def test_settings_that_make_no_model(settings, says):
    with pytest.raises(ValueError, match=says):
        ct.VAE(**settings)


def test_any_object_with_the_protocol_is_a_model(linear, exact):
    assert isinstance(linear, ct.LatentVariableModel) and isinstance(exact, ct.LatentVariableModel)
    assert not isinstance(object(), ct.LatentVariableModel)
