"""Draw the pictures that stand in for the live figures where no scripts run.

    python book/live_stills.py

They are committed beside the scripts, in cvae_tutorial/live, so that nothing is drawn when a chapter runs.
"""

import warnings
from pathlib import Path

import numpy as np

import cvae_tutorial as ct
from cvae_tutorial import live
from cvae_tutorial.plotting import METHOD_COLORS

WIDTH, HEIGHT, SPAN = 640, 330, 3.0
INK, SOFT, WASH, MARK = "#222832", "#6b7785", "#eef0f2", "#0a7d91"


class Panel:
    """A frame with scales; its marks are SVG."""

    def __init__(self, left, width, x, y):
        self.left, self.width, self.x, self.y = left, width, x, y
        self.top, self.height, self.marks = 16, 258, []

    def at(self, x, y):
        """Place points of the panel on the sheet."""
        u = self.left + (np.asarray(x) - self.x[0]) / (self.x[1] - self.x[0]) * self.width
        v = self.top + (self.y[1] - np.asarray(y)) / (self.y[1] - self.y[0]) * self.height
        return np.broadcast_arrays(u, v)

    def line(self, x, y, color, width=1.5, fill="none", opacity=1.0, dash=""):
        """Draw a line through points."""
        points = " ".join(f"{u:.1f},{v:.1f}" for u, v in zip(*self.at(x, y), strict=True))
        dashed = f' stroke-dasharray="{dash}"' if dash else ""
        style = f'fill="{fill}" stroke="{color}" stroke-width="{width}" opacity="{opacity}"{dashed}'
        self.marks.append(f'<polyline points="{points}" {style}/>')

    def band(self, low, high):
        """Shade all between two heights."""
        (u, v), (_, w) = self.at(self.x[0], high), self.at(self.x[0], low)
        self.marks.append(
            f'<rect x="{u:.1f}" y="{v:.1f}" width="{self.width}" height="{float(w - v):.1f}" fill="{WASH}"/>'
        )

    def dots(self, x, y, radius, color, opacity=1.0):
        """Draw round dots."""
        points = "".join(f"M{u:.1f} {v:.1f}h0" for u, v in zip(*self.at(x, y), strict=True))
        style = f'stroke="{color}" stroke-width="{2 * radius}" stroke-linecap="round" opacity="{opacity}"'
        self.marks.append(f'<path d="{points}" {style}/>')

    def axes(self, xs, ys, xname, yname, label=str):
        """Draw the frame, ticks and names."""
        bottom = self.top + self.height
        frame = f'<rect x="{self.left}" y="{self.top}" width="{self.width}" height="{self.height}" fill="none"'
        self.marks.append(f'{frame} stroke="#c3c9d0"/>')
        for x in xs:
            self.write(str(x), self.at(x, 0)[0], bottom + 17)
        for y in ys:
            self.write(label(y), self.left - 6, self.at(0, y)[1] + 4, "end")
        self.write(xname, self.left + self.width / 2, bottom + 36)
        if yname:
            x, y = self.left - 26, self.top + self.height / 2
            turned = f'transform="rotate(-90 {x} {y})"'
            self.marks.append(f'<text x="{x}" y="{y}" {turned} text-anchor="middle">{yname}</text>')

    def write(self, words, x, y, anchor="middle"):
        """Write words on the sheet."""
        words = str(words).replace("-", "\N{MINUS SIGN}")
        self.marks.append(f'<text x="{float(x):.1f}" y="{float(y):.1f}" text-anchor="{anchor}">{words}</text>')


def write(name, title, *panels):
    marks = "".join(mark for panel in panels for mark in panel.marks)
    size = f'width="{WIDTH}" height="{HEIGHT}" viewBox="0 0 {WIDTH} {HEIGHT}"'
    font = f'font-family="sans-serif" font-size="14" fill="{INK}"'
    svg = f'<svg xmlns="http://www.w3.org/2000/svg" {size} {font}><title>{title}</title>'
    svg += f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>{marks}</svg>\n'
    (Path(live.__file__).parent / f"{name}.svg").write_text(svg, encoding="utf8")


def conditional():
    mixture = ct.two_ridges()
    left, right = Panel(48, 280, (-SPAN, SPAN), (-SPAN, SPAN)), Panel(352, 270, (0, 2.3), (-SPAN, SPAN))
    rows = mixture.sample(400, seed=0)
    rows = rows[(np.abs(rows) < SPAN).all(1)]
    left.dots(*rows.T, 1.5, SOFT, 0.6)
    left.line([1, 1], [-SPAN, SPAN], MARK, 2.5)
    y = np.linspace(-SPAN, SPAN, 241)
    right.line(mixture.condition({0: 1.0}).prob(y), y, INK, 2.2)
    left.axes([-2, 0, 2], [-2, 0, 2], "X0", "X1")
    right.axes([0, 1, 2], [], "density of X1 given X0 = 1", "")
    write("conditional", "Two ridges cut by a line, and the density on it", left, right)


def weights(num_known=4, num_proposals=10_000):
    vae, motion = ct.load_vae("paths_brownian"), ct.fractional_brownian_motion(0.5, 32)
    path, rng = motion.sample(1, seed=3)[0], np.random.default_rng(0)
    loc, scale = (a.numpy() for a in vae.decode(rng.standard_normal((num_proposals, vae.latent_dim)).astype("f4")))
    gain = np.cumsum(-0.5 * ((path - loc) / scale) ** 2, axis=1)
    weight = np.exp(gain - gain.max(axis=0))
    worth = np.append(num_proposals, weight.sum(0) ** 2 / (weight**2).sum(0))
    times, p = np.arange(33) / 32, weight[:, num_known - 1] / weight[:, num_known - 1].sum()
    left, right = Panel(48, 280, (0, 1), (-2.6, 2.6)), Panel(392, 230, (0, 31), (-0.15, 4.3))
    for i in rng.choice(num_proposals, 30, p=p):
        left.line(times, np.append(0, loc[i]), METHOD_COLORS["importance"], 1.2, opacity=0.4)
    left.dots(times[1 : num_known + 1], path[:num_known], 3.5, INK)
    left.axes([0, 0.5, 1], [-2, 0, 2], "time", "path")
    right.line(np.arange(32), np.log10(worth[:32]), METHOD_COLORS["importance"], 2.5)
    right.axes([0, 10, 20, 30], [0, 1, 2, 3, 4], "known times (of 32)", "", lambda y: f"{10**y:,}")
    right.write("effective proposals", 612, 34, "end")
    write("weights", "Paths resampled by weight, and effective proposals against known times", left, right)


def rhat():
    mixture = ct.two_ridges().condition({0: 1.0})
    start = np.column_stack([np.ones(8), np.full(8, 0.98)])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ct.SamplingWarning)
        method = ct.samplers.MetropolisWithinGibbs(0, num_chains=8, warmup=0, thin=1)
        draws = ct.sample_conditional(
            ct.load_vae("two_ridges"), {0: 1.0}, 1600, method, seed=0, start=start, progress=False
        )
    left, right = Panel(48, 340, (0, 200), (-SPAN, SPAN)), Panel(420, 205, (0, 2.3), (-SPAN, SPAN))
    for mean, sd in zip(mixture.means[:, 0], np.sqrt(mixture.covariances[:, 0, 0]), strict=True):
        left.band(mean - 2 * sd, mean + 2 * sd)
    for chain in draws.chains[0, :, :, 1]:
        left.line(np.arange(200), chain, METHOD_COLORS["metropolis_within_gibbs"], 0.9, opacity=0.7)
    y = np.linspace(-SPAN, SPAN, 241)
    right.line(mixture.prob(y), y, INK, 2.2)
    left.axes([0, 100, 200], [-2, 0, 2], "step", "X1")
    right.axes([0, 1, 2], [], "exact density", "")
    write("rhat", "Eight chains in one of two modes", left, right)


if __name__ == "__main__":
    conditional()
    weights()
    rhat()
