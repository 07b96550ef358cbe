"""What an administrator of the whole machine could undo in silence, the bucket remembers: the audit cannot go back."""

import shutil
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from appliance import anchor, audit, health, witnesses
from appliance.audit import Entry
from appliance.box import Box, open_box
from appliance.catalog import destinations
from appliance.catalog import settings as catalog_settings
from appliance.config import Config
from appliance.errors import Refused
from appliance.lifecycle import freezing
from appliance.lifecycle.acting import Act
from appliance.model import DestinationSettings
from appliance.replication.destinations import prepare
from appliance.replication.destinations.s3 import S3Destination
from appliance.web.auditing import chain_state
from appliance.web.language import Words
from tests.replication.cloud import Cloud, cloud, line, settings

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)


@pytest.fixture(scope="module")
def the_cloud() -> Iterator[Cloud]:
    with cloud() as running:
        yield running


@pytest.fixture
def bucket(the_cloud: Cloud) -> str:
    return the_cloud.new_bucket()


def _open(folder: Path, url: str = "", bucket: str = "") -> Box:
    box = open_box(Config(data=folder))
    if url:
        with box.catalog.transaction() as tx:
            destinations.add(tx, settings(url, bucket))
    return box


@pytest.fixture
def box(tmp_path: Path, the_cloud: Cloud, bucket: str) -> Iterator[Box]:
    opened = _open(tmp_path / "box", the_cloud.url, bucket)
    _act(opened, 5)
    yield opened
    opened.close()


def _act(box: Box, times: int) -> None:
    box.record([Entry("study:view", f"study:{number}", "marie") for number in range(times)], NOW)


def _codes(box: Box, now: datetime) -> set[str]:
    return {problem.code for problem in health.status(box, now).problems}


def _kept(box: Box) -> witnesses.Anchored:
    with box.catalog.reading() as conn:
        return witnesses.kept(conn)["cloud"]


def test_each_anchor_has_a_name_of_its_own_and_says_nothing_in_clear(
    box: Box, the_cloud: Cloud, bucket: str
) -> None:
    for hour in range(3):
        witnesses.write(box, NOW + hour * HOUR)
        _act(box, 2)
    keys = the_cloud.keys(bucket, "anchors/")
    assert len(keys) == 3 and keys == sorted(keys)
    for key in keys:
        content = the_cloud.get(bucket, key)
        assert b"witness" not in content
        assert anchor.unsealed(box, content)[1].count > 0
    with box.catalog.reading() as conn:
        rows = [row for row in audit.export(conn) if row["action"] == "audit:anchor"]
        assert audit.verify(conn, box.audit_key) == []
    assert [row["outcome"] for row in rows] == ["done"] * 3


def test_a_name_that_exists_is_never_written_over(the_cloud: Cloud, bucket: str) -> None:
    shelf = S3Destination.from_settings(settings(the_cloud.url, bucket))
    shelf.put_new("anchors/a", b"first")
    with pytest.raises(Refused):
        shelf.put_new("anchors/a", b"second")
    assert the_cloud.get(bucket, "anchors/a") == b"first"


def test_the_whole_box_put_back_to_last_week_is_found(
    tmp_path: Path, box: Box, the_cloud: Cloud, bucket: str
) -> None:
    witnesses.write(box, NOW)
    box.close()
    shutil.copytree(tmp_path / "box", tmp_path / "last week")
    later = open_box(Config(data=tmp_path / "box"))
    _act(later, 10)
    witnesses.write(later, NOW + HOUR)
    later.close()
    back = open_box(Config(data=tmp_path / "last week"))  # keys, catalog and local anchor: all of last week
    try:
        assert anchor.verify(back) == []  # by itself it cannot know
        witnesses.write(back, NOW + 2 * HOUR)
        assert _kept(back).rolled_back
        assert "audit-rolled-back" in _codes(back, NOW + 2 * HOUR)
        assert len(the_cloud.keys(bucket, "anchors/")) == 2  # nothing is written over the proof
        _act(back, 50)  # nor does it heal when other rows have grown in their place
        witnesses.write(back, NOW + 3 * HOUR)
        assert _kept(back).rolled_back
        with back.catalog.reading() as conn:
            newest = audit.recent(conn, limit=1)[0]
        assert (newest["action"], newest["outcome"]) == ("audit:anchor", "failed")
    finally:
        back.close()


def test_a_restore_that_the_log_itself_tells_is_no_roll_back(tmp_path: Path, box: Box) -> None:
    witnesses.write(box, NOW)
    box.close()
    shutil.copytree(tmp_path / "box", tmp_path / "backup")
    later = open_box(Config(data=tmp_path / "box"))
    _act(later, 10)
    witnesses.write(later, NOW + HOUR)
    later.close()
    back = open_box(Config(data=tmp_path / "backup"))
    try:
        back.record([Entry("backup:restore", "box", "command line: root")], NOW + 2 * HOUR)
        witnesses.write(back, NOW + 3 * HOUR)
        assert not _kept(back).rolled_back
        witnesses.write(back, NOW + 4 * HOUR)
        assert not _kept(back).rolled_back
    finally:
        back.close()


def test_an_anchor_that_is_not_ours_is_a_finding(box: Box, the_cloud: Cloud, bucket: str) -> None:
    witnesses.write(box, NOW)
    the_cloud.client().put_object(
        Bucket=bucket, Key="anchors/29991231T000000.000000Z-000000000009.sealed", Body=b"x" * 200
    )
    witnesses.write(box, NOW + HOUR)
    assert _kept(box).rolled_back


def test_an_anchor_is_late_after_an_hour_but_not_while_there_is_no_line(
    tmp_path: Path, the_cloud: Cloud, bucket: str
) -> None:
    with line(the_cloud.port) as the_line:
        box = _open(tmp_path / "far", the_line.url, bucket)
        try:
            _act(box, 1)
            witnesses.write(box, NOW)
            assert "anchor-late" not in _codes(box, NOW + HOUR)
            assert "anchor-late" in _codes(box, NOW + HOUR + timedelta(seconds=1))
            the_line.down = True
            witnesses.write(box, NOW + 2 * HOUR)
            assert _kept(box).offline
            assert "anchor-late" not in _codes(box, NOW + 2 * HOUR)
            the_line.down = False
            witnesses.write(box, NOW + 3 * HOUR)
            assert _kept(box).at_utc == NOW + 3 * HOUR
            assert not {"anchor-late", "audit-rolled-back"} & _codes(box, NOW + 3 * HOUR)
        finally:
            box.close()


@pytest.fixture
def usb(tmp_path: Path) -> Path:
    (tmp_path / "usb").mkdir()
    return tmp_path / "usb"


def _with_a_disk(folder: Path, usb: Path) -> Box:
    box = open_box(Config(data=folder))
    disk = DestinationSettings("cloud", "vault", "ciphertext", {"path": str(usb)})
    with box.catalog.transaction() as tx:
        destinations.add(tx, prepare(disk))
    _act(box, 5)
    return box


def _anchors(usb: Path) -> list[str]:
    return sorted(each.name for each in (usb / "anchors").iterdir())


def test_a_disk_witnesses_as_a_bucket_does(tmp_path: Path, usb: Path) -> None:
    box = _with_a_disk(tmp_path / "box", usb)
    witnesses.write(box, NOW)
    box.close()
    shutil.copytree(tmp_path / "box", tmp_path / "last week")
    later = open_box(Config(data=tmp_path / "box"))
    _act(later, 10)
    witnesses.write(later, NOW + HOUR)
    later.close()
    back = open_box(Config(data=tmp_path / "last week"))
    try:
        witnesses.write(back, NOW + 2 * HOUR)
        assert "audit-rolled-back" in _codes(back, NOW + 2 * HOUR)
        assert len(_anchors(usb)) == 2
        (usb / ".clinicbox-vault").rename(usb / "away")
        witnesses.write(back, NOW + 3 * HOUR)
        assert _kept(back).offline and _kept(back).rolled_back, "a disk that is taken out ends no finding"
    finally:
        back.close()


def test_a_disk_keeps_the_newest_of_two_days(
    tmp_path: Path, usb: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(witnesses, "KEPT_HERE", 3)
    box = _with_a_disk(tmp_path / "box", usb)
    try:
        written = []
        for hour in range(6):
            witnesses.write(box, NOW + hour * HOUR)
            written.append(_kept(box).key.rpartition("/")[2])
        assert _anchors(usb) == written[-3:]
    finally:
        box.close()


def test_no_old_anchor_is_removed_while_the_ransomware_guard_holds(
    tmp_path: Path, usb: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(witnesses, "KEPT_HERE", 2)
    box = _with_a_disk(tmp_path / "box", usb)
    try:
        for hour in range(2):
            witnesses.write(box, NOW + hour * HOUR)
        before = _anchors(usb)
        with box.catalog.transaction() as tx:
            freezing.freeze(tx, Act("marie", NOW, box.audit_key), reason="a strange message on a screen")
        for hour in range(2, 5):
            witnesses.write(box, NOW + hour * HOUR)
        assert len(_anchors(usb)) == 5, "new ones are written: they only add"
        assert _anchors(usb)[:2] == before
        with box.catalog.transaction() as tx:
            freezing.release(tx, Act("marie", NOW, box.audit_key), reason="a false alarm")
        witnesses.write(box, NOW + 5 * HOUR)
        assert len(_anchors(usb)) == 2
    finally:
        box.close()


def test_a_clock_that_was_ahead_leaves_what_is_witnessed_afterwards(
    tmp_path: Path, usb: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By their moments those of the wrong year would stay the newest for years, and each later one go at once."""
    monkeypatch.setattr(witnesses, "KEPT_HERE", 3)
    box = _with_a_disk(tmp_path / "box", usb)
    try:
        for hour in range(4):
            witnesses.write(box, NOW + timedelta(days=3650) + hour * HOUR)
        box.close()
        shutil.copytree(tmp_path / "box", tmp_path / "back")
        box = open_box(Config(data=tmp_path / "box"))
        for hour in range(2):
            _act(box, 3)
            witnesses.write(box, NOW + hour * HOUR)
            assert _kept(box).key.rpartition("/")[2] in _anchors(usb)
        with box.catalog.reading() as conn:
            rows = audit.witness(conn).count - 1  # the anchor's own row
        shelf = witnesses.shelf_of(_place(box), box)
        assert isinstance(shelf, witnesses.Files)
        assert anchor.unsealed(box, (usb / shelf.most(None)).read_bytes())[1].count == rows
    finally:
        box.close()
    back = open_box(Config(data=tmp_path / "back"))
    try:
        witnesses.write(back, NOW + 3 * HOUR)
        assert "audit-rolled-back" in _codes(back, NOW + 3 * HOUR)
    finally:
        back.close()


def test_a_roll_back_after_a_restore_is_seen_though_more_rows_were_witnessed_before_it(
    tmp_path: Path, usb: Path
) -> None:
    """What was witnessed before a restore is history; what was since has fewer rows, and counts."""
    box = _with_a_disk(tmp_path / "before", usb)
    shutil.copytree(tmp_path / "before", tmp_path / "box")
    _act(box, 60)
    witnesses.write(box, NOW)
    box.close()
    restored = open_box(Config(data=tmp_path / "box"))
    with restored.catalog.transaction() as tx:
        audit.append(tx, restored.audit_key, [Entry("backup:restore", "cloud", "tests")], NOW + HOUR)
    restored.close()
    shutil.copytree(tmp_path / "box", tmp_path / "back")
    box = open_box(Config(data=tmp_path / "box"))
    for hour in (2, 3):
        _act(box, 5)
        witnesses.write(box, NOW + hour * HOUR)
        assert not _kept(box).trouble
    box.close()
    back = open_box(Config(data=tmp_path / "back"))
    try:
        witnesses.write(back, NOW + 4 * HOUR)
        assert "audit-rolled-back" in _codes(back, NOW + 4 * HOUR)
    finally:
        back.close()


def _place(box: Box) -> DestinationSettings:
    with box.catalog.reading() as conn:
        (place,) = destinations.destinations(conn)
    return place


@pytest.mark.parametrize("erased", [True, False])
def test_a_new_disk_under_the_old_name_begins_anew(tmp_path: Path, usb: Path, erased: bool) -> None:
    """Another one, or the same with nothing on it but its mark: what is not there is not waited for."""
    box = _with_a_disk(tmp_path / "box", usb)
    try:
        witnesses.write(box, NOW)
        shutil.rmtree(usb / "anchors")
        if not erased:
            (usb / ".clinicbox-vault").unlink()
            with box.catalog.transaction() as tx:
                fresh = prepare(DestinationSettings("cloud", "vault", "ciphertext", {"path": str(usb)}))
                destinations.change(tx, "cloud", fresh.options)
        witnesses.write(box, NOW + HOUR)
        assert _kept(box).at_utc == NOW + HOUR and not _kept(box).trouble
        assert len(_anchors(usb)) == 1
    finally:
        box.close()


def test_a_disk_that_was_never_there_shows_no_hour_on_the_page(tmp_path: Path, usb: Path) -> None:
    box = _with_a_disk(tmp_path / "box", usb)
    try:
        (usb / ".clinicbox-vault").rename(usb / "away")
        witnesses.write(box, NOW)
        with box.catalog.transaction() as tx:
            catalog_settings.put(tx, health.AUDIT_CHECK, {"at_utc": NOW.isoformat(), "rows": 5}, NOW)
        with box.catalog.reading() as conn:
            state = chain_state(
                conn, Words("en", {"audit.verified": "", "audit.not_anchored": "on this box only"})
            )
        assert (state.tone, state.anchors) == ("wait", ("on this box only",))
        assert not {"anchor-late", "audit-rolled-back"} & _codes(box, NOW + 9 * HOUR), (
            "reachability tells that"
        )
    finally:
        box.close()


def test_a_box_without_an_archive_has_nothing_to_anchor_to(tmp_path: Path) -> None:
    box = _open(tmp_path / "alone")
    try:
        witnesses.write(box, NOW)
        with box.catalog.reading() as conn:
            assert witnesses.kept(conn) == {}
        assert not {"anchor-late", "audit-rolled-back"} & _codes(box, NOW + 9 * HOUR)
    finally:
        box.close()
