"""What the box says outside its console, in the language of whoever receives it.

The sentences stand beside the console's own (``web-ui/languages``), because the same people write and compare them:
``notice.KIND`` is a kind's title, ``mail.TEMPLATE.*`` a letter. A language that lacks one speaks English there.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from appliance.errors import OperatorNeeded
from appliance.notify.kinds import OTHER

DEFAULT = "en"


def sentence(language: str, key: str, **values: object) -> str:
    """The sentence `key` with `values` put in. KeyError if there is none."""
    found = _sentences(language).get(key)
    if not isinstance(found, str):
        found = _sentences(DEFAULT)[key]
    return str(found).format(**values) if values else str(found)


def title(language: str, kind: str, subject: str = "") -> str:
    """A kind of notice with the identifier it is about; one that only another version knows is called *other*."""
    try:
        said = sentence(language, f"notice.{kind}")
    except KeyError:
        said = sentence(language, f"notice.{OTHER}")
    return f"{said} ({subject})" if subject else said


def folder() -> Path:
    """Where the sentences are: beside the package in a check-out, inside it in a wheel."""
    package = Path(__file__).parents[1]
    inside = package / "web" / "ui" / "languages"
    return inside if inside.is_dir() else package.parent / "web-ui" / "languages"


@cache
def _sentences(language: str) -> Mapping[str, Any]:
    path = folder() / f"{language}.json"
    if not language.isalpha() or not path.exists():
        path = folder() / f"{DEFAULT}.json"
    try:
        found: Mapping[str, Any] = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise OperatorNeeded(
            "the texts of the console are missing", hint="install the appliance again, or run: make setup"
        ) from error
    return found
