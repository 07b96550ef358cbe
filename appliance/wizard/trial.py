"""The test study: sent by DICOM to this box's own port, kept, seen, replicated, and brought back from the replica.

It goes the whole way that a patient's image goes, and no other: the sender is `appliance.dicom.scu`, the door is open
to it for as long as it sends, the rules decide what it is owed, the courier delivers. What comes back is opened with
the study key out of the *bucket's* manifest, so what is proven is that a blank box with the recovery key could read
it, and is compared with the image drawn once more, byte for byte.

=========  ============================================================================================
part       is done when
=========  ============================================================================================
send       C-STORE was answered with success
receive    the instance is in the catalog, under its own identity
see        the viewer's own darkroom has made a picture of it that is not empty
replicate  every delivery that the rules owe for it is confirmed, with its receipt
restore    from each archive that has it: recovery slot, manifest and object fetched, opened, equal
=========  ============================================================================================
"""

from __future__ import annotations

import base64
import io
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any, Final, TypeVar

import numpy as np
from PIL import Image

from appliance import audit, health, local_time
from appliance.box import Box
from appliance.catalog import (
    Reading,
    Transaction,
    deliveries,
    destinations,
    devices,
    instances,
    settings,
    studies,
)
from appliance.catalog.delivery_lists import DeliveryRow
from appliance.catalog.instances import InstanceRow
from appliance.dicom.association_request import Peer, Proposal
from appliance.dicom.part10 import read_part10
from appliance.dicom.scu import associate
from appliance.errors import Corrupt, OperatorNeeded, Refused, Transient, Unknown
from appliance.model import AETitle, DestinationSettings, Device, KeyId, ObjectId
from appliance.replication import manifest
from appliance.replication.delivery import State
from appliance.replication.destinations import build
from appliance.replication.destinations.archive import RECOVERY_SLOT, Archive, object_key
from appliance.store import keys
from appliance.store.objects import SealedReader
from appliance.store.study_keys import wrapping_context
from appliance.wizard import runs, sample
from appliance.wizard.runs import Act, Detail, LeftOut, Run, Tell
from appliance.wizard.sample import Sample

RUN: Final = "trial"
PARTS: Final = ("send", "receive", "see", "replicate", "restore")
CALLING: Final = AETitle("SETUPWIZARD")
"""As whom the test study is sent: admitted from this machine alone, while it is being sent."""

RECEIVE_SECONDS: Final = 60.0
DELIVER_SECONDS: Final = 240.0
TROUBLE_SECONDS: Final = 10.0
"""So long may a place be in trouble before that is the answer: one that has just come back breaks its first connection."""

_LOOK_SECONDS: Final = 0.2
_SETTING: Final = "setup-sample"
_SEEN: Final = "setup-sample-seen"

T = TypeVar("T")

Picture = Callable[[InstanceRow], bytes]
"""Makes the viewer's picture of an instance, as a file. Raises our errors."""


@dataclass(frozen=True, slots=True)
class Seen:
    """Somebody has looked at the picture of the test image."""

    who: str
    at_utc: datetime


# --- which test study ------------------------------------------------------------------------------------------------


def kept(reading: Reading) -> Sample | None:
    """The test study that was made last."""
    found = settings.get(reading, _SETTING)
    return None if found is None else Sample(**found)


def prepare(tx: Transaction, now: datetime, *, fresh: bool) -> Sample:
    """The test study to go on with; another one if there is none yet, or if a `fresh` one is wanted."""
    found = kept(tx)
    if found is None or fresh:
        here = local_time.here(now)
        found = sample.new_sample(here.strftime("%Y%m%d"), here.strftime("%H%M%S"))
        settings.put(tx, _SETTING, asdict(found), now)
        settings.remove(tx, _SEEN)
    return found


def saw(tx: Transaction, who: str, now: datetime) -> None:
    """Somebody says to have seen the test image."""
    settings.put(tx, _SEEN, {"who": who, "at": now.isoformat()}, now)


def was_seen(reading: Reading) -> Seen | None:
    """Who has seen the test image, and when."""
    found = settings.get(reading, _SEEN)
    return None if found is None else Seen(found["who"], datetime.fromisoformat(found["at"]))


def instance_of(reading: Reading, made: Sample) -> InstanceRow | None:
    """The recorded instance of a test study."""
    rows = instances.instances_of_study(reading, made.study_instance_uid)
    return next((row for row in rows if row.sop_instance_uid == made.sop_instance_uid), None)


def is_hidden(reading: Reading, row: InstanceRow) -> bool:
    """Whether the test study is left out of the lists."""
    return row.study_id in studies.hidden(reading)


def set_hidden(tx: Transaction, *, hidden: bool, now: datetime) -> Sample:
    """Take the test study out of the lists, or put it back; its objects and its proof stay. Raises `Refused`."""
    made = kept(tx)
    row = None if made is None else instance_of(tx, made)
    if made is None or row is None:
        raise Refused("there is no test image to see yet", hint="start the test first")
    studies.set_hidden(tx, row.study_id, hidden=hidden, now=now)
    return made


def picture_by(box: Box, render: Callable[[SealedReader, int], bytes]) -> Picture:
    """Pictures by `render`, which is given an open object and its size."""

    def picture(row: InstanceRow) -> bytes:
        with box.open_object(row.object_id, row.key_id) as reader:
            return render(reader, row.size_bytes)

    return picture


# --- the test --------------------------------------------------------------------------------------------------------


def run(box: Box, made: Sample, picture: Picture, actor: str) -> Run:
    """Do what is left of the test for `made`. Raises `Transient` if it is under way already."""
    return begin(box, made, picture, actor)()


def begin(box: Box, made: Sample, picture: Picture, actor: str) -> Callable[[], Run]:
    """Put the test for `made` on record as running; what is returned does it. Raises `Transient` as `run` does."""
    trial = _Trial(box, made, picture, actor)
    acts: Mapping[str, Act] = {name: getattr(trial, name) for name in PARTS}
    begun = runs.begin(box, RUN, made.study_instance_uid, acts)

    def finish() -> Run:
        done = begun.finish()
        failed = done.failed
        entry = audit.Entry(
            "setup:test",
            "test study",
            actor,
            {"failed": failed.name} if failed is not None else {},
            study=made.study_instance_uid,
            outcome=audit.Outcome.DONE if failed is None else audit.Outcome.FAILED,
        )
        with box.catalog.transaction() as tx:
            audit.append(tx, box.audit_key, [entry], datetime.now(UTC))
        return done

    return finish


@dataclass(frozen=True)
class _Trial:
    """The parts, as the table above has them."""

    box: Box
    made: Sample
    picture: Picture
    actor: str

    def send(self, tell: Tell) -> Detail:
        """C-STORE to our own port, as any machine would."""
        config = self.box.config
        address = config.dicom.own_address
        data_set = self.made.data_set()
        tell({"to": f"{config.ae_title} {address}:{config.dicom.port}", "bytes": len(data_set)})
        peer = Peer(address, config.dicom.port, config.ae_title, CALLING)
        began = time.monotonic()
        self._admit(address)
        try:
            with associate(peer, [Proposal(sample.SOP_CLASS, sample.TRANSFER_SYNTAX)]) as association:
                answer = association.store(
                    sop_class_uid=sample.SOP_CLASS,
                    sop_instance_uid=self.made.sop_instance_uid,
                    transfer_syntax_uid=sample.TRANSFER_SYNTAX,
                    data_set=io.BytesIO(data_set),
                )
        finally:
            self._turn_away(address)
        if answer.status:
            raise Refused(
                f"this box refused the test image with status {answer.status:04X}",
                hint="look at the problems on the first page, mend them, and try again",
            )
        return {"ms": max(1, round((time.monotonic() - began) * 1000))}

    def receive(self, tell: Tell) -> Detail:
        """Recorded, under its own identity."""
        row = _await(self._recorded, RECEIVE_SECONDS, "the test image was acknowledged but not recorded")
        tell({"instance": row.id, "study": row.study_id})
        return {"sealed_bytes": row.sealed_bytes}

    def see(self, tell: Tell) -> Detail:
        """A picture that is not empty."""
        row = self._recorded()
        if row is None:
            raise Corrupt("the test image is not in the catalog any more", hint="start over")
        tell({"instance": row.id, "study": row.study_id})
        grey = np.asarray(Image.open(io.BytesIO(self.picture(row))).convert("L"))
        if grey.std() < 10:
            raise Corrupt("the picture of the test image is empty", hint="call support")
        return {"columns": grey.shape[1], "rows": grey.shape[0]}

    def replicate(self, tell: Tell) -> Detail:
        """Every delivery of it confirmed."""
        with self.box.catalog.reading() as conn:
            places = destinations.destinations(conn)
            owed = deliveries.list_deliveries(conn, study=self.made.study_instance_uid)
        if not places:
            raise LeftOut("no_destination")
        if not owed:
            raise OperatorNeeded(
                "no rule sent the test image anywhere",
                hint="let everything go to the cloud copy, then start over with a new test image",
            )

        self._wake(owed)
        well = time.monotonic()

        def confirmed() -> int | None:
            nonlocal well
            with self.box.catalog.reading() as conn:
                rows = deliveries.list_deliveries(conn, study=self.made.study_instance_uid)
                troubles = [each.breaker.reason for each in destinations.health(conn) if each.breaker.reason]
                paused = [each.name for each in destinations.health(conn) if each.paused]
            for row in rows:
                if row.state is State.FAILED:
                    raise Refused(f"{row.destination} refused the test image: {row.reason}", hint="mend that")
                if row.state is State.CANCELLED:
                    raise OperatorNeeded(
                        "the delivery was cancelled", hint="start over with a new test image"
                    )
            done = sum(row.state is State.CONFIRMED for row in rows)
            tell({"done": done, "all": len(rows), "to": ", ".join(sorted({row.destination for row in rows}))})
            if done == len(rows):
                return done
            if not troubles:
                well = time.monotonic()
            elif time.monotonic() - well > TROUBLE_SECONDS:
                raise Transient(troubles[0], hint="nothing is lost: mend that, then try again")
            if waiting := [row.destination for row in rows if row.destination in paused]:
                raise OperatorNeeded(f"{waiting[0]} is paused", hint="resume it, then try again")
            return None

        count = _await(confirmed, DELIVER_SECONDS, "the copies were not confirmed")
        return {"done": count, "all": count}

    def restore(self, tell: Tell) -> Detail:
        """Back from every archive, opened with what is there, equal to what was drawn."""
        with self.box.catalog.reading() as conn:
            known = {each.name: each for each in destinations.destinations(conn)}
            rows = deliveries.list_deliveries(conn, study=self.made.study_instance_uid)
        names = sorted({row.destination for row in rows if row.state is State.CONFIRMED})
        archives = [known[name] for name in names if name in known and known[name].takes == "ciphertext"]
        if not archives:
            raise LeftOut("no_bucket")
        for number, place in enumerate(archives, start=1):
            tell({"from": place.name, "done": number - 1, "all": len(archives)})
            self._bring_back(place)
        return {"done": len(archives), "bytes": len(self.made.data_set())}

    # --- the work behind them ----------------------------------------------------------------------------------------

    def _wake(self, owed: list[DeliveryRow]) -> None:
        """Let the courier try these at once: somebody who presses *Try again* does not mean "in ten minutes"."""
        moment = datetime.now(UTC)
        resting = [row for row in owed if row.state in (State.WAITING, State.FAILED)]
        with self.box.catalog.transaction() as tx:
            for each in destinations.health(tx):
                if (
                    each.breaker.reason
                    and not each.paused
                    and each.name in {row.destination for row in resting}
                ):
                    destinations.resume(tx, each.name)
            for row in resting:
                deliveries.retry(tx, row.id, moment)
                study = self.made.study_instance_uid
                entry = audit.Entry("delivery:retry", str(row.id), self.actor, study=study)
                audit.append(tx, self.box.audit_key, [entry], moment)

    def _bring_back(self, place: DestinationSettings) -> None:
        archive = build(place, self.box)
        if not isinstance(archive, Archive):
            raise LeftOut("no_bucket")
        slot = keys.recovery_slot(health.keys_folder(self.box))

        def slot_is_there() -> bool | None:
            return _fetched(archive, RECOVERY_SLOT) == slot or None

        _await(slot_is_there, DELIVER_SECONDS, "the copy does not hold this box's recovery slot")
        name = manifest.key(self.box.root, self.made.study_instance_uid)

        def named() -> tuple[dict[str, Any], dict[str, Any]] | None:
            sealed = _fetched(archive, name)
            return None if sealed is None else self._rows_in(manifest.unseal(self.box.root, name, sealed))

        of_image, of_key = _await(named, DELIVER_SECONDS, "the study's manifest is not in the copy")
        key_id, object_id = KeyId(of_key["id"]), ObjectId(of_image["object_id"])
        wrapped = base64.b64decode(of_key["wrapped"])
        key = self.box.root.unwrap(wrapped, wrapping_context(key_id, self.made.study_instance_uid))
        came_back = _opened(archive.document(object_key(object_id)), object_id, key)
        offset = read_part10(io.BytesIO(came_back)).dataset_offset
        if came_back[offset:] != self.made.data_set():
            raise Corrupt("what came back from the copy is not what was sent", hint="call support")

    def _rows_in(self, document: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]] | None:
        """The rows of our instance and of its key in a manifest, once it holds them."""
        ours = [
            each for each in document["instances"] if each["sop_instance_uid"] == self.made.sop_instance_uid
        ]
        if not ours:
            return None
        of_key = next(each for each in document["study_keys"] if each["id"] == ours[0]["key_id"])
        return ours[0], of_key

    def _recorded(self) -> InstanceRow | None:
        with self.box.catalog.reading() as conn:
            return instance_of(conn, self.made)

    def _admit(self, address: str) -> None:
        with self.box.catalog.transaction() as tx:
            moment = datetime.now(UTC)
            devices.add_device(tx, Device(CALLING, address, "Test study"), moment)
            self._record(tx, "device:add", address, moment)

    def _turn_away(self, address: str) -> None:
        with self.box.catalog.transaction() as tx:
            moment = datetime.now(UTC)
            devices.remove_device(tx, CALLING, address)
            self._record(tx, "device:remove", address, moment)

    def _record(self, tx: Transaction, action: str, address: str, moment: datetime) -> None:
        entry = audit.Entry(action, f"{CALLING}@{address}", self.actor, {"name": "Test study"})
        audit.append(tx, self.box.audit_key, [entry], moment)


def _await(look: Callable[[], T | None], seconds: float, otherwise: str) -> T:
    """What `look` finds, as soon as it finds something. Raises `Transient` saying `otherwise` when time is up."""
    deadline = time.monotonic() + seconds
    while (found := look()) is None:
        if time.monotonic() > deadline:
            raise Transient(
                f"{otherwise} within {seconds:.0f} s", hint="try again; nothing is lost meanwhile"
            )
        time.sleep(_LOOK_SECONDS)
    return found


def _fetched(archive: Archive, name: str) -> bytes | None:
    try:
        return archive.document(name)
    except Unknown:
        return None


def _opened(sealed: bytes, object_id: ObjectId, key: bytes) -> bytes:
    """A ciphertext in memory, opened with the reader that opens those on the disk."""
    descriptor = os.memfd_create("replica", os.MFD_CLOEXEC)
    try:
        view = memoryview(sealed)
        while view:
            view = view[os.write(descriptor, view) :]
    except BaseException:
        os.close(descriptor)
        raise
    with SealedReader(descriptor, object_id, key) as reader:
        return reader.readall()
