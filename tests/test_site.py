"""The built pages in a real browser, from disk and without a network.

Run after `make book`. Without a browser or a built book the tests are skipped, and say why.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

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
    context = browser.new_context(viewport=size, color_scheme=scheme, offline=True)
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
