"""Published weights: how they were trained, and a check that they are what was published.

A checkpoint is two files, ``name.npz`` (the weights, plain arrays) and ``name.json`` (the model's
configuration, recipe, library versions, figures reached, and the SHA-256 of the weights).
"""

from __future__ import annotations

import hashlib
import io
import json
import platform
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

from ..model import VAE

WEIGHTS = Path(__file__).parent.parent / "weights"


def load_vae(name: str, directory: str | Path = WEIGHTS) -> VAE:
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


def checkpoint_card(name: str, directory: str | Path = WEIGHTS) -> dict[str, Any]:
    """Return what is known of a published checkpoint: recipe, versions, figures reached, SHA-256 (a dict)."""
    return {key: value for key, value in _card(name, Path(directory)).items() if key != "config"}


def _card(name, directory):
    if not (directory / f"{name}.json").is_file():
        known = sorted(path.stem for path in directory.glob("*.json"))
        raise ValueError(f"no checkpoint {name!r}; published are {known}")
    return json.loads((directory / f"{name}.json").read_text())


def save_vae(vae: VAE, name: str, recipe: dict[str, Any], reached: dict[str, Any], directory: str | Path) -> None:
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
    arrays: dict[str, Any] = {f"weight_{i}": np.asarray(w) for i, w in enumerate(vae.get_weights())}
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
