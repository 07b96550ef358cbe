"""The certificate of destruction: what was destroyed, on whose word, where, and what is left where until when; signed.

It is made out of the catalog whenever somebody asks for it, so one that is taken before the last archive has done its part says
so, and the next one says more. It names nobody whose images they were: a study is the number it had here and a digest of
its UID under a key that only this box has, and of the rules that ran out, only the year is told, since a day that is counted
from a majority is a birthday.

Format 1, JSON::

    document    canonical JSON (`appliance.catalog.columns.canonical_json`): keys sorted, no spaces, UTF-8
    signature   algorithm "Ed25519", public_key (32 bytes) and value (64 bytes) in hexadecimal: over the bytes of `document`

Chose a signing key that is derived from the root key, because a restored box must sign as the same one, and nothing has to be
kept; the public keys that this box has ever signed with are remembered, so that a certificate from before a rotation of
the root key is known as its own. Rejected: the clinic's certificate authority, which vouches for addresses of one box.

On paper it is the same in words, and the PDF holds the signed file: each issue says its own moment, so only the very file that a paper was
made of shows what was altered on it. The paper and the audit have the SHA-256 of that file.

A study that was asked for and left out of the request is named with the reason: it is not destroyed, and whoever has the certificate
must not take it for one that is.
"""

from __future__ import annotations

import codecs
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any, Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from appliance import settings as chosen
from appliance.catalog import Reading, Transaction, destructions, settings, tombstones
from appliance.catalog.columns import canonical_json, utc_text
from appliance.catalog.destructions import DestructionRequest, DueStudy
from appliance.catalog.tombstones import Certificate, DestroyedStudy, Place, PlaceState
from appliance.errors import Refused, Unknown
from appliance.ingest.scouring import LOGS
from appliance.lifecycle.purging import REMAINS, REWRITTEN
from appliance.lifecycle.request import ItemState
from appliance.lifecycle.shredding import REMEMBERED, Left
from appliance.lifecycle.unsettled import ASIDE
from appliance.store.keys import RootKey

FORMAT: Final = 1
KIND: Final = "certificate of destruction"
SIGNERS: Final = "destruction.signers"
"""The public keys that this box has signed with, in `appliance.catalog.settings`."""

MOST_BYTES: Final = 8 << 20
WAITS_FOR_OTHERS: Final = "studies of the same request are still to be destroyed"
"""Why an archive has not begun: its older backups become unreadable once for all studies of a request."""


@dataclass(frozen=True, slots=True)
class Verified:
    """A certificate whose signature is right. `fingerprint` is of the `public` key that signed, `ours` whether this box has it.

    `sha256` is of the file as it was issued: line ends that were changed on the way alter nothing that is signed, and so are no difference.
    """

    document: Mapping[str, Any]
    fingerprint: str
    ours: bool
    sha256: str
    public: bytes


def document(conn: Reading, certificate: Certificate, now: datetime) -> dict[str, Any]:
    """What the certificate says at this moment, JSON-able; `this_box` is of `_this_box`.

    `authority` says who asked and who approved; or, of what a restored box found, where and as what (`appliance.catalog.obeying`).
    """
    studies = tombstones.studies_of(conn, certificate.id)
    request = _request_of(conn, certificate)
    is_open = certificate.closed_utc is None and request is not None and bool(request.study_ids)
    return {
        "format": FORMAT,
        "kind": KIND,
        "certificate": certificate.label,
        "clinic": str(chosen.get(conn, "clinic.name")),
        "issued_utc": utc_text(now),
        "begun_utc": utc_text(certificate.begun_utc),
        "completed_utc": _text(certificate.completed_utc),
        "authority": dict(certificate.authority),
        "studies": [_study(each) for each in studies],
        "left_out": [
            {"study": each.study_id, "because": each.left_out_because} for each in left_out(conn, certificate)
        ],
        "this_box": _this_box(conn, studies),
        "archives": [_place(each, is_open) for each in tombstones.places(conn, certificate.id)],
    }


def left_out(conn: Reading, certificate: Certificate) -> list[DueStudy]:
    """The studies that were asked for with the others, and are not destroyed."""
    request = _request_of(conn, certificate)
    found = request.decisions if request is not None else ()
    return [each for each in found if each.state is ItemState.LEFT_OUT]


def _request_of(conn: Reading, certificate: Certificate) -> DestructionRequest | None:
    if certificate.request is None:
        return None
    try:
        return destructions.request(conn, certificate.request)
    except Unknown:  # one of another life of this box
        return None


def issue(tx: Transaction, root: RootKey, certificate: Certificate, now: datetime) -> bytes:
    """The signed certificate, as the bytes of a file; this box remembers that it signs so."""
    told = document(tx, certificate, now)
    key = _signing_key(root)
    public = key.public_key().public_bytes_raw().hex()
    known: list[str] = settings.get(tx, SIGNERS, [])
    if public not in known:
        settings.put(tx, SIGNERS, [*known, public], now)
    signature = {
        "algorithm": "Ed25519",
        "public_key": public,
        "value": key.sign(canonical_json(told).encode()).hex(),
    }
    return _file(told, signature)


def _file(told: Mapping[str, Any], signature: Mapping[str, Any]) -> bytes:
    return (
        json.dumps({"document": told, "signature": signature}, ensure_ascii=False, indent=1) + "\n"
    ).encode()


def digest(signed: bytes) -> str:
    """The SHA-256 of a signed certificate's bytes, in hexadecimal: which issue it is, since each says its own moment."""
    return hashlib.sha256(signed).hexdigest()


def fingerprint(root: RootKey) -> str:
    """Of the key that this box signs with, as people compare it."""
    return _fingerprint(_signing_key(root).public_key().public_bytes_raw())


def verify(conn: Reading, root: RootKey, text: bytes) -> Verified:
    """Check a certificate, and whether this box has signed it. Raises as `checked`."""
    found = checked(text)
    ours = found.public == _signing_key(root).public_key().public_bytes_raw()
    return replace(found, ours=ours or found.public.hex() in settings.get(conn, SIGNERS, []))


def checked(text: bytes) -> Verified:
    """Check a certificate where there is no box: it is nobody's of ours. Raises `Refused` for what is none, or was changed after it was signed."""
    try:
        told = json.loads(text.removeprefix(codecs.BOM_UTF8))
        signature, found = told["signature"], told["document"]
        public, value = bytes.fromhex(signature["public_key"]), bytes.fromhex(signature["value"])
        right = (signature["algorithm"], found["format"], found["kind"]) == ("Ed25519", FORMAT, KIND)
        Ed25519PublicKey.from_public_bytes(public).verify(value, canonical_json(found).encode())
        # As it was issued: what else somebody may have written beside the signature is not signed, and no part of it.
        issued = _file(found, {"algorithm": "Ed25519", "public_key": public.hex(), "value": value.hex()})
    except InvalidSignature as error:
        raise Refused(
            "this certificate was changed after it was signed",
            hint="ask for it again from the box that issued it",
        ) from error
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise _no_certificate() from error
    if not right:
        raise _no_certificate()
    return Verified(found, _fingerprint(public), False, digest(issued), public)


def _no_certificate() -> Refused:
    return Refused(
        "this is no certificate of destruction", hint="use the file from: appliance destruction certificate"
    )


def _signing_key(root: RootKey) -> Ed25519PrivateKey:
    return Ed25519PrivateKey.from_private_bytes(root.derive("certificates of destruction"))


def _fingerprint(public: bytes) -> str:
    digits = hashlib.sha256(public).hexdigest()[:32].upper()
    return "-".join(digits[at : at + 4] for at in range(0, len(digits), 4))


def _this_box(conn: Reading, studies: Sequence[DestroyedStudy]) -> dict[str, Any]:
    """What is done here. `unused_space` is of the catalog's file (`purging.REWRITTEN_BYTES`); `waits_for` is "intake-log" if nothing else is
    left to do than to write over what was received lately, "set-aside" if an image that was set aside has a destroyed key, and "" before."""
    remains, logs, rewritten = (int(settings.get(conn, key, 0)) for key in (REMAINS, LOGS, REWRITTEN))
    if not all(each.removed_utc is not None and each.id <= remains for each in studies):
        return {"state": "OWED", "waits_for": ""}
    if not all(each.id <= logs for each in studies):
        return {"state": "OWED", "waits_for": "intake-log"}
    aside = settings.get(conn, ASIDE, [])
    if any(each.id in aside for each in studies):
        return {"state": "OWED", "waits_for": "set-aside"}
    unused = "written-over" if all(each.id <= rewritten for each in studies) else "may-hold-copies"
    return {"state": "DONE", "unused_space": unused}


def _study(each: DestroyedStudy) -> dict[str, Any]:
    rules: Sequence[Mapping[str, Any]] = each.why.get("rules", ())
    return {
        "study": each.study,
        "digest": each.digest,
        "images": each.instances,
        "bytes": each.bytes,
        "kept_anonymous": int(each.why.get("kept_anonymous", 0)),
        "received": [
            each.first_received_utc.date().isoformat(),
            each.last_received_utc.date().isoformat(),
        ],
        "kept_until_year": str(each.why.get("keep_until", ""))[:4],
        "rules": [
            {name: rule.get(name) for name in ("rule", "years", "starts", "basis", "source")}
            for rule in rules
        ],
        "destroyed_utc": utc_text(each.destroyed_utc),
        "destroyed_before_utc": each.why.get("destroyed_before_utc"),
        "given_in_clear": dict(each.elsewhere),
        "exports": each.exports,
    }


def _place(each: Place, is_open: bool) -> dict[str, Any]:
    """An archive, and `where` it is if it can't be reached any more; it waits for the other studies while the request `is_open`. Backups in it that this box could not open were left as they are:
    `backups_not_ours` are another box's, or so damaged that nothing tells whose; of `backups_under_later_key` a later recovery key than
    this box has may open some that are its own. `versions` says what a bucket keeps of what was written over, and `versions_until_utc`
    when it has none left: None where it keeps none, or for ever. What earlier software has recorded says neither: it is told as a
    condition."""
    done = each.state is PlaceState.DONE and each.kind == "s3"
    left = Left(each.detail.get("versions", Left.NOT_TOLD)) if done else Left.NONE
    days = {Left.FOR_DAYS: timedelta(days=each.detail.get("days") or 0), Left.NOT_TOLD: REMEMBERED}
    until = utc_text(each.changed_utc + days[left]) if left in days else None
    return {
        "name": each.name,
        "kind": each.kind,
        "state": str(each.state),
        "since_utc": utc_text(each.changed_utc),
        "waits_for": (each.reason or (WAITS_FOR_OTHERS if is_open else ""))
        if each.state in {PlaceState.OWED, PlaceState.LAID}
        else "",
        "where": each.where if each.state is PlaceState.GIVEN_UP else "",
        "has_moved": each.state is PlaceState.GIVEN_UP and each.reason == tombstones.MOVED,
        "backup": each.detail.get("snapshot"),
        "older_backups": each.detail.get("older"),
        "backups_not_ours": int(each.detail.get("anothers", 0)),
        "backups_under_later_key": int(each.detail.get("later", 0)),
        "ciphertext_stays": each.kind == "s3",
        "versions": str(left),
        "versions_until_utc": until,
    }


def _text(moment: datetime | None) -> str | None:
    return None if moment is None else utc_text(moment)
