"""The VAE: the bound against closed forms, training as Keras does it, saving, tables with holes."""

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
