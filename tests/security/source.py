"""The source of the appliance as trees, and the lists of the help that are held to it."""

import ast
import re
from collections.abc import Iterator, Sequence
from functools import cache
from html import unescape
from pathlib import Path

from appliance.web.console import web_ui

ROOT = Path(__file__).parents[2]
LANGUAGES = ("en", "fr")


@cache
def modules() -> dict[str, ast.Module]:
    """Every module of the appliance by its path below ``appliance/``, without the suffix."""
    top = ROOT / "appliance"
    return {
        path.relative_to(top).with_suffix("").as_posix(): ast.parse(path.read_text("utf-8"))
        for path in sorted(top.rglob("*.py"))
    }


@cache
def nodes() -> Sequence[tuple[str, ast.AST]]:
    """Every node of every module, with the module's name; kept, since dozens of tests go through them."""
    return [(name, node) for name, tree in modules().items() for node in ast.walk(tree)]


def imported() -> Iterator[tuple[str, str]]:
    """What each module imports, as ``package.module`` or ``package.module.name``, wherever it does."""
    for name, node in nodes():
        match node:
            case ast.Import(names=names):
                for each in names:
                    yield name, each.name
            case ast.ImportFrom(module=str(module), names=names, level=0):
                for each in names:
                    yield name, f"{module}.{each.name}"


def called(node: ast.AST) -> str:
    """What is called, as written: ``hashlib.sha256``; empty for what is no call of a name."""
    if not isinstance(node, ast.Call):
        return ""
    names, at = list[str](), node.func
    while isinstance(at, ast.Attribute):
        names.append(at.attr)
        at = at.value
    # Nearly all are names with dots, which take a hundredth of the time that writing a tree out does.
    return ".".join([at.id, *reversed(names)]) if isinstance(at, ast.Name) else ast.unparse(node.func)


def section(topic: str, name: str, language: str) -> str:
    """A section of a topic of the help, as HTML."""
    text = (web_ui() / "help" / language / f"{topic}.html").read_text("utf-8")
    found = re.search(rf'<h2 id="{name}">(.*?)(?=<h2 id=|\Z)', text, re.DOTALL)
    assert found is not None, f"{language}/{topic}: there is no section {name}"
    return unescape(found[1])


def entries(topic: str, name: str, language: str) -> list[str]:
    """What a section lists, by the names in code letters that its entries begin with."""
    return re.findall(r"<dt><code>([^<]+)</code></dt><dd>\S", section(topic, name, language))


def codes(topic: str, name: str, language: str) -> list[str]:
    """Everything in code letters in a section."""
    return re.findall(r"<code>([^<]+)</code>", section(topic, name, language))


def numbers(topic: str, name: str, language: str) -> list[int]:
    """The numbers of a section in their order, however its language groups the digits."""
    text = re.sub(r"<[^>]+>", " ", section(topic, name, language))
    return [int(re.sub(r"\D", "", each)) for each in re.findall(r"\d+(?:[,\u00a0\u202f]\d{3})*", text)]
