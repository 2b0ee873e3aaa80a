"""The commands: the origin note's results, and a checkpoint trained anew."""

import numpy as np
import pytest

import cvae_tutorial as ct
from cvae_tutorial import __main__ as commands
from cvae_tutorial.recipes import two_ridges


def published(verbose):
    """In place of a minute's training: what that training gave."""
    return ct.load_vae("two_ridges"), {}, {}


def test_the_notes_three_results(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(commands, "train_two_ridges", published)
    returned, reproduce = [], commands.reproduce_note
    monkeypatch.setattr(commands, "reproduce_note", lambda folder: returned.append(reproduce(folder)))
    commands.main(["--output", str(tmp_path / "note")])
    figures = sorted((tmp_path / "note").iterdir())
    assert [path.name for path in figures] == ["1_mixture.png", "2_conditional.png", "3_joint.png"]
    for path in figures:
        assert path.read_bytes().startswith(b"\x89PNG") and path.stat().st_size > 5_000
    said = capsys.readouterr().out
    distance = {
        line.split()[0]: float(line.split()[1])
        for line in said.splitlines()
        if line.startswith(("  one_pass", "  auto"))
    }
    assert distance["auto"] <= 0.03 and 0.3 <= distance["one_pass"] <= 1.1
    assert returned[0] == pytest.approx(distance, abs=6e-4)
    covariance = [
        [float(cell) for cell in line.replace("[", " ").replace("]", " ").split()]
        for line in said.splitlines()
        if line.startswith("  ") and line.count("[") == 2
    ]
    ours, true = np.array(covariance)[:, ::2], np.array(covariance)[:, 1::2]
    np.testing.assert_allclose(true, ct.two_ridges().covariance, atol=6e-4)
    np.testing.assert_allclose(ours, true, atol=0.1)


def test_train_writes_a_checkpoint(tmp_path, monkeypatch, capsys):
    def untrained(verbose):
        vae = ct.VAE(num_features=2, hidden=(4,), seed=0)
        vae.compile()
        return vae, {}, {}

    monkeypatch.setattr(two_ridges, "train", untrained)
    commands.main(["train", "two_ridges", "--output", str(tmp_path)])
    assert "two_ridges.npz" in capsys.readouterr().out
    assert ct.load_vae("two_ridges", tmp_path).num_features == 2


@pytest.mark.parametrize("arguments", [["train"], ["train", "no_such"], ["draw"]])
def test_commands_that_do_not_exist(arguments, capsys):
    with pytest.raises(SystemExit) as error:
        commands.main(arguments)
    assert error.value.code == 2 and "usage: python -m cvae_tutorial" in capsys.readouterr().err
