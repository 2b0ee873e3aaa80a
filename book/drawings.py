"""Draw the logo, the favicon and the README's picture from the book's data.

    python book/drawings.py

The logo shows contours of the two ridges and the slice X0 = 1.
"""

import warnings
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from contourpy import contour_generator

import cvae_tutorial as ct
from cvae_tutorial.plotting import DATA, conditional_histogram, set_style

REACH = 2.6  # the drawing shows [-REACH, REACH] in both columns
BLUES = ("#9CC9E8", "#56B4E9", "#0072B2")
ORANGE = "#D55E00"


def contours(shares, size):
    """SVG paths around the regions that hold the given shares of the mixture."""
    mixture = ct.two_ridges()
    densities = np.sort(np.exp(mixture.log_prob(mixture.sample(40_000, seed=0))))
    grid = np.linspace(-REACH, REACH, 161)
    points = np.stack(np.meshgrid(grid, grid), -1).reshape(-1, 2)
    surface = np.exp(mixture.log_prob(points)).reshape(161, 161)
    lines = contour_generator(grid, grid, surface)
    for share in shares:
        loops = lines.lines(densities[int((1 - share) * len(densities))])
        scaled = [(loop * [1, -1] + REACH) * size / (2 * REACH) for loop in loops]
        yield "".join("M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in loop[::2]) + "Z" for loop in scaled)


def drawing(shares, size, slice_width):
    """Write a drawing as SVG: regions of the mixture, and the slice."""
    layers = [
        f'<path d="{path}" fill="{blue}"/>'
        for path, blue in zip(contours(shares, size), BLUES[-len(shares) :], strict=True)
    ]
    x = (1.0 + REACH) * size / (2 * REACH)
    stroke = f'stroke="{ORANGE}" stroke-width="{slice_width}" stroke-linecap="round"'
    line = f'<path d="M{x:.1f} {size * 0.06:.1f}V{size * 0.94:.1f}" {stroke}/>'
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {size} {size}" role="img">'
        f"<title>Two crossing ridges, cut by a line</title>{''.join(layers)}{line}</svg>\n"
    )


def question():
    """Draw the README's picture: the data, and draws of a conditional by two methods."""
    set_style()
    mixture, vae = ct.two_ridges(), ct.load_vae("two_ridges")
    figure, (data, before, after) = plt.subplots(1, 3, figsize=(12, 3.6), layout="constrained")
    data.scatter(*mixture.sample(4_000, seed=0).T, s=2, color=DATA)
    data.axvline(1.0, color=ORANGE)
    data.set(title="The data, and $X_0 = 1$", xlabel="$X_0$", ylabel="$X_1$", xlim=(-3, 3), ylim=(-3, 3))
    grid = np.linspace(-3, 3, 400)
    exact = np.exp(mixture.condition({0: 1.0}).log_prob(grid[:, None]))
    for ax, method, title in ((before, "one_pass", "Decode once"), (after, "auto", "Sample the conditional")):
        with warnings.catch_warnings():
            # That one pass is no sampler is what the picture shows.
            warnings.simplefilter("ignore", ct.SamplingWarning)
            draws = ct.sample_conditional(vae, {0: 1.0}, num_samples=100_000, method=method, seed=0, progress=False)
        inside = np.abs(draws.column(1)) < 3  # the label would count one draw in 100,000
        conditional_histogram(draws.column(1)[inside], grid, exact, method=method, ax=ax, title=title)
        ax.set(xlabel="$X_1$ given $X_0 = 1$", ylim=(0, 2.4))
    return figure


def draw(folder):
    """Write all drawings into a folder."""
    (folder / "logo.svg").write_text(drawing((0.95, 0.7, 0.3), 200, 3), encoding="utf8")
    (folder / "favicon.svg").write_text(drawing((0.9, 0.4), 32, 2.5), encoding="utf8")
    figure = question()
    figure.savefig(folder / "question.png", dpi=110)
    plt.close(figure)


if __name__ == "__main__":
    draw(Path(__file__).parent / "_static")
