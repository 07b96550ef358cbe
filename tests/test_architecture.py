"""The shape of the code holds: who imports whom, how long a file is, how things are called, what may stand in them."""

import ast
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
LOCKS = [ROOT / "requirements-3.11.lock", ROOT / "requirements-3.13.lock"]
SOURCES = sorted(path for top in ("appliance", "tests") for path in (ROOT / top).rglob("*.py"))
LONGEST_FILE_LINES = 520
LONGEST_TEST_LINES = 620  # a table of cases is one reason, however long

# The classes of one letter keep this file from finding itself.
FORBIDDEN_TEXT = {
    "a path of one machine": re.compile(r"/[w]ork/(main|shared|\.library)|/[o]pt/wheels|/[r]oot/\."),
    "a registry's address": re.compile(
        r"files\.[p]ythonhosted|[p]ypi\.org|registry\.[n]pmjs|[d]eb\.debian\.org"
    ),
}
VAGUE_MODULES = {
    "utils",
    "util",
    "helpers",
    "helper",
    "common",
    "base",
    "misc",
    "manager",
    "service",
    "handler",
    "processor",
}
VAGUE_CLASS = re.compile(r"(Manager|Service|Handler|Processor|Helper|Util|Utils)$")


def project_files() -> Iterator[Path]:
    """Everything that is, or is about to be, in version control."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        check=True,
    )
    for name in listed.stdout.decode().split("\0"):
        path = ROOT / name
        if name and path.is_file():
            yield path


def module_name(path: Path) -> str:
    """``appliance/store/keys.py`` → ``appliance.store.keys``; a package is named by its folder."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def layer_names() -> set[str]:
    (contract,) = (c for c in PYPROJECT["tool"]["importlinter"]["contracts"] if c["type"] == "layers")
    return {name.strip(" ()") for layer in contract["layers"] for name in layer.split("|")}


def test_import_contracts_hold() -> None:
    # A process of its own: the linter sets logging up anew, which would silence the appliance's for later tests.
    linted = subprocess.run(
        [str(Path(sys.executable).with_name("lint-imports")), "--no-cache"],
        check=False,
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert linted.returncode == 0, linted.stdout


def test_every_module_stands_on_a_line_of_the_layers() -> None:
    layers = layer_names()
    modules = {module_name(path) for path in (ROOT / "appliance").rglob("*.py")}
    stray = {
        module
        for module in modules
        if not any(module == layer or module.startswith(layer + ".") for layer in layers)
        and not any(layer.startswith(module + ".") for layer in layers)  # the folder of several layers
    }
    assert not stray, f"give these a line in [tool.importlinter] of pyproject.toml: {sorted(stray)}"


def test_a_folder_of_several_layers_imports_nothing_itself() -> None:
    """Otherwise importing the lowest of its modules would bring in the highest."""
    layers = layer_names()
    for path in (ROOT / "appliance").rglob("__init__.py"):
        if (
            any(layer.startswith(module_name(path) + ".") for layer in layers)
            and module_name(path) not in layers
        ):
            imports = [
                node
                for node in ast.walk(ast.parse(path.read_text()))
                if isinstance(node, ast.Import | ast.ImportFrom)
            ]
            assert not imports, f"{path.relative_to(ROOT)} imports"


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_file_has_one_reason_to_change(path: Path) -> None:
    lines = len(path.read_text().splitlines())
    longest = LONGEST_TEST_LINES if path.name.startswith("test_") else LONGEST_FILE_LINES
    assert lines <= longest, f"{lines} lines: is there a second reason to change inside?"


def test_names_are_the_fields_nouns() -> None:
    vague = [str(path.relative_to(ROOT)) for path in SOURCES if {path.stem, path.parent.name} & VAGUE_MODULES]
    for path in (ROOT / "appliance").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ClassDef) and VAGUE_CLASS.search(node.name):
                vague.append(f"{path.relative_to(ROOT)}: {node.name}")
    assert not vague


def test_every_module_says_what_it_is_for() -> None:
    silent = [
        str(path.relative_to(ROOT))
        for path in (ROOT / "appliance").rglob("*.py")
        if path.read_text().strip() and not ast.get_docstring(ast.parse(path.read_text()))
    ]
    assert not silent


def test_no_bare_except_and_no_eval() -> None:
    found = []
    for path in (ROOT / "appliance").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            match node:
                case ast.ExceptHandler(type=None) | ast.Call(func=ast.Name(id="eval" | "exec")):
                    found.append(f"{path.relative_to(ROOT)}:{node.lineno}")
    assert not found


@pytest.mark.parametrize("what", FORBIDDEN_TEXT)
def test_no_file_names(what: str) -> None:
    found = []
    for path in project_files():
        try:
            text = path.read_text()
        except UnicodeDecodeError:
            continue  # an image, a golden file
        found += [
            f"{path.relative_to(ROOT)}:{number}"
            for number, line in enumerate(text.splitlines(), 1)
            if FORBIDDEN_TEXT[what].search(line)
        ]
    assert not found, f"{what} in {found}"


# --- lock files ------------------------------------------------------------------------------------------------------


def requirements(lock: Path) -> dict[str, list[str]]:
    """Name and version of each locked package, with its hashes."""
    text = lock.read_text().replace("\\\n", " ")
    found = {}
    for line in text.splitlines():
        if line.strip() and not line.lstrip().startswith("#"):
            pin, *hashes = line.split()
            found[pin] = [part for part in hashes if part.startswith("--hash=")]
    return found


def plain_name(requirement: str) -> str:
    """PEP 503: ``python_gdcm>=3`` → ``python-gdcm``."""
    (name,) = re.findall(r"^[A-Za-z0-9._-]+", requirement)
    return re.sub(r"[-_.]+", "-", name).lower()


BOX_LOCKS = [lock.with_name(f"{lock.stem}-box.lock") for lock in LOCKS]


@pytest.mark.parametrize("lock", [*LOCKS, *BOX_LOCKS], ids=lambda lock: lock.name)
def test_every_locked_package_has_a_version_and_hashes(lock: Path) -> None:
    locked = requirements(lock)
    assert locked
    for pin, hashes in locked.items():
        assert re.fullmatch(r"[a-z0-9.-]+(\[[a-z0-9,-]+\])?==[0-9][^ ]*", pin)
        assert hashes
        assert all(re.fullmatch(r"--hash=sha256:[0-9a-f]{64}", each) for each in hashes)


@pytest.mark.parametrize("lock", [*LOCKS, *BOX_LOCKS], ids=lambda lock: lock.name)
def test_a_lock_names_no_index(lock: Path) -> None:
    assert not re.search(
        r"https?:|file:|--(extra-)?index-url|--find-links|--trusted-host| @ ", lock.read_text()
    )


@pytest.mark.parametrize("lock", LOCKS, ids=lambda lock: lock.name)
def test_a_box_gets_the_versions_that_were_tested_and_nothing_else(lock: Path) -> None:
    tested = requirements(lock)
    box = requirements(lock.with_name(f"{lock.stem}-box.lock"))
    assert box.items() <= tested.items(), "run `make lock`"
    names = {plain_name(pin) for pin in box}
    project = PYPROJECT["project"]
    assert {plain_name(each) for each in project["dependencies"]} <= names
    assert not names & {plain_name(each) for each in project["optional-dependencies"]["test"]}


@pytest.mark.parametrize("lock", LOCKS, ids=lambda lock: lock.name)
def test_a_lock_is_sorted_and_covers_what_the_project_asks_for(lock: Path) -> None:
    locked = {plain_name(pin): pin for pin in requirements(lock)}
    assert all(one < other for one, other in pairwise(locked))
    project = PYPROJECT["project"]
    for wanted in [*project["dependencies"], *project["optional-dependencies"]["test"]]:
        assert plain_name(wanted) in locked, "run `make lock`"
        if "==" in wanted:
            assert locked[plain_name(wanted)] == wanted, "run `make lock`"
