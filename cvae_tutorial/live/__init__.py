"""Live figures: samplers that run in the reader's browser, from the published weights, without a network.

>>> from cvae_tutorial import live
>>> live.conditional()  # the last line of a cell
Live figure: X1 given X0, drawn in the browser

A figure is a custom element in plain JavaScript. What a notebook keeps of it is text: the element with a
picture for readers without scripts, the script, and the weights in base 64. Nothing of it is computed
here, so it is the same on every machine.
"""

from __future__ import annotations

import base64
import html
import json
import re
from dataclasses import dataclass
from importlib import resources
from typing import Any

import numpy as np

from ..recipes.checkpoints import WEIGHTS
from ..truth.mixture import two_ridges

_HERE = resources.files(__name__)


@dataclass(frozen=True)
class LiveFigure:
    """A live figure, shown where it is the last object of a cell.

    Attributes
    ----------
    name : str
        Of the element, without its prefix; its script and its still picture are files of that name.
    title : str
        What the figure is, in a few words.
    alt : str
        What the still picture shows, for readers without scripts.
    model : str
        The published checkpoint that it runs.
    settings : dict
        Attributes of the element: what it shows first.
    """

    name: str
    title: str
    alt: str
    model: str
    settings: dict[str, Any]

    def __repr__(self) -> str:
        return f"Live figure: {self.title}"

    def _repr_html_(self) -> str:
        tag = f"cvae-{self.name}"
        settings = "".join(f' {name}="{html.escape(str(value))}"' for name, value in self.settings.items())
        still = base64.b64encode((_HERE / f"{self.name}.svg").read_bytes()).decode()
        picture = (
            f'<img src="data:image/svg+xml;base64,{still}" alt="{html.escape(self.alt)}" width="640" height="330">'
        )
        return f"<{tag}{settings}>{picture}</{tag}>\n<script>\n{self.script()}</script>"

    def script(self) -> str:
        """Return the JavaScript that defines the element, weights included."""
        parts = [_short((_HERE / f"{name}.js").read_text(encoding="utf8")) for name in ("core", "element", self.name)]
        data = json.dumps(figure_data(self.model), separators=(",", ":"))
        guard = f'if (customElements.get("cvae-{self.name}")) return;'
        return "\n".join(["(() => {", guard, f"const DATA = {data};", *parts, "})();\n"])


def _short(script: str) -> str:
    """Leave out indentation and the comments that have lines of their own."""
    script = re.sub(r"^\s*/\*\*.*?\*/$", "", script, flags=re.M | re.S)
    return re.sub(r"^\s*(//.*)?\n?", "", script, flags=re.M)


def figure_data(model: str) -> dict[str, Any]:
    """Return what a figure's script must know: the weights of a checkpoint, colours of methods, the two ridges."""
    from ..plotting import METHOD_COLORS, METHOD_LABELS

    card = json.loads((WEIGHTS / f"{model}.json").read_text())
    with np.load(WEIGHTS / f"{model}.npz", allow_pickle=False) as stored:
        arrays = [stored[f"weight_{i}"] for i in range(len(stored.files))]
    flat = np.concatenate([a.ravel() for a in arrays]).astype("<f4")
    mixture = two_ridges()
    return {
        "model": {
            # With - and _ for + and /: no digits that stand alone, which a comparison would read as numbers.
            "weights": base64.urlsafe_b64encode(flat.tobytes()).decode(),
            "shapes": [list(a.shape) for a in arrays],
            "minScale": card["config"]["likelihood"]["config"]["min_scale"],
        },
        "colors": METHOD_COLORS,
        "labels": METHOD_LABELS,
        "mixture": {
            "weights": mixture.weights.tolist(),
            "means": mixture.means.tolist(),
            "covariances": mixture.covariances.tolist(),
        },
    }


def conditional(x0: float = 1.0, method: str = "tempered_smc", steps: bool = False) -> LiveFigure:
    """Draw X1 given X0 by any method, against the exact conditional.

    The reader drags the line X0, picks a method, and may watch one chain or one population step by step.

    Parameters
    ----------
    x0 : float
        Where the line stands first, between -2 and 2.
    method : str
        The method that is picked first: ``one_pass``, ``pseudo_gibbs``, ``metropolis_within_gibbs``,
        ``importance``, ``lair`` or ``tempered_smc``.
    steps : bool
        Whether the figure begins step by step.
    """
    alt = (
        "Two crossing ridges, cut by a line at X0 = 1, and beside them the exact density of X1 on that line: "
        "a tall peak near 1 and a low one near -1.4. Where scripts run, the line can be dragged."
    )
    settings = {"x0": x0, "method": method} | ({"steps": ""} if steps else {})
    return LiveFigure("conditional", "X1 given X0, drawn in the browser", alt, "two_ridges", settings)


def weights(known: int = 4) -> LiveFigure:
    """Show how importance weights collapse as more and more times of a path become known.

    Parameters
    ----------
    known : int
        How many of the 32 times are known first.
    """
    alt = (
        "A path known up to a dot, a fan of paths that go on from there, and a falling curve: the effective "
        "number of proposals against the number of known times. Where scripts run, the dot can be dragged."
    )
    return LiveFigure("weights", "importance weights collapse", alt, "paths_brownian", {"known": known})


def r_hat(x0: float = 1.0, lower: int = 0) -> LiveFigure:
    """Run eight chains, started where the reader wants them, and show their R-hat.

    Parameters
    ----------
    x0 : float
        The evidence, between -2 and 2.
    lower : int
        How many of the eight chains start in the lower mode.
    """
    alt = (
        "Traces of eight chains that all stay in one band near 1; the band of a second mode, near -1.4, is "
        "empty. Where scripts run, the reader chooses where the chains start."
    )
    return LiveFigure("rhat", "R-hat and where chains start", alt, "two_ridges", {"x0": x0, "lower": lower})
