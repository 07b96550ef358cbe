"""What a look at any page never does, and where its links and forms lead; and what no form takes."""

import ast
import re
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path

import pytest
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import text as sql

from appliance.box import Box, open_box
from appliance.config import Config
from appliance.web import create_app
from appliance.web.forms import MOST_CHARACTERS
from tests.security import source
from tests.web import walk
from tests.web.conftest import add_owner, browser_of, csrf_of, fill

NOTED = {"audit", "audit_head", "web_sessions", "settings"}
"""What a look may write: that somebody looked, that a session is in use, and marks of what was looked at."""


@pytest.fixture(scope="module")
def clinic(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Flask, Box]]:
    """A box with a little of everything."""
    folder: Path = tmp_path_factory.mktemp("clinic")
    box = open_box(Config(data=folder / "box"))
    add_owner(box)
    fill(box)
    (folder / "there").mkdir()
    walk.furnish(box, str(folder / "there"))
    app = create_app(box)
    yield app, box
    app.extensions["console"].watcher.close()
    app.extensions["console"].darkroom.close()
    box.close()


def everything(box: Box) -> dict[str, str]:
    """A digest of what each table holds, but for those that note a look."""
    with box.catalog.reading() as conn:
        names = conn.execute(sql("SELECT name FROM sqlite_master WHERE type = 'table'")).scalars().all()
        return {
            name: sha256(
                repr(sorted(map(repr, conn.execute(sql(f"SELECT * FROM {name}"))))).encode()
            ).hexdigest()
            for name in names
            if name not in NOTED
        }


def test_looking_changes_nothing_and_every_address_of_every_page_is_here(clinic: tuple[Flask, Box]) -> None:
    app, box = clinic
    browser = browser_of(app, "owner", "looker")
    before = everything(box)
    assert len(before) > 20
    seen = walk.pages(app, browser)
    assert len(seen) > 40
    changed = [name for name, digest in everything(box).items() if before[name] != digest]
    assert not changed
    addresses = set()
    for page in seen:
        html = browser.get(page.address, headers={"Accept-Language": "en"}).get_data(as_text=True)
        addresses |= set(
            re.findall(r'\b(?:href|src|action|formaction|data-[a-z-]+)="([^"]*:[^"]*|//[^"]*)"', html)
        )
    strange = {
        each for each in addresses if re.match(r"\s*([a-z][a-z0-9+.-]*:|//|\\\\)", each, re.IGNORECASE)
    }
    assert not {
        each for each in strange if not each.startswith(("http://localhost/", "https://hooks.example.ca/"))
    }


@pytest.mark.parametrize("path", ["/sign-in", "/devices/add", "/me/tokens/add", "/notices/preferences"])
def test_no_form_takes_absurd_text(clinic: tuple[Flask, Box], path: str) -> None:
    app, _ = clinic
    browser: FlaskClient = browser_of(app, "owner", "typist")
    token = csrf_of(browser.get("/settings").get_data(as_text=True))
    for text in ("x" * (MOST_CHARACTERS + 1), "a\0b"):
        form = dict.fromkeys(
            (
                "login",
                "password",
                "ae_title",
                "address",
                "port",
                "name",
                "description",
                "mail_address",
                "time_zone",
            ),
            text,
        )
        answer = browser.post(path, data={"csrf": token, **form})
        assert answer.status_code == 422, (path, text[:5])
        assert text not in answer.get_data(as_text=True)


def test_searching_takes_any_text_as_text(clinic: tuple[Flask, Box]) -> None:
    app, box = clinic
    browser = browser_of(app, "owner", "searcher")
    before = everything(box)
    for text in (
        "' OR 1=1 --",
        '"; DROP TABLE studies; --',
        "%",
        "_",
        "* NEAR(",
        '"',
        "a* AND b",
        "\\",
        "{{7*7}}",
        "${x}",
    ):
        answer = browser.get("/studies", query_string={"q": text, "text": text})
        assert answer.status_code == 200, text
        assert "49" not in re.findall(r"value=\"([^\"]*)\"", answer.get_data(as_text=True))
    assert everything(box) == before


OF_TABLES = {"fleet/vocabulary", "identity/browsers", "settings/kinds", "web/api/shape"}
"""Whose patterns stand in a table, or in the description of a field; also as a version of this software has kept it with a consent, where
only what has the shape of one is held against it."""


def test_no_pattern_is_made_of_input() -> None:

    for module, node in source.nodes():
        if not isinstance(node, ast.Call) or not re.fullmatch(
            r"re\.(compile|match|search|fullmatch|sub|subn|split|findall|finditer)", source.called(node)
        ):
            continue
        pattern = node.args[0]
        ours = isinstance(pattern, ast.Constant) or "re.escape(" in ast.unparse(pattern)
        assert ours or module in OF_TABLES or names_only_constants(pattern), f"{module}:{node.lineno}"


def names_only_constants(pattern: object) -> bool:

    assert isinstance(pattern, ast.AST)
    return all(
        each.id.strip("_").isupper() for each in ast.walk(pattern) if isinstance(each, ast.Name)
    ) and not any(isinstance(each, ast.Call) for each in ast.walk(pattern))
