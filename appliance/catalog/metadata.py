"""What the declarations of tables share: one `MetaData`, which names constraints, and the three commonest columns."""

from __future__ import annotations

from sqlalchemy import Boolean, Column, Integer, MetaData, Text
from sqlalchemy import text as literal

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s_%(referred_table_name)s",
        "pk": "pk_%(table_name)s",
    }
)


def text(name: str) -> Column[str]:
    """Text that is empty, never NULL, when absent."""
    return Column(name, Text, nullable=False, server_default="")


def count(name: str) -> Column[int]:
    """A whole number, at first 0."""
    return Column(name, Integer, nullable=False, server_default="0")


def flag(name: str) -> Column[bool]:
    """Yes or no, at first no."""
    return Column(name, Boolean, nullable=False, server_default=literal("0"))
