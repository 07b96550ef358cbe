"""The bench of restores from far away measures what it says, and fails when it should."""

import argparse
from dataclasses import replace
from pathlib import Path

import boto3
import pytest
from botocore.config import Config

from appliance.store.recovery import RecoveryKey

from . import restoring_far
from .far_bucket import WITHOUT, FarBucket, far_bucket
from .restoring_far import Restored, missed, plot, restored, table
from .wire import PeerFailed
from .years import by_itself

FOUND = [
    Restored(studies, way, seconds, seconds / 2, 100_000_000, studies, 32, 2_000_000)
    for studies, seconds in ((100, 1.0), (100, 3.0), (100, 2.0), (1_000, 20.0))
    for way in restoring_far.WAYS
]


def test_the_table_has_the_medians_of_each_size_and_the_plot_a_bar() -> None:
    assert "| 100 | backup | 2.0 s | 1.0 s | 100 | 32 | 2.0 MB | 100 MB |" in table(FOUND)
    assert "| 1000 | manifests | 20.0 s | 10.0 s | 1000 | 32 | 2.0 MB | 100 MB |" in table(FOUND)
    assert table(FOUND).endswith("The goal of 30 minutes is met.")
    assert [line.count("█") for line in plot(FOUND).splitlines()[1:]] == [5, 5, 50, 50]


def test_a_restore_that_takes_longer_than_half_an_hour_misses_the_goal() -> None:
    assert missed([*FOUND, replace(FOUND[0], seconds=1800.0)]) == ""
    slow = [*FOUND, replace(FOUND[0], seconds=1801.0, studies=100_000)]
    assert missed(slow) == "goal missed: 100000 studies by the backup are in service after 30 minutes, not 30"
    assert table(slow).endswith("The goal of 30 minutes is missed.")


@pytest.mark.parametrize(("seconds", "code"), [(1800.0, 0), (1801.0, 1)])
def test_the_goal_decides_the_exit_code(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, seconds: float, code: int
) -> None:
    monkeypatch.setattr(restoring_far, "_of_size", lambda *_: [replace(FOUND[0], seconds=seconds)])
    options = argparse.Namespace(sizes=[1], rounds=1, latency=60, folder=tmp_path, load=0.0)
    assert restoring_far.measure(options) == code


def _client(bucket: FarBucket):
    return boto3.client(
        "s3",
        endpoint_url=f"http://127.0.0.1:{bucket.port}",
        region_name="ca-central-1",
        aws_access_key_id="x",
        aws_secret_access_key="x",
        config=Config(s3={"addressing_style": "path"}, retries={"total_max_attempts": 1}),
    )


def test_the_bucket_lists_a_folder_page_by_page_and_hides_the_backups_where_it_is_told_to(
    tmp_path: Path,
) -> None:
    keys = sorted(f"manifests/{number:04d}.sealed" for number in range(1_500))
    for key in [*keys, "snapshots/a/index"]:
        (tmp_path / key).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / key).write_bytes(key.encode())
    with far_bucket(tmp_path, 0) as bucket:
        client = _client(bucket)

        def listed(name: str, prefix: str) -> list[str]:
            pages = client.get_paginator("list_objects_v2").paginate(Bucket=name, Prefix=prefix)
            return [each["Key"] for page in pages for each in page.get("Contents", [])]

        assert listed("clinic", "manifests/") == listed(WITHOUT, "manifests/") == keys
        assert (listed("clinic", "snapshots/"), listed(WITHOUT, "snapshots/")) == (["snapshots/a/index"], [])
        bucket.forget()
        assert client.get_object(Bucket="clinic", Key=keys[7])["Body"].read() == keys[7].encode()
        assert (bucket.requests, bucket.most_at_once, bucket.bytes_read) == (1, 1, len(keys[7]))
        for name, key in ((WITHOUT, "snapshots/a/index"), ("clinic", "manifests/none")):
            with pytest.raises(client.exceptions.NoSuchKey):
                client.get_object(Bucket=name, Key=key)


@pytest.mark.slow
def test_a_restore_is_measured_only_if_all_has_come_back(tmp_path: Path) -> None:
    (tmp_path / "bucket").mkdir()
    with far_bucket(tmp_path / "bucket", 0.01) as bucket:
        paper = RecoveryKey.parse(by_itself(restoring_far.filled, tmp_path, bucket.place("clinic"), 40))
        by_backup = restored(tmp_path, bucket, paper, 40, "backup")
        by_manifests = restored(tmp_path, bucket, paper, 40, "manifests")
        assert by_manifests.requests >= 40 > by_backup.requests, (
            "only the last day's were read after the backup"
        )
        assert by_manifests.at_once > 1 and by_backup.processor_seconds > 0
        with pytest.raises(PeerFailed, match="of 41 studies 40 came back by the backup"):
            restored(tmp_path, bucket, paper, 41, "backup")
