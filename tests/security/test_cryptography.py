"""The inventory of cryptography in the help is the one of the source: nothing else is used, and nothing is only said."""

import ast
import random
import re
import ssl
from collections import defaultdict
from datetime import UTC, datetime

import pyotp
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

from appliance import audit_feed, certificates
from appliance.identity import one_time_codes
from appliance.notify import posting, smtp
from appliance.store import envelope, recovery, root_key
from tests.security import source

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)

USES = {  # what the source can say, and the entry of the inventory that it belongs to
    "cryptography.hazmat.primitives.ciphers.aead.AESGCM": "AES-256-GCM",
    "cryptography.hazmat.primitives.ciphers.aead.ChaCha20Poly1305": "ChaCha20-Poly1305",
    "cryptography.hazmat.primitives.asymmetric.x25519": "X25519",
    "cryptography.hazmat.primitives.kdf.hkdf.HKDF": "HKDF-SHA-256",
    "cryptography.hazmat.primitives.asymmetric.ec": "ECDSA P-256",
    "cryptography.x509": "ECDSA P-256",
    "cryptography.hazmat.primitives.asymmetric.ed25519": "Ed25519",
    "cryptography.hazmat.primitives.serialization.SSHCertificate": "Ed25519",
    "cryptography.hazmat.primitives.serialization.SSHCertificateType": "Ed25519",
    "webauthn": "ECDSA P-256",
    "sqlcipher3.dbapi2": "SQLCipher 4",
    "argon2.PasswordHasher": "Argon2id",
    "pyotp": "HMAC-SHA-1",
    "ssl": "TLS",
    "boto3": "TLS",
    "random": "random",
    "secrets": "random",
    "os.urandom": "random",
    "sha256": "SHA-256",
    "hmac sha256": "HMAC-SHA-256",
    "md5": "MD5",
    "uuid.uuid4": "random",
    "smbprotocol.session.Session": "NTLMv2",
    "zlib.crc32": "CRC-32",
}
NO_USE = {  # of the same packages, and no algorithm
    "cryptography.exceptions.InvalidSignature",
    "cryptography.exceptions.InvalidTag",
    "cryptography.exceptions.UnsupportedAlgorithm",
    "cryptography.hazmat.primitives.hashes",
    "cryptography.hazmat.primitives.serialization",
    "hashlib",
    "hmac",
    "uuid.UUID",
    "hmac.compare_digest",
}
PACKAGES = re.compile(
    r"(cryptography|hashlib|hmac|argon2\.PasswordHasher|pyotp|webauthn|sqlcipher3|ssl|boto3|random|secrets|uuid"
    r"|Crypto|Cryptodome|nacl|jwt|jose|OpenSSL|passlib|bcrypt|gnupg|zlib\.crc32)(\.|$)"
)
ORDINARY_RANDOM = {
    *("notify/sending", "replication/batch", "backup/drill", "backup/sampling", "lifecycle/census"),
    "fleet/pulse",
}
"""Who may draw numbers that can be guessed: to spread tries out in time, and to take a sample."""


def found() -> dict[str, set[str]]:
    """What the source uses, and where: imports, and the algorithms that hash functions are called with."""
    uses: dict[str, set[str]] = defaultdict(set)
    for module, name in source.imported():
        if ".ed25519." in name or ".x25519." in name:
            name = name.rpartition(".")[0]
        if name.startswith(("webauthn.", "cryptography.x509.")):
            name = "webauthn" if name.startswith("w") else "cryptography.x509"
        name = {"hashlib.sha256": "sha256", "random.Random": "random"}.get(name, name)
        if (PACKAGES.match(name) or name in USES) and name not in NO_USE:
            uses[name].add(module)
    for module, node in source.nodes():
        if not isinstance(node, ast.Call):
            continue
        call = source.called(node)
        if not call.startswith(("hashlib.", "hmac.", "zlib.", "os.", "hashes.", "ec.")):
            continue
        words = [ast.unparse(each).strip("'\"") for each in node.args]
        if re.fullmatch(r"hashlib\.\w+", call):
            uses[words[1] if call == "hashlib.file_digest" else call.removeprefix("hashlib.")].add(module)
        elif call in ("hmac.new", "hmac.digest"):
            uses[f"hmac {words[2].removeprefix('hashlib.')}"].add(module)
        elif call in ("zlib.crc32", "os.urandom"):
            uses[call].add(module)
        elif call.startswith("hashes."):
            uses[call.removeprefix("hashes.").lower()].add(module)
        elif call.startswith("ec.") and call != "ec.generate_private_key":
            uses[call].add(module)
    return uses


def test_every_algorithm_of_the_source_is_in_the_inventory_and_nothing_else() -> None:
    uses = found()
    assert uses.pop("ec.SECP256R1") == {"certificates"}
    unknown = {use: where for use, where in uses.items() if use not in USES}
    assert not unknown, "say in the help's inventory what this is for, and here which entry it is"
    listed = {USES[use] for use in uses}
    for language in source.LANGUAGES:
        said = source.entries("protection", "algorithms", language)
        assert len(said) == len(set(said))
        assert set(said) == listed, language


def test_every_derived_key_is_in_the_inventory() -> None:
    purposes = {
        node.args[0].value
        for _, node in source.nodes()
        if isinstance(node, ast.Call)
        and source.called(node).endswith("root.derive")
        and isinstance(node.args[0], ast.Constant)
    }
    assert len(purposes) >= 9
    for language in source.LANGUAGES:
        assert set(source.codes("protection", "keys", language)) - {".local"} == purposes, language


def test_lives_of_certificates_are_as_documented() -> None:
    wanted = [certificates.AUTHORITY_DAYS, certificates.SERVER_DAYS, certificates.RENEW_DAYS]
    for language in source.LANGUAGES:
        assert [each for each in source.numbers("protection", "keys", language) if each in wanted] == wanted


def test_everything_unguessable_is_of_the_systems_generator() -> None:
    assert found()["random"] == ORDINARY_RANDOM
    for module, node in source.nodes():
        if source.called(node).startswith("random."):
            assert module in ORDINARY_RANDOM, module
        assert not source.called(node).startswith(("uuid.uuid1", "numpy.random")), module


def test_weak_algorithms_are_for_no_security() -> None:
    for module, node in source.nodes():
        if source.called(node) == "hashlib.md5":
            assert isinstance(node, ast.Call)
            assert module == "replication/destinations/multipart"
            assert [(each.arg, ast.unparse(each.value)) for each in node.keywords] == [
                ("usedforsecurity", "False")
            ]
        assert source.called(node) not in ("hashlib.sha1", "hashlib.new"), module
    assert found()["pyotp"] == {"identity/one_time_codes"}


def test_nothing_is_weaker_than_128_bits() -> None:
    assert 8 * root_key.KEY_BYTES == 8 * envelope.KEY_BYTES == 256
    assert 8 * recovery.SECRET_BYTES >= 128
    drawn = [
        (module, ast.unparse(node.args[0]))
        for module, node in source.nodes()
        if isinstance(node, ast.Call)
        and source.called(node) in ("secrets.token_bytes", "secrets.token_urlsafe")
    ]
    assert len(drawn) > 15
    no_secrets = {
        ("ingest/reception", "12"),  # a nonce, of the size that GCM has
        (
            "ingest/rehearsal",
            "5",
        ),  # what the proof in the other part of an AE title is over: titles are short
    }
    for module, length in set(drawn) - no_secrets:
        if length.isdecimal():
            assert 8 * int(length) >= 128, module
    assert isinstance(pyotp.compat.random, random.SystemRandom)  # draws the seeds of one-time codes
    assert 5 * one_time_codes.SECRET_CHARACTERS >= 128


def test_certificates_are_of_approved_algorithms() -> None:
    authority, key = certificates.new_authority("Clinic", "clinicbox", NOW)
    server, server_key = certificates.issue(authority, key, "clinicbox", ("192.168.1.5",), NOW)
    for certificate, private in ((authority, key), (server, server_key)):
        assert isinstance(private.curve, ec.SECP256R1)
        assert isinstance(certificate.public_key(), ec.EllipticCurvePublicKey)
        assert isinstance(certificate.signature_hash_algorithm, hashes.SHA256)
        assert certificate.version is x509.Version.v3
    server.verify_directly_issued_by(authority)


# --- comparisons -----------------------------------------------------------------------------------------------------

SECRET_WORDS = re.compile(
    r"(?:^|_)(password|password_hash|secret|token|cookie|csrf|code|digest|hexdigest|mac|chain|signature|tag|pending|generate_otp)$"
)
IN_ANY_TIME = {
    "fleet/taking": "digests of what whoever asks has sent, with a key that everybody may know",
    "ingest/elsewhere": "checksums of data sets, which whoever sends them has anyway",
    "audit/exports": "an auditor compares a file with itself; nobody else learns how long it took",
    "cli/session": "one person, twice the same text",
    "lifecycle/destruction": "the digest of a list that is shown to whoever approves it",
    "replication/destinations/folder": "checksums",
    "replication/destinations/multipart": "checksums of ciphertext",
    "replication/destinations/s3": "checksums of ciphertext",
    "replication/destinations/share": "checksums of ciphertext",
    "replication/destinations/vault": "checksums of ciphertext",
    "store/keys": "recovery keys, whose equality takes constant time",
    "web/views/claim": "one person, twice the same text",
    "web/views/me": "one person, twice the same text",
    "web/views/welcome": "one person, twice the same text",
}
OTHER_CODES = {
    "catalog/database", "catalog/errors", "cli/supervisor", "dicom/exchange", "dicom/extent", "dicom/header",
    "dicom/scp", "dicom/transcode", "notify/alerts", "notify/smtp", "replication/destinations/s3_errors",
    "web/api/problem", "web/language", "web/pages",
}  # fmt: skip
"""Where a code is an exit code, a status or a language, and a tag one of DICOM."""


def test_secrets_are_compared_in_constant_time() -> None:
    stray = set()
    for module, node in source.nodes():
        if not isinstance(node, ast.Compare) or not isinstance(node.ops[0], ast.Eq | ast.NotEq):
            continue
        if re.search(r"\.c\.|hashlib\.|sha256", ast.unparse(node)):
            continue  # a condition of a query; a checksum, which is no secret
        for side in (node.left, *node.comparators):
            called = side.func if isinstance(side, ast.Call) else side
            name = getattr(called, "attr", getattr(called, "id", ""))
            if SECRET_WORDS.search(name) and module not in IN_ANY_TIME and module not in OTHER_CODES:
                stray.add(f"{module}:{node.lineno}: {ast.unparse(node)}")
    assert not stray, "use hmac.compare_digest, or say here why its time tells nobody anything"


# --- TLS -------------------------------------------------------------------------------------------------------------

CONTEXTS = {
    "mail": lambda: smtp._context(smtp.MailServer("mail.example.ca", 587, "starttls", "box@example.ca")),
    "webhooks and heartbeats": lambda: posting.trusting(""),
    "syslog": lambda: audit_feed._context(audit_feed.Collector("log.example.ca", 6514)),
}


@pytest.mark.parametrize("what", CONTEXTS)
def test_tls_is_new_forward_secret_and_checks_who_answers(what: str) -> None:
    context = CONTEXTS[what]()
    assert context.minimum_version >= ssl.TLSVersion.TLSv1_2
    assert context.verify_mode is ssl.CERT_REQUIRED
    assert context.check_hostname is True
    ciphers = context.get_ciphers()
    assert ciphers
    for each in ciphers:
        assert each["protocol"] in ("TLSv1.2", "TLSv1.3")
        assert each["name"].startswith(("TLS_", "ECDHE-", "DHE-")), each[
            "name"
        ]  # the exchange of keys is ephemeral
        assert each["strength_bits"] >= 128
        assert not re.search(r"NULL|RC4|3DES|MD5|EXPORT|anon", each["description"]), each["name"]
    assert ciphers[0]["name"].startswith("TLS_AES_256_GCM")


def test_nobody_makes_tls_in_another_way() -> None:
    makers = {module for module, name in source.imported() if name == "ssl"}
    # The screen asks the front on this machine for its certificate, to show its fingerprint; nothing is said to it.
    assert makers == {"audit_feed", "cli/screen", "notify/posting", "notify/smtp", "tls"}
    for module, node in source.nodes():
        if isinstance(node, ast.Attribute):
            assert node.attr not in (
                "CERT_NONE",
                "CERT_OPTIONAL",
                "_create_unverified_context",
                "wrap_socket_old",
            ), module
        if isinstance(node, ast.keyword) and node.arg in ("verify", "check_hostname", "use_ssl"):
            assert ast.unparse(node.value) != "False", f"{module}: {ast.unparse(node.value)}"
        if isinstance(node, ast.Assign):
            assert not re.search(r"(check_hostname|verify_mode) = ", ast.unparse(node)), module
        assert source.called(node) != "ssl.SSLContext", module
