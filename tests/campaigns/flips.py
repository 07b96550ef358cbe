"""R7: bits that flip by themselves, in everything that a clinic keeps. Each is found, mended or reported, and never shown.

Kinds of what is hurt, drawn for each flip:

- **object**: a sealed object on the box; mended from the disk that has it
- **copy**: one on the disk; written again from the box
- **manifest**: a study's on the disk; written again by the courier
- **backup**: a document of the newest backup (a piece, its key, its index, the wrapped root key); the drill says so
- **catalog**: a page of the catalog on the box; it does not open, or the scrub says so: the box is restored from its archive then
- **slot**: the wrapped root key on the disk, or on the box: a restore takes another. The disk's is written again by the courier; of the
  box's own the health tells, the disk's good one is never written over, and a new paper writes both anew
"""

from __future__ import annotations

import random
import shutil
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from appliance import health
from appliance.backup import drill, restoring
from appliance.backup.snapshot import BEGUN, PREFIX
from appliance.box import Box
from appliance.catalog import settings
from appliance.errors import ApplianceError, Corrupt, OperatorNeeded
from appliance.lifecycle import scrub
from appliance.replication.destinations.archive import RECOVERY_SLOT, object_key
from appliance.store import keys
from appliance.store.recovery import RecoveryKey
from tests.backup.conftest import as_sent, contents
from tests.backup.test_restoring import bring_home
from tests.boxes import box_in, data_set_of, recorded
from tests.campaigns.clinic_places import flip
from tests.campaigns.cuts import DOOMED, KEPT, Place, config, deliver, place_in, prepared
from tests.campaigns.remote_places import a_disk_in

KINDS: Final = ("object", "copy", "manifest", "backup", "catalog", "slot")
ALL: Final = [*KEPT, *DOOMED]
AT_ONCE: Final = 4
"""So many objects, copies and manifests are hurt before the box looks."""


@dataclass(frozen=True)
class Outcome:
    """Figures of a campaign that found nothing wrong: flips by what was hurt and what became of it."""

    flips: Counter[str]
    seconds: float

    def __str__(self) -> str:
        told = ", ".join(f"{name} {count}" for name, count in sorted(self.flips.items()))
        return f"{self.flips.total()} bit flips in {self.seconds:.0f} s, every one found and told or mended, none shown: {told}"


def run(folder: Path, *, flips: int, seed: int, report: Callable[[str], None] = lambda _: None) -> Outcome:
    """Flip `flips` bits. Raises AssertionError at the first that is not found and mended or told of, with a remedy that works; or shown."""
    began, dice, found = time.monotonic(), random.Random(seed), Counter[str]()
    place = prepared(folder / "clinic", a_disk_in(folder / "clinic"))
    (folder / "clinic").rename(folder / "whole")
    hurt: Mapping[str, Callable[[Place, random.Random], str]] = {
        "backup": _backup,
        "catalog": _catalog,
        "slot": _slot,
    }
    while found.total() < flips:
        shutil.rmtree(place.root, ignore_errors=True)
        shutil.copytree(folder / "whole", place.root)
        kind = dice.choice(KINDS)
        if kind in hurt:
            found[f"{kind} {hurt[kind](place, dice)}"] += 1
        else:
            found += _kept_twice(place, dice, min(AT_ONCE, flips - found.total()))
        if found.total() % 100 < AT_ONCE:
            report(f"{found.total()} flips, {time.monotonic() - began:.0f} s")
    return Outcome(found, time.monotonic() - began)


def _kept_twice(place: Place, dice: random.Random, many: int) -> Counter[str]:
    """Objects, copies and manifests: no object in both its places at once, which nothing could mend."""
    with box_in(place.root / "box") as box:
        rows = recorded(box)
        usb = place.root / "usb"
        places: dict[Path, str] = {}
        for row in dice.sample(rows, many):
            here = dice.random() < 0.5
            path = box.objects.path(row.object_id) if here else usb / object_key(row.object_id)
            places[path] = "object" if here else "copy"
        manifest = dice.choice(sorted((usb / "manifests").iterdir()))
        if dice.random() < 0.5 and many > 1:
            places.pop(next(iter(places)))
            places[manifest] = "manifest"
        whole = {path: path.read_bytes() for path in places}
        for path in places:
            flip(path, dice.randrange(1 << 30))
        for row in rows:
            _never_other_bytes(box, row)
        found = _scrubbed(box)
        kinds = Counter(places.values())
        assert (found["repaired"], found["copies"], found["rewritten"], found["lost"]) == (
            kinds["object"],
            kinds["copy"],
            kinds["manifest"],
            [],
        ), f"{kinds} were hurt, and the scrub says {found}"
        deliver(box)
        for path, kind in places.items():
            if kind != "manifest":
                assert path.read_bytes() == whole[path], f"the {kind} is not what it was"
        assert contents(box) == as_sent(*ALL)
        assert (_scrubbed(box)["repaired"], _scrubbed(box)["rewritten"]) == (0, 0), "the next pass finds more"
    return Counter({f"{kind} mended": count for kind, count in kinds.items()})


def _never_other_bytes(box: Box, row: object) -> None:
    """What is damaged is not shown: it opens to what was sent, or not at all."""
    sent = as_sent(*ALL)
    uid = str(row.sop_instance_uid)  # type: ignore[attr-defined]
    try:
        shown = data_set_of(box, row)  # type: ignore[arg-type]
    except Corrupt:
        return
    assert shown == sent[uid], "other bytes are shown"


def _scrubbed(box: Box) -> dict[str, object]:
    """A whole pass."""
    with box.catalog.reading() as conn:
        before = settings.get(conn, scrub.FINISHED)
    for _ in range(10):
        scrub.scrub(box, datetime.now(UTC), most=1000)
        with box.catalog.reading() as conn:
            found = settings.get(conn, scrub.FINISHED)
        if found != before:
            assert isinstance(found, dict)
            return found
    raise AssertionError("the pass does not end")


def _backup(place: Place, dice: random.Random) -> str:
    with box_in(place.root / "box") as box:
        newest = max(path for path in (place.root / "usb" / PREFIX).iterdir())
        parts = [each for each in newest.iterdir() if each.read_bytes() != BEGUN]  # whose text says nothing
        flip(dice.choice(sorted(parts)), dice.randrange(1 << 30))
        try:
            found = drill.drill(box, place_in(box), datetime.now(UTC), actor="tests")
        except Corrupt:
            pass
        else:
            assert not found.passed, "a damaged backup has passed its drill"
        with box.catalog.reading() as conn:
            assert drill.last(conn, box, place_in(box).name)["outcome"] == "failed"
    return "reported"


def _catalog(place: Place, dice: random.Random) -> str:
    path = place.root / "box" / "catalog.db"
    flip(path, dice.randrange(8 * path.stat().st_size))
    try:
        with box_in(place.root / "box") as box:
            for row in recorded(box):
                _never_other_bytes(box, row)
            assert _scrubbed(box)["catalog"], "a damaged page was not found"
            codes = {each.code for each in health.status(box, datetime.now(UTC)).problems}
            assert codes & {"catalog-damaged", "catalog"}, "a damaged page was not told of"
        told = "reported"
    except (OperatorNeeded, Corrupt):
        told = "refused"
    _restored(place, place.paper)
    return f"{told}, restored"


def _restored(place: Place, paper: RecoveryKey) -> None:
    """The remedy: the paper and the disk bring everything back, byte for byte."""
    after = place.root / "after"
    restored = restoring.restore(
        config(after), place.archive(), place.settings, paper, tell=lambda *_: None, actor="tests"
    )
    assert restored.instances == len(ALL), "the paper does not bring everything back"
    with box_in(after) as box:
        bring_home(box)
        assert contents(box) == as_sent(*ALL), "what came back is not what was sent"


def _slot(place: Place, dice: random.Random) -> str:
    there, here = place.root / "usb" / RECOVERY_SLOT, place.root / "box" / "keys" / "root.recovery"
    which = dice.choice((there, here))
    whole, paper = {path: path.read_bytes() for path in (there, here)}, place.paper
    flip(which, dice.randrange(1 << 30))
    with box_in(place.root / "box") as box:
        assert _tells_of_slot(box) == (which is here), "the health says otherwise of the box's own"
        try:
            deliver(box)
        except ApplianceError as error:
            raise AssertionError(f"copying stops for a damaged slot: {error.message}") from error
        assert there.read_bytes() == whole[there], "the disk's slot is neither mended nor kept"
        if which is here:
            paper = keys.rotate(here.parent, box.root)
            keys.check_recovery(here.parent, box.root, str(paper))
            assert not _tells_of_slot(box), "the remedy is none"
            deliver(box)
            assert there.read_bytes() == here.read_bytes(), "the new paper does not open the disk"
    _restored(place, paper)
    return "told, and anew with another paper" if which is here else "mended"


def _tells_of_slot(box: Box) -> bool:
    return "recovery-slot" in {each.code for each in health.status(box, datetime.now(UTC)).problems}
