"""What every unit of the image may do and take, as systemd itself judges it: those that are only the image's, too."""

import inspect
import json
import re
import subprocess
from pathlib import Path

import pytest

from tests.image import __main__ as walks
from tests.image import confinement, offers, runbooks
from tests.image.test_configuration import EXTRA, ROOT, settings
from tests.image.test_configuration import tree as _tree
from tests.system.running import VERBS

SYSTEM = EXTRA / "usr/lib/systemd/system"
SERVICES = sorted(
    path.name
    for folder in (SYSTEM, ROOT / "systemd/system")
    for path in folder.glob("*.service")
    if not path.is_symlink()  # what is masked
)

MOST, MOST_ON_THE_NETWORK = 2.0, 1.5
NETWORK_FACING = {
    *(f"appliance-{each}.service" for each in VERBS),
    "support-line.service",
    "update-way.service",
}

tree = _tree


def told(tree: Path, unit: str) -> dict[str, list[str]]:
    """The settings of a unit with those of its drop-ins, the one that all of the appliance's processes share among them."""
    system = tree / "usr/lib/systemd/system"
    shared = [system / "appliance-.service.d"] if unit.startswith("appliance-") else []
    found: dict[str, list[str]] = {}
    for path in (
        system / unit,
        *(each for folder in (*shared, system / f"{unit}.d") for each in sorted(folder.glob("*.conf"))),
    ):
        for name, values in settings(path).items():
            found.setdefault(name, []).extend(values)
    return found


@pytest.mark.parametrize("unit", SERVICES)
def test_every_service_has_a_limit_of_memory_and_of_tasks(tree: Path, unit: str) -> None:
    limits = told(tree, unit)
    assert re.fullmatch(r"\d+[MG]", limits["MemoryMax"][-1])
    assert int(limits["TasksMax"][-1]) <= 512


UMASKS = {
    # nginx's group reads the certificate that it lays down.
    "tls-front.service": "0027",
    # What the kernel says of the clock is for each account that asks.
    "clock-state.service": "0022",
}
"""Of those whose files are for others, too."""


@pytest.mark.parametrize("unit", SERVICES)
def test_what_a_service_writes_is_its_own(tree: Path, unit: str) -> None:
    assert told(tree, unit).get("UMask") == [UMASKS.get(unit, "0077")]


def test_what_nginx_writes_is_its_own(tree: Path) -> None:
    (added,) = (tree / "usr/lib/systemd/system/nginx.service.d").glob("*.conf")
    assert settings(added)["UMask"] == ["0077"]


def test_the_tailoring_file_names_each_service_with_another_umask() -> None:
    reasons = " ".join((ROOT / "image-build/openscap/tailoring.xml").read_text().split())
    named = re.search(
        r"Each service of ours has a UMask of its own: 0077, but for (.*?)</xccdf:remark>", reasons
    )
    assert named is not None
    assert dict(re.findall(r"([\w-]+\.service) \((\d+):", named[1])) == UMASKS


@pytest.mark.parametrize("unit", ["disk-enrolment.service", "disk-pin.service", "disk-recovery-key.service"])
def test_a_key_of_the_disk_has_the_memory_that_its_derivation_may_take(tree: Path, unit: str) -> None:
    """LUKS2's argon2 takes up to 1 GiB, and libcryptsetup something beside it."""
    assert told(tree, unit)["MemoryMax"] == ["2G"]


@pytest.mark.parametrize("unit", SERVICES)
def test_the_exposure_of_every_service_is_as_low_as_promised(tree: Path, unit: str) -> None:
    asked = subprocess.run(
        [
            *("systemd-analyze", "security", "--offline=true", f"--root={tree}", "--no-pager"),
            unit.replace("@.", "@sda1."),
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    figure = re.search(r"Overall exposure level for \S+: (\d+\.\d)", asked.stdout)
    assert figure is not None, asked.stderr
    exposure = float(figure[1])
    assert exposure < (MOST_ON_THE_NETWORK if unit in NETWORK_FACING else MOST)


def test_who_starts_the_machine_again_may_write_what_it_has_to(
    tree: Path,
) -> None:
    """A folder that isn't there would keep the unit from starting, unless it is named with a minus."""
    assert told(tree, "update-restart.service")["ReadWritePaths"] == ["/run -/var/lib/update"]
    assert told(tree, "update-restart-asked.service")["ReadWritePaths"] == ["/run /var/lib/appliance"]


@pytest.mark.parametrize("unit", SERVICES)
def test_who_may_use_named_devices_alone_is_given_those_that_it_needs(tree: Path, unit: str) -> None:
    """ProtectClock= names the RTC, and thereby forbids every device that isn't named."""
    walls = told(tree, unit)
    if "ProtectClock" in walls and "PrivateDevices" not in walls:
        assert walls.get("DeviceAllow"), "it needs no device: PrivateDevices="


@pytest.mark.parametrize("unit", ["disk-enrolment.service", "disk-pin.service", "disk-recovery-key.service"])
def test_who_changes_the_keys_of_the_disk_reaches_the_disk_the_chip_and_the_ciphers(
    tree: Path, unit: str
) -> None:
    """A slot of keys is encrypted by the kernel, which is asked by a socket (AF_ALG); else by device-mapper, as root alone may."""
    walls = told(tree, unit)
    assert set(walls["DeviceAllow"]) == {"block-* rw", "char-tpm rw", "/dev/mapper/control rw"}
    assert "AF_ALG" in walls["RestrictAddressFamilies"][0].split()
    assert "CAP_SYS_ADMIN" in walls["CapabilityBoundingSet"][0].split()


def test_a_call_that_nobody_foresaw_is_refused_and_ends_no_process(tree: Path) -> None:
    """The box's own screen died of it again and again: a library that it had come to load looked at the machine's memory."""
    for unit in SERVICES:
        walls = told(tree, unit)
        if "SystemCallFilter" in walls:
            assert walls.get("SystemCallErrorNumber", [])[-1:] == ["EPERM"], unit


def test_who_mounts_may_and_keeps_it_to_itself(tree: Path) -> None:
    for unit in ("backup-disk-prepare@.service", "update-from-stick.service"):
        walls = told(tree, unit)
        assert walls["PrivateMounts"] == ["yes"], unit
        assert "CAP_SYS_ADMIN" in walls["CapabilityBoundingSet"][0].split(), unit
        assert "@mount" in " ".join(walls["SystemCallFilter"]).split(), unit


def test_what_the_loader_starts_can_be_written_wherever_systemd_mounts_it(tree: Path) -> None:
    """And the disks. Of the two places one is there, and the other may be missing."""
    for unit in ("update.service", "update-from-stick.service"):
        walls = told(tree, unit)
        assert (walls["ProtectSystem"], walls["ReadWritePaths"]) == (["strict"], ["-/boot -/efi /run"]), unit
        assert walls["DeviceAllow"] == ["block-* rw"], unit


def test_who_installs_has_the_screen_and_the_disks(tree: Path) -> None:
    walls = told(tree, "install.service")
    assert set(walls["DeviceAllow"]) == {"block-* rw", "/dev/tty0 rw", f"{walls['TTYPath'][0]} rw"}


@pytest.mark.parametrize(
    ("levels", "found"), [([], 0), (["INFO", "WARNING"], 0), (["INFO", "ERROR", "ERROR"], 2)]
)
def test_an_error_of_the_appliance_is_found_in_the_journal(
    levels: list[str], found: int, tmp_path: Path
) -> None:
    lines = [json.dumps({"level": each, "event": "ERROR"}) for each in levels]
    (tmp_path / "told").write_text("".join(f"{each}\n" for each in lines))
    (tmp_path / "journalctl").write_text(f"#!/bin/sh\ncat {tmp_path}/told\n")
    (tmp_path / "journalctl").chmod(0o755)
    done = subprocess.run(
        ["sh", "-c", confinement.ERRORS],
        env={"PATH": f"{tmp_path}:/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert len(done.stdout.splitlines()) == found


@pytest.mark.parametrize(("walk", "used"), [(walks.box, "use(machine)"), (runbooks.runbooks, "comes_home(")])
def test_what_the_walls_had_to_refuse_is_asked_again_once_the_box_was_used(walk: object, used: str) -> None:
    """Before, nobody has shown a picture, printed a paper or restored a backup within them."""
    text = inspect.getsource(walk)  # type: ignore[arg-type]
    assert re.search(rf"{re.escape(used)}.*walls\(machine\).*no_error\(machine\)", text, re.DOTALL)


def test_an_error_inside_the_walls_is_told_from_what_only_came_late() -> None:
    def line(event: str) -> str:
        return json.dumps({"level": "ERROR", "event": event}, ensure_ascii=False)

    late = [line(f"the job samples failed: {confinement.LATE[0]}"), line(confinement.LATE[1])]
    wrong = line("the job samples failed: a file cannot be read (permission denied)")
    assert confinement.in_walls("\n".join([*late, wrong])) == [wrong]
    assert confinement.in_walls("\n".join(late)) == []


def test_who_takes_versions_has_of_roots_rights_what_the_bench_gives_sysupdate(tree: Path) -> None:
    """`tests.image offers` runs it so, and it takes what is good: a right that it needs and has not shows there."""
    for unit in ("update.service", "update-from-stick.service"):
        assert told(tree, unit)["CapabilityBoundingSet"] == ["CAP_SYS_ADMIN CAP_DAC_OVERRIDE"], unit
    walls = told(tree, "update.service")
    assert walls["SystemCallFilter"][-1] == "~@privileged @resources"
    assert walls["RestrictNamespaces"] == ["yes"]
    assert "+sys_admin,+dac_override" in " ".join(offers.confined())


def test_who_writes_the_disk_has_no_network_and_who_fetches_has_no_right(tree: Path) -> None:
    for unit in ("update.service", "update-from-stick.service"):
        walls = told(tree, unit)
        assert (walls["PrivateNetwork"], walls["IPAddressDeny"], walls["IPAddressAllow"]) == (
            ["yes"],
            ["any"],
            ["localhost"],
        ), unit
    walls = told(tree, "update-way.service")
    assert (walls["User"], walls["CapabilityBoundingSet"], walls["IPAddressDeny"]) == (
        ["update-way"],
        [],
        ["localhost"],
    )
    assert not {"ReadWritePaths", "StateDirectory", "RuntimeDirectory"} & walls.keys()
