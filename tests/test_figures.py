"""The figure gate and the number gate: what they let pass, and what they do not."""

import base64
import io

import matplotlib.pyplot as plt
import nbformat
import numpy as np
import pytest
from nbformat.v4 import new_output

import gates
import pictures
from cvae_tutorial.plotting import METHOD_COLORS, conditional_histogram, set_style
from text_form import describe

GRID = np.linspace(-3, 3, 400)
LEVEL = gates.Tolerance().level


def density(x, weight=0.128, left=-1.44, right=0.98, scale=0.198):
    def normal(mean):
        return np.exp(-0.5 * ((x - mean) / scale) ** 2) / scale / np.sqrt(2 * np.pi)

    return weight * normal(left) + (1 - weight) * normal(right)


def draws(seed=0, weight=0.128, right=0.98, size=5_000):
    rng = np.random.default_rng(seed)
    return np.where(rng.random(size) < weight, -1.44, right) + 0.198 * rng.normal(size=size)


def points(seed=0):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(4_000, 2)) @ np.array([[0.72, 0.69], [0, 0.2]])


def published(figure):
    """The outputs a notebook would hold for a figure."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", bbox_inches="tight")
    data = {"image/png": base64.b64encode(buffer.getvalue()).decode(), "text/plain": describe(figure)}
    plt.close(figure)
    return [new_output("display_data", data)]


def histogram(values=None, title="$X_1$ given $X_0 = 1$", label="$X_1$", move=0.0, curve=True, method="lair", rc=()):
    set_style()
    with plt.rc_context(dict(rc)):
        ax = conditional_histogram(
            draws() if values is None else values, GRID, density(GRID - move), method=method, title=title
        )
        ax.set_xlabel(label)
        if not curve:
            ax.lines[0].remove()
        return published(ax.figure)


def scatter(x, color="#8C8C8C", axis="linear"):
    set_style()
    figure, ax = plt.subplots(figsize=(5, 4))
    ax.scatter(*x.T, s=2, color=color)
    ax.set(xlim=(-4, 4), ylim=(-4, 4), xlabel="$X_0$", ylabel="$X_1$", xscale=axis)
    return published(figure)


def flipped(values, number, other):
    """A few draws replaced, as where a processor rounds an acceptance the other way."""
    values = values.copy()
    values[:number] = other[:number]
    return values


def noise(shape, size):
    return size * np.random.default_rng(1).normal(size=shape)


REAL_CHANGES = {
    "draws of another seed": lambda: histogram(draws(1)),
    "a mode's weight": lambda: histogram(draws(weight=0.16)),
    "a mode's place": lambda: histogram(draws(right=1.03)),
    "a mode gone": lambda: histogram(draws(weight=0.0)),
    "half the draws": lambda: histogram(draws(size=2_500)),
    "the curve gone": lambda: histogram(curve=False),
    "the curve moved": lambda: histogram(move=0.05),
    "a digit in the title": lambda: histogram(title="$X_1$ given $X_0 = 2$"),
    "a digit in a label": lambda: histogram(label="$X_0$"),
    "another method's colour": lambda: histogram(method="importance"),
}


@pytest.mark.parametrize("change", REAL_CHANGES)
def test_gate_rejects_a_real_change(change):
    assert gates.compare_outputs(REAL_CHANGES[change](), histogram())


SCATTER_CHANGES = {
    "other points of the same distribution": lambda: scatter(points(1)),
    "mirrored": lambda: scatter(points() * [1, -1]),
    "half the points": lambda: scatter(points()[:2_000]),
    "another colour": lambda: scatter(points(), color=METHOD_COLORS["one_pass"]),
    "another scale": lambda: scatter(points(), axis="symlog"),
}


@pytest.mark.parametrize("change", SCATTER_CHANGES)
def test_gate_rejects_a_changed_scatter(change):
    assert gates.compare_outputs(SCATTER_CHANGES[change](), scatter(points()))


@pytest.mark.parametrize("change", ["draws of another seed", "a mode's place", "the curve gone", "the curve moved"])
def test_pixels_alone_reject(change):
    new, old = REAL_CHANGES[change]()[0].data["image/png"], histogram()[0].data["image/png"]
    assert gates.picture_difference(base64.b64decode(new), base64.b64decode(old)) > 2 * LEVEL


@pytest.mark.parametrize("change", ["a digit in the title", "a digit in a label", "a mode gone", "the curve gone"])
def test_text_form_alone_rejects(change):
    assert gates.compare_text(REAL_CHANGES[change]()[0].data["text/plain"], histogram()[0].data["text/plain"])


CALM = {
    "rounding in the draws": lambda: histogram(draws() + noise(5_000, 1e-3)),
    "ten draws of 5,000 flipped": lambda: histogram(flipped(draws(), 10, draws(5))),
    "no hinting": lambda: histogram(rc={"text.hinting": "none"}),
    "no antialiasing of text": lambda: histogram(rc={"text.antialiased": False}),
    "no antialiasing of lines": lambda: histogram(rc={"lines.antialiased": False, "patch.antialiased": False}),
    "a slightly thicker line": lambda: histogram(rc={"lines.linewidth": 1.7}),
}


@pytest.mark.parametrize("change", CALM)
def test_gate_lets_a_machine_differ(change):
    assert gates.compare_outputs(CALM[change](), histogram()) == []


@pytest.mark.parametrize("new", [points() + noise((4_000, 2), 1e-2), flipped(points(), 5, points(3))])
def test_gate_lets_a_scatter_differ_a_little(new):
    assert gates.compare_outputs(scatter(new), scatter(points())) == []


def test_other_size_is_a_difference():
    figure, _ = plt.subplots(figsize=(6, 4))
    assert gates.compare_outputs(published(figure), histogram())


def test_unseeded_content_fails_its_own_rerun():
    rng = np.random.default_rng()
    assert gates.compare_outputs(scatter(rng.normal(size=(4_000, 2))), scatter(rng.normal(size=(4_000, 2))))


@pytest.mark.parametrize(
    "new, old",
    [
        ("W1 = 0.412", "W1 = 0.411"),  # one unit in the last place
        ("W1 = 101.0", "W1 = 100.2"),  # one per cent
        ("1.234e-05", "1.24e-05"),
        ("[ 0.128  0.872]", "[0.128 0.872]"),  # white space
        ("n = 5,000", "n = 5,000"),
        ("-0.0", "0.0"),
        ("[1.50,20.5]", "[1.51,20.4]"),  # a comma between numbers
        ('<path d="M0.1 6.0L120.8 123.8L119.7 4.0Z"/>', '<path d="M0.1 6.0L120.9 123.7L119.7 4.0Z"/>'),
        ('<path d="M1.5-2.25.5e-1,7.0z"/>', '<path d="M 1.6 -2.24 0.06 7.0 z"/>'),
    ],
)
def test_numbers_that_count_as_equal(new, old):
    assert gates.compare_text(new, old) == []


@pytest.mark.parametrize(
    "new, old",
    [
        ("W1 = 0.42", "W1 = 0.40"),
        ("W1 = 1.03e-02", "W1 = 1.00e-02"),
        ("n = 5,001", "n = 5,000"),  # whole numbers must be equal
        ("X1 = 0.40", "X0 = 0.40"),  # a digit in a name is no number
        ("R-hat 1.01", "R-hat"),
        ("0.40 nan", "0.40 0.41"),
        ("-0.40", "0.40"),
        ("LAIR 0.40", "lair 0.40"),
        ("[10,20.5]", "[10,23.5]"),
        ("W1", "W2"),
        ("float32 of 2D", "float64 of 2D"),
        ("float32 of 2D", "float32 of 3D"),
        ("12.50s", "12.51s"),
        ("TensorFlow 2.21.0", "TensorFlow 2.20.0"),
        ("sha 3141e59", "sha 3142e59"),
        ("sha L1.508a", "sha L1.509a"),  # only path data may touch letters
        ('<a id="L1.50"/>', '<a id="L1.51"/>'),
        ('<b d="L1.50"/>', '<b d="L1.51"/>'),  # a path starts with a move
        ('<path d="M0.1 6.0L120.8 123.8"/>', '<path d="M0.1 6.0L123.8 123.8"/>'),
        ('<path d="M0.1 6.0L120.8 123.8"/>', '<path d="M0.1 6.0H120.8V123.8"/>'),
        ('<path d="M10 20H30"/>', '<path d="M10 20H31"/>'),
    ],
)
def test_numbers_that_differ(new, old):
    assert gates.compare_text(new, old)


def test_a_cell_may_state_its_own_tolerance():
    cell = nbformat.v4.new_code_cell(metadata={"gate": {"rtol": 0.1, "why": "trains a model"}})
    loose = gates.Tolerance.of(cell)
    assert gates.compare_text("loss 1.55, step 105", "loss 1.45, step 100", loose) == []
    assert gates.compare_text("loss 1.75", "loss 1.45", loose)


def html(words="W1 0.41", script="const w = [0.5, 'abc'];", data="aGVsbG8="):
    text = f'<x-y><img src="data:image/svg+xml;base64,{data}" alt="{words}"></x-y><script>{script}</script>'
    return [new_output("display_data", {"text/html": text})]


def test_scripts_and_embedded_data_are_compared_as_they_are():
    """A weight that a script holds is no printed number, and what looks like text in it is none."""
    assert gates.compare_outputs(html(words="W1 0.42"), html()) == []
    assert gates.compare_outputs(html(words="W1 0.52"), html())
    assert gates.compare_outputs(html(script="const w = [0.501, 'abc'];"), html())
    assert gates.compare_outputs(html(data="aGVsbG9="), html())


def test_a_script_is_not_taken_for_what_a_cell_prints():
    notebook = nbformat.v4.new_notebook()
    notebook.cells = [
        nbformat.v4.new_code_cell("f()", outputs=html(script=f"Text(1); '{'/'.join(['', 'home', 'x'])}'; '<Axes'"))
    ]
    assert gates._check_code(notebook.cells[0]) == []
    notebook.cells[0].outputs = html(words="Text(1)")
    assert gates._check_code(notebook.cells[0])


@pytest.mark.parametrize("dpi", [72, 120])
def test_smallest_text_of_a_figure_is_known(dpi):
    with plt.rc_context({"figure.dpi": dpi, "savefig.dpi": "figure", "font.size": 10}):
        figure, ax = plt.subplots(figsize=(6, 3))
        ax.set_xlabel("points", fontsize=9)
        ax.text(0.5, 0.5, "", fontsize=2)
        ax.text(0.5, 0.5, "hidden", fontsize=2, visible=False)
        assert "smallest text: 9.0 pt" in describe(figure)
        ax.set_ylabel("$x^2$", fontsize=10)  # an exponent is set at 0.7 of the size
        outputs = published(figure)[0].data
    assert "smallest text: 7.0 pt" in outputs["text/plain"]
    png = base64.b64decode(outputs["image/png"])
    width, text = pictures.text_pixels(png, outputs["text/plain"])
    assert abs(width - 6 * dpi) < 0.2 * 6 * dpi and text == pytest.approx(7 * dpi / 72, rel=0.01)
    least = pictures.least_width(png, outputs["text/plain"])
    assert text * least / width == pytest.approx(pictures.SMALLEST, rel=0.01)
    assert pictures.least_width(png, "Figure of 1 panels") is None


def test_missing_or_added_output_is_a_difference():
    figure, stream = histogram(), [new_output("stream", name="stdout", text="0.4\n")]
    assert gates.compare_outputs([], figure)
    assert gates.compare_outputs(figure, [])
    assert gates.compare_outputs(stream, figure)
    assert gates.compare_outputs([new_output("stream", name="stderr", text="w\n")], [])


def test_colours_of_methods_are_distinct_and_truth_is_black():
    from cvae_tutorial import plotting
    from cvae_tutorial.samplers import METHODS

    assert plotting.TRUTH == "black"
    colours = list(plotting.METHOD_COLORS.values())
    assert len(set(colours)) == len(colours) and set(plotting.METHOD_COLORS) == {*METHODS, "auto"}
    assert set(plotting.METHOD_COLORS) == set(plotting.METHOD_LABELS)


def test_draws_outside_the_histogram_are_counted():
    ax = conditional_histogram([0.0, 0.1, 9.0], GRID, density(GRID))
    assert "1 of 3 outside" in ax.get_legend().get_texts()[0].get_text()
    steps = ax.patches[0].get_data()
    assert np.isclose(np.sum(steps.values * np.diff(steps.edges)), 2 / 3)
    plt.close(ax.figure)


@pytest.mark.slow
def test_drawings_are_those_their_script_makes(tmp_path):
    """The README's picture and the logo reproduce like any figure; `python book/drawings.py` renews them."""
    import importlib.util

    import book

    path = book.BOOK / "drawings.py"
    spec = importlib.util.spec_from_file_location("drawings", path)
    drawings = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(drawings)
    drawings.draw(tmp_path)
    for name in ("logo.svg", "favicon.svg"):
        new, old = ((folder / name).read_text(encoding="utf8") for folder in (tmp_path, book.BOOK / "_static"))
        assert gates.compare_text(new, old, gates.Tolerance(rtol=0)) == []  # one unit in the last place
    new, old = (tmp_path / "question.png").read_bytes(), (book.BOOK / "_static/question.png").read_bytes()
    assert gates.picture_difference(new, old) <= LEVEL
