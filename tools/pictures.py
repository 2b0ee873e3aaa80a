"""What the pages must know of a figure beyond its picture: how small it may be shown, and a name for its code."""

from __future__ import annotations

import base64
import copy
import math
import re
import struct

SMALLEST = 9.2  # CSS pixels: no text in a figure is smaller than 9, whatever the screen
TEXT = re.compile(r"^smallest text: ([\d.]+) pt$", re.M)


def text_pixels(png: bytes, described: str) -> tuple[int, float] | None:
    """Return the width of a picture and the size of its smallest text, both in its own pixels.

    Parameters
    ----------
    png : bytes
        The picture.
    described : str
        Its text form, which tells the size in points; None where it does not.
    """
    found = TEXT.search(described)
    if not found:
        return None
    width = struct.unpack(">I", png[16:20])[0]
    place = png.find(b"pHYs")
    per_metre = struct.unpack(">I", png[place + 4 : place + 8])[0] if place > 0 else 100 / 0.0254
    return width, float(found[1]) * per_metre * 0.0254 / 72


def least_width(png: bytes, described: str) -> int | None:
    """Return the CSS pixels below which a figure may not be shown, or its text is too small."""
    sizes = text_pixels(png, described)
    return sizes and math.ceil(sizes[0] * SMALLEST / sizes[1])


def prepare(notebook):
    """Copy the notebook with what the pages need: each figure's least width, a name for each folded code cell."""
    made = copy.deepcopy(notebook)
    heading, said = "", set()
    for cell in made.cells:
        if cell.cell_type == "markdown":
            text = re.sub(r"^```.*?^```", "", cell.source, flags=re.M | re.S)
            heading = (re.findall(r"^#{1,4} (.+)$", text, re.M) or [heading])[-1]
            continue
        if cell.cell_type != "code":
            continue
        mystnb = cell.metadata.setdefault("mystnb", {})
        for output in cell.outputs:
            data = output.get("data", {})
            if "image/png" in data:
                least = least_width(base64.b64decode(data["image/png"]), data.get("text/plain", ""))
                if least:
                    mystnb.setdefault("image", {})["classes"] = f"least-{least}"
        tags = cell.metadata.get("tags", [])
        if "hide-input" in tags and "code_prompt_show" not in mystnb:
            name = _name(cell, heading)
            number = 2
            while name in said:
                name = f"{_name(cell, heading)}, {number}"
                number += 1
            said.add(name)
            mystnb["code_prompt_show"] = f"Show the code of {name}"
            mystnb["code_prompt_hide"] = f"Hide the code of {name}"
    return made


def _name(cell, heading: str) -> str:
    """Return what a folded cell makes: the figure by its name, else what it defines, else its section."""
    figure = cell.metadata.get("mystnb", {}).get("figure", {}).get("name", "")
    if figure:
        return f"the figure “{figure.removeprefix('fig-').replace('-', ' ')}”"
    defined = re.findall(r"^(?:def|class) (\w+)", cell.source, re.M)
    if defined:
        return ", ".join(defined[:3])
    plain = re.sub(r"[$\\{}`*]", "", heading).strip()
    return f"a step in “{plain}”" if plain else "this step"
