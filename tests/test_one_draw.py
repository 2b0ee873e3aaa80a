"""One draw per row, over thousands of rows, where one mode is rare: a reading by position shows here."""

import math

import numpy as np
import pytest
import tensorflow as tf
from scipy.special import logsumexp

import cvae_tutorial as ct
from cvae_tutorial import samplers

ROWS = 4_000


class RareMode:
    """x0 = z² with scale 0.3 and x1 = 2 tanh(5 z) with scale 1; the encoder reads the sign off x1."""

    latent_dim = 1
    likelihood = ct.Normal()

    def decode(self, z):
        loc = tf.concat([tf.square(z), 2.0 * tf.tanh(5.0 * z)], -1)
        return loc, tf.broadcast_to(tf.constant([0.3, 1.0]), tf.shape(loc))

    def encode(self, x):
        size = tf.sqrt(tf.maximum(x[..., :1], 0.01))
        return size * tf.tanh(x[..., 1:2]), 0.3 + tf.zeros_like(size)


EVIDENCE = {0: 4.0, 1: 0.97}


def weight_of_the_small_mode():
    z = np.linspace(-8.0, 8.0, 400_001)
    log_gamma = -0.5 * (z**2 + ((4.0 - z**2) / 0.3) ** 2 + (0.97 - 2.0 * np.tanh(5.0 * z)) ** 2)
    return math.exp(logsumexp(log_gamma[z < 0]) - logsumexp(log_gamma))


class WithZ(RareMode):
    """The same with z itself as an unobserved third column, of hardly any noise."""

    def decode(self, z):
        loc, scale = super().decode(z)
        return tf.concat([loc, z], -1), tf.concat([scale, tf.fill(tf.shape(z), 0.01)], -1)


METHODS = {
    "importance": samplers.Importance(),
    "lair": samplers.LAIR(),
    "tempered_smc": samplers.TemperedSMC(),
    "adaptive_collapsed": samplers.AdaptiveCollapsed(),
    "laplace": samplers.Laplace(),
    "auto": samplers.Auto(),
}


@pytest.mark.filterwarnings("ignore::cvae_tutorial.SamplingWarning")
@pytest.mark.parametrize("num_samples", [1, 5])
@pytest.mark.parametrize("name", METHODS)
def test_first_draw_meets_the_rare_mode_as_often_as_it_should(name, num_samples):
    weight = weight_of_the_small_mode()
    assert weight == pytest.approx(0.0202, abs=1e-4)
    table = np.tile([4.0, 0.97, np.nan], (ROWS, 1))
    settings = {"warmup": 100, "thin": 10, "num_chains": 4} if name == "adaptive_collapsed" else {}
    draws = ct.sample_conditional(WithZ(), table, num_samples, METHODS[name], seed=0, progress=False, **settings)
    share = (draws.values[:, 0, 2] < 0).mean()
    error = math.sqrt(weight * (1 - weight) / ROWS)
    assert abs(share - weight) <= 3 * error, f"{share:.4f} for {weight:.4f} ± {error:.4f}"
