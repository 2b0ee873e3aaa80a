"""Mend what the theme leaves undone: names for readers and machines, roles, formulae in titles of the bibliography.

A page is changed as its template is written, so nothing here depends on scripts in the reader's browser.
"""

import html
import re

from docutils import nodes

LENGTH = 200  # of a description: search engines show no more


def describe(app, pagename, templatename, context, doctree):
    """Say in a sentence or two what a page holds, from its first paragraph of plain words."""
    text = ""
    for paragraph in doctree.findall(nodes.paragraph) if doctree is not None else []:
        if isinstance(paragraph.parent, nodes.section) and "\\" not in paragraph.astext():
            text = " ".join(paragraph.astext().split())
            text = re.sub(r"^(What you|You) will learn\.? (\w)", lambda m: m[2].upper(), text)
            if len(text) > 40:
                break
    context["book_description"] = _clip(text) if len(text) > 40 else ""


def _clip(text):
    if len(text) <= LENGTH:
        return text
    return re.sub(r"[\s,;:.]*\s\S*$", "", text[:LENGTH]) + " …"


def keys(app, doctree, docname):
    """Give each entry of the bibliography its key as a name, so that a link to it lasts, and let MathJax in."""
    cited = {c.citation_id: c.key for c in app.env.get_domain("cite").citations}
    for entry in doctree.findall(nodes.citation):
        app.env.get_domain("math").data["has_equations"][docname] = True
        entry["ids"] += [cited[i] for i in entry["ids"] if i in cited and cited[i] not in entry["ids"]]


def terms(app, doctree):
    """Give each term of the glossary a name, so that `[ESS](glossary.md#term-effective-sample-size)` links to it."""
    import lab  # of the folder tools, which the extension kit puts on the path

    if app.env.docname.split("/")[-1] != "glossary":
        return
    known = app.env.metadata[app.env.docname].setdefault("myst_slugs", {})
    for term in doctree.findall(nodes.term):
        name = lab.term_id(term.astext())
        term["ids"].append(name)
        known[name] = (1, name, term.astext())


def mend(page, context, config):
    """Return a page of HTML with the theme's faults mended."""
    book = str(config.html_title or config.project)
    found = re.search(r"<title>(.*?)</title>", page, re.S)
    title = html.unescape(re.sub("<.*?>", "", found[1])).strip().removesuffix(f" — {book}") if found else book
    named = title if title == book else f"{title} — {book}"
    text = context.get("book_description") or f"{title}: part of the book “{book}”."
    tags = {"og:title": title, "og:type": "article", "og:site_name": book, "og:description": text}
    if config.html_baseurl and context.get("pagename"):
        tags["og:url"] = f"{config.html_baseurl.rstrip('/')}/{context['pagename']}.html"
    head = f"<title>{html.escape(named)}</title>\n"
    head += f'    <meta name="description" content="{html.escape(text)}">\n'
    head += "".join(f'    <meta property="{k}" content="{html.escape(v)}">\n' for k, v in tags.items())
    page = re.sub(r"<title>.*?</title>", lambda _: head, page, count=1, flags=re.S)
    # A button is called what it says.
    page = re.sub(r'(<button class="btn search-button-field [^>]*?) title="[^"]*" aria-label="[^"]*"', r"\1", page)
    # The logo stands in a landmark.
    page = re.sub(r'(<a class="navbar-brand logo".*?</a>)', r'<nav aria-label="Home">\1</nav>', page, flags=re.S)
    # Roles that browsers no longer know; an empty cell heads no column.
    page = page.replace('role="doc-biblioentry"', 'role="listitem"')
    page = re.sub(r'<th class="head">(<p></p>)?</th>', "<td></td>", page)
    # A wide figure scrolls in its frame, at a size at which it can be read.
    page = re.sub(
        r'<img (?=[^>]*\bclass="[^"]*\bleast-(\d+))[^>]*>',
        lambda m: f'<div class="picture">{m[0][:4]} style="--least: {m[1]}px" {m[0][5:]}</div>',
        page,
    )
    return re.sub(r'<div class="citation".*?(?=<div class="citation"|</section>)', _formulae, page, flags=re.S)


def _formulae(entry):
    formula = r'<span class="math notranslate nohighlight">\\(\1\\)</span>'
    return re.sub(r"\$([^$<>]+)\$", formula, entry[0])


def wrap(app):
    if app.builder.format != "html":
        return
    templates, config = app.builder.templates, app.config
    render = templates.render
    templates.render = lambda name, context: (
        mend(render(name, context), context, config) if name.endswith(".html") else render(name, context)
    )


def setup(app):
    app.connect("builder-inited", wrap)
    app.connect("html-page-context", describe)
    app.connect("doctree-read", terms)
    app.connect("doctree-resolved", keys)
    return {"parallel_read_safe": True, "parallel_write_safe": True, "env_version": 1}
