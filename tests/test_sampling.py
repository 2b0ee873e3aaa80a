"""Tests of the loop that runs the methods."""

import numpy as np
import pytest
import tensorflow as tf

import cvae_tutorial as ct


@pytest.mark.filterwarnings("ignore::cvae_tutorial.SamplingWarning")
@pytest.mark.parametrize("method", sorted(ct.samplers.METHODS))
def test_one_model_gives_any_number_of_draws_in_turn(method):
    vae = ct.VAE(num_features=2, hidden=(4,), seed=0)
    for num_samples in (30, 10, 1):
        draws = ct.sample_conditional(vae, {0: 1.0}, num_samples, method=method, seed=0, progress=False)
        assert draws.values.shape == (num_samples, 2)
        assert np.isfinite(draws.values).all()


@pytest.mark.filterwarnings("ignore::cvae_tutorial.SamplingWarning")
def test_methods_in_turn_bring_no_word_of_retracing(caplog, monkeypatch):
    monkeypatch.setattr(tf.get_logger(), "propagate", True)
    vae = ct.VAE(num_features=2, hidden=(4,), seed=0)
    for method in sorted(ct.samplers.METHODS):
        for chains in (4, 5):
            ct.sample_conditional(vae, {0: 1.0}, 8, method, seed=0, num_chains=chains, progress=False)
    assert "retracing" not in caplog.text
