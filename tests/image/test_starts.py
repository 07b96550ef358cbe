"""What `tests.image.starts` alters in a kernel image, and what it asks of the image that was built, without a machine."""

import re
import subprocess
from pathlib import Path

import pytest

from tests.image import starts
from tests.image.machine import Hardware
from tests.image.starts import flipped, laid_in, section_at, taken_out, unsigned
from tests.image.test_configuration import BUILD, CONFIG, EXTRA, settings

HEADERS, SIGNATURE = 0x400, b"signed" * 100


def signed_image() -> bytes:
    """As the linker and sbsign lay them out: headers, two sections, and a table of certificates at the end."""
    sections = {".cmdline": b"roothash=00 ro", ".linux": bytes(range(256)) * 8}
    pe = 0x80
    head = bytearray(HEADERS)
    head[:2], head[0x3C:0x40] = b"MZ", pe.to_bytes(4, "little")
    head[pe : pe + 4] = b"PE\0\0"
    head[pe + 6 : pe + 8] = len(sections).to_bytes(2, "little")
    head[pe + 20 : pe + 22] = (112 + 16 * 8).to_bytes(2, "little")
    body, table = b"", pe + 24 + 112 + 16 * 8
    for number, (name, data) in enumerate(sections.items()):
        entry = table + 40 * number
        head[entry : entry + 8] = name.encode().ljust(8, b"\0")
        head[entry + 8 : entry + 12] = len(data).to_bytes(4, "little")
        padded = data.ljust(-(-len(data) // 512) * 512, b"\0")
        head[entry + 16 : entry + 20] = len(padded).to_bytes(4, "little")
        head[entry + 20 : entry + 24] = (HEADERS + len(body)).to_bytes(4, "little")
        body += padded
    certificates = pe + 24 + 112 + 4 * 8
    head[certificates : certificates + 4] = (HEADERS + len(body)).to_bytes(4, "little")
    head[certificates + 4 : certificates + 8] = len(SIGNATURE).to_bytes(4, "little")
    return bytes(head) + body + SIGNATURE


@pytest.mark.parametrize("name", [".cmdline", ".linux"])
def test_one_bit_of_a_section_is_another_and_the_signature_stays(name: str) -> None:
    whole = signed_image()
    altered = flipped(whole, name)
    (at,) = (each for each in range(len(whole)) if whole[each] != altered[each])
    begin, size = section_at(whole, name)
    assert begin <= at < begin + size
    assert (whole[at] ^ altered[at]).bit_count() == 1
    assert altered.endswith(SIGNATURE)


def test_without_its_signature_nothing_else_is_missing() -> None:
    whole = signed_image()
    bare = unsigned(whole)
    assert SIGNATURE not in bare
    assert len(bare) == len(whole) - len(SIGNATURE)
    assert sum(one != other for one, other in zip(whole, bare, strict=False)) <= 8, (
        "where the table is, and its length"
    )
    with pytest.raises(ValueError, match="nobody has signed"):
        unsigned(bare)


def test_what_is_no_kernel_image_is_said() -> None:
    with pytest.raises(ValueError, match="not a PE file"):
        section_at(bytes(512), ".linux")
    with pytest.raises(ValueError, match=r"no section \.initrd"):
        section_at(signed_image(), ".initrd")


def test_an_altered_image_is_laid_over_the_one_on_the_esp(tmp_path: Path) -> None:
    hardware = Hardware(tmp_path)
    with hardware.disk.open("wb") as disk:
        disk.truncate(40 << 20)
    subprocess.run(["mkfs.vfat", "--offset=2048", str(hardware.disk)], check=True, stdout=subprocess.DEVNULL)
    subprocess.run(["mmd", "-i", f"{hardware.disk}@@1M", "::/EFI", "::/EFI/Linux"], check=True)
    place = f"{starts.KERNELS}/appliance_0.1.0.efi"
    for data in (signed_image(), flipped(signed_image(), ".linux")):
        laid_in(hardware, place, data)
        assert taken_out(hardware, place) == data


def test_a_twin_has_the_disk_the_variables_and_the_chip_and_shares_none(tmp_path: Path) -> None:
    hardware = Hardware(tmp_path)
    hardware.disk.write_bytes(b"disk")
    (tmp_path / "vars.fd").write_bytes(b"keys")
    hardware.new_tpm()
    (tmp_path / "tpm/state").write_bytes(b"chip")
    twin = hardware.twin("cut")
    for name in ("disk.raw", "vars.fd", "tpm/state"):
        assert (twin.folder / name).read_bytes() == (tmp_path / name).read_bytes()
        (twin.folder / name).write_bytes(b"other")
        assert (tmp_path / name).read_bytes() != b"other"


def test_the_points_of_a_cut_are_those_that_a_start_passes_in_this_order() -> None:
    """Lines of a serial line, with the control characters of the screen that stand in them."""
    said = (
        "EFI stub: UEFI Secure Boot is enabled.",
        "\x1b[0;1;39mWelcome to \x1b[0m\x1b[1mDebian GNU/Linux 13 (trixie)\x1b[0m\x1b[0;1;39m!\x1b[0m",
        "[\x1b[0;32m  OK  \x1b[0m] Mounted \x1b[0;1;39mvar.mount\x1b[0m - /var.",
        "         Starting \x1b[0;1;39mappliance-web.service\x1b[0m - Show the console...",
    )
    for number, (_, word) in enumerate(starts.CUTS):
        assert [bool(re.search(word, line)) for line in said] == [
            other == number for other in range(len(said))
        ]


def test_the_watchdogs_of_boxes_are_in_the_image_and_the_first_process_holds_one() -> None:
    """Intel's chipset (iTCO_wdt, which lpc_ich or i2c-i801 finds), AMD's (sp5100_tco) and the firmware's own (wdat_wdt)."""
    for path in (
        "drivers/watchdog/iTCO_wdt.ko",
        "drivers/watchdog/sp5100_tco.ko",
        "drivers/watchdog/wdat_wdt.ko",
        "drivers/mfd/lpc_ich.ko",
        "drivers/i2c/busses/i2c-i801.ko",
    ):
        assert not any(re.search(each, path) for each in CONFIG["KernelModulesExclude"]), path
        assert any(re.search(each, path) for each in CONFIG["KernelModulesInitrdInclude"]), path
    conf = "usr/lib/systemd/system.conf.d/appliance.conf"
    assert (EXTRA / conf).read_bytes() == (BUILD / "on-failure" / conf).read_bytes(), (
        "before its root is there, too"
    )
    manager = settings(EXTRA / conf)
    assert manager["RuntimeWatchdogSec"] == ["120s"], "as `hang` has the kernel say it"
