"""The revisions of the tables, oldest first, in `versions`; `migrate` runs those that a catalog lacks.

A revision is never changed once released. It runs inside one transaction: a crash in the middle leaves the catalog at
the revision it had. Alembic is imported only when there is something to do, since it costs each start 0.1 s and 10 MB.

An update that doesn't prove itself is left again within minutes, and by then its software has brought the catalog up to date.
So a revision may say that software of an earlier one can go on with its tables: ``works_with = "0016"``. It may if it
only adds (tables, indexes, columns that may stay empty or have a default) and the earlier software does no harm by knowing
nothing of it: one that hides, holds or forbids something may not, unless it says why not to the harm of anybody: ``although = "…"``. What
destroys, keeps or lets images go must not read what it adds, or it needs that word. Without the first word, only its own software
works with it.
Every revision since the version before the present one says the word for that version, or gives its reason in a list:
`tests/catalog/test_reversible.py` holds both, and that whatever the earlier software says to its tables is still understood. Chose
this because nothing that was acknowledged in between is lost. Rejected: downgrades, which drop what was written, and
a copy of the catalog from before, which lacks it. The catalog bears the number of the earliest such revision as its
``user_version``, set in the transaction that migrates.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from sqlalchemy import Connection

from appliance.errors import OperatorNeeded

FOLDER = Path(__file__).parent


def revision_of(connection: Connection) -> str | None:
    """The revision that the catalog is at; None for a new one."""
    exists = "SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = 'alembic_version'"
    if connection.exec_driver_sql(exists).first() is None:
        return None
    row = connection.exec_driver_sql("SELECT version_num FROM alembic_version").first()
    return None if row is None else str(row[0])


def migrate(connection: Connection, found: str | None) -> None:
    """Bring the tables from revision `found` to the newest, in the transaction that `connection` is in.

    Nothing is done, and the tables are good, where newer software has only added to them. Raises `OperatorNeeded` when
    `found` is not known and newer software has done more.
    """
    from alembic import command
    from alembic.config import Config
    from alembic.script import ScriptDirectory

    config = Config()
    config.set_main_option("script_location", str(FOLDER).replace("%", "%%"))
    config.attributes["connection"] = connection
    known = {each.revision: each.module for each in ScriptDirectory.from_config(config).walk_revisions()}
    if found is not None and found not in known:
        if 0 < _works_with(connection) <= max(map(int, known)):
            return
        raise OperatorNeeded(
            f"the catalog was written by newer software (revision {found})",
            hint="install that version or a newer one; this one would damage what it does not know",
        )
    command.upgrade(config, "head")
    connection.exec_driver_sql(f"PRAGMA user_version = {earliest(known)}")


def earliest(revisions: Mapping[str, object]) -> int:
    """The number of the earliest revision whose software works with the tables that all of `revisions` make."""
    return max(int(getattr(module, "works_with", revision)) for revision, module in revisions.items())


def _works_with(connection: Connection) -> int:
    """What the catalog bears; 0 when nobody has said it."""
    return int(connection.exec_driver_sql("PRAGMA user_version").scalar_one())
