"""`appliance screen`: what stands on the box's own screen, and what no longer does once it has an owner."""

import re
from pathlib import Path

import pytest

from appliance import certificates
from appliance.cli import screen
from appliance.cli.screen import Screen
from tests.cli.conftest import Say, account

RECOVERY = "cbcdefgh-ijklnrtu-vcbcdefg-hijklnrt-uvcbcdef-ghijklnr-tuvcbcde-fghijkln"


def shown(**more: object) -> Screen:
    values: dict[str, object] = {
        "addresses": ("192.0.2.7", "fd00::7"),
        "ae_title": "CLINICBOX",
        "dicom_port": 11112,
        "claim_code": "ABCD-EFGH",
        "authority_words": "",
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
    for address in certificates.own_addresses()[:1]:
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
    fullest = shown(certificate=":".join(["AB"] * 32), disk_recovery=RECOVERY)
    lines = fullest.lines()
    assert max(map(len, lines)) <= 80
    assert "".join(each.strip() for each in lines if re.fullmatch(r" {15}[a-z-]+", each)) == RECOVERY
    assert len(shown(authority_words="babab dobob zuzuz lalal mumum titit", claim_code=None).lines()) <= 25


def test_the_fingerprint_is_whole() -> None:
    fingerprint = ":".join(f"{each:02X}" for each in range(32))
    text = "".join(line.strip() for line in shown(certificate=fingerprint).lines())
    assert fingerprint in text


def test_without_a_cable_it_says_so() -> None:
    lines = shown(addresses=()).lines()
    assert any("network cable" in line for line in lines)
    assert not any("https" in line for line in lines)


def test_an_address_of_ipv6_stands_in_brackets() -> None:
    assert "  Console      https://[fd00::7]" in shown().lines()


def test_without_a_front_there_is_no_fingerprint_to_compare(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(screen, "FRONT_PORT", 9)
    assert screen._front_certificate() == ""


def test_a_box_that_its_machine_cannot_open_says_where_to_type_the_key() -> None:
    lines = screen.locked_lines()
    assert all(len(line) <= 80 for line in lines)
    assert "needs its recovery key" in "\n".join(lines)
    for address in certificates.own_addresses()[:1]:
        assert any(f"https://{address}" in line for line in lines)
