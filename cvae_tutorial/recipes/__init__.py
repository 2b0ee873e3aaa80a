"""How the published checkpoints were trained: one file for each data set, with data and training.

Every file has ``train(verbose=1, seed=0)``, which returns the trained VAE, how it was trained,
and the figures that it reached (two dicts, for the checkpoint's card).
"""

from __future__ import annotations

import importlib
import time
from pathlib import Path
from typing import Any

from ..model import VAE
from .checkpoints import save_vae
from .fresh_rows import FreshRows

# The file of each checkpoint, and the settings that tell checkpoints of one file apart.
_FILES: dict[str, tuple[str, dict[str, Any]]] = {
    "two_ridges": ("two_ridges", {}),
    "paths_rough": ("paths", {"hurst": 0.25}),
    "paths_brownian": ("paths", {"hurst": 0.5, "latent_dim": 24}),
    "penguins": ("penguins", {}),
    "breast_cancer": ("breast_cancer", {}),
    **{f"breast_cancer_{mask}": ("breast_cancer", {"mask": mask}) for mask in (1235, 1236, 1237, 1238)},
    "digits": ("digits", {}),
}
RECIPES = tuple(_FILES)


def rebuild(name: str, directory: str | Path, verbose: int = 1) -> VAE:
    """Train a published checkpoint anew and write it into ``directory``.

    The same machine repeats the weights bit for bit; another one agrees statistically.

    Parameters
    ----------
    name : str
        One of `RECIPES`.
    directory : path
    verbose : int
        As in ``keras.Model.fit``.

    Returns
    -------
    VAE
    """
    if name not in RECIPES:
        raise ValueError(f"no recipe for {name!r}; there are {list(RECIPES)}")
    began = time.perf_counter()
    file, settings = _FILES[name]
    vae, recipe, reached = importlib.import_module(f".{file}", __name__).train(verbose=verbose, **settings)
    recipe = {**recipe, "command": f"python -m cvae_tutorial train {name}"}
    reached = {**reached, "seconds": round(time.perf_counter() - began)}
    save_vae(vae, name, recipe, reached, directory)
    return vae


__all__ = ["RECIPES", "FreshRows", "rebuild"]
