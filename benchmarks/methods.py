"""What the methods cost and how close they come, as Markdown tables: ``python benchmarks/methods.py``.

Times compare only inside one run, so every ratio is the median over interleaved repeats of two
times taken one right after the other. ``--quick`` shortens everything and shows that it still runs.
"""

import argparse
import time
import warnings
from unittest import mock

import cvae_tutorial as ct  # isort: skip  (before TensorFlow: it keeps start-up notices out)
import numpy as np
import tensorflow as tf

from cvae_tutorial import loop
from cvae_tutorial.distances import iid_floor, wasserstein
from cvae_tutorial.samplers import METHODS, Weighted, as_sampler, base, importance

WIDTH = 4_096  # chains, or particles, in one step
DRAWS = 5_000
POINTS = np.arange(-2.0, 2.1, 0.5)  # X0
HARD = np.isin(np.abs(POINTS), (1.5, 2.0))  # the conditional is far from the bulk of the data


def methods():
    """Every method with its defaults for 5,000 draws, the plan of that, and its calls of one chain and step."""
    found = {}
    for name, cls in METHODS.items():
        sampler, plan = cls().plan(DRAWS)
        calls = (1, 1)
        if isinstance(sampler, Weighted):
            calls = plan.num_encoders, plan.num_encoders + plan.num_prior
        if name == "tempered_smc":
            calls = 0, sampler.num_moves
        found[name] = cls(), plan, calls
    return found


def table(header, rows):
    """Print Markdown; the first column is text, the others are numbers."""
    print("\n| " + " | ".join(header) + " |")
    print("|---|" + "---:|" * (len(header) - 1))
    for row in rows:
        print("| " + " | ".join(str(cell) for cell in row) + " |", flush=True)


# 1. A step against the bare networks


def repeated(body, variables, steps):
    """``body`` run ``steps`` times in a compiled loop that returns everything, so nothing is pruned."""

    @tf.function(autograph=False)
    def run(variables):
        shapes = tf.nest.map_structure(lambda a: a.shape, variables)

        def one(i, *variables):
            new = body(*variables)
            return (i + 1, *tf.nest.map_structure(tf.ensure_shape, new, shapes))

        return tf.while_loop(lambda i, *_: i < steps, one, (tf.constant(0), *variables))

    run._omit_frequent_tracing_warning = True  # TensorFlow counts all these functions as one
    return lambda: run(variables)


def step_loop(model, method, plan, chains, steps):
    """``steps`` steps of the method, by the compiled functions that `sample_conditional` runs."""
    table = tf.constant([[[1.0, 0.0]]]), tf.constant([[[1, 0]]]), tf.constant([0])
    functions, seed = loop.compiled(model, method.kernel()), (np.array([1, 2], "int32"), 0)
    # Chains keep one state in the end; weighted methods keep the particles of every step.
    kept, thin = (steps, 1) if isinstance(method, Weighted) else (1, steps)
    state = functions.call("init", table, seed, plan._replace(num_chains=chains, warmup=0, num_kept=kept, thin=thin))
    return lambda: functions.call("advance", table, seed, state, 2, 0, kept, thin, 0)[:2]


def network_loop(model, chains, calls, steps):
    """The passes that such a step needs, with the same batches: encode, then decode."""
    encoders, decoders = calls
    x = tf.random.stateless_normal((1, chains * max(encoders, 1), 2), (0, 1))
    z = tf.random.stateless_normal((1, chains * decoders, model.latent_dim), (0, 2))

    def body(x, z, scale, parameters):
        # Each pass reads what the last one wrote: none can be hoisted out of the loop.
        if encoders:
            loc, scale = model.encode(x)
            z = tf.concat([loc, z[:, loc.shape[1] :]], 1)
        else:
            z = parameters[0]
        parameters = model.decode(z)
        return parameters[0][:, : x.shape[1]], z, scale, parameters

    start = model.encode(x)[1] if encoders else z
    return repeated(body, (x, z, start, model.decode(z)), steps)


def weightless_loop(model, method, plan, chains, steps):
    """LAIR's step with the mixture's density left out of its weights, to count that apart."""
    loop.cache.clear()
    with mock.patch.object(importance, "log_mixture", lambda z, *_: base.log_prior(z)):
        run = step_loop(model, method, plan, chains, steps)
        run()  # compiled while the density is out
    loop.cache.clear()
    return run


def seconds(function):
    began = time.perf_counter()
    tf.nest.map_structure(lambda a: a.numpy(), tf.nest.flatten(function())[-1])
    return time.perf_counter() - began


def step_table(title, model, steps, repeats):
    runs = {}
    for name, (method, plan, calls) in methods().items():
        chains = round(WIDTH / calls[1])
        parts = [step_loop(model, method, plan, chains, steps), network_loop(model, chains, calls, steps)]
        if name == "lair":
            parts.append(weightless_loop(model, method, plan, chains, steps))
        runs[name] = chains * calls[1], parts
    times = {name: [] for name in runs}
    for repeat in range(repeats + 1):
        for name, (_, parts) in runs.items():
            found = [1e3 * seconds(part) / steps for part in parts]
            if repeat:  # the first compiles
                times[name].append(found)
    rows = []
    for name, (width, _) in runs.items():
        found = np.array(times[name])
        step, networks, counted = found[:, 0], found[:, 1], found[:, -1 if name == "lair" else 0]
        ratio = np.quantile(counted / networks, [0.25, 0.5, 0.75])
        density = f"{np.median(step - counted):.2f}" if name == "lair" else ""
        rows.append(
            [
                name,
                width,
                f"{np.median(step):.2f}",
                density,
                f"{np.median(networks):.2f}",
                f"**{ratio[1]:.2f}**",
                f"{ratio[0]:.2f}–{ratio[2]:.2f}",
            ]
        )
    table(
        [title, "width", "step, ms", "of it weights, ms", "networks, ms", "(step − weights) / networks", "quartiles"],
        rows,
    )


# 2. One conditional


def default_table(model, repeats):
    def draw(seed):
        return ct.sample_conditional(model, {0: 1.0}, DRAWS, seed=seed, progress=False)

    def traces():
        functions = (function for compiled in loop.cache.values() for function in compiled.functions.values())
        return sum(function.experimental_get_tracing_count() for function in functions)

    draws = draw(0)
    first, before = draws.seconds, traces()
    later = [draw(seed).seconds for seed in range(1, repeats + 1)]
    retraced = traces() - before
    table(
        ["5,000 draws given X0 = 1 by the default method", ""],
        [
            ["method", f"`{draws.methods[0]}`"],
            ["first call, s (compiles)", f"{first:.2f}"],
            ["later calls, s (median)", f"**{np.median(later):.3f}**"],
            ["later calls, s (longest)", f"{max(later):.3f}"],
            ["functions traced again", f"**{retraced}**"],
        ],
    )


# 3. Accuracy


def accuracy_table(model, seeds):
    rows = np.stack([POINTS, np.full(len(POINTS), np.nan)], 1)
    targets = [ct.exact.quadrature(model, row).column(1) for row in rows]
    floors = np.array([iid_floor(wasserstein, target, DRAWS, replicates=20).mean for target in targets])
    lines = []
    named = {name: method for name, (method, _, _) in methods().items()} | {"auto": as_sampler("auto")}
    for name, method in named.items():
        found, spent = [], []
        for seed in range(seeds):
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", ct.SamplingWarning)
                draws = ct.sample_conditional(model, rows, DRAWS, method, seed=seed, progress=False)
            spent.append(draws.seconds / len(rows))  # the first compiles; the median leaves it out
            found.append([wasserstein(values[:, 1], t) for values, t in zip(draws.values, targets, strict=True)])
        ratio = np.mean(found, 0) / floors
        weighted = isinstance(method, Weighted)
        diagnosed = 1 / (1 / DRAWS + 1 / draws.importance_ess) if weighted else draws.ess_bulk[:, 1]
        if np.isnan(diagnosed).all():
            diagnosed = draws.population_ess[:, 1]
        hard = (np.array(found) / floors)[:, HARD].mean(axis=1)
        error = hard.std(ddof=1) / len(hard) ** 0.5 if len(hard) > 1 else np.nan
        diagnosed = f"{np.nanmin(diagnosed):.0f}" if np.isfinite(diagnosed).any() else ""
        worth = DRAWS / np.mean(ratio[HARD]) ** 2
        calls = (draws.encoder_calls + draws.decoder_calls) / len(rows)
        lines.append(
            [
                name,
                *(f"{value:.2f}" for value in ratio),
                f"**{ratio[HARD].mean():.2f}** ± {error:.2f}",
                diagnosed,
                f"{worth:.3g}",
                f"{np.median(spent):.2f}",
                f"{worth / np.median(spent):.3g}",
                f"{calls / 1e3:.0f}",
                f"{1e3 * worth / calls:.3g}",
            ]
        )
    lines.append(["*floor, W1*", *(f"{floor:.4f}" for floor in floors), *[""] * 7])
    table(
        [
            "W1 / floor at X0 =",
            *(f"{x:g}" for x in POINTS),
            "hard cases",
            "ESS by diagnostics, least",
            "ESS by W1, hard",
            "s",
            "ESS / s",
            "calls, 10³",
            "ESS / 10³ calls",
        ],
        lines,
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="few repeats, figures without meaning")
    parser.add_argument("--only", choices=("steps", "default", "accuracy"), help="one part of the three")
    options = parser.parse_args()
    steps, repeats, seeds = (5, 2, 1) if options.quick else (20, 20, 6)
    model = ct.load_vae("two_ridges")
    if options.only in (None, "steps"):
        step_table("two_ridges, hidden (100, 100)", model, steps, repeats)
        wide = ct.VAE(num_features=2, latent_dim=2, hidden=(256, 256))  # untrained: only its cost counts
        step_table("hidden (256, 256)", wide, steps, repeats // 2)
    if options.only in (None, "default"):
        default_table(model, repeats)
    if options.only in (None, "accuracy"):
        accuracy_table(model, seeds)


if __name__ == "__main__":
    main()
