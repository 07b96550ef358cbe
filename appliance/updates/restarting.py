"""A person starts the version that waits now, and not in its hours.

The appliance may not start the machine again. It leaves a file in the data folder, for which the image's
`update-restart-asked.path` waits; what runs then removes the file first, and looks for itself whether anything waits.
"""

from __future__ import annotations

from datetime import datetime

from appliance.box import Box
from appliance.catalog import Reading
from appliance.errors import OperatorNeeded, Refused
from appliance.updates import machine, noting

ASKED = "restart-asked"


def check(conn: Reading, now: datetime) -> str:
    """The version that would start. Raises `Refused` if none waits, another is looked for or written, or a machine is sending: its
    patient may sit in it.

    While one is written the image does not start again, and says so to its journal alone; what waits may be what is written over.

    What is on its way to somewhere else waits for nobody's hand, and goes on afterwards; and a person knows what the hour is.
    """
    found = noting.seen()
    if found is None or not found.waiting:
        raise Refused("no version waits for a restart", hint="new ones are looked for at night")
    if noting.fetching(now) is not None:
        raise Refused(
            "a version is being looked for and fetched: the box does not start again now",
            hint="ask again once that is done; on a slow line it may take two hours",
        )
    if machine.doing(conn, now).receives:
        raise Refused(
            "images are being received: the box does not start again now", hint="try again in a few minutes"
        )
    return found.waiting[0]


def ask(box: Box) -> None:
    """Let the machine start again. Whoever asks writes the audit's row (``update:restart``) before."""
    try:
        (box.config.data.absolute() / ASKED).touch(mode=0o600)
    except OSError as error:
        raise OperatorNeeded(
            f"the restart cannot be asked for ({error.strerror})",
            hint="switch the box off and on again between two patients",
        ) from error
