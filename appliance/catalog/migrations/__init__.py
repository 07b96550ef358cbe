"""The revisions of the tables, oldest first, in `versions`; `migrate` runs those that a catalog lacks.

A revision is never changed once released. It runs inside one transaction: a crash in the middle leaves the catalog at
the revision it had. Alembic is imported only when there is something to do, since it costs each start 0.1 s and 10 MB.
"""

from __future__ import annotations

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

    Raises `OperatorNeeded` when `found` is not known: newer software has been here.
    """
    from alembic import command
    from alembic.config import Config
    from alembic.script import ScriptDirectory

    config = Config()
    config.set_main_option("script_location", str(FOLDER).replace("%", "%%"))
    config.attributes["connection"] = connection
    known = {each.revision for each in ScriptDirectory.from_config(config).walk_revisions()}
    if found is not None and found not in known:
        raise OperatorNeeded(
            f"the catalog was written by newer software (revision {found})",
            hint="install that version or a newer one; this one would damage what it does not know",
        )
    command.upgrade(config, "head")
