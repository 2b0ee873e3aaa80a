"""The gates over the chapters, and proof that nbval, the cache and the build use them."""

import copy
import os
import shutil
import subprocess
import sys
from types import SimpleNamespace

import nbformat
import pytest
from docutils import nodes
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

import book
import gates
import lab
import pictures
import site_checks

CHAPTERS = book.notebooks()


# ---------------------------------------------------------------- the chapters as they stand


def test_there_are_chapters():
    assert CHAPTERS


@pytest.mark.parametrize("path", CHAPTERS, ids=lambda p: p.stem)
def test_notebook_is_fit_to_publish(path):
    assert gates.check_notebook(path) == []


@pytest.mark.slow
@pytest.mark.parametrize("path", CHAPTERS, ids=lambda p: p.stem)
def test_take_home_snippet_runs_alone(path, tmp_path):
    cells = [
        c for c in gates.code_cells(nbformat.read(path, as_version=4)) if "take-home" in c.metadata.get("tags", [])
    ]
    for cell in cells:
        # An empty namespace, an empty folder, and no look at the repository's own folder.
        done = subprocess.run(
            [sys.executable, "-I", "-c", cell.source],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=300,
            env={**os.environ, "MPLBACKEND": "agg"},
        )
        assert done.returncode == 0, done.stderr


# ---------------------------------------------------------------- a small chapter to break

DRAW = """import matplotlib.pyplot as plt
plt.plot([0, 1, 2], [0, {}, 4])
plt.show()"""
FIGURE = {
    "image": {"alt": "A black line that rises from left to right."},
    "figure": {"caption": "The line is a parabola at three points.", "name": "fig-parabola"},
}


REFERENCES = r"""@article{one2020, author = {L{\'e}on, Ada}, title = {One}, journal = {J}, year = {2020}}
@article{two2021, author = {van der Berg, Bo and {\O}st, Cy}, title = {Two}, journal = {J}, year = {2021}}
@article{three2022, author = {A, B and C, D and E, F}, title = {Three}, journal = {J}, year = {2022}}
"""


def small_chapter():
    notebook = new_notebook()
    notebook.cells = [
        new_markdown_cell("# A small chapter"),
        new_code_cell(DRAW.format(1), metadata={"mystnb": FIGURE}),
        new_code_cell("print('W1', 0.412, 'of', 5000)"),
        new_code_cell("assert 1 + 1 == 2", metadata={"tags": ["checks"]}),
        *[new_code_cell(f"print({n})", metadata={"tags": ["solution", "hide-cell"]}) for n in range(4)],
        new_code_cell("print('home')", metadata={"tags": ["take-home"]}),
    ]
    return notebook


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """A project with the real tools and one small published chapter, in a folder with a space and an accent."""
    root = tmp_path_factory.mktemp("my projèct")
    (root / "book/_static").mkdir(parents=True)
    (root / "cvae_tutorial").mkdir()
    (root / "cvae_tutorial/__init__.py").write_text("answer = 1\n")
    (root / "constraints.txt").write_text("numpy==2\n")
    shutil.copytree(book.ROOT / "tools", root / "tools", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(book.BOOK / "_ext", root / "book/_ext", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(book.BOOK / "conftest.py", root / "book")
    for name in ("book.css", "book.js", "logo.svg", "favicon.svg"):
        shutil.copy(book.BOOK / "_static" / name, root / "book/_static")
    (root / "book/references.bib").write_text(REFERENCES, encoding="utf8")
    shutil.copy(book.ROOT / "_config.yml", root)
    (root / "_toc.yml").write_text("format: jb-book\nroot: book/index\nchapters:\n  - file: book/01_small\n")
    (root / "book/index.md").write_text("# A small book\n\nOne [chapter](01_small.ipynb).\n")
    nbformat.write(small_chapter(), root / "book/01_small.ipynb")
    done = tool(root, "publish")
    assert done.returncode == 0, done.stdout + done.stderr
    return root


def tool(root, *command, **environment):
    return subprocess.run(
        [sys.executable, "tools/book.py", *command],
        cwd=root,
        capture_output=True,
        text=True,
        timeout=300,
        env=os.environ | environment,
    )


@pytest.fixture()
def chapter(project):
    """The published chapter's path; it is put back after the test, and what was run forgotten."""
    path = project / "book/01_small.ipynb"
    before = path.read_bytes()
    yield path
    path.write_bytes(before)


def change(path, edit):
    notebook = nbformat.read(path, as_version=4)
    edit(notebook)
    nbformat.write(notebook, path)


# ---------------------------------------------------------------- publishing


@pytest.mark.slow
def test_publishing_twice_leaves_a_clean_diff(project, chapter):
    before = chapter.read_bytes()
    done = tool(project, "publish")
    assert done.returncode == 0, done.stderr
    assert "0 of 8 cells have new outputs" in done.stdout
    assert chapter.read_bytes() == before


@pytest.mark.slow
def test_published_chapter_is_fit(chapter):
    assert gates.check_notebook(chapter) == []


@pytest.mark.slow
def test_published_figure_has_its_text_form(chapter):
    figure = gates.code_cells(nbformat.read(chapter, as_version=4))[0].outputs[0].data
    assert figure["text/plain"].startswith("Figure of 1 panels") and "line: 3 at" in figure["text/plain"]


@pytest.mark.slow
def test_nothing_of_the_machine_reaches_a_chapter(project, chapter, tmp_path):
    """Neither settings under HOME nor variables of the shell: the outputs are those published elsewhere."""
    (tmp_path / ".config/matplotlib").mkdir(parents=True)
    (tmp_path / ".config/matplotlib/matplotlibrc").write_text("axes.facecolor: red\n")
    for folder in (".ipython", ".config/ipython"):
        (tmp_path / folder / "profile_default/startup").mkdir(parents=True)
        (tmp_path / folder / "profile_default/startup/00.py").write_text("raise OSError('a startup file of mine')\n")
        (tmp_path / folder / "profile_default/ipython_kernel_config.py").write_text(
            "c.InlineBackend.figure_formats = {'svg'}\n"
        )
    shutil.rmtree(project / "_build/executed")
    published = chapter.read_bytes()
    done = tool(
        project,
        "publish",
        HOME=str(tmp_path),
        XDG_CONFIG_HOME=str(tmp_path / ".config"),
        LC_ALL="C",
        FORCE_COLOR="1",
        MPLBACKEND="svg",
        MATPLOTLIBRC=str(tmp_path / ".config/matplotlib"),
        PYTHONWARNINGS="error",
        TZ="Pacific/Kiritimati",
        OMP_NUM_THREADS="1",
    )
    assert done.returncode == 0 and not done.stderr, done.stdout + done.stderr
    assert chapter.read_bytes() == published


def set_output(number, **fields):
    def edit(notebook):
        gates.code_cells(notebook)[number].outputs = [new_output(**fields)]

    return edit


def set_source(number, source):
    def edit(notebook):
        gates.code_cells(notebook)[number].source = source

    return edit


def strip(notebook):
    for cell in gates.code_cells(notebook):
        cell.outputs, cell.execution_count = [], None


def out_of_order(notebook):
    cells = gates.code_cells(notebook)
    cells[1].execution_count, cells[2].execution_count = 3, 2


def untitled_figure(notebook):
    del gates.code_cells(notebook)[0].metadata["mystnb"]["image"]


def uncaptioned_figure(notebook):
    del gates.code_cells(notebook)[0].metadata["mystnb"]["figure"]


def skipped(notebook):
    gates.code_cells(notebook)[1].metadata["tags"] = ["nbval-skip"]


def loosened(notebook):
    gates.code_cells(notebook)[1].metadata["gate"] = {"rtol": 10}


def timed(notebook):
    gates.code_cells(notebook)[1].metadata["execution"] = {"iopub.execute_input": "2026-01-01"}


def uncited(notebook):
    notebook.cells[0].source += "\n\nAs {cite:t}`one2020` says."


def other_caption(notebook):
    figure = gates.code_cells(notebook)[0].metadata["mystnb"]["figure"]
    figure["caption"] = "The line is a parabola, after all."


def other_kernel(notebook):
    notebook.metadata["kernelspec"]["display_name"] = "Python 3"


def other_package(notebook):
    notebook.metadata["published"]["package"] = "0" * 64


def no_solutions(notebook):
    for cell in gates.code_cells(notebook):
        cell.metadata.pop("tags", None)


UNFIT = {
    "stripped outputs": (strip, "in order"),
    "cells out of order": (out_of_order, "in order"),
    "outputs written by hand": (set_output(1, output_type="stream", name="stdout", text="W1 0.1"), "make publish"),
    "code changed after publishing": (set_source(1, "print('W1', 0.2, 'of', 5000)"), "make publish"),
    "stderr": (set_output(1, output_type="stream", name="stderr", text="warning"), "stderr"),
    "an error": (set_output(1, output_type="error", ename="ValueError", evalue="no", traceback=[]), "error"),
    "no alt text": (untitled_figure, "alt text"),
    "no caption": (uncaptioned_figure, "caption"),
    "skipped without a reason": (skipped, "reason"),
    "skipped by a comment": (set_source(1, "# NBVAL_IGNORE_OUTPUT\nprint(1)"), "reason"),
    "a tolerance without a reason": (loosened, "reason"),
    "volatile metadata": (timed, "volatile"),
    "another name of the kernel": (other_kernel, "volatile"),
    "a citation that JupyterLab shows as its source": (uncited, "captions or citations"),
    "a caption that JupyterLab shows otherwise": (other_caption, "captions or citations"),
    "outputs of another package": (other_package, "another version of the package"),
    "a figure the gate cannot read": (
        set_output(0, output_type="display_data", data={"image/svg+xml": "<svg/>"}),
        "PNG",
    ),
    "the name of a plot object": (set_output(1, output_type="stream", name="stdout", text="<Axes: >"), "plot object"),
    "a path": (set_output(1, output_type="stream", name="stdout", text="/home/someone/x"), "path"),
    "no exercises": (no_solutions, "solutions"),
}


@pytest.mark.slow
@pytest.mark.parametrize("fault", UNFIT)
def test_unfit_notebook_is_refused(chapter, fault):
    edit, message = UNFIT[fault]
    change(chapter, edit)
    assert any(message in problem for problem in gates.check_notebook(chapter))


# ---------------------------------------------------------------- readable without MyST


def test_citations_and_captions_read_without_myst_and_come_back_for_the_pages(tmp_path):
    bibliography = tmp_path / "references.bib"
    bibliography.write_text(REFERENCES, encoding="utf8")
    notebook = small_chapter()
    said = "By {cite:t}`one2020`, later {cite:p}`two2021,three2022`. (In print.) Write `` {cite:t}`key` ``."
    notebook.cells[0].source = said
    notebook.cells[1].metadata["mystnb"]["figure"] = {"caption": "After {cite:t}`two2021`.", "name": "fig-parabola"}
    reading = lab.for_reading(notebook, bibliography)
    assert reading.cells[0].source == (
        "By [Léon (2020)](bibliography.md#one2020), later ([van der Berg and Øst, 2021](bibliography.md#two2021); "
        "[A et al., 2022](bibliography.md#three2022)). (In print.) Write `` {cite:t}`key` ``."
    )
    caption = reading.cells[2].source
    assert '<a id="fig-parabola"></a>' in caption and "[van der Berg and Øst (2021)]" in caption
    assert lab.check(reading, bibliography) == []
    assert [c.source for c in lab.for_reading(reading, bibliography).cells] == [c.source for c in reading.cells]
    pages = lab.for_pages(reading)
    assert [c.source for c in pages.cells] == [c.source for c in notebook.cells]
    notebook.cells[0].source = "{cite:t}`four2023`"
    assert "four2023" in lab.check(notebook, bibliography)[0]


def test_links_to_terms_name_what_the_glossary_holds():
    notebook = small_chapter()
    notebook.cells[0].source = "A [KL](glossary.md#term-kullback-leibler-divergence), a [*gap*](glossary.md#term-gap)."
    assert lab.unknown_terms(notebook) == []
    notebook.cells[0].source += " And [this](glossary.md#term-nothing)."
    assert "links to term-nothing" in lab.check(notebook)[0]


def test_the_build_gives_terms_the_names_that_links_use(monkeypatch):
    monkeypatch.syspath_prepend(book.BOOK / "_ext")
    import pages

    words = ["effective sample size (ESS)", "Pareto-\\hat k", "Rubin’s rules", "Kullback–Leibler divergence (KL)"]
    document = nodes.container("", *(nodes.term("", word) for word in words))
    environment = SimpleNamespace(docname="book/glossary", metadata={"book/glossary": {}})
    pages.terms(SimpleNamespace(env=environment), document)
    names = [term["ids"][0] for term in document.children]
    assert set(names) <= lab.terms() and list(environment.metadata["book/glossary"]["myst_slugs"]) == names


@pytest.mark.parametrize("path", CHAPTERS, ids=lambda p: p.stem)
def test_a_chapter_links_each_term_once(path):
    text = "".join(c.source for c in nbformat.read(path, as_version=4).cells if c.cell_type == "markdown")
    linked = lab.TERM.findall(text)
    assert len(linked) == len(set(linked)) <= 12


def test_caption_of_a_solution_is_folded():
    notebook = small_chapter()
    notebook.cells[1].metadata["tags"] = ["solution", "hide-cell"]
    caption = lab.for_reading(notebook).cells[2].source
    assert caption.startswith("<details>") and FIGURE["figure"]["caption"] in caption


@pytest.mark.slow
def test_a_notebook_says_of_its_kernel_what_the_kernel_says():
    """JupyterLab writes it into a notebook that it opens, and takes the notebook for modified if that differs."""
    from jupyter_client.kernelspec import KernelSpecManager
    from jupyter_client.manager import run_kernel

    metadata = gates.normalise(small_chapter(), "01_small").metadata
    spec = KernelSpecManager().get_kernel_spec("python3")
    assert metadata.kernelspec == {"name": "python3", "display_name": spec.display_name, "language": spec.language}
    with run_kernel() as client:
        said = client.kernel_info(reply=True, timeout=60)["content"]["language_info"]
    assert metadata.language_info == said


# ---------------------------------------------------------------- nbval


@pytest.mark.slow
def test_nbval_rejects_what_has_changed(project):
    """nbval itself is run, on copies of the chapter that a change in the library would break."""
    published = nbformat.read(project / "book/01_small.ipynb", as_version=4)
    faults = {
        "02_sound": lambda nb: None,
        "02_figure": set_source(0, DRAW.format(2)),
        "02_number": set_source(1, "print('W1', 0.612, 'of', 5000)"),
        "02_count": set_source(1, "print('W1', 0.412, 'of', 5001)"),
        "02_rounding": set_source(1, "print('W1', 0.413, 'of', 5000)"),
        "02_silent": set_source(1, "pass"),
        "02_stderr": set_source(2, "import sys; print('careful', file=sys.stderr)"),
        "02_raising": set_source(2, "raise ValueError('no')"),
    }
    for name, edit in faults.items():
        notebook = copy.deepcopy(published)
        edit(notebook)
        nbformat.write(notebook, project / "book" / f"{name}.ipynb")
    shutil.rmtree(project / "_build/executed")
    try:
        done = subprocess.run(
            [
                sys.executable,
                "-m",
                "pytest",
                "-q",
                "-rA",
                "--color=no",
                "-p",
                "no:cacheprovider",
                "--nbval",
                "--nbval-current-env",
                "book",
            ],
            cwd=project,
            capture_output=True,
            text=True,
            timeout=500,
            env=os.environ | {"PYTEST_ADDOPTS": ""},
        )
        kept = {p.stem for p in (project / "_build/executed").glob("*.ipynb")}
    finally:
        for name in faults:
            (project / "book" / f"{name}.ipynb").unlink()
    lines = [line.split(" - ")[0] for line in done.stdout.splitlines() if line.startswith("FAILED")]
    failed = {line.split("/")[-1].split(".ipynb")[0] for line in lines}
    assert failed == set(faults) - {"02_sound", "02_rounding"}, done.stdout
    # What passed as a whole is kept for the build, and nothing else.
    assert kept == {"01_small", "02_sound", "02_rounding"}


# ---------------------------------------------------------------- nothing stale


@pytest.mark.slow
def test_a_run_goes_stale_with_anything_it_depends_on(project, chapter, monkeypatch):
    for name, value in {
        "ROOT": project,
        "BOOK": project / "book",
        "PACKAGE": project / "cvae_tutorial",
        "CONSTRAINTS": project / "constraints.txt",
        "BUILD": project / "_build",
    }.items():
        monkeypatch.setattr(book, name, value)
    book.run(chapter)
    assert book.executed(chapter) is not None

    # A sentence or a caption may change without a new run, and both are taken over.
    change(chapter, lambda nb: nb.cells[0].update(source="# Another title"))
    assert book.executed(chapter).cells[0].source == "# Another title"

    for path in (project / "cvae_tutorial/__init__.py", project / "constraints.txt"):
        before = path.read_text(encoding="utf8")
        path.write_text(before + "# changed\n")
        assert book.executed(chapter) is None
        path.write_text(before)
        assert book.executed(chapter) is not None

    # Nor is a run under another instruction set, which `make calm` makes, taken for this machine's.
    with monkeypatch.context() as held:
        held.setenv("ONEDNN_MAX_CPU_ISA", "SSE41")
        assert book.executed(chapter) is None

    added = project / "cvae_tutorial/weights.h5"
    added.write_bytes(b"other weights")
    assert book.executed(chapter) is None
    added.unlink()

    change(chapter, set_source(1, "print('W1', 0.41, 'of', 5000)"))
    assert book.executed(chapter) is None


@pytest.mark.slow
def test_a_changed_package_changes_the_built_page(project, chapter):
    package = project / "cvae_tutorial/__init__.py"
    before = package.read_text(encoding="utf8")
    load = "import pathlib\nprint('answer', pathlib.Path('../cvae_tutorial/__init__.py').read_text()[9:12].strip())"
    change(chapter, set_source(1, load))
    try:
        assert tool(project, "publish").returncode == 0
        done = tool(project, "build")
        assert done.returncode == 0, done.stdout + done.stderr
        page = project / "_build/html/book/01_small.html"
        assert "answer 1" in page.read_text(encoding="utf8")
        package.write_text("answer = 7\n")
        done = tool(project, "build")
        assert done.returncode == 0, done.stdout + done.stderr
        assert "answer 7" in page.read_text(encoding="utf8")
    finally:
        package.write_text(before)


def test_the_hash_of_a_package_is_of_what_it_holds(tmp_path):
    """Neither line ends nor what runs leave behind count; every source and weight does."""
    files = {"a.py": b"x = 1\n", "b/c.py": b"y = 2\n", "weights/w.npz": b"\0\r\n\0", "weights/w.json": b"{}\n"}

    def hashed(name, **changes):
        for place, content in (files | changes).items():
            (tmp_path / name / place).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name / place).write_bytes(content)
        return gates.package_hash(tmp_path / name)

    plain = hashed("plain")
    assert plain == hashed("windows", **{"a.py": b"x = 1\r\n", "weights/w.json": b"{}\r\n"})
    for place in ("__pycache__/a.cpython-311.pyc", "b/__pycache__/c.pyc", ".DS_Store", ".ipynb_checkpoints/a.py"):
        assert plain == hashed("plain", **{place: b"left behind"})
    for number, (place, content) in enumerate(
        {"a.py": b"x = 2\n", "weights/w.npz": b"\0\n\0", "b/d.py": b"", "weights/w.json": b"{ }\n"}.items()
    ):
        assert plain != hashed(f"changed {number}", **{place: content}), place


@pytest.mark.slow
def test_outputs_of_another_package_are_refused_until_published_again(project, chapter):
    package = project / "cvae_tutorial/__init__.py"
    before = package.read_text(encoding="utf8")
    assert tool(project, "check").returncode == 0
    package.write_text("answer = 2\n")
    try:
        done = tool(project, "check")
        assert done.returncode == 1 and "another version of the package" in done.stderr
        assert tool(project, "publish").returncode == 0
        assert tool(project, "check").returncode == 0
    finally:
        package.write_text(before)


@pytest.mark.slow
def test_publishing_replaces_what_only_a_wider_gate_lets_pass(project, chapter):
    """A gate is for other processors: on this one, what is published is what the code computes."""

    def edit(notebook):
        cell = gates.code_cells(notebook)[1]
        cell.source = "print('W1', 0.412, 'of', 5000)"
        cell.outputs = [new_output(output_type="stream", name="stdout", text="W1 0.500 of 5000\n")]
        cell.metadata["gate"] = {"atol": 10, "why": "wide, to see that publishing does not use it"}

    change(chapter, edit)
    done = tool(project, "publish")
    assert done.returncode == 0, done.stderr
    assert "1 of 8 cells have new outputs" in done.stdout
    assert "0.412" in gates.code_cells(nbformat.read(chapter, as_version=4))[1].outputs[0].text


def test_a_run_says_first_how_long_it_will_take(tmp_path):
    def chapter_of(name, seconds):
        notebook = small_chapter()
        notebook.metadata["published"] = {"seconds": seconds} if seconds else {}
        nbformat.write(notebook, tmp_path / name)
        return tmp_path / name

    short, long, new = chapter_of("a.ipynb", 30), chapter_of("b.ipynb", 400), chapter_of("c.ipynb", None)
    assert book.expected([short], 2) == "about a minute"
    assert book.expected([short, long], 1) == "about 8 minutes"
    assert book.expected([short, long], 2) == "about 7 minutes"  # as long as the longest
    assert book.expected([short, long, new], 1) == "about 11 minutes"  # the new one as the mean of the others
    assert "not known" in book.expected([new], 2)


# ---------------------------------------------------------------- the build is strict

FAULTY_PAGES = {
    "a Sphinx warning": ("# A\n\n```{nosuchdirective}\n```\n", "nosuchdirective", 2),
    "a broken link": ("# A\n\n[gone](nowhere.md)\n", "nowhere", 1),
    "a fault that only the built page shows": ('# A\n\n<a href="01_small.html#no">x</a>\n', "no such place", 1),
}


@pytest.mark.slow
@pytest.mark.parametrize("fault", FAULTY_PAGES)
def test_build_fails_on(project, fault):
    index = project / "book/index.md"
    before = index.read_text(encoding="utf8")
    text, message, times = FAULTY_PAGES[fault]
    index.write_text(text)
    try:
        # A second build finds Sphinx's cache in place, and must fail all the same.
        for _ in range(times):
            done = tool(project, "build")
            assert done.returncode == 1
            assert message in done.stderr, done.stderr
    finally:
        index.write_text(before)


FAULTY_HTML = {
    "link to nothing": '<a href="gone.html">x</a>',
    "no such place": '<a href="#gone">x</a>',
    "without alt text": '<article><figure><img src="a.png" alt=""><figcaption>c</figcaption></figure></article>',
    "without alt": '<article><figure><img src="a.png" alt="a.png"><figcaption>c</figcaption></figure></article>',
    "without caption": '<article><img src="a.png" alt="a rising line"></article>',
    "elsewhere": '<script src="https://example.org/x.js"></script>',
    "fetched from elsewhere": '<link rel="stylesheet" href="//example.org/x.css">',
    "raw TeX in the text: with probability $": "<article><p>with probability $</p></article>",
    "raw TeX in the text: An improved": r"<article><p>An improved \widehat R</p></article>",
    "no description": "<article>A page.</article>",
    "no og:title": "<article>A page.</article>",
    "repeats itself": "<head><title>A book \u2014 A book</title></head><article>A page.</article>",
}


@pytest.mark.parametrize("message", FAULTY_HTML)
def test_site_check_reports(tmp_path, message):
    (tmp_path / "index.html").write_text(f"<html>{FAULTY_HTML[message]}</html>")
    assert any(message in problem for problem in site_checks.check_site(tmp_path))


def test_site_check_reports_a_path_of_the_machine(tmp_path):
    html = tmp_path / "_build/html"
    html.mkdir(parents=True)
    (html / "index.html").write_text(f"<p>directory={tmp_path}/weights</p>")
    assert any("path of this machine" in problem for problem in site_checks.check_site(html))


def test_site_check_reports_a_source_map(tmp_path):
    (tmp_path / "index.html").write_text("<html></html>")
    (tmp_path / "theme.js.map").write_text("{}")
    assert any("source map" in problem for problem in site_checks.check_site(tmp_path))


def test_site_check_passes_a_sound_page(tmp_path):
    (tmp_path / "index.html").write_text(
        '<html><head><title>T \u2014 Book</title><meta name="description" content="What it holds.">'
        '<meta property="og:title" content="T"><meta property="og:description" content="What it holds."></head>'
        r'<body><p class="math">\(x^2\)</p><pre>$ make book</pre><article><code>$x$</code></article>'
        '<h1 id="top">T</h1><a href="#top">up</a><a href="https://example.org">out</a><article><figure>'
        '<img src="a.png" alt="a rising line"><figcaption>c</figcaption></figure></article></body></html>'
    )
    assert site_checks.check_site(tmp_path) == []


# ---------------------------------------------------------------- what the pages know of a figure


def test_folded_code_has_a_name_of_its_own():
    notebook = new_notebook()
    notebook.cells = [
        new_markdown_cell("# A chapter\n\n## The cost of $W_1$"),
        new_code_cell("x = 1", metadata={"tags": ["hide-input"], "mystnb": FIGURE}),
        new_code_cell("def f():\n    pass", metadata={"tags": ["hide-input"]}),
        new_code_cell("x = 2", metadata={"tags": ["hide-input"]}),
        new_code_cell("x = 3", metadata={"tags": ["hide-input"]}),
        new_code_cell("x = 4", metadata={"tags": ["hide-input"], "mystnb": {"code_prompt_show": "Show the table"}}),
        new_code_cell("x = 5"),
    ]
    shown = [c.metadata["mystnb"].get("code_prompt_show") for c in gates.code_cells(pictures.prepare(notebook))]
    assert shown == [
        "Show the code of the figure “parabola”",
        "Show the code of f",
        "Show the code of a step in “The cost of W_1”",
        "Show the code of a step in “The cost of W_1”, 2",
        "Show the table",
        None,
    ]


@pytest.mark.slow
def test_build_fails_on_a_raising_cell(project, chapter):
    def edit(notebook):
        set_source(1, "raise ValueError('a cell that raises')")(notebook)
        notebook.metadata["published"]["outputs"] = gates.seal(notebook)

    change(chapter, edit)
    done = tool(project, "build")
    assert done.returncode == 1
    assert "a cell that raises" in done.stdout


@pytest.mark.slow
def test_build_fails_on_a_figure_without_caption(project, chapter):
    change(chapter, uncaptioned_figure)
    done = tool(project, "build")
    assert done.returncode == 1
    assert "caption" in done.stderr
