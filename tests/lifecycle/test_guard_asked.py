"""Whoever writes over or removes something of an archive, or sealed objects here, asks the ransomware guard before: read off the code."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
ACTS = re.compile(
    r"\b(?:archive|self)\.(?:put_document|remove)\(|objects\.(?:remove|destroy|evict)\(|session\.send\(|\.delete_object\("
)
"""What writes over or removes; asked of an archive or of the store of objects."""


@dataclass(frozen=True)
class Asks:
    """It asks before it acts: itself, or by calling the first of these functions of its module, which calls the next; the last one asks."""

    through: tuple[str, ...] = ()


@dataclass(frozen=True)
class AskedBy:
    """These functions of its module are all that call it, and each asks before."""

    callers: tuple[str, ...]


@dataclass(frozen=True)
class Need:
    """It needn't ask, and why."""

    because: str


Way = Asks | AskedBy | Need

ITSELF = Asks()
MEANS_NOTHING = Need("a text that means nothing, under a name of its own")

WAYS: Mapping[str, Mapping[str, Way]] = {
    "appliance/replication/documents.py": {
        "_keep_slot": Asks(("_may_write",)),
        "_keep_manifest": Asks(("_may_write",)),
        "_keep_older": Need("beside what lies there, under a name that its content gives"),
    },
    "appliance/replication/ownership.py": {
        "refuse_another_box": Need("beside what lies there, under a name that its content gives"),
    },
    "appliance/replication/burial.py": {"_write_over": ITSELF, "_remove": ITSELF},
    "appliance/replication/tombstone.py": {"obey_tombstones": ITSELF},
    "appliance/replication/batch.py": {"_sent": Asks(("_parcel",))},
    "appliance/backup/making.py": {
        "make": Need("a backup only adds: each lies under a name that is never used again"),
        "put": Need("of `make`: a piece that is laid once more is the same"),
        "_rotate": ITSELF,
    },
    "appliance/backup/catching_up.py": {
        "_lay_slot": Need(
            "before the restored box is in service: one that says of itself that it is whole stays"
        ),
        "_write_again": Need(
            "before the restored box is in service: over what does not open, the last that did"
        ),
    },
    "appliance/lifecycle/shredding.py": {"_destroy": AskedBy(("shred_older",))},
    "appliance/lifecycle/purging.py": {"_remove_objects": ITSELF},
    "appliance/lifecycle/eviction.py": {"_evict_study": Asks(("_ask_once_more", "obstacle"))},
    "appliance/lifecycle/rewriting.py": {"write_again": ITSELF},
    "appliance/lifecycle/anonymising.py": {"discard": Need("copies without a name that were never recorded")},
    "appliance/ingest/orphans.py": {"_remove": ITSELF},
    "appliance/ingest/accept.py": {
        "_accept_distinct": Need("new ciphertext of what is kept already: it was never recorded"),
    },
    "appliance/ingest/reception.py": {
        "_left_behind": Need(
            "a part that a crash cut short, before it was acknowledged: it was never recorded"
        ),
    },
    "appliance/ingest/rehearsal.py": {
        "clear": Need("an image of the box's own, which no row ever speaks of")
    },
    "appliance/witnesses.py": {
        "put_new": Need("under a name that is never used again"),
        "rotate": AskedBy(("_anchor",)),
    },
    "appliance/replication/destinations/vault.py": {"check": MEANS_NOTHING},
    "appliance/replication/destinations/share.py": {"check": MEANS_NOTHING},
    "appliance/replication/destinations/s3.py": {"check": MEANS_NOTHING},
    "appliance/replication/destinations/protection.py": {"_removal": MEANS_NOTHING},
}


class Module:
    """The functions and methods of a file, by name."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.functions: dict[str, list[ast.FunctionDef]] = {}
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef):
                self.functions.setdefault(node.name, []).append(node)

    def acting(self) -> dict[str, int]:
        """Each that acts, and the line where it first does."""
        found: dict[str, int] = {}
        for node in self._all():
            source = ast.get_source_segment(self.text, node) or ""
            if act := ACTS.search(source):
                found[node.name] = node.lineno + source.count("\n", 0, act.start())
        return found

    def has(self, way: Way, name: str, line: int) -> bool:
        """Whether the function of that name, which first acts in that line, asks in that way."""
        match way:
            case Asks(through):
                return self._asks(name, through, line)
            case AskedBy(callers):
                calls = {
                    (node.name, call.lineno)
                    for node in self._all()
                    for call in calls_in(node)
                    if name_of(call) == name
                }
                return {each for each, _ in calls} == set(callers) and all(
                    self._asks(each, (), at) for each, at in calls
                )
            case Need(because):
                return bool(because)

    def _asks(self, name: str, through: tuple[str, ...], before_line: float) -> bool:
        """Whether the function asks before that line; the only one of its name."""
        (function,) = self.functions[name]
        if not through:
            return any(line < before_line for line in asked_in(function))
        first, *rest = through
        return any(
            name_of(call) == first and call.lineno <= before_line for call in calls_in(function)
        ) and self._asks(first, tuple(rest), float("inf"))

    def _all(self) -> Iterator[ast.FunctionDef]:
        return (each for several in self.functions.values() for each in several)


def calls_in(node: ast.AST) -> Iterator[ast.Call]:
    return (each for each in ast.walk(node) if isinstance(each, ast.Call))


def name_of(call: ast.Call) -> str:
    """What is called, by its last name."""
    match call.func:
        case ast.Name(id=name) | ast.Attribute(attr=name):
            return name
    return ""


def asked_in(function: ast.FunctionDef) -> Iterable[int]:
    """The lines in which the freeze is asked for: by what refuses, or by what says so and is listened to."""
    unheard = {id(each.value) for each in ast.walk(function) if isinstance(each, ast.Expr)}
    for call in calls_in(function):
        match call.func:
            case ast.Attribute(value=ast.Name(id="freezes"), attr="refuse"):
                yield call.lineno
            case ast.Attribute(value=ast.Name(id="freezes"), attr="in_force") if id(call) not in unheard:
                yield call.lineno


def modules() -> dict[str, Module]:
    """Every file in which something acts; the store of objects itself is what acts there."""
    found = {}
    for path in sorted((ROOT / "appliance").rglob("*.py")):
        text = path.read_text("utf-8")
        name = str(path.relative_to(ROOT))
        if ACTS.search(text) and name != "appliance/store/objects.py":
            found[name] = Module(text)
    return found


MODULES = modules()


def test_every_function_that_writes_over_or_removes_is_listed() -> None:
    found = {name: set(acting) for name, module in MODULES.items() if (acting := module.acting())}
    assert found == {name: set(ways) for name, ways in WAYS.items()}


@pytest.mark.parametrize(
    ("path", "name"), [(path, name) for path, ways in WAYS.items() for name in ways], ids=lambda each: each
)
def test_whoever_writes_over_or_removes_asks_the_guard_before(path: str, name: str) -> None:
    module = MODULES[path]
    assert module.has(WAYS[path][name], name, module.acting()[name])


ASKING = """
def removes(box, archive):
    with box.reading() as conn:
        freezes.refuse(conn)
    archive.remove("a")

def listens(self, conn):
    return freezes.in_force(conn) is None

def removes_by_another(self, archive, conn):
    if self.listens(conn):
        archive.remove("a")

def inner(archive):
    archive.remove("a")

def outer(archive, conn):
    freezes.refuse(conn)
    inner(archive)
"""


def judged(text: str) -> dict[str, bool]:
    module = Module(text)
    ways: dict[str, Way] = {
        "removes": ITSELF,
        "removes_by_another": Asks(("listens",)),
        "inner": AskedBy(("outer",)),
    }
    acting = module.acting()
    return {name: module.has(way, name, acting[name]) for name, way in ways.items()}


@pytest.mark.parametrize(
    ("before", "after", "silent"),
    [
        ("", "", ""),
        ("        freezes.refuse(conn)\n    archive", "        pass\n    archive", "removes"),
        (
            '    archive.remove("a")\n\ndef listens',
            '    archive.remove("a")\n    freezes.refuse(conn)\n\ndef listens',
            "",
        ),
        (
            '        freezes.refuse(conn)\n    archive.remove("a")',
            '        archive.remove("a")\n    freezes.refuse(conn)',
            "removes",
        ),
        ("return freezes.in_force(conn) is None", "freezes.in_force(conn)", "removes_by_another"),
        ("if self.listens(conn):", "if self.likes(conn):", "removes_by_another"),
        ("    freezes.refuse(conn)\n    inner", "    inner", "inner"),
        ("def inner", "def third(archive):\n    inner(archive)\n\ndef inner", "inner"),
    ],
    ids=[
        "as it is",
        "not asked",
        "asked again",
        "asked after",
        "unheard",
        "not called",
        "no caller",
        "another caller",
    ],
)
def test_a_question_that_is_taken_out_is_missed(before: str, after: str, silent: str) -> None:
    """This reads code: so it is shown what it must not let pass."""
    assert not before or ASKING.count(before) == 1
    found = judged(ASKING.replace(before, after) if before else ASKING)
    assert [name for name, asks in found.items() if not asks] == ([silent] if silent else [])
