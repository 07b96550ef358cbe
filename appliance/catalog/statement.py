"""Statements that run thousands of times a second: compiled once, then handed to the driver as they are.

SQLAlchemy's own execution costs several times what SQLite needs for one row. The text still comes from the tables of
`appliance.catalog.schema`, so that a renamed column fails at import, not in the field. Values bound this way are the
driver's: moments through `utc_text`, JSON through `canonical_json`.
"""

from __future__ import annotations

from sqlalchemy import ClauseElement
from sqlalchemy.dialects import sqlite

_DIALECT = sqlite.dialect(paramstyle="qmark")


def compiled(statement: ClauseElement, *names: str) -> str:
    """`statement` as text whose parameters, in order, are `names`.

    An ``insert(table)`` without values gets exactly the columns `names`. Raises ValueError if the order would differ.
    """
    is_bare_insert = getattr(statement, "is_insert", False) and not getattr(statement, "_values", None)
    form = statement.compile(dialect=_DIALECT, column_keys=list(names) if is_bare_insert else None)
    order = tuple(getattr(form, "positiontup", None) or ())
    if order != names:
        raise ValueError(f"the parameters of this statement are {order}")
    return str(form)
