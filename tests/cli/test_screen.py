"""`appliance screen`: what stands on the box's own screen, and what no longer does once it has an owner."""

import json
import os
import re
import socket
import subprocess
import sys
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from appliance import certificates, firmware
from appliance.cli import screen
from appliance.cli.screen import Screen
from tests.cli import qr
from tests.cli.conftest import Say, account
from tests.networks import apart
from tests.told_disk import told_disk

ROOT = Path(__file__).parents[2]
FIREWALL = ROOT / "provisioning/roles/firewall/defaults/main.yml"
WORDS = "babab dobob zuzuz lalal mumum titit"
RECOVERY = "cbcdefgh-ijklnrtu-vcbcdefg-hijklnrt-uvcbcdef-ghijklnr-tuvcbcde-fghijkln"


def shown(**more: object) -> Screen:
    values: dict[str, object] = {
        "addresses": ("192.0.2.7", "fd00::7"),
        "ae_title": "CLINICBOX",
        "dicom_port": 11112,
        "claim_code": "ABCD-EFGH",
        "authority_words": "",
        "certificate_words": "",
        "certificate": "",
        "disk_recovery": "",
    }
    return Screen(**{**values, **more})  # type: ignore[arg-type]


def test_a_new_box_says_where_it_is_and_how_to_own_it(say: Say) -> None:
    said = say("screen")
    assert said.code == 0
    code = re.search(r"Claim code +([0-9A-Z]{4}-[0-9A-Z]{4}) ", said.out)
    assert code is not None
    assert say("screen").out == said.out, "looking makes no other code"
    for address in certificates.console_addresses()[:1]:
        assert f"https://{address}" in said.out


def test_an_owned_box_shows_neither_a_claim_code_nor_the_key_of_its_disk(
    say: Say, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "disk-recovery").write_text(RECOVERY + "\n")
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    half = RECOVERY[: len(RECOVERY) // 2]
    assert half in say("screen").out
    account(say, "olivia", role="owner")
    said = say("screen").out
    assert "Claim code" not in said
    assert half not in said
    assert RECOVERY[-8:] not in said


def test_it_fits_on_a_screen_of_80_columns_and_that_of_an_owned_box_on_25_lines() -> None:
    fullest = shown(certificate_words=WORDS, certificate=":".join(["AB"] * 32), disk_recovery=RECOVERY)
    lines = fullest.lines()
    assert max(map(len, lines)) <= 80
    assert "".join(each.strip() for each in lines if re.fullmatch(r" {15}[a-z-]+", each)) == RECOVERY
    assert len(shown(authority_words=WORDS, claim_code=None).lines()) <= 25
    unclaimed = shown(certificate_words=WORDS, certificate=":".join(["AB"] * 32))
    assert len(unclaimed.lines()) <= 25, "with words and digits, and the picture"


def test_the_fingerprint_is_whole() -> None:
    fingerprint = ":".join(f"{each:02X}" for each in range(32))
    lines = shown(certificate_words=WORDS, certificate=fingerprint).lines()
    at = next(at for at, line in enumerate(lines) if "Certificate" in line)
    assert WORDS in lines[at], "to be said aloud"
    assert lines[at + 1].strip() + lines[at + 2].strip() == fingerprint, "no browser shows words"


def test_without_a_cable_it_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    for lines in (shown(addresses=()).lines(), locked_without_an_address(monkeypatch)):
        said = " ".join(" ".join(lines).split())
        assert "is the network cable in, and does the router give addresses (DHCP)?" in said
        assert "le câble est-il branché, et le routeur en donne-t-il (DHCP)?" in said
        assert max(map(len, lines)) <= 80
        "".join(lines).encode("cp437")  # or the font of the screen has not all of it
        assert not any("https" in line for line in lines)


def locked_without_an_address(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    monkeypatch.setattr(certificates, "own_addresses", lambda: ())
    return screen.locked_lines()


def test_an_address_that_the_firewall_answers_nobody_at_is_not_shown(
    monkeypatch: pytest.MonkeyPatch, say: Say
) -> None:
    """A router of the clinic that hands out public addresses of IPv6 gives the box one, too."""
    lan6 = re.search(r"^firewall_lan6: (.*)$", FIREWALL.read_text(), re.MULTILINE)
    assert lan6 is not None
    inside = [ip_network(each) for each in json.loads(lan6[1])]
    found = ("192.168.1.20", "2001:db8:1::20", "fd00:7::20")
    monkeypatch.setattr(certificates, "own_addresses", lambda: found)
    told = certificates.console_addresses()
    assert told == ("192.168.1.20", "fd00:7::20")
    assert all(any(ip_address(each) in network for network in inside) for each in told if ":" in each)
    for shows in ("\n".join(screen.locked_lines()), say("screen").out):
        assert "https://[fd00:7::20]" in shows
        assert "2001:db8" not in shows
    monkeypatch.setattr(certificates, "own_addresses", lambda: found[1:2])
    assert "DHCP" in say("screen").out
    monkeypatch.setattr(certificates, "own_addresses", lambda: ("203.0.113.20",))
    assert "https://203.0.113.20" in say("screen").out, (
        "a clinic whose own network is public says so to its firewall"
    )


def test_an_address_of_ipv6_stands_in_brackets() -> None:
    assert "  Console      https://[fd00::7]" in shown().lines()


def test_without_a_front_there_is_no_fingerprint_to_compare(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(screen, "FRONT_PORT", 9)
    assert screen._front_certificate() == b""


def test_a_box_that_its_machine_cannot_open_says_where_to_type_the_key() -> None:
    lines = screen.locked_lines()
    assert all(len(line) <= 80 for line in lines)
    assert "needs its recovery key" in "\n".join(lines)
    for address in certificates.console_addresses()[:1]:
        assert any(f"https://{address}" in line for line in lines)


@settings(max_examples=25)
@given(st.ip_addresses())
def test_a_telephone_reads_the_address_off_the_picture(address: IPv4Address | IPv6Address) -> None:
    host = f"[{address}]" if address.version == 6 else str(address)
    lines = shown(addresses=(str(address),)).lines()
    picture = lines[lines.index(next(line for line in lines if set(line) == {"█"})) :]
    assert qr.text_of(qr.on_screen(picture)) == f"https://{host}"


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_what_stands_on_the_screen_is_what_the_box_serves(tmp_path: Path) -> None:
    """In a network of its own, where the box has an address and port 443."""
    story = [sys.executable, "-m", "tests.cli.seen", str(tmp_path)]
    told = subprocess.run([*apart(), *story], cwd=ROOT, capture_output=True, text=True, check=False)
    assert told.returncode == 0, told.stdout + told.stderr[-5000:]
    assert told.stdout.splitlines() == [
        "a new box: the picture leads to it, and the fingerprint, in words and digits, is that of what it serves there",
        "the claim code claims it, and is gone",
        "with the clinic's certificate the words are its authority's, which a browser then trusts for that address",
    ]


def test_the_key_of_the_disk_stands_there_again_while_it_is_asked_for(
    say: Say, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever has lost the paper with it stands before the box, as on its first day; `appliance.disk_key` says for how long."""
    (tmp_path / "disk-recovery").write_text(RECOVERY + "\n")
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    account(say, "olivia", role="owner")
    assert RECOVERY[-8:] not in say("screen").out
    with told_disk(tmp_path / "told") as root:
        root.says("none")
        assert say("pin", "show-key").code == 0
        said = say("screen").out
        assert "".join(re.findall(r"^ {15}([a-z-]+)$", said, re.MULTILINE)) == RECOVERY
        assert "Claim code" not in said
        assert len(said.splitlines()) <= 25
        assert say("pin", "hide-key").code == 0
        assert RECOVERY[-8:] not in say("screen").out


def test_secure_boot_that_is_off_stands_beside_the_name(
    say: Say, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On one line: a new box needs all 25."""
    monkeypatch.setattr(firmware, "SECURE_BOOT", tmp_path / "SecureBoot")
    (tmp_path / "SecureBoot").write_bytes(b"\6\0\0\0\0")
    assert "Secure Boot" not in say("screen").out, "no image"
    with told_disk(tmp_path / "told") as root:
        root.says("none")
        said = say("screen").out
        assert "Secure Boot is off" in say("status").out
        (tmp_path / "SecureBoot").write_bytes(b"\6\0\0\0\1")
        assert said.splitlines()[1:] == say("screen").out.splitlines()[1:]
    first = said.splitlines()[0]
    assert "Secure Boot is OFF / est désactivé" in first
    assert len(first) <= 80 and first.encode("cp437")


def test_it_loads_little_of_the_product(data_dir: Path) -> None:
    """It runs on every box day and night, in walls for what it shows; what works on pictures, pages and networks is none of that."""
    program = "import sys; from appliance.cli.command import main; main(['screen'])"
    whole = [sys.executable, "-X", "importtime", "-c", program]
    told = subprocess.run(
        whole,
        env={**os.environ, "APPLIANCE_DATA": str(data_dir)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert "Claim code" in told.stdout, told.stderr[-2000:]
    loaded = {line.rsplit("|", 1)[1].strip() for line in told.stderr.splitlines() if "|" in line}
    assert "appliance.cli.screen" in loaded
    assert not {"numpy", "flask", "boto3", "pynetdicom", "appliance.health"} & loaded


def test_a_screen_that_goes_on_says_so_each_time_it_looks_and_first_that_it_is_ready(
    tmp_path: Path, data_dir: Path
) -> None:
    """Or its watchdog would end it, or nobody one that hangs: who is silent is started anew by systemd."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as ear:
        ear.bind(str(tmp_path / "notify"))
        ear.settimeout(60)
        unit = {"APPLIANCE_DATA": str(data_dir), "NOTIFY_SOCKET": ear.getsockname()}
        follows = subprocess.Popen(
            [sys.executable, "-m", "appliance", "screen", "--follow"],
            env=os.environ | unit,
            stdout=subprocess.DEVNULL,
        )
        try:
            said = [ear.recv(200) for _ in range(3)]
        finally:
            follows.kill()
            follows.wait()
    assert said == [b"READY=1\nSTATUS=the box's own screen", b"WATCHDOG=1", b"WATCHDOG=1"]


def test_a_look_takes_a_fraction_of_the_time_after_which_the_screen_is_started_anew() -> None:
    unit = (ROOT / "image-build/mkosi.extra/usr/lib/systemd/system/screen.service").read_text().splitlines()
    assert "Type=notify" in unit
    (patience,) = (int(line.partition("=")[2]) for line in unit if line.startswith("WatchdogSec="))
    assert patience > 10 * screen.LOOK_SECONDS
