"""The default method beside BlackJAX and NumPyro, on the same weights: ``make bench-peers``.

Every library draws X1 given X0 at nine points from the published model of the two ridges. Weights and
likelihood are carried to JAX, and must agree with Keras there. Each is compiled before it is timed;
CPU seconds are those of all threads, and ratios those of one run.
"""

import argparse
import time
import warnings
from functools import partial

import cvae_tutorial as ct  # isort: skip  (before TensorFlow: it keeps start-up notices out)
import blackjax
import jax
import jax.numpy as jnp
import numpy as np
import numpyro
from blackjax.smc import inner_kernel_tuning, resampling
from numpyro.infer import MCMC, NUTS

from cvae_tutorial.distances import iid_floor, wasserstein

DRAWS = 5_000
POINTS = np.arange(-2.0, 2.1, 0.5)  # X0
HARD = np.isin(np.abs(POINTS), (1.5, 2.0))  # the conditional is far from the bulk of the data
CHAINS, WARMUP = 4, 500  # of NUTS


def decoder(vae):
    """The model's decoder in JAX: z (..., l) to location and scale (..., d) in the units of the data."""
    arrays = [jnp.asarray(a) for a in vae.decoder.get_weights()]
    layers = list(zip(arrays[::2], arrays[1::2], strict=True))
    shift, unit = (jnp.asarray(a.numpy()) for a in (vae.shift, vae.scale))

    def decode(z):
        for matrix, bias in layers[:-1]:
            z = jax.nn.relu(z @ matrix + bias)
        loc, spread = jnp.split(z @ layers[-1][0] + layers[-1][1], 2, axis=-1)
        return shift + unit * loc, unit * (vae.likelihood.min_scale + jax.nn.softplus(spread))

    z = np.random.default_rng(0).standard_normal((100, vae.latent_dim)).astype("float32")
    for ours, theirs in zip(vae.decode(z), decode(z), strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-5)
    return decode


def log_prior(z):
    return jax.scipy.stats.norm.logpdf(z).sum(-1)


def log_likelihood(z, decode, x0):
    loc, scale = decode(z)
    return jax.scipy.stats.norm.logpdf(x0, loc[..., 0], scale[..., 0])


def complete(key, z, decode):
    loc, scale = decode(z)
    return loc[:, 1] + scale[:, 1] * jax.random.normal(key, (len(z),))


def blackjax_smc(decode, dim):
    """Adaptive tempered SMC: a random walk of the population's covariance, ten moves, ESS of a half."""

    def covariance(_, state, info):
        root = jnp.linalg.cholesky(jnp.cov(state.particles.T, aweights=state.weights) + 1e-8 * jnp.eye(dim))
        return blackjax.smc.extend_params({"sigma": 2.38 / dim**0.5 * root})

    step = blackjax.mcmc.random_walk.build_additive_step()

    @jax.jit
    def draw(key, x0):
        of_start, of_end, of_x, key = jax.random.split(key, 4)
        smc = inner_kernel_tuning.as_top_level_api(
            smc_algorithm=blackjax.adaptive_tempered_smc,
            logprior_fn=log_prior,
            loglikelihood_fn=partial(log_likelihood, decode=decode, x0=x0),
            mcmc_step_fn=lambda key, state, logdensity, sigma: step(
                key, state, logdensity, blackjax.mcmc.random_walk.normal(sigma)
            ),
            mcmc_init_fn=blackjax.rmh.init,
            resampling_fn=resampling.systematic,
            mcmc_parameter_update_fn=covariance,
            initial_parameter_value=blackjax.smc.extend_params({"sigma": 2.38 / dim**0.5 * jnp.eye(dim)}),
            target_ess=0.5,
            num_mcmc_steps=10,
        )
        state = smc.init(jax.random.normal(of_start, (DRAWS, dim)))

        def advance(carry):
            key, state = carry
            key, own = jax.random.split(key)
            return key, smc.step(own, state)[0]

        _, state = jax.lax.while_loop(lambda carry: carry[1].sampler_state.tempering_param < 1, advance, (key, state))
        # The particles carry the weights of the last temperature: they are resampled, and moved there.
        state, _ = smc.step(of_end, state)
        return complete(of_x, state.sampler_state.particles, decode)

    return lambda seed: [
        draw(key, x0) for key, x0 in zip(jax.random.split(jax.random.PRNGKey(seed), len(POINTS)), POINTS, strict=True)
    ]


def numpyro_nuts(decode, dim):
    """NUTS, four chains started from the prior."""

    def model(x0):
        z = numpyro.sample("z", numpyro.distributions.Normal().expand([dim]).to_event(1))
        numpyro.factor("x0", log_likelihood(z, decode, x0))

    sampler = MCMC(
        NUTS(model, init_strategy=numpyro.infer.init_to_sample),
        num_warmup=WARMUP,
        num_samples=DRAWS // CHAINS,
        num_chains=CHAINS,
        chain_method="sequential",
        progress_bar=False,
        jit_model_args=True,  # one program for all x0
    )
    finish = jax.jit(partial(complete, decode=decode))

    def draw(seed):
        drawn = []
        for key, x0 in zip(jax.random.split(jax.random.PRNGKey(seed), len(POINTS)), POINTS, strict=True):
            of_run, of_x = jax.random.split(key)
            sampler.run(of_run, jnp.float32(x0))
            drawn.append(finish(of_x, sampler.get_samples()["z"]))
        return drawn

    return draw


def ours(vae, method):
    rows = np.stack([POINTS, np.full(len(POINTS), np.nan)], 1)

    def draw(seed):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ct.SamplingWarning)
            return ct.sample_conditional(vae, rows, DRAWS, method, seed=seed, progress=False).values[..., 1]

    return draw


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=10)
    seeds = parser.parse_args().seeds
    vae = ct.load_vae("two_ridges")
    decode, dim = decoder(vae), vae.latent_dim
    exact = [ct.exact.quadrature(vae, {0: x0}).column(1) for x0 in POINTS]
    floors = np.array([iid_floor(wasserstein, own, DRAWS, replicates=20).mean for own in exact])
    runs = {
        "cvae_tutorial, auto": ours(vae, "auto"),
        "cvae_tutorial, tempered_smc": ours(vae, "tempered_smc"),
        "BlackJAX, adaptive tempered SMC": blackjax_smc(decode, dim),
        "NumPyro, NUTS, 4 chains": numpyro_nuts(decode, dim),
    }
    ratios, spent = {name: [] for name in runs}, {name: [] for name in runs}
    for seed in range(seeds + 1):
        for name, draw in runs.items():
            if "NUTS" in name and seed > 2:  # it compiles at each run, and JAX keeps all of that
                continue
            began = time.process_time()
            drawn = [np.asarray(own) for own in draw(seed)]
            if seed:  # the first compiles
                spent[name].append(time.process_time() - began)
                ratios[name].append([wasserstein(own, of) for own, of in zip(drawn, exact, strict=True)] / floors)
    base = np.array(spent["BlackJAX, adaptive tempered SMC"])
    print(
        "| nine conditionals, 5,000 draws each | W1 / floor, all | hard cases | worst point | CPU s | over BlackJAX's |"
    )
    print("|---|---:|---:|---:|---:|---:|")
    for name in runs:
        found = np.array(ratios[name])

        def mean(of, found=found):
            each = found[:, of].mean(1)
            return f"{each.mean():.2f} ± {each.std(ddof=1) / len(each) ** 0.5:.2f}"

        cells = [mean(HARD | True), mean(HARD), f"{found.mean(0).max():.2f}", f"{np.median(spent[name]):.2f}"]
        print(f"| {name} | " + " | ".join(cells) + f" | {np.median(spent[name] / base[: len(spent[name])]):.2f} |")


if __name__ == "__main__":
    main()
