"""What is kept of an outcome in the catalog's settings, read so that nothing of another shape does harm."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import TypeVar

Word = TypeVar("Word", bound=StrEnum)
Otherwise = TypeVar("Otherwise")


def words(outcome: object, name: str) -> str:
    """A text of that name; empty where there is none."""
    value = outcome.get(name, "") if isinstance(outcome, Mapping) else ""
    return value if isinstance(value, str) else ""


def part(outcome: object, name: str) -> object:
    """What stands under a name; None where nothing does."""
    return outcome.get(name) if isinstance(outcome, Mapping) else None


def figure(outcome: object, name: str) -> int:
    """A number of that name; 0 where there is none."""
    value = outcome.get(name, 0) if isinstance(outcome, Mapping) else 0
    return value if isinstance(value, int) else 0


def word(kind: type[Word], kept: object, otherwise: Otherwise) -> Word | Otherwise:
    """The word of `kind` that was `kept`; `otherwise` for one that only another version knows, which was here and was left again."""
    return kind(kept) if isinstance(kept, str) and kept in tuple(kind) else otherwise
