"""Reading a destination's options: each is present and of its kind, or a person is told which is not."""

from __future__ import annotations

import os
from pathlib import Path

from appliance.errors import OperatorNeeded
from appliance.model import DestinationSettings


def text(settings: DestinationSettings, name: str, default: str | None = None) -> str:
    """The option `name` as text. Raises `OperatorNeeded` if it is missing, empty (without a default) or no text."""
    value = settings.options.get(name, default)
    if not isinstance(value, str) or (not value and default is None):
        raise _wrong(settings, name)
    return value


def number(
    settings: DestinationSettings, name: str, *, least: int, most: int, default: int | None = None
) -> int:
    """The option `name` as a number from `least` to `most`. Raises `OperatorNeeded`."""
    value = settings.options.get(name, default)
    if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
        raise _wrong(settings, name)
    return value


def flag(settings: DestinationSettings, name: str) -> bool:
    """The option `name` as yes or no; no if it is absent. Raises `OperatorNeeded`."""
    value = settings.options.get(name, False)
    if not isinstance(value, bool):
        raise _wrong(settings, name)
    return value


def folder(settings: DestinationSettings) -> Path:
    """The option `path` as a folder. Raises `OperatorNeeded` unless it is an absolute path and no file's."""
    path = Path(text(settings, "path"))
    if not path.is_absolute():
        raise OperatorNeeded(
            f"the folder {path} is not an absolute path", hint="give it from the root: /srv/…"
        )
    if os.path.isfile(path):  # which is False for a name that no file can have, where Path.is_file raises
        raise OperatorNeeded(f"{path} is a file, not a folder", hint="give the folder that it is in")
    return path


def _wrong(settings: DestinationSettings, name: str) -> OperatorNeeded:
    return OperatorNeeded(
        f"the destination {settings.name} has no valid {name.replace('_', ' ')}",
        hint=f"remove it and add it again with its {name.replace('_', ' ')}",
    )
