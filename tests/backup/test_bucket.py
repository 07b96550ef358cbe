"""The same from a bucket: backup, fire, restore, images home, over the line to a real S3 server."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from appliance.backup import ahead, drill, making, snapshot
from appliance.catalog import copying
from appliance.model import DestinationSettings
from tests.backup.conftest import IMAGES, KEEP, Clinic, as_sent, clinic_in, contents
from tests.backup.test_restoring import bring_home, restore
from tests.boxes import box_in
from tests.replication.cloud import Cloud, Fault, Request, cloud, line, settings

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def the_cloud() -> Iterator[Cloud]:
    with cloud() as running:
        yield running


@pytest.fixture
def bucket(the_cloud: Cloud) -> DestinationSettings:
    return settings(the_cloud.url, the_cloud.new_bucket(versioned=True))


@pytest.fixture
def clinic(tmp_path: Path, bucket: DestinationSettings) -> Iterator[Clinic]:
    with clinic_in(tmp_path / "before", bucket) as clinic:
        yield clinic


@pytest.mark.parametrize("with_snapshot", [True, False])
def test_a_blank_box_the_paper_and_a_bucket(clinic: Clinic, tmp_path: Path, with_snapshot: bool) -> None:
    clinic.receive(*IMAGES[:6])
    clinic.deliver()
    if with_snapshot:
        clinic.back_up()
        assert drill.drill(clinic.box, clinic.place, datetime.now(UTC), actor="tests").passed
    clinic.receive(*IMAGES[6:])
    clinic.deliver()
    restored = restore(tmp_path / "after", clinic.place, clinic.paper)
    assert (restored.snapshot is not None) is with_snapshot
    assert restored.instances == 11
    with box_in(tmp_path / "after") as box:
        bring_home(box)
        assert contents(box) == as_sent(*IMAGES)


@pytest.mark.parametrize("ahead_by", [timedelta(0), timedelta(days=3650)], ids=["right", "ahead"])
@pytest.mark.parametrize("when", ["copying", "sending"])
def test_what_comes_while_a_backup_is_on_its_way_is_in_one_of_both(
    clinic: Clinic, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, when: str, ahead_by: timedelta
) -> None:
    """A copy or an upload that lasts longer than the overlap, here 2 s and 0 s: the catalog was copied before, the index comes after."""
    monkeypatch.setattr(snapshot, "OVERLAP", timedelta(0))
    rewrite = copying.rewrite
    clinic.receive(*IMAGES[:6])
    clinic.deliver()

    def receive() -> None:
        clinic.receive(*IMAGES[6:])
        clinic.deliver()
        time.sleep(2.1)  # a bucket counts in seconds

    def rewritten(*arguments: Any) -> None:
        rewrite(*arguments)
        if when == "copying":
            receive()

    def sent(done: int, total: int) -> None:
        if when == "sending" and done == total:
            receive()

    monkeypatch.setattr(copying, "rewrite", rewritten)
    at = datetime.now(UTC) + ahead_by
    made = making.back_up(clinic.box, clinic.place, at, actor="tests", keep=KEEP, tell=sent)
    assert made.contents.instances == 6
    monkeypatch.setattr(copying, "rewrite", rewrite)
    restored = restore(tmp_path / "after", clinic.place, clinic.paper)
    assert restored.snapshot == made
    assert (restored.instances, restored.rebuilt.instances) == (11, 5)


def test_of_a_backup_by_earlier_software_the_first_piece_says_when_it_was_on_its_way(
    clinic: Clinic, the_cloud: Cloud, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(snapshot, "OVERLAP", timedelta(0))
    clinic.receive(*IMAGES[:6])
    clinic.deliver()

    def sent(done: int, total: int) -> None:
        if done == total:
            clinic.receive(*IMAGES[6:])
            clinic.deliver()
            time.sleep(2.1)

    ahead_of_time = datetime.now(UTC) + timedelta(days=3650)
    made = making.back_up(clinic.box, clinic.place, ahead_of_time, actor="tests", keep=KEEP, tell=sent)
    bucket = str(clinic.place.options["bucket"])
    the_cloud.client().delete_object(Bucket=bucket, Key=snapshot.begun_key(made.name))
    restored = restore(tmp_path / "after", clinic.place, clinic.paper)
    assert (restored.instances, restored.rebuilt.instances) == (11, 5)


def test_manifests_are_asked_for_at_once_over_a_long_line(
    clinic: Clinic, the_cloud: Cloud, tmp_path: Path
) -> None:
    """The line lets a request for a manifest through once all of them are on it: whoever asks one by one never gets the first."""
    clinic.receive(*IMAGES)
    clinic.deliver()
    count = len(the_cloud.keys(str(clinic.place.options["bucket"]), "manifests/"))
    assert count == 4
    together = threading.Barrier(count, timeout=60)

    def hold(request: Request) -> Fault | None:
        if request.method == "GET" and "/manifests/" in request.path:
            try:
                together.wait()
            except threading.BrokenBarrierError:
                return Fault.FORBIDDEN
        return None

    with line(the_cloud.port) as far:
        far.fault = hold
        place = replace(clinic.place, options={**clinic.place.options, "endpoint_url": far.url})
        restored = restore(tmp_path / "after", place, clinic.paper)
        assert (restored.rebuilt.manifests, restored.rebuilt.damaged, restored.instances) == (count, 0, 11)
        assert far.count("GET", "/manifests/") == count, "each is asked for once"


def test_a_request_that_fails_once_ends_no_restore(
    clinic: Clinic, the_cloud: Cloud, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ahead, "PAUSE_SECONDS", 0.0)
    clinic.receive(*IMAGES)
    clinic.deliver()
    seen: set[str] = set()

    def once(request: Request) -> Fault | None:
        if request.method != "GET" or "/manifests/" not in request.path or request.path in seen:
            return None
        seen.add(request.path)
        return Fault.UNAVAILABLE

    with line(the_cloud.port) as far:
        far.fault = once
        place = replace(clinic.place, options={**clinic.place.options, "endpoint_url": far.url})
        restored = restore(tmp_path / "after", place, clinic.paper)
        assert far.count("GET", "/manifests/") == 2 * len(seen) == 8
    assert (restored.rebuilt.manifests, restored.rebuilt.damaged, restored.instances) == (4, 0, 11)
