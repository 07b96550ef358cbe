"""What of the image's mounts OpenSCAP's rules ask: no program starts from /tmp, and nothing unneeded lies beside the kernel image."""

import configparser
from pathlib import Path

from tests.image.test_configuration import EXTRA, finish, unfinished


def test_no_program_starts_from_tmp() -> None:
    """Its other options are Debian's: without a size it would be as large as memory allows, without the mode nobody's but root's."""
    unit = configparser.ConfigParser(strict=False, interpolation=None)
    unit.read(EXTRA / "usr/lib/systemd/system/tmp.mount.d/appliance.conf")
    options = unit["Mount"]["Options"].split(",")
    assert {"nodev", "nosuid", "noexec", "mode=1777", "size=50%%"} <= set(options)


def test_what_the_kernels_package_lays_beside_it_is_not_copied_to_the_esp(tmp_path: Path) -> None:
    boot = unfinished(tmp_path) / "boot"
    boot.mkdir(exist_ok=True)
    for name in ("System.map-6.12", "vmlinuz-6.12", "config-6.12"):
        (boot / name).touch()
    finish(tmp_path)
    left = [each.name for each in boot.iterdir() if each.is_file()]
    assert left == ["config-6.12"], "which rules about the kernel's configuration read"
