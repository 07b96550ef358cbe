"""The courier is killed at every step: nothing owed is lost, nothing arrives twice, every receipt is audited once."""

from __future__ import annotations

import multiprocessing
import signal
from pathlib import Path

import pytest

from appliance.replication import manifest
from appliance.replication.delivery import State
from tests.boxes import box_in
from tests.instances import Instance
from tests.replication import crashing
from tests.replication.cloud import Cloud, settings
from tests.replication.depot import audited, owe_everything_to, rows, states
from tests.replication.parcels import take_in
from tests.replication.test_cloud_end_to_end import objects_match

pytestmark = pytest.mark.slow

FORKS = multiprocessing.get_context("forkserver")
"""Each process is a fork of one that has everything imported: a new one spends two seconds on that."""
FORKS.set_forkserver_preload([crashing.__name__])

SIX = [Instance(number, study=number % 2, pixel_bytes=20_000) for number in range(1, 7)]
STEPS = [
    ("claimed", 1),
    ("sending", 1),
    ("sending", 4),
    ("sent", 1),
    ("sent", 4),
    ("recording", 1),
    ("recorded", 1),
    ("manifest read", 1),
    ("manifest sent", 1),
    ("manifest sent", 2),
]


def run(data: Path, step: str = "never", times: int = 1) -> int:
    process = FORKS.Process(target=crashing.run, args=(data, step, times))
    process.start()
    process.join(100)
    assert process.exitcode is not None, "it does not end"
    return process.exitcode


@pytest.mark.parametrize(("step", "times"), STEPS)
def test_a_kill_at_any_step_neither_loses_nor_doubles(
    data_dir: Path, the_cloud: Cloud, step: str, times: int
) -> None:
    bucket = the_cloud.new_bucket(versioned=True)
    with box_in(data_dir) as box:
        owe_everything_to(box, settings(the_cloud.url, bucket))
        take_in(box, SIX)
    assert run(data_dir, step, times) == -signal.SIGKILL
    with box_in(data_dir) as box:
        assert len(rows(box)) == 6
        audited(box)
    assert run(data_dir) == 0
    with box_in(data_dir) as box:
        assert states(box) == {State.CONFIRMED: 6}
        assert audited(box)["delivery:confirm"] == 6
        objects_match(box, the_cloud, bucket)
        documents = [
            manifest.unseal(box.root, key, the_cloud.get(bucket, key))
            for key in the_cloud.keys(bucket, "manifests/")
        ]
        assert sum(len(each["instances"]) for each in documents) == 6
    versions = the_cloud.client().list_object_versions(Bucket=bucket, Prefix="objects/")["Versions"]
    assert len(versions) == 6
