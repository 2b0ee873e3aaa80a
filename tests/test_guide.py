"""Guides: proposals that are learned from the model's own rows, and what the weights make of them."""

from functools import cache

import keras
import numpy as np
import pytest
import tensorflow as tf

import cvae_tutorial as ct
from cvae_tutorial import samplers
from cvae_tutorial.distances import iid_floor, wasserstein
from cvae_tutorial.exact import LinearGaussian
from cvae_tutorial.guide import MixtureGuide, ProductOfExperts
from cvae_tutorial.samplers import proposal as proposal_module

NAN = np.nan
LINEAR = LinearGaussian(np.random.default_rng(0).normal(size=(5, 3)), np.arange(5.0), [0.5, 0.3, 0.8, 0.2, 1.0])
RIDGES = ct.load_vae("two_ridges")
POINTS = np.arange(-2.0, 2.1, 0.5)


@cache
def exact_at(x0, num_samples):
    """Exact answer at X0, and the floor of so many draws."""
    exact = ct.exact.quadrature(RIDGES, {0: x0})
    return exact, iid_floor(wasserstein, exact.column(1), num_samples).mean


def draw(model, observed, num_samples, method, **settings):
    return ct.sample_conditional(model, observed, num_samples, method, **{"seed": 0, "progress": False} | settings)


@pytest.fixture(scope="module")
def experts():
    return ct.amortise(LINEAR, guide="experts", num_steps=1_000, verbose=0)


@pytest.fixture(scope="module")
def guide():
    return ct.amortise(RIDGES, num_steps=1_000, verbose=0)


def test_multiplied_experts_are_the_posterior_where_the_decoder_is_linear(experts):
    rng = np.random.default_rng(1)
    x = rng.normal(size=(60, 3)) @ LINEAR.loadings.T + LINEAR.offset + rng.normal(size=(60, 5)) * LINEAR.noise_scale
    observed = rng.random(x.shape) < 0.5
    x, observed = x[~observed.all(axis=1)], observed[~observed.all(axis=1)]
    draws = draw(LINEAR, np.where(observed, x, NAN), 500, samplers.Guided(experts, prior_share=0.01))
    share = draws.importance_ess / draws.log_weights.shape[1]
    assert np.median(share) > 0.95 and np.quantile(share, 0.1) > 0.8


def test_averaged_experts_are_not(experts):
    """The origin's idea: one code for each column, averaged. The weights punish it."""

    class Averaged(ProductOfExperts):
        def call(self, inputs):
            x, observed = inputs
            log_weight, _, _ = super().call(inputs)
            one = tf.eye(self.num_features, dtype="bool") & observed[:, None]
            alone = tf.repeat(x[:, None], self.num_features, 1)
            _, loc, white = super().call((alone, one))
            many = tf.maximum(tf.reduce_sum(tf.cast(observed, "float32"), -1), 1.0)
            share = tf.cast(observed, "float32") / many[:, None]
            mean = tf.reduce_sum(share[..., None] * loc[..., 0, :], 1)
            return log_weight, mean[:, None], tf.reduce_mean(white, 1)

    averaged = Averaged(5, 3, LINEAR.likelihood)
    averaged.set_weights(experts.get_weights())
    row = np.where([True, True, True, True, False], [3.0, 1.0, 2.0, 3.0, 4.0], NAN)
    by_product = draw(LINEAR, row, 500, samplers.Guided(experts)).importance_ess[0]
    by_mean = draw(LINEAR, row, 500, samplers.Guided(averaged)).importance_ess[0]
    assert by_mean < 0.2 * by_product


def test_a_guide_is_corrected_to_the_exact_answer(guide):
    table = np.column_stack([POINTS, np.full(9, NAN)])
    draws = draw(RIDGES, table, 5_000, samplers.Guided(guide))
    assert np.median(draws.importance_ess) > 0.4 * 20_000
    ratios = []
    for x0, own, evidence in zip(POINTS, draws.values[..., 1], draws.log_evidence, strict=True):
        exact, floor = exact_at(x0, 5_000)
        assert evidence == pytest.approx(exact.log_evidence, abs=0.08)
        ratios.append(wasserstein(own, exact.column(1)) / floor)
    assert np.mean(ratios) < 1.5


@pytest.mark.filterwarnings("ignore::cvae_tutorial.SamplingWarning")
def test_power_weights_that_forget_the_proposal(guide, monkeypatch):
    def forgetful(*arguments):
        z, log_density = honest(*arguments)
        return z, tf.zeros_like(log_density)

    honest = proposal_module.propose
    monkeypatch.setattr(proposal_module, "propose", forgetful)
    exact, floor = exact_at(1.0, 5_000)
    method = samplers.Guided(guide, prior_share=0.26)  # another method, so that it is compiled anew
    own = draw(RIDGES, {0: 1.0}, 5_000, method).column(1)
    assert wasserstein(own, exact.column(1)) > 2.5 * floor


@pytest.mark.filterwarnings("ignore::cvae_tutorial.SamplingWarning")
@pytest.mark.parametrize("rescued", [False, True])
def test_a_guide_of_ten_steps_is_right_or_flagged(rescued):
    poor = ct.amortise(RIDGES, num_steps=10, verbose=0)
    table = np.column_stack([np.tile(POINTS, 8), np.full(72, NAN)])
    method = samplers.Auto(samplers.Guided(poor)) if rescued else samplers.Guided(poor)
    draws = draw(RIDGES, table, 1_000, method)
    flagged = np.isin(np.arange(72), [row for finding in ct.diagnose(draws) for row in finding.rows])
    ratios = []
    for x0, own in zip(table[:, 0], draws.values[..., 1], strict=True):
        exact, floor = exact_at(x0, 1_000)
        ratios.append(wasserstein(own, exact.column(1)) / floor)
    ratios = np.array(ratios)
    assert not flagged.any() if rescued else flagged[::9].mean() > 0.5  # the prior's share saves the middle
    assert ratios[~flagged].mean() < 1.5


def test_the_default_tries_a_guide_first(guide):
    table = np.column_stack([POINTS, np.full(9, NAN)])
    draws = draw(RIDGES, table, 1_000, samplers.Auto(samplers.Guided(guide)))
    assert (draws.methods == "Guided").mean() > 0.5 and set(draws.methods) <= {"Guided", "TemperedSMC"}


def test_draws_of_a_row_do_not_depend_on_the_others(guide):
    table = np.column_stack([np.tile(POINTS, 5), np.full(45, NAN)])
    together = draw(RIDGES, table, 50, samplers.Guided(guide))
    cut = draw(RIDGES, table, 50, samplers.Guided(guide), max_memory=0.01)
    alone = draw(RIDGES, np.where(np.arange(45)[:, None] == 17, table, 0.0), 50, samplers.Guided(guide))
    assert together.values.tobytes() == cut.values.tobytes()
    assert together.values[17].tobytes() == alone.values[17].tobytes()


@pytest.mark.parametrize("kind", ["mixture", "experts"])
def test_saved_loaded_and_learned_twice(kind, tmp_path):
    guide = ct.amortise(LINEAR, guide=kind, num_steps=20, seed=3, verbose=0)
    guide.save(tmp_path / "guide.keras")
    loaded = keras.saving.load_model(tmp_path / "guide.keras")
    again = ct.amortise(LINEAR, guide=kind, num_steps=20, seed=3, verbose=0)
    other = ct.amortise(LINEAR, guide=kind, num_steps=20, seed=4, verbose=0)
    draws = [draw(LINEAR, {0: 1.0}, 50, samplers.Guided(g)).values.tobytes() for g in (guide, loaded, again, other)]
    assert draws[0] == draws[1] == draws[2] != draws[3]


def test_any_model_of_the_protocol():
    """A wrapped one, and one of mixed columns, of which only some sets are asked for."""
    z = keras.Input((2,))
    decoder = keras.Model(z, keras.layers.Dense(4, "sigmoid")(z))
    x = keras.Input((4,))
    encoder = keras.Model(x, [keras.layers.Dense(2)(x), keras.layers.Dense(2)(x)])
    wrapped = ct.wrap(encoder, decoder, ct.Bernoulli())
    kinds = ct.Columns({"u": ct.Normal(), "v": ct.Categorical(["a", "b", "c"]), "w": ct.Bernoulli()})
    mixed = ct.VAE(latent_dim=2, likelihood=kinds, seed=0)
    for model, row in ((wrapped, [1.0, NAN, 0.0, NAN]), (mixed, [0.3, NAN, 1.0])):
        masks = np.isfinite([row]) | np.zeros((3, 1), bool)
        guide = ct.amortise(model, masks, num_steps=300, verbose=0)
        draws = draw(model, row, 200, samplers.Guided(guide))
        # So short of evidence, the posterior is nearly normal, and a guide of 300 steps knows it.
        assert draws.importance_ess[0] > 0.8 * 800


@pytest.mark.parametrize(
    "wrong, error",
    [
        ({"masks": np.ones((2, 5))}, "array of bool"),
        ({"masks": np.ones((2, 4), bool)}, "array of bool"),
        ({"guide": "full"}, "unknown guide"),
        ({"guide": MixtureGuide(4, 3, ct.Normal())}, "the guide is for"),
        ({"num_steps": 0}, "num_steps must be"),
    ],
)
def test_what_cannot_be_learned_is_refused(wrong, error):
    with pytest.raises(ValueError, match=error):
        ct.amortise(LINEAR, **wrong)


def test_a_guide_of_another_model_is_refused(guide):
    with pytest.raises(ValueError, match="the guide is for 2 columns"):
        draw(LINEAR, {0: 1.0}, 10, samplers.Guided(guide))
    with pytest.raises(TypeError, match="guide must be a Guide"):
        samplers.Guided()
