"""The image's configuration as the tools read it, without building: what it starts, lets in, refuses and pins."""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any
from xml.etree import ElementTree as ET

import pytest

from appliance import disk_pin
from appliance.fleet import desk
from appliance.fleet.line import PROGRAMS
from appliance.health import gathering, looks
from appliance.updates import noting
from tests.image import machine
from tests.image.loading import loaded
from tests.provisioning.test_playbooks import rendered

ROOT = Path(__file__).parents[2]
BUILD = ROOT / "image-build"
EXTRA = BUILD / "mkosi.extra"
SLOTS = {"root": 768, "root-verity": 64}
"""MiB of each slot, the same in the image, in the box and for ever: a slot can't grow in the field."""


def script(name: str) -> ModuleType:
    return loaded(BUILD / f"{name}.py")


def settings(path: Path) -> dict[str, list[str]]:
    """The settings of a file in systemd's and mkosi's syntax, every line of a list by itself."""
    found: dict[str, list[str]] = {}
    key = ""
    for line in path.read_text().splitlines():
        if not line.strip() or line.lstrip().startswith(("#", "[")):
            continue
        if line[0].isspace():
            found[key].append(line.strip())
            continue
        key, _, value = line.partition("=")
        found.setdefault(key, []).extend([value] if value else [])
    return found


CONFIG = settings(BUILD / "mkosi.conf")


BLESSING = (
    "usr/lib/systemd/systemd-bless-boot",
    "usr/lib/systemd/system-generators/systemd-bless-boot-generator",
)
"""What calls a start good, so that the loader counts its tries no further."""


def unfinished(root: Path) -> Path:
    """Make of `root` what the packages leave, as far as the last hand needs it."""
    etc = root / "etc"
    for folder in (etc / "chrony", etc / "apparmor.d"):
        folder.mkdir(parents=True)
    (etc / "chrony/chrony.conf").write_text("pool 2.debian.pool.ntp.org iburst\n")
    (etc / "nftables.conf").write_text("")
    (etc / "shadow").write_text("root:!*:20415:0:99999:7:::\nnginx:!:20399::::::\n")
    for name in BLESSING:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch(0o755)
    return root


def finish(root: Path) -> None:
    """Lay the last hand on `root`, as the build does."""
    environment = {**os.environ, "BUILDROOT": str(root), "SOURCE_DATE_EPOCH": "1764000000"}
    subprocess.run([str(BUILD / "scripts/finish")], env=environment, check=True, capture_output=True)


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What is laid into the image: the generated tree, and over it what stands in mkosi.extra."""
    made = tmp_path_factory.mktemp("image") / "tree"
    script("assemble").assemble(made)
    shutil.copytree(EXTRA, made, dirs_exist_ok=True, symlinks=True)
    return made


# --- what it starts, and what it lets in -----------------------------------------------------------------------------


def test_the_units_are_those_of_a_provisioned_debian(tree: Path) -> None:
    for path in (ROOT / "systemd/system").rglob("*"):
        if path.is_file():
            built = tree / "usr/lib/systemd/system" / path.relative_to(ROOT / "systemd/system")
            assert built.read_bytes() == path.read_bytes(), path.name


def test_firewall_front_and_time_are_what_provisioning_writes(tree: Path) -> None:
    for role, template, place in (
        ("firewall", "nftables.conf.j2", "etc/nftables.conf"),
        ("front", "nginx.conf.j2", "etc/nginx/nginx.conf"),
        ("base", "chrony.conf.j2", "etc/chrony/conf.d/appliance.conf"),
    ):
        own = script("assemble").OF_THE_IMAGE.get(role, {})
        assert (tree / place).read_text().rstrip("\n") == rendered(role, template, **own).rstrip("\n"), place
    walls = ROOT / "provisioning/roles/front/files/nginx.service.conf"
    assert (tree / "usr/lib/systemd/system/nginx.service.d/appliance.conf").read_text() == walls.read_text()


def test_nobody_can_log_in(tree: Path) -> None:
    for unit in ("getty@.service", "autovt@.service", "serial-getty@.service", "debug-shell.service"):
        assert (tree / "usr/lib/systemd/system" / unit).readlink() == Path("/dev/null"), unit
    assert not {"RootPassword", "Autologin", "Ssh", "RootShell"} & CONFIG.keys()


def test_no_swap_is_ever_taken(tree: Path) -> None:
    assert (tree / "usr/lib/systemd/system/swap.target").readlink() == Path("/dev/null")
    assert "swap" not in (EXTRA / "etc/fstab").read_text()
    for path in (EXTRA / "usr/lib/repart.d").iterdir():
        assert settings(path)["Type"] != ["swap"], path.name


def test_every_unit_that_is_started_exists_and_the_rest_is_not(tree: Path) -> None:
    preset = (EXTRA / "usr/lib/systemd/system-preset/00-appliance.preset").read_text().splitlines()
    enabled = [line.split()[1] for line in preset if line.startswith("enable ")]
    assert preset[-1] == "disable *"
    from_debian = {
        "apparmor.service",
        "chrony.service",
        "fstrim.timer",
        "nftables.service",
        "nginx.service",
        "systemd-networkd.service",
        "systemd-networkd-wait-online.service",
        "systemd-resolved.service",
    }
    system = tree / "usr/lib/systemd/system"
    for name in set(enabled) - from_debian:
        assert list(system.glob(name)), f"{name} is not in the image"
    ours = {each.name for each in system.iterdir() if each.is_file() and "[Install]" in each.read_text()}
    missing = {name for name in ours if not any(Path(name).match(pattern) for pattern in enabled)}
    assert not missing, "made, and never started"


def test_the_units_of_the_image_are_valid(tree: Path, tmp_path: Path) -> None:
    root = tmp_path / "root"
    shutil.copytree(tree, root, symlinks=True)
    system = root / "usr/lib/systemd/system"
    programs = ["lib/appliance/venv/bin/appliance", "lib/appliance/venv/bin/python"]
    for program in (*programs, "bin/chmod", "bin/chown", "bin/flock", "bin/rm", "bin/systemctl", "bin/test"):
        path = root / "usr" / program
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("#!/bin/sh\n")
        path.chmod(0o755)
    targets = "basic boot-complete multi-user network-online shutdown slices sysinit timers"
    for name in targets.split():
        (system / f"{name}.target").write_text(f"[Unit]\nDescription={name}\n")
    for unit in (
        "boot-check.service",
        "disk-enrolment.service",
        "disk-pin.path",
        "disk-pin.service",
        "disk-recovery-key.service",
        "disk-unopened.service",
        "disk-unopened.timer",
        "screen.service",
        "unit-states.service",
        "unit-states.timer",
        "update.service",
        "update.timer",
        "update-way.service",
        "update-way.socket",
        "update-restart.service",
        "update-restart.timer",
        "update-outcome.service",
        "update-from-stick.service",
        "media-backup.mount",
        "backup-disk.service",
        "backup-disk-prepare@sda1.service",
    ):
        told = subprocess.run(
            ["systemd-analyze", "verify", "--man=no", "--recursive-errors=no", f"--root={root}", unit],
            capture_output=True,
            text=True,
            check=False,
        )
        assert (told.returncode, told.stderr) == (0, ""), unit


# --- remote support --------------------------------------------------------------------------------------------------

OPENSSH_LISTENS = (
    "usr/lib/systemd/system/ssh.service",
    "usr/lib/systemd/system/ssh.socket",
    "usr/lib/systemd/system/sshd@.service",
    "usr/lib/systemd/system/sshd-keygen.service",
    "usr/lib/systemd/system/rescue-ssh.target",
    "usr/lib/systemd/system-generators/systemd-ssh-generator",
    "usr/lib/systemd/user/ssh-agent.socket",
    "etc/systemd/system/multi-user.target.wants/ssh.service",
    "etc/systemd/system/sshd.service",
    "etc/systemd/system/ssh.socket.wants/sshd-keygen.service",
    "etc/systemd/user/sockets.target.wants/ssh-agent.socket",
)
"""By what of Debian's openssh-server, and of systemd (systemd-ssh-generator(8): vsock, and a socket in /run), something would listen."""
OPENSSH_UNUSED = (
    "etc/ssh/ssh_host_ed25519_key",
    "etc/ssh/ssh_host_ed25519_key.pub",
    "usr/bin/scp",
    "usr/bin/sftp",
    "usr/bin/ssh-agent",
    "usr/bin/ssh-keygen",
    "usr/lib/sftp-server",
    "usr/lib/openssh/sftp-server",
    "usr/lib/openssh/ssh-keysign",
)
OPENSSH_OF_THE_LINE = (
    "usr/bin/ssh",
    "usr/sbin/sshd",
    "usr/lib/openssh/sshd-auth",
    "usr/lib/openssh/sshd-session",
)


def test_of_openssh_there_is_what_the_line_of_support_starts_and_nothing_that_listens(tmp_path: Path) -> None:
    assert {"openssh-client", "openssh-server"} <= set(CONFIG["Packages"])
    unfinished(tmp_path)
    others = ("usr/lib/systemd/system/ssh-access.target", "usr/lib/systemd/system/systemd-networkd.service")
    for name in (*OPENSSH_LISTENS, *OPENSSH_UNUSED, *OPENSSH_OF_THE_LINE, *others):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("as its package brings it")
    # What is enabled is a link, and the unit that it leads to may be gone by then.
    alias = tmp_path / "etc/systemd/system/sshd.service"
    alias.unlink()
    alias.symlink_to("/usr/lib/systemd/system/ssh.service")
    finish(tmp_path)
    left = [each for each in (*OPENSSH_LISTENS, *OPENSSH_UNUSED) if os.path.lexists(tmp_path / each)]
    assert not left
    assert not [each for each in (*OPENSSH_OF_THE_LINE, *others) if not (tmp_path / each).exists()]


def test_the_image_has_the_programs_of_the_line_where_its_profile_lets_them_start() -> None:
    """`line.is_possible` looks for them; without one, or without the right to start one, no session can be opened."""
    profile = (EXTRA / "etc/apparmor.d/support-line").read_text()
    for program in PROGRAMS:
        assert re.search(
            rf"^  /usr/s?bin/(\{{[a-z,]*\b)?{program}\b[a-z,]*\}}? rix,$", profile, re.MULTILINE
        ), program
    assert "/usr/lib/openssh/sshd-{auth,session} rix" in profile, "OpenSSH 10 is three programs"
    assert f"  {desk.UNIT_FOLDER}/desk rw,\n" in profile
    assert f"  {desk.UNIT_FOLDER}/desk rwk,\n" in (EXTRA / "etc/apparmor.d/appliance").read_text()


def test_the_line_of_support_is_held_away_from_all_that_is_the_boxs(tree: Path) -> None:
    dropin = settings(tree / "usr/lib/systemd/system/support-line.service.d/60-image.conf")
    assert dropin["AppArmorProfile"] == ["support-line"]
    text = (EXTRA / "etc/apparmor.d/support-line").read_text()
    assert "capability" not in text
    for place in ("/etc/appliance/", "/var/lib/", "/var/log/", "/etc/shadow"):
        assert re.search(rf"^  deny {place}\S* rwklmx,$", text, re.MULTILINE), place
    writes = re.findall(r"^  (?:owner )?(/\S*|@\S+) \w*w\w*,$", text, re.MULTILINE)
    allowed = (
        r"/run/(support-line|appliance-desk|systemd/journal)/|/run/systemd/notify$"
        r"|/\{tmp,var/tmp\}/|/dev/tty|@\{PROC\}/@\{pid\}/"
    )
    assert not [each for each in writes if not re.match(allowed, each)]


def test_the_account_of_the_line_is_in_the_image_and_its_unit_waits(tree: Path) -> None:
    accounts = (tree / "usr/lib/sysusers.d/appliance.conf").read_text()
    assert re.search(r"^u appliance-support ", accounts, re.MULTILINE)
    assert f"{desk.UNIT_FOLDER} " in (tree / "usr/lib/tmpfiles.d/appliance.conf").read_text()
    preset = (EXTRA / "usr/lib/systemd/system-preset/00-appliance.preset").read_text().splitlines()
    assert "enable support-line.path" in preset
    assert not [each for each in preset if re.match(r"enable ssh|enable support-line\.service", each)]


# --- what it refuses -------------------------------------------------------------------------------------------------


def test_the_production_command_line_refuses_what_the_hardware_hands_over() -> None:
    words = CONFIG["KernelCommandLine"]
    assert "systemd.import_credentials=no" in words
    assert "ro" in words
    assert "systemd.verity_root_options=panic-on-corruption" in words
    assert any(re.fullmatch(r"panic=[1-9]\d*", each) for each in words), (
        "a kernel that panics must start again"
    )
    assert "fsck.repair=yes" in words, (
        "nobody is there to answer e2fsck, and the next start would ask the same"
    )
    readme = (BUILD / "README.md").read_text()
    assert not [each for each in words if not re.search(rf"[` ]{re.escape(each)}[` ]", readme)], (
        "each is explained"
    )
    assert not [each for each in words if re.match(r"console=|init=|systemd\.debug|rd\.shell|rw$", each)]


def test_the_test_kernel_image_differs_in_its_command_line_alone() -> None:
    text = (BUILD / "scripts/uki-parts").read_text()
    sections = re.search(r"for section in ([a-z ]+);", text)
    assert sections is not None
    assert {"linux", "initrd", "osrel", "uname", "cmdline"} == set(sections[1].split())
    assert "the production command line does not refuse credentials" in text
    for name in ("test-uki", "install-uki"):
        made = (BUILD / "scripts" / name).read_text()
        assert '"${0%/*}/uki-parts" "$from" "$parts"\n' in made, name


def test_a_verified_root_and_signed_starts_are_asked_for() -> None:
    assert CONFIG["SecureBoot"] == ["yes"]
    assert CONFIG["SignExpectedPcr"] == ["yes"]
    root = settings(BUILD / "mkosi.repart/20-root.conf")
    assert (root["Format"], root["Verity"]) == (["erofs"], ["data"])
    assert settings(BUILD / "mkosi.repart/10-root-verity.conf")["Verity"] == ["hash"]
    data = settings(EXTRA / "usr/lib/repart.d/30-data.conf")
    assert data["Encrypt"] == ["tpm2"]
    repart = (EXTRA / "usr/lib/systemd/system/systemd-repart.service.d/appliance.conf").read_text()
    assert re.findall(r"--tpm2-pcrs=(\S+)", repart) == ["7+12"]
    assert "\nRestart=on-failure\n" in repart, "a TPM2 that is slow once costs a first start"
    policy = (EXTRA / "usr/lib/appliance/libexec/disk-policy").read_text()
    (sets,) = re.findall(r"for each in ([0-9+ ]+);", policy)
    assert all({"7", "12"} <= set(each.split("+")) for each in sets.split()), "a new entry asks for no less"
    for name in ("disk-enrolment", "disk-pin"):
        program = (EXTRA / "usr/lib/appliance/libexec" / name).read_text()
        assert '--tpm2-pcrs="$registers"' in program, name
    (mount,) = [line.split() for line in (EXTRA / "etc/fstab").read_text().splitlines() if line[0] != "#"]
    assert mount[:2] == ["/dev/mapper/data", "/var"]
    assert {"nodev", "nosuid", "noexec"} <= set(mount[3].split(","))


def test_no_key_is_in_version_control() -> None:
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", "image-build"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split("\0")
    for name in filter(None, listed):
        assert not name.endswith((".key", ".pem", ".crt", ".gpg", ".pub", ".p12")), name
        path = ROOT / name
        if path.is_file() and not path.is_symlink():
            assert "PRIVATE KEY" not in path.read_text(), name
    assert "readonly tools=$work/tools keys=$work/keys" in (BUILD / "build").read_text()
    assert ".cache/" in (ROOT / ".gitignore").read_text().splitlines()


def test_a_machine_never_waits_for_somebody_to_come() -> None:
    in_root = EXTRA / "usr/lib/systemd/system/emergency.service.d/appliance.conf"
    in_initrd = BUILD / "on-failure/usr/lib/systemd/system/emergency.service.d/appliance.conf"
    assert in_root.read_bytes() == in_initrd.read_bytes()
    assert "systemctl --force reboot" in in_root.read_text()
    initrd = settings(BUILD / "mkosi.images/initrd/mkosi.conf")
    assert (BUILD / "mkosi.images/initrd" / initrd["ExtraTrees"][0]).resolve() == BUILD / "on-failure"
    manager = settings(EXTRA / "usr/lib/systemd/system.conf.d/appliance.conf")
    assert manager["CrashAction"] == ["reboot"]
    assert manager["RuntimeWatchdogSec"] == ["120s"]


# --- AppArmor --------------------------------------------------------------------------------------------------------


def test_every_service_is_held_by_a_profile_that_exists(tree: Path) -> None:
    profiles = "\n".join(each.read_text() for each in (EXTRA / "etc/apparmor.d").iterdir())
    names = set(re.findall(r"^profile (\S+)", profiles, re.MULTILINE))
    wanted = settings(tree / "usr/lib/systemd/system/appliance-.service.d/60-image.conf")["AppArmorProfile"]
    assert wanted == ["appliance"]
    assert names == {"appliance", "nginx-front", "screen", "support-line", "update-way"}
    assert "flags=(complain" not in profiles and "complain" not in profiles


def test_the_profile_lets_no_process_write_but_where_its_data_is() -> None:
    text = (EXTRA / "etc/apparmor.d/appliance").read_text()
    writes = {
        path
        for path, mode in re.findall(r"^\s+(?:owner )?(/\S*|@\S+) ([a-z]+),$", text, re.MULTILINE)
        if "w" in mode
    }
    allowed = r"/var/lib/appliance/|/run/(systemd|appliance|appliance-desk|appliance-pin)/|/\{tmp,var/tmp\}/|/dev/(shm/|tty1)|/\{media,mnt,srv\}/|@\{PROC\}"
    assert not [each for each in writes if not re.match(allowed, each)]
    assert "deny /var/lib/machine-seal/" in text


LOOKS_AND_ASKS = """
import fcntl, os, sys
from datetime import UTC, datetime
from pathlib import Path
from unittest.mock import patch

from appliance import disk_pin
from appliance.audit import Entry
from appliance.box import open_box
from appliance.config import Config, StoreConfig
from appliance.health import gathering
from appliance.updates import noting
from tests.updates.image import image

at, now = Path(sys.argv[1]), datetime.now(UTC)
patch.object(disk_pin, "FOLDER", at / disk_pin.FOLDER.name).start()
patch.object(disk_pin, "TOLD", at / disk_pin.TOLD.parent.name / disk_pin.TOLD.name).start()
disk_pin.FOLDER.mkdir()
disk_pin.TOLD.parent.mkdir()
disk_pin.TOLD.write_text("none")
box = open_box(Config(data=Path(sys.argv[2]), store=StoreConfig(reserve_bytes=0)))


def watch(event, words):
    if event == "open":
        modes = {os.O_RDONLY: "r", os.O_WRONLY: "w", os.O_RDWR: "rw"}[words[2] & os.O_ACCMODE]
        told = {words[0]: modes}
    elif event == "os.rename":
        told = {words[0]: "rw", words[1]: "w"}
    elif event == "os.remove":
        told = {words[0]: "w"}
    elif event == "fcntl.flock":
        told = {os.readlink(f"/proc/self/fd/{words[0]}"): "wk"}
    else:
        return
    for path, modes in told.items():
        if str(path).startswith(f"{at}/"):
            print("/run" + str(path).removeprefix(str(at)), modes)


with image(at / gathering.UPDATES.name) as says:
    says("1.0.0", "1.1.0", "")
    sys.addaudithook(watch)
    noting.seen()
    noting.fetching(now)
    noting.note(box, now)
    disk_pin.remove(box, Entry("pin:remove", disk_pin.SUBJECT, "owner"), now)
    disk_pin.note(box, now)
"""


def test_the_profile_allows_what_the_appliance_reads_and_asks_of_the_image(tmp_path: Path) -> None:
    """Watched as it does so, with folders in the place of those in /run."""
    (tmp_path / "run").mkdir()
    watched = subprocess.run(
        [sys.executable, "-c", LOOKS_AND_ASKS, tmp_path / "run", tmp_path / "box"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert watched.returncode == 0, watched.stderr
    touched: dict[str, set[str]] = {}
    for line in watched.stdout.splitlines():
        path, modes = line.split()
        touched.setdefault(path, set()).update(modes)
    updates, asked = gathering.UPDATES, disk_pin.FOLDER / disk_pin.ASKED
    assert set(touched) == {
        *(f"{updates}/{name}" for name in (gathering.LEFT, gathering.WAITING, gathering.CHOSEN)),
        *(f"{updates}/{name}" for name in (noting.FETCHING, looks.FILE)),
        *(str(disk_pin.TOLD), str(asked), f"{asked}.new", str(disk_pin.FOLDER / disk_pin.LOCK)),
    }
    assert {path: modes - allowed(path) for path, modes in touched.items()} == {
        path: set() for path in touched
    }


def allowed(path: str, profile: str = "appliance") -> set[str]:
    """What a profile lets be done to `path`. Between two slashes, and at the end after one, a star stands for one character at least."""
    text = (EXTRA / "etc/apparmor.d" / profile).read_text()
    said = {"{": "(?:", ",": "|", "}": ")", "**": ".*", "*": "[^/]*", "/**": "/.+", "/*": "/[^/]+"}
    found: set[str] = set()
    for name, modes in re.findall(r"^  (/\S*) ([a-z]+),$", text, re.MULTILINE):
        parts = re.findall(r"/\*{1,2}(?=/|$)|\*\*|.", name)
        pattern = "".join(said.get(each, re.escape(each)) for each in parts)
        if re.fullmatch(pattern, path):
            found.update(modes)
    return found


def test_what_only_one_machine_has_is_taken_out_of_the_root(tmp_path: Path) -> None:
    etc, loader = unfinished(tmp_path) / "etc", tmp_path / "usr/lib/systemd/boot/efi"
    loader.mkdir(parents=True)
    left = [etc / "passwd-", etc / "shadow-", loader / "systemd-bootx64.efi.signed"]
    for path in left:
        path.write_text("of one machine, or one hour")
    finish(tmp_path)
    assert (etc / "shadow").read_text() == "root:!*:20416:0:99999:7:::\nnginx:!:20416::::::\n"
    assert not [each for each in left if each.exists()]
    assert (etc / "machine-id").read_bytes() == b""
    (etc / "shadow").write_text("root::1:::::::\n")
    with pytest.raises(subprocess.CalledProcessError):
        finish(tmp_path)  # an account without a password


def test_how_the_disk_opens_is_roots_alone_to_read(tmp_path: Path) -> None:
    etc = unfinished(tmp_path) / "etc"
    (etc / "ssh").mkdir()
    secret = [etc / "crypttab", etc / "ssh/sshd_config"]
    for path in secret:
        path.write_text("as its package brings it")
        path.chmod(0o644)
    finish(tmp_path)
    assert {path.stat().st_mode & 0o777 for path in secret} == {0o600}


def test_an_image_that_could_never_call_a_start_good_is_not_built(tmp_path: Path) -> None:
    unfinished(tmp_path)
    unwanted = tmp_path / "usr/lib/systemd/system/systemd-bootctl.socket"
    unwanted.parent.mkdir(parents=True, exist_ok=True)
    unwanted.touch()
    finish(tmp_path)
    assert not unwanted.exists()
    for name in BLESSING:
        (tmp_path / name).unlink()
        with pytest.raises(subprocess.CalledProcessError):
            finish(tmp_path)
        (tmp_path / name).touch(0o755)


# --- packages --------------------------------------------------------------------------------------------------------


def test_what_is_asked_for_is_pinned() -> None:
    inventory = script("inventory")
    pinned = inventory.locked((BUILD / "packages.lock").read_text())
    assert set(CONFIG["Packages"]) <= set(pinned)
    assert 150 < len(pinned) < 230, "a package more is a reason more"
    assert not {"apt", "curl", "wget", "gcc", "sudo", "telnet", "avahi-daemon"} & set(pinned)


def test_a_difference_is_told_whichever_way_it_goes() -> None:
    inventory = script("inventory")
    assert inventory.differences({"a": "1", "b": "2", "d": "4"}, {"a": "1", "b": "1", "c": "3"}) == [
        "b: 1 → 2",
        "c: 3 → not in the image",
        "d: not locked → 4",
    ]


def test_the_bill_of_materials_names_every_package_and_every_wheel(monkeypatch: pytest.MonkeyPatch) -> None:
    inventory = script("inventory")
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1764000000")
    lock = (ROOT / "requirements-3.13-box.lock").read_text()
    manifest: dict[str, Any] = {
        "config": {"name": "appliance", "version": "1.2.3"},
        "packages": [
            {"type": "deb", "name": name, "version": version, "architecture": "amd64"}
            for name, version in inventory.locked((BUILD / "packages.lock").read_text()).items()
        ],
    }
    bill = inventory.sbom(manifest, lock)
    assert (bill["bomFormat"], bill["specVersion"]) == ("CycloneDX", "1.6")
    names = {each["name"] for each in bill["components"]}
    assert {each["name"] for each in manifest["packages"]} <= names
    assert {name for name, _, _ in inventory.wheels(lock)} <= names
    assert len(set(re.findall(r"^([a-z0-9._-]+)==", lock, re.MULTILINE)) - names) == 0
    references = [each["bom-ref"] for each in bill["components"]]
    assert len(references) == len(set(references))
    inside = {each["bom-ref"] for each in bill["components"] if "properties" in each}
    assert bill["dependencies"][0]["dependsOn"] == sorted(set(references) - inside)
    assert re.fullmatch(r"urn:uuid:[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", bill["serialNumber"])
    assert json.dumps(inventory.sbom(manifest, lock)) == json.dumps(bill), "the same image, the same bill"
    assert set(inventory.INSIDE_WHEELS["wheels"]) <= names


def test_python_is_installed_by_hash_and_without_a_network() -> None:
    text = (BUILD / "scripts/python.chroot").read_text()
    for word in ("--no-index", "--no-deps", "--require-hashes", "unchecked-hash"):
        assert word in text
    assert CONFIG["WithNetwork"] == ["no"]


# --- slots -----------------------------------------------------------------------------------------------------------


def slots_of(folder: Path) -> Iterator[tuple[str, int]]:
    for path in sorted(folder.glob("*.conf")):
        found = settings(path)
        if found["Type"][0] in SLOTS:
            assert found["SizeMinBytes"] == found["SizeMaxBytes"]
            yield found["Type"][0], int(found["SizeMinBytes"][0].removesuffix("M"))


def test_both_slots_are_as_large_as_what_the_image_brings() -> None:
    assert dict(slots_of(BUILD / "mkosi.repart")) == SLOTS
    in_box = list(slots_of(EXTRA / "usr/lib/repart.d"))
    assert sorted(in_box) == sorted([*SLOTS.items(), *SLOTS.items()])


# --- OpenSCAP --------------------------------------------------------------------------------------------------------


def test_a_rule_that_is_not_asked_of_the_image_has_a_reason() -> None:
    xccdf = "{http://checklists.nist.gov/xccdf/1.2}"
    (profile,) = ET.parse(BUILD / "openscap/tailoring.xml").getroot().iter(f"{xccdf}Profile")
    assert profile.get("extends") == "xccdf_org.ssgproject.content_profile_anssi_bp28_enhanced"
    rules = list(profile.iter(f"{xccdf}select"))
    assert rules, "it takes none out"
    for rule in rules:
        (reason,) = [each.text or "" for each in rule.findall(f"{xccdf}remark")]
        assert rule.get("selected") == "false"
        assert len(reason.split()) >= 6, rule.get("idref")
    names = [rule.get("idref") for rule in rules]
    assert len(names) == len(set(names))
    assert f"each of the {len(names)} " in (BUILD / "README.md").read_text(), "the figure is of this file"


# --- the harness -----------------------------------------------------------------------------------------------------


def test_a_credential_is_what_the_firmware_can_carry() -> None:
    words = machine.credential("systemd.extra-unit.x.service", "[Unit]\n")
    assert words == [
        "-smbios",
        "type=11,value=io.systemd.credential.binary:systemd.extra-unit.x.service=W1VuaXRdCg==",
    ]
    assert "%" not in machine.DOOR_UNIT, "which systemd would take for a specifier"
    assert all(len(each) < 16384 for each in machine.DOOR)


def test_the_disk_has_room_for_what_is_laid_on_it() -> None:
    slots = 2 * sum(SLOTS.values()) + 512
    assert (slots + 2048) << 20 < machine.DISK_BYTES
