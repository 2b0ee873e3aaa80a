"""The commands around the book: `make calm`, the clock, and that every place names the same commands."""

import os
import re
import subprocess
import sys

import pytest

import book
import calm
import neutral

MAKEFILE = (book.ROOT / "Makefile").read_text(encoding="utf8")
TARGETS = set(re.findall(r"^([a-z-]+):.*##", MAKEFILE, re.M))
PLACES = ["README.md", "CONTRIBUTING.md", ".ci/run", ".pre-commit-config.yaml", ".github/workflows/ci.yml"]


@pytest.mark.parametrize("place", PLACES)
def test_every_command_named_is_one(place):
    named = re.findall(r"(?:^|`|run: |entry: )make ([a-z-]+)", (book.ROOT / place).read_text(encoding="utf8"), re.M)
    assert named and set(named) <= TARGETS


def test_ci_here_and_on_github_run_the_same():
    here, github = ((book.ROOT / place).read_text(encoding="utf8") for place in (PLACES[2], PLACES[4]))
    assert re.findall(r"^make ([a-z-]+)", here, re.M) == re.findall(r"run: make ([a-z-]+)", github)
    assert all(f'"3.{minor}"' in github for minor in (11, 12, 13))


def test_files_that_make_names_exist():
    lists = "\n".join(re.findall(r"^(?:QUICK|PART) .*", MAKEFILE, re.M))
    files = re.findall(r"(?:tests|book)/[\w.]+\.(?:py|ipynb)", lists)
    files += [f"tests/test_{name}.py" for name in re.search(r"addsuffix \.py,([\w ]+)", lists)[1].split()]
    assert len(files) > 8 and all((book.ROOT / name).is_file() for name in files)


def test_calm_holds_numpy_down():
    sets = calm.instruction_sets()
    if "SSE41" not in sets:
        pytest.skip("this processor has no instruction set to go without")
    show = "import numpy as np; print(np.show_config(mode='dicts')['SIMD Extensions'].get('found'))"
    for name, variables in sets.items():
        # The cache of runs must know every variable, or `make book` would take over a run of `make calm`.
        assert set(variables) <= set(neutral.PROCESSOR)
        done = subprocess.run(
            [sys.executable, "-W", "error", "-c", show],
            env=os.environ | variables,
            capture_output=True,
            text=True,
            check=True,
        )
        assert ("512" in done.stdout or "X86_V4" in done.stdout) == (name == "AVX512_CORE")
        assert ("AVX2" in done.stdout or "X86_V3" in done.stdout) == (name != "SSE41")


@pytest.mark.parametrize("status", [0, 3])
def test_timed_counts_children_and_keeps_the_status(status):
    grandchild = "import time\nwhile time.process_time() < 1.2: pass"
    code = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {grandchild!r}]); sys.exit({status})"
    timed = [sys.executable, book.ROOT / "tools/timed.py", sys.executable, "-c", code]
    done = subprocess.run(timed, capture_output=True, text=True)
    assert done.returncode == status
    assert 0.02 <= float(re.search(r"took (\S+) CPU minutes", done.stdout)[1]) <= 0.1 or os.name == "nt"
