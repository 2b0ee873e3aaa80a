"""Make a notebook readable where MyST is not: in JupyterLab, on a code host, as a download.

`make publish` writes into the notebook what only the pages would show otherwise: below each figure its caption,
from the cell's metadata, with the figure's name as a target of links, and each citation as names and year. The
build takes both back (`for_pages`), so that the pages number their figures and list what they cite as ever.
Links into the glossary are plain ones, `[ESS](glossary.md#term-effective-sample-size)`; the build gives each term its
name (`term_id`).
"""

from __future__ import annotations

import copy
import functools
import re
from pathlib import Path

from nbformat.v4 import new_markdown_cell

BIBLIOGRAPHY = Path(__file__).resolve().parent.parent / "book/references.bib"
GLOSSARY = Path(__file__).resolve().parent.parent / "book/glossary.md"
CAPTION = "caption"  # the tag of a cell that repeats the caption of the figure above it
ROLE = re.compile(r"\{cite:([tp])\}`([^`]+)`")
LINK = r"\[[^\]]+\]\(bibliography\.md#([\w-]+)\)"
GROUP = re.compile(rf"\({LINK}(?:; {LINK})*\)")
TERM = re.compile(r"\]\(glossary\.md#([^)]*)\)")
CODE = re.compile(r"(^```.*?^```[^\n]*|``.*?``)", re.M | re.S)


def for_reading(notebook, bibliography: Path = BIBLIOGRAPHY):
    """Copy the notebook with captions below its figures and citations in plain Markdown."""
    made = copy.deepcopy(notebook)
    made.cells = []
    for cell in copy.deepcopy(notebook.cells):
        if is_caption(cell):
            continue  # written anew from the figure's metadata
        if cell.cell_type == "markdown":
            cell.source = cited(cell.source, bibliography)
        made.cells.append(cell)
        figure = cell.metadata.get("mystnb", {}).get("figure", {})
        if cell.cell_type == "code" and figure.get("caption"):
            made.cells.append(
                _caption(
                    cited(figure["caption"], bibliography),
                    figure.get("name"),
                    "hide-cell" in cell.metadata.get("tags", []),
                )
            )
    return made


def for_pages(notebook):
    """Copy the notebook without the cells of captions, and with citations as MyST's roles."""
    made = copy.deepcopy(notebook)
    made.cells = [cell for cell in made.cells if not is_caption(cell)]
    for cell in made.cells:
        if cell.cell_type == "markdown":
            cell.source = GROUP.sub(lambda match: _role("p", match[0]), cell.source)
            cell.source = re.sub(LINK, lambda match: _role("t", match[0]), cell.source)
    return made


def cited(text: str, bibliography: Path = BIBLIOGRAPHY) -> str:
    """Return Markdown with MyST's citations as links of names and years."""
    return _outside_code(ROLE, lambda match: _plain(match, bibliography), text)


def is_caption(cell) -> bool:
    """Return whether a cell repeats the caption of the figure above it."""
    return CAPTION in cell.metadata.get("tags", [])


def check(notebook, bibliography: Path = BIBLIOGRAPHY) -> list[str]:
    """Return what a reader without MyST would miss, as messages."""
    try:
        wanted = for_reading(notebook, bibliography)
    except KeyError as error:
        return [f"cites {error}, which references.bib does not hold"]
    problems = [f"links to {name}, which the glossary does not hold" for name in unknown_terms(notebook)]
    if [_shown(c) for c in wanted.cells] == [_shown(c) for c in notebook.cells]:
        return problems
    return problems + ["captions or citations are not as `make publish` writes them for JupyterLab"]


def term_id(term: str) -> str:
    """Return the name that links to a term of the glossary use; what stands in brackets does not count."""
    plain = re.sub(r"\s*\(.*\)$|['’]", "", term.lower())
    return "term-" + re.sub(r"[^a-z0-9]+", "-", plain).strip("-")


def terms(glossary: Path = GLOSSARY) -> set[str]:
    """Return the names of the terms that the glossary holds."""
    return {term_id(term) for term in re.findall(r"^(\S.*)\n: ", glossary.read_text(encoding="utf8"), re.M)}


def unknown_terms(notebook, glossary: Path = GLOSSARY) -> list[str]:
    """Return the names in links to the glossary that it does not hold."""
    linked = [name for cell in notebook.cells if cell.cell_type == "markdown" for name in TERM.findall(cell.source)]
    return sorted(set(linked) - terms(glossary)) if linked else []


def _shown(cell) -> tuple:
    return cell.cell_type, cell.source, cell.metadata.get("tags", [])


def _caption(said: str, name: str | None, folded: bool):
    target = f'<a id="{name}"></a>' if name else ""
    if folded:  # it would give the solution away
        text = f"<details><summary>The figure's caption</summary>\n\n{target}{said}\n\n</details>"
    else:
        text = f"{target}**Figure.** {said}"
    return new_markdown_cell(text, metadata={"tags": [CAPTION]})


def _role(kind: str, links: str) -> str:
    return f"{{cite:{kind}}}`{','.join(re.findall(LINK, links))}`"


def _plain(match: re.Match, bibliography: Path) -> str:
    """Return a citation as links of names and years."""
    entries = [(key.strip(), *references(bibliography)[key.strip()]) for key in match[2].split(",")]
    if match[1] == "t":
        return ", ".join(f"[{who} ({year})](bibliography.md#{key})" for key, who, year in entries)
    return "(" + "; ".join(f"[{who}, {year}](bibliography.md#{key})" for key, who, year in entries) + ")"


def _outside_code(pattern: re.Pattern, replace, text: str) -> str:
    pieces = CODE.split(text)
    pieces[::2] = [pattern.sub(replace, piece) for piece in pieces[::2]]
    return "".join(pieces)


@functools.cache
def references(bibliography: Path) -> dict[str, tuple[str, str]]:
    """Return authors and year of each entry of a bibliography."""
    from pybtex.database import parse_file  # type: ignore[import-untyped]

    found = {}
    for key, entry in parse_file(str(bibliography)).entries.items():
        people = entry.persons.get("author", [])
        names = [" ".join(str(part) for part in p.rich_prelast_names + p.rich_last_names) for p in people]
        who = " and ".join(names) if len(names) < 3 else f"{names[0]} et al."
        found[key] = who, str(entry.fields.get("year", ""))
    return found
