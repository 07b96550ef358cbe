"""What a courier hands to a destination, and what it gets back.

Chose sessions over single sends because an association or a connection is worth keeping for a whole batch. Every
``send`` is idempotent: the same parcel sent twice, by us or by a courier that died, ends as one object there, and the
second receipt is as good as the first.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Literal, Protocol, TypeAlias, cast

from appliance.config import Config
from appliance.errors import Transient
from appliance.model import KeyId, ObjectId, Takes, Uid

if TYPE_CHECKING:
    from appliance.box import Box

Receipt: TypeAlias = Mapping[str, str | int | bool]
"""The evidence that an object is there, as JSON. Always `at_utc` and `sha256` or `status`; the rest is the kind's own."""


@dataclass(frozen=True, slots=True)
class Parcel:
    """One instance to be delivered, sealed on this disk or opened as a Part 10 file.

    `tried_before` says that an earlier attempt may have got through. `open` returns the plaintext as a seekable
    read-only file and raises `Corrupt` when the ciphertext is not what was written. A send that lasts asks `keep_going`
    now and then, and raises `Transient` once the courier wants to stop. Where it `replaces` nothing, what is there already under
    its name stays, and `WouldReplace` is raised unless that is the same.
    """

    study_instance_uid: Uid
    series_instance_uid: Uid
    sop_instance_uid: Uid
    sop_class_uid: Uid
    transfer_syntax_uid: Uid
    object_id: ObjectId
    size_bytes: int
    sealed_bytes: int
    sealed_path: Path
    open: Callable[[], BinaryIO]
    tried_before: bool = False
    replaces: Literal["anything", "nothing"] = "anything"
    keep_going: Callable[[], bool] = field(default=lambda: True)


class Recorded(Protocol):
    """An instance as the catalog knows it, by whichever of its rows."""

    @property
    def study_instance_uid(self) -> Uid: ...
    @property
    def series_instance_uid(self) -> Uid: ...
    @property
    def sop_instance_uid(self) -> Uid: ...
    @property
    def sop_class_uid(self) -> Uid: ...
    @property
    def transfer_syntax_uid(self) -> Uid: ...
    @property
    def object_id(self) -> ObjectId: ...
    @property
    def key_id(self) -> KeyId: ...
    @property
    def size_bytes(self) -> int: ...
    @property
    def sealed_bytes(self) -> int: ...


def parcel_of(box: Box, recorded: Recorded) -> Parcel:
    """An instance of this box to be delivered, for the first time."""
    return Parcel(
        study_instance_uid=recorded.study_instance_uid,
        series_instance_uid=recorded.series_instance_uid,
        sop_instance_uid=recorded.sop_instance_uid,
        sop_class_uid=recorded.sop_class_uid,
        transfer_syntax_uid=recorded.transfer_syntax_uid,
        object_id=recorded.object_id,
        size_bytes=recorded.size_bytes,
        sealed_bytes=recorded.sealed_bytes,
        sealed_path=box.objects.path(recorded.object_id),
        open=lambda: cast("BinaryIO", box.open_object(recorded.object_id, recorded.key_id)),
    )


class WouldReplace(Transient):
    """Something else is there under the name of a parcel that may replace nothing: this one waits, and no other."""

    def __init__(self) -> None:
        super().__init__(
            "something else is there under its name, and nothing is overwritten while the ransomware guard holds",
            hint="once its cause is known, release the ransomware guard",
        )


class Session(Protocol):
    """A batch under way, used by one thread."""

    def send(self, parcel: Parcel) -> Receipt:
        """Deliver, and prove it. Raises `Refused`, `Transient`, `OperatorNeeded` or `Corrupt`."""
        ...


class Destination(Protocol):
    """A remote place. May be shared by threads; a session may not."""

    @property
    def takes(self) -> Takes:
        """Whether it is given ciphertext or Part 10 files."""
        ...

    def check(self) -> str:
        """Try the connection as a delivery would use it; what is right with it, in plain words. Raises as `send`."""
        ...

    def open(self, parcels: Sequence[Parcel]) -> AbstractContextManager[Session]:
        """A session in which `parcels` will be sent. Raises as `send`."""
        ...


class Sender(Protocol):
    """Who delivers: what a destination may know of this box."""

    @property
    def config(self) -> Config: ...
