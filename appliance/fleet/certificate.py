"""What an SSH certificate says of the person who comes in with it, once the vendor's authority is known to have signed it.

sshd has judged it before; it is judged again here, because the desk believes nobody who merely says what sshd has said. That
whoever speaks also has the key to it, only sshd has seen.
"""

from __future__ import annotations

from datetime import UTC, datetime

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.serialization import SSHCertificate, SSHCertificateType

from appliance.errors import NotAuthorised
from appliance.fleet.session import Certificate

MOST_PERSON_CHARACTERS = 100


def certificate_of(line: str, authority: str) -> Certificate:
    """What a certificate says, if `authority` has signed it for a person. Raises `NotAuthorised`."""
    try:
        found = serialization.load_ssh_public_identity(line.encode())
        if not isinstance(found, SSHCertificate) or found.type is not SSHCertificateType.USER:
            raise NotAuthorised(
                "this is no certificate of a person", hint="come in with a signed certificate"
            )
        found.verify_cert_signature()
        signer = found.signature_key()
        wanted = serialization.load_ssh_public_key(authority.encode())
    except (ValueError, InvalidSignature, UnsupportedAlgorithm) as error:
        raise NotAuthorised(
            "the certificate cannot be believed", hint="have a new one signed by the vendor's authority"
        ) from error
    if _encoded(signer) != _encoded(wanted):
        raise NotAuthorised("another authority has signed the certificate", hint="use the vendor's")
    # A certificate "for ever" ends beyond what a date can say, and is refused for its length.
    latest = int(datetime(9999, 1, 1, tzinfo=UTC).timestamp())
    return Certificate(
        person=_shown(found.key_id)[:MOST_PERSON_CHARACTERS].strip(),
        serial=found.serial,
        principals=frozenset(each.decode("utf-8", "replace") for each in found.valid_principals),
        after_utc=datetime.fromtimestamp(min(found.valid_after, latest), UTC),
        before_utc=datetime.fromtimestamp(min(found.valid_before, latest), UTC),
    )


def _shown(data: bytes) -> str:
    """Of what a stranger has written, what can be shown: nothing that drives a terminal, or turns a line round."""
    return "".join(each for each in data.decode("utf-8", "replace") if each.isprintable())


def _encoded(key: object) -> bytes:
    encoded: bytes = key.public_bytes(  # type: ignore[attr-defined]  # of whichever kind: all of them have it
        serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH
    )
    return encoded
