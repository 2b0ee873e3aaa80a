"""A VAE that was trained without this package: the usual Keras example, on scikit-learn's digits."""

import keras
import numpy as np
import pytest
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
