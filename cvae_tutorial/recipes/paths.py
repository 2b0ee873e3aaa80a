"""The VAEs of fractional Brownian motion (chapter 7), one for each Hurst index."""

from __future__ import annotations

from typing import Any

import keras

from ..likelihoods import Normal
from ..model import VAE
from ..truth.mixture import fractional_brownian_motion
from .fresh_rows import FreshRows


def linear_network(num_inputs, num_outputs, name):
    """Make a location that is linear in the input, and a scale that is free but the same everywhere.

    Paths are jointly normal, so this is all that their encoder and decoder need.
    """
    inputs = keras.Input((num_inputs,))
    loc = keras.layers.Dense(num_outputs, name="loc")(inputs)
    constant = keras.layers.Rescaling(0.0)(inputs)  # zeros: only the bias of the next layer is left
    scale = keras.layers.Dense(num_outputs, name="scale")(constant)
    return keras.Model(inputs, keras.layers.Concatenate()([loc, scale]), name=name)


def train(
    verbose=1,
    seed=0,
    hurst=0.5,
    num_times=32,
    latent_dim=20,
    epochs=60,
    steps_per_epoch=200,
    batch_size=2_000,
    num_importance=4,
    learning_rate=2e-2,
):
    """Train on fresh paths in every epoch, by Adam with a cosine decay.

    The published weights are a moving average over the training: the last few hundredths of a nat
    lie in directions that single steps only jitter about.
    """
    keras.utils.set_random_seed(seed)
    motion = fractional_brownian_motion(hurst, num_times)
    vae = VAE(
        num_features=num_times,
        latent_dim=latent_dim,
        num_importance=num_importance,
        seed=seed,
        encoder=linear_network(num_times, latent_dim, "encoder"),
        decoder=linear_network(latent_dim, num_times, "decoder"),
        likelihood=Normal(min_scale=0.001),
    )
    vae.adapt(motion.sample(100_000, seed=seed))
    decay: Any = keras.optimizers.schedules.CosineDecay(learning_rate, epochs * steps_per_epoch)
    optimizer = keras.optimizers.Adam(decay, beta_2=0.99, use_ema=True, ema_momentum=0.999)
    vae.compile(optimizer, steps_per_execution=20)
    vae.fit(FreshRows(motion, batch_size * steps_per_epoch, batch_size, seed), epochs=epochs, verbose=verbose)
    recipe = {
        "data": f"fractional_brownian_motion({hurst}, {num_times}), fresh paths in every epoch",
        "epochs": epochs,
        "steps_per_epoch": steps_per_epoch,
        "batch_size": batch_size,
        "num_importance": num_importance,
        "optimizer": "Adam, cosine decay to 0, moving average",
        "learning_rate": learning_rate,
        "seed": seed,
    }
    test = motion.sample(50_000, seed=seed + 1)
    bound = vae.evaluate(test, batch_size=5_000, verbose=0, return_dict=True)["bound"]
    exact = float(motion.log_prob(test).mean())
    return vae, recipe, {"bound_nats": round(float(bound), 4), "log_density_nats": round(exact, 4)}
