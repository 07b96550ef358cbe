"""*The disk is full*, on the box's own image, walked in Chromium as it is written: images leave for a bucket that has proved that it has
them, the room that this makes is what the guard goes by, and what was refused is sent again.

The disk counts what lies in the box's folder, and the reserve is never touched: nothing but what leaves makes room. How two people decide
about studies that are due is walked in `tests.web.test_retention_browser`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from appliance.box import Box, open_box
from appliance.catalog import destinations, rules
from appliance.catalog.columns import utc_text
from appliance.config import Config, WebConfig
from appliance.errors import OutOfResources
from appliance.ingest import Reception
from appliance.lifecycle import retention
from appliance.model import Rule
from appliance.replication import recall
from tests.boxes import config_in, delivery_states, recorded, send
from tests.instances import Instance
from tests.lifecycle.evicting import here
from tests.replication import cloud as clouds
from tests.system.running import MIB
from tests.system.test_small_disk import CountedDisk, CountedGuard
from tests.web.conftest import add_owner
from tests.web.served import Served, serving
from tests.web.test_browser import PATIENCE_MS, browser
from tests.web.test_runbooks_browser import delivering

__all__ = ["browser"]
pytestmark = [pytest.mark.browser, pytest.mark.slow, pytest.mark.timeout(300)]

ROOM_BYTES, RESERVE_BYTES, LOG_BYTES = 60 * MIB, 20 * MIB, 8 * MIB


@dataclass
class Full:
    """A clinic whose disk is full up to its reserve, and the machine whose images it would not take."""

    box: Box
    disk: CountedDisk
    served: Served
    taken: list[Instance]
    refused: list[Instance]

    def send(self, *images: Instance) -> None:
        """As a machine does: it asks for an association, and sends. Raises `OutOfResources`."""
        reception = Reception(self.box, "worker")
        try:
            for each in images:
                reception.admit()
                send(reception, each)
        finally:
            reception.close()

    def stored_bytes(self) -> int:
        """What the images take on this disk."""
        return sum(
            each.stat().st_size for each in (self.box.config.data / "objects").rglob("*") if each.is_file()
        )


def image_of(number: int) -> Instance:
    """The only one of its study; each patient has four."""
    patient = number // 4
    return Instance(
        number, study=number, patient_id=f"P{patient:04}", patient_name=f"Patient^{patient}", side=1600
    )


@pytest.fixture
def full(
    tmp_path: Path, browser: Browser, free_port: Callable[[], int], eventually: Callable[..., object]
) -> Iterator[Full]:
    """Studies that a bucket has, until the box takes no more."""
    disk = CountedDisk(tmp_path / "box", ROOM_BYTES)
    config = replace(
        config_in(tmp_path / "box", log_bytes=LOG_BYTES, reserve_bytes=RESERVE_BYTES),
        web=WebConfig(port=free_port()),
    )
    with clouds.cloud() as cloud, opened(config, disk) as box, serving(box, browser, eventually) as served:
        add_owner(box)
        with box.catalog.transaction() as tx:
            place = clouds.settings(cloud.url, cloud.new_bucket(versioned=True))
            rules.add_rule(tx, Rule(destinations.add(tx, place), "cloud", "ciphertext"))
        made = Full(box, disk, served, [], [])
        with delivering(box):
            for number in range(1000):
                image = image_of(number)
                try:
                    made.send(image)
                except OutOfResources:
                    made.refused.append(image)
                    break
                made.taken.append(image)
            eventually(lambda: is_delivered(box, len(made.taken)), within_seconds=120)
            yield made


@contextmanager
def opened(config: Config, disk: CountedDisk) -> Iterator[Box]:
    plain = open_box(config, disk=disk)
    try:
        yield replace(plain, guard=CountedGuard(disk, config.store.reserve_bytes))
    finally:
        plain.close()


def is_delivered(box: Box, count: int) -> bool:
    """Whether the bucket has so many, and what says of which study they are."""
    with box.catalog.reading() as conn:
        states = delivery_states(conn)
        dirty = conn.exec_driver_sql("SELECT count(*) FROM manifests WHERE dirty_utc IS NOT NULL").scalar()
    return states.total() >= count and set(states) <= {"CONFIRMED"} and not dirty


def grow_old(box: Box) -> None:
    """Four years go by for every study, and none for the clock."""
    now = datetime.now(UTC)
    old = utc_text(now - timedelta(days=1500))
    with box.catalog.transaction() as tx:
        retention.watch_clock(tx, now, follows_time_server=True)
        tx.exec_driver_sql("UPDATE studies SET last_received_utc = ?, first_received_utc = ?", (old, old))


def follow(full: Full, page: Page, path: str, name: str) -> None:
    """The page that the runbook's link leads to; it bears the name that the runbook gives it."""
    page.goto(full.served.address + path)
    expect(page.locator("main")).to_contain_text(name)


def test_images_leave_for_the_bucket_and_in_the_room_that_they_make_what_was_refused_is_taken(
    full: Full, eventually: Callable[..., object]
) -> None:
    box, served = full.box, full.served
    grow_old(box)
    page = served.page(served.context())
    served.sign_in(page)
    follow(full, page, "/health", "Dashboard")
    expect(page.locator("[data-problem='disk-full']")).to_be_visible(timeout=PATIENCE_MS)

    follow(full, page, "/settings/tiers", "Room on this disk")
    page.get_by_label("When images leave this disk").select_option(
        label="When room runs short, those untouched longest first"
    )
    page.get_by_label("Room runs short below this percentage of the disk").fill("50")
    page.get_by_label("Room is enough again at this percentage").fill("60")
    page.get_by_role("button", name="Save").click()
    expect(page.locator("#form-error")).to_have_count(0)
    before, free = full.stored_bytes(), full.disk.free_bytes()
    with pytest.raises(OutOfResources):
        full.send(full.refused[0])
    follow(full, page, "/tiers", "Storage tiers")
    page.get_by_role("link", name="See what would leave now").click()
    expect(page.locator("main")).to_contain_text("Among the patient’s 2 latest studies")
    follow(full, page, "/tiers", "Storage tiers")
    act = page.locator("#act-evict")
    act.locator("summary", has_text="Make room now").click()
    act.get_by_role("button", name="Make room now").click()
    expect(act.locator(".note.good")).to_contain_text("studies left this disk", timeout=4 * PATIENCE_MS)
    left = len(full.taken) - here(box)
    assert 0 < left < len(full.taken)
    made = before - full.stored_bytes()
    assert made > left * 2 * MIB, "their bytes are gone from the store"
    assert full.disk.free_bytes() - free > 0.9 * made, "and the disk has that room"
    box.guard.admit(0)
    follow(full, page, "/tiers", "Storage tiers")
    expect(page.locator("#tiers-disk")).to_contain_text(f"{left} images")

    follow(full, page, "/retention", "Retention")
    follow(full, page, "/health", "Dashboard")
    expect(page.locator("[data-problem='disk-full']")).to_have_count(0, timeout=PATIENCE_MS)
    full.send(*full.refused)
    eventually(lambda: is_delivered(box, len(full.taken) + 1), within_seconds=60)
    assert {str(row.sop_instance_uid) for row in recorded(box)} == {
        str(each.sop_instance_uid) for each in (*full.taken, *full.refused)
    }

    first = full.taken[0].sop_instance_uid
    (gone,) = [row for row in recorded(box) if row.sop_instance_uid == first]
    assert not recall.is_here(box, gone.object_id)
    was_here = here(box)
    with page.expect_response(lambda each: each.headers.get("x-not-shown") == "in-archive"):
        follow(full, page, "/studies", "Studies")
    small = page.request.get(f"{served.address}/instances/{gone.id}/thumbnail")
    assert small.headers["x-not-shown"] == "in-archive"
    assert here(box) == was_here, "a list opens nothing"
    follow(full, page, f"/studies/{gone.study_id}", full.taken[0].patient_name.split("^")[0])
    picture = page.locator("[data-picture]")
    expect(picture).to_be_visible(timeout=PATIENCE_MS)
    assert picture.evaluate("image => image.decode().then(() => image.naturalWidth)") == full.taken[0].side
    assert recall.is_here(box, gone.object_id), "it came back, since somebody has opened it"
    assert served.complaints == []
