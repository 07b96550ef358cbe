"""What lays the certificate where the front reads it: root, out of a folder in which the appliance writes."""

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.systemd.test_units import FRONT, SYSTEM, UNITS

SELF_MADE = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=box -keyout {0} -out {1}"


@pytest.fixture
def places(tmp_path: Path) -> tuple[Path, Path, Callable[[], subprocess.CompletedProcess[str]]]:
    """The clinic's file, the front's, and what lays the one as the other."""
    script = (UNITS / "libexec/tls-front").read_text()
    clinic, front = tmp_path / "server.pem", tmp_path / "front.pem"
    for name, place in (("/var/lib/appliance/tls/server.pem", clinic), ("/run/tls-front/server.pem", front)):
        assert name in script
        script = script.replace(name, str(place))
    (tmp_path / "tls-front").write_text(script)
    words = ["sh", str(tmp_path / "tls-front")]
    return (
        clinic,
        front,
        lambda: subprocess.run(words, capture_output=True, text=True, check=True, timeout=60),
    )


def pair(folder: Path, name: str) -> tuple[str, str]:
    """A private key and its certificate, in PEM."""
    key, certificate = folder / f"{name}.key", folder / f"{name}.crt"
    subprocess.run(SELF_MADE.format(key, certificate).split(), check=True, capture_output=True)
    return key.read_text(), certificate.read_text()


def test_the_front_reads_the_certificate_by_its_group_and_nobody_else_does(places, tmp_path: Path) -> None:
    unit = (SYSTEM / "tls-front.service").read_text()
    assert "Group=www-data\n" in unit
    assert "RuntimeDirectoryMode=0750\n" in unit
    assert "User=www-data\nGroup=www-data\n" in FRONT.read_text()
    clinic, front, lay = places
    lay()
    made = front.read_text()
    assert (front.stat().st_mode & 0o777, "BEGIN CERTIFICATE" in made) == (0o640, True)
    key, certificate = pair(tmp_path, "clinic")
    authority = pair(tmp_path, "authority")[1]
    clinic.write_text(key + certificate + authority)
    clinic.chmod(0o600)
    lay()
    assert (front.stat().st_mode & 0o777, front.read_text()) == (0o640, key + certificate + authority)


def test_no_other_file_comes_before_the_front_by_a_link_and_none_that_would_stop_it(
    places, tmp_path: Path
) -> None:
    """Who has taken over the appliance must not read by root's hand what it can't read, nor take the console off the network."""
    clinic, front, lay = places
    secret = tmp_path / "secret"
    key, certificate = pair(tmp_path, "clinic")
    secret.write_text(key + certificate)
    lay()
    made = front.read_text()

    def is_kept(before: str) -> None:
        for laid in (True, False):  # while the front has one, and at a start
            if not laid:
                front.unlink()
            said = lay().stderr
            assert front.read_text().count("BEGIN CERTIFICATE") == 1
            assert (front.read_text() == before) is laid
            assert "the clinic's certificate is none with its key" in said

    clinic.symlink_to(secret)
    is_kept(made)
    clinic.unlink()
    other, _ = pair(tmp_path, "other")
    for text in ("the clinic's own", key, certificate, other + certificate, ""):
        clinic.write_text(text)
        is_kept(front.read_text())
    clinic.unlink()
    os.mkfifo(clinic)
    is_kept(front.read_text())


def test_what_reads_as_root_sees_no_key_of_the_machine() -> None:
    unit = (SYSTEM / "tls-front.service").read_text()
    assert "InaccessiblePaths=-/var/lib/disk-recovery -/var/lib/machine-seal\n" in unit
