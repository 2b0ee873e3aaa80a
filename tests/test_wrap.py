"""A VAE that was trained without this package: the usual Keras example, on scikit-learn's digits."""

import copy
import pickle

import keras
import numpy as np
import pytest
import tensorflow as tf
from sklearn.datasets import load_digits

import cvae_tutorial as ct

NAN = np.nan
LATENT_DIM = 4


class Sampling(keras.layers.Layer):
    """z ~ N(mean, exp(log_variance))."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.noise = keras.random.SeedGenerator(0)

    def call(self, inputs):
        mean, log_variance = inputs
        return mean + keras.ops.exp(0.5 * log_variance) * keras.random.normal(keras.ops.shape(mean), seed=self.noise)


class ImageVAE(keras.Model):
    """Encoder and decoder trained on the ELBO, as such examples do: the loss is added in ``call``."""

    def __init__(self, encoder, decoder):
        super().__init__()
        self.encoder, self.decoder = encoder, decoder

    def call(self, images):
        mean, log_variance, z = self.encoder(images)
        cross_entropy = keras.losses.binary_crossentropy(images, self.decoder(z))  # (n, 8, 8)
        kl = -0.5 * (1 + log_variance - mean**2 - keras.ops.exp(log_variance))
        self.add_loss(keras.ops.mean(keras.ops.sum(cross_entropy, (1, 2)) + keras.ops.sum(kl, 1)))
        return z


@pytest.fixture(scope="module")
def images():
    """Rows of 64 pixels, black or white: most to train on, 40 kept aside."""
    pixels = (load_digits().data > 7).astype("float32")
    return pixels[:1_500], pixels[1_500:1_540]


@pytest.fixture(scope="module")
def networks(images):
    keras.utils.set_random_seed(0)
    layers = keras.layers
    inputs = keras.Input((8, 8, 1))
    x = layers.Conv2D(16, 3, strides=2, padding="same", activation="relu")(inputs)
    x = layers.Dense(32, activation="relu")(layers.Flatten()(x))
    mean, log_variance = layers.Dense(LATENT_DIM, name="z_mean")(x), layers.Dense(LATENT_DIM, name="z_log_var")(x)
    encoder = keras.Model(inputs, [mean, log_variance, Sampling()([mean, log_variance])], name="encoder")
    latent = keras.Input((LATENT_DIM,))
    x = layers.Reshape((4, 4, 16))(layers.Dense(256, activation="relu")(latent))
    x = layers.Conv2DTranspose(16, 3, strides=2, padding="same", activation="relu")(x)
    decoder = keras.Model(latent, layers.Conv2DTranspose(1, 3, padding="same", activation="sigmoid")(x), name="decoder")
    vae = ImageVAE(encoder, decoder)
    vae.compile(keras.optimizers.Adam(5e-3), steps_per_execution=10)
    vae.fit(images[0].reshape(-1, 8, 8, 1), epochs=20, batch_size=100, verbose=0)
    return encoder, decoder


@pytest.fixture(scope="module")
def model(networks):
    return ct.wrap(*networks, ct.Bernoulli())


def test_same_numbers_as_the_networks(networks, model, images):
    encoder, decoder = networks
    mean, log_variance, _ = encoder(images[1].reshape(-1, 8, 8, 1))
    loc, scale = model.encode(images[1].reshape(4, 10, 64))  # leading axes are free
    np.testing.assert_allclose(np.reshape(loc, (40, -1)), mean, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(np.reshape(scale, (40, -1)), np.exp(0.5 * log_variance.numpy()), rtol=1e-4)
    logits = model.decode(np.reshape(loc, (2, 20, -1)))
    assert logits.shape == (2, 20, 64)
    probabilities = decoder(mean).numpy().reshape(40, 64)
    np.testing.assert_allclose(model.likelihood.mean(logits).numpy().reshape(40, 64), probabilities, atol=1e-4)
    assert (model.num_features, model.latent_dim) == (64, LATENT_DIM) and isinstance(model, ct.LatentVariableModel)


@pytest.mark.filterwarnings("ignore::cvae_tutorial.SamplingWarning")
@pytest.mark.parametrize("method", ["lair", "adaptive_collapsed"])
def test_hidden_halves_of_digits(model, images, method):
    """The lower half given the upper, scored by the log density of the true pixels under the
    frequencies of the draws: above that of unconditional draws, and of a shuffled truth."""
    truth = images[1]
    half = truth.astype(float)
    half[:, 32:] = NAN
    settings = {"warmup": 60, "thin": 2} if method == "adaptive_collapsed" else {}
    values = ct.sample_conditional(model, half, 100, method, seed=0, progress=False, **settings).values
    assert values.shape == (40, 100, 64) and set(np.unique(values)) == {0.0, 1.0}
    assert (values[..., :32] == truth[:, None, :32]).all()

    def score(draws, true):
        p = (draws.sum(axis=-2) + 0.5) / (draws.shape[-2] + 1)
        return (true * np.log(p) + (1 - true) * np.log1p(-p)).sum(axis=-1)

    joint = ct.sample_conditional(model, {}, 1_000, method, seed=0, progress=False, **settings).values
    given, free = score(values[..., 32:], truth[:, 32:]), score(joint[:, 32:], truth[:, 32:])
    other = score(values[..., 32:], np.roll(truth[:, 32:], 1, axis=0))
    gain = given - free  # nats per image
    assert gain.mean() > 2 and gain.mean() > 4 * gain.std() / np.sqrt(len(gain))
    assert given.mean() > other.mean() + 4


def test_methods_agree_on_a_digit(model, images):
    """Frequencies of each hidden pixel, by two methods that share nothing but the model."""
    row = np.where(np.arange(64) < 32, images[1][0], NAN)
    lair, importance = (
        ct.sample_conditional(model, row, 2_000, method, seed=0, progress=False).values[:, 32:].mean(0)
        for method in ("lair", ct.samplers.Importance(oversampling=20))
    )
    np.testing.assert_allclose(lair, importance, atol=0.08)


def test_two_outputs_will_do_and_names_are_kept(networks, images):
    encoder, decoder = networks
    pair = keras.Model(encoder.input, encoder.output[:2])
    model = ct.wrap(pair, decoder, ct.Bernoulli(), feature_names=[f"pixel {i}" for i in range(64)])
    draws = ct.sample_conditional(model, {"pixel 20": 1.0}, 20, seed=0, progress=False)
    assert (draws.column("pixel 20") == 1.0).all() and list(draws.to_frame().columns)[3] == "pixel 3"


def test_normal_outputs():
    inputs, latent = keras.Input((3,)), keras.Input((2,))
    encoder = keras.Model(inputs, [keras.layers.Dense(2)(inputs), keras.layers.Dense(2)(inputs)])
    pair = keras.Model(latent, [keras.layers.Dense(3)(latent), keras.layers.Dense(3, activation="softplus")(latent)])
    alone = keras.Model(latent, keras.layers.Dense(3)(latent))
    for model in (ct.wrap(encoder, pair, ct.Normal()), ct.wrap(encoder, alone, ct.Normal(scale=0.1))):
        draws = ct.sample_conditional(model, {1: 0.5}, 50, seed=0, progress=False).values
        assert np.isfinite(draws).all() and draws[:, 0].std() > 0 and (draws[:, 1] == 0.5).all()


def test_networks_that_do_not_fit(networks):
    encoder, decoder = networks
    with pytest.raises(ValueError, match=r"\[mean, log variance\]"):
        ct.wrap(keras.Model(encoder.input, encoder.output[0]), decoder, ct.Bernoulli())
    latent = keras.Input((7,))
    with pytest.raises(ValueError, match="mean has 4 dimensions, the decoder reads 7"):
        ct.wrap(encoder, keras.Model(latent, keras.layers.Dense(64)(latent)), ct.Bernoulli())


# Networks of any precision


@pytest.fixture
def policy():
    yield keras.mixed_precision.set_global_policy
    keras.mixed_precision.set_global_policy("float32")


def dense(width, seed=0, **settings):
    return keras.layers.Dense(width, kernel_initializer=keras.initializers.GlorotUniform(seed), **settings)


def pair(outputs=None, encoded=None, num_features=3):
    """An encoder of ``num_features`` columns and a decoder of 2 latent dimensions."""
    x, z = keras.Input((num_features,)), keras.Input((2,))
    encoded = encoded or (lambda x: [dense(2, 1)(x), dense(2, 2)(x)])
    outputs = outputs or (lambda z: dense(num_features, 3, activation="sigmoid")(z))
    return keras.Model(x, encoded(x)), keras.Model(z, outputs(z))


@pytest.mark.parametrize("name", ["float16", "bfloat16", "float64", "mixed_float16", "mixed_bfloat16"])
@pytest.mark.parametrize(
    "outputs, likelihood",
    [
        (None, ct.Bernoulli()),
        (lambda z: [dense(3, 3)(z), dense(3, 4, activation="softplus")(z)], ct.Normal()),
        (lambda z: [dense(3, 3)(z), dense(3, 4)(z)], ct.Normal(from_log_variance=True)),
        (lambda z: dense(3, 3)(z), ct.Normal(scale=0.5)),
        (
            lambda z: [
                [dense(1, 3)(z), dense(1, 4, activation="softplus")(z)],
                dense(1, 5, activation="sigmoid")(z),
                dense(4, 6)(z),
            ],
            ct.Columns([ct.Normal(), ct.Bernoulli(), ct.Categorical(4)]),
        ),
    ],
    ids=["bernoulli", "normal", "log variance", "loc", "columns"],
)
def test_any_precision(policy, name, outputs, likelihood):
    full = ct.wrap(*pair(outputs), likelihood)
    policy(name)
    networks = pair(outputs)
    policy("float32")
    networks[0].set_weights(full.encoder.get_weights()), networks[1].set_weights(full.decoder.get_weights())
    assert networks[1].layers[-1].compute_dtype == name.removeprefix("mixed_")
    model = ct.wrap(*networks, likelihood)
    rows, z = np.array([[0.5, 1.0, 2.0], [1.0, 0.0, 3.0]]), np.random.default_rng(0).standard_normal((4, 2))
    got, expected = (tf.nest.flatten([m.encode(rows), m.decode(z)]) for m in (model, full))
    for a, b in zip(got, expected, strict=True):
        assert a.dtype == "float32"
        np.testing.assert_allclose(a, b, atol=0.05, rtol=0.05)


def test_half_precision_is_sampled(policy):
    policy("mixed_float16")
    networks = pair()
    policy("float32")
    model = ct.wrap(*networks, ct.Bernoulli())
    draws = ct.sample_conditional(model, {0: 1.0}, 50, "importance", seed=0, progress=False)
    assert set(np.unique(draws.values)) == {0.0, 1.0}


def test_rows_reach_a_network_as_it_asks_for_them(policy):
    """In data units beyond half precision, when a first layer in full precision scales them down."""
    policy("mixed_float16")
    down, up = keras.layers.Rescaling(1e-6, dtype="float32"), keras.layers.Rescaling(1e6, dtype="float32")
    positive = keras.layers.Activation("softplus", dtype="float32")
    networks = pair(
        lambda z: [up(dense(3)(z)), positive(dense(3)(z))], lambda x: [dense(2)(down(x)), dense(2)(down(x))]
    )
    policy("float32")
    model = ct.wrap(*networks, ct.Normal())
    loc, scale = model.encode(np.full((1, 3), 1e6))
    assert np.isfinite(loc).all() and np.abs(loc).max() > 0.01 and np.isfinite(scale).all()


# What the networks return


@pytest.mark.parametrize(
    "encoded, says",
    [
        (
            lambda x: {"z_mean": dense(2)(x), "z_log_var": dense(2)(x)},
            r"\{'z_mean': \(2,\), 'z_log_var': \(2,\)\}: pick",
        ),
        (lambda x: dense(4)(x), r"not \(4,\): pick or split its outputs"),
        (lambda x: [[dense(2)(x), dense(2)(x)], dense(2)(x)], r"not \[\[\(2,\), \(2,\)\], \(2,\)\]"),
        (lambda x: [dense(2)(x)] * 4, "draw], not"),
        (lambda x: [dense(2)(x), dense(3)(x)], "log variance has 3 dimensions, the decoder reads 2"),
        (
            lambda x: [keras.layers.Reshape((2, 2))(dense(4)(x)), dense(2)(x)],
            "mean has 4 dimensions, the decoder reads 2",
        ),
        (lambda x: [dense(2)(x), keras.ops.log(-keras.ops.abs(dense(2)(x)))], "encoder's output is NaN or infinite"),
        (lambda x: [dense(2)(x), 1e3 + dense(2)(x)], "log variance reaches 1e.03"),
    ],
    ids=["dict", "one", "nested", "four", "width", "axes", "nan", "absurd"],
)
def test_encoders_that_are_refused(encoded, says):
    with pytest.raises(ValueError, match=says):
        ct.wrap(*pair(encoded=encoded), ct.Bernoulli())


TWO = ct.Columns([ct.Normal(), ct.Normal(), ct.Categorical(3)])


@pytest.mark.parametrize(
    "outputs, likelihood, says",
    [
        (lambda z: {"p": dense(3)(z)}, ct.Bernoulli(), r"Bernoulli decoder returns one output, got 1: \{'p': \(3,\)\}"),
        (lambda z: [dense(3)(z), dense(3)(z)], ct.Bernoulli(from_logits=True), "Bernoulli decoder returns one output"),
        (
            lambda z: dense(3)(z),
            ct.Normal(),
            r"returns \[loc, scale\], got 1: \(3,\); if it returns loc alone, state the scale",
        ),
        (lambda z: {"loc": dense(3)(z), "scale": dense(3)(z)}, ct.Normal(), r"returns \[loc, scale\], got 1: \{'loc'"),
        (lambda z: [[dense(3)(z), dense(3)(z)], dense(3)(z)], ct.Normal(), r"returns \[loc, scale\], got 2: \[\["),
        (lambda z: [dense(3)(z)] * 3, ct.Normal(from_log_variance=True), r"returns \[loc, log variance\], got 3"),
        (lambda z: [dense(3)(z), dense(1)(z)], ct.Normal(), r"got 2: \[\(3,\), \(1,\)\]"),
        (lambda z: [dense(3)(z), dense(3)(z)], ct.Normal(scale=0.1), r"Normal\(scale=...\) decoder returns one output"),
        (
            lambda z: [dense(5)(z), dense(5, activation="softplus")(z)],
            ct.Normal(),
            "writes 5 columns, the encoder reads 3",
        ),
        (
            lambda z: keras.layers.Reshape((3, 2))(dense(6)(z)),
            ct.Normal(scale=1.0),
            "writes 6 columns, the encoder reads 3",
        ),
        (
            lambda z: dense(3)(z),
            TWO,
            r"returns a list of Normal.* for columns \[0, 1\], Categorical.* \[2\]; got \(3,\)",
        ),
        (lambda z: [dense(2)(z), dense(3)(z)], TWO, "state the scale"),
        (
            lambda z: [[dense(1)(z), dense(1, activation="softplus")(z)], dense(3)(z)],
            TWO,
            r"1 columns for Normal.*\[0, 1\]",
        ),
        (
            lambda z: [[dense(2)(z), dense(2, activation="softplus")(z)], dense(4)(z)],
            TWO,
            "needs 3 logits, .* writes 4",
        ),
    ],
    ids=[
        "dict",
        "two",
        "one",
        "normal dict",
        "nested",
        "three",
        "width",
        "scale twice",
        "columns",
        "axes",
        "columns one",
        "columns scale",
        "columns width",
        "categories",
    ],
)
def test_decoders_that_are_refused(outputs, likelihood, says):
    with pytest.raises(ValueError, match=says):
        ct.wrap(*pair(outputs), likelihood)


def test_extra_axes_are_flattened():
    """A latent image, and outputs with an axis of one: the same numbers as without."""
    x, z = keras.Input((2, 2, 1)), keras.Input((2, 2, 3))
    encoder = keras.Model(x, [keras.layers.Conv2D(3, 1)(x), keras.layers.Conv2D(3, 1)(x)])
    decoder = keras.Model(z, keras.layers.Conv2D(1, 1, activation="sigmoid")(z))
    model = ct.wrap(encoder, decoder, ct.Bernoulli())
    assert (model.num_features, model.latent_dim) == (4, 12)
    rows = np.random.default_rng(0).integers(2, size=(5, 4)).astype("float32")
    mean = np.reshape(encoder(rows.reshape(5, 2, 2, 1))[0], (5, 12))
    np.testing.assert_allclose(model.encode(rows)[0], mean, rtol=1e-5)
    probabilities = model.likelihood.mean(model.decode(np.ones((7, 12)))).numpy()
    np.testing.assert_allclose(probabilities, np.reshape(decoder(np.ones((7, 2, 2, 3))), (7, 4)), rtol=1e-4)
    axis = keras.layers.Reshape((1, 2))
    flat, extra = (
        ct.wrap(*pair(encoded=lambda x, a=a: [a(dense(2, 1)(x)), a(dense(2, 2)(x))]), ct.Bernoulli())
        for a in (lambda x: x, axis)
    )
    np.testing.assert_allclose(flat.encode(rows[:, :3])[1], extra.encode(rows[:, :3])[1], rtol=1e-6)


def test_tuples_and_one_kind_of_columns():
    networks = pair(lambda z: (dense(3)(z), dense(3, activation="softplus")(z)), lambda x: (dense(2)(x), dense(2)(x)))
    model = ct.wrap(*networks, ct.Columns({name: ct.Normal() for name in "abc"}))
    assert model.feature_names == ("a", "b", "c")
    assert model.likelihood.mean(model.decode(np.ones((4, 2)))).shape == (4, 3)


class Subclassed(keras.Model):
    def __init__(self, network):
        super().__init__()
        self.network = network

    def call(self, x):
        return self.network(x)


def test_subclassed_networks_are_wrapped_as_the_error_says():
    encoder, decoder = map(Subclassed, pair())
    encoder(np.ones((1, 3))), decoder(np.ones((1, 2)))
    with pytest.raises(ValueError, match=r"give a subclassed one as keras.Model\(inputs, network\(inputs\)\)"):
        ct.wrap(encoder, decoder, ct.Bernoulli())
    x, z = keras.Input((3,)), keras.Input((2,))
    model = ct.wrap(keras.Model(x, encoder(x)), keras.Model(z, decoder(z)), ct.Bernoulli())
    assert model.encode(np.ones((4, 3)))[0].shape == (4, 2)


@pytest.mark.parametrize(
    "network",
    [lambda x: x, np.ones(3), keras.layers.Dense(3), "encoder", keras.Model],
    ids=["function", "array", "layer", "text", "class"],
)
def test_what_is_no_keras_model_is_refused(network):
    """So are networks of another library, and of Keras 2."""
    with pytest.raises(ValueError, match="encoder must be a built Keras model"):
        ct.wrap(network, pair()[1], ct.Bernoulli())


# What a decoder's numbers mean


def constant(width, value):
    return keras.layers.Dense(width, kernel_initializer="zeros", bias_initializer=keras.initializers.Constant(value))


@pytest.mark.parametrize(
    "outputs, likelihood, says",
    [
        (lambda z: constant(3, -1.0)(z), ct.Bernoulli(), r"look like logits: use Bernoulli\(from_logits=True\)"),
        (lambda z: constant(3, 1.1)(z), ct.Bernoulli(), "go from 1.1 to 1.1"),
        (lambda z: dense(3)(z), ct.Bernoulli(), "look like logits"),
        (
            lambda z: keras.ops.sigmoid(4 * z @ np.ones((2, 3), "float32")),
            ct.Bernoulli(from_logits=True),
            r"use Bernoulli\(\)",
        ),
        (
            lambda z: [dense(3)(z), constant(3, -4.0)(z)],
            ct.Normal(),
            r"from -4 to -4.*Normal\(from_log_variance=True\)",
        ),
        (lambda z: [dense(3)(z), constant(3, 0.0)(z)], ct.Normal(), "from 0 to 0, and must be finite and above zero"),
        (
            lambda z: [dense(3)(z), 1.5 - keras.ops.abs(z @ np.ones((2, 3), "float32")) / 3],
            ct.Normal(),
            "scales go from -",
        ),
        (lambda z: [dense(3)(z), constant(3, 1e3)(z)], ct.Normal(from_log_variance=True), r"to inf.*use Normal\(\)"),
        (lambda z: [dense(3)(z), constant(3, np.nan)(z)], ct.Normal(), "decoder's output is NaN or infinite"),
        (lambda z: [keras.ops.log(-keras.ops.abs(dense(3)(z))), constant(3, 1.0)(z)], ct.Normal(), "NaN or infinite"),
        (lambda z: [[dense(2)(z), constant(2, -4.0)(z)], dense(3)(z)], TWO, "from_log_variance=True"),
        (
            lambda z: [[dense(2)(z), constant(2, 1.0)(z)], keras.ops.softmax(dense(3)(z))],
            TWO,
            "without the last softmax",
        ),
    ],
    ids=[
        "logits",
        "above one",
        "both sides",
        "probabilities",
        "log variance",
        "zero",
        "far out",
        "overflow",
        "nan scale",
        "nan",
        "columns",
        "softmax",
    ],
)
def test_outputs_of_another_meaning_are_refused(outputs, likelihood, says):
    with pytest.raises(ValueError, match=says):
        ct.wrap(*pair(outputs), likelihood)


def test_the_remedies_give_the_right_draws():
    logits = ct.wrap(*pair(lambda z: constant(3, -1.0)(z)), ct.Bernoulli(from_logits=True))
    draws = ct.sample_conditional(logits, {}, 4_000, "importance", seed=0, progress=False).values
    np.testing.assert_allclose(draws.mean(0), 1 / (1 + np.e), atol=0.03)
    networks = pair(lambda z: [constant(3, 7.0)(z), constant(3, -4.0)(z)])
    log_variance = ct.wrap(*networks, ct.Normal(from_log_variance=True))
    draws = ct.sample_conditional(log_variance, {}, 4_000, "importance", seed=0, progress=False).values
    np.testing.assert_allclose(draws.mean(0), 7.0, atol=0.01)
    np.testing.assert_allclose(draws.std(0), np.exp(-2), rtol=0.05)


@pytest.mark.parametrize(
    "outputs, likelihood",
    [
        (lambda z: keras.ops.sigmoid(30 * dense(3)(z)), ct.Bernoulli()),  # saturated
        (lambda z: dense(3)(z), ct.Bernoulli(from_logits=True)),
        (lambda z: constant(3, 0.3)(z), ct.Bernoulli(from_logits=True)),  # logits that could be probabilities
        (lambda z: [dense(3)(z), constant(3, 1e-6)(z)], ct.Normal()),
        (lambda z: [dense(3)(z), constant(3, 2.0)(z)], ct.Normal(from_log_variance=True)),
        (lambda z: [[dense(2)(z), constant(2, 1.0)(z)], constant(3, 0.5)(z)], TWO),
    ],
    ids=["saturated", "logits", "constant", "small", "large", "even"],
)
def test_outputs_that_can_be_meant_are_taken(outputs, likelihood):
    model = ct.wrap(*pair(outputs), likelihood)
    assert np.isfinite(model.likelihood.mean(model.decode(np.ones((5, 2))))).all()


def test_a_wrapped_model_is_copied():
    model = ct.wrap(*pair(), ct.Bernoulli(), "abc")
    for again in (pickle.loads(pickle.dumps(model)), copy.deepcopy(model)):
        np.testing.assert_allclose(again.encode(np.ones((4, 3)))[0], model.encode(np.ones((4, 3)))[0], rtol=1e-5)
        assert again.likelihood == model.likelihood and again.feature_names == ("a", "b", "c")
