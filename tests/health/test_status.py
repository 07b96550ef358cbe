"""The judgement of the box: what blocks, what is said, and that nothing of a patient is in it."""

import ast
import os
from collections.abc import Iterator
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from appliance import health
from appliance import settings as operator_settings
from appliance.box import Box, open_box
from appliance.catalog import deliveries, destinations, devices, processes, rules, settings
from appliance.config import Config, StoreConfig
from appliance.errors import OperatorNeeded
from appliance.ingest import import_file
from appliance.latency import BOUNDS_SECONDS, LATENCY, Histogram
from appliance.model import AETitle, DestinationSettings, Device, Intake, Origin, Rule
from appliance.replication.delivery import Breaker
from appliance.store import keys
from appliance.web.console import web_ui
from tests import synthetic
from tests.seals import sealed_with
from tests.told_disk import told_disk

NOW = datetime.now(UTC)


def test_every_name_of_it_is_there_and_no_other() -> None:
    assert all(getattr(health, name) is not None for name in health.__all__)
    assert sorted(health._MODULES) == sorted(health.__all__)
    (told,) = (each for each in ast.parse(Path(health.__file__).read_text()).body if isinstance(each, ast.If) and isinstance(each.test, ast.Name))  # fmt: skip
    known = {
        name.name: each.module.rpartition(".")[2]
        for each in told.body
        if isinstance(each, ast.ImportFrom) and each.module
        for name in each.names
    }
    assert known == health._MODULES, "what a reader and mypy believe is what is loaded"
    with pytest.raises(AttributeError, match="'nothing'"):
        health.nothing  # type: ignore[attr-defined] # noqa: B018


@pytest.fixture
def box(data_dir: Path) -> Iterator[Box]:
    opened = open_box(Config(data=data_dir, store=StoreConfig(reserve_bytes=0)))
    yield opened
    opened.close()


def beat(
    box: Box, *names: str, at: datetime = NOW, pid: int | None = None, detail: dict[str, object] | None = None
) -> None:
    with box.catalog.transaction() as tx:
        for name in names:
            processes.beat(tx, name, pid or os.getpid(), at, at, detail)


def set_up(box: Box, path: Path) -> None:
    """A device, a destination with a rule, all processes: nothing to complain of but the keys."""
    with box.catalog.transaction() as tx:
        devices.add_device(tx, Device(AETitle("PANO"), "10.0.0.1"), NOW)
        settings_ = DestinationSettings("hand-over", "folder", "dicom", {"path": str(path)})
        number = destinations.add(tx, settings_)
        rules.add_rule(tx, Rule(number, "hand-over", "dicom"))
    beat(box, "dicom-0", "dicom-1", "courier", "jobs", "web")


def codes(box: Box, now: datetime = NOW) -> set[str]:
    return {problem.code for problem in health.status(box, now).problems}


def test_a_box_with_all_its_processes_is_ready(box: Box, tmp_path: Path) -> None:
    set_up(box, tmp_path)
    status = health.status(box, NOW)
    assert status.ready
    unsettled = {"recovery-key", "machine-seal", "no-backup"}
    assert {problem.code for problem in status.problems} - {"clock-free"} == unsettled
    running = ("dicom-0", "dicom-1", "courier", "jobs", "web")
    assert status.processes == dict.fromkeys(running, True)


@pytest.mark.parametrize("name", ["courier", "jobs", "web"])
@pytest.mark.parametrize("away", [timedelta(minutes=5), timedelta(minutes=-5), timedelta(days=-3650)])
def test_a_heartbeat_far_from_now_in_either_direction_is_none(
    box: Box, tmp_path: Path, name: str, away: timedelta
) -> None:
    set_up(box, tmp_path)
    beat(box, name, at=NOW - away)
    status = health.status(box, NOW)
    assert not status.ready
    assert f"{name}-stopped" in {problem.code for problem in status.problems if problem.blocks}


def test_a_fresh_heartbeat_of_a_process_that_is_gone_is_none(box: Box, tmp_path: Path) -> None:
    set_up(box, tmp_path)
    gone = os.posix_spawn("/bin/true", ["true"], {})
    os.waitpid(gone, 0)
    beat(box, "courier", pid=gone)
    assert "courier-stopped" in codes(box)


def test_one_receiving_worker_of_two_is_a_problem_that_does_not_block(box: Box, tmp_path: Path) -> None:
    set_up(box, tmp_path)
    beat(box, "dicom-1", at=NOW - timedelta(hours=1))
    assert health.status(box, NOW).ready
    assert "dicom-weak" in codes(box)
    beat(box, "dicom-0", at=NOW - timedelta(hours=1))
    assert not health.status(box, NOW).ready
    assert "dicom-stopped" in codes(box)


def test_a_full_disk_blocks(data_dir: Path) -> None:
    box = open_box(Config(data=data_dir, store=StoreConfig(reserve_bytes=1 << 60)))
    try:
        assert "disk-full" in {problem.code for problem in health.status(box, NOW).problems if problem.blocks}
    finally:
        box.close()


def test_a_nearly_full_disk_is_said_in_time(data_dir: Path) -> None:
    free = os.statvfs(data_dir)
    reserve = free.f_bavail * free.f_frsize // 2
    box = open_box(Config(data=data_dir, store=StoreConfig(reserve_bytes=reserve)))
    try:
        (low,) = [each for each in health.status(box, NOW).problems if each.code == "disk-low"]
        assert "choose in the settings" in low.fix
        with box.catalog.transaction() as tx:
            chosen = {"tiers.eviction": "when-needed"}
            operator_settings.change(tx, box.audit_key, chosen, actor="tests", now=NOW, root=box.root)
        (low,) = [each for each in health.status(box, NOW).problems if each.code == "disk-low"]
        assert "choose" not in low.fix
    finally:
        box.close()


def test_a_recovery_key_that_was_checked_is_no_problem(box: Box) -> None:
    assert "recovery-key" in codes(box)
    folder = health.keys_folder(box)
    keys.check_recovery(folder, box.root, str(keys.show_recovery(folder, box.root)))
    assert "recovery-key" not in codes(box)


@pytest.fixture
def owed(box: Box, tmp_path: Path) -> Box:
    """A box that owes one image to a folder."""
    set_up(box, tmp_path)
    (file,) = synthetic.write(iter([synthetic.panoramic(1, scale=0.1)]), tmp_path / "film")
    with file.open("rb") as stream:
        import_file(box, stream, Origin(Intake.IMPORT, "test"))
    return box


def test_what_waits_is_counted_and_late_after_an_hour(owed: Box) -> None:
    (queue,) = health.status(owed, datetime.now(UTC)).queues
    assert (queue.destination, queue.state, queue.waiting, queue.confirmed, queue.failed) == (
        "hand-over",
        "on",
        1,
        0,
        0,
    )
    assert "delivery-late" not in codes(owed)
    assert "delivery-late" in codes(owed, datetime.now(UTC) + timedelta(hours=2))


def test_what_was_confirmed_or_refused_is_counted(owed: Box) -> None:
    now = datetime.now(UTC)
    with owed.catalog.transaction() as tx:
        (row,) = deliveries.list_deliveries(tx)
        place = destinations.destinations(tx)[0]
        (claimed,) = deliveries.claim(tx, place.id, now=now, lease_seconds=60, limit=1)
        deliveries.fail(tx, claimed.id, claimed.attempts, reason="will not have it", now=now)
    (queue,) = health.status(owed, now).queues
    assert (queue.waiting, queue.confirmed, queue.failed) == (0, 0, 1)
    assert "delivery-failed" in codes(owed)
    with owed.catalog.transaction() as tx:
        deliveries.confirm(tx, row.id, {"evidence": "it is there"}, now)
    (queue,) = health.status(owed, now).queues
    assert (queue.waiting, queue.confirmed, queue.failed) == (0, 1, 0)


def test_a_destination_that_cannot_be_reached_is_said_with_its_reason(owed: Box) -> None:
    with owed.catalog.transaction() as tx:
        place = destinations.destinations(tx)[0]
        destinations.set_breaker(tx, place.id, Breaker(3, NOW + timedelta(minutes=5), "no route"))
    (problem,) = [each for each in health.status(owed, NOW).problems if each.code == "destination-down"]
    assert "no route" in problem.words
    assert health.status(owed, NOW).ready, "images are received and kept all the same"


def test_a_paused_destination_with_work_is_said(owed: Box) -> None:
    with owed.catalog.transaction() as tx:
        destinations.pause(tx, "hand-over")
    assert "destination-paused" in codes(owed)


@pytest.mark.parametrize(
    ("key", "outcome", "code"),
    [(health.VERIFICATION, {"damaged": 2}, "damaged"), (health.AUDIT_CHECK, {"findings": 1}, "audit")],
)
def test_damage_that_was_found_stays_a_problem_until_it_is_not_found(
    box: Box, key: str, outcome: dict[str, int], code: str
) -> None:
    with box.catalog.transaction() as tx:
        settings.put(tx, key, outcome, NOW)
    assert code in codes(box)
    with box.catalog.transaction() as tx:
        settings.put(tx, key, dict.fromkeys(outcome, 0), NOW)
    assert code not in codes(box)


def test_a_box_that_cannot_be_opened_has_a_status(data_dir: Path) -> None:
    status = health.closed(OperatorNeeded("the keys are gone", hint="restore them"), NOW)
    assert not status.ready
    assert status.problems[0].fix == "restore them"


def test_a_machine_seal_that_is_gone_is_a_problem_found(box: Box, tmp_path: Path) -> None:
    set_up(box, tmp_path)
    (box.config.data / "keys" / "machine.key").unlink()
    (problem,) = [each for each in health.status(box, NOW).problems if each.code == "machine-seal"]
    assert "will not start again" in problem.words
    assert problem.fix


@pytest.mark.parametrize(
    ("key", "is_told"), [("host+tpm2", False), ("tpm2", False), ("host", True), (None, True)]
)
def test_a_machine_seal_without_a_tpm_is_a_problem_found(
    box: Box, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, key: str | None, is_told: bool
) -> None:
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", sealed_with(key, tmp_path / "given")["CREDENTIALS_DIRECTORY"])
    found = [each for each in health.status(box, NOW).problems if each.code == "machine-seal"]
    assert ["a stolen disk can be read" in each.words for each in found] == [True] * is_told
    with told_disk(tmp_path / "told") as root:
        root.says("unknown")
        found = [each for each in health.status(box, NOW).problems if each.code == "machine-seal"]
    assert not found, "the image's own disk is encrypted, and its TPM2 opens it: nobody has anything to do"


def test_a_catalog_that_fails_is_a_problem_found(box: Box) -> None:
    box.catalog.close()
    file = box.config.data / "catalog.db"
    content = file.read_bytes()
    file.write_bytes(content[:4096] + os.urandom(len(content) - 4096))
    status = health.status(box, NOW)
    assert not status.ready
    assert "catalog" in {problem.code for problem in status.problems}


def test_what_blocks_comes_first(box: Box) -> None:
    blocking = [problem.blocks for problem in health.status(box, NOW).problems]
    assert blocking == sorted(blocking, reverse=True)
    assert True in blocking
    assert False in blocking


def test_metrics_are_prometheus_text_with_the_figures(owed: Box) -> None:
    beat(owed, "courier", detail={"confirmed": 41, "note": "text is not a figure"})
    text = health.metrics_text(owed, NOW)
    found = {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }
    assert found["appliance_ready", ()] == 1
    assert found["appliance_instances", ()] == 1
    assert found["appliance_deliveries_waiting", (("destination", "hand-over"),)] == 1
    assert found["appliance_process_up", (("process", "courier"),)] == 1
    assert found["appliance_process_reported", (("count", "confirmed"), ("process", "courier"))] == 41
    assert found["appliance_problem", (("code", "recovery-key"),)] == 1


def test_latencies_are_a_histogram_over_all_processes(box: Box) -> None:
    for name, seconds in (("dicom-0", 0.01), ("dicom-1", 3.0)):
        measured = Histogram()
        measured.observe(seconds)
        beat(box, name, detail={LATENCY: {"receive": measured.as_detail()}})
    family = next(
        each
        for each in text_string_to_metric_families(health.metrics_text(box, NOW))
        if each.name == "appliance_latency_seconds"
    )
    assert family.type == "histogram"
    buckets = {
        float(each.labels["le"]): each.value for each in family.samples if each.name.endswith("_bucket")
    }
    assert len(buckets) == len(BOUNDS_SECONDS) + 1
    assert buckets[float("inf")] == 2
    assert sum(1 for bound, count in buckets.items() if count == 1) > 10
    assert {each.name: each.value for each in family.samples if each.name.endswith(("_sum", "_count"))} == {
        "appliance_latency_seconds_sum": pytest.approx(3.01),
        "appliance_latency_seconds_count": 2,
    }


def test_metrics_tell_what_alerts_are_made_of_and_nothing_that_is_not_known(box: Box) -> None:
    def names() -> set[str]:
        return {each.name for each in text_string_to_metric_families(health.metrics_text(box, NOW))}

    before = names()
    assert {"appliance_total_bytes", "appliance_received_today", "appliance_sign_in_failures"} <= before
    assert "appliance_backup_age_seconds" not in before
    with box.catalog.transaction() as tx:
        place = DestinationSettings("usb", "vault", "ciphertext", {"path": "/nowhere"}, paused=True)
        destinations.add(tx, place)
    before = names()
    with box.catalog.transaction() as tx:
        settings.put(tx, f"{health.BACKUP}.usb", {"at_utc": NOW.isoformat(), "outcome": "succeeded"}, NOW)
    assert names() - before == {"appliance_backup_age_seconds"}


def test_every_metric_is_in_the_help(owed: Box) -> None:
    for language in ("en", "fr"):
        text = (web_ui() / "help" / language / "health.html").read_text("utf-8")
        for family in text_string_to_metric_families(health.metrics_text(owed, NOW)):
            assert f"<code>{family.name}</code>" in text, (language, family.name)


def test_neither_status_nor_metrics_name_a_patient_or_a_uid(owed: Box) -> None:
    """R22, for everything that the two say about a box that holds an image."""
    said = str(asdict(health.status(owed, NOW))) + health.metrics_text(owed, NOW)
    for marker in synthetic.MARKERS:
        assert marker not in said
    assert "2.25." not in said
