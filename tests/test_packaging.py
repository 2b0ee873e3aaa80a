"""The repository's promises: pins, commands, names, layers, and nothing private in it."""

import ast
import re
import subprocess
import sys
import tomllib
from importlib import metadata

import pytest
import yaml
from packaging.markers import default_environment
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import book

ROOT = book.ROOT
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
EXTRAS = PROJECT["project"]["optional-dependencies"]
REQUIREMENTS = [Requirement(r) for r in sum(EXTRAS.values(), PROJECT["project"]["dependencies"])]
PINS = [Requirement(line) for line in (ROOT / "constraints.txt").read_text().splitlines() if line and line[0] != "#"]
SYSTEMS = {"linux": "Linux", "darwin": "Darwin", "win32": "Windows"}


def tracked():
    """Text files that git knows of; the tree's own where there is no git."""
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True)
    if listed.returncode:
        pytest.skip("not a git checkout: there is no list of what is published")
    return [ROOT / name for name in listed.stdout.split("\n") if name and (ROOT / name).is_file()]


def pinned(name, python, system):
    """The version pinned for one package on one Python and system."""
    environment = default_environment() | {
        "python_version": python,
        "python_full_version": f"{python}.0",
        "sys_platform": system,
        "platform_system": SYSTEMS[system],
        "os_name": "nt" if system == "win32" else "posix",
    }
    fitting = [
        p
        for p in PINS
        if canonicalize_name(p.name) == canonicalize_name(name) and (p.marker is None or p.marker.evaluate(environment))
    ]
    return [str(p.specifier).removeprefix("==") for p in fitting]


@pytest.mark.parametrize("system", SYSTEMS)
@pytest.mark.parametrize("python", ["3.11", "3.12", "3.13"])
def test_one_pin_for_every_requirement_and_it_satisfies(python, system):
    for requirement in REQUIREMENTS:
        versions = pinned(requirement.name, python, system)
        assert len(versions) == 1, f"{requirement.name}: {versions}"
        assert requirement.specifier.contains(versions[0]), f"{requirement} and pin {versions[0]}"


def test_every_pin_is_exact():
    assert all(re.fullmatch(r"==[^,*]+", str(p.specifier)) for p in PINS)


def test_what_is_installed_is_what_is_pinned():
    """The tests speak for the pinned versions only if they run on them."""
    if not (ROOT / ".venv").exists() or not sys.prefix.startswith(str(ROOT)):
        pytest.skip("not the environment that make makes")
    installed = {canonicalize_name(d.name): d.version for d in metadata.distributions()}
    wrong = {
        p.name: (installed[canonicalize_name(p.name)], str(p.specifier))
        for p in PINS
        if (p.marker is None or p.marker.evaluate())
        and canonicalize_name(p.name) in installed
        and not p.specifier.contains(installed[canonicalize_name(p.name)])
    }
    assert not wrong


def test_everything_installed_is_pinned():
    names = {canonicalize_name(p.name) for p in PINS}
    missing, seen = set(), set()
    queue = [canonicalize_name(r.name) for r in REQUIREMENTS]
    while queue:
        name = queue.pop()
        if name in seen:
            continue
        seen.add(name)
        if name not in names:
            missing.add(name)
            continue
        for needed in map(Requirement, metadata.requires(name) or []):
            if needed.marker is None or needed.marker.evaluate({"extra": ""}):
                queue.append(canonicalize_name(needed.name))
    assert missing <= {"setuptools"}, missing


def test_constraints_name_no_index():
    assert "://" not in (ROOT / "constraints.txt").read_text()


def test_versions_agree():
    version = PROJECT["project"]["version"]
    assert metadata.version("cvae_tutorial") == version
    assert yaml.safe_load((ROOT / "CITATION.cff").read_text())["version"] == version
    assert f"## {version}" in (ROOT / "CHANGELOG.md").read_text()


def test_conda_environment_installs_the_same():
    environment = yaml.safe_load((ROOT / "environment.yml").read_text())
    pip = next(d["pip"] for d in environment["dependencies"] if isinstance(d, dict))
    assert pip == ["-c constraints.txt", f"-e .[{','.join(EXTRAS)}]"]
    assert "conda-forge" in environment["channels"] and "defaults" not in environment["channels"]


def test_ci_runs_what_the_readme_says():
    readme, ci = (ROOT / "README.md").read_text(), (ROOT / ".ci/run").read_text()
    for command in ("make test", "make book"):
        assert re.search(rf"^{command}\b", readme, re.M) and re.search(rf"^{command}$", ci, re.M)
    assert ci.index("make test") < ci.index("make book")


@pytest.mark.slow
def test_readme_code_runs(tmp_path):
    code = "\n".join(re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.S))
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert "(5000, 2)" in done.stdout  # after a progress bar, on a slow machine


def test_readme_links_exist():
    for link in re.findall(r"\]\(([^)]+)\)", (ROOT / "README.md").read_text()):
        assert link.startswith("https://") or (ROOT / link).exists(), link


@pytest.mark.parametrize(
    "version, accepted", [((2, 7), False), ((3, 10), False), ((3, 11), True), ((3, 13), True), ((3, 14), False)]
)
def test_python_of_the_wrong_age_is_told_so(version, accepted):
    fake = f"import sys; sys.version_info = {version + (0,)}; exec(open('tools/check_python.py').read())"
    done = subprocess.run([sys.executable, "-c", fake], cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode == 0) == accepted
    assert accepted or ("3.11, 3.12 or 3.13" in done.stderr and "PYTHON=" in done.stderr)


def test_python_range_is_the_same_everywhere():
    assert PROJECT["project"]["requires-python"] == ">=3.11,<3.14"
    assert "OLDEST, NEWEST = (3, 11), (3, 13)" in (ROOT / "tools/check_python.py").read_text()


PRIVATE = re.compile(r"/home/|/Users/|/root/|index-url|extra-index")


def test_nothing_private_is_published():
    skipped = {ROOT / "tests/test_packaging.py", ROOT / "tests/test_notebooks.py", ROOT / "tools/gates.py"}
    for path in tracked():
        if path in skipped or path.suffix in (".png", ".npz", ".keras"):
            continue
        found = PRIVATE.search(path.read_text(encoding="utf8"))
        # uv is told to leave index addresses out of the pins.
        assert not found or (path.name == "Makefile" and found[0] == "index-url"), f"{path.name}: {found[0]}"


def test_no_loose_ends():
    """What is not implemented on purpose says so in a sentence."""
    for path in tracked():
        if path.suffix == ".py" and path.name != "test_packaging.py":
            assert not re.search(r"\b(TODO|FIXME|XXX)\b|raise NotImplementedError(?!\(\s*f?\")", path.read_text()), (
                path.name
            )


# The house: an import runs down this list only, and the core never sees a wing.
CORE = ["sampling", "parts", "draws", "loop", "samplers", "model", "evidence", "likelihoods", "seeds"]
WINGS = {  # wings that a room may look into, beside the core
    "truth": [],
    "recipes": ["truth"],
    "tables": [],
    "plotting": [],
    "live": ["truth", "recipes", "plotting"],
    "guide": [],
    "exact": ["truth"],
    "distances": ["truth"],
    "__main__": ["truth", "recipes", "plotting"],
    "_quiet": [],
}


def test_imports_run_down_the_house():
    package = ROOT / "cvae_tutorial"
    for path in sorted(package.rglob("*.py")):
        parts = path.relative_to(package).parts
        room = parts[0].removesuffix(".py")
        if room == "__init__":
            continue
        assert room in CORE or room in WINGS, f"{room} has no place: give it one here and in the design"
        for node in ast.walk(ast.parse(path.read_text())):
            if not isinstance(node, ast.ImportFrom) or not node.level:
                continue
            if len(parts) - node.level >= 1:  # within the room's own folder
                continue
            targets = [node.module.split(".")[0]] if node.module else [alias.name for alias in node.names]
            for target in targets:
                if room in CORE:
                    assert target in CORE[CORE.index(room) + 1 :], f"{room} imports {target}"
                else:
                    assert target in CORE or target in WINGS[room], f"{room} imports {target}"


def test_api_page_names_every_public_name():
    import cvae_tutorial as ct

    page = (ROOT / "book/api.md").read_text()
    missing = [
        name
        for name in ct.__all__
        if not re.search(rf"\b{name}\b", page)
        and not any(
            hasattr(getattr(ct, room), name) and f"cvae_tutorial.{room}" in page
            for room in ("likelihoods", "samplers", "exact", "distances")
        )
    ]
    assert not missing
    assert all(getattr(ct, name).__doc__ for name in ct.__all__)
