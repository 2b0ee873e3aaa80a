"""Quadrature against closed forms and dense brute force; the linear-Gaussian model."""

import itertools
from dataclasses import dataclass

import numpy as np
import pytest
import tensorflow as tf
from scipy import integrate, stats
from scipy.special import expit, ndtr

from cvae_tutorial.distances import iid_floor, kolmogorov_smirnov, wasserstein
from cvae_tutorial.exact import LinearGaussian, NormalColumn, quadrature
from cvae_tutorial.likelihoods import Bernoulli, Categorical, Columns, Likelihood, Normal

MASKS = [c for r in range(6) for c in itertools.combinations(range(5), r)]


def linear_gaussian(latent_dim, seed=0, **settings):
    rng = np.random.default_rng(seed)
    return LinearGaussian(rng.normal(size=(5, latent_dim)), rng.normal(size=5), [0.5, 0.3, 1.0, 0.2, 0.1], **settings)


class Model:
    """A hand-made decoder of Normal columns: ``curve`` maps (m, l) to loc and scale, each (m, d)."""

    def __init__(self, latent_dim, curve, likelihood=None):
        self.latent_dim, self.likelihood = latent_dim, likelihood or Normal()
        self._curve, self.shapes = curve, set()

    def decode(self, z):
        self.shapes.add(tuple(z.shape))
        return self._curve(z)


def folded(scale, power=1.0):
    """x0 = |z|, x1 = z: two modes given x0, with a kink between them."""

    def curve(z):
        loc = tf.concat([tf.abs(z) ** power, z], -1)
        return loc, tf.fill(tf.shape(loc), tf.constant(scale))

    return Model(1, curve)


def ring(scale):
    """x on a noisy circle, by the angle of a two-dimensional latent."""

    def curve(z):
        loc = 2 * z / (1e-3 + tf.norm(z, axis=-1, keepdims=True))
        return loc, tf.fill(tf.shape(loc), tf.constant(scale))

    return Model(2, curve)


def network(scale, seed=0, width=100):
    """A random ReLU decoder with two hidden layers, steep and full of kinks."""
    rng = np.random.default_rng(seed)
    sizes = (2, width, width, 4)
    W = [tf.constant(rng.normal(size=s) * np.sqrt(2 / s[0]), tf.float32) for s in itertools.pairwise(sizes)]
    b = [tf.constant(rng.normal(size=s), tf.float32) for s in sizes[1:]]

    def curve(z):
        h = tf.nn.relu(tf.nn.relu(z @ W[0] + b[0]) @ W[1] + b[1]) @ W[2] + b[2]
        return h[:, :2], scale * (0.01 + tf.nn.softplus(h[:, 2:]))

    return Model(2, curve)


def decode(model, z):
    """Location and scale of the columns at nodes ``z``, shape (2, g, d)."""
    parts = [model.decode(tf.constant(part, tf.float32)) for part in np.array_split(z, 40)]
    return np.array([np.concatenate(a) for a in zip(*parts, strict=True)], float)


def brute_force(model, column, value, x, z, volume):
    """log p(x_o) and the distribution function of the other column, on dense nodes ``z``."""
    return dense(decode(model, z), column, value, x, z, volume)


def dense(decoded, column, value, x, z, volume):
    loc, scale = decoded[:, :, column]
    gamma = stats.norm.pdf(z).prod(1) * volume * stats.norm.pdf(value, loc, scale)
    kept = gamma > 1e-9 * gamma.max()
    loc, scale = decoded[:, kept, 1 - column]
    mass = [gamma[kept] @ ndtr((v - loc) / scale) for v in x]
    return np.log(gamma.sum()), np.array(mass) / gamma[kept].sum()


def even_nodes(latent_dim, num, reach=7.0):
    step = 2 * reach / num
    axis = -reach + step * (np.arange(num) + 0.5)
    z = np.stack(np.meshgrid(*[axis] * latent_dim, indexing="ij"), -1).reshape(-1, latent_dim)
    return z, np.full(len(z), step**latent_dim)


def polar_nodes(num_radii=100, num_angles=5_000, reach=7.0):
    radius, angle = np.meshgrid(
        reach * (np.arange(num_radii) + 0.5) / num_radii,
        2 * np.pi * (np.arange(num_angles) + 0.5) / num_angles,
        indexing="ij",
    )
    z = np.stack([radius * np.cos(angle), radius * np.sin(angle)], -1).reshape(-1, 2)
    return z, radius.ravel() * (reach / num_radii) * (2 * np.pi / num_angles)


# Quadrature against the closed form


@pytest.mark.parametrize("latent_dim", [1, 2])
@pytest.mark.parametrize("far", [1.0, 8.0])
def test_quadrature_agrees_with_the_linear_gaussian_model(latent_dim, far):
    """Every mask of five columns, at a typical row and at one eight standard deviations out."""
    model = linear_gaussian(latent_dim)
    joint = model.joint().marginal(range(latent_dim, latent_dim + 5))
    row = joint.mean + far * joint.std * np.array([1.0, -0.5, 0.3, 0.8, -1.0])
    for columns in MASKS if far == 1.0 else MASKS[::5]:
        observed = {j: row[j] for j in columns}
        result = quadrature(model, observed, tolerance=1e-4)
        if columns:
            log_evidence = float(joint.marginal(columns).log_prob(row[list(columns)][None])[0])
            assert result.log_evidence == pytest.approx(log_evidence, abs=1e-4)
        else:
            assert result.log_evidence == pytest.approx(0, abs=1e-6)
        posterior = model.posterior(observed)
        mean = result.weights @ result.nodes
        centred = result.nodes - mean
        np.testing.assert_allclose(mean, posterior.mean, atol=2e-4)
        np.testing.assert_allclose((result.weights[:, None] * centred).T @ centred, posterior.covariance, atol=3e-4)
        if len(columns) == 5:
            assert result.missing == ()
            continue
        exact = model.condition(observed)
        assert result.missing == tuple(j for j in range(5) if j not in columns)
        np.testing.assert_allclose(result.mean, exact.mean, atol=3e-4)
        np.testing.assert_allclose(result.covariance, exact.covariance, atol=1e-3)
        for i, j in enumerate(result.missing[:1]):
            target, column = exact.marginal([i]), result.column(j)
            x = target.ppf(np.linspace(0.001, 0.999, 41))
            np.testing.assert_allclose(column.cdf(x), target.cdf(x), atol=1e-4)


def test_the_check_is_sharp_enough_to_reject_a_wrong_model():
    """A noise scale 1% off, or an offset 0.01 off, shows far above the tolerances used here."""
    model, observed = linear_gaussian(2), {0: 0.3, 3: -0.2}
    result, exact = quadrature(model, observed), model.condition(observed)
    for wrong in (
        LinearGaussian(model.loadings, model.offset, 1.01 * model.noise_scale),
        LinearGaussian(model.loadings, model.offset + 0.01, model.noise_scale),
    ):
        other, x = wrong.condition(observed), exact.marginal([0]).ppf(np.linspace(0.01, 0.99, 50))
        right = np.abs(result.column(1).cdf(x) - exact.marginal([0]).cdf(x)).max()
        assert np.abs(result.column(1).cdf(x) - other.marginal([0]).cdf(x)).max() > 20 * right


# Quadrature against brute force


@pytest.mark.parametrize("scale", [0.2, 0.01, 0.001])
@pytest.mark.parametrize("value", [0.0, 1.0, 3.0])
def test_a_folded_decoder(scale, value):
    model, x = folded(scale), np.linspace(-4, 4, 41)
    result = quadrature(model, {0: value})
    log_evidence, cdf = brute_force(model, 0, value, x, *even_nodes(1, 100_000))
    assert result.log_evidence == pytest.approx(log_evidence, abs=1e-4)
    np.testing.assert_allclose(result.column(1).cdf(x), cdf, atol=1e-4)


@pytest.mark.parametrize("value", [0.5, 1.5, 2.1])
def test_a_ring(value):
    model, x = ring(0.05), np.linspace(-2.5, 2.5, 51)
    result = quadrature(model, {0: value}, tolerance=1e-3)  # this decoder jumps at its centre
    # Polar nodes resolve the centre, where the decoder turns fastest; even nodes do not.
    log_evidence, cdf = brute_force(model, 0, value, x, *polar_nodes())
    assert result.log_evidence == pytest.approx(log_evidence, abs=1e-3)
    column = result.column(1)
    np.testing.assert_allclose(column.cdf(x), cdf, atol=1e-3)
    assert np.abs(column.cdf(x) - column.cdf(x - 0.02)).max() > 5e-3


def test_a_steep_network():
    z, volume = even_nodes(2, 1_400, reach=6.0)
    decoded = decode(network(1.0), z)  # scales are in proportion, so that one decoding serves both
    for scale in (0.3, 0.05):
        model, x = network(scale), np.linspace(-8, 8, 41)
        value = float(model.decode(tf.constant([[0.7, -0.4]]))[0][0, 0])
        result = quadrature(model, {0: value}, tolerance=1e-4)
        log_evidence, cdf = dense(decoded * [[[1.0]], [[scale]]], 0, value, x, z, volume)
        assert result.log_evidence == pytest.approx(log_evidence, abs=1e-3)
        np.testing.assert_allclose(result.column(1).cdf(x), cdf, atol=1e-3)


def test_evidence_that_pulls_the_latent_beyond_the_first_grid():
    model = LinearGaussian([[1.0], [1.0]], [0.0, 0.0], 0.01)
    for value in (20.0, -300.0):
        result, exact = quadrature(model, {0: value}), model.condition({0: value})
        np.testing.assert_allclose(result.mean, exact.mean, rtol=1e-6)
        np.testing.assert_allclose(result.column(1).std, exact.std, rtol=1e-3)
        log_evidence = float(model.joint().marginal([1]).log_prob(value))
        assert result.log_evidence == pytest.approx(log_evidence, rel=1e-5)


def test_a_narrow_peak_between_the_nodes_of_the_first_grid():
    """A sixth of the mass, in a mode whose width is an eighth of a cell, at a corner of four cells."""
    place, narrow, broad, depth = np.array([1.5, 0.0]), 0.004, 0.1, 4.8

    def curve(z):  # x0 is -log of two bells, as a square
        near, far = (tf.reduce_sum((z - c) ** 2, -1) / s**2 for c, s in ((place, narrow), (-place, broad)))
        x = tf.stack([tf.sqrt(tf.minimum(near, far + 2 * depth)), z[:, 0]], -1)
        return x, tf.ones_like(x)

    result = quadrature(Model(2, curve), {0: 0.0})
    variances = 1 + np.array([narrow, broad]) ** 2
    masses = np.array([narrow, broad]) ** 2 / variances * np.exp([0, -depth] - place @ place / variances / 2)
    assert result.log_evidence == pytest.approx(np.log(masses.sum() / np.sqrt(2 * np.pi)), abs=1e-4)
    mean = masses @ (place[0] * np.array([1, -1]) / variances) / masses.sum()
    assert result.mean[0] == pytest.approx(mean, abs=1e-3)
    assert 0.1 < masses[0] / masses.sum() < 0.2


@pytest.mark.parametrize("width", [0.1, 0.2, 0.3, 0.6, 2.0])
def test_a_posterior_as_narrow_as_the_cells_midway_between_two_nodes(width):
    """z given x1 = 0, and x0 = |z|: both halves of every second node say the same, right or wrong."""
    scale = width * 16 / 8192
    result = quadrature(folded(scale), {1: 0.0})
    assert result.log_evidence == pytest.approx(stats.norm.logpdf(0.0, scale=np.hypot(1, scale)), abs=1e-4)
    assert result.mean[0] == pytest.approx(scale / np.hypot(1, scale) * np.sqrt(2 / np.pi), rel=1e-3)


def test_the_decoder_sees_few_shapes():
    model = folded(0.01)
    quadrature(model, {0: 1.0}).column(1)
    assert len(model.shapes) == 2  # the one that tells the width, and the batch


# Results


def test_draws_agree_with_the_columns():
    model, observed = linear_gaussian(2), {1: 0.5}
    result, exact = quadrature(model, observed), model.condition(observed)
    draws = result.sample(20_000, seed=0)
    assert draws.shape == (20_000, 4)
    for i, j in enumerate(result.missing):
        target, column = exact.marginal([i]), result.column(j)
        assert stats.kstest(draws[:, i], target.cdf).pvalue > 1e-3
        assert stats.kstest(column.sample(20_000, seed=1)[:, 0], target.cdf).pvalue > 1e-3
    np.testing.assert_allclose(np.cov(draws.T), exact.covariance, atol=0.1)
    np.testing.assert_array_equal(draws, result.sample(20_000, seed=0))
    assert not np.array_equal(draws, result.sample(20_000, seed=1))


def test_a_column_is_a_target_for_the_distances():
    column = quadrature(folded(0.1), {0: 1.0}).column(1)
    for distance in (wasserstein, kolmogorov_smirnov):
        floor = iid_floor(distance, column, 2_000)
        assert distance(column.sample(2_000, seed=7), column) < floor.mean + 4 * floor.std
        # One of the two modes alone, as a stuck chain gives it.
        stuck = np.abs(column.sample(2_000, seed=7))
        assert distance(stuck, column) > floor.mean + 20 * floor.std


def test_normal_column_with_many_components():
    rng = np.random.default_rng(0)
    loc, scale = rng.normal(size=100_000), rng.uniform(0.005, 0.05, size=100_000)
    column = NormalColumn(rng.dirichlet(np.ones(100_000)), loc, scale)
    x = np.linspace(-5, 5, 37)
    exact = np.array([ndtr((v - loc) / scale) @ column.weights for v in x])
    np.testing.assert_allclose(column.cdf(x), exact, atol=1e-5)
    density = np.array([stats.norm.pdf(v, loc, scale) @ column.weights for v in x])
    np.testing.assert_allclose(column.pdf(x), density, atol=1e-8)
    assert (np.diff(column.cdf(np.linspace(-6, 6, 100_001))) > -1e-15).all()
    q = np.linspace(1e-4, 1 - 1e-4, 99)
    np.testing.assert_allclose(column.cdf(column.ppf(q)), q, atol=1e-9)
    variance = column.weights @ (loc**2 + scale**2) - (column.weights @ loc) ** 2
    np.testing.assert_allclose([column.mean, column.std**2], [[column.weights @ loc], [variance]])


def test_density_of_a_column_is_the_slope_of_its_cdf():
    column = quadrature(folded(0.1), {0: 1.0}).column(1)
    x = np.linspace(-3, 3, 10_001)
    area = integrate.cumulative_trapezoid(column.pdf(x), x, initial=0)
    np.testing.assert_allclose(area, column.cdf(x), atol=1e-5)


def test_columns_of_different_kinds():
    """Against dense sums over the latent: Normal, Bernoulli and categorical in one table."""
    likelihood = Columns([Bernoulli(), Normal(), Categorical(3)])

    def curve(z):
        logits = tf.concat([z, -z, 0.5 * z**2], -1)
        # Parameters come by groups, in the order of first appearance.
        return (2 * z + 0.5, (tf.sin(z), 0.3 + 0 * z), logits)

    model = Model(1, curve, likelihood)
    z = np.linspace(-9, 9, 200_001)
    prior = stats.norm.pdf(z) * (z[1] - z[0])
    p1 = expit(2 * z + 0.5)
    odds = np.exp(np.stack([z, -z, 0.5 * z**2], 1) - (0.5 * z**2 + np.abs(z))[:, None])
    category = odds / odds.sum(1, keepdims=True)
    normal = stats.norm.pdf(0.4, np.sin(z), 0.3)

    posterior = prior * normal
    result = quadrature(model, {1: 0.4})
    assert result.log_evidence == pytest.approx(np.log(posterior.sum()), abs=1e-5)
    posterior /= posterior.sum()
    np.testing.assert_allclose(result.column(0).probabilities[1], posterior @ p1, atol=1e-5)
    np.testing.assert_allclose(result.column(2).probabilities, posterior @ category, atol=1e-5)
    draws = result.sample(20_000, seed=0)
    shares = np.bincount(draws[:, 1].astype(int), minlength=3) / 20_000
    np.testing.assert_allclose(shares, result.column(2).probabilities, atol=0.02)
    assert result.mean[0] == pytest.approx(draws[:, 0].mean(), abs=0.02)
    assert result.covariance[0, 0] == pytest.approx(draws[:, 0].var(), abs=0.02)
    assert np.isnan(result.mean[1])
    single = result.column(2).sample(20_000, seed=0)
    np.testing.assert_allclose(np.bincount(single[:, 0].astype(int)) / 20_000, shares, atol=0.02)

    posterior = prior * p1 * category[:, 2]
    result = quadrature(model, {0: 1, 2: 2})
    assert result.log_evidence == pytest.approx(np.log(posterior.sum()), abs=1e-5)
    posterior /= posterior.sum()
    assert result.mean[0] == pytest.approx(posterior @ np.sin(z), abs=1e-5)


@dataclass(frozen=True)
class Poisson(Likelihood):
    """Counts, by the logarithm of their rate."""

    def num_parameters(self, num_features):
        return num_features

    def log_prob(self, parameters, x):
        return x * parameters - tf.exp(parameters) - tf.math.lgamma(x + 1.0)

    def sample(self, parameters, seed):
        return tf.random.stateless_poisson(tf.shape(parameters), seed, tf.exp(parameters), tf.float32)

    def mean(self, parameters):
        return tf.exp(parameters)


@dataclass(frozen=True)
class Cauchy(Likelihood):
    """Student's t with one degree of freedom, which has no mean."""

    def num_parameters(self, num_features):
        return num_features

    def log_prob(self, parameters, x):
        return -tf.math.log1p((x - parameters) ** 2) - np.float32(np.log(np.pi))

    def sample(self, parameters, seed):
        return parameters + tf.tan(np.pi * (tf.random.stateless_uniform(tf.shape(parameters), seed) - 0.5))

    def mean(self, parameters):
        return np.nan * parameters


def test_likelihoods_of_one_s_own():
    """As evidence they count like any other; what they do not say stops nothing else."""

    def curve(z):  # Poisson, Normal, Cauchy and Normal: three groups of parameters
        return 0.5 * z + 1.0, (tf.concat([tf.sin(z), z], -1), tf.fill((z.shape[0], 2), 0.3)), 2.0 * z

    model = Model(1, curve, Columns([Poisson(), Normal(), Cauchy(), Normal()]))
    z = np.linspace(-9, 9, 20_001)
    prior = stats.norm.pdf(z) * (z[1] - z[0])
    rate = np.exp(0.5 * z + 1)
    likelihoods = {
        0: stats.poisson.pmf(4, np.exp(0.5 * z + 1)),
        1: stats.norm.pdf(0.4, np.sin(z), 0.3),
        2: stats.cauchy.pdf(1.5, 2 * z),
    }
    values, x = {0: 4, 1: 0.4, 2: 1.5}, np.linspace(-3, 3, 25)
    for seen in [(), (0,), (2,), (0, 1), (1, 2), (0, 1, 2)]:
        posterior = prior * np.prod([likelihoods[j] for j in seen], axis=0)
        result = quadrature(model, {j: values[j] for j in seen})
        assert result.log_evidence == pytest.approx(np.log(posterior.sum()), abs=1e-5)
        posterior /= posterior.sum()
        exact = [posterior @ ndtr((v - z) / 0.3) for v in x]
        np.testing.assert_allclose(result.column(3).cdf(x), exact, atol=1e-5)
        last = result.missing.index(3)
        assert result.mean[last] == pytest.approx(posterior @ z, abs=1e-5)
        if 0 in result.missing:
            mean = posterior @ rate
            assert result.mean[0] == pytest.approx(mean, rel=1e-5)
            assert result.covariance[0, last] == pytest.approx(posterior @ (z * (rate - mean)), rel=1e-4)
            assert np.isnan(result.covariance[0, 0]) and np.isfinite(result.covariance[last, last])
            draws = result.sample(20_000, seed=0)
            assert draws[:, 0].mean() == pytest.approx(mean, abs=0.1)
            with pytest.raises(ValueError, match=r"Column 0 has a likelihood of your own, Poisson.*use mean or"):
                result.column(0)
        if 2 in result.missing:
            assert np.isnan(result.mean[result.missing.index(2)])

    counts = Model(1, lambda z: tf.concat([0.5 * z + 1.0, z - 1.0], -1), Poisson())
    result = quadrature(counts, {})
    np.testing.assert_allclose(result.mean, np.exp([1.125, -0.5]), rtol=1e-5)


# The linear-Gaussian model


def test_linear_gaussian_conditionals_agree_with_the_textbook():
    model = linear_gaussian(2)
    covariance = model.loadings @ model.loadings.T + np.diag(model.noise_scale**2)
    row = np.array([0.3, -1.0, 0.5, 2.0, 0.1])
    for columns in MASKS[1:-1]:
        o, m = list(columns), [j for j in range(5) if j not in columns]
        gain = covariance[np.ix_(m, o)] @ np.linalg.inv(covariance[np.ix_(o, o)])
        exact = model.condition({j: row[j] for j in o})
        mean = model.offset[m] + gain @ (row[o] - model.offset[o])
        np.testing.assert_allclose(exact.mean, mean, rtol=1e-9, atol=1e-10)
        left = covariance[np.ix_(m, m)] - gain @ covariance[np.ix_(o, m)]
        np.testing.assert_allclose(exact.covariance, left, rtol=1e-8, atol=1e-10)


def test_linear_gaussian_encoder_is_the_exact_posterior():
    row = np.array([0.3, -1.0, 0.5, 2.0, 0.1])
    for model in (linear_gaussian(1), linear_gaussian(2), linear_gaussian(2, encoder_scale=0.5)):
        posterior = model.posterior(row)
        loc, scale = model.encode(tf.constant(row, tf.float32))
        np.testing.assert_allclose(loc, posterior.mean, rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(scale, model.encoder_scale * posterior.std, rtol=1e-5)


def test_linear_gaussian_works_compiled_with_leading_axes():
    model = linear_gaussian(2)
    z = tf.random.stateless_normal((3, 7, 2), seed=(0, 1))

    @tf.function
    def roundtrip(z):
        loc, scale = model.decode(z)
        return loc, scale, *model.encode(loc)

    loc, scale, z_loc, z_scale = roundtrip(z)
    assert loc.shape == scale.shape == (3, 7, 5) and z_loc.shape == z_scale.shape == (3, 7, 2)
    assert loc.dtype == z_scale.dtype == tf.float32
    np.testing.assert_allclose(loc, z.numpy() @ model.loadings.T + model.offset, atol=1e-5)
    np.testing.assert_allclose(scale[1, 2], model.noise_scale, rtol=1e-6)
    np.testing.assert_allclose(z_loc[1, 2], model.encode(loc[1, 2])[0], atol=1e-5)


def test_a_linear_gaussian_with_tiny_noise_keeps_it():
    model = LinearGaussian([[1.0], [2.0]], [0.0, 0.0], 1e-9)
    np.testing.assert_allclose(model.condition({0: 3.0}).std, np.sqrt(5) * 1e-9, rtol=1e-5)
    np.testing.assert_allclose(model.condition({0: 3.0}).mean, 6.0)


# Bad input


def test_bad_input_is_refused():
    with pytest.raises(ValueError, match="this model has 3"):
        quadrature(linear_gaussian(3), {0: 1.0})
    with pytest.raises(ValueError, match="one row"):
        quadrature(linear_gaussian(1), np.zeros((2, 5)))
    with pytest.raises(ValueError, match="not missing"):
        quadrature(linear_gaussian(1), {0: 1.0}).column(0)
    with pytest.raises(RuntimeError, match="beyond a million"):
        quadrature(LinearGaussian([[1.0], [1.0]], [0.0, 0.0], 1.0), {0: 1e9})
    with pytest.raises(RuntimeError, match="raise max_nodes or tolerance"):
        quadrature(network(0.001), {0: 1.0}, tolerance=1e-9, max_nodes=100_000)
    with pytest.raises(ValueError, match="loadings of shape"):
        LinearGaussian([1.0, 2.0], [0.0, 0.0], 1.0)
    with pytest.raises(ValueError, match="above zero"):
        LinearGaussian([[1.0]], [0.0], 0.0)
    with pytest.raises(ValueError, match="between 0 and 1"):
        NormalColumn(np.ones(1), np.zeros(1), np.ones(1)).ppf(2.0)


def test_a_decoder_that_returns_nan_is_named():
    broken = Model(1, lambda z: (tf.concat([z, z], -1) * np.nan, tf.ones((z.shape[0], 2))))
    with pytest.raises(RuntimeError, match="NaN"):
        quadrature(broken, {0: 1.0})
