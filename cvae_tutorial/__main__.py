"""Commands: ``python -m cvae_tutorial`` reproduces the origin note; ``train`` rebuilds a checkpoint."""

from __future__ import annotations

import argparse
import time
from pathlib import Path

from .draws import SamplingWarning
from .recipes import RECIPES, rebuild
from .recipes.two_ridges import train as train_two_ridges
from .sampling import conditional_sampler, sample_conditional
from .truth.distances import iid_floor, wasserstein
from .truth.mixture import two_ridges


def main(arguments=None):
    """Parse the command line and run."""
    parser = argparse.ArgumentParser(
        prog="python -m cvae_tutorial",
        description="Reproduce the origin note's three results by real training, beside the exact answers.",
    )
    parser.add_argument("--output", type=Path, default=Path("note"), help="folder for figures (default: note)")
    commands = parser.add_subparsers(dest="command", title="commands")
    train = commands.add_parser("train", help="train a published checkpoint anew")
    train.add_argument("name", choices=RECIPES)
    train.add_argument("--output", type=Path, default=Path("weights"), help="folder to write to (default: weights)")
    options = parser.parse_args(arguments)
    if options.command == "train":
        rebuild(options.name, options.output, verbose=2)
        print(f"wrote {options.output / options.name}.npz and .json")
    else:
        reproduce_note(options.output)


def reproduce_note(folder, train=None, num_samples=5_000):
    """Train on the two ridges, draw X1 given X0 = 1 and the joint, save three figures in ``folder``.

    Returns
    -------
    dict
        Wasserstein distance of each method's draws of X1 given X0 = 1 from the exact conditional.
    """
    import warnings

    import matplotlib.pyplot as plt
    import numpy as np

    from .plotting import METHOD_COLORS, TRUTH, set_style

    began = time.perf_counter()
    plt.switch_backend("agg")
    set_style()
    folder.mkdir(parents=True, exist_ok=True)
    mixture = two_ridges()
    rows = mixture.sample(40_000, seed=0)
    figure, axes = plt.subplots(figsize=(5, 4))
    axes.scatter(rows[:5_000, 0], rows[:5_000, 1], s=2, alpha=0.4, color=TRUTH)
    axes.set(xlabel="X0", ylabel="X1", title="5,000 rows of the mixture")
    figure.savefig(folder / "1_mixture.png")
    print("Training a VAE on the mixture (about a minute)", flush=True)
    vae = (train or train_two_ridges)(verbose=0)[0]

    exact = mixture.condition({0: 1.0})
    floor = iid_floor(wasserstein, exact, num_samples)
    print(f"X1 given X0 = 1, {num_samples:,} draws; distance (W1) from the exact conditional:")
    print(f"  {'exact draws':14s} {getattr(floor, 'mean', floor):.3f}  (the i.i.d. floor)")
    grid = np.linspace(-3, 3, 601)
    figure, axes = plt.subplots(figsize=(6, 4))
    distances = {}
    for method in ("one_pass", "auto"):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", SamplingWarning)  # the figure is about what it says
            if method == "one_pass":
                draws = conditional_sampler(vae, rows, [1], [0], [1.0], num_samples, seed=0)[:, 0]
            else:
                draws = sample_conditional(vae, {0: 1.0}, num_samples, method, seed=0).column(1)
        distances[method] = wasserstein(draws, exact)
        print(f"  {method:14s} {distances[method]:.3f}")
        axes.hist(draws, bins=80, range=(-3, 3), density=True, alpha=0.5, label=method, color=METHOD_COLORS[method])
    axes.plot(grid, exact.prob(grid[:, None]), color=TRUTH, label="exact")
    axes.set(xlabel="X1", ylabel="density", title="X1 given X0 = 1")
    axes.legend()
    figure.savefig(folder / "2_conditional.png")

    joint = vae.sample(20_000, seed=0)
    print("Covariance of the joint, drawn from the prior (exact in brackets):")
    for ours, true in zip(np.cov(joint.T), mixture.covariance, strict=True):
        print("  " + "  ".join(f"{a:6.3f} [{b:6.3f}]" for a, b in zip(ours, true, strict=True)))
    figure, axes = plt.subplots(figsize=(5, 4))
    axes.scatter(joint[:5_000, 0], joint[:5_000, 1], s=2, alpha=0.4, color=METHOD_COLORS["auto"])
    axes.set(xlabel="X0", ylabel="X1", title="5,000 joint draws of the VAE")
    figure.savefig(folder / "3_joint.png")
    print(f"Figures are in {folder}/; this took {time.perf_counter() - began:.0f} s")
    return distances


if __name__ == "__main__":
    main()
