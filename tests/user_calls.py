"""What a user's type checker sees: `make lint` checks this file, and nothing runs it.

A value of type Any would pass for `Nothing`, and the comment that expects an error would be unused, which both
checkers report.
"""
# pyright: reportUnnecessaryTypeIgnoreComment=true

import keras
import numpy as np
import pandas as pd

import cvae_tutorial as ct


class Nothing:
    """A type that no value of the package has."""


def known(value: Nothing) -> None:
    """Take what is of no other type."""


# Lists and arrays do alike.
mixture = ct.GaussianMixture([0.5, 0.5], [[0.0, 0.0], [1.0, 1.0]], [np.eye(2), np.eye(2)])
known(mixture)  # type: ignore[arg-type]
known(mixture.sample(10, seed=0))  # type: ignore[arg-type]
known(mixture.condition({0: 1.0}).log_prob([[0.5]]))  # type: ignore[arg-type]
known(mixture.mean)  # type: ignore[arg-type]

vae = ct.load_vae("two_ridges")
vae_sample = vae.sample(5)  # that a VAE is known cannot be told: Keras has no types
known(vae_sample)  # type: ignore[arg-type]
own = ct.wrap(keras.Sequential(), keras.Sequential(), ct.Bernoulli())
known(own)  # type: ignore[arg-type]

# A trained, a wrapped and a linear-Gaussian model alike can be sampled.
linear = ct.exact.LinearGaussian([[1.0], [2.0]], [0.0, 0.0], 0.5)
models: list[ct.LatentVariableModel] = [vae, own, linear]

for model in models:
    draws = ct.sample_conditional(model, {0: 1.0}, num_samples=100, method="lair", seed=0)
    known(draws)  # type: ignore[arg-type]
    known(draws.values)  # type: ignore[arg-type]
    known(draws.summary())  # type: ignore[arg-type]
ct.sample_conditional(vae, [[1.0, np.nan]], 100, ct.samplers.LAIR())
ct.sample_conditional(vae, pd.DataFrame({"a": [1.0], "b": [np.nan]}), 100)

known(ct.distances.wasserstein([0.1, 0.2], mixture.marginal([0])))  # type: ignore[arg-type]
known(ct.exact.quadrature(vae, {0: 1.0}))  # type: ignore[arg-type]

table = pd.DataFrame({"mass": [3750.0, np.nan], "species": ["Adelie", None]})
imputer = ct.VAEImputer(random_state=0).fit(table)
known(imputer.transform(table))  # type: ignore[arg-type]
known(imputer.sample_imputations(table, 5))  # type: ignore[arg-type]
