"""The clinic's own certificate authority, and the certificate by which browsers and devices know this box.

Service workers, passkeys and a padlock need HTTPS by a host name that the workstation trusts. A public certificate
needs a public name, which few clinics have; so the box makes an authority of its own, once, and each workstation is
told to trust it.

Chose an authority that *cannot* vouch for anything but this clinic: its critical name constraints (RFC 5280 4.2.1.10)
permit the box's own names, ``.local`` and private addresses; because a key that every workstation trusts would
otherwise be worth stealing. Rejected: one self-signed server certificate (each renewal would have to be trusted anew
on every workstation), and an authority for any name.

Both private keys lie sealed under the root key in the catalog's settings. For whoever terminates TLS in front of the
console, the folder ``tls/`` of the data folder holds copies, written anew whenever they differ::

    tls/server.pem      private key, certificate, authority: one file (0600), so that it is always a matching set
    tls/clinic-ca.pem   the authority's certificate, which is public

The server certificate lives `SERVER_DAYS` and is issued anew `RENEW_DAYS` before its end, or when the box has got
another address. Apple accepts at most 825 days from an authority that a person has installed, and a server must carry
its names as subjectAltName.
"""

from __future__ import annotations

import base64
import hashlib
import ipaddress
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import psutil
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from appliance.box import Box
from appliance.catalog import Reading, Transaction, settings
from appliance.errors import Corrupt, Refused
from appliance.store.disk import Disk, disk_error

AUTHORITY_DAYS: Final = 3650
SERVER_DAYS: Final = 397
RENEW_DAYS: Final = 45
BACKDATED: Final = timedelta(days=1)
"""Workstations whose clock is behind must not refuse a certificate that is new."""

EARLIEST: Final = datetime(2026, 11, 1, tzinfo=UTC)
"""No clock that is right was ever earlier: this program was not written. By a battery that is dead, certificates begin here, and are good
once the clock is right."""

FOLDER: Final = "tls"
SERVER_FILE: Final = "server.pem"
AUTHORITY_FILE: Final = "clinic-ca.pem"

_SETTING: Final = "certificates"
_AUTHORITY_CONTEXT: Final = b"certificate authority key"
_SERVER_CONTEXT: Final = b"server certificate key"
_PRIVATE: Final = tuple(
    ipaddress.ip_network(text)
    for text in ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "169.254.0.0/16", "127.0.0.0/8",
                 "fc00::/7", "fe80::/10", "::1/128")
)  # fmt: skip
_LABEL: Final = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
_CONSONANTS: Final = "bdfghjklmnprstvz"
_VOWELS: Final = "aiou"

Address = ipaddress.IPv4Address | ipaddress.IPv6Address


@dataclass(frozen=True, slots=True)
class Installed:
    """The certificates of this box, without their keys. `authority` is PEM; `addresses` are texts."""

    host_name: str
    addresses: tuple[str, ...]
    authority: bytes
    fingerprint: bytes
    authority_begins_utc: datetime
    authority_ends_utc: datetime
    server_begins_utc: datetime
    server_ends_utc: datetime

    @property
    def names(self) -> tuple[str, ...]:
        """Every name that the certificate is good for."""
        return names_of(self.host_name)


# --- names -----------------------------------------------------------------------------------------------------------


def normal_host_name(text: str) -> str:
    """`text` as a host name, lower case. Raises `Refused` with what would do (RFC 1123 2.1)."""
    name = text.strip().rstrip(".").lower()
    labels = name.split(".")
    if not name or len(name) > 200 or not all(_LABEL.fullmatch(each) for each in labels):
        raise Refused(
            "that is not a host name",
            hint="use letters without accents, digits and dashes, such as clinicbox",
        )
    if labels[-1].isdigit():
        raise Refused("that is an address, not a name", hint="choose a name, such as clinicbox")
    return name


def names_of(host_name: str) -> tuple[str, ...]:
    """The names by which browsers may reach `host_name`: a bare one is also found as ``name.local`` (RFC 6762)."""
    return (host_name,) if "." in host_name else (host_name, f"{host_name}.local")


def own_addresses() -> tuple[str, ...]:
    """The addresses of this machine that others on the LAN can reach, IPv4 first."""
    found: list[Address] = []
    for entries in psutil.net_if_addrs().values():
        for entry in entries:
            try:
                address = ipaddress.ip_address(entry.address.partition("%")[0])
            except ValueError:
                continue  # a hardware address
            if not (address.is_loopback or address.is_link_local or address.is_multicast):
                found.append(address)
    return tuple(str(each) for each in sorted(set(found), key=lambda each: (each.version, int(each))))


def console_addresses() -> tuple[str, ...]:
    """Those of `own_addresses` at which the console answers: callers from elsewhere than private networks are dropped by the firewall, and who
    calls a public address of IPv6 comes from one. A public one of IPv4 stays, for a clinic that has such in its own network, whose
    firewall was told so."""
    found = [ipaddress.ip_address(each) for each in own_addresses()]
    return tuple(str(each) for each in found if each.version == 4 or _is_private(each))


# --- fingerprints ----------------------------------------------------------------------------------------------------


def hexadecimal(fingerprint: bytes) -> str:
    """A fingerprint as systems show it: pairs of digits with colons."""
    return fingerprint.hex(":").upper()


def in_words(fingerprint: bytes) -> str:
    """The first 96 bits of a fingerprint as six words that can be read aloud, in any language.

    Each word is 16 bits: consonant, vowel, consonant, vowel, consonant of 4, 2, 4, 2 and 4 bits.
    """
    words = []
    for at in range(0, 12, 2):
        bits = int.from_bytes(fingerprint[at : at + 2], "big")
        words.append(
            _CONSONANTS[bits >> 12 & 15]
            + _VOWELS[bits >> 10 & 3]
            + _CONSONANTS[bits >> 6 & 15]
            + _VOWELS[bits >> 4 & 3]
            + _CONSONANTS[bits & 15]
        )
    return " ".join(words)


# --- making them -----------------------------------------------------------------------------------------------------


def new_authority(
    clinic: str, host_name: str, now: datetime
) -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey]:
    """An authority that may vouch for `host_name`, ``.local`` names and private addresses, and for nothing else."""
    now = max(now, EARLIEST)
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, clinic[:64] or "Clinic"),
            x509.NameAttribute(NameOID.COMMON_NAME, f"Clinic Box {host_name}"[:64]),
        ]
    )
    permitted: list[x509.GeneralName] = [x509.DNSName(each) for each in dict.fromkeys((host_name, "local"))]
    permitted += [x509.IPAddress(network) for network in _PRIVATE]
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - BACKDATED)
        .not_valid_after(now + timedelta(days=AUTHORITY_DAYS))
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(signs=True), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(x509.NameConstraints(permitted, None), critical=True)
        .sign(key, hashes.SHA256())
    )
    return certificate, key


def issue(
    authority: x509.Certificate,
    authority_key: ec.EllipticCurvePrivateKey,
    host_name: str,
    addresses: Sequence[str],
    now: datetime,
) -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey]:
    """A server certificate for `host_name` and those of `addresses` that are private. Never outlives its authority."""
    now = max(now, EARLIEST)
    key = ec.generate_private_key(ec.SECP256R1())
    subject: list[x509.GeneralName] = [x509.DNSName(each) for each in names_of(host_name)]
    subject += [x509.IPAddress(each) for each in map(ipaddress.ip_address, addresses) if _is_private(each)]
    certificate = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, names_of(host_name)[-1][:64])]))
        .issuer_name(authority.subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - BACKDATED)
        .not_valid_after(min(now + timedelta(days=SERVER_DAYS), authority.not_valid_after_utc))
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(signs=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.SubjectAlternativeName(subject), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(authority_key.public_key()), critical=False
        )
        .sign(authority_key, hashes.SHA256())
    )
    return certificate, key


def _usage(*, signs: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs,
        key_cert_sign=signs,
        crl_sign=signs,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _is_private(address: Address) -> bool:
    return any(address.version == network.version and address in network for network in _PRIVATE)


# --- keeping them ----------------------------------------------------------------------------------------------------


def installed(reading: Reading) -> Installed | None:
    """The certificates that this box has; None before the network was set up."""
    kept = settings.get(reading, _SETTING)
    return None if kept is None else _installed(kept)


def host_names(reading: Reading) -> tuple[str, ...]:
    """The names that the certificates are good for; cheap enough to ask at each request."""
    kept = settings.get(reading, _SETTING)
    return () if kept is None else names_of(kept["host_name"])


def install(
    tx: Transaction,
    box: Box,
    *,
    host_name: str,
    clinic: str,
    addresses: Sequence[str],
    now: datetime,
    anew: bool = False,
) -> Installed:
    """Certificates for `host_name`, in the catalog; `write_files` then lays them out.

    The authority stays as it is as long as it may vouch for that name and has a server certificate's life left, unless all is to be
    made `anew`: only a new one has to be trusted anew. Raises `Refused` for a name that is none.
    """
    host_name = normal_host_name(host_name)
    kept = settings.get(tx, _SETTING)
    authority = None if kept is None or anew else _certificate(kept["authority"])
    clinic = clinic or (kept or {}).get("clinic", "")
    if authority is None or not _serves(authority, host_name, now):
        authority, authority_key = new_authority(clinic, host_name, now)
    else:
        authority_key = _unsealed(box, (kept or {})["authority_key"], _AUTHORITY_CONTEXT)
    server, server_key = issue(authority, authority_key, host_name, addresses, now)
    fresh = {
        "clinic": clinic,
        "host_name": host_name,
        "addresses": list(addresses),
        "authority": _pem(authority),
        "authority_key": _sealed(box, authority_key, _AUTHORITY_CONTEXT),
        "server": _pem(server),
        "server_key": _sealed(box, server_key, _SERVER_CONTEXT),
    }
    settings.put(tx, _SETTING, fresh, now)
    settings.put(tx, settings.CONSOLE, f"https://{host_name}", now)
    return _installed(fresh)


def is_due(found: Installed, addresses: Sequence[str], now: datetime) -> bool:
    """Whether a new server certificate should be issued. Pure.

    An address that went away is no reason: the cable may be out. One that begins at a moment to come was issued by a clock that
    was ahead, and no browser takes it. Whoever asks believes the clock: by one that was set back, each would begin too late.
    """
    now = max(now, EARLIEST)
    gained = {each for each in addresses if _is_private(ipaddress.ip_address(each))} - set(found.addresses)
    fits = found.server_begins_utc <= now <= found.server_ends_utc - timedelta(days=RENEW_DAYS)
    return bool(gained) or not fits or found.authority_begins_utc > now


def renew(tx: Transaction, box: Box, addresses: Sequence[str], now: datetime) -> Installed | None:
    """Issue the server certificate anew if that is due. What was issued, else None. Raises as `install`.

    An authority that a clock years ahead has made begins at a moment to come: no browser takes what it vouches for until then, so
    another one is made. Whoever asks believes the clock.
    """
    found = installed(tx)
    if found is None or not is_due(found, addresses, now):
        return None
    known = tuple(dict.fromkeys((*addresses, *found.addresses)))
    anew = found.authority_begins_utc > max(now, EARLIEST)
    return install(tx, box, host_name=found.host_name, clinic="", addresses=known, now=now, anew=anew)


def write_files(box: Box) -> None:
    """Lay what the catalog holds out for whoever terminates TLS; what is there already stays. Raises `Transient` when the disk will not."""
    with box.catalog.reading() as conn:
        kept = settings.get(conn, _SETTING)
    if kept is None:
        return
    key = _unsealed(box, kept["server_key"], _SERVER_CONTEXT)
    text = _key_pem(key) + kept["server"].encode() + kept["authority"].encode()
    folder = folder_of(box)
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        _replace(folder / SERVER_FILE, text, box.disk)
        _replace(folder / AUTHORITY_FILE, kept["authority"].encode(), box.disk)
    except OSError as error:
        raise disk_error(error, "writing the certificates") from error


def folder_of(box: Box) -> Path:
    """Where the files are."""
    return box.config.data.absolute() / FOLDER


def _replace(path: Path, data: bytes, disk: Disk) -> None:
    if path.is_file() and path.read_bytes() == data:
        return
    fresh = path.with_name(f".{path.name}.new")
    descriptor = disk.overwrite(fresh)
    try:
        disk.write(descriptor, [data])
        disk.sync(descriptor)
    finally:
        os.close(descriptor)
    disk.rename(fresh, path)
    disk.sync_directory(path.parent)


def _serves(authority: x509.Certificate, host_name: str, now: datetime) -> bool:
    if authority.not_valid_after_utc < now + timedelta(days=SERVER_DAYS):
        return False
    permitted = authority.extensions.get_extension_for_class(x509.NameConstraints).value.permitted_subtrees
    allowed = [each.value for each in permitted or () if isinstance(each, x509.DNSName)]
    return all(
        any(name == domain or name.endswith(f".{domain}") for domain in allowed)
        for name in names_of(host_name)
    )


def _installed(kept: dict[str, Any]) -> Installed:
    authority, server = _certificate(kept["authority"]), _certificate(kept["server"])
    return Installed(
        host_name=kept["host_name"],
        addresses=tuple(kept["addresses"]),
        authority=kept["authority"].encode(),
        fingerprint=hashlib.sha256(authority.public_bytes(serialization.Encoding.DER)).digest(),
        authority_begins_utc=authority.not_valid_before_utc,
        authority_ends_utc=authority.not_valid_after_utc,
        server_begins_utc=server.not_valid_before_utc,
        server_ends_utc=server.not_valid_after_utc,
    )


def _certificate(text: str) -> x509.Certificate:
    return x509.load_pem_x509_certificate(text.encode())


def _pem(certificate: x509.Certificate) -> str:
    return certificate.public_bytes(serialization.Encoding.PEM).decode()


def _key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def _sealed(box: Box, key: ec.EllipticCurvePrivateKey, context: bytes) -> str:
    return base64.b64encode(box.root.seal(_key_pem(key), context)).decode()


def _unsealed(box: Box, sealed: str, context: bytes) -> ec.EllipticCurvePrivateKey:
    key = serialization.load_pem_private_key(box.root.unseal(base64.b64decode(sealed), context), None)
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise Corrupt("a kept certificate key is of another kind than was made")
    return key
