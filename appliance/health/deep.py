"""The deep examination: what a clinic's image needs is tried, and nothing of it stays but one setting.

=========  ===========================================================================================================
step       is sound when
=========  ===========================================================================================================
store      an object of our own could be sealed, written, synced, read back and decrypted
catalog    it could be written to and asked
reception  two images of our own (`appliance.ingest.rehearsal`) were taken by C-STORE at the port that machines send to,
           as far as the catalog, and could be read back and decrypted here
pictures   such an image could be drawn, as the console draws it (in a process of its own, which walls of a unit may end)
=========  ===========================================================================================================

One of the images is small and goes through the intake log, the other is larger than a segment and is a file from the start:
those are the two ways in. Reception's own settings hold for them, and no device has to be known to the box. A version whose
reception refuses every image is found by this, and is not called good (``boot-check`` of the image).

A disk that is full up to its reserve is no fault of the version: what is examined may take of the reserve.

Bounded: 1.4 MB, four transactions, `_PATIENCE` and `RECORDED_SECONDS`; one examination at a time. Asked again within
`AGAIN_SECONDS`, or while another is under way for longer than `WAIT_SECONDS`, it gives the answer that it gave, or says that it is
being examined: nobody can make the disk work by asking, nor keep the console's threads waiting.
"""

from __future__ import annotations

import io
import secrets
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import BinaryIO

from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.filewriter import dcmwrite
from pydicom.uid import UID

from appliance.box import Box
from appliance.catalog import settings, totals
from appliance.dicom.association_request import EXPLICIT_VR_LITTLE_ENDIAN, Peer, Proposal
from appliance.dicom.part10 import read_part10
from appliance.dicom.scu import Timeouts, associate
from appliance.errors import ApplianceError, Corrupt, Refused, Transient
from appliance.ingest import rehearsal
from appliance.ingest.rehearsal import Rehearsal
from appliance.model import Uid
from appliance.store import envelope
from appliance.store.objects import new_object_id

AGAIN_SECONDS = 10.0
WAIT_SECONDS = 5.0
RECORDED_SECONDS = 20.0
OBJECT_BYTES = 64 * 1024
EXAMINED = "health.deep"
WHO = "examination"

_PATIENCE = Timeouts(connect_seconds=5, acse_seconds=10, network_seconds=10, response_seconds=15)
_LOOK_SECONDS = 0.05
_SOP_CLASS = Uid("1.2.840.10008.5.1.4.1.1.1.1")  # Digital X-Ray, for presentation
_ROWS = (128, 640)
_COLUMNS = 1024


@dataclass(frozen=True, slots=True)
class Step:
    """One step: `cause` is why it failed, empty if it didn't."""

    name: str
    seconds: float
    cause: str = ""


@dataclass(frozen=True, slots=True)
class Examination:
    """What came of it."""

    at_utc: datetime
    steps: tuple[Step, ...]

    @property
    def is_sound(self) -> bool:
        return not any(step.cause for step in self.steps)


class Examiner:
    """Examines one box, at most so often. Safe to share between threads: they wait for one another, but not for long.

    `draw` makes a picture of a file of so many bytes, and raises why there is none.
    """

    def __init__(
        self,
        box: Box,
        draw: Callable[[BinaryIO, int], object] = lambda _file, _size: None,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._box = box
        self._draw = draw
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._last: tuple[float, Examination] | None = None

    def examine(self, now: datetime) -> Examination:
        """The examination of now, or that of a moment ago."""
        if not self._lock.acquire(timeout=WAIT_SECONDS):
            return self._meanwhile(now)
        try:
            moment = self._monotonic()
            if self._last is not None and moment - self._last[0] < AGAIN_SECONDS:
                return self._last[1]
            steps = (
                self._step("store", self._object),
                self._step("catalog", lambda: self._catalog(now)),
                self._step("reception", self._reception),
                self._step("pictures", self._picture),
            )
            made = Examination(now, steps)
            self._last = (self._monotonic(), made)
            return made
        finally:
            self._lock.release()

    def _meanwhile(self, now: datetime) -> Examination:
        """The answer for who has waited long enough for somebody else's examination."""
        if self._last is not None:
            return self._last[1]
        return Examination(
            now, (Step("reception", WAIT_SECONDS, "the first examination is still under way"),)
        )

    def _step(self, name: str, act: Callable[[], None]) -> Step:
        began = self._monotonic()
        cause = ""
        try:
            act()
        except ApplianceError as error:
            cause = error.message
        except OSError as error:
            cause = error.strerror or type(error).__name__
        return Step(name, self._monotonic() - began, cause)

    def _object(self) -> None:
        """Seal, write, sync, read, decrypt, compare; then leave nothing behind."""
        self._box.guard.admit(OBJECT_BYTES, own=True)
        object_id, key, wrote = new_object_id(), secrets.token_bytes(32), secrets.token_bytes(OBJECT_BYTES)
        sealer = envelope.Sealer(key, object_id.encode("ascii"))
        sealed = bytearray(envelope.sealed_size(len(wrote)))
        sealed[: envelope.HEADER_BYTES] = sealer.header
        sealer.seal_into(wrote, memoryview(sealed)[envelope.HEADER_BYTES :], last=True)
        writer = self._box.objects.create(object_id, WHO, past_cache=False)
        try:
            writer.write([sealed])
            writer.secure(b"")
            with writer.open_part(key) as reader:
                if reader.read() != wrote:
                    raise Corrupt("what was read back is not what was written")
        finally:
            writer.abandon()

    def _catalog(self, now: datetime) -> None:
        """Write, and ask what the figures are made of."""
        with self._box.catalog.transaction() as tx:
            settings.put(tx, EXAMINED, {"at_utc": now.isoformat()}, now)
        with self._box.catalog.reading() as conn:
            totals.totals(conn)
            if settings.get(conn, EXAMINED) != {"at_utc": now.isoformat()}:
                raise Corrupt("what the catalog holds is not what was written")

    def _reception(self) -> None:
        """Two images of our own are received, recorded, read back and decrypted; then nothing is left of them."""
        rehearsal.clear(self._box)
        play = rehearsal.new_rehearsal(self._box)
        wanted = {sop: _data_set(play, sop, rows) for sop, rows in zip(_new_uids(), _ROWS, strict=True)}
        try:
            self._send(play, wanted)
            self._read_back(play, wanted)
        finally:
            rehearsal.clear(self._box)

    def _picture(self) -> None:
        """One of no patient is drawn."""
        (number, *_), (rows, *_) = _new_uids(), _ROWS
        file = _part10(_image(Uid(f"{number}.1"), number, rows))
        self._draw(io.BytesIO(file), len(file))

    def _send(self, play: Rehearsal, wanted: Mapping[Uid, bytes]) -> None:
        """C-STORE to our own port, as any machine would."""
        config = self._box.config
        peer = Peer(config.dicom.own_address, config.dicom.port, config.ae_title, play.calling)
        proposal = Proposal(_SOP_CLASS, EXPLICIT_VR_LITTLE_ENDIAN)
        with associate(peer, [proposal], timeouts=_PATIENCE) as association:
            for sop, data_set in wanted.items():
                answer = association.store(
                    sop_class_uid=_SOP_CLASS,
                    sop_instance_uid=sop,
                    transfer_syntax_uid=EXPLICIT_VR_LITTLE_ENDIAN,
                    data_set=io.BytesIO(data_set),
                )
                if answer.status:
                    raise Refused(f"reception refused an image of its own with status {answer.status:04X}")

    def _read_back(self, play: Rehearsal, wanted: Mapping[Uid, bytes]) -> None:
        """What was acknowledged has come as far as the catalog, and opens."""
        box = self._box
        deadline = self._monotonic() + RECORDED_SECONDS
        while True:
            with box.catalog.reading() as conn:
                found = rehearsal.noted(conn, play.study_instance_uid)
            if trouble := next((each.cause for each in found if each.cause), ""):
                raise Corrupt(f"what was received could not be recorded: {trouble}")
            if {each.sop_instance_uid for each in found} == set(wanted):
                break
            if self._monotonic() > deadline:
                raise Transient("what was received was not recorded in time")
            time.sleep(_LOOK_SECONDS)
        for each in found:
            key = box.study_keys.opened(each.key_id, play.study_instance_uid, each.wrapped_key)
            with box.objects.open(each.object_id, key) as reader:
                file = reader.readall()
            if file[read_part10(io.BytesIO(file)).dataset_offset :] != wanted[each.sop_instance_uid]:
                raise Corrupt("what was received is not what was sent")


def _new_uids() -> list[Uid]:
    return [Uid(f"2.25.{secrets.randbits(120)}") for _ in _ROWS]


def _image(study_instance_uid: Uid, sop_instance_uid: Uid, rows: int) -> Dataset:
    """An X-ray of nobody, whose pixels are drawn by lot: nothing but itself is equal to it."""
    ds = Dataset()
    ds.SOPClassUID, ds.SOPInstanceUID = _SOP_CLASS, sop_instance_uid
    ds.Modality, ds.PresentationIntentType = "DX", "FOR PRESENTATION"
    ds.PatientName, ds.PatientID = "TEST^REHEARSAL", "CLINICBOX-REHEARSAL"
    ds.StudyInstanceUID = ds.SeriesInstanceUID = study_instance_uid
    ds.SamplesPerPixel, ds.PhotometricInterpretation = 1, "MONOCHROME2"
    ds.Rows, ds.Columns = rows, _COLUMNS
    ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 16, 16, 15, 0
    ds.PixelData = secrets.token_bytes(rows * _COLUMNS * 2)
    return ds


def _data_set(play: Rehearsal, sop_instance_uid: Uid, rows: int) -> bytes:
    """As it is sent."""
    out = io.BytesIO()
    image = _image(play.study_instance_uid, sop_instance_uid, rows)
    dcmwrite(out, image, implicit_vr=False, little_endian=True, enforce_file_format=False)
    return out.getvalue()


def _part10(image: Dataset) -> bytes:
    """As it is kept (PS3.10)."""
    image.file_meta = FileMetaDataset()
    image.file_meta.TransferSyntaxUID = UID(EXPLICIT_VR_LITTLE_ENDIAN)
    out = io.BytesIO()
    dcmwrite(out, image, enforce_file_format=True)
    return out.getvalue()
