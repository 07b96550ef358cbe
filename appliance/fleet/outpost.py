"""Where heartbeats go: an address of HTTPS that they are posted to, or a bucket in which each box has one object.

::

    https://HOST/PATH    POST, the body is the heartbeat; 2xx means that it was taken, its body is what is wanted of the box
    s3://BUCKET/PREFIX   the object PREFIX/boxes/BOX.json, written over, read back; what is wanted lies in PREFIX/wanted/BOX.json

An address of HTTPS is under the rules for webhooks (`appliance.notify.posting`): it is public unless the clinic has said that
it is on its own network, its certificate is verified, nothing is followed elsewhere. So is the address of a bucket's provider,
looked at before each heartbeat, though the client of S3 then asks for the name again by itself: a name that changes in between
is found out by its certificate alone. A bucket may be in any country, unlike one for images, because nothing in a heartbeat is of
a person.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from appliance import settings
from appliance.box import Box
from appliance.catalog import Reading
from appliance.errors import OperatorNeeded, Refused, Transient, Unknown
from appliance.fleet.wanted import MOST_BYTES
from appliance.notify import posting
from appliance.replication.destinations.s3 import S3Destination

CONNECT_SECONDS = 10.0
READ_SECONDS = 20.0


class Outpost(Protocol):
    """What takes heartbeats."""

    def put(self, name: str, data: bytes) -> bytes:
        """Hand over the heartbeat `data` of the box `name`; what is wanted of it (`appliance.fleet.wanted`), or nothing.

        Raises `Transient`, `OperatorNeeded`, `Refused`.
        """


@dataclass(frozen=True, slots=True)
class Posted:
    """An address of HTTPS; `ca` is the certificate of its authority, if this system doesn't know it."""

    address: str
    on_lan: bool = False
    ca: str = ""

    def put(self, name: str, data: bytes) -> bytes:
        """See `Outpost`."""
        place = posting.place_of(self.address, on_lan=self.on_lan)
        headers = {"Content-Type": "application/json", "X-Box": name}
        try:
            context = posting.trusting(self.ca)
        except (OSError, ValueError) as error:  # what OpenSSL raises is an OSError
            raise OperatorNeeded(
                "the certificate given for heartbeats cannot be read",
                hint="paste it again in the settings of heartbeats",
            ) from error
        answer = posting.exchange(place, _resolved(place, on_lan=self.on_lan), context, data, headers)
        if 200 <= answer.status < 300:
            return answer.body
        if answer.status in (408, 425, 429) or answer.status >= 500:
            raise Transient(f"{place.host} asks to wait (status {answer.status})")
        raise OperatorNeeded(
            f"{place.host} does not take heartbeats there (status {answer.status})",
            hint="compare the address of heartbeats with what the vendor has sent, and send the vendor the box's key",
        )


@dataclass(frozen=True, slots=True)
class Bucket:
    """A bucket, and what the names of its objects begin with; `on_lan` is of its provider's address, if it has one."""

    store: S3Destination
    prefix: str = ""
    on_lan: bool = False

    def put(self, name: str, data: bytes) -> bytes:
        """See `Outpost`."""
        if self.store.endpoint_url:
            _resolved(_place(self.store.endpoint_url, on_lan=self.on_lan), on_lan=self.on_lan)
        self.store.put_document(f"{self.prefix}boxes/{name}.json", data)
        try:
            return self.store.beginning(f"{self.prefix}wanted/{name}.json", MOST_BYTES + 1)
        except Unknown:
            return b""


def outpost(conn: Reading, box: Box) -> Outpost:
    """What the settings name. Raises `OperatorNeeded` if they name nothing."""
    chosen = settings.get_section(conn, "heartbeat")
    address = str(chosen["address"])
    if not address:
        raise OperatorNeeded(
            "nobody has entered where heartbeats go",
            hint="enter the address that the vendor has sent, in the settings of heartbeats",
        )
    if not address.startswith("s3://"):
        return Posted(address, on_lan=bool(chosen["on_lan"]), ca=str(chosen["ca"]))
    bucket, _, prefix = address.removeprefix("s3://").partition("/")
    store = S3Destination(
        bucket=bucket,
        region=str(chosen["region"]),
        endpoint_url=str(chosen["endpoint_url"]),
        access_key_id=str(chosen["access_key_id"]),
        secret=settings.secret(conn, box.root, "heartbeat.secret"),
        connect_seconds=CONNECT_SECONDS,
        read_seconds=READ_SECONDS,
    )
    return Bucket(store, f"{prefix}/" if prefix else "", on_lan=bool(chosen["on_lan"]))


def _place(url: str, *, on_lan: bool) -> posting.Place:
    try:
        return posting.place_of(url, on_lan=on_lan)
    except Refused as error:
        raise _not_there() from error


def _resolved(place: posting.Place, *, on_lan: bool) -> str:
    try:
        return posting.resolved(place, on_lan=on_lan)
    except OperatorNeeded as error:
        raise _not_there() from error


def _not_there() -> OperatorNeeded:
    return OperatorNeeded(
        "heartbeats may not go to the address that this name has",
        hint="it must be public, or marked as on the clinic's own network in the settings of heartbeats",
    )
