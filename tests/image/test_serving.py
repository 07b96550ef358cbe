"""The server that machines take updates from, by its name: what it needs of a box, done in a namespace of mounts of its own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.image.serving import NAME, Shop, shop
from tests.image.updates import BELIEVE, KNOW_NAME, OVERLAID

FETCH = f"""
import http.client, socket, ssl, sys
context = ssl.create_default_context()
with socket.create_connection(("127.0.0.1", int(sys.argv[1]))) as plain:
    try:
        with context.wrap_socket(plain, server_hostname="{NAME}") as line:
            line.sendall(b"GET /SHA256SUMS HTTP/1.0\\r\\nHost: {NAME}\\r\\n\\r\\n")
            print(b"".join(iter(lambda: line.recv(4096), b"")).decode())
    except ssl.SSLCertVerificationError:
        print("not believed")
"""
_WAYS = (("unshare", "--mount", "--"), ("unshare", "--user", "--map-root-user", "--mount", "--"))


@pytest.fixture
def mounts() -> list[str]:
    """The beginning of a command whose mounts are its own."""
    for way in _WAYS:
        if subprocess.run([*way, "true"], capture_output=True, check=False).returncode == 0:
            return list(way)
    raise AssertionError("nobody may make a namespace of mounts here: run the tests as root")


@pytest.fixture
def offers(tmp_path: Path) -> Shop:
    folder = tmp_path / "offered"
    folder.mkdir()
    (folder / "SHA256SUMS").write_text("what was signed")
    return Shop(folder=folder)


def within(mounts: list[str], script: str, folder: Path, *words: str) -> str:
    """What the script prints whose place in `/run` is `folder`."""
    text = script.replace(OVERLAID, str(folder))
    done = subprocess.run(
        [*mounts, "sh", "-c", text, "sh", *words], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_who_believes_its_authority_has_what_lies_there_and_nobody_else(
    mounts: list[str], offers: Shop, tmp_path: Path
) -> None:
    fetch = 'SSL_CERT_DIR=/etc/ssl/certs SSL_CERT_FILE=/dev/null "$@"\n'
    with shop() as found:
        found.folder = offers.folder
        asks = (sys.executable, "-I", "-c", FETCH, str(found.named_port))
        assert within(mounts, fetch, tmp_path / "named", *asks) == "not believed\n"
        assert found.hosts == set()
        believe = BELIEVE.format(authority=found.authority)
        said = within(mounts, believe + fetch, tmp_path / "named", *asks)
        assert said.endswith("what was signed\n")
        assert found.hosts == {NAME}
        assert within(mounts, fetch, tmp_path / "named", *asks) == "not believed\n", (
            "what was laid over is gone with it"
        )
    given = {each.name for each in Path("/etc/ssl/certs").iterdir()}
    laid = {each.name for each in (tmp_path / "named/certs").iterdir()}
    assert given < laid and len(laid - given) == 1, "beside those that Debian believes"


def test_the_resolver_knows_the_name_and_nobody_else(mounts: list[str], tmp_path: Path) -> None:
    with subprocess.Popen([*mounts, "sleep", "infinity"]) as resolver:
        try:
            asked = "systemctl show --value -p MainPID systemd-resolved.service"
            assert asked in KNOW_NAME
            look = f"getent hosts {NAME} || echo unknown\n"
            known = KNOW_NAME.replace(asked, f"echo {resolver.pid}")
            elsewhere = within(mounts, known + look, tmp_path / "named")
            there = f"nsenter --mount --target {resolver.pid} sh -c '{look}'"
            assert within([], there, tmp_path / "named").split() == ["10.0.2.100", NAME]
            assert elsewhere == "unknown\n"
        finally:
            resolver.kill()
