"""The minute job: what happened, once each; what processes measured, however they come and go."""

import os
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from appliance import health
from appliance.box import Box, open_box
from appliance.catalog import devices, processes, samples
from appliance.catalog.samples import Grain
from appliance.figures import Figures
from appliance.health.forecast import Outlook
from appliance.health.sampling import Sampler, free_by_day
from appliance.ingest import import_file
from appliance.latency import LATENCY, Histogram
from appliance.model import AETitle, Device, Intake, Origin
from tests import synthetic
from tests.boxes import config_in

NOW = datetime.now(UTC).replace(second=0, microsecond=0)
MINUTE = timedelta(minutes=1)


@pytest.fixture
def box(data_dir: Path) -> Iterator[Box]:
    opened = open_box(config_in(data_dir))
    yield opened
    opened.close()


def receive(box: Box, path: Path, seed: int) -> None:
    (file,) = synthetic.write(iter([synthetic.panoramic(seed, scale=0.1)]), path / str(seed))
    with file.open("rb") as stream:
        import_file(box, stream, Origin(Intake.DICOM, "PANO1", "10.0.0.4"))


def taken(box: Box) -> list[Figures]:
    with box.catalog.reading() as conn:
        found = samples.between(conn, NOW - timedelta(days=9), NOW + timedelta(days=9), [Grain.MINUTE])
    return [each.figures for each in found]


def beat(box: Box, pid: int, *seconds: float, started: datetime = NOW) -> None:
    measured = Histogram()
    for each in seconds:
        measured.observe(each)
    with box.catalog.transaction() as tx:
        processes.beat(tx, "web", pid, started, NOW, {LATENCY: {"page": measured.as_detail()}})


def test_each_arrival_is_in_one_minute(box: Box, tmp_path: Path) -> None:
    sampler = Sampler()
    receive(box, tmp_path, 1)
    sampler(box, NOW)
    sampler(box, NOW + MINUTE)
    receive(box, tmp_path, 2)
    receive(box, tmp_path, 3)
    Sampler()(box, NOW + 2 * MINUTE)  # another process goes on where the first stopped
    assert [each.received for each in taken(box)] == [1, 0, 2]
    assert all(each.free_bytes for each in taken(box))


def test_what_arrived_today_is_known_before_the_minute_is_over(box: Box, tmp_path: Path) -> None:
    with box.catalog.transaction() as tx:
        devices.add_device(tx, Device(AETitle("PANO1"), "10.0.0.4"), NOW)
    receive(box, tmp_path, 1)
    assert [each.received_today for each in health.gather(box, datetime.now(UTC)).senders] == [1]
    Sampler()(box, datetime.now(UTC))
    receive(box, tmp_path, 2)
    (sender,) = health.gather(box, datetime.now(UTC)).senders
    assert sender.received_today == 2
    assert sender.days == (datetime.now(UTC).astimezone().date(),)


def test_what_was_measured_is_counted_from_report_to_report(box: Box) -> None:
    sampler = Sampler()
    beat(box, 1, 0.1, 0.1)
    sampler(box, NOW)  # what was before is not ours to count
    beat(box, 1, 0.1, 0.1, 0.4)
    sampler(box, NOW + MINUTE)
    beat(box, 2, 2.0, started=NOW + MINUTE)  # the process was replaced
    sampler(box, NOW + 2 * MINUTE)
    pages = [each.latencies.get("page", Histogram()) for each in taken(box)]
    assert [each.total for each in pages] == [0, 1, 1]
    assert pages[2].seconds == 2.0


def test_the_forecast_knows_the_days_it_has_seen(box: Box) -> None:
    sampler = Sampler()
    for day in range(8):
        assert health.gather(box, NOW).forecast.outlook is Outlook.UNKNOWN or day >= 7
        sampler(box, NOW - timedelta(days=7 - day))
    with box.catalog.reading() as conn:
        assert len(free_by_day(conn)) == 8
    assert health.gather(box, NOW).forecast.outlook is not Outlook.UNKNOWN


def test_a_sample_is_taken_though_no_process_measures(box: Box) -> None:
    with box.catalog.transaction() as tx:
        processes.beat(tx, "courier", os.getpid(), NOW, NOW, {"delivered": 3, LATENCY: "nonsense"})
    sampler = Sampler()
    sampler(box, NOW)
    sampler(box, NOW + MINUTE)
    assert [each.latencies for each in taken(box)] == [{}, {}]
