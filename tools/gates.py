"""What a notebook must satisfy to be published, and when two outputs count as the same.

Numbers
    A printed number may differ from the published one by one unit in its last
    printed place plus 1 %. A whole number (no decimal point, no exponent) must be equal.
    All other text must be equal, up to the white space between words.
Pictures
    The text form of a figure (`text_form.describe`: its labels, limits and curves)
    is compared as numbers are. Of the pixels, each must lie within
    the range of colours that the other picture shows up to ``shift`` pixels away.
    What does not is averaged over a few pixels, and the worst place may reach ``level``.

A cell whose output rightly varies more (it trains a model, it prints a time) says so in
its metadata, with the reason: ``"gate": {"rtol": 0.1, "why": "trained in this chapter"}``.
"""

from __future__ import annotations

import base64
import copy
import hashlib
import io
import itertools
import json
import platform
import re
from dataclasses import dataclass
from pathlib import Path

import nbformat
import numpy as np
from PIL import Image
from scipy import ndimage

import lab

MAX_BYTES = 3_000_000
BLOCKING_TAGS = {
    "nbval-skip",
    "nbval-ignore-output",
    "nbval-raises-exception",
    "raises-exception",
    "skip-execution",
    "remove-cell",
    "remove-output",
    "remove-input",
}
BLOCKING_COMMENT = re.compile(
    r"^\s*#+\s*(NBVAL_(?:SKIP|IGNORE_OUTPUT|RAISES_EXCEPTION)|PYTEST_VALIDATE_IGNORE_OUTPUT)\s*$", re.M
)


# What runs in a page, and what is data: neither holds words or numbers that a reader sees.
EMBEDDED = re.compile(r"<script\b.*?</script>|data:[\w.+-]+/[\w.+-]+[;,][^\"'\s>]*", re.S)


@dataclass(frozen=True)
class Tolerance:
    """How far an output may be from the published one."""

    rtol: float = 0.01
    atol: float = 0.0
    shift: int = 2
    level: float = 0.08
    exact_integers: bool = True

    @classmethod
    def of(cls, cell) -> Tolerance:
        """Return the tolerance of a cell: the default, or what its ``gate`` metadata states."""
        stated = {k: v for k, v in cell.metadata.get("gate", {}).items() if k != "why"}
        if "rtol" in stated or "atol" in stated:
            stated.setdefault("exact_integers", False)
        return cls(**stated)


DEFAULT = Tolerance()


# ---------------------------------------------------------------- numbers and text

# Digits in a name (X0, x_1), a hash (12e34f) or a version (2.4.6) belong to it: Python signs its exponents,
# and a number has one point. A comma groups thousands, or stands between two numbers.
NUMBER = re.compile(
    r"(?<![\w.])[-+\u2212]?(?:(?:\d{1,3}(?:,\d{3})+|\d+(?:_\d+)*)\.?\d*|\.\d+)(?:[eE][-+]\d+)?(?!\w|\.\d)"
)
# A path of an SVG starts with a move; only there do numbers touch letters, and one another (L120.8-3.2.5).
PATH_DATA = re.compile(r'(?<=\bd=")\s*[Mm][MmLlHhVvCcSsQqTtAaZzeE\d\s.,+-]*(?=")')
PATH_TOKEN = re.compile(r"[MmLlHhVvCcSsQqTtAaZz]|[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?")


def compare_text(new: str, old: str, tolerance: Tolerance = DEFAULT) -> list[str]:
    """Return the differences between two texts beyond the tolerance, as messages; empty when none."""

    def spaced(text):
        return PATH_DATA.sub(lambda path: " ".join(PATH_TOKEN.findall(path[0])), text)

    def skeleton(text):
        # The width of a number moves brackets and the rules of tables.
        text = re.sub(r"\s*([\[\](){}|])\s*", r"\1", NUMBER.sub("#", text))
        return re.sub(r"\s+", " ", re.sub(r"([-=\u2500])\1+", r"\1", text)).strip()

    new, old = spaced(new), spaced(old)
    if skeleton(new) != skeleton(old):
        return [f"text differs:\n  published: {_clip(old)}\n  computed:  {_clip(new)}"]
    problems = []
    for a, b in zip(NUMBER.findall(new), NUMBER.findall(old), strict=True):
        (x, place_x, whole_x), (y, place_y, whole_y) = _parse(a), _parse(b)
        if whole_x and whole_y and tolerance.exact_integers:
            close = x == y
        else:
            slack = max(place_x, place_y) * (1 + 1e-9) + tolerance.rtol * max(abs(x), abs(y)) + tolerance.atol
            close = abs(x - y) <= slack
        if not close:
            problems.append(f"number differs: published {b}, computed {a}")
    return problems


def _parse(token: str) -> tuple[float, float, bool]:
    """Return the value of a printed number, the size of its last place, and whether it is whole."""
    token = token.replace(",", "").replace("_", "").replace("\u2212", "-")
    mantissa, _, exponent = token.lower().partition("e")
    decimals = len(mantissa.partition(".")[2])
    whole = "." not in mantissa and not exponent
    return float(token), float(f"1e{int(exponent or 0) - decimals}"), whole


def _clip(text: str, width: int = 600) -> str:
    return text if len(text) <= width else text[:width] + " …"


# ---------------------------------------------------------------- pictures


def picture_difference(new: bytes, old: bytes, shift: int = 2) -> float:
    """Measure how much two PNG files differ in their worst place.

    Parameters
    ----------
    new, old : bytes
        PNG files.
    shift : int
        Pixels by which a line may move without being noticed.

    Returns
    -------
    float
        0 for pictures equal up to the shift; about 0.4 where a thin black line
        is in one and not in the other; 1 for a patch of black against white.
        Infinite if the sizes differ by more than two pixels.
    """
    if new == old:
        return 0.0
    a, b = _pixels(new), _pixels(old)
    if max(abs(a.shape[0] - b.shape[0]), abs(a.shape[1] - b.shape[1])) > 2:
        return np.inf
    a, b = _align(a, b)
    beyond = np.maximum(_beyond(a, b, shift), _beyond(b, a, shift))
    return float(ndimage.gaussian_filter(beyond, 3.0).max())


def _pixels(png: bytes) -> np.ndarray:
    """RGB on white, in [0, 1], a little blurred so that antialiasing does not count."""
    image = Image.open(io.BytesIO(png)).convert("RGBA")
    white = Image.new("RGBA", image.size, "white")
    rgb = np.asarray(Image.alpha_composite(white, image).convert("RGB"), float) / 255
    return ndimage.gaussian_filter(rgb, (0.6, 0.6, 0))


def _align(a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Crop pictures whose sizes differ by a pixel or two where they fit best."""
    h, w = np.minimum(a.shape[:2], b.shape[:2])

    def windows(x):
        return [x[i : i + h, j : j + w] for i in range(x.shape[0] - h + 1) for j in range(x.shape[1] - w + 1)]

    return min(itertools.product(windows(a), windows(b)), key=lambda p: np.abs(p[0] - p[1]).mean())


def _beyond(a: np.ndarray, b: np.ndarray, shift: int) -> np.ndarray:
    """By how much each pixel of ``a`` leaves the range of ``b`` around it."""
    size = (2 * shift + 1, 2 * shift + 1, 1)
    low, high = ndimage.minimum_filter(b, size), ndimage.maximum_filter(b, size)
    return np.maximum(low - a, a - high).clip(0).max(-1)


# ---------------------------------------------------------------- outputs


def compare_outputs(new: list, old: list, tolerance: Tolerance = DEFAULT) -> list[str]:
    """Return the differences between the outputs of a cell and those published, as messages.

    Parameters
    ----------
    new, old : list of notebook outputs
        Streams of the same name merged into one.
    tolerance : Tolerance
        What may differ.
    """
    problems = [f"writes to stderr: {_clip(o.text)}" for o in new if o.output_type == "stream" and o.name == "stderr"]
    kinds = [[(o.output_type, o.get("name")) for o in side] for side in (new, old)]
    if kinds[0] != kinds[1]:
        return problems + [f"kinds of output differ: published {kinds[1]}, computed {kinds[0]}"]
    for a, b in zip(new, old, strict=True):
        if a.output_type == "stream":
            problems += compare_text(a.text, b.text, tolerance)
        elif a.output_type == "error":
            problems += compare_text(a.ename + a.evalue, b.ename + b.evalue, tolerance)
        elif set(a.data) != set(b.data):
            problems.append(f"formats differ: published {sorted(b.data)}, computed {sorted(a.data)}")
        else:
            for mime in a.data:
                problems += _compare_data(mime, a.data[mime], b.data[mime], tolerance)
    return problems


def _compare_data(mime: str, new, old, tolerance: Tolerance) -> list[str]:
    if mime == "image/png":
        worst = picture_difference(base64.b64decode(new), base64.b64decode(old), tolerance.shift)
        return (
            []
            if worst <= tolerance.level
            else [f"picture differs: {worst:.3f} in its worst place, at most {tolerance.level} is allowed"]
        )
    if mime == "text/html":
        if EMBEDDED.findall(new) != EMBEDDED.findall(old):
            return ["a script or embedded data differ"]
        new, old = EMBEDDED.sub("", new), EMBEDDED.sub("", old)
    if isinstance(new, str):
        return compare_text(new, old, tolerance)
    return [] if new == old else [f"{mime} differs"]


# ---------------------------------------------------------------- notebooks


def code_cells(notebook) -> list:
    """Return the cells of code, in order."""
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def normalise(notebook, stem: str):
    """Copy the notebook without anything that changes from run to run.

    Kernel and language are as JupyterLab writes them, or it would take every notebook for modified once it is open.
    """
    clean = copy.deepcopy(notebook)
    kept = {k: v for k, v in notebook.metadata.items() if k == "published"}
    version = str(notebook.metadata.get("language_info", {}).get("version", ""))
    clean.metadata = nbformat.from_dict(
        kept
        | {
            "kernelspec": {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"},
            "language_info": {
                "codemirror_mode": {"name": "ipython", "version": 3},
                "file_extension": ".py",
                "mimetype": "text/x-python",
                "name": "python",
                "nbconvert_exporter": "python",
                "pygments_lexer": "ipython3",
                "version": version if re.fullmatch(r"3\.\d+\.\d+", version) else platform.python_version(),
            },
        }
    )
    clean.nbformat, clean.nbformat_minor = 4, 5
    count = 0
    number = -1
    for cell in clean.cells:
        # A caption takes no number, so that a figure more or less does not rename what others wrote.
        if lab.is_caption(cell) and number >= 0:
            cell.id = f"{stem}-{number:03d}-caption"
        else:
            number += 1
            cell.id = f"{stem}-{number:03d}"
        for volatile in ("execution", "collapsed", "scrolled", "ExecuteTime", "trusted", "editable", "slideshow"):
            cell.metadata.pop(volatile, None)
        tags = set(cell.metadata.get("tags", []))
        if cell.cell_type != "code":
            continue
        # JupyterLab folds what the book folds.
        folds = {}
        if tags & {"hide-input", "hide-cell"}:
            folds["source_hidden"] = True
        if tags & {"hide-output", "hide-cell"}:
            folds["outputs_hidden"] = True
        cell.metadata.pop("jupyter", None)
        if folds:
            cell.metadata["jupyter"] = folds
        if cell.execution_count is not None:
            count += 1
            cell.execution_count = count
        for output in cell.outputs:
            if "execution_count" in output:
                output.execution_count = cell.execution_count
            if "metadata" in output:
                output.metadata = nbformat.from_dict({})
    return clean


def seal(notebook) -> str:
    """Hash of the code and of its outputs, written by ``make publish``."""
    content = [[c.source, c.outputs] for c in code_cells(notebook)]
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def package_hash(package: Path) -> str:
    """Hash the package's sources and weights: the same on every machine, whatever its line ends and order of files."""
    digest = hashlib.sha256()
    files = {p.relative_to(package).as_posix(): p for p in package.rglob("*") if p.is_file() and p.suffix != ".pyc"}
    for name in sorted(files):
        if any(part.startswith((".", "__pycache__")) for part in name.split("/")):
            continue
        content = files[name].read_bytes()
        if b"\0" not in content:  # text, which a checkout on Windows may hold with other line ends
            content = content.replace(b"\r\n", b"\n")
        digest.update(f"{name}\0{len(content)}\0".encode() + content)
    return digest.hexdigest()


def check_notebook(path: Path, *, fresh: bool = True) -> list[str]:
    """Return what keeps a notebook from being published, as messages; empty when nothing does.

    Parameters
    ----------
    path : Path
        A notebook, with the package and references.bib where the book has them.
    fresh : bool
        Whether outputs of another version of the package than the one beside the notebook are a fault.
    """
    notebook = nbformat.read(path, as_version=4)
    stem, problems = path.stem, []
    published = notebook.metadata.get("published")
    published = published if isinstance(published, dict) else {}
    cells = code_cells(notebook)
    if path.stat().st_size > MAX_BYTES:
        problems.append(f"larger than {MAX_BYTES / 1e6:.0f} MB")
    if not cells:
        problems.append("holds no code")
    if [c.execution_count for c in cells] != list(range(1, len(cells) + 1)):
        problems.append("its code cells have not all been executed in order, from 1")
    if published.get("outputs") != seal(notebook):
        problems.append("its outputs were not written by `make publish`, or its code was changed afterwards")
    if fresh and published.get("package") != package_hash(path.parent.parent / "cvae_tutorial"):
        problems.append("its outputs are of another version of the package: run `make publish`")
    problems += lab.check(notebook, path.parent / "references.bib")
    if nbformat.writes(normalise(notebook, stem)) != nbformat.writes(notebook):
        problems.append("holds volatile metadata: run `make publish`")
    if not any("image/png" in o.get("data", {}) for c in cells for o in c.outputs):
        problems.append("shows no figure")
    names = []
    for number, cell in enumerate(notebook.cells):
        where = f"cell {number} ({cell.source.strip().splitlines()[0][:40] if cell.source.strip() else 'empty'})"
        found = _check_markdown(cell) if cell.cell_type == "markdown" else []
        if cell.cell_type == "code":
            found = _check_code(cell)
            names.append(cell.metadata.get("mystnb", {}).get("figure", {}).get("name"))
        problems += [f"{where}: {message}" for message in found]
    names = [n for n in names if n]
    problems += [f"two figures are called {n}" for n in sorted(set(names)) if names.count(n) > 1]
    if re.match(r"\d\d_", stem):
        problems += _check_chapter(cells)
    return problems


def _check_chapter(cells) -> list[str]:
    tags = [tag for c in cells for tag in set(c.metadata.get("tags", []))]
    problems = []
    if tags.count("solution") < 4:
        problems.append(f"has {tags.count('solution')} tested solutions, and needs four or more")
    if tags.count("take-home") != 1:
        problems.append("needs one cell tagged take-home")
    checks = [c for c in cells if "checks" in c.metadata.get("tags", [])]
    if not any(re.search(r"^\s*assert |assert_", c.source, re.M) for c in checks):
        problems.append("needs a cell tagged checks that asserts what the text claims")
    return problems


def _check_markdown(cell) -> list[str]:
    problems = []
    if re.search(r"!\[\s*\]\(", cell.source) or re.search(r"<img(?![^>]*\balt=\"[^\"]+\")", cell.source):
        problems.append("a picture without alt text")
    return problems


def _check_code(cell) -> list[str]:
    problems = []
    tags = set(cell.metadata.get("tags", []))
    gate = cell.metadata.get("gate", {})
    blocked = (tags & BLOCKING_TAGS) | set(BLOCKING_COMMENT.findall(cell.source))
    if (blocked or gate) and len(gate.get("why", "")) < 10:
        problems.append(f"states {sorted(blocked) or 'a tolerance of its own'} without a reason in gate.why")
    if "solution" in tags and "hide-cell" not in tags:
        problems.append("a solution must be tagged hide-cell too")
    mystnb = cell.metadata.get("mystnb", {})
    pictures = 0
    for output in cell.outputs:
        text = output.get("text", "") + "".join(
            v for k, v in output.get("data", {}).items() if isinstance(v, str) and k.startswith("text/")
        )
        text = EMBEDDED.sub("", text)
        if output.output_type == "stream" and output.name == "stderr":
            problems.append("has written to stderr")
        if output.output_type == "error" and "raises-exception" not in tags:
            problems.append("has raised an error")
        if re.search(r"<(Axes|matplotlib|seaborn|Figure size)|\[<matplotlib|Text\(", text):
            problems.append("publishes the name of a plot object: end the cell with plt.show(), and run `make publish`")
        if re.search(r"(/home/|/Users/|/root/|/tmp/|[A-Z]:\\Users|site-packages)", text):
            problems.append("publishes a path of the machine")
        if re.search(r" at 0x[0-9a-f]{6,}", text):
            problems.append("publishes a memory address")
        images = [m for m in output.get("data", {}) if m.startswith("image/")]
        pictures += bool(images)
        if images and images != ["image/png"]:
            problems.append(f"publishes {images}, which the figure gate does not read: use PNG")
    alt = mystnb.get("image", {}).get("alt", "")
    caption = mystnb.get("figure", {}).get("caption", "")
    if pictures > 1:
        problems.append("draws more than one figure: one caption, one figure")
    if pictures and (len(alt.strip()) < 20 or len(caption.strip()) < 20):
        problems.append("its figure needs an alt text and a caption of twenty characters or more")
    if pictures and alt.strip() == caption.strip():
        problems.append("the alt text says what is seen, the caption what it means: they should differ")
    if (alt or caption) and not pictures:
        problems.append("has a caption, and no figure")
    return problems
