"""The likelihoods against scipy: densities, draws, units, mixed columns, decoders trained elsewhere."""

import dataclasses

import keras
import numpy as np
import pandas as pd
import pytest
import tensorflow as tf
from scipy import stats

import cvae_tutorial as ct
from cvae_tutorial.evidence import to_array
from cvae_tutorial.likelihoods import Likelihood, log_normal

LOGITS = np.array([[-3.0, 0.5], [20.0, -20.0]], "float32")
MIXED = ct.Columns(
    {
        "sex": ct.Categorical(("f", "m", "?")),
        "mass": ct.Normal(),
        "wild": ct.Bernoulli(),
        "size": ct.Normal(),
        "grade": ct.Categorical(2),
        "width": ct.Normal(scale=0.5),
    }
)


def draws_of(likelihood, parameters, num_draws=20_000):
    """Many draws for one row of parameters (k,)."""
    wide = tf.nest.map_structure(lambda a: tf.repeat(tf.constant(a)[None], num_draws, 0), parameters)
    return likelihood.sample(wide, tf.constant([3, 4])).numpy()


# Densities and draws


def test_normal_density():
    x, loc, scale = np.random.default_rng(0).normal(size=(3, 50)).astype("float32")
    scale = np.exp(scale)
    np.testing.assert_allclose(
        ct.Normal().log_prob((loc, scale), x), stats.norm(loc, scale).logpdf(x), rtol=1e-4, atol=1e-5
    )


def test_impossible_is_finite():
    assert np.isfinite(log_normal(tf.constant([1e30, -1e38, 3e38]), 0.0, 1e-3).numpy()).all()


@pytest.mark.parametrize("code", [0.0, 1.0])
def test_bernoulli_density(code):
    exact = stats.bernoulli(1 / (1 + np.exp(-LOGITS.astype(float)))).logpmf(int(code))
    np.testing.assert_allclose(ct.Bernoulli().log_prob(LOGITS, np.full_like(LOGITS, code)), exact, rtol=1e-4, atol=1e-6)


def test_categorical_density():
    logits = np.array([[0.0, 1.0, -2.0]], "float32")
    exact = np.log(np.exp(logits[0]) / np.exp(logits[0]).sum())
    found = [ct.Categorical(3).log_prob(logits, np.array([[c]], "float32")).numpy().item() for c in range(3)]
    np.testing.assert_allclose(found, exact, rtol=1e-5)


def test_draws_follow_the_density():
    normal = draws_of(ct.Normal(), (np.array([1.0, -5.0], "float32"), np.array([0.5, 2.0], "float32")))
    assert stats.kstest(normal[:, 0], stats.norm(1, 0.5).cdf).pvalue > 1e-3
    assert stats.kstest(normal[:, 1], stats.norm(-5, 2).cdf).pvalue > 1e-3
    binary = draws_of(ct.Bernoulli(), np.array([-1.0, 2.0], "float32"))
    assert set(np.unique(binary)) == {0.0, 1.0}
    np.testing.assert_allclose(binary.mean(0), 1 / (1 + np.exp([1.0, -2.0])), atol=4 * 0.5 / np.sqrt(len(binary)))
    logits = np.array([0.0, 1.0, -2.0], "float32")
    codes = draws_of(ct.Categorical(3), logits)[:, 0].astype(int)
    expected = len(codes) * np.exp(logits) / np.exp(logits).sum()
    assert stats.chisquare(np.bincount(codes, minlength=3), expected, sum_check=False).pvalue > 1e-3


def test_means():
    loc = np.array([[1.0, 2.0]], "float32")
    assert (np.asarray(ct.Normal().mean((loc, loc))) == loc).all()
    np.testing.assert_allclose(ct.Bernoulli().mean(LOGITS), 1 / (1 + np.exp(-LOGITS)), rtol=1e-5)
    assert ct.Categorical(3).mean(np.array([[0.0, 5.0, 1.0]], "float32")).numpy() == [[1.0]]  # the mode


# From a network's output to the data's units


def test_normal_keeps_its_distance_from_zero_scale():
    raw = np.array([[0.0, -1e4]], "float32")
    loc, scale = ct.Normal(min_scale=0.02).constrain(raw, np.float32([3.0]), np.float32([10.0]))
    assert loc.numpy() == 3.0 and scale.numpy() == pytest.approx(0.2)
    loc, scale = ct.Normal(scale=0.5).constrain(raw[:, :1] + 1, np.float32([3.0]), np.float32([10.0]))
    assert loc == 13.0 and scale.numpy() == 0.5


def test_decoders_trained_elsewhere():
    probabilities = np.array([[0.0, 0.25, 1.0]], "float32")
    logits = ct.Bernoulli().from_outputs(probabilities).numpy()
    assert np.isfinite(logits).all() and logits[0, 1] == pytest.approx(np.log(1 / 3), rel=1e-4)
    assert (ct.Bernoulli(from_logits=True).from_outputs(LOGITS) == LOGITS).all()
    loc = tf.ones((2, 3))
    assert ct.Normal(scale=0.1).from_outputs(loc)[1].numpy() == pytest.approx(np.full((2, 3), 0.1))
    assert ct.Normal().from_outputs([loc, 2 * loc])[1].numpy().max() == 2.0
    with pytest.raises(ValueError, match=r"state the scale, for example Normal\(scale=0.1\)"):
        ct.Normal().from_outputs(loc)
    with pytest.raises(ValueError, match=r"\[loc, scale\], got 3"):
        ct.Normal().from_outputs([loc] * 3)


# Columns of several kinds


def test_columns_agree_with_each_kind_alone():
    """Groups are handled together inside; every column must come back in its own place."""
    rng = np.random.default_rng(0)
    width = MIXED.num_parameters(6)
    assert width == 3 + 2 * 2 + 1 + 2 + 1
    raw = rng.normal(size=(4, width)).astype("float32")
    shift, scale = np.float32([0, 50, 0, -3, 0, 7]), np.float32([1, 10, 1, 0.1, 1, 2])
    x = np.float32([[0, 52, 1, -3.1, 0, 8]] * 4)
    parameters = MIXED.constrain(raw, shift, scale)
    sex, mass_size, wild, grade, width = 0, slice(3, 7), 7, slice(8, 10), 10
    loc, spread = np.split(raw[:, mass_size], 2, axis=1)
    numbers = stats.norm(shift[[1, 3]] + scale[[1, 3]] * loc, scale[[1, 3]] * (0.01 + np.log1p(np.exp(spread))))
    exact = np.stack(
        [
            np.log(np.exp(raw[:, sex]) / np.exp(raw[:, :3]).sum(1)),
            numbers.logpdf(x[:, [1, 3]])[:, 0],
            -np.log1p(np.exp(-raw[:, wild])),
            numbers.logpdf(x[:, [1, 3]])[:, 1],
            np.log(np.exp(raw[:, 8]) / np.exp(raw[:, grade]).sum(1)),
            stats.norm(7 + 2 * raw[:, width], 0.5).logpdf(8),
        ],
        axis=1,
    )
    np.testing.assert_allclose(MIXED.log_prob(parameters, x), exact, rtol=1e-4, atol=1e-5)
    draws = MIXED.sample(parameters, tf.constant([1, 2])).numpy()
    assert set(draws[:, 0]) <= {0, 1, 2} and set(draws[:, 2]) <= {0, 1} and set(draws[:, 4]) <= {0, 1}
    np.testing.assert_allclose(MIXED.mean(parameters).numpy()[:, [1, 3]], numbers.mean(), rtol=1e-5)
    np.testing.assert_allclose(MIXED.mean(parameters).numpy()[:, 2], 1 / (1 + np.exp(-raw[:, wild])), rtol=1e-5)


def test_columns_of_one_kind_draw_apart():
    parameters = MIXED.constrain(np.zeros((500, 11), "float32"), np.zeros(6, "float32"), np.ones(6, "float32"))
    draws = MIXED.sample(parameters, tf.constant([1, 2])).numpy()
    correlation = np.corrcoef(draws.T)
    assert np.abs(correlation[~np.eye(6, dtype=bool)]).max() < 5 / np.sqrt(500)


def test_features_hide_what_is_missing():
    x = np.float32([[2, 52, 1, -3.1, 1, 8]])
    shift, scale = np.float32([0, 50, 0, -3, 0, 7]), np.float32([1, 10, 1, 0.1, 1, 2])
    seen = MIXED.features(x, np.ones((1, 6), bool), shift, scale).numpy()
    np.testing.assert_allclose(seen, [[0, 0, 1, 0.2, -1, 1, 0, 1, 0.5]], atol=1e-4)
    assert not MIXED.features(x, np.zeros((1, 6), bool), shift, scale).numpy().any()


def test_units_ignore_holes():
    shift, scale = MIXED.units(np.array([[0, 1.0, 0, np.nan, 0, 5.0], [1, 3.0, 1, 4.0, 1, 5.0]]))
    np.testing.assert_allclose(shift, [0, 2, 0, 4, 0, 5])
    np.testing.assert_allclose(scale, [1, 1, 1, 0, 1, 0])


def test_columns_from_a_frame():
    frame = pd.DataFrame(
        {
            "a": [1.5, np.nan],
            "b": [True, False],
            "c": ["y", "x"],
            "d": pd.Categorical(["lo", "hi"], ["lo", "mid", "hi"]),
            "e": [1, 2],
            "f": [True, None],
        }
    )
    guessed = ct.Columns.from_frame(frame)
    assert guessed == ct.Columns(
        {
            "a": ct.Normal(),
            "b": ct.Bernoulli(),
            "c": ct.Categorical(("x", "y")),
            "d": ct.Categorical(("lo", "mid", "hi")),
            "e": ct.Categorical((1, 2)),
            "f": ct.Bernoulli(),
        }
    )
    assert hash(guessed) == hash(ct.Columns.from_frame(frame)) and guessed.names == tuple("abcdef")
    assert guessed.kind(1) == ct.Bernoulli() and ct.Normal().kind(1) == ct.Normal()
    assert "'c': Categorical(categories=('x', 'y'))" in repr(guessed)


@pytest.mark.parametrize(
    "likelihood",
    [
        ct.Normal(min_scale=0.03),
        ct.Normal(scale=2.0),
        ct.Bernoulli(from_logits=True),
        ct.Categorical(4),
        ct.Categorical(("a", "b")),
        MIXED,
        ct.Columns([ct.Normal(), ct.Bernoulli()]),
    ],
)
def test_keras_keeps_a_likelihood(likelihood):
    import json

    config = json.loads(json.dumps(keras.saving.serialize_keras_object(likelihood)))
    assert keras.saving.deserialize_keras_object(config) == likelihood


@pytest.mark.parametrize(
    "make, says",
    [
        (lambda: ct.Categorical(("a", "a")), "named twice"),
        (lambda: ct.Categorical(1), "at least two"),
        (lambda: ct.Categorical(3).num_parameters(2), "one column; use Columns"),
        (lambda: ct.Columns({}), "at least one column"),
        (lambda: ct.Columns([ct.Normal()]).num_parameters(2), "1 likelihoods for 2 columns"),
        (lambda: ct.Normal(scale=0.0), r"a scale is positive, got Normal\(.*scale=0.0, from_log_variance=False\)"),
        (lambda: ct.Normal(scale=float("nan")), "a scale is positive"),
        (lambda: ct.Normal(min_scale=-0.1), "a scale is positive"),
    ],
)
def test_errors(make, says):
    with pytest.raises(ValueError, match=says):
        make()


# One column: what it takes, what its numbers stand for, its centre, its parameters


@pytest.mark.parametrize(
    "likelihood, cells, codes, back",
    [
        (ct.Normal(), ["1.5", 2, np.float32(3)], [1.5, 2, 3], [1.5, 2.0, 3.0]),
        (ct.Bernoulli(), [True, 0, 1.0], [1, 0, 1], [1, 0, 1]),
        (ct.Categorical(("f", (1, 2), 3)), [3, "f", (1, 2)], [2, 0, 1], [3, "f", (1, 2)]),
        (ct.Categorical(np.int64(3)), [2, 0.0, True], [2, 0, 1], [2, 0, 1]),
    ],
)
def test_check_and_decode(likelihood, cells, codes, back):
    cells = np.fromiter(cells, object, len(cells))
    found = likelihood.check(cells)
    assert found.dtype == float and found.tolist() == codes
    decoded = likelihood.decode(found)
    assert decoded.tolist() == back and [type(cell) for cell in decoded.tolist()] == [type(cell) for cell in back]


@pytest.mark.parametrize(
    "likelihood, cells, says",
    [
        (ct.Normal(), [1.0, "heavy"], "^'heavy' is not a number; use NaN"),
        (ct.Normal(), [1.0, "nan"], "^'nan' is not a number"),
        (ct.Normal(), [1.0, 10**400], r"^1000\d*\.\.\.\d+ is not a number"),
        (ct.Normal(), [1.0, -np.inf], "^infinite values cannot be observed"),
        (ct.Bernoulli(), [1.0, 0.3], "^Bernoulli values are 0 and 1, got 0.3"),
        (ct.Categorical(("f", "m")), ["f", "x"], r"^category 'x' was never seen; known are \['f', 'm'\]"),
        (ct.Categorical(("f", "m")), ["f", ["m"]], r"^category \['m'\] was never seen"),
        (ct.Categorical(2), [0, 2], r"^category 2 was never seen; known are \[0, 1\]"),
    ],
)
def test_check_says_what_is_no_value(likelihood, cells, says):
    with pytest.raises(ValueError, match=says):
        likelihood.check(np.fromiter(cells, object, len(cells)))


def test_centres():
    draws = np.array([[0.0, 1.0, 2.0, 2.0], [1.0, 0.0, 0.0, 1.0]])
    assert ct.Normal().centre(draws).tolist() == [1.25, 0.5]
    for kind in (ct.Categorical(3), ct.Bernoulli()):
        assert kind.centre(draws).tolist() == [2, 0]  # of two that are as frequent, the lower
        assert kind.centre(draws.T, axis=0).tolist() == [2, 0]
    assert [kind.is_number for kind in MIXED.kinds] == [False, True, False, True, False, True]


@pytest.mark.parametrize(
    "likelihood, num_features", [(MIXED, 6), (ct.Normal(), 2), (ct.Bernoulli(), 3), (ct.Categorical(3), 1)]
)
def test_the_part_of_a_column_is_a_likelihood_of_its_own(likelihood, num_features):
    raw = np.random.default_rng(0).normal(size=(4, likelihood.num_parameters(num_features))).astype("float32")
    ones = np.ones(num_features, "float32")
    parameters = likelihood.constrain(raw, 0 * ones, ones)
    x = np.ones((4, num_features), "float32")
    for j in range(num_features):
        kind, part = likelihood.part(parameters, j)
        assert kind == likelihood.kind(j)
        whole = likelihood.log_prob(parameters, x)
        np.testing.assert_allclose(kind.log_prob(part, x[:, :1])[:, 0], whole[:, j], rtol=1e-5)
        np.testing.assert_allclose(kind.mean(part)[:, 0], likelihood.mean(parameters)[:, j], rtol=1e-5)


# Likelihoods of one's own


@keras.saving.register_keras_serializable(package="test_likelihoods")
class Poisson(Likelihood):
    """Counts. The parameters are log rates."""

    def num_parameters(self, num_features):
        return num_features

    def log_prob(self, parameters, x):
        return x * parameters - tf.exp(parameters) - tf.math.lgamma(x + 1.0)

    def sample(self, parameters, seed):
        return tf.random.stateless_poisson(tf.shape(parameters), seed, tf.exp(parameters), tf.float32)

    def mean(self, parameters):
        return tf.exp(parameters)

    def check(self, cells):
        counts = super().check(cells)
        for count in counts[(counts < 0) | (counts != np.floor(counts))]:
            raise ValueError(f"a count is 0, 1, 2, ..., got {count:g}")
        return counts


@dataclasses.dataclass  # not frozen, so without a hash
class StudentT(Likelihood):
    """Measurements with heavy tails. The parameters are location and log scale."""

    df: float = 4.0

    def num_parameters(self, num_features):
        return 2 * num_features

    def constrain(self, raw, shift, scale):
        return tuple(tf.split(raw, 2, axis=-1))

    def log_prob(self, parameters, x):
        t, half = (x - parameters[0]) / tf.exp(parameters[1]), (self.df + 1) / 2
        constant = tf.math.lgamma(half) - tf.math.lgamma(self.df / 2) - 0.5 * tf.math.log(np.pi * self.df)
        return constant - parameters[1] - half * tf.math.log1p(t**2 / self.df)

    def sample(self, parameters, seed):
        gamma = tf.random.stateless_gamma(tf.shape(parameters[0]), seed, self.df / 2, self.df / 2)
        normal = tf.random.stateless_normal(tf.shape(gamma), seed + [0, 1])
        return parameters[0] + tf.exp(parameters[1]) * normal / tf.sqrt(gamma)

    def mean(self, parameters):
        return parameters[0]


def test_a_likelihood_that_lacks_a_method_is_told_so():
    class Half(Likelihood):
        def num_parameters(self, num_features):
            return num_features

        def mean(self, parameters):
            return parameters

    with pytest.raises(TypeError, match="abstract class Half .*log_prob.*sample"):
        Half()


def test_what_a_likelihood_of_ones_own_need_not_say():
    own, x = Poisson(), np.array([[3.0, 1.0], [0.0, 2.0]])
    assert own.num_inputs(2) == 2 and own.is_number and own.kind(1) is own
    assert [a.tolist() for a in own.units(x)] == [[0, 0], [1, 1]]
    features = own.features(tf.constant(x), tf.constant([[True, False]] * 2), *own.units(x))
    assert features.numpy().tolist() == [[3, 0], [0, 0]]
    assert own.constrain(x, *own.units(x)) is x and own.from_outputs(x) is x and own.check_outputs(x) is None
    assert own.decode(x) is x and own.centre(x).tolist() == [2, 1]
    assert own.get_config() == {} and StudentT(3.0).get_config() == {"df": 3.0}
    assert StudentT.from_config({"df": 3.0}) == StudentT(3.0)


def test_columns_of_ones_own_stand_beside_others():
    kinds = {"n": Poisson(), "t": StudentT(), "m": ct.Normal(scale=2.0), "u": StudentT(), "k": Poisson()}
    likelihood = ct.Columns(kinds)
    raw = np.random.default_rng(0).normal(size=(3, likelihood.num_parameters(5))).astype("float32")
    assert raw.shape[1] == 2 + 4 + 1
    parameters = likelihood.constrain(raw, np.zeros(5, "float32"), np.ones(5, "float32"))
    x = np.float32([[2, 0.5, 1.0, -3.0, 0]] * 3)
    rate, loc, scale = np.exp(raw[:, [0, 6]]), raw[:, 1:3], np.exp(raw[:, 3:5])
    exact = np.c_[
        stats.poisson(rate[:, 0]).logpmf(2),
        stats.t(4, loc[:, 0], scale[:, 0]).logpdf(0.5),
        stats.norm(raw[:, 5], 2).logpdf(1),
        stats.t(4, loc[:, 1], scale[:, 1]).logpdf(-3),
        stats.poisson(rate[:, 1]).logpmf(0),
    ]
    np.testing.assert_allclose(likelihood.log_prob(parameters, x), exact, rtol=1e-4, atol=1e-5)
    draws = likelihood.sample(parameters, tf.constant([1, 2])).numpy()
    assert draws.shape == (3, 5) and (draws[:, [0, 4]] == np.rint(draws[:, [0, 4]])).all()


@pytest.fixture(scope="module")
def counts():
    """A model of counts: both rates are exp(1 + z)."""
    z = np.random.default_rng(0).normal(size=(4000, 1))
    x = np.random.default_rng(1).poisson(np.exp(1 + z), (4000, 2)).astype(float)
    keras.utils.set_random_seed(0)
    vae = ct.VAE(2, latent_dim=1, hidden=(16,), likelihood=Poisson(), seed=0)
    vae.compile(keras.optimizers.Adam(0.01))
    vae.fit(x, batch_size=200, epochs=20, verbose=0)
    return vae, x


@pytest.mark.parametrize("count, says", [(-3, "got -3"), (2.5, "got 2.5"), ("many", "'many' is not a number")])
def test_a_count_that_is_none_is_refused_before_anything_runs(counts, count, says, monkeypatch):
    monkeypatch.setattr(ct.VAE, "decode", None)  # nothing runs
    with pytest.raises(ValueError, match=f"column 0: .*{says}"):
        ct.sample_conditional(counts[0], {0: count}, 10, seed=0)
    with pytest.raises(ValueError, match=f"column 'b': .*{says}"):
        counts[0].fit(pd.DataFrame({"a": [1, 2], "b": [1, count]}, dtype=object))


def test_a_model_of_counts_trains_samples_and_is_saved(counts, tmp_path):
    vae, x = counts
    given = {0: 12.0}
    draws = ct.sample_conditional(vae, given, 4000, "importance", seed=0).values
    assert (draws[:, 0] == 12).all() and (draws[:, 1] >= 0).all() and (draws[:, 1] == np.rint(draws[:, 1])).all()
    # Exact: E[exp(1 + z) | x0] on a grid.
    grid = np.linspace(-5, 5, 2001)
    weight = np.exp(-0.5 * grid**2) * stats.poisson(np.exp(1 + grid)).pmf(12)
    np.testing.assert_allclose(draws[:, 1].mean(), weight @ np.exp(1 + grid) / weight.sum(), rtol=0.15)
    vae.save(tmp_path / "counts.keras")
    again = keras.models.load_model(tmp_path / "counts.keras")
    assert isinstance(again.likelihood, Poisson)
    np.testing.assert_array_equal(ct.sample_conditional(again, given, 4000, "importance", seed=0).values, draws)
    with pytest.raises(ValueError, match="a count is 0, 1, 2, ..., got -1"):
        to_array([[1.0, -1.0]], 2, again.likelihood)
