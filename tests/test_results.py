"""The loop and what it returns: seeds, blocks, tables, far evidence, diagnostics, frames."""

import warnings

import numpy as np
import pandas as pd
import pytest
import tensorflow as tf

import cvae_tutorial as ct
from cvae_tutorial import sampling
from cvae_tutorial.exact import LinearGaussian
from cvae_tutorial.samplers import LAIR, METHODS, Importance

NAN = np.nan
BRIEF = {"warmup": 20, "thin": 2}


def brief(method):
    """Few steps for methods that run chains."""
    return {} if METHODS[method].weighted else BRIEF


@pytest.fixture(scope="module")
def model():
    rng = np.random.default_rng(0)
    return LinearGaussian(rng.normal(size=(3, 2)), [0.0, 10.0, -5.0], [0.5, 0.3, 0.8])


@pytest.fixture(scope="module")
def mixed():
    """An untrained VAE of mixed columns, with names, units and categories."""
    likelihood = ct.Columns({
        "mass": ct.Normal(), "alive": ct.Bernoulli(), "sex": ct.Categorical(("female", "male")),
        "grade": ct.Categorical(3),
    })
    vae = ct.VAE(likelihood=likelihood, latent_dim=2, hidden=(8,), seed=0)
    vae.adapt(pd.DataFrame({"mass": [3000.0, 5000.0], "alive": [0, 1], "sex": ["male", "female"], "grade": [0, 2]}))
    return vae


@pytest.fixture(autouse=True)
def no_warnings_of_short_runs():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ct.SamplingWarning)
        yield


def draw(model, observed, num_samples=200, method="lair", **settings):
    settings = {"seed": 0, "progress": False} | settings
    return ct.sample_conditional(model, observed, num_samples, method, **settings)


# Seeds and shapes


@pytest.mark.parametrize("method", METHODS)
def test_same_seed_same_bits(model, method):
    a, b, c = (draw(model, {0: 1.0}, method=method, seed=seed, **brief(method)).values for seed in (1, 1, 2))
    assert a.tobytes() == b.tobytes()
    assert not (a[:, 1:] == c[:, 1:]).any()
    assert not np.array_equal(*(draw(model, {0: 1.0}, method=method, seed=None, **brief(method)).values for _ in "ab"))


@pytest.mark.parametrize("method", METHODS)
def test_table_with_other_holes_in_each_row(model, method):
    table = np.array([[1.0, NAN, NAN], [NAN, 0.1, 1 / 3], [NAN] * 3, [1e-300, 0.1, 5.0], [NAN, 1e-300, NAN]])
    draws = draw(model, table, 50, method, **brief(method))
    assert draws.values.shape == (5, 50, 3) and draws.values.dtype == float
    seen = np.isfinite(table)
    for i, j in np.argwhere(seen):
        assert (draws.values[i, :, j] == table[i, j]).all()
    for i, j in np.argwhere(~seen):
        assert np.isfinite(draws.values[i, :, j]).all() and len(np.unique(draws.values[i, :, j])) > 10
    assert np.isnan(draws.acceptance[3])


def test_rows_of_a_table_differ_though_their_evidence_is_the_same(model):
    values = draw(model, np.array([[1.0, NAN, NAN]] * 2)).values
    assert not (values[0, :, 1] == values[1, :, 1]).any()


@pytest.mark.parametrize("method", METHODS)
def test_no_retracing_for_the_same_shape(model, method):
    draw(model, {0: 1.0}, method=method, **brief(method))

    def traces():
        return [
            function.experimental_get_tracing_count()
            for functions in sampling._cache.values()
            for function in functions.values()
            if hasattr(function, "experimental_get_tracing_count")
        ]

    before = traces()
    draw(model, {0: 2.0}, method=method, seed=5, **brief(method))
    draw(model, {1: 2.0}, method=method, seed=5, **brief(method))  # another mask, the same shape
    assert traces() == before and sum(before) > 0


@pytest.mark.parametrize("method", ["lair", "adaptive_collapsed", "importance"])
def test_blocks_give_valid_draws(model, method):
    """Draws from blocks are as good, but not the same bits: each block has seeds of its own."""
    table = np.array([[1.0, NAN, NAN]] * 3)
    whole = draw(model, table, 2_000, method, **brief(method))
    parts = draw(model, table, 2_000, method, max_memory=0.0005, **brief(method))
    exact = model.condition({0: 1.0})
    for draws in (whole, parts):
        error = draws.values[..., 1:].reshape(-1, 2).mean(0) - exact.mean
        assert (np.abs(error) < 0.12 * exact.std).all()
        assert draws.values.shape == (3, 2_000, 3)
    assert len(np.unique(parts.values[..., 1])) > 1_000
    if whole.chains is not None:
        assert parts.chains.shape == whole.chains.shape


def test_nothing_and_everything_observed(model):
    row = np.array([0.1, 1 / 3, 1e-300])
    draws = draw(model, row, 7)
    assert (draws.values == row).all() and draws.values.shape == (7, 3)
    assert draws.encoder_calls == draws.decoder_calls == 0
    assert len(draws.summary()) == 0 and len(draws.to_frame()) == 7
    draws.to_arviz()
    joint = draw(model, {}, 4_000).values
    exact = model.condition({})
    assert (np.abs(joint.mean(0) - exact.mean) < 6 * exact.std / np.sqrt(4_000)).all()
    np.testing.assert_allclose(np.cov(joint.T), exact.covariance, atol=0.15 * exact.std.max() ** 2)


def test_draws_are_draws_and_not_means(model):
    values = draw(model, {0: 1.0, 1: 10.0}, 2_000).values[:, 2]
    assert values.std() > 0.9 * model.noise_scale[2]


@pytest.mark.parametrize("method", ["lair", "adaptive_collapsed", "importance"])
@pytest.mark.parametrize("far", [1e5, -1e6, 1e30, 1e300])
def test_evidence_far_from_all_data(mixed, method, far):
    with pytest.warns(ct.SamplingWarning, match="column 'mass' is .* far outside what the model draws"):
        draws = draw(mixed, {"mass": far}, 100, method, **brief(method) | {"seed": 1})
    assert np.isfinite(draws.values).all() and (draws.column("mass") == far).all()


def test_a_value_in_the_tail_is_not_called_far(model):
    with warnings.catch_warnings():
        warnings.simplefilter("error", ct.SamplingWarning)
        exact = model.condition({})
        draw(model, {0: exact.mean[0] + 5 * exact.std[0]}, 500)


# Bad settings


@pytest.mark.parametrize(
    "settings, error, says",
    [
        ({"num_samples": 0}, ValueError, "num_samples must be a positive integer"),
        ({"num_samples": -5}, ValueError, "num_samples"),
        ({"num_samples": 2.5}, ValueError, "num_samples"),
        ({"num_samples": True}, ValueError, "num_samples"),
        ({"num_samples": 10**12}, ValueError, "GiB.*fewer draws"),
        ({"method": "nuts"}, ValueError, "unknown method 'nuts'.*lair"),
        ({"method": LAIR}, TypeError, "settings object"),
        ({"method": 3}, TypeError, "method must be"),
        ({"seed": -1}, ValueError, "seed"),
        ({"seed": 1.5}, ValueError, "seed"),
        ({"max_memory": 0}, ValueError, "max_memory"),
        ({"num_chains": 0}, ValueError, "num_chains"),
        ({"method": "lair", "warmup": 5}, ValueError, "warmup and thin are for chains"),
        ({"num_steps": 5}, ValueError, "num_steps is for weighted"),
        ({"start": np.zeros((1, 200, 2))}, ValueError, "starts from the prior"),
        ({"method": "pseudo_gibbs", "num_steps": 5}, ValueError, "num_steps is for weighted"),
        ({"method": "pseudo_gibbs", "warmup": -1}, ValueError, "warmup"),
        ({"method": "pseudo_gibbs", "start": np.zeros((1, 3, 2))}, ValueError, "start must have shape"),
    ],
)
def test_bad_settings(model, settings, error, says):
    settings = {"num_samples": 10} | settings
    with pytest.raises(error, match=says):
        ct.sample_conditional(model, {0: 1.0}, **settings)


@pytest.mark.parametrize(
    "make",
    [lambda: LAIR(num_proposals=0), lambda: LAIR(group_size=3), lambda: LAIR(num_prior=-1),
     lambda: ct.samplers.TemperedSMC(num_moves=0), lambda: ct.samplers.TemperedSMC(ess_share=1.0),
     lambda: Importance(num_prior=0), lambda: ct.samplers.AdaptiveCollapsed(0.0), lambda: ct.samplers.AdaptiveCollapsed(1.5)],
)
def test_bad_method_settings(make):
    with pytest.raises(ValueError):
        make()


# What it cost


class Counting:
    """A model that counts the rows through each network."""

    latent_dim = 2

    def __init__(self, model):
        self.model, self.likelihood = model, model.likelihood
        self.num_features = model.num_features
        self.encoded, self.decoded = (tf.Variable(0, dtype=tf.int64) for _ in range(2))

    def encode(self, x):
        self.encoded.assign_add(tf.size(x[..., 0], tf.int64))
        return self.model.encode(x)

    def decode(self, z):
        self.decoded.assign_add(tf.size(z[..., 0], tf.int64))
        return self.model.decode(z)


@pytest.mark.parametrize("method", METHODS)
def test_calls_are_counted(model, method):
    """Of two runs that start alike, the longer one sends as many more rows as it reports."""
    counting, calls = Counting(model), []
    for length in (2, 4):
        before = counting.encoded.numpy(), counting.decoded.numpy()
        steps = {"num_steps": length} if METHODS[method].weighted else {"warmup": 3, "thin": length}
        draws = draw(counting, {0: 1.0}, 40, method, num_chains=4, **steps)
        sent = counting.encoded.numpy() - before[0], counting.decoded.numpy() - before[1]
        calls.append((sent, (draws.encoder_calls, draws.decoder_calls)))
    (short, said_short), (long, said_long) = calls
    more = np.subtract(long, short)
    assert (more == np.subtract(said_long, said_short)).all() and more[1] > 0
    assert (np.array(short) >= said_short).all()


def test_bar_only_on_long_runs(model, capsys, monkeypatch):
    draw(model, {0: 1.0}, progress=True)
    assert capsys.readouterr().out == ""
    clock = iter(np.arange(0.0, 1e4, 3.0))  # every look at the clock is three seconds later
    monkeypatch.setattr(sampling.time, "perf_counter", lambda: next(clock))
    monkeypatch.setattr(sampling._Run, "_segments", lambda *_: 5)
    draw(model, {0: 1.0}, progress=True)
    assert "5/5" in capsys.readouterr().out
    draw(model, {0: 1.0}, progress=False)
    assert capsys.readouterr().out == ""


# What it returns


def test_frame_in_the_users_units_and_categories(mixed):
    frame = draw(mixed, {"mass": 4000.0}, 300).to_frame()
    assert list(frame.columns) == ["mass", "alive", "sex", "grade"] and frame.index.name == "draw"
    assert set(frame["sex"]) <= {"female", "male"} and set(frame["alive"]) <= {0, 1}
    assert set(frame["grade"]) <= {0, 1, 2} and (frame["mass"] == 4000.0).all()
    joint = draw(mixed, {}, 300).to_frame()
    assert 2_000 < joint["mass"].mean() < 6_000
    table = draw(mixed, pd.DataFrame({"sex": ["male", None], "mass": [NAN, 1.0], "alive": [1, None], "grade": [None, 1]}), 5)
    frame = table.to_frame()
    assert frame.index.names == ["row", "draw"] and len(frame) == 10
    assert (frame.loc[0, "sex"] == "male").all()


@pytest.mark.parametrize("method", ["one_pass", "adaptive_collapsed", "lair"])  # one of each kind
def test_summary_and_arviz(mixed, method):
    draws = draw(mixed, {"sex": "male"}, 400, method, **brief(method))
    summary = draws.summary()
    assert list(summary.index) == ["mass", "alive", "grade"]
    assert summary.attrs["encoder_calls"] == draws.encoder_calls
    assert summary.loc["mass", "mean"] == draws.column("mass").mean()
    assert np.isnan(summary.loc["grade", "mean"])
    weighted = METHODS[method].weighted
    assert summary["importance_ess"].notna().all() == weighted and summary["pareto_k"].notna().all() == weighted
    data = draws.to_arviz()
    assert set(data.posterior.data_vars) == {"mass", "alive", "grade"}
    assert data.posterior["mass"].dims == ("chain", "draw")
    assert repr(draws).startswith("ConditionalDraws(400 draws x 4 columns")
    with pytest.raises(KeyError, match="unknown column 'height'"):
        draws.column("height")
    table = draw(mixed, np.full((2, 4), NAN), 40, method, **brief(method))
    assert list(table.summary().index.names) == ["row", "column"] and len(table.summary()) == 8
    assert table.to_arviz().posterior["mass"].dims == ("chain", "draw", "row")


def test_diagnostics_are_those_of_arviz(model):
    import arviz

    draws = draw(model, {0: 1.0}, 400, "adaptive_collapsed", warmup=50, thin=5)
    summary = draws.summary()
    chains = draws.chains[0, :, :, 2].astype(float)
    assert summary.loc[2, "r_hat"] == pytest.approx(float(arviz.rhat(chains)))
    assert summary.loc[2, "ess_bulk"] == pytest.approx(float(arviz.ess(chains)))
    assert 0 < draws.acceptance[0] <= 1


def test_conditional_sampler_is_the_notes(model):
    data = model.joint().sample(500, seed=0)[:, 2:]
    means = ct.conditional_sampler(model, data, [1, 2], [0], [1.0], 300, seed=0)
    assert means.shape == (300, 2)
    drawn = ct.conditional_sampler(model, data, [2], [0], [1.0], 4_000, seed=0, method="lair")
    exact = model.condition({0: 1.0})
    assert abs(drawn.mean() - exact.mean[1]) < 6 * exact.std[1] / np.sqrt(4_000)
    with pytest.raises(ValueError, match="both sampled and conditioned"):
        ct.conditional_sampler(model, data, [0], [0], [1.0], 5)
    with pytest.raises(ValueError, match="1 conditioned_variables but 2"):
        ct.conditional_sampler(model, data, [1], [0], [1.0, 2.0], 5)
