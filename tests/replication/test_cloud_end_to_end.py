"""From an instance that arrives to a bucket from which a blank box can be rebuilt, over a line that breaks."""

from __future__ import annotations

import base64
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from appliance.box import Box
from appliance.catalog import destinations
from appliance.catalog.manifests import StudyRows
from appliance.errors import Corrupt
from appliance.model import KeyId, ObjectId, Uid
from appliance.replication import manifest
from appliance.replication.batch import Surroundings
from appliance.replication.delivery import CLOSED, State
from appliance.store.keys import open_with_recovery, show_recovery
from appliance.store.objects import ObjectStore
from appliance.store.study_keys import wrapping_context
from tests.boxes import box_in, recorded
from tests.instances import Instance
from tests.replication.cloud import Cloud, Fault, Line, settings
from tests.replication.depot import audited, delivering, owe_everything_to, rows, states
from tests.replication.parcels import take_in

Eventually = Callable[..., object]
TWENTY = [Instance(number, study=number % 3, pixel_bytes=50_000) for number in range(1, 21)]


@pytest.fixture
def box(data_dir: Path) -> Iterator[Box]:
    with box_in(data_dir) as box:
        yield box


def objects_match(box: Box, cloud: Cloud, bucket: str) -> None:
    """The bucket holds every object once, byte for byte as it lies on the disk."""
    keys = cloud.keys(bucket, "objects/")
    assert len(keys) == len(recorded(box))
    for row in recorded(box):
        key = f"objects/{row.object_id[:2]}/{row.object_id}.sealed"
        assert cloud.get(bucket, key) == box.objects.path(row.object_id).read_bytes()


def test_everything_arrives_with_manifests_and_the_recovery_slot(
    box: Box, the_cloud: Cloud, bucket: str, eventually: Eventually
) -> None:
    owe_everything_to(box, settings(the_cloud.url, bucket))
    with delivering(box):
        take_in(box, TWENTY)
        eventually(lambda: states(box) == {State.CONFIRMED: 20})
        eventually(lambda: _instances_in_manifests(box, the_cloud, bucket) == 20)
    objects_match(box, the_cloud, bucket)
    receipt = rows(box)[0].receipt
    assert receipt is not None
    assert receipt["sha256"]
    assert audited(box)["delivery:confirm"] == 20
    assert audited(box)["manifest:write"] >= 3
    assert the_cloud.get(bucket, "keys/root.recovery")


def _instances_in_manifests(box: Box, cloud: Cloud, bucket: str) -> int:
    keys = cloud.keys(bucket, "manifests/")
    return sum(len(manifest.unseal(box.root, key, cloud.get(bucket, key))["instances"]) for key in keys)


def test_names_and_contents_in_the_bucket_say_nothing_of_anyone(
    box: Box, the_cloud: Cloud, bucket: str, eventually: Eventually
) -> None:
    owe_everything_to(box, settings(the_cloud.url, bucket))
    take_in(box, TWENTY)
    with delivering(box):
        eventually(lambda: states(box) == {State.CONFIRMED: 20})
        eventually(lambda: _instances_in_manifests(box, the_cloud, bucket) == 20)
    keys = the_cloud.keys(bucket)
    markers = [b"MARK0001", "Marqueur".encode("latin-1"), b"2.25.1000"]
    for key in keys:
        assert re.fullmatch(
            r"objects/[0-9a-f]{2}/[0-9a-f]{32}\.sealed|manifests/[0-9a-f]{64}\.sealed"
            r"|keys/(root\.recovery|connection-test)",
            key,
        )
        content = the_cloud.get(bucket, key)
        assert not any(marker in content for marker in markers)


def test_a_blank_box_can_open_everything_with_the_recovery_key_alone(
    box: Box, the_cloud: Cloud, bucket: str, eventually: Eventually, tmp_path: Path
) -> None:
    owe_everything_to(box, settings(the_cloud.url, bucket))
    take_in(box, TWENTY)
    with delivering(box):
        eventually(lambda: states(box) == {State.CONFIRMED: 20})
        eventually(lambda: _instances_in_manifests(box, the_cloud, bucket) == 20)
    paper = show_recovery(box.config.data / "keys", box.root)

    root = open_with_recovery(the_cloud.get(bucket, "keys/root.recovery"), paper)
    blank = ObjectStore(tmp_path / "blank")
    opened = set()
    for key in the_cloud.keys(bucket, "manifests/"):
        document = manifest.unseal(root, key, the_cloud.get(bucket, key))
        (study,) = document["studies"]
        assert manifest.key(root, Uid(study["study_instance_uid"])) == key
        assert document["patients"][0]["name"] == "Marqueur^Éloïse"
        keys = {row["id"]: base64.b64decode(row["wrapped"]) for row in document["study_keys"]}
        for row in document["instances"]:
            object_id = ObjectId(row["object_id"])
            sealed = the_cloud.get(bucket, f"objects/{object_id[:2]}/{object_id}.sealed")
            blank.path(object_id).write_bytes(sealed)
            context = wrapping_context(KeyId(row["key_id"]), Uid(study["study_instance_uid"]))
            with blank.open(object_id, root.unwrap(keys[row["key_id"]], context)) as file:
                assert (file.read() or b"")[128:132] == b"DICM"
            opened.add(row["sop_instance_uid"])
    assert opened == {each.sop_instance_uid for each in TWENTY}


def test_a_manifest_that_was_altered_or_moved_does_not_open(box: Box) -> None:
    uid = Uid("1.2.3")
    sealed = manifest.seal(box.root, manifest.key(box.root, uid), StudyRows([], [], [], [], []))
    assert manifest.unseal(box.root, manifest.key(box.root, uid), sealed)["format"] == 1
    with pytest.raises(Corrupt):
        manifest.unseal(box.root, manifest.key(box.root, Uid("1.2.4")), sealed)
    with pytest.raises(Corrupt):
        manifest.unseal(box.root, manifest.key(box.root, uid), sealed[:-1] + bytes([sealed[-1] ^ 1]))


# --- The line breaks -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "outage", ["down", Fault.UNAVAILABLE, Fault.BROKEN, Fault.FORBIDDEN, Fault.CUT], ids=str
)
def test_an_outage_is_survived_with_one_request_per_object_at_most(
    box: Box, the_cloud: Cloud, the_line: Line, bucket: str, eventually: Eventually, outage: Fault | str
) -> None:
    def break_line() -> None:
        if isinstance(outage, Fault):
            the_line.fault = lambda request: outage if request.method == "PUT" else None
        else:
            the_line.down = True

    owe_everything_to(box, settings(the_line.url, bucket))
    around = Surroundings(poll_seconds=0.02, jitter=lambda: 0.999)
    with delivering(box, around=around):
        take_in(box, TWENTY[:5])
        eventually(lambda: states(box) == {State.CONFIRMED: 5})
        break_line()
        with the_line.lock:
            the_line.requests.clear()
        take_in(box, TWENTY[5:])
        eventually(lambda: _failures(box) >= 3)
        assert states(box)[State.CONFIRMED] == 5
        assert states(box)[State.FAILED] == 0
        assert max(the_line.per_object().values(), default=0) <= 1
        the_line.down, the_line.fault = False, lambda _: None
        eventually(lambda: states(box) == {State.CONFIRMED: 20}, within_seconds=60)
    objects_match(box, the_cloud, bucket)
    assert _breaker(box) == CLOSED
    assert audited(box)["delivery:confirm"] == 20


def _failures(box: Box) -> int:
    with box.catalog.reading() as conn:
        return destinations.health(conn)[0].breaker.failures


def _breaker(box: Box) -> object:
    with box.catalog.reading() as conn:
        return destinations.health(conn)[0].breaker


def test_a_bad_line_loses_and_doubles_nothing(
    box: Box, the_cloud: Cloud, the_line: Line, eventually: Eventually
) -> None:
    """Every 13th request is lost in one of the ways that a request can be lost."""
    bucket = the_cloud.new_bucket(versioned=True)
    kinds = [Fault.HANG_UP, Fault.CUT, Fault.LOSE_ANSWER, Fault.UNAVAILABLE]

    def fault(_: object) -> Fault | None:
        number = len(the_line.requests)
        return kinds[number // 13 % 4] if number % 13 == 0 else None

    the_line.fault = fault
    owe_everything_to(box, settings(the_line.url, bucket))
    take_in(box, TWENTY)
    with delivering(box, around=Surroundings(poll_seconds=0.02, jitter=lambda: 0.999)):
        eventually(lambda: states(box) == {State.CONFIRMED: 20}, within_seconds=90)
    objects_match(box, the_cloud, bucket)
    for row in rows(box):
        assert row.receipt is not None
        assert row.receipt["version_id"]


def test_a_document_that_cannot_be_written_is_written_later(
    box: Box, the_cloud: Cloud, the_line: Line, bucket: str, eventually: Eventually
) -> None:
    the_line.fault = lambda request: Fault.UNAVAILABLE if "/manifests/" in request.path else None
    owe_everything_to(box, settings(the_line.url, bucket))
    take_in(box, TWENTY[:3])
    with delivering(box, around=Surroundings(poll_seconds=0.02, jitter=lambda: 0.999)):
        eventually(lambda: states(box) == {State.CONFIRMED: 3}, within_seconds=60)
        eventually(lambda: the_line.count("PUT", "/manifests/") >= 1)
        assert the_cloud.keys(bucket, "manifests/") == []
        the_line.fault = lambda _: None
        eventually(lambda: _instances_in_manifests(box, the_cloud, bucket) == 3, within_seconds=60)
