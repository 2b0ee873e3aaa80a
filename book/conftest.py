"""nbval over the chapters, with the book's own comparison in place of nbval's.

nbval runs every cell in a fresh kernel and then asks whether the outputs agree. Its own
answer ignores pictures and compares numbers as strings, so the gates answer instead.
A notebook that passes as a whole is kept for `make book`, which need not run it again.
"""

import sys
import time
from pathlib import Path

import nbformat
from nbval.plugin import IPyNbCell, coalesce_streams

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tools"))
import book as book_tools  # noqa: E402
import gates  # noqa: E402


def pytest_itemcollected(item):
    if not isinstance(item, IPyNbCell):
        return
    item.output_timeout = 120  # nbval's 5 s per message are too few on a busy machine

    def compare(new, published):
        problems = gates.compare_outputs(new, published, gates.Tolerance.of(item.cell))
        item.comparison_traceback = problems
        return not problems

    item.compare_outputs = compare


def pytest_runtest_setup(item):
    if isinstance(item, IPyNbCell) and not hasattr(item.parent, "run_start"):
        item.parent.run_start, item.parent.run_key = time.monotonic(), book_tools.key(item.parent.nb)
        item.parent.ran = {}


def pytest_runtest_makereport(item, call):
    if isinstance(item, IPyNbCell) and call.when == "call" and call.excinfo is None:
        item.parent.ran[item.cell_num] = coalesce_streams(item.test_outputs)


def pytest_runtest_teardown(item, nextitem):
    if not isinstance(item, IPyNbCell) or (nextitem is not None and nextitem.parent is item.parent):
        return
    source, cells = item.parent, gates.code_cells(item.parent.nb)
    memory = book_tools.peak_memory(source.kernel.km) if source.kernel.is_alive() else None
    if len(source.ran) == len(cells):
        for number, cell in enumerate(cells):
            cell.outputs = [nbformat.from_dict(o) for o in source.ran[number]]
            cell.execution_count = number + 1
        book_tools.store(source.nb, Path(source.path), time.monotonic() - source.run_start, memory, source.run_key)
    assert memory is None or memory < book_tools.MAX_MEMORY, f"the chapter peaks at {memory:.0f} MB"
