"""Another DICOM system: a PACS, a specialist's workstation.

Each object is proposed in the syntax it is stored in, in a context of its own, and re-encoded only if the receiver
refuses that (dicom-interop rule 2). A second send of the same instance is what PS3.4 lets every receiver expect, so
sending again after a crash costs nothing but the time.

What a C-STORE status means here (PS3.4 table B.2-1, PS3.7 C):

=====================  ==========================================================
0000                   delivered
B000-BFFF, 0001, 0107  delivered, and the receipt carries the warning
A700-A7FF, 0110, 0212  the receiver has no room or is troubled: later
anything else          it will not have this object: failed, a person decides
=====================  ==========================================================
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import BinaryIO

from appliance.dicom.association_request import FALLBACKS, Peer, Proposal, plan_associations
from appliance.dicom.part10 import read_part10
from appliance.dicom.scu import Association, Timeouts, associate, echo
from appliance.dicom.transcode import transcode
from appliance.errors import OutOfResources, Refused, Transient
from appliance.model import AETitle, DestinationSettings, Takes, Uid, ae_title
from appliance.replication.destinations import options
from appliance.replication.destinations.parcel import Parcel, Receipt, Session


@dataclass(frozen=True, slots=True)
class DicomDestination:
    """The application entity `peer`."""

    peer: Peer
    timeouts: Timeouts = field(default_factory=Timeouts)
    takes: Takes = "dicom"

    @classmethod
    def from_settings(cls, settings: DestinationSettings, *, calling: AETitle) -> DicomDestination:
        """Raises `OperatorNeeded` or `Refused` unless the options `ae_title`, `address` and `port` are right."""
        return cls(
            Peer(
                address=options.text(settings, "address"),
                port=options.number(settings, "port", least=1, most=65535),
                called=ae_title(options.text(settings, "ae_title")),
                calling=calling,
            )
        )

    def check(self) -> str:
        """C-ECHO."""
        seconds = echo(
            self.peer.address, self.peer.port, self.peer.called, self.peer.calling, timeouts=self.timeouts
        )
        return f"{self.peer} answered in {seconds * 1000:.0f} ms."

    @contextmanager
    def open(self, parcels: Sequence[Parcel]) -> Iterator[Session]:
        """A session whose associations are opened when their first object is sent."""
        wanted = dict.fromkeys((each.sop_class_uid, each.transfer_syntax_uid) for each in parcels)
        session = DicomSession(self.peer, self.timeouts, plan_associations(wanted))
        try:
            yield session
        finally:
            session.close()


class DicomSession:
    """Associations that between them have a context for every parcel. One thread's."""

    def __init__(self, peer: Peer, timeouts: Timeouts, plan: Sequence[tuple[Proposal, ...]]) -> None:
        self._peer = peer
        self._timeouts = timeouts
        self._plan = plan
        self._associations: dict[int, Association] = {}

    def send(self, parcel: Parcel) -> Receipt:
        """C-STORE, re-encoded if need be. After an error on the wire the next send opens a new association."""
        number = next(
            index
            for index, proposals in enumerate(self._plan)
            if Proposal(parcel.sop_class_uid, parcel.transfer_syntax_uid) in proposals
        )
        association = self._associations.get(number)
        if association is None:
            association = associate(self._peer, self._plan[number], timeouts=self._timeouts)
            self._associations[number] = association
        syntax = self._syntax(association, parcel)
        try:
            with parcel.open() as file:
                response = association.store(
                    sop_class_uid=parcel.sop_class_uid,
                    sop_instance_uid=parcel.sop_instance_uid,
                    transfer_syntax_uid=syntax,
                    data_set=_data_set(file, parcel.transfer_syntax_uid, syntax),
                )
        except Refused:
            raise  # before anything was sent
        except BaseException:
            # A partial message cannot be taken back, so the association is of no more use (PS3.8).
            self._associations.pop(number).abort()
            raise
        return self._receipt(response.status, parcel, syntax)

    def close(self) -> None:
        """Release what is still open."""
        while self._associations:
            self._associations.popitem()[1].release()

    def _syntax(self, association: Association, parcel: Parcel) -> Uid:
        for syntax in (parcel.transfer_syntax_uid, *FALLBACKS):
            if association.accepts(parcel.sop_class_uid, syntax):
                return syntax
        raise Refused(
            f"{self._peer} does not accept this kind of object",
            hint="allow it in the receiver's DICOM settings",
        )

    def _receipt(self, status: int, parcel: Parcel, syntax: Uid) -> Receipt:
        if status in {0x0110, 0x0212}:
            raise Transient(f"{self._peer} could not process the object (status {status:04X})")
        if 0xA700 <= status <= 0xA7FF:
            raise OutOfResources(f"{self._peer} has no room (status {status:04X})")
        warning = 0xB000 <= status <= 0xBFFF or status in {0x0001, 0x0107}
        if status and not warning:
            raise Refused(
                f"{self._peer} refuses the object (status {status:04X})",
                hint="look at the receiver's DICOM log",
            )
        return {
            "at_utc": datetime.now(UTC).isoformat(timespec="seconds"),
            "status": f"{status:04X}",
            "peer": str(self._peer),
            "transfer_syntax_uid": syntax,
            "re_encoded": syntax != parcel.transfer_syntax_uid,
            "warning": warning,
        }


def _data_set(file: BinaryIO, stored: Uid, syntax: Uid) -> BinaryIO:
    """The data set of a Part 10 file at its first byte, in `syntax`."""
    if syntax != stored:
        return io.BytesIO(transcode(file, syntax))
    file.seek(read_part10(file).dataset_offset)
    return file
