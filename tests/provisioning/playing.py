"""The playbook, run from here at one machine."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

from appliance import __version__
from tests.image.promises import kept
from tests.provisioning.machine import Machine

ROOT = Path(__file__).parents[2]
KEPT = ROOT / ".cache" / "machines"


def hosts(
    box: Machine, backup_disk: str, backup_type: str = "ext4", **otherwise: object
) -> dict[str, object]:
    """The inventory: one machine, reached over its cable, of which `otherwise` says what is another."""
    of_box: dict[str, object] = {
        "ansible_host": box.address,
        "ansible_port": box.ports[22],
        "ansible_user": "root",
        "ansible_ssh_private_key_file": str(box.key),
        "ansible_ssh_common_args": "-o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null",
        "firewall_ssh_from": [f"{box.here}/32"],
        "firewall_lan": [f"{box.here}/24"],
        "appliance_environment": {"APPLIANCE_AE_TITLE": "PROVISIONED"},
        "appliance_backup_disk": backup_disk,
        "appliance_backup_type": backup_type,
    }
    return {"appliances": {"hosts": {"box": of_box | otherwise}}}


def play(inventory: Path, wheel: Path, wheels: Path, *more: str, tree: Path = ROOT) -> int:
    """Run the playbook of `tree`; how many tasks changed something."""
    began = time.monotonic()
    done = played(inventory, wheel, wheels, *more, tree=tree)
    print(f"  the playbook took {time.monotonic() - began:.0f} s", flush=True)
    if done.returncode:
        raise SystemExit(done.stdout[-4000:] + done.stderr[-2000:])
    found = re.search(r"changed=(\d+)", done.stdout)
    assert found is not None
    return int(found[1])


def played(
    inventory: Path, wheel: Path, wheels: Path, *more: str, tree: Path = ROOT
) -> subprocess.CompletedProcess[str]:
    """Run the playbook of `tree`, however it ends."""
    return subprocess.run(
        [
            *(str(Path(sys.executable).parent / "ansible-playbook"), "-i", str(inventory), "site.yml"),
            *("--limit", "box"),
            *("-e", f"appliance_wheel={wheel}", "-e", f"appliance_wheelhouse={wheels}", *more),
        ],
        cwd=tree / "provisioning",
        env=os.environ
        | {
            "ANSIBLE_DIFF_ALWAYS": "0",
            "ANSIBLE_TIMEOUT": "120",
            "ANSIBLE_LOG_PATH": str(KEPT / "playbook.log"),
        },
        capture_output=True,
        text=True,
        check=False,
    )


def shuts_nobody_out(box: Machine, inventory: Path, wheel: Path, wheels: Path) -> None:
    """A line of the inventory that is mistyped, or left away, is told before anything is changed."""
    for networks, said in (
        (["10.99.0.0/16"], f"you come from {box.here}"),
        ([], "firewall_ssh_from is empty"),
    ):
        told = played(inventory, wheel, wheels, "-e", json.dumps({"firewall_ssh_from": networks}))
        kept(
            f"who would shut himself out is told so: {said}",
            told.returncode != 0 and said in " ".join(told.stdout.split()) and "changed=0" in told.stdout,
            told.stdout[-2000:],
        )


def checkout(version: str, folder: Path) -> Path:
    """What a playbook is run from, as `version` has it."""
    for name in ("provisioning", "systemd"):
        shutil.copytree(ROOT / name, folder / name)
    for lock in ROOT.glob("requirements-*-box.lock"):
        shutil.copy(lock, folder)
    told = (
        (ROOT / "pyproject.toml")
        .read_text()
        .replace(f'version = "{__version__}"', f'version = "{version}"', 1)
    )
    (folder / "pyproject.toml").write_text(told)
    return folder
