"""Makes a stick that was named for it (label ``BOXBACKUP``), and holds nothing, a disk for backups: ext4, the appliance's own.

Chose ext4 alone for backups, because what a backup promises rests on it: a rename that is whole or has not happened, a file that is
there once it was synced, owners and modes. FAT and exFAT have none of these, and a clinic's computer makes nothing else; so
the box makes the file system itself. Rejected to ask in the console: whoever may touch the box has named the stick, and only what is
empty is written over. Files that other systems leave on an empty stick by themselves count for nothing.
"""

import os
import subprocess
import sys

FOLDER = "/run/backup-disk"
LABEL = "BOXBACKUP"
LEFT_BY_OTHERS = frozenset(
    {"System Volume Information", "$RECYCLE.BIN", ".Spotlight-V100", ".Trashes", ".fseventsd", "._.Trashes"}
)


def main() -> int:
    """Look into the device that is named; make it a disk for backups if it is empty. What holds anything is left as it is."""
    device = sys.argv[1]
    os.makedirs(FOLDER, mode=0o700, exist_ok=True)
    options = "ro,nodev,nosuid,noexec"
    subprocess.run(["mount", "-t", "vfat,exfat", "-o", options, device, FOLDER], check=True)
    try:
        found = set(os.listdir(FOLDER)) - LEFT_BY_OTHERS
    finally:
        subprocess.run(["umount", FOLDER], check=True)
    if found:
        print(
            f"{device} is labelled {LABEL}, but {len(found)} files or folders lie on it: it is left as it is"
        )
        return 0
    made = ["mkfs.ext4", "-q", "-F", "-L", LABEL, "-m", "0", device]
    subprocess.run(made, check=True)
    subprocess.run(["udevadm", "settle", "--timeout=30"], check=False)
    return subprocess.run(["systemctl", "start", "--no-block", "backup-disk.service"], check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
