"""The protocol of a sampler: one of one's own runs like the package's, and what is missing is said in a sentence."""

from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
import pytest
import tensorflow as tf

import cvae_tutorial as ct
from cvae_tutorial.exact import LinearGaussian
from cvae_tutorial.samplers import Chain, Info, Population, Weighted

MODEL = LinearGaussian([[1.0], [-0.8], [0.5]], [0.0, 1.0, 2.0], [0.6, 0.5, 0.7])


@dataclass(frozen=True)
class Independence(Chain):
    """Independence Metropolis from the prior."""

    accepts_start = False
    default_warmup, default_thin = 50, 20

    class State(NamedTuple):
        x: Any
        z: Any
        log_likelihood: Any

    def init(self, target, plan, seed, start=None):
        of_z, of_x = seed.split()
        z = of_z.normal((plan.num_chains, target.latent_dim))
        parameters = target.decode(z)
        return self.State(target.impute(parameters, of_x), z, target.log_likelihood(parameters))

    def step(self, target, state, seed):
        of_z, of_test, of_x = seed.split(3)
        z = of_z.normal(tf.shape(state.z)[1:])
        log_likelihood = target.log_likelihood(target.decode(z))
        uniform = of_test.uniform(tf.shape(log_likelihood)[1:])
        probability = tf.exp(tf.minimum(log_likelihood - state.log_likelihood, 0.0))
        moves = uniform < probability
        z = tf.where(moves[..., None], z, state.z)
        log_likelihood = tf.where(moves, log_likelihood, state.log_likelihood)
        x = target.impute(target.decode(z), of_x)
        return self.State(x, z, log_likelihood), Info(probability, 0, 2 * tf.shape(z)[1])


def draw(method, num_samples=2_000, **settings):
    return ct.sample_conditional(MODEL, {0: 1.0}, num_samples, method, seed=0, progress=False, **settings)


def test_a_sampler_of_ones_own_is_exact_and_diagnosed():
    draws, exact = draw(Independence()), MODEL.condition({0: 1.0})
    error = (draws.values[:, 1:].mean(0) - exact.mean) / exact.std * np.sqrt(2_000)
    assert (np.abs(error) < 4).all() and draws.values[:, 1:].std(0) == pytest.approx(exact.std, rel=0.1)
    assert 0.3 < draws.acceptance[0] < 0.9 and draws.r_hat[0, 1:].max() < 1.05
    assert draws.decoder_calls == 2 * 208 * (50 + draws.method.thin * 20) and draws.encoder_calls == 0
    with pytest.raises(ValueError, match="Independence starts from the prior"):
        draw(Independence(), start=np.zeros((208, 3)))


def test_settings_of_the_run_belong_to_the_method():
    by_name = draw("pseudo_gibbs", 40, num_chains=8, warmup=3, thin=2)
    own = draw(ct.samplers.PseudoGibbs(num_chains=8, warmup=3, thin=2), 40)
    assert by_name.values.tobytes() == own.values.tobytes() and by_name.method == own.method
    assert (own.method.num_chains, own.method.warmup, own.method.thin) == (8, 3, 2)
    filled = draw("lair", 400).method
    assert filled.num_chains and filled.num_steps == 20 and filled.num_proposals == 200
    assert draw(filled, 400).values.tobytes() == draw("lair", 400).values.tobytes()
    for wrong in ({"num_chains": 0}, {"warmup": -1}, {"thin": 1.5}, {"num_chains": True}):
        with pytest.raises(ValueError, match=f"{next(iter(wrong))} must be a"):
            Independence(**wrong)


def test_a_sampler_without_a_method_says_which():
    class NoStep(Chain):
        def init(self, target, plan, seed, start=None):
            return None

    with pytest.raises(TypeError, match="abstract method '?step"):
        NoStep()

    class NoSize(Weighted):
        init = step = lambda self, *a: None

    with pytest.raises(TypeError, match="abstract method '?num_particles"):
        NoSize()


@pytest.mark.parametrize("method", [object(), Independence, type("Mine", (), {"step": None})()])
def test_what_is_no_sampler_is_refused(method):
    with pytest.raises(TypeError, match="method must be a name or a settings object.*derives from samplers.Chain"):
        draw(method)


@pytest.mark.parametrize("kind, field", [(Chain, "x"), (Weighted, "particles"), (Population, "particles")])
def test_a_state_without_what_its_kind_keeps_is_refused(kind, field):
    class Empty(NamedTuple):
        other: Any

    class Wrong(kind):
        num_particles = 1

        def init(self, target, plan, seed, start=None):
            return Empty(seed.normal((plan.num_chains, target.latent_dim)))

        def step(self, target, state, seed):
            return state, Info(state.other[..., 0], 0, 0)

    with pytest.raises(TypeError, match=f"Wrong.init returns a state without '{field}'"):
        draw(Wrong())


def test_a_likelihood_that_knows_nothing_of_rows():
    """It takes a pair of integers; rows still draw for themselves."""

    class Plain(ct.Normal):
        draws_by_row = False

        def sample(self, parameters, seed):
            loc, scale = parameters
            return loc + scale * tf.random.stateless_normal(tf.shape(loc), seed)

    class Model(LinearGaussian):
        likelihood = Plain()

    model, table = Model(MODEL.loadings, MODEL.offset, MODEL.noise_scale), np.array([[1.0, np.nan, np.nan]] * 6)
    for method in ("pseudo_gibbs", "tempered_smc"):
        settings = {"seed": 0, "progress": False, "num_chains": 208}
        whole = ct.sample_conditional(model, table, 208, method, **settings).values
        alone = np.where(np.arange(6)[:, None] == 2, table, np.nan)
        other = ct.sample_conditional(model, alone, 208, method, **settings)
        assert whole[2].tobytes() == other.values[2].tobytes()
        assert not np.isclose(whole[2], whole[3])[:, 1:].any()
        if method == "tempered_smc":
            exact = model.condition({0: 1.0})
            assert np.abs(whole[:, :, 1:].mean((0, 1)) - exact.mean).max() < 5 * exact.std.max() / np.sqrt(6 * 208)


def test_kernels_are_shared_by_runs_of_any_length():
    lair = ct.samplers.LAIR()
    assert replace(lair, num_chains=3, num_steps=4).kernel() == lair.kernel() == lair.plan(5_000)[0].kernel()
    assert ct.samplers.LAIR(num_proposals=20, group_size=5).kernel() != lair.kernel()
