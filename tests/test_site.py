"""The built pages in a real browser, from disk and without a network.

Run after `make book`. Without a browser or a built book the tests are skipped, and say why.
"""

import base64
import importlib.resources
import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest

import book as tools
import gates
import pictures

HTML = Path(__file__).resolve().parent.parent / "_build/html"
BROWSER = next(
    (path for path in map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "chrome")) if path), None
)
QUIET = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]

pytestmark = [
    pytest.mark.skipif(BROWSER is None, reason="no chromium or chrome on this machine: the pages are not looked at"),
    pytest.mark.skipif(not (HTML / "index.html").exists(), reason="the book is not built: run `make book` first"),
]

PAGES = sorted(p for p in HTML.glob("book/*.html"))
EVERY_PAGE = [*PAGES, HTML / "index.html", HTML / "search.html", HTML / "genindex.html"]
CHAPTERS = [p for p in PAGES if (tools.BOOK / f"{p.stem}.ipynb").exists()]


@pytest.fixture(scope="module")
def browser():
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    with sync_api.sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=BROWSER, args=QUIET)
        yield started
        started.close()


@pytest.fixture(params=["light", "dark", "phone"])
def page(request, browser):
    size = {"width": 390, "height": 844} if request.param == "phone" else {"width": 1280, "height": 900}
    scheme = "dark" if request.param == "dark" else "light"
    touch = {"has_touch": True, "is_mobile": True} if request.param == "phone" else {}
    context = browser.new_context(viewport=size, color_scheme=scheme, offline=True, reduced_motion="reduce", **touch)
    opened = context.new_page()
    opened.complaints, opened.look = [], request.param
    opened.on("console", lambda m: opened.complaints.append(m.text) if m.type in ("error", "warning") else None)
    opened.on("pageerror", lambda e: opened.complaints.append(str(e)))
    opened.on(
        "request",
        lambda r: (
            None
            if r.url.startswith(("file:", "data:", "blob:"))
            else opened.complaints.append(f"asks the network for {r.url}")
        ),
    )
    yield opened
    context.close()


def opened(page, path):
    page.goto(path.as_uri())
    page.wait_for_load_state("load")
    if page.locator("span.math, div.math").count():
        page.wait_for_function(
            "document.querySelectorAll('mjx-container').length >= "
            "document.querySelectorAll('span.math, div.math').length",
            timeout=60_000,
        )


def unfolded(page, path):
    opened(page, path)
    page.evaluate("document.querySelectorAll('article details').forEach(d => d.open = true)")


@pytest.mark.parametrize("path", PAGES, ids=lambda p: p.stem)
def test_page_is_whole(page, path):
    opened(page, path)
    assert page.complaints == []
    # Nothing sticks out at the side, least of all on a phone.
    assert page.evaluate("document.documentElement.scrollWidth - window.innerWidth") <= 0
    # No formula is left as its source, and none is in error.
    text = page.evaluate("document.querySelector('article').innerText")
    assert "\\(" not in text and "\\[" not in text and "$$" not in text
    assert page.locator("mjx-merror, [data-mml-node='merror']").count() == 0
    # Every picture has loaded.
    assert page.evaluate("[...document.images].every(i => i.complete && i.naturalWidth > 0)")
    # The theme follows the reader's choice.
    assert page.evaluate("document.documentElement.dataset.theme") == ("dark" if page.look == "dark" else "light")


def test_one_search_box_and_no_empty_bar(page):
    opened(page, PAGES[0])
    visible = page.locator("button.search-button-field:visible, button.search-button__button:visible").count()
    assert visible <= 1
    assert page.evaluate(
        "[...document.querySelectorAll('header.bd-header')]"
        ".every(h => getComputedStyle(h).display === 'none' || h.offsetHeight === 0)"
    )


@pytest.mark.parametrize("page", ["light"], indirect=True)
def test_search_finds_a_term(page):
    page.goto((HTML / "search.html").as_uri() + "?q=conditional")
    page.wait_for_selector("#search-results li a", timeout=30_000)
    assert page.complaints == []


@pytest.mark.parametrize("page", ["light"], indirect=True)
def test_copied_code_runs(page, tmp_path):
    """Copy buttons sit on code alone; a chapter's cells, copied one by one, run as one script."""
    chapter = next(p for p in PAGES if p.stem.startswith("01_"))
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    # Chromium has no clipboard for pages on disk; what is handed to it is caught on its way.
    page.add_init_script(
        "window.copied = []; Object.defineProperty(navigator, 'clipboard', {value: "
        "{writeText: t => { window.copied.push(t); return Promise.resolve(); }}});"
        "document.addEventListener('copy', e => window.copied.push("
        "(document.activeElement.value || String(getSelection()))));"
    )
    opened(page, chapter)
    assert page.locator("div.cell_output button.copybtn").count() == 0
    buttons = page.locator("div.cell_input button.copybtn")
    cells = page.locator("div.cell_input div.highlight pre")
    assert buttons.count() == cells.count() > 3
    page.evaluate("document.querySelectorAll('details').forEach(d => d.open = true)")
    page.evaluate("document.querySelectorAll('div.cell_input button.copybtn').forEach(b => b.click())")
    page.wait_for_function(f"window.copied.length >= {buttons.count()}", timeout=10_000)
    source = "\n".join(page.evaluate("window.copied"))
    assert ">>>" not in source
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", source],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        env={**os.environ, "MPLBACKEND": "agg"},
        timeout=600,
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("page", ["light"], indirect=True)
def test_chapters_can_be_downloaded_and_are_linked_in_a_row(page):
    chapters = [p for p in PAGES if p.stem[:2].isdigit()]
    for path in chapters:
        page.goto(path.as_uri())
        links = page.evaluate("[...document.querySelectorAll('a[href$=\".ipynb\"]')].map(a => a.href)")
        assert any(Path(link.removeprefix("file://")).exists() for link in links), path.stem
        assert page.locator("a.right-next").count() == 1 and page.locator("a.left-prev").count() == 1
    assert page.complaints == []


@pytest.mark.parametrize("page", ["light"], indirect=True)
def test_solutions_are_folded(page):
    chapter = next(p for p in PAGES if p.stem.startswith("01_"))
    opened(page, chapter)
    folded = page.locator("details.hide")
    assert folded.count() >= 4
    assert page.evaluate("[...document.querySelectorAll('details.hide')].every(d => !d.open)")


# ---------------------------------------------------------------- for everybody


@pytest.fixture(scope="module")
def axe():
    """Return the rules of accessibility that axe checks, as a script; a package brings them along."""
    return (importlib.resources.files("axe_playwright_python") / "axe.min.js").read_text(encoding="utf8")


@pytest.mark.parametrize("path", EVERY_PAGE, ids=lambda p: p.relative_to(HTML).with_suffix("").as_posix())
def test_axe_finds_no_fault(page, axe, path):
    if path == HTML / "index.html":  # it leads on at once; without scripts or patience it is a link
        source = path.read_text(encoding="utf8").replace('http-equiv="refresh"', 'name="was-refresh"')
        page.set_content(source)
    else:
        unfolded(page, path)
    page.evaluate("Promise.all(document.getAnimations().map(a => a.finished.catch(() => 0)))")
    page.wait_for_timeout(300)  # colours fade in for a moment
    page.evaluate(axe)
    found = page.evaluate("axe.run(document)")["violations"]
    assert [(v["id"], len(v["nodes"]), v["nodes"][0]["html"][:200]) for v in found] == []


def test_axe_finds_a_planted_fault(page, axe):
    page.set_content('<html lang="en"><title>t</title><main><h1>t</h1><img src="x.png"><button></button></main></html>')
    page.evaluate(axe)
    assert {"image-alt", "button-name"} <= {v["id"] for v in page.evaluate("axe.run(document)")["violations"]}


# ---------------------------------------------------------------- on a phone

PHONE = pytest.mark.parametrize("page", ["phone"], indirect=True)


def figures(path):
    """Return name, picture and text form of each figure of a chapter, as published."""
    for cell in gates.code_cells(nbformat.read(tools.BOOK / f"{path.stem}.ipynb", as_version=4)):
        for data in [o["data"] for o in cell.outputs if "image/png" in o.get("data", {})]:
            yield cell.metadata.mystnb.figure.name, base64.b64decode(data["image/png"]), data["text/plain"]


@PHONE
@pytest.mark.parametrize("path", CHAPTERS, ids=lambda p: p.stem)
def test_text_of_figures_can_be_read(page, path):
    unfolded(page, path)
    drawn = page.evaluate(
        "Object.fromEntries([...document.querySelectorAll('article figure img')]"
        ".map(i => [i.closest('figure').id, [i.clientWidth, i.naturalWidth, i.alt]]))"
    )
    found = list(figures(path))
    assert found
    for name, png, described in found:
        sizes = pictures.text_pixels(png, described)
        assert sizes, f"{name}: its text form does not tell the size of its text; `make publish` writes it"
        # The dark theme alone puts a white edge of 6 pixels around a picture.
        shown, natural, _ = drawn[name]
        assert sizes[1] * shown / natural >= 9, f"{name}: text of {sizes[1] * shown / natural:.1f} pixels"


@PHONE
@pytest.mark.parametrize("path", PAGES, ids=lambda p: p.stem)
def test_what_goes_on_sideways_says_so(page, path):
    """Code, figures, tables and formulae that are wider than the page: a faded edge, and the keyboard reaches them."""
    unfolded(page, path)
    page.wait_for_timeout(500)
    silent = page.evaluate(
        """() => [...document.querySelectorAll('article *')].filter(e =>
            e.scrollWidth > e.clientWidth + 2 && e.clientWidth > 60 && !e.closest('svg') &&
            /auto|scroll/.test(getComputedStyle(e).overflowX) &&
            (!e.classList.contains('more') || e.tabIndex < 0)).map(e => e.outerHTML.slice(0, 120))"""
    )
    assert silent == []
    # At its end the edge is clear again.
    page.evaluate("document.querySelectorAll('.more').forEach(e => e.scrollLeft = 1e6)")
    page.wait_for_function("document.querySelectorAll('article .more').length === 0", timeout=5_000)


@PHONE
@pytest.mark.parametrize("path", PAGES, ids=lambda p: p.stem)
def test_formulae_stay_within_the_page(page, path):
    unfolded(page, path)
    page.wait_for_timeout(500)
    outside = page.evaluate(
        """() => [...document.querySelectorAll('article mjx-container')].filter(m => !m.closest('table') &&
            m.getBoundingClientRect().right > innerWidth).map(m => m.parentElement.textContent.slice(0, 80))"""
    )
    assert outside == []


@PHONE
def test_fingers_find_the_buttons(page):
    opened(page, CHAPTERS[0])
    for selector, least in (("div.cell_input button.copybtn", 40), ("details.hide > summary", 40)):
        found = page.evaluate(
            "s => [...document.querySelectorAll(s)].filter(e => e.offsetParent).map(e => "
            "[e.offsetHeight, e.offsetWidth, +getComputedStyle(e).opacity])",
            selector,
        )
        assert found and all(min(h, w) >= least and opacity == 1 for h, w, opacity in found), selector


# ---------------------------------------------------------------- names and headings


@pytest.mark.parametrize("page", ["light"], indirect=True)
@pytest.mark.parametrize("path", CHAPTERS, ids=lambda p: p.stem)
def test_folded_cells_have_names_of_their_own(page, path):
    page.goto(path.as_uri())
    names = page.evaluate(
        "[...document.querySelectorAll('article details.hide > summary')].map(s => "
        "(s.querySelector('.collapsed') || s).textContent.trim())"
    )
    assert not [n for n in names if "code cell" in n]
    code = [n for n in names if n.startswith("Show")]
    assert len(set(code)) == len(code)


@pytest.mark.parametrize("page", ["light"], indirect=True)
def test_headings_look_their_level(page):
    """Each level is at most as large and at most as heavy as the one above it; formulae are not larger than words."""
    for path in CHAPTERS:
        opened(page, path)
        styles = page.evaluate(
            "['h1', 'h2', 'h3'].map(t => document.querySelector('article ' + t)).filter(Boolean)"
            ".map(h => [parseFloat(getComputedStyle(h).fontSize), +getComputedStyle(h).fontWeight])"
        )
        assert styles == sorted(styles, reverse=True) and len({weight for _, weight in styles}) == 1, path.stem
        formulae = page.evaluate(
            "[...document.querySelectorAll('article :is(h1, h2, h3, h4) mjx-container')].map(m => "
            "[parseFloat(getComputedStyle(m).fontSize), parseFloat(getComputedStyle(m.parentElement).fontSize)])"
        )
        assert all(formula <= words for formula, words in formulae), path.stem


@pytest.mark.parametrize("page", ["light"], indirect=True)
def test_links_to_the_bibliography_last(page):
    """An entry is called by its key, and its formulae are set."""
    opened(page, HTML / "book/bibliography.html")
    keys = tools.lab.references(tools.BOOK / "references.bib")
    ids = page.evaluate("[...document.querySelectorAll('article [id]')].map(e => e.id)")
    assert set(keys) <= set(ids)
    assert page.locator(".citation mjx-container").count() > 0


# ---------------------------------------------------------------- on paper


@pytest.mark.parametrize("page", ["light", "phone"], indirect=True)
def test_paper_has_nothing_to_press_and_loses_no_code(page):
    for path in CHAPTERS:
        opened(page, path)
        page.emulate_media(media="print")
        pressed = "article summary, article button, article .headerlink, .prev-next-footer"
        visible = f"[...document.querySelectorAll('{pressed}')].filter(e => e.checkVisibility()).length"
        assert page.evaluate(visible) == 0
        cut = (
            "[...document.querySelectorAll('article pre, article .picture')].filter(e => e.checkVisibility() && "
            "e.scrollWidth > e.clientWidth + 1).map(e => e.textContent.slice(0, 80))"
        )
        assert page.evaluate(cut) == []
        assert page.evaluate(
            "[...document.querySelectorAll('article figure')].every(f => getComputedStyle(f).breakInside === 'avoid')"
        )
        page.emulate_media(media="screen")


# ---------------------------------------------------------------- in JupyterLab


def test_jupyterlab_shows_captions_and_citations_and_takes_nothing_for_modified(browser, tmp_path):
    """A chapter as `make lab` opens it: not marked as modified, and links to figures lead somewhere."""
    path = next(p for p in sorted(tools.BOOK.glob("01_*.ipynb")))
    notebook = nbformat.read(path, as_version=4)
    notebook.metadata.language_info.version = ".".join(
        map(str, sys.version_info[:3])
    )  # published under another Python?
    named = [c.metadata.get("mystnb", {}).get("figure", {}).get("name") for c in gates.code_cells(notebook)]
    name = [n for n in named if n][-1]
    notebook.cells[0].source += f"\n\n[a link](#{name})"
    nbformat.write(notebook, tmp_path / path.name)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    places = {n: str(tmp_path / n.lower()) for n in ("JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "IPYTHONDIR", "HOME")}
    options = ["--no-browser", "--allow-root", "--expose-app-in-browser", "--IdentityProvider.token="]
    with open(tmp_path / "log", "w", encoding="utf8") as log:
        server = subprocess.Popen(
            [sys.executable, "-m", "jupyterlab", *options, "--ip=127.0.0.1", f"--port={port}"]
            + ["--ServerApp.port_retries=0", f"--ServerApp.root_dir={tmp_path}"],
            env=os.environ | places,
            stdout=log,
            stderr=log,
        )
    page = browser.new_page(viewport={"width": 1200, "height": 900})
    try:
        for _ in range(120):
            try:
                page.goto(f"http://127.0.0.1:{port}/lab/tree/{path.name}", wait_until="domcontentloaded")
                break
            except Exception:  # it takes seconds to start
                assert server.poll() is None, (tmp_path / "log").read_text(encoding="utf8")
                page.wait_for_timeout(500)
        app = "(window.jupyterapp || window.jupyterlab)?.shell?.currentWidget?.context"
        page.wait_for_function(
            f"{app}?.sessionContext.session?.kernel?.status === 'idle' && {app}.isReady", timeout=120_000
        )
        page.wait_for_timeout(3_000)
        assert page.evaluate(f"{app}.model.dirty") is False
        page.locator(".jp-MarkdownCell a", has_text="a link").first.click()
        target = page.locator(f"[data-jupyter-id='{name}']")
        target.wait_for(state="attached", timeout=30_000)
        page.wait_for_timeout(1_000)
        assert 0 < target.evaluate("e => e.parentElement.getBoundingClientRect().y") <= 900  # itself it is empty
        assert page.get_by_text("Figure.", exact=True).count() > 0
        assert page.locator(".jp-MarkdownCell").get_by_text("⚠").count() == 0
    finally:
        page.close()
        server.terminate()
        server.wait(30)
