"""The page and the operations of updates, and what calling each must leave in the audit."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Any
from unittest.mock import patch

from appliance.updates import machine, restarting
from tests.audit.interface import call
from tests.audit.walk import Act, Nothing, Step, World
from tests.updates.image import image

VERSIONS = "versions of the image, nothing of a patient"


def _waits(act: Callable[[World], Any]) -> Callable[[World], Any]:
    """`act` where a version waits, and the images of this morning came a while ago."""

    def run(world: World) -> Any:
        with image(world.folder / "image") as says, patch.object(machine, "JUST_NOW", timedelta(0)):
            says("1.0.0", waiting="1.1.0\n")
            answer = act(world)
        (world.box.config.data / restarting.ASKED).unlink(missing_ok=True)
        return answer

    return run


UPDATE_ROUTES: Mapping[str, Step] = {
    "GET /updates": Nothing(VERSIONS, _waits(lambda w: w.get("/updates"))),
    "POST /updates/restart": Act(["update:restart"], _waits(lambda w: w.post("/updates/restart"))),
    "GET /api/v1/updates": Nothing(VERSIONS, _waits(lambda w: call(w, "GET", "/updates"))),
    "POST /api/v1/updates/restart": Act(
        ["update:restart"], _waits(lambda w: call(w, "POST", "/updates/restart"))
    ),
}
