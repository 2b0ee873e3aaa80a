"""The VAE of chapters 0 to 6, on the origin note's mixture."""

from __future__ import annotations

from typing import Any

import keras

from ..model import VAE
from ..truth.mixture import two_ridges
from .fresh_rows import FreshRows


def train(verbose=1, seed=0, epochs=60, steps_per_epoch=200, batch_size=250, num_importance=10, learning_rate=3e-3):
    """Train on fresh rows in every epoch, by Adam with a cosine decay."""
    keras.utils.set_random_seed(seed)
    mixture = two_ridges()
    rows = FreshRows(mixture, batch_size * steps_per_epoch, batch_size, seed)
    vae = VAE(num_features=2, latent_dim=2, num_importance=num_importance, seed=seed)
    vae.adapt(mixture.sample(100_000, seed=seed))
    decay: Any = keras.optimizers.schedules.CosineDecay(learning_rate, epochs * steps_per_epoch)
    vae.compile(keras.optimizers.Adam(decay), steps_per_execution=10)
    vae.fit(rows, epochs=epochs, verbose=verbose)
    recipe = {
        "data": "two_ridges(), fresh rows in every epoch",
        "epochs": epochs,
        "steps_per_epoch": steps_per_epoch,
        "batch_size": batch_size,
        "num_importance": num_importance,
        "optimizer": "Adam, cosine decay to 0",
        "learning_rate": learning_rate,
        "seed": seed,
    }
    test = mixture.sample(50_000, seed=1)
    bound = vae.evaluate(test, batch_size=5_000, verbose=0, return_dict=True)["bound"]
    return vae, recipe, {"bound_nats": round(float(bound), 4)}
