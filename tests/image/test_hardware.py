"""The drivers of a clinic's machine: which kernel the image has, and that what is left out of it is nothing that a box starts from.

Paths are those of Debian's kernel 6.12, as mkosi compares them (`kmod.py`: below `kernel/`, each expression searched for).
"""

from __future__ import annotations

import re

import pytest

from tests.image.test_configuration import BUILD, CONFIG, script

DRIVERS = {
    "the network": (
        "drivers/net/ethernet/intel/e1000e/e1000e.ko.xz",
        "drivers/net/ethernet/intel/igb/igb.ko.xz",
        "drivers/net/ethernet/intel/igc/igc.ko.xz",
        "drivers/net/ethernet/intel/ixgbe/ixgbe.ko.xz",
        "drivers/net/ethernet/intel/i40e/i40e.ko.xz",
        "drivers/net/ethernet/intel/ice/ice.ko.xz",
        "drivers/net/ethernet/realtek/r8169.ko.xz",
        "drivers/net/phy/realtek.ko.xz",
        "drivers/net/ethernet/broadcom/tg3.ko.xz",
        "drivers/net/ethernet/broadcom/bnxt/bnxt_en.ko.xz",
        "drivers/net/ethernet/aquantia/atlantic/atlantic.ko.xz",
        "drivers/net/ethernet/atheros/alx/alx.ko.xz",
        "drivers/net/usb/r8152.ko.xz",
        "drivers/net/usb/ax88179_178a.ko.xz",
        "drivers/net/virtio_net.ko.xz",
    ),
    "the disk": (
        "drivers/nvme/host/nvme.ko.xz",
        "drivers/nvme/host/nvme-core.ko.xz",
        "drivers/pci/controller/vmd.ko.xz",
        "drivers/ata/ahci.ko.xz",
        "drivers/ata/libahci.ko.xz",
        "drivers/scsi/sd_mod.ko.xz",
        "drivers/scsi/megaraid/megaraid_sas.ko.xz",
        "drivers/scsi/mpt3sas/mpt3sas.ko.xz",
        "drivers/mmc/core/mmc_block.ko.xz",
        "drivers/mmc/host/sdhci-pci.ko.xz",
        "drivers/md/dm-crypt.ko.xz",
        "drivers/md/dm-verity.ko.xz",
        "fs/ext4/ext4.ko.xz",
        "fs/fat/vfat.ko.xz",
    ),
    "a stick, a backup disk and a keyboard": (
        "drivers/usb/host/xhci-hcd.ko.xz",
        "drivers/usb/host/xhci-pci.ko.xz",
        "drivers/usb/host/ehci-pci.ko.xz",
        "drivers/usb/storage/usb-storage.ko.xz",
        "drivers/usb/storage/uas.ko.xz",
        "drivers/hid/usbhid/usbhid.ko.xz",
        "drivers/hid/hid-generic.ko.xz",
    ),
    "the TPM2": (
        "drivers/char/tpm/tpm.ko",  # these four are built in today
        "drivers/char/tpm/tpm_tis_core.ko",
        "drivers/char/tpm/tpm_tis.ko",
        "drivers/char/tpm/tpm_crb.ko",
        "drivers/char/tpm/tpm_tis_spi.ko.xz",
    ),
    "the watchdog": (
        "drivers/watchdog/iTCO_wdt.ko.xz",
        "drivers/watchdog/wdat_wdt.ko.xz",
        "drivers/watchdog/sp5100_tco.ko.xz",
        "drivers/watchdog/i6300esb.ko.xz",
    ),
}
ABSENT = (
    "sound/pci/hda/snd-hda-intel.ko.xz",
    "drivers/net/wireless/intel/iwlwifi/iwlwifi.ko.xz",
    "drivers/bluetooth/btusb.ko.xz",
    "drivers/firewire/firewire-ohci.ko.xz",
    "drivers/media/usb/uvc/uvcvideo.ko.xz",
    "net/sctp/sctp.ko.xz",
)
"""Some of what a box has no use for: the expressions do leave out."""


def left_out(path: str) -> bool:
    return re.search("|".join(CONFIG["KernelModulesExclude"]), path) is not None


def test_the_kernel_is_the_one_for_machines_and_not_for_clouds() -> None:
    asked = [each for each in CONFIG["Packages"] if each.startswith("linux-image")]
    assert asked == ["linux-image-amd64"], (
        "the cloud's has no driver of a disk, a network card or a watchdog that one can buy"
    )
    locked = [
        each
        for each in script("inventory").locked((BUILD / "packages.lock").read_text())
        if each.startswith("linux-image")
    ]
    assert "linux-image-amd64" in locked
    assert not [each for each in locked if "cloud" in each]


@pytest.mark.parametrize("of", DRIVERS)
def test_no_driver_that_a_clinics_machine_needs_is_left_out(of: str) -> None:
    assert not [each for each in DRIVERS[of] if left_out(each)]


def test_what_a_box_has_no_use_for_is_left_out() -> None:
    assert [each for each in ABSENT if not left_out(each)] == []


def test_what_opens_the_disk_is_there_before_the_root() -> None:
    """`default` is mkosi's own list: file systems, disks, USB and its hosts. TPM2, watchdog and keyboards are added to it."""
    assert CONFIG["KernelModulesInitrdExclude"] == [".*"], "what isn't named isn't there"
    included = CONFIG["KernelModulesInitrdInclude"]
    assert "default" in included
    named = "|".join(each for each in included if each != "default")
    early = [
        *DRIVERS["the TPM2"],
        *DRIVERS["the watchdog"],
        *(each for each in DRIVERS["a stick, a backup disk and a keyboard"] if "/hid/" in each),
    ]
    assert not [each for each in early if not re.search(named, each)]
