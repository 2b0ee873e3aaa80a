"""Draw the book's logo and favicon from its data: contours of the two ridges and a slice at X0 = 1.

    python book/logo.py
"""
from pathlib import Path

import numpy as np
from contourpy import contour_generator

import cvae_tutorial as ct

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
    layers = [f'<path d="{path}" fill="{blue}"/>' for path, blue in zip(contours(shares, size), BLUES[-len(shares):])]
    x = (1.0 + REACH) * size / (2 * REACH)
    line = f'<path d="M{x:.1f} {size * 0.06:.1f}V{size * 0.94:.1f}" stroke="{ORANGE}" stroke-width="{slice_width}" stroke-linecap="round"/>'
    return (f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {size} {size}" role="img">'
            f"<title>Two crossing ridges, cut by a line</title>{''.join(layers)}{line}</svg>\n")


if __name__ == "__main__":
    static = Path(__file__).parent / "_static"
    (static / "logo.svg").write_text(drawing((0.95, 0.7, 0.3), 200, 3))
    (static / "favicon.svg").write_text(drawing((0.9, 0.4), 32, 2.5))
