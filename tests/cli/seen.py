"""The box's screen as somebody with a telephone reads it, held against the certificate that the box's front really serves.

`python -m tests.cli.seen FOLDER`, begun in a network of its own (`tests.networks.apart`), where the box has an address and port 443 is
free: says each promise once it is seen to be kept. The front's certificate is laid by the machine's own `tls-front`.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import re
import socket
import ssl
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import urlsplit

from appliance import certificates, identity
from appliance.box import Box, open_box
from appliance.cli import main
from appliance.config import Config
from tests.cli import qr
from tests.cli.conftest import PASSWORD
from tests.networks import run

ROOT = Path(__file__).parents[2]
ADDRESS = "192.168.77.1"


@contextmanager
def front(folder: Path) -> Iterator[None]:
    """What browsers meet at port 443, with the certificate that `tls-front` lays for it at this moment."""
    text = (ROOT / "systemd/libexec/tls-front").read_text()
    for place, here in (
        ("/var/lib/appliance/tls/server.pem", folder / "box/tls/server.pem"),
        ("/run/tls-front/server.pem", folder / "server.pem"),
    ):
        assert place in text
        text = text.replace(place, str(here))
    (folder / "server.pem").unlink(missing_ok=True)
    subprocess.run(["sh", "-c", text], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "server.pem")
    with socket.create_server(("", 443)) as listening:

        def serve() -> None:
            with contextlib.suppress(OSError):
                while True:
                    caller, _ = listening.accept()
                    with (
                        caller,
                        contextlib.suppress(OSError),
                        context.wrap_socket(caller, server_side=True) as talk,
                    ):
                        talk.recv(1)

        serving = threading.Thread(target=serve, daemon=True)
        serving.start()
        try:
            yield
        finally:
            listening.shutdown(socket.SHUT_RDWR)
            serving.join()


def screen() -> list[str]:
    """What stands on it."""
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        assert main(["screen"]) == 0
    return printed.getvalue().splitlines()


def photographed(lines: list[str]) -> str:
    """What a telephone reads off it."""
    return qr.text_of(qr.on_screen([each for each in lines if set(each) & set("▀▄█")]))


def served(address: str) -> list[bytes]:
    """The certificates that whoever follows `address` is shown, the server's own first, in DER."""
    place = urlsplit(address)
    assert place.scheme == "https" and place.hostname is not None
    done = subprocess.run(
        ["openssl", "s_client", "-connect", f"{place.hostname}:{place.port or 443}", "-showcerts"],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    found = re.findall(r"-----BEGIN CERTIFICATE-----.*?-----END CERTIFICATE-----", done.stdout, re.DOTALL)
    return [ssl.PEM_cert_to_DER_cert(each) for each in found]


def trusted(address: str, authority: bytes) -> bool:
    """Whether a browser that trusts `authority` and nothing else shows a padlock at `address`."""
    context = ssl.create_default_context(cadata=authority)
    host = str(urlsplit(address).hostname)
    with (
        socket.create_connection((host, 443)) as plain,
        context.wrap_socket(plain, server_hostname=host) as talk,
    ):
        return bool(talk.getpeercert())


def tell(folder: Path) -> None:
    """Set up a box in `folder`, and read its screen at each stage of its life."""
    os.environ["APPLIANCE_DATA"] = str(folder / "box")
    run("ip", "link", "set", "lo", "up")
    run("ip", "address", "add", f"{ADDRESS}/24", "dev", "lo")
    with closing(open_box(Config(data=folder / "box"))) as box:
        with front(folder):
            lines = screen()
            assert photographed(lines) == f"https://{ADDRESS}", "and the text says the same:"
            assert f"  Console      https://{ADDRESS}" in lines
            (own,) = served(photographed(lines))
            at = next(at for at, line in enumerate(lines) if "Certificate" in line)
            words = lines[at].partition("Certificate")[2].partition(";")[0].strip()
            assert words == certificates.in_words(hashlib.sha256(own).digest())
            shown = "".join(line.strip() for line in lines[at + 1 : at + 3])
            assert shown == hashlib.sha256(own).digest().hex(":").upper()
        print(
            "a new box: the picture leads to it, and the fingerprint, in words and digits, is that of what it serves there"
        )

        code = re.search(r"Claim code +([0-9A-Z]{4}-[0-9A-Z]{4}) ", "\n".join(lines))
        assert code is not None
        claim(box, code[1])
        assert not any("Claim code" in line for line in screen())
        print("the claim code claims it, and is gone")

        with box.catalog.transaction() as tx:
            certificates.install(
                tx,
                box,
                host_name="clinicbox",
                clinic="Clinique du Lac",
                addresses=certificates.own_addresses(),
                now=datetime.now(UTC),
            )
        certificates.write_files(box)
        with front(folder):
            lines = screen()
            chain = served(photographed(lines))
            assert len(chain) == 2
            words = next(line for line in lines if "Authority" in line).split(maxsplit=1)[1]
            assert words == certificates.in_words(hashlib.sha256(chain[-1]).digest())
            assert len(words.split()) == 6
            assert not any("SHA-256" in line for line in lines)
            assert trusted(photographed(lines), chain[-1])
        print(
            "with the clinic's certificate the words are its authority's, which a browser then trusts for that address"
        )


def claim(box: Box, code: str) -> None:
    """As the first page of the console does it."""
    with box.catalog.transaction() as tx:
        who = {"login": "olivia", "name": "Olivia Roy", "password": PASSWORD, "language": "fr"}
        found = identity.redeem(tx, box.root, code, now=datetime.now(UTC), **who)
    assert isinstance(found, identity.Owner)


if __name__ == "__main__":
    tell(Path(sys.argv[1]))
