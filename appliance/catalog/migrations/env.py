"""What Alembic runs for each upgrade: our connection, our transaction. See `migrate`."""

from __future__ import annotations

from alembic import context

from appliance.catalog.schema import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    render_as_batch=True,  # SQLite alters a table by copying it
)
context.run_migrations()
