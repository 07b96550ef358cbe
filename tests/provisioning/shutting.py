"""A box that nobody reaches by SSH afterwards, provisioned by an account that is not root: the form of the example inventory.

Who provisions comes as `provisioner`, with a key and sudo, and root can't log in at all. When the door is shut nobody comes in: from then on
the box is seen by the namespaces of its first process (`machine.Entered`), as somebody at its keyboard would see it. What is run there
then is Ansible itself, from a copy of the checkout that was brought, by the same account, with `--connection local`.
"""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
import sys
from pathlib import Path

from appliance import __version__
from tests.image.promises import kept
from tests.provisioning.machine import Machine, run
from tests.provisioning.playing import KEPT, ROOT, checkout, hosts, played

ACCOUNT = "provisioner"
ANSIBLE = (
    *("ansible-core", "jinja2", "markupsafe", "pyyaml", "cryptography", "cffi", "pycparser"),
    *("packaging", "resolvelib"),
)
"""What Ansible is made of, by the names of the lock."""
BROUGHT = Path("/srv/brought")
"""Where on the box lies what was brought to it."""
PATIENCE_SECONDS = 5.0


def locked(lock: str) -> str:
    """Of a lock what says Ansible's packages: each begins at the margin, and its hashes are indented."""
    found = re.findall(r"^(\S+)(==.*\n(?: .*\n)*)", lock, re.MULTILINE)
    return "".join(name + what for name, what in found if name in ANSIBLE)


def ansible_for(version: str) -> Path:
    """A folder with the wheels of Ansible for the `version` of Python: what an operator brings to a box without a way in."""
    folder = KEPT / f"ansible-{version}"
    folder.mkdir(exist_ok=True)
    asked = folder / "requirements.txt"
    asked.write_text(locked((ROOT / f"requirements-{version}.lock").read_text()))
    run(
        *(sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check", "download", "--no-deps"),
        *("--require-hashes", "--only-binary", ":all:", "--python-version", version),
        *("--dest", folder, "--requirement", asked),
    )
    return folder


def let_in(root: Path) -> None:
    """In a machine that does not run yet: the account, whose key is what was root's."""
    run("chroot", root, "useradd", "--create-home", "--shell", "/bin/bash", ACCOUNT)
    shutil.move(root / "root/.ssh", root / f"home/{ACCOUNT}/.ssh")  # no rename: an overlay would refuse it
    run("chroot", root, "chown", "--recursive", f"{ACCOUNT}:{ACCOUNT}", f"/home/{ACCOUNT}/.ssh")
    may = root / f"etc/sudoers.d/{ACCOUNT}"
    may.write_text(f"{ACCOUNT} ALL=(ALL) NOPASSWD: ALL\n")
    may.chmod(0o440)


def hosts_of(box: Machine) -> dict[str, object]:
    """The inventory, as the example has it: an account, and nobody who comes in afterwards."""
    return hosts(box, "tmpfs", "tmpfs", ansible_user=ACCOUNT, firewall_ssh_from=[])


def shuts_the_door(box: Machine, inventory: Path, wheel: Path, wheels: Path) -> None:
    """The first run: it begins by SSH, and when it has ended SSH is no more."""
    kept("SSH answers before", answers(box, 22))
    root = subprocess.run(_ssh(box, "root"), capture_output=True, text=True, check=False)
    kept("and root can't log in", root.returncode == 255 and "denied" in root.stderr, root.stderr)
    asked = played(inventory, wheel, wheels)
    kept(
        "a list that is empty is asked about before anything is changed",
        "say -e firewall_shut_ssh=true" in " ".join(asked.stdout.split()) and "changed=0" in asked.stdout,
        asked.stdout[-2000:],
    )
    done = played(inventory, wheel, wheels, "-e", "firewall_shut_ssh=true")
    kept(
        "the first run makes an appliance of it, by sudo, and comes to its end",
        done.returncode == 0 and re.search(r"unreachable=0 +failed=0", done.stdout) is not None,
        done.stdout[-4000:] + done.stderr[-2000:],
    )
    loaded = done.stdout.count("RUNNING HANDLER [firewall : Load the firewall]")
    kept("it has lived through two loadings of the rules", loaded >= 2, str(loaded))
    end = done.stdout.partition("TASK [It has come to its end]")[2]
    left = box.inside("ls /var/lib/appliance-site.unfinished", check=False)
    kept("the word that it has come to its end got through after the second", bool(end) and left == "", left)
    kept("nobody comes in by SSH any more", not answers(box, 22))
    rules = box.inside("nft list table inet appliance")
    kept(
        "nor do the rules name its port, in or out", not re.search(r"port (22|ssh)\b", _of_ssh(rules)), rules
    )
    kept("sshd runs all the same", box.inside("systemctl is-active ssh").strip() == "active")
    kept("HTTPS and DICOM answer", answers(box, 443) and answers(box, 11112))


def runs_at_the_machine(box: Machine, root: Path, inventory: Path, wheel: Path, ansible: Path) -> None:
    """What README says of the time afterwards: the checkout, at the machine itself, as the account that may use sudo."""
    brought = root / BROUGHT.relative_to("/")
    checkout(__version__, brought)
    shutil.copytree(ansible, brought / "ansible")
    for path in (inventory, wheel):
        shutil.copy(path, brought)
    run("chown", "--recursive", f"{_uid(root)}", brought)
    _as_account(box, f"python3 -m venv {BROUGHT}/venv")
    _as_account(
        box,
        f"{BROUGHT}/venv/bin/pip --quiet install --no-index --require-hashes --find-links {BROUGHT}/ansible"
        f" --requirement {BROUGHT}/ansible/requirements.txt",
    )
    # Without the wheels of the program: they are needed only where another one is to be installed.
    told = _as_account(
        box,
        f"cd {BROUGHT}/provisioning && {BROUGHT}/venv/bin/ansible-playbook -i {BROUGHT}/{inventory.name} site.yml"
        f" --limit box --connection local -e appliance_wheel={BROUGHT}/{wheel.name} -e firewall_shut_ssh=true",
    )
    kept(
        "the run at the machine itself changes nothing",
        re.search(r"changed=0 +unreachable=0 +failed=0", told) is not None,
        told[-4000:],
    )


def answers(box: Machine, port: int) -> bool:
    """Whether somebody who calls from outside is heard."""
    with socket.socket() as probe:
        probe.settimeout(PATIENCE_SECONDS)
        return probe.connect_ex((box.address, box.ports[port])) == 0


def _ssh(box: Machine, account: str) -> list[str]:
    return [
        *(
            "ssh",
            "-i",
            str(box.key),
            "-p",
            str(box.ports[22]),
            "-o",
            "BatchMode=yes",
            "-o",
            "ConnectTimeout=30",
        ),
        *("-o", "StrictHostKeyChecking=no", "-o", f"UserKnownHostsFile={os.devnull}"),
        *("-o", "IdentitiesOnly=yes", f"{account}@{box.address}", "true"),
    ]


def _of_ssh(rules: str) -> str:
    """The lines that could speak of SSH's own port: what the appliance and the line of support may call beyond is another matter."""
    return "\n".join(line for line in rules.splitlines() if "dport {" not in line)


def _uid(root: Path) -> int:
    return (root / f"home/{ACCOUNT}").stat().st_uid


def _as_account(box: Machine, command: str) -> str:
    """What `command` prints, typed by the account after a login, however it ends."""
    done = box.done(f"runuser --login {ACCOUNT} --command 'export LC_ALL=C.UTF-8; {command}' 2>&1")
    return done.stdout
