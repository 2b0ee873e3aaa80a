"""The loop and what it returns: seeds, blocks, tables, far evidence, diagnostics, frames."""

import gc
import warnings
import weakref
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import tensorflow as tf

import cvae_tutorial as ct
from cvae_tutorial import loop, samplers
from cvae_tutorial.draws import pareto_k
from cvae_tutorial.exact import LinearGaussian
from cvae_tutorial.samplers import LAIR, METHODS, Importance, Weighted

NAN = np.nan
BRIEF = {"warmup": 20, "thin": 2}


def brief(method):
    """Few steps for methods that run chains."""
    return {} if issubclass(METHODS[method], Weighted) else BRIEF


@pytest.fixture(scope="module")
def model():
    rng = np.random.default_rng(0)
    return LinearGaussian(rng.normal(size=(3, 2)), [0.0, 10.0, -5.0], [0.5, 0.3, 0.8])


@pytest.fixture(scope="module")
def mixed():
    """An untrained VAE of mixed columns, with names, units and categories."""
    likelihood = ct.Columns(
        {
            "mass": ct.Normal(),
            "alive": ct.Bernoulli(),
            "sex": ct.Categorical(("female", "male")),
            "grade": ct.Categorical(3),
        }
    )
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
def test_one_compilation_for_any_number_of_draws_chains_and_rows(model, method):
    # By default Laplace takes one of three numbers of climbs, each of which is compiled.
    method, own = (samplers.Laplace(num_starts=12) if method == "laplace" else method), brief(method)
    draw(model, {0: 1.0}, method=method, **own)

    def traces():
        return [
            function.experimental_get_tracing_count()
            for compiled in loop.cache.values()
            for function in compiled.functions.values()
        ]

    before = traces()
    draw(model, {0: 2.0}, method=method, seed=5, **own)
    draw(model, {1: 2.0}, 3_000, method=method, seed=5, **own)
    draw(model, np.array([[1.0, NAN, 2.0], [NAN, 0.0, NAN]]), 7, method=method, num_chains=5)
    assert traces() == before and sum(before) > 0


@pytest.mark.parametrize("method", METHODS)
def test_draws_of_a_row_follow_from_the_seed_and_its_number(model, method, monkeypatch):
    """The same bits however memory cuts the rows, and whatever the other rows are."""
    rng = np.random.default_rng(0)
    table = np.where(rng.random((40, 3)) < 0.5, [1.0, 10.0, -4.0] + rng.normal(size=(40, 3)), NAN)
    table[3] = [0.0, 10.0, -5.0]  # nothing to draw
    whole = draw(model, table, 60, method, **brief(method))
    monkeypatch.setattr(loop, "PIECE", 2**16)  # so that chains are cut into pieces, too
    pieces = draw(model, table, 60, method, **brief(method))
    if whole.method.coupled:
        assert whole.values.tobytes() == pieces.values.tobytes()
    blocks, few = loop.cut, []
    monkeypatch.setattr(loop, "cut", lambda num_rows, most: few.append(blocks(num_rows, 16)) or few[-1])
    cut = draw(model, table, 60, method, **brief(method))
    assert cut.values.tobytes() == pieces.values.tobytes() and len(few[0]) > 1
    monkeypatch.setattr(loop, "cut", blocks)
    others = table.copy()
    others[:20:2] = NAN
    assert draw(model, others, 60, method, **brief(method)).values[30].tobytes() == pieces.values[30].tobytes()
    with pytest.raises(ValueError, match="rows? takes? about .* GiB.*raise max_memory"):
        draw(model, table, 60, method, max_memory=1e-4, **brief(method))


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
        ({"num_steps": 5}, ValueError, "num_steps is a setting of one method: name it"),
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
    [
        lambda: LAIR(num_proposals=0),
        lambda: LAIR(group_size=3),
        lambda: LAIR(num_prior=-1),
        lambda: ct.samplers.TemperedSMC(num_moves=0),
        lambda: ct.samplers.TemperedSMC(ess_share=1.0),
        lambda: Importance(num_prior=0),
        lambda: ct.samplers.AdaptiveCollapsed(0.0),
        lambda: ct.samplers.AdaptiveCollapsed(1.5),
    ],
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
        steps = {"num_steps": length} if issubclass(METHODS[method], Weighted) else {"warmup": 3, "thin": length}
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
    monkeypatch.setattr(loop.time, "perf_counter", lambda: next(clock))
    monkeypatch.setattr(loop, "SEGMENT", 1.0)
    draw(model, {0: 1.0}, progress=True)
    assert "20/20" in capsys.readouterr().out
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
    table = draw(
        mixed, pd.DataFrame({"sex": ["male", None], "mass": [NAN, 1.0], "alive": [1, None], "grade": [None, 1]}), 5
    )
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
    weighted = issubclass(METHODS[method], Weighted)
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
    from arviz_stats.base import array_stats

    draws = draw(model, {0: 1.0}, 400, "adaptive_collapsed", num_chains=20, warmup=50, thin=5)
    summary = draws.summary()
    chains = draws.chains[0, :, :, 2].astype(float)
    assert summary.loc[2, "r_hat"] == pytest.approx(float(array_stats.rhat(chains)))
    assert summary.loc[2, "ess_bulk"] == pytest.approx(float(array_stats.ess(chains)))
    assert 0 < draws.acceptance[0] <= 1


def test_pareto_k_of_known_tails():
    rng = np.random.default_rng(0)
    for k in (0.2, 0.5, 0.9, 1.5):  # exp(k E) of an exponential E has a Pareto tail of shape k
        found = [pareto_k(k * rng.exponential(size=5_000)) for _ in range(40)]
        # The estimate is drawn to a half as by ten of the 212 weights in the tail (Vehtari et al. 2024).
        assert np.mean(found) == pytest.approx((212 * k + 10 * 0.5) / 222, abs=0.05)
    assert pareto_k(np.r_[np.zeros(4_999), 80.0]) == np.inf == pareto_k(np.r_[rng.normal(size=4_999), 900.0])
    assert pareto_k(np.zeros(10)) == -np.inf and pareto_k(rng.normal(size=10)) == np.inf
    assert np.isnan(pareto_k(np.array([0.0, np.nan])))


@pytest.mark.parametrize("name", ["chain", "draw", "a/b"])
def test_names_that_a_data_tree_cannot_hold(name):
    vae = ct.VAE(2, hidden=(3,), feature_names=(name, "b"), seed=0)
    with pytest.raises(ValueError, match=f"cannot hold a column called '{name}'"):
        draw(vae, {"b": 0.0}, 20).to_arviz()


def test_a_column_that_stands_still_hides_no_other(model):
    draws = draw(model, {}, 400, "adaptive_collapsed", num_chains=4, warmup=10, thin=1)
    apart = draws.chains + np.arange(4)[None, :, None, None] * 100.0
    apart[..., 0] = 7.0  # without variance, so without R-hat
    kinds = [finding.kind for finding in ct.diagnose(replace(draws, chains=apart))]
    assert "not_mixed" in kinds


def test_no_effective_size_from_a_few_states_a_chain(model):
    """ArviZ gives N log10 N for thousands of chains of four states, stuck or independent."""
    few = draw(model, {0: 1.0}, 400, "metropolis_within_gibbs", num_chains=100, warmup=20, thin=1)
    assert few.chains.shape[2] == 4 and np.isnan(few.summary()["ess_bulk"]).all()
    assert few.summary()["r_hat"].notna().all()
    default = draw(model, {0: 1.0}, 400, "adaptive_collapsed")
    assert default.chains.shape[2] == 20
    cap = default.chains[0, ..., 0].size * np.log10(default.chains[0, ..., 0].size)
    assert (default.ess_bulk[0, 1:] > 100).all() and (default.ess_bulk[0, 1:] < 0.9 * cap).all()


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


def test_what_was_compiled_goes_with_its_model():
    model = ct.VAE(2, latent_dim=1, hidden=(4,), seed=0)
    ct.sample_conditional(model, {0: 0.0}, 4, "importance", progress=False)
    number, gone = id(model), weakref.ref(model)
    assert any(key[0] == number for key in loop.cache)
    del model
    gc.collect()
    assert gone() is None and not any(key[0] == number for key in loop.cache)
