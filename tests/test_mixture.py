"""GaussianMixture against SciPy, brute-force integration and its own identities."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import integrate, stats

from cvae_tutorial.truth.mixture import GaussianMixture, fractional_brownian_motion, split_observed, two_ridges


def random_mixture(seed, num_components=3, d=4, spread=2.0):
    rng = np.random.default_rng(seed)
    roots = rng.normal(size=(num_components, d, d))
    covariances = roots @ roots.swapaxes(1, 2) + 0.05 * np.eye(d)
    weights = rng.dirichlet(np.ones(num_components))
    return GaussianMixture(weights, spread * rng.normal(size=(num_components, d)), covariances)


def scipy_density(mixture, x):
    return sum(
        w * stats.multivariate_normal(m, c).pdf(x)
        for w, m, c in zip(mixture.weights, mixture.means, mixture.covariances, strict=True)
    )


# Density, marginal, conditional


@pytest.mark.parametrize("d", [1, 2, 5])
def test_density_agrees_with_scipy(d):
    mixture = random_mixture(d, d=d)
    x = np.random.default_rng(0).normal(size=(7, 3, d))
    np.testing.assert_allclose(mixture.prob(x), scipy_density(mixture, x), rtol=1e-10)
    np.testing.assert_allclose(mixture.log_prob(x), np.log(scipy_density(mixture, x)), rtol=1e-10)


def test_one_column_accepts_flat_points():
    mixture = two_ridges().condition({0: 1.0})
    x = np.linspace(-3, 3, 5)
    np.testing.assert_array_equal(mixture.log_prob(x), mixture.log_prob(x[:, None]))
    assert mixture.log_prob(0.3).shape == ()


def test_the_note_s_conditional():
    conditional = two_ridges().condition({0: 1.0})
    np.testing.assert_allclose(conditional.weights, [0.128, 0.872], atol=5e-4)
    np.testing.assert_allclose(conditional.means[:, 0], [-1.44, 0.98], atol=5e-3)
    np.testing.assert_allclose(np.sqrt(conditional.covariances.ravel()), 0.198, atol=5e-4)


@pytest.mark.parametrize("observed", [{0: 1.0}, {0: -2.0}, {1: 0.4}])
def test_conditional_agrees_with_brute_force(observed):
    mixture, (column, value) = two_ridges(), next(iter(observed.items()))
    grid = np.linspace(-8, 8, 200_001)
    x = np.empty((grid.size, 2))
    x[:, column], x[:, 1 - column] = value, grid
    joint = scipy_density(mixture, x)
    density = joint / integrate.trapezoid(joint, grid)
    conditional = mixture.condition(observed)
    np.testing.assert_allclose(conditional.prob(grid), density, atol=1e-10)
    np.testing.assert_allclose(
        conditional.cdf(grid), integrate.cumulative_trapezoid(density, grid, initial=0), atol=1e-8
    )
    mean = integrate.trapezoid(grid * density, grid)
    var = integrate.trapezoid((grid - mean) ** 2 * density, grid)
    np.testing.assert_allclose([conditional.mean[0], conditional.std[0] ** 2], [mean, var], 1e-8)


def test_marginal_agrees_with_brute_force_over_two_columns():
    mixture = random_mixture(5, num_components=2, d=3, spread=1.0)
    axis = np.linspace(-16, 16, 801)
    a, b = np.meshgrid(axis, axis, indexing="ij")
    for value in (-1.0, 0.5):
        x = np.stack([a, np.full_like(a, value), b], -1)
        mass = scipy_density(mixture, x).sum() * (axis[1] - axis[0]) ** 2
        np.testing.assert_allclose(mixture.marginal([1]).prob(value), mass, rtol=1e-8)


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 10_000), d=st.integers(2, 6), data=st.data())
def test_chain_rule(seed, d, data):
    """log p(x) = log p(x_o) + log p(x_m | x_o), for every split and far from the data too."""
    mixture = random_mixture(seed, d=d)
    columns = data.draw(st.lists(st.integers(0, d - 1), min_size=1, max_size=d - 1, unique=True))
    reach = data.draw(st.sampled_from([1.0, 30.0]))
    x = reach * np.random.default_rng(seed).normal(size=d)
    missing = [j for j in range(d) if j not in columns]
    conditional = mixture.condition({j: x[j] for j in columns})
    total = mixture.marginal(columns).log_prob(x[columns]) + conditional.log_prob(x[missing])
    np.testing.assert_allclose(total, mixture.log_prob(x), rtol=1e-7, atol=1e-7)


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_conditioning_in_two_steps_is_conditioning_at_once(seed):
    mixture = random_mixture(seed, d=5)
    once = mixture.condition({1: 0.3, 3: -1.0})
    twice = mixture.condition({1: 0.3}).condition({2: -1.0})  # old column 3 is 2 by then
    np.testing.assert_allclose(once.weights, twice.weights, rtol=1e-8, atol=1e-14)
    np.testing.assert_allclose(once.means, twice.means, rtol=1e-8, atol=1e-10)
    np.testing.assert_allclose(once.covariances, twice.covariances, rtol=1e-8, atol=1e-12)


def test_marginal_keeps_the_order_asked_for():
    mixture = random_mixture(0)
    swapped, x = mixture.marginal([2, 0]), np.array([0.1, -0.4])
    np.testing.assert_allclose(swapped.log_prob(x), mixture.marginal([0, 2]).log_prob(x[::-1]))


# Moments and draws


def test_moments_agree_with_quadrature():
    mixture, axis = two_ridges(), np.linspace(-6, 6, 601)
    grid = np.stack(np.meshgrid(axis, axis, indexing="ij"), -1).reshape(-1, 2)
    mass = scipy_density(mixture, grid) * (axis[1] - axis[0]) ** 2
    mean = mass @ grid
    np.testing.assert_allclose(mixture.mean, mean, atol=1e-9)
    covariance = (grid - mean).T @ ((grid - mean) * mass[:, None])
    np.testing.assert_allclose(mixture.covariance, covariance, atol=1e-8)
    np.testing.assert_allclose(mixture.std, np.sqrt(np.diag(covariance)), atol=1e-8)


def test_entropy_of_the_two_ridges_is_1_461_nats():
    mixture, axis = two_ridges(), np.linspace(-6, 6, 1201)
    grid = np.stack(np.meshgrid(axis, axis, indexing="ij"), -1).reshape(-1, 2)
    density = scipy_density(mixture, grid)
    entropy = -(density * np.log(density)).sum() * (axis[1] - axis[0]) ** 2
    assert abs(entropy - 1.461) < 5e-4
    assert abs(mixture.entropy(200_000, seed=1) - entropy) < 0.01  # four standard errors


def test_draws_have_the_mixture_s_distribution():
    mixture = random_mixture(8, num_components=3, d=2)
    x = mixture.sample(40_000, seed=3)
    for column in (0, 1):
        assert stats.kstest(x[:, column], mixture.marginal([column]).cdf).pvalue > 1e-3
    # A rotation mixes the columns, so this sees their dependence as well.
    turn = np.array([[0.6], [0.8]])
    turned = GaussianMixture(mixture.weights, mixture.means @ turn, turn.T @ mixture.covariances @ turn)
    assert stats.kstest((x @ turn)[:, 0], turned.cdf).pvalue > 1e-3


def test_draws_repeat_with_the_seed():
    mixture = two_ridges()
    np.testing.assert_array_equal(mixture.sample(100, seed=5), mixture.sample(100, seed=5))
    rng = np.random.default_rng(5)
    np.testing.assert_array_equal(mixture.sample(100, seed=rng), mixture.sample(100, seed=5))
    assert not np.array_equal(mixture.sample(100, seed=rng), mixture.sample(100, seed=5))
    assert not np.array_equal(mixture.sample(100), mixture.sample(100))
    assert mixture.sample(0, seed=0).shape == (0, 2)


def test_stratified_draws_take_exact_shares_in_mixed_order():
    apart = GaussianMixture([0.2, 0.8], [[-100.0], [100.0]], np.ones((2, 1, 1)))
    first = apart.sample(1000, seed=0, stratified=True)[:, 0] < 0
    assert first.sum() == 200
    assert 20 <= first[:200].sum() <= 60
    assert (apart.sample(1000, seed=0)[:, 0] < 0).sum() != 200


def test_responsibilities():
    mixture, x = two_ridges(), two_ridges().sample(50_000, seed=0)
    shares = mixture.responsibilities(x)
    np.testing.assert_allclose(shares.sum(1), 1)
    np.testing.assert_allclose(shares.mean(0), mixture.weights, atol=0.01)


# One column: cdf and ppf


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 1000), q=st.floats(1e-300, 1 - 1e-12))
def test_ppf_inverts_cdf(seed, q):
    mixture = random_mixture(seed, d=1)
    np.testing.assert_allclose(mixture.cdf(mixture.ppf(q)), q, rtol=1e-6)


def test_ppf_of_one_normal_is_scipy_s():
    normal = GaussianMixture([1.0], [[2.0]], [[[9.0]]])
    q = np.array([0.0, 1e-200, 0.3, 0.5, 0.999, 1.0])
    np.testing.assert_allclose(normal.ppf(q), stats.norm(2, 3).ppf(q), rtol=1e-12)
    assert normal.ppf(0.25).shape == () and normal.cdf(np.zeros((2, 3))).shape == (2, 3)


# Hard numerics


@pytest.mark.parametrize("sigmas", [50.0, -50.0, 1e6])
def test_evidence_far_in_the_tails(sigmas):
    conditional = two_ridges().condition({0: sigmas * np.sqrt(0.52)})
    for values in (conditional.weights, conditional.means, conditional.log_prob(np.zeros(3))):
        assert np.isfinite(values).all()
    assert conditional.weights.sum() == pytest.approx(1)
    assert np.isfinite(conditional.sample(10, seed=0)).all()


def test_a_weight_that_underflows_can_come_back():
    """Seen from x0 = 60 the second component is impossible; x1 then says it was that one."""
    mixture = GaussianMixture([0.5, 0.5], [[0.0, 0.0], [30.0, 1e4]], np.stack([np.eye(2)] * 2))
    first = mixture.condition({0: -60.0})
    assert first.weights[1] == 0.0
    assert first.log_prob(1e4) > -5000  # not the first component's -5e7
    three = GaussianMixture([0.5, 0.5], [[0.0, 0.0, 1.0], [30.0, 1e4, 2.0]], np.stack([np.eye(3)] * 2))
    np.testing.assert_allclose(three.condition({0: -60.0}).condition({0: 1e4}).weights, [0, 1])


@pytest.mark.parametrize("gap", [1e-3, 1e-6, 3e-8])
def test_nearly_singular_covariance(gap):
    """x = (a, a + gap·b): given x0 the second column has standard deviation gap, exactly."""
    covariance = np.array([[1.0, 1.0], [1.0, 1.0 + gap**2]])
    conditional = GaussianMixture([1.0], [[0.0, 0.0]], [covariance]).condition({0: 2.0})
    kept = np.sqrt(covariance[1, 1] - 1.0)  # what is left of gap² in float64
    np.testing.assert_allclose(conditional.std, kept, rtol=1e-9)
    np.testing.assert_allclose(conditional.mean, 2.0, rtol=1e-12)


def test_square_roots_keep_what_covariances_lose():
    """With the square root given, a gap of 1e-10 survives; its square is lost next to 1."""
    root = np.array([[1.0, 0.0, 0.0], [1.0, 1e-10, 0.0], [1.0, 1e-10, 1.0]])
    mixture = GaussianMixture([1.0], np.zeros((1, 3)), [root @ root.T], [root])
    np.testing.assert_allclose(mixture.marginal([1, 0]).condition({1: 2.0}).std, 1e-10, rtol=1e-5)
    np.testing.assert_allclose(mixture.condition({0: 2.0}).std, [1e-10, 1.0], rtol=1e-5)
    # A textbook conditional, broken on purpose: subtraction loses the gap altogether.
    S = root @ root.T
    assert abs(S[1, 1] - S[1, 0] * S[0, 1] / S[0, 0]) ** 0.5 != pytest.approx(1e-10, rel=0.5)


# Bad input


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([0.5, 0.6], np.zeros((2, 1)), np.ones((2, 1, 1))), "sum to 1"),
        (([1.5, -0.5], np.zeros((2, 1)), np.ones((2, 1, 1))), "negative"),
        (([1.0], np.zeros((2, 1)), np.ones((2, 1, 1))), "shape"),
        (([1.0], np.zeros((1, 2)), np.ones((1, 1, 1))), "one d-by-d matrix per component"),
        (([1.0], np.zeros((1, 2)), [[[1.0, 1.0], [1.0, 1.0]]]), "add a small positive number"),
        (([1.0], np.zeros((1, 2)), [[[1.0, 0.5], [0.2, 1.0]]]), "not symmetric"),
        (([1.0], [[np.nan]], np.ones((1, 1, 1))), "finite"),
        (([], np.zeros((0, 1)), np.ones((0, 1, 1))), "shape"),
    ],
)
def test_bad_parameters_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        GaussianMixture(*arguments)


@pytest.mark.parametrize(
    ("observed", "message"),
    [
        ({2: 1.0}, "Unknown column 2"),
        ({-1: 1.0}, "Unknown column -1"),
        ({"x": 1.0}, "Unknown column 'x'"),
        ({True: 1.0}, "Unknown column True"),
        ({0: np.nan}, "Column 0"),
        ({0: np.inf}, "Column 0"),
        ({0: 1.0, 1: 1.0}, "leave at least one out"),
        ({0: 1e200}, "too far"),
        ([1.0, np.nan, 0.0], "one row of 2"),
    ],
)
def test_bad_evidence_is_refused(observed, message):
    with pytest.raises(ValueError, match=message):
        two_ridges().condition(observed)


def test_bad_requests_are_refused():
    mixture = two_ridges()
    with pytest.raises(ValueError, match="Repeated column"):
        mixture.marginal([0, 0])
    with pytest.raises(ValueError, match="at least one column"):
        mixture.marginal([])
    with pytest.raises(ValueError, match="marginal"):
        mixture.cdf(0.0)
    with pytest.raises(ValueError, match="between 0 and 1"):
        mixture.marginal([0]).ppf(1.5)
    with pytest.raises(ValueError, match="2 columns"):
        mixture.log_prob(np.zeros((4, 3)))
    with pytest.raises(ValueError, match="num_samples"):
        mixture.sample(-1)
    with pytest.raises(ValueError, match="num_samples"):
        mixture.sample(2.5)


def test_a_row_with_holes_will_do_and_nothing_observed_changes_nothing():
    mixture = two_ridges()
    np.testing.assert_array_equal(mixture.condition([1.0, np.nan]).means, mixture.condition({0: 1.0}).means)
    assert mixture.condition({}) is mixture
    columns, values, missing = split_observed({np.int64(2): 5.0, 0: 1}, 4)
    assert (columns, values.tolist(), missing) == ([0, 2], [1.0, 5.0], [1, 3])


def test_a_mixture_does_not_change():
    mixture, weights = two_ridges(), np.array([0.5, 0.5])
    with pytest.raises(dataclasses.FrozenInstanceError):
        mixture.weights = weights
    with pytest.raises(ValueError):
        mixture.means[0, 0] = 3.0


@pytest.mark.parametrize("hurst", [0.1, 0.5, 0.9])
def test_fractional_brownian_motion(hurst):
    """Stationary increments of variance |t - s|^2H, from a start at zero; paths that match."""
    motion = fractional_brownian_motion(hurst, num_times=20)
    t = np.r_[0, np.arange(1, 21)] / 20
    covariance = np.pad(motion.covariance, ((1, 0), (1, 0)))
    variance = np.diag(covariance)
    increments = variance[:, None] + variance - 2 * covariance
    np.testing.assert_allclose(increments, np.abs(t[:, None] - t) ** (2 * hurst), atol=1e-12)
    paths = motion.sample(40_000, seed=0)
    assert np.abs(paths.std(axis=0) / motion.std - 1).max() < 5 / np.sqrt(80_000)
    # Self-similarity: half as long a path is the path, scaled by 2^-H.
    shorter = fractional_brownian_motion(hurst, num_times=10)
    np.testing.assert_allclose(motion.covariance[1::2, 1::2], shorter.covariance, atol=1e-12)


def test_brownian_bridge():
    bridge = fractional_brownian_motion(0.5, 16).condition({15: 1.0})
    t = np.arange(1, 16) / 16
    np.testing.assert_allclose(bridge.mean, t, atol=1e-12)
    np.testing.assert_allclose(bridge.covariance, np.minimum.outer(t, t) * (1 - np.maximum.outer(t, t)), atol=1e-12)


@pytest.mark.parametrize("hurst, num_times, text", [(0.0, 8, "Hurst"), (1.0, 8, "Hurst"), (0.5, 0, "num_times")])
def test_no_such_motion(hurst, num_times, text):
    with pytest.raises(ValueError, match=text):
        fractional_brownian_motion(hurst, num_times)
