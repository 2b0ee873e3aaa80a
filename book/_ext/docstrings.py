"""Let docstrings stay plain: bars of conditionals and norms, and numbered references, as one writes them."""

import re


def plain(app, what, name, obj, options, lines):
    for number, line in enumerate(lines):
        # Docutils reads |x| as a substitution and [1]_ as a footnote of the page.
        pieces = re.split(r"(``.*?``|:\w+:`.*?`)", line)
        pieces[::2] = [re.sub(r"(?<!\\)\|", r"\\|", p) for p in pieces[::2]]
        line = re.sub(r"\[(\d+)\]_", r"[\1]", "".join(pieces))
        lines[number] = re.sub(r"^(\s*)\.\. (\[\d+\] )", r"\1-  \2", line)


def setup(app):
    app.connect("autodoc-process-docstring", plain, priority=400)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
