"""The units as systemd itself reads them: valid, walled in, and agreeing with the code that they start."""

import configparser
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from appliance.catalog import database
from appliance.config import DicomConfig
from appliance.dicom import scp
from appliance.fleet import desk
from appliance.store import keys
from appliance.web import server
from tests.system.running import VERBS

UNITS = Path(__file__).parents[2] / "systemd"
SYSTEM = UNITS / "system"
NETWORK_FACING = {"dicom", "web"}
FROM_DEBIAN = (
    "basic",
    "local-fs",
    "local-fs-pre",
    "multi-user",
    "network",
    "network-online",
    "network-pre",
    "paths",
    "shutdown",
    "slices",
    "sockets",
    "swap",
    "sysinit",
    "timers",
)
"""Targets of the distribution that the units name."""


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tree as the image has it: the units where packages put them, and programs that stand in for ours."""
    made = tmp_path_factory.mktemp("root")
    system = made / "usr/lib/systemd/system"
    shutil.copytree(SYSTEM, system)
    for name in FROM_DEBIAN:
        (system / f"{name}.target").write_text(f"[Unit]\nDescription={name}\n")
    for program in (
        "venv/bin/appliance",
        *(f"libexec/{each.name}" for each in (UNITS / "libexec").iterdir()),
    ):
        path = made / "usr/lib/appliance" / program
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("#!/bin/sh\n")
        path.chmod(0o755)
    return made


def asked(*words: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run([str(each) for each in words], capture_output=True, text=True, check=False)


def read(unit: str) -> dict[str, list[str]]:
    """The settings of a service, with what the shared drop-in adds."""
    found: dict[str, list[str]] = {}
    for path in (SYSTEM / unit, SYSTEM / "appliance-.service.d/50-common.conf"):
        for line in path.read_text().splitlines():
            if match := re.match(r"(\w+)=(.*)", line):
                found.setdefault(match[1], []).append(match[2])
    return found


def every_unit() -> Iterator[str]:
    return (path.name for path in sorted(SYSTEM.iterdir()) if path.is_file())


def test_systemd_finds_nothing_to_complain_of(root: Path) -> None:
    told = asked("systemd-analyze", "verify", "--man=no", f"--root={root}", *every_unit())
    assert (told.returncode, told.stderr) == (0, "")


def test_a_mistake_in_a_unit_would_be_found(root: Path, tmp_path: Path) -> None:
    broken = tmp_path / "root"
    shutil.copytree(root, broken)
    path = broken / "usr/lib/systemd/system/appliance-web.service"
    path.write_text(path.read_text().replace("CPUWeight=", "CpuWieght="))
    told = asked("systemd-analyze", "verify", "--man=no", f"--root={broken}", path.name)
    assert "CpuWieght" in told.stderr


@pytest.mark.parametrize("verb", VERBS)
def test_the_exposure_of_a_service_is_as_low_as_promised(root: Path, verb: str) -> None:
    most = 1.5 if verb in NETWORK_FACING else 2.0
    unit = f"appliance-{verb}.service"
    told = asked(
        "systemd-analyze",
        "security",
        "--offline=true",
        f"--root={root}",
        f"--threshold={round(most * 10)}",
        unit,
        "--no-pager",
    )
    figure = re.search(r"Overall exposure level for \S+: (\d+\.\d)", told.stdout)
    assert figure is not None, told.stderr
    assert float(figure[1]) < most
    assert told.returncode == 0


def test_the_seal_is_made_behind_walls_too(root: Path) -> None:
    told = asked("systemd-analyze", "security", "--offline=true", f"--root={root}", "machine-seal.service")
    figure = re.search(r"exposure level for \S+: (\d+\.\d)", told.stdout)
    assert figure is not None
    assert float(figure[1]) < 3.0, "it is root for a moment, because only root may seal"


def test_the_line_of_support_has_nothing_of_the_box_and_ends_by_itself(root: Path) -> None:
    told = asked("systemd-analyze", "security", "--offline=true", f"--root={root}", "support-line.service")
    figure = re.search(r"exposure level for \S+: (\d+\.\d)", told.stdout)
    assert figure is not None
    assert float(figure[1]) < 2.0
    text = (SYSTEM / "support-line.service").read_text()
    assert "User=appliance-support" in text
    assert "InaccessiblePaths=-/var/lib/appliance " in text
    assert "RuntimeMaxSec=4h" in text
    assert "IPAddressDeny=localhost\nIPAddressAllow=127.0.0.53\n" in text
    assert "WantedBy" not in text, "only a session that is open starts it"
    assert f"PathExists={desk.UNIT_FOLDER}/desk" in (SYSTEM / "support-line.path").read_text()


@pytest.mark.parametrize("verb", VERBS)
def test_a_service_starts_its_verb_and_is_started_with_the_appliance(verb: str) -> None:
    unit = read(f"appliance-{verb}.service")
    assert unit["ExecStart"] == [f"/usr/lib/appliance/venv/bin/appliance {verb}"]
    assert unit["WantedBy"] == ["appliance.target"]
    assert f"appliance-{verb}.service" in (SYSTEM / "appliance.target").read_text()
    assert unit["Type"] == ["notify"]
    assert unit["Restart"] == ["always"]


def test_a_stop_waits_longer_than_the_code_needs_to_finish() -> None:
    def seconds(verb: str) -> int:
        return int(read(f"appliance-{verb}.service")["TimeoutStopSec"][0])

    assert seconds("dicom") > scp.DRAIN_SECONDS + 5 + 10
    assert seconds("web") > 3 * server.DRAIN_SECONDS + 2


@pytest.mark.parametrize("verb", VERBS)
def test_the_watchdog_is_more_patient_than_the_longest_honest_wait(verb: str) -> None:
    """A process that waits for the catalog's write lock is not one that hangs."""
    patience = int(read(f"appliance-{verb}.service")["WatchdogSec"][0])
    assert patience > 2 * database.BUSY_SECONDS
    assert patience > 4 * max(scp.BEAT_SECONDS, server.BEAT_SECONDS)


def test_the_units_and_the_code_name_the_same_credential_port_and_folder() -> None:
    (credential,) = read("appliance-dicom.service")["LoadCredentialEncrypted"]
    name, path = credential.split(":")
    assert name == keys.CREDENTIAL
    assert path in (SYSTEM / "machine-seal.service").read_text()
    assert f"--name={keys.CREDENTIAL} " in (UNITS / "libexec/machine-seal").read_text()
    assert f"ListenStream=0.0.0.0:{DicomConfig().port}\n" in (SYSTEM / "appliance-dicom.socket").read_text()
    (folder,) = read("appliance-dicom.service")["StateDirectory"]
    assert f"APPLIANCE_DATA=/var/lib/{folder} " in read("appliance-dicom.service")["Environment"][0]


def test_together_they_leave_room_for_the_system() -> None:
    """On the smallest box that we sell (8 GB) the ceilings of the four leave two for everything else."""

    def mib(text: str) -> int:
        return int(text[:-1]) * {"M": 1, "G": 1024}[text[-1]]

    assert sum(mib(read(f"appliance-{verb}.service")["MemoryMax"][0]) for verb in VERBS) <= 6 * 1024


def test_the_account_and_the_folders_are_made_as_the_tools_read_them(tmp_path: Path) -> None:
    for kind in ("sysusers.d", "tmpfiles.d"):
        folder = tmp_path / f"usr/lib/{kind}"
        folder.mkdir(parents=True)
        shutil.copy(UNITS / kind / "appliance.conf", folder)
    (tmp_path / "etc").mkdir()
    made = asked("systemd-sysusers", f"--root={tmp_path}")
    assert made.returncode == 0, made.stderr
    (account,) = [
        line for line in (tmp_path / "etc/passwd").read_text().splitlines() if line.startswith("appliance:")
    ]
    assert account.endswith(":/var/lib/appliance:/usr/sbin/nologin")
    told = asked("systemd-tmpfiles", "--create", f"--root={tmp_path}")
    assert (told.returncode, told.stderr) == (0, "")
    for name in ("appliance", "machine-seal"):
        assert (tmp_path / "var/lib" / name).stat().st_mode & 0o777 == 0o700


def test_nothing_of_the_memory_reaches_the_disk() -> None:
    core = configparser.ConfigParser()
    core.read(UNITS / "coredump.conf.d/appliance.conf")
    assert core["Coredump"]["storage"] == "none"
    for verb in VERBS:
        unit = read(f"appliance-{verb}.service")
        assert unit["LimitCORE"] == ["0"]
        assert unit["MemorySwapMax"] == ["0"]


def test_the_seal_is_made_once_and_never_over_another_one(tmp_path: Path) -> None:
    seal = tmp_path / "seal" / "machine-seal.cred"
    seal.parent.mkdir()
    seal.write_bytes(b"the one that opens this box's keys")
    made = asked(UNITS / "libexec/machine-seal", seal)
    assert made.returncode == 0
    assert seal.read_bytes() == b"the one that opens this box's keys"


def test_a_sealed_credential_opens_to_32_bytes_under_its_own_name_only(tmp_path: Path) -> None:
    """With a key of the host that is made here, because a test must not make one for the machine that it runs on."""
    sealed = tmp_path / "machine-seal.cred"
    made = subprocess.run(
        ["systemd-creds", "encrypt", f"--name={keys.CREDENTIAL}", "--with-key=tpm2-absent", "-", str(sealed)],
        input=bytes(32),
        capture_output=True,
        check=False,
    )
    assert made.returncode == 0, made.stderr
    opened = asked("systemd-creds", "decrypt", f"--name={keys.CREDENTIAL}", sealed, "-", "--transcode=hex")
    assert opened.stdout.strip() == "00" * 32
    other = asked("systemd-creds", "decrypt", "--name=another", sealed, "-")
    assert other.returncode != 0
