"""Faults of the built pages that Sphinx does not report."""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import unquote, urlsplit

from bs4 import BeautifulSoup


def check_site(html: Path) -> list[str]:
    """Broken links, pictures without alt text or caption, raw TeX, pages without a description, and what is not needed.

    Parameters
    ----------
    html : Path
        Folder of the built pages.

    Returns
    -------
    list of str
        One message per fault.
    """
    pages = {
        p: BeautifulSoup(p.read_text(encoding="utf8"), "html.parser")
        for p in sorted(html.glob("**/*.html"))
        if "_static" not in p.parts
    }
    anchors = {p: {str(tag["id"]) for tag in soup.find_all(id=True)} for p, soup in pages.items()}
    problems = []
    for page, soup in pages.items():
        name = page.relative_to(html).as_posix()
        found = _links(page, soup, anchors) + _pictures(soup) + _outside(soup) + _private(soup, html)
        found += _raw_tex(soup) + _head(soup)
        problems += [f"{name}: {m}" for m in found]
    maps = sorted(p.relative_to(html).as_posix() for p in html.rglob("*.map"))
    return problems + [f"{name}: a source map, which no reader needs" for name in maps]


# Where a dollar sign and a backslash are what they are.
VERBATIM = ("pre", "code", "script", "style", "kbd")
RAW_TEX = re.compile(r"\$|\\[a-zA-Z]+|\\[()\[\]]")


def _raw_tex(soup) -> list[str]:
    """Look for formulae that have been left as their source."""
    problems = []
    for article in soup.select("article"):
        for text in article.find_all(string=RAW_TEX):
            if not any(p.name in VERBATIM or "math" in (p.get("class") or []) for p in text.parents):
                problems.append(f"raw TeX in the text: {' '.join(text.split())[:80]}")
    return problems


def _head(soup) -> list[str]:
    """Look for what search engines and previews of links show of a page."""
    if not soup.find("article") and not soup.select("meta[http-equiv]"):
        return []
    problems = []
    for name, value in (("name", "description"), ("property", "og:title"), ("property", "og:description")):
        tag = soup.find("meta", attrs={name: value})
        if tag is None or not tag.get("content", "").strip():
            problems.append(f"no {value} in its head")
    title = soup.title.get_text(strip=True) if soup.title else ""
    pieces = [piece.strip() for piece in re.split("\u2014|\u2013", title)]
    if not title or len(set(pieces)) < len(pieces):
        problems.append(f"its title is empty, or repeats itself: {title}")
    return problems


def _links(page: Path, soup, anchors: dict) -> list[str]:
    problems = []
    for tag in soup.select("a[href]"):
        parts = urlsplit(tag["href"])
        if parts.scheme or parts.netloc or tag["href"] == "#":
            continue
        target = (page.parent / unquote(parts.path)).resolve() if parts.path else page
        if not target.exists():
            problems.append(f"link to nothing: {tag['href']}")
        elif parts.fragment and target in anchors and unquote(parts.fragment) not in anchors[target]:
            problems.append(f"link to no such place: {tag['href']}")
    return problems


def _pictures(soup) -> list[str]:
    problems = []
    for image in soup.select("article img"):
        alt = image.get("alt", "").strip()
        if len(alt) < 5 or alt == image["src"] or alt.startswith("_images/"):
            problems.append(f"picture without alt text: {image['src']}")
        figure = image.find_parent("figure")
        if image["src"].endswith(".png") and not (figure and figure.find("figcaption")):
            problems.append(f"picture without caption: {image['src']}")
    return problems


def _outside(soup) -> list[str]:
    """Scripts, styles, fonts and pictures that would need a network."""
    fetched = [tag.get("src") for tag in soup.select("script[src], img[src], iframe[src], source[src]")]
    fetched += [tag["href"] for tag in soup.select("link[href]") if "canonical" not in tag.get("rel", [])]
    return [f"fetched from elsewhere: {url}" for url in fetched if urlsplit(url).netloc]


def _private(soup, html: Path) -> list[str]:
    """Look for the folder in which the book was built, which is nobody's business."""
    root = str(html.resolve().parents[1])
    text = soup.get_text()
    return [f"shows a path of this machine: {root}"] if len(root) > 3 and root in text else []
