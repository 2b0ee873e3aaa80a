"""Run, publish and build the book: what `make book` and `make publish` call.

    python tools/book.py build              run what changed, build _build/html
    python tools/book.py publish [01_data]  run chapters, write their outputs into book/
    python tools/book.py check              check the notebooks without running them

A chapter is run again when its code, the package, constraints.txt or an installed
version changes; otherwise its last run, in _build/executed, is used. So a sentence can
be changed without running anything, and a figure cannot go stale.
"""

from __future__ import annotations

import neutral

# isort: split
import argparse
import concurrent.futures
import copy
import hashlib
import html
import importlib.metadata
import math
import multiprocessing
import os
import platform
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import nbformat

import gates
import lab
import pictures
import site_checks
import student
import text_form

ROOT = Path(__file__).resolve().parent.parent
BOOK = ROOT / "book"
PACKAGE = ROOT / "cvae_tutorial"
CONSTRAINTS = ROOT / "constraints.txt"
BUILD = ROOT / "_build"
CELL_TIMEOUT = 600  # seconds
MAX_MEMORY = 2_000  # megabytes at a chapter's peak
SHOWN = ("cvae_tutorial", "tensorflow", "keras", "numpy", "scipy", "seaborn", "matplotlib", "arviz-stats")
STATUS_MARK = "<!-- status table -->"


class BookError(Exception):
    """What is wrong with the book, in words for its author."""


def notebooks(names: list[str] | None = None) -> list[Path]:
    """Return the notebooks of the book, or those named (by stem)."""
    found = sorted(BOOK.glob("*.ipynb"))
    unknown = set(names or []) - {p.stem for p in found}
    if unknown:
        raise BookError(f"no such chapter: {', '.join(sorted(unknown))}; there are {', '.join(p.stem for p in found)}")
    return [p for p in found if not names or p.stem in names]


# ---------------------------------------------------------------- running


def key(notebook) -> str:
    """Hash all that a notebook's outputs depend on: its code, the package, the versions."""
    digest = hashlib.sha256()
    for cell in gates.code_cells(notebook):
        digest.update(cell.source.encode() + b"\0")
    digest.update(surroundings().encode())
    return digest.hexdigest()


def surroundings() -> str:
    """Hash the package's files, the figures' text form, constraints.txt, every version, and how arithmetic is held."""
    digest = hashlib.sha256(platform.python_version().encode())
    for path in sorted(p for p in PACKAGE.rglob("*") if p.is_file() and "__pycache__" not in p.parts):
        digest.update(path.relative_to(PACKAGE).as_posix().encode() + b"\0" + path.read_bytes())
    digest.update("".join(os.environ.get(name, "") for name in neutral.PROCESSOR).encode())
    digest.update(CONSTRAINTS.read_bytes() + Path(text_form.__file__).read_bytes())
    installed = sorted({f"{d.name}=={d.version}" for d in importlib.metadata.distributions()})
    digest.update("\n".join(installed).encode())
    return digest.hexdigest()


def executed(path: Path):
    """Return the notebook with the outputs of its last run, or None if that run is stale."""
    notebook = nbformat.read(path, as_version=4)
    stored = BUILD / "executed" / path.name
    if not stored.exists():
        return None
    run = nbformat.read(stored, as_version=4)
    if run.metadata.get("run", {}).get("key") != key(notebook):
        return None
    for cell, ran in zip(gates.code_cells(notebook), gates.code_cells(run), strict=True):
        cell.outputs, cell.execution_count = ran.outputs, ran.execution_count
    notebook.metadata["run"] = run.metadata.run
    return notebook


def finished(path: Path):
    """Return the notebook with the outputs of the run just made."""
    notebook = executed(path)
    if notebook is None:
        raise BookError(f"the package or {path.name} changed while it ran: start again")
    return notebook


def store(notebook, path: Path, seconds: float, megabytes: float | None, run_key: str) -> None:
    """Keep a finished run of the notebook at ``path`` for the build."""
    kept = gates.normalise(notebook, path.stem)
    versions = {name: importlib.metadata.version(name) for name in SHOWN}
    kept.metadata["run"] = {
        "key": run_key,
        "seconds": round(seconds, 1),
        "megabytes": megabytes and round(megabytes),
        "python": platform.python_version(),
        "versions": versions,
    }
    folder = BUILD / "executed"
    folder.mkdir(parents=True, exist_ok=True)
    partial = folder / f"{path.name}.{os.getpid()}"
    nbformat.write(kept, partial)
    partial.replace(folder / path.name)


def peak_memory(kernel_manager) -> float | None:
    """Return the megabytes that a running kernel has taken at its peak; None where the system does not tell."""
    try:
        status = Path(f"/proc/{kernel_manager.provisioner.pid}/status").read_text()
    except OSError:
        return None
    return next((float(line.split()[1]) / 1024 for line in status.splitlines() if line.startswith("VmHWM")), None)


def run(path: Path) -> tuple[str, float, float | None]:
    """Run one notebook from a fresh kernel and store the result."""
    from nbclient import NotebookClient
    from nbclient.exceptions import CellExecutionError

    notebook = nbformat.read(path, as_version=4)
    run_key, start, memory = key(notebook), time.monotonic(), None
    log = BUILD / "executed" / f"{path.stem}.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    client = NotebookClient(
        notebook,
        timeout=CELL_TIMEOUT,
        kernel_name="python3",
        resources={"metadata": {"path": str(BOOK)}},
        coalesce_streams=True,
        record_timing=False,
    )
    try:
        # What a kernel says outside its cells (start-up notices, a crash) goes into a file.
        with open(log, "w", encoding="utf8") as stderr, client.setup_kernel(stderr=stderr):
            for index, cell in enumerate(notebook.cells):
                client.execute_cell(cell, index)
            memory = peak_memory(client.km)
    except CellExecutionError as error:
        raise BookError(f"{path.name} raises:\n{error}") from None
    except Exception as error:  # a dead kernel, a timeout: name the chapter
        said = log.read_text(encoding="utf8")[-2000:]
        raise BookError(f"{path.name} could not be run: {type(error).__name__}: {error}\n{said}") from None
    if memory and memory > MAX_MEMORY:
        raise BookError(f"{path.name} peaks at {memory:.0f} MB; {MAX_MEMORY} MB is the most a chapter may take")
    seconds = time.monotonic() - start
    store(notebook, path, seconds, memory, run_key)
    return path.stem, seconds, memory


def expected(paths: list[Path], jobs: int) -> str:
    """Say how long it will take to run notebooks, from what they took when they were published."""
    taken = [seconds(nbformat.read(path, as_version=4)) for path in paths]
    known = [s for s in taken if s]
    if not known:
        return "how long it takes is not known yet"
    each = sum(known) / len(known)  # for those not published yet
    total = max(sum(s or each for s in taken) / jobs, *known)
    return f"about {math.ceil(total / 60)} minutes" if total > 60 else "about a minute"


def seconds(notebook) -> float | None:
    """Return what a notebook took to run when it was published, in round figures."""
    published = notebook.metadata.get("published")
    return published.get("seconds") if isinstance(published, dict) else None


def run_all(paths: list[Path], jobs: int) -> None:
    """Run notebooks, some at a time, and say how long each took."""
    if not paths:
        print("Every chapter's last run is fresh: nothing to run")
        return
    print(f"Running {len(paths)} of the book's notebooks, {jobs} at a time: {expected(paths, jobs)}", flush=True)
    failed = []
    # Fresh processes: TensorFlow and ZeroMQ do not survive a fork.
    with concurrent.futures.ProcessPoolExecutor(jobs, mp_context=multiprocessing.get_context("spawn")) as pool:
        tasks = [pool.submit(run, path) for path in paths]
        for task in concurrent.futures.as_completed(tasks):
            try:
                name, seconds, memory = task.result()
                print(f"  {name:<24}{seconds:6.1f} s" + (f"{memory:8.0f} MB" if memory else ""), flush=True)
            except BookError as error:
                failed.append(str(error))
                print(f"  failed: {error}", flush=True)
    if failed:
        raise BookError(f"{len(failed)} of {len(paths)} notebooks failed")


# ---------------------------------------------------------------- publishing


def publish(names: list[str], jobs: int) -> None:
    """Run notebooks and write their outputs into book/, keeping an output that has not changed.

    An output that the default gate takes for the published one stays as it is, byte for byte, so
    that a diff shows what changed and nothing else. A wider gate of the cell's own is for other
    processors: what is published is what this commit computes.
    """
    paths = notebooks(names)
    run_all(paths, jobs)
    for path in paths:
        before = nbformat.read(path, as_version=4)
        after = finished(path)
        old = {cell.source: cell for cell in gates.code_cells(before)}
        kept = 0
        for cell in gates.code_cells(after):
            was = old.get(cell.source)
            if (
                was is not None
                and was.execution_count is not None
                and not gates.compare_outputs(cell.outputs, was.outputs, gates.DEFAULT)
            ):
                cell.outputs, kept = copy.deepcopy(was.outputs), kept + 1
        clean = gates.normalise(lab.for_reading(after, path.parent / "references.bib"), path.stem)
        clean.metadata.language_info.version = platform.python_version()
        took, before_took = max(after.metadata.run.seconds, 60), seconds(before)  # in minutes, and roughly
        if before_took is None or not before_took / 2 <= took <= before_took * 2:
            before_took = float(f"{took:.1g}")
        clean.metadata["published"] = {
            "outputs": gates.seal(clean),
            "package": gates.package_hash(PACKAGE),
            "seconds": round(before_took),
        }
        nbformat.validate(clean)
        nbformat.write(clean, path)
        total = len(gates.code_cells(clean))
        print(f"  {path.stem}: {total - kept} of {total} cells have new outputs")
    check(names)


def check(names: list[str] | None = None, fresh: bool = True) -> None:
    """Raise BookError with all that is wrong with the notebooks as they stand.

    The build, which runs whatever changed, does not ask for ``fresh`` outputs.
    """
    problems = [f"  {p.stem}: {message}" for p in notebooks(names) for message in gates.check_notebook(p, fresh=fresh)]
    if problems:
        raise BookError("the notebooks cannot be published:\n" + "\n".join(problems))
    print(f"Checked {len(notebooks(names))} notebooks: as they should be")


# ---------------------------------------------------------------- building


def stage(destination: Path) -> None:
    """Copy the book's sources, the notebooks freshly run, to where Sphinx reads them.

    A file is written only when it differs, so that Sphinx reads again only what changed.
    """
    wanted = {destination / name: (ROOT / name).read_bytes() for name in ("_config.yml", "_toc.yml")}
    runs = {}
    for path in sorted(p for p in BOOK.rglob("*") if p.is_file()):
        if "__pycache__" in path.parts or ".ipynb_checkpoints" in path.parts:
            continue
        content = path.read_bytes()
        if path.suffix == ".ipynb":
            notebook = finished(path)
            runs[path.stem] = notebook.metadata.pop("run")
            page = pictures.prepare(lab.for_pages(notebook))
            content = nbformat.writes(gates.normalise(page, path.stem)).encode()
        wanted[destination / path.relative_to(ROOT)] = content
    status = destination / "book" / "status.md"
    if status in wanted:
        wanted[status] = wanted[status].replace(STATUS_MARK.encode(), status_table(runs).encode())
    for path in [p for p in wanted if p.suffix == ".md"]:
        wanted[path] = student.fill(wanted[path].decode(), ROOT).encode()
    config = destination / "_config.yml"
    wanted[config] = student.with_buttons(wanted[config].decode()).encode()
    mathjax = Path(str(importlib.metadata.distribution("django-static-mathjax").locate_file("mathjax")))
    wanted[destination / "book/_static/tex-svg-full.js"] = (mathjax / "static/mathjax/es5/tex-svg-full.js").read_bytes()
    for path, content in wanted.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.exists() or path.read_bytes() != content:
            path.write_bytes(content)
    for path in [p for p in destination.rglob("*") if p.is_file() and p not in wanted]:
        path.unlink()


def status_table(runs: dict) -> str:
    """Write run time, memory and versions of each notebook's last run as Markdown."""
    lines = ["| notebook | run time | memory at peak |", "|---|---|---|"]
    for name, r in runs.items():
        memory = f"{r['megabytes']} MB" if r.get("megabytes") else "–"
        lines.append(f"| []({name}.ipynb) | {r['seconds']:.0f} s | {memory} |")
    groups: dict[str, list[str]] = {}
    for name, r in runs.items():
        listed = ", ".join(f"{k} {v}" for k, v in {"Python": r["python"], **r["versions"]}.items())
        groups.setdefault(listed, []).append(name)
    for listed, names in groups.items():
        lines += ["", f"Versions ({'all notebooks' if len(groups) == 1 else ', '.join(names)}): {listed}."]
    return "\n".join(lines)


def finish(site: Path) -> None:
    """Take from the built pages what no reader needs, and give the first one a name."""
    for path in [*site.rglob("*.js.map"), *site.rglob("*.css.map")]:
        path.unlink()
    # Sphinx leaves these as they were, where no page has changed.
    shutil.copytree(BOOK / "_static", site / "_static", dirs_exist_ok=True)
    first = next(site.glob("book/index.html"), None)
    if first is not None:
        head = re.findall(r"<title>.*?</title>|<meta (?:name=\"description\"|property=)[^>]*>", first.read_text("utf8"))
        title = html.unescape(re.sub("<.*?>", "", head[0])) if head else "The book"
        (site / "index.html").write_text(
            '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
            '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
            '<meta http-equiv="refresh" content="0; url=book/index.html">\n'
            + "\n".join(head)
            + f'\n</head>\n<body><main><h1><a href="book/index.html">{html.escape(title)}</a></h1></main></body>\n'
            "</html>\n",
            encoding="utf8",
        )


def build(jobs: int) -> None:
    """Run what changed, build the pages with every warning an error, and check them."""
    start = time.monotonic()
    check(fresh=False)
    run_all([p for p in notebooks() if executed(p) is None], jobs)
    stage(BUILD / "stage")
    # Sphinx reports a page's warnings only when it reads the page. After a build that failed
    # or was cut short, everything is read again, or the next build would pass in silence.
    unfinished = BUILD / ".unfinished"
    if unfinished.exists():
        for folder in (BUILD / ".doctrees", BUILD / "html"):
            shutil.rmtree(folder, ignore_errors=True)
    unfinished.touch()
    print("Building the pages", flush=True)
    begun = time.monotonic()
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            "import neutral; from jupyter_book.cli.main import main; main()",
            "build",
            str(BUILD / "stage"),
            "--path-output",
            str(ROOT),
            "-W",
            "-n",
            "--keep-going",
            "-q",
        ],
        cwd=neutral.TOOLS,
        capture_output=True,
        text=True,
    )
    if done.returncode:
        raise BookError("Sphinx stopped:\n" + done.stdout + done.stderr)
    print(f"  {time.monotonic() - begun:.1f} s", flush=True)
    finish(BUILD / "html")
    student.write(BUILD / "stage", BUILD / "html" / student.KIT)
    problems = site_checks.check_site(BUILD / "html")
    if problems:
        raise BookError("the built pages have faults:\n" + "\n".join(f"  {p}" for p in problems))
    unfinished.unlink()
    print(f"Built in {time.monotonic() - start:.0f} s: open _build/html/index.html")


def main() -> int:
    """Return 1, with the reason on stderr, when the book is not as it should be."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("command", choices=["build", "publish", "check"])
    parser.add_argument("chapters", nargs="*", help="stems such as 01_data; all when left out")
    parser.add_argument("--jobs", type=int, default=2, help="notebooks to run at a time")
    options = parser.parse_args()
    try:
        if options.command == "build":
            build(options.jobs)
        elif options.command == "publish":
            publish(options.chapters, options.jobs)
        else:
            check(options.chapters)
    except (BookError, student.KitError) as error:
        print(f"The book is not built: {error}" if options.command == "build" else f"Stopped: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
