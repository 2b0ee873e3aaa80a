"""Published weights: how they were trained, and a check that they are what was published.

A checkpoint is two files, ``name.npz`` (the weights, plain arrays) and ``name.json`` (the model's
configuration, recipe, library versions, figures reached, and the SHA-256 of the weights).
"""

from __future__ import annotations

import hashlib
import io
import json
import platform
import time
from importlib import metadata
from pathlib import Path

import keras
import numpy as np

from .mixture import two_ridges
from .vae import VAE

WEIGHTS = Path(__file__).parent / "weights"


def load_vae(name, directory=WEIGHTS):
    """Load a published VAE.

    Parameters
    ----------
    name : str
        Such as ``"two_ridges"``.
    directory : path, optional
        Where the two files are; the package's own by default.

    Returns
    -------
    VAE

    Raises
    ------
    ValueError
        If there is no such checkpoint, or its weights are not the published ones.
    """
    directory = Path(directory)
    card = _card(name, directory)
    stored = (directory / f"{name}.npz").read_bytes()
    if hashlib.sha256(stored).hexdigest() != card["sha256"]:
        raise ValueError(
            f"the weights of {name!r} are not the published ones: {name}.npz does not match the SHA-256 "
            f"in {name}.json. Install the package again, or rebuild: python -m cvae_tutorial train {name}"
        )
    vae = VAE.from_config(card["config"])
    with np.load(io.BytesIO(stored), allow_pickle=False) as arrays:
        vae.set_weights([arrays[f"weight_{i}"].astype(w.dtype) for i, w in enumerate(vae.weights)])
    return vae


def checkpoint_card(name, directory=WEIGHTS):
    """What is known of a published checkpoint: recipe, versions, figures reached, SHA-256 (a dict)."""
    return {key: value for key, value in _card(name, Path(directory)).items() if key != "config"}


def _card(name, directory):
    if not (directory / f"{name}.json").is_file():
        known = sorted(path.stem for path in directory.glob("*.json"))
        raise ValueError(f"no checkpoint {name!r}; published are {known}")
    return json.loads((directory / f"{name}.json").read_text())


def save_vae(vae, name, recipe, reached, directory):
    """Write ``name.npz`` and ``name.json`` into ``directory``.

    Parameters
    ----------
    vae : VAE
    name : str
    recipe : dict
        How it was trained.
    reached : dict
        The figures that the training reached.
    directory : path
    """
    directory = Path(directory)
    directory.mkdir(parents=True, exist_ok=True)
    buffer = io.BytesIO()
    arrays = {f"weight_{i}": np.asarray(w) for i, w in enumerate(vae.get_weights())}
    np.savez_compressed(buffer, **arrays)
    (directory / f"{name}.npz").write_bytes(buffer.getvalue())
    card = {
        "sha256": hashlib.sha256(buffer.getvalue()).hexdigest(),
        "recipe": recipe,
        "reached": reached,
        "versions": {
            "python": platform.python_version(),
            **{package: metadata.version(package) for package in ("keras", "tensorflow", "numpy")},
        },
        "config": vae.get_config(),
    }
    (directory / f"{name}.json").write_text(json.dumps(card, indent=2, default=list) + "\n")


class FreshRows(keras.utils.PyDataset):
    """Batches of a distribution that can be sampled without end: new rows in every epoch.

    Parameters
    ----------
    distribution : object
        With ``sample(num_samples, seed)``, such as a `GaussianMixture`.
    num_rows, batch_size : int
        Rows per epoch and per batch.
    seed : int
    """

    def __init__(self, distribution, num_rows, batch_size, seed=0):
        super().__init__()
        self.distribution, self.num_rows, self.batch_size = distribution, num_rows, batch_size
        self.generator = np.random.default_rng(seed)
        self.on_epoch_end()

    def __len__(self):
        return self.num_rows // self.batch_size

    def __getitem__(self, index):
        return (self.rows[index * self.batch_size : (index + 1) * self.batch_size],)

    def on_epoch_end(self):
        self.rows = self.distribution.sample(self.num_rows, seed=self.generator).astype("float32")


def train_two_ridges(verbose=1, seed=0, epochs=60, steps_per_epoch=200, batch_size=250,
                     num_importance=10, learning_rate=3e-3):
    """Train the VAE of the two ridges as published: fresh rows in every epoch, Adam with a cosine decay.

    Returns
    -------
    vae : VAE
    recipe : dict
    """
    keras.utils.set_random_seed(seed)
    mixture = two_ridges()
    rows = FreshRows(mixture, batch_size * steps_per_epoch, batch_size, seed)
    vae = VAE(num_features=2, latent_dim=2, num_importance=num_importance, seed=seed)
    vae.adapt(mixture.sample(100_000, seed=seed))
    decay = keras.optimizers.schedules.CosineDecay(learning_rate, epochs * steps_per_epoch)
    vae.compile(keras.optimizers.Adam(decay), steps_per_execution=10)
    vae.fit(rows, epochs=epochs, verbose=verbose)
    recipe = {"data": "two_ridges(), fresh rows in every epoch", "epochs": epochs,
              "steps_per_epoch": steps_per_epoch, "batch_size": batch_size,
              "num_importance": num_importance, "optimizer": "Adam, cosine decay to 0",
              "learning_rate": learning_rate, "seed": seed,
              "command": "python -m cvae_tutorial train two_ridges"}
    return vae, recipe


RECIPES = {"two_ridges": train_two_ridges}


def rebuild(name, directory, verbose=1):
    """Train a published checkpoint anew and write it into ``directory``.

    The same machine repeats the weights bit for bit; another one agrees statistically.
    """
    if name not in RECIPES:
        raise ValueError(f"no recipe for {name!r}; there are {sorted(RECIPES)}")
    began = time.perf_counter()
    vae, recipe = RECIPES[name](verbose=verbose)
    reached = {"seconds": round(time.perf_counter() - began)}
    if name == "two_ridges":
        test = two_ridges().sample(50_000, seed=1)
        reached["bound_nats"] = round(float(vae.evaluate(test, batch_size=5_000, verbose=0, return_dict=True)["bound"]), 4)
    save_vae(vae, name, recipe, reached, directory)
    return vae
