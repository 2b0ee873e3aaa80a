"""What a course takes with it: quizzes that are right, notebooks without solutions, slides, wheel and zip."""

import ast
import io
import itertools
import re
import types
import zipfile
from functools import cache
from pathlib import Path

import nbformat
import numpy as np
import pytest
from bs4 import BeautifulSoup
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

import book
import cvae_tutorial as ct
import lab
import student
from cvae_tutorial.distances import iid_floor, wasserstein

ROOT = Path(__file__).resolve().parent.parent
CHAPTERS = student.chapters()
TITLES = {int(Path(n).name[:2]): student.title(nbformat.read(ROOT / f"{n}.ipynb", as_version=4)) for n in CHAPTERS}


def read(name):
    return nbformat.read(ROOT / f"{name}.ipynb", as_version=4)


# ---------------------------------------------------------------- quizzes

QUIZZES = (ROOT / "book/quizzes.md").read_text(encoding="utf8")
SECTION = re.compile(r"^\(quiz-(\d\d)\)=\n## Chapter (\d+)\. (.+)$", re.M)
QUESTION = re.compile(r"^\*\*Question (\d+)\.(\d+)\.\*\* (.+)$", re.M)
CHOICE = re.compile(r"<details><summary>([A-D])\. (.+?)</summary>\n\n\*\*(Right|No)\.\*\* (.+?)\n\n</details>", re.S)


def quiz():
    """Each section's number and title, with its questions: number, text, choices and checks."""
    parts = SECTION.split(QUIZZES)[1:]
    for label, number, title, body in zip(parts[::4], parts[1::4], parts[2::4], parts[3::4], strict=True):
        assert int(label) == int(number)
        pieces = QUESTION.split(body)[1:]
        questions = [
            (int(chapter), int(count), text, CHOICE.findall(rest), re.findall(r"^% check: (.+)$", rest, re.M))
            for chapter, count, text, rest in zip(pieces[::4], pieces[1::4], pieces[2::4], pieces[3::4], strict=True)
        ]
        yield int(number), title, questions


QUIZ = list(quiz())
QUESTIONS = [(*q,) for _, _, questions in QUIZ for q in questions]
CHECKS = [(f"{q[0]}.{q[1]}", check) for q in QUESTIONS for check in q[4]]


def test_every_chapter_has_a_quiz_under_its_own_title():
    assert {number: title for number, title, _ in QUIZ} == TITLES


@pytest.mark.parametrize("number, title, questions", QUIZ, ids=[str(n) for n, _, _ in QUIZ])
def test_five_questions_with_one_right_answer_each(number, title, questions):
    assert [q[:2] for q in questions] == [(number, n) for n in range(1, 6)]
    for _, _, text, choices, _ in questions:
        assert text.endswith(("?", ".")) and len(text) > 20
        assert [letter for letter, *_ in choices] == ["A", "B", "C", "D"][: len(choices)] and len(choices) >= 3
        assert [verdict for _, _, verdict, _ in choices].count("Right") == 1
        for _, _, _, explanation in choices:
            assert len(explanation) > 20


def test_no_choice_is_lost_to_a_slip_of_form():
    assert QUIZZES.count("<details>") == QUIZZES.count("</details>") == sum(len(q[3]) for q in QUESTIONS)
    assert QUIZZES.count("% check:") == len(CHECKS) > 15


def test_the_right_answer_cannot_be_guessed_from_its_place_or_length():
    right = [next(i for i, c in enumerate(q[3]) if c[2] == "Right") for q in QUESTIONS]
    assert all(right.count(place) >= len(right) / 5 for place in range(3))
    longest = [
        max(range(len(q[3])), key=lambda i, q=q: len(q[3][i][1])) == place
        for q, place in zip(QUESTIONS, right, strict=True)
    ]
    assert sum(longest) < 0.6 * len(right)


def test_formulae_do_not_stand_where_html_is_not_read_as_markdown():
    for question in QUESTIONS:
        for _, summary, _, _ in question[3]:
            assert "$" not in summary and "`" not in summary and "*" not in summary


# What the checks of the quizzes may use.


@cache
def vae():
    return ct.load_vae("two_ridges")


def log_evidence(row):
    return ct.exact.quadrature(vae(), np.array(row, "float32")).log_evidence


def exact_elbo(row):
    from scipy.stats import norm

    steps = np.linspace(-6, 6, 201)
    nodes = np.stack(np.meshgrid(steps, steps), -1).reshape(-1, 2)
    mass = norm.pdf(nodes).prod(1)
    m, s = (a.numpy() for a in vae().encode(np.array(row, "float32")))
    z = (m + s * nodes).astype("float32")
    loc, scale = (a.numpy() for a in vae().decode(z))
    value = norm.logpdf(row, loc, scale).sum(1) + norm.logpdf(z).sum(1) - norm.logpdf(z, m, s).sum(1)
    return mass @ value / mass.sum()


def stationary(matrix):
    values, vectors = np.linalg.eig(np.array(matrix, float).T)
    one = vectors[:, np.argmax(values.real)].real
    return one / one.sum()


def share_of_one(completion, gamma=(0.8, 0.2), encoder=((0.9, 0.1), (0.1, 0.9))):
    """Time at z = 1 of a collapsed chain whose completion has the law completion[z] at the present z."""
    moves = np.zeros((2, 2))
    for a, b in [(0, 1), (1, 0)]:
        for x in (0, 1):
            accept = min(1, gamma[b] * encoder[x][a] / (gamma[a] * encoder[x][b]))
            moves[a, b] += completion[a][x] * encoder[x][b] * accept
    np.fill_diagonal(moves, 1 - moves.sum(1))
    return stationary(moves)[1]


def past_narrows(hurst, known=16):
    """Share by which the values before the last known one narrow the forecast of the next."""
    t = np.arange(1, 33) / 32
    power = 2 * hurst
    covariance = (t[:, None] ** power + t**power - np.abs(t[:, None] - t) ** power) / 2

    def spread(columns):
        block = covariance[np.ix_(columns, columns)]
        across = covariance[known, columns]
        return np.sqrt(covariance[known, known] - across @ np.linalg.solve(block, across))

    return 1 - spread(np.arange(known)) / spread(np.array([known - 1]))


def effective_share(epsilon):
    """Effective share of proposals when the guide is exact: a normal posterior in a standard normal prior."""
    from scipy.stats import norm

    z = np.linspace(-8, 8, 100_001)
    prior, posterior = norm.pdf(z), norm.pdf(z, 1, 0.3)
    mixture = (1 - epsilon) * posterior + epsilon * prior
    return 1 / np.sum(posterior**2 / mixture * (z[1] - z[0]))


def says(title, pattern):
    """Whether a chapter, named by how its title starts, prints or says something."""
    number = next(n for n, t in TITLES.items() if t.startswith(title))
    notebook = read(next(n for n in CHAPTERS if Path(n).name.startswith(f"{number:02d}")))
    texts = [c.source for c in notebook.cells if c.cell_type == "markdown"]
    texts += [o.get("text", "") for c in notebook.cells if c.cell_type == "code" for o in c.outputs]
    return any(re.search(pattern, text) for text in texts)


@cache
def surroundings():
    mixture = ct.two_ridges()
    return {
        "np": np,
        "mixture": mixture,
        "at_1": mixture.condition({0: 1.0}),
        "half": mixture.condition({0: 0.5}),
        "x1": np.linspace(-3, 3, 601),
    } | {
        f.__name__: f
        for f in [
            wasserstein,
            iid_floor,
            log_evidence,
            exact_elbo,
            stationary,
            share_of_one,
            past_narrows,
            effective_share,
            says,
        ]
    }


@pytest.mark.parametrize("number, check", CHECKS, ids=[f"{n}-{i}" for i, (n, _) in enumerate(CHECKS)])
def test_what_a_quiz_claims(number, check):
    assert eval(check, dict(surroundings()))  # of our own page


def test_a_decimal_number_in_an_answer_is_checked():
    for chapter, count, text, choices, checks in QUESTIONS:
        said = text + " ".join(c[3] for c in choices if c[2] == "Right")
        numbers = re.findall(r"(?<![\w.])\d+\.\d+(?![\d.])", said)
        assert not numbers or checks, f"question {chapter}.{count} states {numbers} without a check"


# ---------------------------------------------------------------- student notebooks


@cache
def files():
    return student.copies(ROOT)


def copy_of(kind, name):
    return nbformat.reads(files()[f"{kind}/{Path(name).name}.ipynb"].decode(), as_version=4)


@pytest.mark.parametrize("name", CHAPTERS)
def test_a_student_notebook_holds_no_solution(name):
    published, copy = read(name), copy_of("student", name)
    solutions = [c.source for c in published.cells if "solution" in c.metadata.get("tags", [])]
    assert len(solutions) >= 4
    text = "\n".join(c.source for c in copy.cells)
    for source in solutions:
        # Not the cell, and none of its lines that only a solution holds.
        assert source not in text
        elsewhere = "\n".join(c.source for c in published.cells if "solution" not in c.metadata.get("tags", []))
        for line in source.splitlines():
            if len(line.strip()) > 25 and line not in elsewhere:
                assert line not in text, line
    assert not any(c.get("outputs") or c.get("execution_count") for c in copy.cells)
    assert "solution" not in {t for c in copy.cells for t in c.metadata.get("tags", [])}


@pytest.mark.parametrize("name", CHAPTERS)
def test_a_student_notebook_has_a_blank_after_each_exercise(name):
    published, copy = read(name), copy_of("student", name)
    asked = [n for c in published.cells if c.cell_type == "markdown" for n in student.EXERCISE.findall(c.source)]
    blanks = [c for c in copy.cells if "blank" in c.metadata.get("tags", [])]
    assert [re.search(r"\d+\.\d+", c.source)[0] for c in blanks] == asked
    for cell in blanks:
        assert ast.parse(cell.source).body == []
        before = copy.cells[: copy.cells.index(cell)]
        last = [n for c in before if c.cell_type == "markdown" for n in student.EXERCISE.findall(c.source)][-1]
        assert last in cell.source


@pytest.mark.parametrize("name", CHAPTERS)
def test_a_student_notebook_runs_the_chapters_own_cells(name):
    """Up to the first blank the code is that of the chapter, which is run and compared elsewhere."""
    published, copy = read(name), copy_of("student", name)
    own = list(
        itertools.takewhile(
            lambda c: "solution" not in c.metadata.get("tags", []),
            (c for c in published.cells if c.cell_type == "code"),
        )
    )
    code = [c for c in copy.cells if c.cell_type == "code"]
    assert code[0].source == student.setup_cell("any").source
    till = next(i for i, c in enumerate(code) if "blank" in c.metadata.get("tags", []))
    assert [c.source for c in code[1:till]] == [c.source for c in own]
    kept = [c.source for c in code if "take-home" in c.metadata.get("tags", [])]
    assert len(kept) == 1


@pytest.mark.slow
def test_a_student_notebook_runs_to_its_end_with_the_blanks_empty(tmp_path):
    from nbclient import NotebookClient

    copy = copy_of("student", CHAPTERS[0])
    NotebookClient(copy, timeout=600, kernel_name="python3", resources={"metadata": {"path": str(tmp_path)}}).execute()
    assert all(c.execution_count for c in copy.cells if c.cell_type == "code" and c.source.strip())


def small(*cells):
    notebook = new_notebook()
    notebook.cells = [new_markdown_cell("# A small chapter"), *cells]
    return notebook


def asked(source, number="1.1"):
    solution = new_code_cell(source, metadata={"tags": ["solution", "hide-cell"]})
    return new_markdown_cell(f"**Exercise {number} (Try it).** What is it?"), solution


def test_checks_that_need_a_solution_leave_with_it_and_others_stay():
    made = student.student(
        small(
            new_code_cell("a = 1"),
            *asked("b = 2\nc = 3"),
            new_code_cell("assert b == 2\nd = 4", metadata={"tags": ["checks"]}),
            new_code_cell("assert d == 4", metadata={"tags": ["checks"]}),
            new_code_cell("assert a == 1\nfor c in [a]:\n    assert c", metadata={"tags": ["checks"]}),
        ),
        "book/01_small",
    )
    code = [c.source for c in made.cells if c.cell_type == "code"]
    assert code[1:] == ["a = 1", "# Exercise 1.1: your solution\n", "assert a == 1\nfor c in [a]:\n    assert c"]


def test_text_that_needs_a_solution_stops_the_build():
    with pytest.raises(student.KitError, match="reads b"):
        student.student(small(*asked("b = 2"), new_code_cell("print(b)")), "book/01_small")
    with pytest.raises(student.KitError, match="reads f"):
        student.student(small(*asked("def f(): pass"), new_code_cell("def g():\n    return f()")), "book/01_small")


def test_a_solution_of_several_cells_leaves_one_blank_and_hints_stay():
    exercise, solution = asked("b = 2")
    hint = new_markdown_cell("<details><summary>Hint</summary>\n\nCount.\n\n</details>")
    words = new_markdown_cell("Because two.", metadata={"tags": ["solution"]})
    second = asked("e = 5")[1]
    made = student.student(small(exercise, hint, solution, words, second, *asked("z = 1", "1.2")), "book/01_small")
    assert [c.source for c in made.cells if "blank" in c.metadata.get("tags", [])] == [
        "# Exercise 1.1: your solution\n",
        "# Exercise 1.2: your solution\n",
    ]
    text = "\n".join(c.source for c in made.cells)
    assert "Count." in text and "Because two." not in text


def test_the_caption_of_a_solution_leaves_with_it():
    exercise, solution = asked("b = 2")
    solution.metadata["mystnb"] = {"figure": {"caption": "It is two.", "name": "fig-two"}}
    shown = new_code_cell("a = 1", metadata={"mystnb": {"figure": {"caption": "It is one.", "name": "fig-one"}}})
    text = "\n".join(c.source for c in student.student(small(shown, exercise, solution), "book/01_small").cells)
    assert "It is one." in text and "It is two." not in text


# ---------------------------------------------------------------- copies that run anywhere


@pytest.mark.parametrize("name", student.notebooks())
def test_a_full_copy_keeps_code_and_outputs_and_reads_without_myst(name):
    published, copy = read(name), copy_of("notebooks", name)
    before = [(c.source, c.outputs) for c in published.cells if c.cell_type == "code"]
    assert [(c.source, c.outputs) for c in copy.cells if c.cell_type == "code"][1:] == before
    text = "\n".join(c.source for c in copy.cells if c.cell_type == "markdown")
    assert "{cite:" not in text and "{term}" not in text
    for cell in published.cells:
        caption = cell.metadata.get("mystnb", {}).get("figure", {}).get("caption", "")
        assert student.plain(lab.cited(caption)) in text


def test_links_to_pages_become_addresses_or_words():
    assert student.plain("a {term}`floor` and {term}`the gap <gap>`") == "a floor and the gap"
    source = "see [terms](glossary.md#g) by [Le et al. (2017)](bibliography.md#le2017) in [data](01_data.ipynb)"
    assert student.plain(source) == "see terms by Le et al. (2017) in [data](01_data.ipynb)"
    assert student.plain(source, "https://x.org/b/") == (
        "see [terms](https://x.org/b/book/glossary.html#g) by "
        "[Le et al. (2017)](https://x.org/b/book/bibliography.html#le2017) in [data](01_data.ipynb)"
    )


def run_setup(monkeypatch, cell, found):
    """Run the first cell of a copy, and return what it would install."""
    asked_for = []
    monkeypatch.setattr("importlib.util.find_spec", lambda name: found)
    monkeypatch.setattr("subprocess.run", lambda command, **_: asked_for.append(command))
    exec(compile(cell.source, "setup", "exec"), {})
    return [command[5:] for command in asked_for]


def test_the_first_cell_installs_only_where_the_package_is_missing(monkeypatch, tmp_path):
    here, below = tmp_path / "book", tmp_path / "book/student"
    below.mkdir(parents=True)
    (here / student.wheel_name()).touch()
    data = list(student.DATA_PACKAGES)
    monkeypatch.chdir(below)
    assert run_setup(monkeypatch, student.setup_cell("a"), found=types.ModuleType("m")) == []
    assert run_setup(monkeypatch, student.setup_cell("a"), found=None) == [[f"../{student.wheel_name()}", *data]]
    monkeypatch.chdir(tmp_path)
    at_book = student.setup_cell("a", "https://x.org/book/")
    assert run_setup(monkeypatch, at_book, None) == [[f"https://x.org/book/kit/{student.wheel_name()}", *data]]
    released = student.setup_cell("a", "https://x.org/book/", released=True)
    assert run_setup(monkeypatch, released, None) == [[f"cvae_tutorial=={ct.__version__}", *data]]
    # Before a release nothing of this name is asked of the index: it would not be ours.
    with pytest.raises(FileNotFoundError, match="put cvae_tutorial"):
        run_setup(monkeypatch, student.setup_cell("a"), None)


def test_the_data_packages_are_those_of_the_book():
    project = (ROOT / "pyproject.toml").read_text()
    assert all(f'"{name}>=' in project for name in student.DATA_PACKAGES)


# ---------------------------------------------------------------- zip and wheel


def test_the_toc_and_no_list_says_which_notebooks_there_are():
    assert {ROOT / f"{n}.ipynb" for n in student.notebooks()} == set(book.notebooks())
    assert sorted(CHAPTERS) == CHAPTERS


@pytest.fixture(scope="module")
def zipped(tmp_path_factory):
    folder = tmp_path_factory.mktemp("zip")
    return student.whole_book(files(), student.build_wheel(folder), folder / "notebooks.zip")


def test_the_zip_holds_every_notebook_and_the_package(zipped):
    names = set(zipfile.ZipFile(zipped).namelist())
    assert {f"cvae-book/notebooks/{Path(n).name}.ipynb" for n in student.notebooks()} <= names
    assert {f"cvae-book/student/{Path(n).name}.ipynb" for n in CHAPTERS} <= names
    assert {"cvae-book/README.txt", f"cvae-book/{student.wheel_name()}", "cvae-book/notebooks/glossary.md"} <= names


def test_the_zip_is_the_same_whenever_it_is_made(zipped, tmp_path):
    again = student.whole_book(files(), student.build_wheel(tmp_path), tmp_path / "again.zip")
    assert again.read_bytes() == zipped.read_bytes()


def test_the_wheel_holds_the_package_with_its_weights(zipped):
    with zipfile.ZipFile(zipped) as outer, outer.open(f"cvae-book/{student.wheel_name()}") as inner:
        held = {n for n in zipfile.ZipFile(io.BytesIO(inner.read())).namelist() if n.startswith("cvae_tutorial/")}
    package = ROOT / "cvae_tutorial"
    wanted = [p for p in package.rglob("*") if p.is_file() and "__pycache__" not in p.parts]
    assert len(wanted) > 20 and {p.relative_to(ROOT).as_posix() for p in wanted} == held


# ---------------------------------------------------------------- slides and pages


@pytest.mark.parametrize("name", CHAPTERS)
def test_slides_show_every_figure_with_alt_and_caption(name):
    notebook = read(name)
    soup = BeautifulSoup(student.slides(notebook, name, "../../_static/tex-svg-full.js"), "html.parser")
    captioned = [c for c in notebook.cells if c.metadata.get("mystnb", {}).get("figure", {}).get("caption")]
    figures = soup.select("main section figure")
    assert len(figures) == len(captioned) > 2
    for figure, cell in zip(figures, captioned, strict=True):
        assert figure.img["alt"] == cell.metadata.mystnb.image.alt
        assert figure.img["src"].startswith("data:image/")
        assert len(figure.figcaption.get_text()) >= 20
        assert figure.find_previous("h2").get_text().strip()
    assert soup.html["lang"] == "en" and soup.title.get_text() and len(soup.select("h1")) == 1
    assert "{cite" not in soup.get_text() and "](#" not in soup.get_text()


def test_slides_take_the_still_picture_of_a_live_figure():
    still = "data:image/svg+xml;base64,PHN2Zy8+"
    live = new_code_cell("figure", metadata={"mystnb": {"image": {"alt": "A b"}, "figure": {"caption": "*So* $x<y$."}}})
    live.outputs = [new_output("display_data", {"text/html": f'<live-x><img alt="" src="{still}"></live-x>'})]
    page = student.slides(small(new_markdown_cell("## Part & parcel"), live), "book/01_small", "m.js")
    figure = BeautifulSoup(page, "html.parser").select_one("figure")
    assert figure.img["src"] == still and str(figure.figcaption.em) == "<em>So</em>"
    assert figure.figcaption.get_text() == "So $x<y$." and figure.find_previous("h2").get_text() == "Part & parcel"


def test_buttons_appear_when_the_config_names_a_repository(tmp_path):
    import yaml

    config = (ROOT / "_config.yml").read_text(encoding="utf8")
    settings = yaml.safe_load(config)
    settings["repository"] = {"url": "", "branch": "main"}
    silent = yaml.safe_dump(settings)
    assert student.with_buttons(silent) == silent
    settings["repository"]["url"] = "https://github.com/someone/cvae-book"
    named = yaml.safe_dump(settings)
    html = yaml.safe_load(student.with_buttons(named))["html"]
    assert html["use_edit_page_button"] and html["use_repository_button"]
    for text, expected in [(silent, ("", "main")), (named, ("someone/cvae-book", "main"))]:
        (tmp_path / "_config.yml").write_text(text, encoding="utf8")
        assert student.repository(tmp_path) == expected
    assert student.colab_address("book/01_data", "someone/cvae-book") == (
        "https://colab.research.google.com/github/someone/cvae-book/blob/colab/kit/notebooks/01_data.ipynb"
    )


def test_marks_become_links_and_downloads():
    first = Path(CHAPTERS[0]).name
    made = student.fill(f"<!-- chapter 1 -->\n\n{student.KIT_MARK}\n")
    assert f"({first}.ipynb)" in made and "<!--" not in made
    hrefs = {a["href"] for a in BeautifulSoup(made, "html.parser").select("a")}
    assert {"../kit/notebooks.zip", f"../kit/student/{first}.ipynb", f"../kit/slides/{first}.html"} <= hrefs
    with pytest.raises(student.KitError, match="chapter 99"):
        student.fill("<!-- chapter 99 -->")
    below = BeautifulSoup(student.page_links(CHAPTERS[0]), "html.parser")
    assert {"quizzes.html#quiz-01", f"../kit/student/{first}.ipynb"} <= {a["href"] for a in below.select("a")}
    assert student.page_links("book/glossary") == student.page_links("book/index") == ""


def test_the_built_book_ships_the_kit(tmp_path):
    folder = tmp_path / "html/kit"
    student.write(ROOT, folder)
    for name in CHAPTERS:
        stem = Path(name).name
        for place in (f"student/{stem}.ipynb", f"notebooks/{stem}.ipynb", f"slides/{stem}.html"):
            assert (folder / place).stat().st_size > 1_000
    assert (folder / "notebooks.zip").exists() and (folder / student.wheel_name()).exists()
    # What an earlier build left is gone.
    (folder / "student/99_old.ipynb").touch()
    student.write(ROOT, folder)
    assert not (folder / "student/99_old.ipynb").exists()
