"""The pages of support, and what calling each must leave in the audit."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tests.audit.walk import Act, Nothing, Step, World


def _take(world: World) -> Any:
    world.post("/support/file")
    return world.post("/support/file/take")


SUPPORT_ROUTES: Mapping[str, Step] = {
    "GET /support": Nothing("what there is towards support; no patient", lambda w: w.get("/support")),
    "POST /support/file": Act(["support:file"], lambda w: w.post("/support/file")),
    "GET /support/file": Nothing("what was made and recorded a moment ago", lambda w: w.get("/support/file")),
    "POST /support/file/take": Act(["support:take"], _take),
}
