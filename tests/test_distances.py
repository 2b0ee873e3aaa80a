"""Distances against closed forms, SciPy and direct integration."""

from functools import cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import integrate, stats

from cvae_tutorial.distances import (
    Floor,
    energy_distance,
    iid_floor,
    kolmogorov_smirnov,
    mode_weight_error,
    wasserstein,
)
from cvae_tutorial.truth.mixture import GaussianMixture, two_ridges


def normal(loc=0.0, scale=1.0):
    return GaussianMixture([1.0], [[loc]], [[[scale**2]]])


@cache
def quantiles(loc, scale, num):
    """Draws of a normal without noise: the middles of ``num`` equal shares of probability."""
    return normal(loc, scale).ppf((np.arange(num) + 0.5) / num)


# 1-Wasserstein


@pytest.mark.parametrize("shift", [-3.0, 0.2, 50.0])
def test_wasserstein_of_a_shift_is_the_shift(shift):
    draws = quantiles(0, 1, 200_000)
    assert wasserstein(draws + shift, normal()) == pytest.approx(abs(shift), abs=2e-5)


def test_wasserstein_of_a_stretch():
    draws = quantiles(0, 3, 200_000)  # W1(N(0, a²), N(0, b²)) = |a - b| sqrt(2 / pi)
    assert wasserstein(draws, normal()) == pytest.approx(2 * np.sqrt(2 / np.pi), abs=5e-5)


@pytest.mark.parametrize("place", [0.0, 1.3, -7.0])
def test_wasserstein_of_one_draw_is_the_mean_absolute_deviation(place):
    expected = 2 * stats.norm.pdf(place) + place * (2 * stats.norm.cdf(place) - 1)
    assert wasserstein([place], normal()) == pytest.approx(expected, abs=1e-7)


def test_wasserstein_agrees_with_direct_integration():
    target = two_ridges().condition({0: 1.0})
    draws = target.sample(5_000, seed=0)
    grid = np.linspace(-6, 6, 4_000_001)
    steps = np.searchsorted(np.sort(draws[:, 0]), grid, side="right") / 5_000
    expected = integrate.trapezoid(np.abs(steps - target.cdf(grid)), grid)
    # The grid misplaces each of 5,000 jumps by up to 3e-6, each of height 1/5,000.
    assert wasserstein(draws, target) == pytest.approx(expected, abs=5e-6)


def test_wasserstein_finds_a_target_far_from_and_much_narrower_than_the_draws():
    draws = np.array([0.0, 1000.0])
    assert wasserstein(draws, normal(500.0, 1e-3)) == pytest.approx(500.0, rel=1e-5)
    assert wasserstein(draws, normal(-1e5, 1e-3)) == pytest.approx(100_500.0, rel=1e-5)


def test_wasserstein_of_two_modes_with_wrong_weights():
    """Weight moved between narrow modes costs weight times distance."""
    modes = GaussianMixture([0.3, 0.7], [[-1.0], [1.4]], np.full((2, 1, 1), 1e-6))
    draws = np.r_[np.full(500, -1.0), np.full(500, 1.4)]
    assert wasserstein(draws, modes) == pytest.approx(0.2 * 2.4, abs=2e-3)


@settings(max_examples=30, deadline=None)
@given(
    x=st.lists(st.floats(-5, 5) | st.floats(-1e9, 1e9), min_size=1, max_size=12),
    counts=st.data(),
)
def test_weights_count_as_repetitions(x, counts):
    repeats = counts.draw(st.lists(st.integers(1, 4), min_size=len(x), max_size=len(x)))
    for distance in (wasserstein, kolmogorov_smirnov):
        weighted = distance(x, normal(), weights=repeats)
        assert weighted == pytest.approx(distance(np.repeat(x, repeats), normal()), rel=1e-9, abs=1e-7)


# Kolmogorov–Smirnov


@pytest.mark.parametrize("size", [1, 10, 1000])
def test_kolmogorov_smirnov_agrees_with_scipy(size):
    target = two_ridges().condition({0: 0.5})
    draws = target.sample(size, seed=1)[:, 0] + 0.1
    expected = stats.kstest(draws, target.cdf).statistic
    assert kolmogorov_smirnov(draws, target) == pytest.approx(expected, abs=1e-12)


def test_kolmogorov_smirnov_sees_both_sides_of_a_jump():
    assert kolmogorov_smirnov([-2.0], normal()) == pytest.approx(1 - stats.norm.cdf(-2))
    assert kolmogorov_smirnov([2.0], normal()) == pytest.approx(stats.norm.cdf(2))


# Energy distance


def test_energy_distance_agrees_with_scipy_in_one_column():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=300), 0.5 + 2 * rng.normal(size=400)
    expected = stats.energy_distance(x, y) ** 2  # SciPy returns the square root
    assert energy_distance(x, y) == pytest.approx(expected, rel=1e-9)


def test_energy_distance_in_blocks_is_the_same(monkeypatch):
    rng = np.random.default_rng(1)
    x, y = rng.normal(size=(101, 3)), rng.normal(size=(57, 3)) + 1
    pairs = [np.linalg.norm(a[:, None] - b[None], axis=-1).mean() for a, b in ((x, y), (x, x), (y, y))]
    whole = energy_distance(x, y)
    assert whole == pytest.approx(2 * pairs[0] - pairs[1] - pairs[2], rel=1e-10)
    monkeypatch.setattr("cvae_tutorial.truth.distances._BLOCK", 100)
    assert energy_distance(x, y) == pytest.approx(whole, rel=1e-10)
    assert energy_distance(x, x) == pytest.approx(0, abs=1e-12)


def test_energy_distance_sees_dependence_that_marginals_hide():
    mixture = two_ridges()
    exact, reference = mixture.sample(2_000, seed=0), mixture.sample(2_000, seed=1)
    shuffled = np.c_[exact[:, 0], np.random.default_rng(2).permutation(exact[:, 1])]
    floor = iid_floor(lambda x, _: energy_distance(x, reference), mixture, 2_000, replicates=8)
    assert abs(energy_distance(exact, reference) - floor.mean) < 4 * floor.std
    assert energy_distance(shuffled, reference) > floor.mean + 10 * floor.std


# Mode weights


def test_mode_weight_error():
    apart = GaussianMixture([0.3, 0.7], [[-9.0], [9.0]], np.ones((2, 1, 1)))
    draws = np.r_[np.full(50, -9.0), np.full(50, 9.0)]
    assert mode_weight_error(draws, apart) == pytest.approx(0.2)
    weights = np.r_[np.full(50, 3.0), np.full(50, 7.0)]
    assert mode_weight_error(draws, apart, weights) == pytest.approx(0, abs=1e-12)
    assert mode_weight_error(np.full(10, -9.0), apart) == pytest.approx(0.7)


def test_mode_weight_error_vanishes_for_exact_draws_of_overlapping_modes():
    """Counting each draw for its likeliest mode, instead, would be off by 0.1 here."""
    overlapping = GaussianMixture([0.2, 0.8], [[0.0], [1.0]], np.ones((2, 1, 1)))
    draws = overlapping.sample(200_000, seed=0)
    assert mode_weight_error(draws, overlapping) < 0.005
    hard = overlapping.responsibilities(draws).argmax(1)
    assert abs((hard == 0).mean() - 0.2) > 0.1


# The i.i.d. floor


def test_floor_falls_with_the_root_of_the_number_of_draws():
    target = two_ridges().condition({0: 1.0})
    for distance in (wasserstein, kolmogorov_smirnov):
        few, many = (iid_floor(distance, target, n, replicates=60) for n in (400, 6400))
        assert few.mean / many.mean == pytest.approx(4, rel=0.15)


def test_floor_of_kolmogorov_smirnov_is_the_known_limit():
    floor = iid_floor(kolmogorov_smirnov, normal(), 2_000, replicates=200)
    limit = stats.kstwobign  # distribution of sqrt(s) KS for large s
    assert floor.mean * np.sqrt(2_000) == pytest.approx(limit.mean(), rel=0.07)
    assert floor.std * np.sqrt(2_000) == pytest.approx(limit.std(), rel=0.2)


def test_floor_repeats_with_the_seed_and_replicates_differ():
    target = normal()
    floor = iid_floor(wasserstein, target, 100, seed=4)
    assert isinstance(floor, Floor) and floor == iid_floor(wasserstein, target, 100, seed=4)
    assert floor != iid_floor(wasserstein, target, 100, seed=5)
    assert floor.std > 0


def test_distances_reject_what_the_floor_accepts():
    """Exact draws score near the floor; slightly wrong ones do not."""
    target = two_ridges().condition({0: 1.0})
    draws = target.sample(5_000, seed=100)
    wrong_scale = target.mean + 1.1 * (draws - target.mean)
    decoder_means = target.means[target.responsibilities(draws).argmax(1)]
    for distance in (wasserstein, kolmogorov_smirnov):
        floor = iid_floor(distance, target, 5_000)
        assert distance(draws, target) < floor.mean + 4 * floor.std
        for broken in (draws + 0.06, wrong_scale, decoder_means, np.abs(draws)):
            assert distance(broken, target) > floor.mean + 4 * floor.std


# Bad input


def test_bad_input_is_refused():
    for distance in (wasserstein, kolmogorov_smirnov):
        with pytest.raises(ValueError, match="one column"):
            distance(np.zeros((4, 2)), normal())
        with pytest.raises(ValueError, match="one column"):
            distance([], normal())
        with pytest.raises(ValueError, match="finite"):
            distance([0.0, np.nan], normal())
        with pytest.raises(ValueError, match="one per draw"):
            distance([0.0, 1.0], normal(), weights=[1.0])
        with pytest.raises(ValueError, match="none negative"):
            distance([0.0, 1.0], normal(), weights=[1.0, -1.0])
    with pytest.raises(ValueError, match="same columns"):
        energy_distance(np.zeros((3, 2)), np.zeros((3, 1)))
    with pytest.raises(ValueError, match="reference"):
        energy_distance(np.zeros((3, 1)), np.zeros((0, 1)))
    with pytest.raises(ValueError, match="replicates"):
        iid_floor(wasserstein, normal(), 10, replicates=1)

    class Stuck:
        def cdf(self, x):
            return 0.5 + 0 * np.asarray(x)

    with pytest.raises(ValueError, match="from 0 to 1"):
        wasserstein([0.0], Stuck())
