"""`Transformed`: numbers of any shape, and what is guessed of a column."""

import keras
import numpy as np
import pandas as pd
import pytest
import tensorflow as tf

import cvae_tutorial as ct
from cvae_tutorial.likelihoods import Transformed

RNG = np.random.default_rng(0)
COLUMNS = {
    "age": RNG.uniform(18, 90, 400),
    "income": np.exp(RNG.normal(9, 1, 400)),
    "children": RNG.poisson(1.3, 400).astype(float),
    "rain": np.where(RNG.random(400) < 0.4, 0.0, RNG.gamma(2, 3, 400)),
    "length": RNG.normal(5, 0.4, 400).round(1),
    "far from zero": RNG.normal(1e6, 1.0, 400).round(0),
}
PARAMETERS = [(0.3, 0.5), (-1.5, 0.2), (0.0, 2.0)]


def mass(kind, loc, scale):
    """Integrate the density, and add up the probabilities."""
    parameters = tuple(tf.constant([[value]], "float32") for value in (loc, scale))

    def probability(x):
        return np.exp(
            kind.log_prob(parameters, tf.constant(np.reshape(x, (-1, 1)), "float32")).numpy()[:, 0].astype(float)
        )

    if kind.step:
        return probability(np.arange(kind.low, kind.high + kind.step / 2, kind.step)).sum()
    inside = np.linspace(kind.low, kind.high, 200_001)[1:-1]
    return probability(inside).mean() * (kind.high - kind.low) + probability([kind.low, kind.high]).sum()


@pytest.mark.parametrize("parameters", PARAMETERS)
@pytest.mark.parametrize("name", COLUMNS)
def test_it_is_a_distribution(name, parameters):
    assert mass(Transformed.from_values(COLUMNS[name]), *parameters) == pytest.approx(1.0, abs=5e-3)


@pytest.mark.parametrize("name", COLUMNS)
def test_draws_are_of_the_density_and_of_what_the_column_can_hold(name):
    values = COLUMNS[name]
    kind = Transformed.from_values(values)
    many = (20_000, 1)
    parameters = tf.fill(many, 0.3), tf.fill(many, 0.5)
    draws = kind.sample(parameters, (0, 1)).numpy()[:, 0].astype(float)
    assert draws.min() >= np.float32(values.min()) and draws.max() <= np.float32(values.max())
    if kind.step:
        steps = (draws - kind.low) / kind.step
        np.testing.assert_allclose(steps, steps.round(), atol=1e-3)
    # The share of draws up to a value is the mass up to there.
    middle = float(np.float32(np.median(draws)))
    part = Transformed.from_values(values)
    at = np.arange(part.low, middle + part.step / 2, part.step) if part.step else np.linspace(part.low, middle, 20_001)
    own = tuple(tf.constant([[value]], "float32") for value in (0.3, 0.5))
    chance = np.exp(part.log_prob(own, tf.constant(at[:, None], "float32")).numpy()[:, 0].astype(float))
    below = chance.sum() if part.step else chance[1:].mean() * (middle - part.low) + chance[0]
    assert (draws <= middle).mean() == pytest.approx(below, abs=4 * 0.5 / np.sqrt(len(draws)) + 2e-3)
    assert kind.mean(own).numpy().item() == pytest.approx(draws.mean(), abs=5 * draws.std() / 100 + 0.01 * draws.std())


def test_values_beyond_the_bounds_count_as_the_nearest():
    kind = Transformed.from_values(COLUMNS["age"])
    own = tuple(tf.constant([[value]], "float32") for value in (0.3, 0.5))
    low, beyond = (kind.log_prob(own, tf.constant([[x]], "float32")).numpy() for x in (kind.low, kind.low - 100))
    assert low == beyond and np.isfinite(low)


def test_bounds_of_ones_own():
    kind = Transformed.from_values(COLUMNS["age"], 0, 120)
    assert (kind.low, kind.high) == (0, 120) and mass(kind, 0.0, 1.0) == pytest.approx(1.0, abs=5e-3)
    far = kind.sample((tf.fill((1000, 1), 0.0), tf.fill((1000, 1), 3.0)), (0, 1)).numpy()
    assert far.min() == 0 and far.max() == 120
    with pytest.raises(ValueError, match="from 30 to 120, got 18"):
        Transformed.from_values(COLUMNS["age"], 30, 120)


def test_columns_are_computed_together_as_alone():
    kinds = {name: Transformed.from_values(values) for name, values in COLUMNS.items()}
    together = ct.Columns({"first": ct.Normal(), **kinds})
    assert [columns for _, columns in together.groups()] == [[0], [1, 2, 3, 4, 5, 6]]
    x = np.stack([RNG.normal(size=400), *COLUMNS.values()], 1)
    raw = tf.constant(RNG.normal(size=(400, together.num_parameters(7))), "float32")
    shift, scale = (tf.constant(a, "float32") for a in together.units(x))
    parameters = together.constrain(raw, shift, scale)
    log_prob = together.log_prob(parameters, tf.constant(x, "float32")).numpy()
    for j, kind in enumerate(kinds.values(), start=1):
        own_kind, own = together.part(parameters, j)
        assert own_kind == kind
        alone = kind.log_prob(own, tf.constant(x[:, j : j + 1], "float32")).numpy()
        np.testing.assert_allclose(log_prob[:, j : j + 1], alone, rtol=1e-5, atol=1e-5)


def test_trained_sampled_and_saved(tmp_path):
    frame = pd.DataFrame(COLUMNS).drop(columns="far from zero")
    frame = frame.mask(RNG.random(frame.shape) < 0.2)
    vae = ct.VAE(latent_dim=2, hidden=(16,), likelihood=ct.Columns.from_frame(frame), seed=0, reads_mask=True)
    vae.compile("adam")
    vae.fit(frame, epochs=2, verbose=0)
    draws = ct.sample_conditional(vae, frame.head(20), 50, seed=0, progress=False).to_frame()
    for name in frame:
        assert draws[name].between(frame[name].min() - 1e-4, frame[name].max() + 1e-2).all()
    assert (draws["children"] % 1 == 0).all()
    vae.save(tmp_path / "vae.keras")
    again = keras.saving.load_model(tmp_path / "vae.keras")
    np.testing.assert_array_equal(
        ct.sample_conditional(again, frame.head(20), 50, seed=0, progress=False).values,
        ct.sample_conditional(vae, frame.head(20), 50, seed=0, progress=False).values,
    )


def test_the_fisher_information_is_the_variance_of_the_score():
    kind, many, step = Transformed.from_values(COLUMNS["income"]), 200_000, 1e-2
    for tangent in ([1.0, 0.0], [0.0, 1.0]):
        loc, scale = tf.fill((many, 1), 0.2), tf.fill((many, 1), 0.3)
        x = kind.sample((loc, scale), (0, 1))
        ends = [
            kind.log_prob((loc + sign * step * tangent[0], scale + sign * step * tangent[1]), x) for sign in (-1.0, 1.0)
        ]
        score = (ends[1] - ends[0]) / (2 * step)
        root = kind.fisher_root((loc, scale), tuple(tf.fill((many, 1), t) for t in tangent), x)
        assert float(tf.reduce_sum(root[0] ** 2)) == pytest.approx(np.var(score.numpy()), rel=0.05)


# What is guessed


def test_two_values_are_two_categories_and_whole_numbers_stay_whole():
    frame = pd.DataFrame(
        {
            "flag": [0.0, 1.0, np.nan, 1.0],
            "kind": [3.5, 7.0, 7.0, np.nan],
            "count": [0.0, 4.0, 1.0, 0.0],
            "free": [0.1, 0.25, 0.333, -4.0],
        }
    )
    flag, kind, count, free = ct.Columns.from_frame(frame).kinds
    assert flag == ct.Bernoulli() and kind == ct.Categorical([3.5, 7.0])
    assert (count.step, count.low, count.high) == (1.0, 0.0, 4.0)
    assert (free.step, free.low, free.high) == (0.0, -4.0, 0.333)
    bounded = ct.Columns.from_frame(frame[["count", "free"]], min_value={"free": -10}, max_value=100)
    assert (bounded.kind(0).low, bounded.kind(1).low, bounded.kind(1).high) == (0.0, -10.0, 100.0)
    with pytest.raises(ValueError, match="column 'free': the values go from 0 to"):
        ct.Columns.from_frame(frame[["free"]], min_value=0)


@pytest.mark.parametrize(
    "settings, message",
    [
        ({"values": [0.0, 1.0], "scores": [0.0]}, "every value needs a score"),
        ({"values": [0.0, 1.0], "scores": [1.0, 0.0]}, "scores must rise"),
        ({"values": [0.0, 1.0], "scores": [0.0, 1.0], "low": 2.0}, "low < high"),
    ],
)
def test_corners_that_cannot_be_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        Transformed(**{"low": 0.0, "high": 1.0} | settings)
    with pytest.raises(ValueError, match="two different values"):
        Transformed.from_values([1.0, 1.0, np.nan])
