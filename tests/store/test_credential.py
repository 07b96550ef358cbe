"""What a sealed credential says of its key: whether a TPM2 is needed to open it."""

from __future__ import annotations

import base64
import subprocess
from pathlib import Path

import pytest

from appliance.store import credential, keys
from tests.seals import SEALED, sealed_with

SCOPED = {
    "host, for one user": "55b9ed1d38594d43a8319d2ebb332ac6",
    "host and TPM2, for one user": "ef4ac13679a9480ea7db68897f9f165d",
    "host and signed TPM2, for one user": "adbc4ca3efb64201ba881b6f2e4095ea",
}


@pytest.mark.parametrize("key", SEALED)
def test_each_key_type_that_systemd_makes_is_told(key: str) -> None:
    assert credential.is_by_tpm2(SEALED[key].encode()) == ("tpm2" in key)


@pytest.mark.parametrize("key", SCOPED)
def test_those_of_a_user_are_told_too(key: str) -> None:
    sealed = base64.encodebytes(bytes.fromhex(SCOPED[key]) + bytes(60))
    assert credential.is_by_tpm2(sealed) == ("TPM2" in key)


@pytest.mark.parametrize(
    "sealed",
    [
        b"",
        b"DHzAexF2RZGcSwvq",
        b"no base64 at all, but long enough",
        bytes(64),
        base64.b64encode(bytes(64)),
        base64.b64decode(SEALED["tpm2"]),
    ],
)
def test_what_is_not_known_is_no_tpm2s(sealed: bytes) -> None:
    assert not credential.is_by_tpm2(sealed)


def test_one_that_is_broken_into_lines_is_read() -> None:
    short_lines = "\n".join(SEALED["tpm2"].replace("\n", "")[at : at + 5] for at in range(0, 60, 5))
    assert credential.is_by_tpm2(short_lines.encode())


def test_one_that_this_machines_systemd_makes_without_a_tpm2_is_told(tmp_path: Path) -> None:
    """Without the host's key, because a test must not make one for the machine that it runs on."""
    sealed = tmp_path / "sealed"
    asked = ("systemd-creds", "encrypt", f"--name={keys.CREDENTIAL}", "--with-key=tpm2-absent", "-", sealed)
    subprocess.run(asked, input=bytes(32), capture_output=True, check=True)
    assert base64.b64decode(sealed.read_bytes())[:16] == base64.b64decode(SEALED["null"])[:16]
    assert not credential.is_by_tpm2(sealed.read_bytes())


@pytest.mark.parametrize(
    ("key", "kind", "words"),
    [
        ("tpm2", "tpm2", "only this machine's TPM2"),
        ("host+tpm2", "tpm2", "only this machine's TPM2"),
        ("host", "host", "whoever has this disk"),
        ("null", "host", "whoever has this disk"),
        (None, "host", "whoever has this disk"),
    ],
)
def test_a_seal_is_called_the_tpm2s_only_if_it_is(
    directory: Path, tmp_path: Path, key: str | None, kind: str, words: str
) -> None:
    environ = sealed_with(key, tmp_path / "credentials")
    root = keys.create_keys(directory, environ)
    seal = keys.machine_seal(directory, environ)
    assert seal.kind == kind
    assert words in seal.describe()
    keys.rotate(directory, root, environ)
    assert keys.open_keys(directory, environ) == root
    assert not (directory / "machine.key").exists()


def test_a_box_that_was_sealed_before_the_key_was_told_needs_no_new_seal(
    directory: Path, tmp_path: Path
) -> None:
    root = keys.create_keys(directory, sealed_with(None, tmp_path / "credentials"))
    lies = {each.name: each.read_bytes() for each in directory.iterdir()}
    environ = sealed_with("host+tpm2", tmp_path / "credentials")
    assert keys.open_keys(directory, environ) == root
    assert keys.machine_seal(directory, environ).kind == "tpm2"
    assert {each.name: each.read_bytes() for each in directory.iterdir()} == lies


def test_a_box_opens_where_what_says_the_key_cannot_be_read(directory: Path, tmp_path: Path) -> None:
    environ = sealed_with(None, tmp_path / "credentials")
    (tmp_path / "credentials" / keys.SEALED_CREDENTIAL).mkdir()
    root = keys.create_keys(directory, environ)
    assert keys.open_keys(directory, environ) == root
    assert keys.machine_seal(directory, environ).kind == "host"
