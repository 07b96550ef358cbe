"""The test study over the real processes: sent by DICOM, seen, replicated to a bucket, brought back; and what stops it."""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from appliance.box import Box
from appliance.catalog import destinations, devices, rules, studies
from appliance.imaging import Darkroom, View
from appliance.model import DestinationSettings, Rule
from appliance.wizard import trial
from appliance.wizard.runs import Run
from tests.replication import cloud as clouds
from tests.replication.cloud import Cloud
from tests.system.running import Appliance, appliance

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


@pytest.fixture(scope="module")
def cloud() -> Iterator[Cloud]:
    with clouds.cloud() as running:
        yield running


@pytest.fixture(scope="module")
def darkroom() -> Iterator[Darkroom]:
    made = Darkroom(1, task_seconds=300)
    yield made
    made.close()


@pytest.fixture
def running(tmp_path: Path, free_port: Callable[[], int]) -> Iterator[Appliance]:
    with appliance(tmp_path / "box", free_port, start=("dicom", "courier"), workers=1) as started:
        yield started


@pytest.fixture
def box(running: Appliance) -> Iterator[Box]:
    with running.opened() as opened:
        yield opened


def add_cloud(box: Box, settings: DestinationSettings, *, rule: bool = True) -> None:
    with box.catalog.transaction() as tx:
        number = destinations.add(tx, settings)
        if rule:
            rules.add_rule(tx, Rule(number, settings.name, settings.takes))


def try_it(box: Box, darkroom: Darkroom, *, fresh: bool = False) -> Run:
    with box.catalog.transaction() as tx:
        made = trial.prepare(tx, datetime.now(UTC), fresh=fresh)

    def picture(row):
        with box.open_object(row.object_id, row.key_id) as reader:
            return darkroom.render(reader, row.size_bytes, View())

    return trial.run(box, made, picture, "tests")


def states(run: Run) -> dict[str, str]:
    return {each.name: each.state.value for each in run.parts}


def test_it_goes_the_whole_way_and_comes_back_equal(box: Box, darkroom: Darkroom, cloud: Cloud) -> None:
    bucket = cloud.new_bucket()
    add_cloud(box, clouds.settings(cloud.url, bucket))
    done = try_it(box, darkroom)
    assert set(states(done).values()) == {"done"}, done
    with box.catalog.reading() as conn:
        (study,) = studies.find(conn)
        known = [each.ae_title for each in devices.devices(conn)]
    assert study.patient_name == "TEST^CLINICBOX"
    assert trial.CALLING not in known, "the door is closed again behind it"
    # What lies in the bucket is what was brought back: break it, and the same test fails.
    (name,) = [each for each in cloud.keys(bucket) if each.startswith("objects/")]
    sealed = bytearray(cloud.get(bucket, name))
    sealed[5000] ^= 1
    cloud.client().put_object(Bucket=bucket, Key=name, Body=bytes(sealed))
    from appliance.wizard import runs

    runs.forget(box, trial.RUN)
    broken = try_it(box, darkroom)
    assert states(broken)["restore"] == "failed", broken


def test_without_a_copy_elsewhere_it_says_what_was_left_out(box: Box, darkroom: Darkroom) -> None:
    done = try_it(box, darkroom)
    assert states(done) == {
        "send": "done",
        "receive": "done",
        "see": "done",
        "replicate": "left-out",
        "restore": "left-out",
    }


def test_a_destination_that_no_rule_feeds_is_a_cause_and_not_a_success(
    box: Box, darkroom: Darkroom, cloud: Cloud
) -> None:
    add_cloud(box, clouds.settings(cloud.url, cloud.new_bucket()), rule=False)
    failed = try_it(box, darkroom).failed
    assert failed is not None
    assert failed.name == "replicate"
    assert "no rule" in failed.cause


def test_a_cloud_that_is_down_is_told_and_trying_again_goes_on(
    box: Box, darkroom: Darkroom, cloud: Cloud
) -> None:
    with clouds.line(cloud.port) as line:
        add_cloud(box, clouds.settings(line.url, cloud.new_bucket()))
        line.down = True
        failed = try_it(box, darkroom).failed
        assert failed is not None
        assert failed.name == "replicate"
        assert "does not answer" in failed.cause
        line.down = False
        again = try_it(box, darkroom)
        assert set(states(again).values()) == {"done"}, again
        with box.catalog.reading() as conn:
            assert len(studies.find(conn)) == 1, "it was not sent twice"


def test_a_port_that_nobody_answers_is_the_cause(
    tmp_path: Path, free_port: Callable[[], int], darkroom: Darkroom
) -> None:
    with appliance(tmp_path / "box", free_port) as stopped, stopped.opened() as box:
        failed = try_it(box, darkroom).failed
    assert failed is not None
    assert failed.name == "send"
    assert "cannot be reached" in failed.cause
