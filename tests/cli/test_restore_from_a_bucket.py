"""`restore s3` as the runbook has it typed in the worst hour: a blank box, a bucket, and then the secret and the paper."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from appliance.box import Box, open_box
from appliance.config import load_config
from tests.backup.test_past import SEALED, a_moment, write_over
from tests.backup.test_restoring import bring_home
from tests.boxes import data_set_of, recorded
from tests.cli.conftest import Say
from tests.cli.test_backups import paper_in
from tests.cli.test_runbooks import deliver
from tests.cli.walking import commands
from tests.replication.cloud import REGION, Cloud, cloud, settings

pytestmark = pytest.mark.slow

SECRET = "tests\n"
SOME_MOMENT = "2026-11-25T18:00:00-05:00"


@pytest.fixture(scope="module")
def the_cloud() -> Iterator[Cloud]:
    with cloud() as running:
        yield running


def opened() -> Box:
    return open_box(load_config(os.environ))


def as_written(section: str = "replace-box", **names: str) -> list[str]:
    """The words of the runbook, with what stands for its names."""
    (line,) = [each for each in commands(section) if each.startswith("restore s3")]
    return [names.get(word, word) for word in line.split()]


def contents() -> dict[str, bytes]:
    with closing(opened()) as box:
        return {str(row.sop_instance_uid): data_set_of(box, row) for row in recorded(box)}


def test_a_blank_box_comes_back_from_a_bucket_by_one_command(
    say: Say,
    films: list[Path],
    the_cloud: Cloud,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    eventually: Callable[..., object],
) -> None:
    bucket = the_cloud.new_bucket(versioned=True)
    where = ("--bucket", bucket, "--region", REGION, "--endpoint-url", the_cloud.url, "--canadian")
    place = (*where, "--access-key-id", "tests")
    assert say("destination", "add", "s3", "cloud", *place, typed=SECRET).code == 0
    assert say("rule", "add", "--to", "cloud").code == 0
    assert say("import", *films[:3]).code == 0
    deliver(say, eventually)
    assert say("backup", "now", "--to", "cloud").code == 0
    paper = paper_in(say, tmp_path)
    before, studies = contents(), say("studies", "--json").rows
    assert len(before) == 3

    monkeypatch.setenv("APPLIANCE_DATA", str(tmp_path / "blank"))

    refused = say("restore", "s3", *place, "--recovery-key-file", paper, typed="\n")
    assert refused.code != 0, "without a secret"
    assert not (tmp_path / "blank" / "catalog.db").exists(), "the box is still blank"
    stand_in = ("--endpoint-url", the_cloud.url, "--canadian")  # for the cloud that the runbook means
    restored = say(*as_written(NAME=bucket, ID="tests"), *stand_in, typed=SECRET + paper.read_text())
    assert restored.code == 0, restored.err
    assert "3 images" in restored.out
    assert "tests" not in restored.out, "no secret is said"
    found = say("studies", "--json").rows
    assert [each["study_instance_uid"] for each in found] == [each["study_instance_uid"] for each in studies]
    assert [row["action"] for row in say("audit", "export").rows].count("backup:restore") == 1
    with closing(opened()) as box:
        bring_home(box)
    assert contents() == before, "every image opens to the bytes that were sent"


def test_a_bucket_in_which_a_thief_has_written_comes_back_as_it_was(
    say: Say,
    films: list[Path],
    the_cloud: Cloud,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    eventually: Callable[..., object],
) -> None:
    bucket = the_cloud.new_bucket(versioned=True)
    where = ("--bucket", bucket, "--region", REGION, "--endpoint-url", the_cloud.url, "--canadian")
    place = (*where, "--access-key-id", "tests")
    assert say("destination", "add", "s3", "cloud", *place, typed=SECRET).code == 0
    assert say("rule", "add", "--to", "cloud").code == 0
    assert say("import", *films[:3]).code == 0
    deliver(say, eventually)
    assert say("backup", "now", "--to", "cloud").code == 0
    paper = paper_in(say, tmp_path)
    before = contents()
    moment = a_moment()
    write_over(the_cloud, settings(the_cloud.url, bucket), *SEALED)
    monkeypatch.setenv("APPLIANCE_DATA", str(tmp_path / "blank"))
    restore = ("restore", "s3", *place, "--recovery-key-file", paper)
    broken = say(*restore, typed=SECRET)
    assert broken.code != 0
    assert "--as-of" in broken.err
    for typed in ("yesterday", "9999-12-31", "0001-01-01T00:00+14:00"):
        unknown = say(*restore, "--as-of", typed, typed=SECRET)
        assert (unknown.code, "that is no moment" in unknown.err) == (65, True), typed
    at = ("--as-of", moment.isoformat())
    listed = say(*restore, *at, "--list", typed=SECRET)
    assert listed.code == 0, listed.err
    assert "As it stood at" in listed.err
    assert "3" in listed.out
    words = as_written("ransomware", NAME=bucket, ID="tests", **{SOME_MOMENT: moment.isoformat()})
    stand_in = ("--endpoint-url", the_cloud.url, "--canadian")
    restored = say(*words, *stand_in, typed=SECRET + paper.read_text())
    assert restored.code == 0, restored.err
    assert "3 images" in restored.out
    with closing(opened()) as box:
        bring_home(box)
    assert contents() == before
