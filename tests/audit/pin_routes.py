"""The page and the operations of the disk's PIN, and what calling each must leave in the audit."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from tests.audit.interface import call
from tests.audit.walk import Act, Nothing, Step, World
from tests.told_disk import told_disk

PIN = "whether the disk asks for a PIN, and no PIN; nothing of a patient"
KEY = "-".join(["cbdefghi"] * 8)


def _disk(act: Callable[[World], Any]) -> Callable[[World], Any]:
    """`act` on a machine with such a disk."""

    def run(world: World) -> Any:
        with told_disk(world.folder / "disk") as root:
            root.says("none")
            answer = act(world)
            for left in root.folder.iterdir():
                left.unlink()
        return answer

    return run


PIN_ROUTES: Mapping[str, Step] = {
    "GET /disk-pin": Nothing(PIN, _disk(lambda w: w.get("/disk-pin"))),
    "POST /disk-pin": Act(
        ["pin:choose"], _disk(lambda w: w.post("/disk-pin", disk_key=KEY, pin="482709", again="482709"))
    ),
    "POST /disk-pin/key": Act(["disk:show-key"], _disk(lambda w: w.post("/disk-pin/key"))),
    "POST /disk-pin/key/hide": Act(["disk:hide-key"], _disk(lambda w: w.post("/disk-pin/key/hide"))),
    "POST /disk-pin/remove": Act(["pin:remove"], _disk(lambda w: w.post("/disk-pin/remove"))),
    "GET /api/v1/disk-pin": Nothing(PIN, _disk(lambda w: call(w, "GET", "/disk-pin"))),
    "GET /api/v1/disk-key": Nothing(
        "whether the screen shows the disk's key, and no key", _disk(lambda w: call(w, "GET", "/disk-key"))
    ),
    "POST /api/v1/disk-key/show": Act(["disk:show-key"], _disk(lambda w: call(w, "POST", "/disk-key/show"))),
    "POST /api/v1/disk-key/hide": Act(["disk:hide-key"], _disk(lambda w: call(w, "POST", "/disk-key/hide"))),
    "POST /api/v1/disk-pin": Act(
        ["pin:choose"],
        _disk(lambda w: call(w, "POST", "/disk-pin", {"pin": "482709", "disk_recovery_key": KEY})),
    ),
    "POST /api/v1/disk-pin/remove": Act(["pin:remove"], _disk(lambda w: call(w, "POST", "/disk-pin/remove"))),
}
