"""How the published checkpoints were trained: one file each, with its data and its training.

Every recipe has ``train(verbose=1, seed=0)``, which returns the trained VAE, how it was trained,
and the figures that it reached (two dicts, for the checkpoint's card).
"""

from __future__ import annotations

import importlib
import pkgutil
import time

from ..checkpoints import save_vae
from .fresh_rows import FreshRows

RECIPES = sorted(module.name for module in pkgutil.iter_modules(__path__) if module.name != "fresh_rows")


def rebuild(name, directory, verbose=1):
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
        raise ValueError(f"no recipe for {name!r}; there are {RECIPES}")
    began = time.perf_counter()
    vae, recipe, reached = importlib.import_module(f".{name}", __name__).train(verbose=verbose)
    recipe = {**recipe, "command": f"python -m cvae_tutorial train {name}"}
    reached = {**reached, "seconds": round(time.perf_counter() - began)}
    save_vae(vae, name, recipe, reached, directory)
    return vae


__all__ = ["RECIPES", "FreshRows", "rebuild"]
