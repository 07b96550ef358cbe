"""What the firmware says of Secure Boot is read on the image, and nowhere else, and nothing hides it."""

from __future__ import annotations

from pathlib import Path

import pytest

from appliance import firmware
from appliance.model import SecureBoot
from tests.image.test_configuration import allowed
from tests.told_disk import told_disk

ROOT = Path(__file__).parents[1]


def variable(value: int) -> bytes:
    """As efivarfs gives one: attributes (boot service and runtime access), and a byte."""
    return b"\6\0\0\0" + bytes([value])


@pytest.fixture
def variables(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("SECURE_BOOT", "SETUP_MODE"):
        monkeypatch.setattr(firmware, name, tmp_path / name)
    return tmp_path


@pytest.mark.parametrize(
    ("secure_boot", "setup_mode", "found"),
    [
        (variable(1), variable(0), SecureBoot.ON),
        (variable(0), variable(0), SecureBoot.OFF),
        (variable(0), None, SecureBoot.OFF),
        (variable(0), variable(1), SecureBoot.WITHOUT_KEYS),
        (None, None, SecureBoot.UNKNOWN),
        (b"", variable(0), SecureBoot.UNKNOWN),
        (b"\6\0\0\0", variable(0), SecureBoot.UNKNOWN),
        (variable(7), variable(0), SecureBoot.UNKNOWN),
    ],
)
def test_what_the_firmware_says_is_known_on_the_image_alone(
    secure_boot: bytes | None, setup_mode: bytes | None, found: SecureBoot, variables: Path
) -> None:
    for name, data in (("SECURE_BOOT", secure_boot), ("SETUP_MODE", setup_mode)):
        if data is not None:
            (variables / name).write_bytes(data)
    with told_disk(variables / "disk") as root:
        assert firmware.secure_boot() is SecureBoot.UNKNOWN, "a Debian that somebody has installed"
        root.says("none")
        assert firmware.secure_boot() is found


@pytest.mark.parametrize("profile", ["appliance", "screen"])
@pytest.mark.parametrize(
    "path", [str(firmware.SECURE_BOOT), str(firmware.SETUP_MODE), "/run/appliance-disk/pin"]
)
def test_the_profiles_let_it_be_read(path: str, profile: str) -> None:
    assert "r" in allowed(path, profile)


def test_no_unit_hides_it() -> None:
    for unit in (ROOT / "systemd/system").glob("appliance-*.service"):
        text = unit.read_text()
        assert "/sys" not in text.replace("/systemd", ""), unit.name
