"""Recipes of the tables chapter: data, holes, and a short training on incomplete rows."""

import numpy as np
import pytest

import cvae_tutorial as ct
from cvae_tutorial.recipes import breast_cancer, penguins


def test_half_of_the_cells_are_hidden_and_the_others_kept():
    frame = breast_cancer.table()
    assert np.allclose(frame.mean(), 0) and np.allclose(frame.std(ddof=0), 1)
    patterns = set()
    for mask in breast_cancer.MASKS:
        holes, hidden = breast_cancer.hide(frame, mask)
        assert hidden.sum() == frame.size // 2
        assert (holes.isna().to_numpy() == hidden).all()
        assert (holes.to_numpy()[~hidden] == frame.to_numpy()[~hidden]).all()
        patterns.add(hidden.tobytes())
    assert len(patterns) == len(breast_cancer.MASKS)
    # The mask that MIWAE's notebook makes: the column mean scores 1.028 there.
    holes, hidden = breast_cancer.hide(frame, 1234)
    assert np.mean((holes.mean().to_numpy() - frame.to_numpy())[hidden] ** 2) == pytest.approx(1.028, abs=6e-4)


def test_penguins_keep_their_holes_and_their_names():
    frame = penguins.table()
    holes, hidden = penguins.hide(frame)
    assert frame.isna().sum().sum() == 19
    assert not (hidden & frame.isna().to_numpy()).any()
    assert (holes.isna().to_numpy() == (hidden | frame.isna().to_numpy())).all()
    assert 0.15 < hidden.mean() < 0.25
    vae = ct.load_vae("penguins")
    drawn = ct.sample_conditional(vae, holes.head(5), 20, seed=0, progress=False)
    answer = drawn.to_frame()
    for row in range(5):
        for name in frame:
            if holes.notna().loc[row, name]:
                assert (answer.loc[row, name] == frame.loc[row, name]).all()
    assert set(answer["sex"]) <= {"female", "male"}
    assert set(answer["year"]) <= {2007, 2008, 2009}


@pytest.mark.parametrize("recipe", [penguins, breast_cancer])
def test_recipe_learns_from_incomplete_rows(recipe):
    _, recipe_card, short = recipe.train(verbose=0, epochs=2)
    vae, _, longer = recipe.train(verbose=0, epochs=10)
    assert longer["bound_nats"] > short["bound_nats"]
    assert recipe_card["epochs"] == 2 and recipe_card["seed"] == 0
    assert np.isfinite(vae.sample(10, seed=0)).all()


@pytest.mark.parametrize("mask", breast_cancer.MASKS)
def test_every_mask_has_a_checkpoint(mask):
    name = "breast_cancer" if mask == 1234 else f"breast_cancer_{mask}"
    vae, card = ct.load_vae(name), ct.checkpoint_card(name)
    assert f"seed {mask}" in card["recipe"]["data"]
    assert vae.num_features == 30
