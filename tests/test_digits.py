"""The digits: their split, the recipe, and draws that pass the check by ranks."""

import numpy as np
import pytest
from scipy.stats import kstest

import cvae_tutorial as ct
from cvae_tutorial.recipes import digits


@pytest.fixture(scope="module")
def grey():
    return digits.load_digits(binary=False)


def test_split_is_stratified_and_fixed(grey):
    train, test, train_labels, test_labels = grey
    assert train.shape == (4000, 784) and test.shape == (1000, 784)
    assert np.bincount(train_labels).tolist() == [400] * 10
    assert np.bincount(test_labels).tolist() == [100] * 10
    assert not {row.tobytes() for row in train} & {row.tobytes() for row in test}
    assert np.array_equal(np.unique(digits.binarise(test)), [0.0, 1.0])
    assert digits.binarise(np.array([127.0, 128.0])).tolist() == [0.0, 1.0]


def test_jitter_keeps_the_digit(grey):
    jitter = digits.JitteredDigits(grey[0][:1])
    rows = jitter.sample(200, seed=0)
    assert np.array_equal(rows, jitter.sample(200, seed=0))
    assert len(np.unique(rows, axis=0)) > 150  # it changes something
    original = digits.binarise(grey[0][:1])
    others = digits.binarise(grey[0][1:201])
    assert np.abs(rows - original).sum(1).mean() < 0.7 * np.abs(others - original).sum(1).mean()


def test_patches_are_laid_out_as_an_image():
    """The decoder's last layers only move numbers: patch (i, j) must land at pixels 4i to 4i + 3, 4j to 4j + 3."""
    decoder = digits.networks(2)[1]
    place = np.arange(16).reshape(4, 4)
    patches = np.zeros((1, 7, 7, 16), "float32")
    patches[0, 2, 5] = place.ravel()
    for layer in decoder.layers[-3:]:
        patches = layer(patches)
    image = np.asarray(patches).reshape(28, 28)
    assert np.array_equal(image[8:12, 20:24], place) and image.sum() == place.sum()


def test_published_checkpoint(grey):
    vae, card = ct.load_vae("digits"), ct.checkpoint_card("digits")
    rows = digits.binarise(grey[1])[::10]
    many, one = (digits.held_out_bound(vae, rows, draws) for draws in (100, 1))
    assert many > one + 4 and many > -95
    assert many == pytest.approx(card["reached"]["test_bound_200_nats"], abs=5)  # 100 of the 1,000 rows
    assert card["recipe"]["command"] == "python -m cvae_tutorial train digits"


def test_recipe_trains_and_saves(tmp_path, monkeypatch, grey):
    from cvae_tutorial.recipes.checkpoints import save_vae

    monkeypatch.setattr(digits, "load_digits", lambda binary=True: (grey[0][:200], grey[1][:50], None, None))
    vae, recipe, reached = digits.train(verbose=0, epochs=2, rows_per_epoch=2_000, warmup_epochs=1)
    assert reached["test_bound_1_nats"] > -400 and recipe["epochs"] == 2  # 784 log 2 = 543 before training
    save_vae(vae, "digits", recipe, reached, tmp_path)
    again = ct.load_vae("digits", tmp_path)
    z = np.random.default_rng(0).standard_normal((5, 10)).astype("float32")
    assert np.array_equal(vae.decode(z), again.decode(z))
    assert np.array_equal(vae.encode(grey[1][:3] > 127)[0], again.encode(grey[1][:3] > 127)[0])


def test_tempered_completions_pass_the_check_by_ranks():
    """The truth is a draw of the model, so it has any rank among the draws with equal probability."""
    vae = ct.load_vae("digits")
    truth, rng = vae.sample(60, seed=21), np.random.default_rng(22)
    seen = rng.random((60, 784)) < np.tile([[0.1], [0.5]], (30, 1))
    draws = ct.sample_conditional(
        vae,
        np.where(seen, truth, np.nan),
        19,
        ct.samplers.TemperedSMC(num_moves=2, num_populations=2, num_components=1),
        num_chains=192,
        seed=23,
        progress=False,
    ).values
    assert (draws.swapaxes(1, 2)[seen] == truth[seen][:, None]).all()
    everyone = np.concatenate([truth[:, None], draws], axis=1)
    ink = everyone.sum(-1)
    apart = np.abs(everyone[:, :, None, :] - everyone[:, None]).sum((-1, -2))
    for value in (ink, apart):
        ties = rng.random(value.shape)
        below = (value[:, 1:] < value[:, :1]) | ((value[:, 1:] == value[:, :1]) & (ties[:, 1:] < ties[:, :1]))
        ranks = (below.sum(1) + rng.random(60)) / 20
        assert kstest(ranks, "uniform").pvalue > 1e-3
