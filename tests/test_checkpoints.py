"""Published weights: refused when altered, rebuilt by their recipe, the same on other processors."""

import json
import os
import subprocess
import sys
import warnings

import numpy as np
import pytest

import cvae_tutorial as ct
from cvae_tutorial.distances import iid_floor, wasserstein
from cvae_tutorial.recipes import rebuild, two_ridges
from cvae_tutorial.recipes.checkpoints import WEIGHTS, save_vae


@pytest.fixture
def copies(tmp_path):
    """The two published files, in a folder where they can be spoilt."""
    for path in WEIGHTS.glob("two_ridges.*"):
        (tmp_path / path.name).write_bytes(path.read_bytes())
    return tmp_path


def test_the_published_checkpoint():
    vae, card = ct.load_vae("two_ridges"), ct.checkpoint_card("two_ridges")
    assert {"sha256", "recipe", "reached", "versions"} == set(card)
    assert set(card["versions"]) == {"python", "keras", "tensorflow", "numpy"}
    assert card["reached"]["bound_nats"] >= -1.485
    bounds = vae.bound(ct.two_ridges().sample(20_000, seed=1))[0].numpy()
    assert bounds.std() / np.sqrt(len(bounds)) < 0.0075
    assert bounds.mean() == pytest.approx(card["reached"]["bound_nats"], abs=0.03)  # four standard errors
    assert all(path.stat().st_size < 2_000_000 for path in WEIGHTS.iterdir())


def test_altered_weights_are_refused(copies):
    assert ct.load_vae("two_ridges", copies).num_features == 2
    stored = bytearray((copies / "two_ridges.npz").read_bytes())
    stored[len(stored) // 2] ^= 1  # one bit
    (copies / "two_ridges.npz").write_bytes(stored)
    with pytest.raises(ValueError, match="not the published ones.*SHA-256.*python -m cvae_tutorial train two_ridges"):
        ct.load_vae("two_ridges", copies)


def test_no_pickle_is_ever_read(copies):
    """Even with a hash that fits: an object array runs code when it is unpickled."""
    import hashlib

    with open(copies / "two_ridges.npz", "wb") as file:
        np.savez(file, weight_0=np.array([print], dtype=object))
    card = json.loads((copies / "two_ridges.json").read_text())
    card["sha256"] = hashlib.sha256((copies / "two_ridges.npz").read_bytes()).hexdigest()
    (copies / "two_ridges.json").write_text(json.dumps(card))
    with pytest.raises(ValueError, match="allow_pickle"):
        ct.load_vae("two_ridges", copies)


def test_unknown_names(tmp_path):
    with pytest.raises(ValueError, match=r"no checkpoint 'no_such'; published are \[.*'two_ridges'\]"):
        ct.load_vae("no_such")
    with pytest.raises(ValueError, match="no recipe for 'no_such'"):
        rebuild("no_such", tmp_path)


def test_rebuild_writes_what_load_reads(tmp_path, monkeypatch):
    train = two_ridges.train
    short = {"epochs": 2, "steps_per_epoch": 10, "batch_size": 50}
    monkeypatch.setattr(two_ridges, "train", lambda verbose: train(verbose, **short))
    vae = rebuild("two_ridges", tmp_path / "new", verbose=0)
    again = ct.load_vae("two_ridges", tmp_path / "new")
    assert all((a == b).all() for a, b in zip(vae.get_weights(), again.get_weights(), strict=True))
    card = ct.checkpoint_card("two_ridges", tmp_path / "new")
    assert card["recipe"]["epochs"] == 2 and np.isfinite(card["reached"]["bound_nats"])
    published = ct.checkpoint_card("two_ridges")
    assert set(card["recipe"]) == set(published["recipe"]) and card["versions"].keys() == published["versions"].keys()


def test_mixed_columns_survive_the_card(tmp_path):
    likelihood = ct.Columns({"mass": ct.Normal(), "sex": ct.Categorical(("f", "m"))})
    vae = ct.VAE(likelihood=likelihood, hidden=(3,), seed=0)
    vae.adapt(np.array([[1.0, "f"], [3.0, "m"]], dtype=object))
    save_vae(vae, "pair", {}, {}, tmp_path)
    again = ct.load_vae("pair", tmp_path)
    assert again.likelihood == likelihood and again.feature_names == ("mass", "sex")
    assert again.adapted == 1.0 and (again.sample(5, seed=0) == vae.sample(5, seed=0)).all()


def test_fresh_rows_are_fresh_and_repeat_with_the_seed():
    rows, same, other = (ct.FreshRows(ct.two_ridges(), 100, 30, seed) for seed in (0, 0, 1))
    assert len(rows) == 3 and rows[2][0].shape == (30, 2) and rows[0][0].dtype == np.float32
    assert (rows[1][0] == same[1][0]).all() and (rows[1][0] != other[1][0]).all()
    first = rows[0][0].copy()
    rows.on_epoch_end(), same.on_epoch_end()
    assert (rows[0][0] != first).all() and (rows[0][0] == same[0][0]).all()


DRAW = """
import sys
import numpy as np
import cvae_tutorial as ct
vae = ct.load_vae("two_ridges")
table = np.array([[x0, np.nan] for x0 in (-1.0, 0.0, 1.0)])
settings = {"seed": 0, "progress": False}
methods = {m: m for m in ("lair", "importance", "tempered_smc")}
methods["adaptive_collapsed"] = ct.samplers.AdaptiveCollapsed(num_chains=500, warmup=100, thin=20)
np.savez(
    sys.argv[1], joint=vae.sample(2_000, seed=0),
    **{name: ct.sample_conditional(vae, table, 2_000, m, **settings).values[..., 1] for name, m in methods.items()},
)
"""


def test_other_threads_and_instructions(tmp_path, monkeypatch):
    """One thread and an old instruction set against the machine's own.

    Float32 sums round otherwise there. What the networks return moves by rounding. A sampler's draws are
    others, wherever one rounded bit flips an index or an acceptance, and come from the same distribution.
    """
    here, there = tmp_path / "here.npz", tmp_path / "there.npz"
    plain = {"ONEDNN_MAX_CPU_ISA": "SSE41", "TF_NUM_INTRAOP_THREADS": "1", "CUDA_VISIBLE_DEVICES": "-1"}
    subprocess.run([sys.executable, "-W", "ignore", "-c", DRAW, str(there)], check=True, env=os.environ | plain)
    monkeypatch.setattr(sys, "argv", ["", str(here)])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ct.SamplingWarning)
        exec(DRAW, {})
    here, there = np.load(here), np.load(there)
    np.testing.assert_allclose(here["joint"], there["joint"], atol=1e-4)
    for i, x0 in enumerate((-1.0, 0.0, 1.0)):
        exact = ct.exact.quadrature(ct.load_vae("two_ridges"), {0: x0}).column(1)
        floor, middle = iid_floor(wasserstein, exact, 2_000, replicates=40), exact.mean[0]
        weight = exact.cdf(middle)
        for draws in (here, there):
            for method in ("lair", "importance", "tempered_smc", "adaptive_collapsed"):
                distance = wasserstein(draws[method][i], exact)
                assert distance < floor.mean + 5 * floor.std, (method, x0, distance)
                off = (draws[method][i] < middle).mean() - weight
                assert abs(off) < 5 * np.sqrt(weight * (1 - weight) / 2_000), (method, x0, off)
