"""The units as systemd itself reads them: valid, walled in, and agreeing with the code that they start."""

import configparser
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from appliance.catalog import database
from appliance.config import DicomConfig
from appliance.dicom import scp
from appliance.errors import Transient
from appliance.fleet import desk
from appliance.fleet.line import TICK_SECONDS, WITHOUT_DESK_SECONDS
from appliance.health import kernel_clock
from appliance.health.facts import Discipline
from appliance.imaging import child
from appliance.store import keys
from appliance.web import server
from tests.system.running import VERBS

ROOT = Path(__file__).parents[2]
UNITS = ROOT / "systemd"
SYSTEM = UNITS / "system"
FRONT = Path(__file__).parents[2] / "provisioning/roles/front/files/nginx.service.conf"
NETWORK_FACING = {
    *(f"appliance-{each}.service" for each in VERBS),
    "nginx.service",
    "support-line.service",
}
NGINX = """\
[Unit]
Description=As Debian 12 and 13 have it, in what matters here
[Service]
Type=forking
PIDFile=/run/nginx.pid
ExecStartPre=/usr/sbin/nginx -t -q -g 'daemon on; master_process on;'
ExecStart=/usr/sbin/nginx -g 'daemon on; master_process on;'
ExecReload=/usr/sbin/nginx -g 'daemon on; master_process on;' -s reload
ExecStop=-/sbin/start-stop-daemon --quiet --stop --retry QUIT/5 --pidfile /run/nginx.pid
TimeoutStopSec=5
KillMode=mixed
"""
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
    (system / "nginx.service").write_text(NGINX)
    (system / "nginx.service.d").mkdir()
    shutil.copy(FRONT, system / "nginx.service.d/appliance.conf")
    for program in (
        "appliance/venv/bin/appliance",
        *(f"appliance/libexec/{each.name}" for each in (UNITS / "libexec").iterdir()),
        "../sbin/nginx",
        "../../bin/kill",
    ):
        path = made / "usr/lib" / program
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


def services() -> list[str]:
    return ["nginx.service", *(each for each in every_unit() if each.endswith(".service"))]


@pytest.mark.parametrize("unit", services())
def test_the_exposure_of_a_service_is_as_low_as_promised(root: Path, unit: str) -> None:
    most = 1.5 if unit in NETWORK_FACING else 2.0
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


def test_who_asks_the_kernel_of_its_clock_may_and_can_not_set_it() -> None:
    """With the call forbidden nobody knows of a time server, and each box that was off for some days would ask a person."""
    said = (SYSTEM / "clock-state.service").read_text()
    (*_, last) = re.findall(r"^SystemCallFilter=(.*)$", said, re.MULTILINE)
    assert last == "adjtimex clock_adjtime", "what is said last counts"
    assert "ProtectClock=yes" not in said
    walls = dict(re.findall(r"^(\w+)=(.*)$", said, re.MULTILINE))
    assert walls["CapabilityBoundingSet"] == ""
    assert walls["PrivateDevices"] == walls["NoNewPrivileges"] == walls["PrivateNetwork"] == "yes"
    assert walls["RuntimeDirectory"] == kernel_clock.TOLD.parent.name
    assert walls["ExecStart"] == f"/usr/lib/appliance/libexec/clock-state {kernel_clock.TOLD.parent}"
    shared = (SYSTEM / "appliance-.service.d/50-common.conf").read_text()
    assert "\nProtectClock=yes\n" in shared
    jobs = (SYSTEM / "appliance-jobs.service").read_text()
    for name in ("Wants", "After"):
        assert re.search(rf"^{name}=.*\bclock-state.service$", jobs, re.MULTILINE), (
            "or its first look knows nothing"
        )
    assert not list(SYSTEM.glob("appliance-*.service.d/*clock*")), "nor may any of the appliance's processes"


def asked_by_itself(folder: Path, *before: str) -> str:
    told = asked(*before, sys.executable, "-I", str(UNITS / "libexec/clock-state"), str(folder))
    assert told.returncode == 0, told.stderr
    return (folder / "state").read_text()


def test_what_the_unit_says_of_the_clock_is_what_the_kernel_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = asked_by_itself(tmp_path)
    assert told.split()[0] == kernel_clock.discipline()
    assert (tmp_path / "state").stat().st_mode & 0o777 == 0o644
    monkeypatch.setattr(kernel_clock, "_adjtimex", lambda: None)
    monkeypatch.setattr(kernel_clock, "TOLD", tmp_path / "state")
    assert kernel_clock.discipline() == told.split()[0]


REFUSES = """
import ctypes, runpy, sys
class Refuses:
    def adjtimex(self, answer):
        return -1
ctypes.CDLL = lambda *_, **__: Refuses()
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0])
"""


def test_where_a_container_refuses_the_question_nobody_knows_and_no_unit_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = asked(sys.executable, "-I", "-c", REFUSES, str(UNITS / "libexec/clock-state"), str(tmp_path))
    assert told.returncode == 0, told.stderr
    assert (tmp_path / "state").read_text().startswith("unknown ")
    monkeypatch.setattr(kernel_clock, "_adjtimex", lambda: None)
    monkeypatch.setattr(kernel_clock, "TOLD", tmp_path / "state")
    assert kernel_clock.discipline() is Discipline.UNKNOWN


@pytest.mark.parametrize(
    "told", ["", "follows", "follows x", "follows -10000", "follows 1e12", "unheard of 1", "\xff 1"]
)
def test_what_is_old_or_no_answer_says_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, told: str
) -> None:
    (tmp_path / "state").write_text(told, "latin-1")
    monkeypatch.setattr(kernel_clock, "_adjtimex", lambda: None)
    monkeypatch.setattr(kernel_clock, "TOLD", tmp_path / "state")
    assert kernel_clock.discipline() is Discipline.UNKNOWN


FORBIDS = """
import ctypes, struct
from appliance.health import kernel_clock
kernel_clock.discipline()
calls = {"x86_64": (159, 305), "aarch64": (171, 266)}[__import__("platform").machine()]
step = struct.Struct("HBBI").pack
walls = step(0x20, 0, 0, 0) + b"".join(step(0x15, len(calls) - n, 0, call) for n, call in enumerate(calls))
walls += step(0x06, 0, 0, 0x7FFF0000) + step(0x06, 0, 0, 0x00050001)
kept = ctypes.create_string_buffer(walls)
program = ctypes.create_string_buffer(struct.pack("HxxxxxxP", len(walls) // 8, ctypes.addressof(kept)))
kernel = ctypes.CDLL(None)
assert kernel.prctl(38, 1, 0, 0, 0) == 0 and kernel.prctl(22, 2, program) == 0
print(kernel_clock.discipline())
"""
"""A filter of calls as ProtectClock= makes it, and the question asked behind it."""


def test_a_kernel_that_may_not_be_asked_is_the_reason() -> None:
    told = asked("systemd-analyze", "syscall-filter", "@clock")
    assert {"adjtimex", "clock_adjtime"} <= set(told.stdout.split())
    found = asked(sys.executable, "-c", FORBIDS)
    assert found.stdout.strip() == Discipline.UNKNOWN, found.stderr


def test_a_verb_may_write_wherever_the_console_may() -> None:
    """What a person asks for in the console, the administrator asks for with the command, and both write the same files."""
    (verb,) = re.findall(r'--property="ReadWritePaths=([^"]+)"', (UNITS / "libexec/appliance").read_text())
    console = read("appliance-web.service")
    (state,) = console["StateDirectory"]
    places = {place for line in console["ReadWritePaths"] for place in line.split()}
    assert set(verb.split()) == {f"/var/lib/{state}", *places}


def test_the_line_of_support_has_nothing_of_the_box_and_ends_by_itself() -> None:
    text = (SYSTEM / "support-line.service").read_text()
    assert "User=appliance-support" in text
    assert "InaccessiblePaths=-/var/lib/appliance " in text
    assert "RuntimeMaxSec=4h" in text
    assert "IPAddressDeny=localhost\nIPAddressAllow=127.0.0.53\n" in text
    assert f"\nSuccessExitStatus={Transient.exit_code}\n" in text, (
        "or with no session it starts again and again"
    )
    (pause,) = re.findall(r"^RestartSec=(\d+)$", text, re.MULTILINE)
    assert int(pause) == WITHOUT_DESK_SECONDS > 0, (
        "the path starts it again at once, and has no pause of its own"
    )
    assert "Type=notify\n" in text, "or the watchdog counts from before the program has begun"
    (patience,) = re.findall(r"^WatchdogSec=(\d+)$", text, re.MULTILINE)
    assert int(patience) > 20 * TICK_SECONDS, "a machine that is busy is no line that hangs"
    assert "WantedBy" not in text, "only a session that is open starts it"
    assert f"PathExists={desk.UNIT_FOLDER}/desk" in (SYSTEM / "support-line.path").read_text()


@pytest.mark.parametrize(
    "unit", [*(f"appliance-{each}.service" for each in VERBS), "support-line.service", "nginx.service"]
)
def test_every_process_that_stays_has_its_limits(unit: str) -> None:
    text = FRONT.read_text() if unit == "nginx.service" else (SYSTEM / unit).read_text()
    if unit.startswith("appliance-"):
        text += (SYSTEM / "appliance-.service.d/50-common.conf").read_text()
    for name in ("MemoryMax", "TasksMax"):
        assert re.search(rf"^{name}=\d+[MG]?$", text, re.MULTILINE), name
    assert "MemorySwapMax=0\n" in text
    assert "LimitCORE=0\n" in text
    assert re.search(r"^User=(appliance|appliance-support|www-data)$", text, re.MULTILINE), "none stays root"


def test_the_slice_holds_all_of_them_below_the_machine() -> None:
    text = (SYSTEM / "appliance.slice").read_text()
    shares = {
        name: int(found) for name, found in re.findall(r"^(MemoryHigh|MemoryMax)=(\d+)%$", text, re.MULTILINE)
    }
    assert shares["MemoryHigh"] < shares["MemoryMax"] < 100
    assert all(read(f"appliance-{verb}.service")["Slice"] == ["appliance.slice"] for verb in VERBS)
    tasks = sum(int(read(f"appliance-{verb}.service")["TasksMax"][0]) for verb in VERBS)
    assert f"TasksMax={tasks}" in text or int(re.findall(r"^TasksMax=(\d+)$", text, re.MULTILINE)[0]) >= tasks


@pytest.mark.parametrize("verb", VERBS)
def test_a_service_starts_after_its_seal_and_its_disk(verb: str) -> None:
    unit = read(f"appliance-{verb}.service")
    after, requires = " ".join(unit["After"]).split(), " ".join(unit["Requires"]).split()
    assert {"local-fs.target", "systemd-tmpfiles-setup.service", "machine-seal.service"} <= set(after)
    assert "machine-seal.service" in requires
    assert f"appliance-{verb}.service" in (SYSTEM / "machine-seal.service").read_text(), "Before="
    assert (
        f"appliance-{verb}.service"
        in re.findall(r"^After=(.*)$", (SYSTEM / "appliance.target").read_text(), re.MULTILINE)[0]
    )


def test_reception_and_the_console_wait_for_no_internet() -> None:
    for verb in ("dicom", "web"):
        unit = read(f"appliance-{verb}.service")
        assert "network-online.target" not in " ".join(unit["After"] + unit.get("Wants", [])), verb


def test_the_port_is_held_before_reception_and_the_certificate_before_the_front() -> None:
    dicom = read("appliance-dicom.service")
    assert "appliance-dicom.socket" in " ".join(dicom["After"])
    assert "appliance-dicom.socket" in " ".join(dicom["Requires"])
    assert "Requires=tls-front.service\nAfter=tls-front.service\n" in FRONT.read_text()
    assert "Before=nginx.service\n" in (SYSTEM / "tls-front.service").read_text()


def test_the_journal_is_bounded_in_size_and_in_time() -> None:
    journal = configparser.ConfigParser()
    journal.read(UNITS / "journald.conf.d/appliance.conf")
    assert journal["Journal"]["systemmaxuse"] == "512M"
    assert journal["Journal"]["systemkeepfree"] == "1G"
    assert journal["Journal"]["maxretentionsec"] == "90day"
    assert int(journal["Journal"]["ratelimitburst"]) > 0


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


@pytest.mark.parametrize(
    "text",
    [
        (SYSTEM / "appliance-.service.d/50-common.conf").read_text(),
        (UNITS / "libexec/appliance")
        .read_text()
        .replace('"$seal"', "/var/lib/machine-seal/machine-seal.cred"),
        (ROOT / "image-build/mkosi.extra/usr/lib/systemd/system/screen.service").read_text(),
    ],
    ids=["units", "command", "screen"],
)
def test_whoever_is_given_the_seal_is_given_what_says_its_key(text: str) -> None:
    given = dict(re.findall(r"LoadCredential(?:Encrypted)?=(machine-seal[^:]*):(\S+)", text))
    assert set(given) == {keys.CREDENTIAL, keys.SEALED_CREDENTIAL}
    assert set(given.values()) == {"/var/lib/machine-seal/machine-seal.cred"}
    assert f"LoadCredentialEncrypted={keys.CREDENTIAL}:" in text
    assert f"LoadCredential={keys.SEALED_CREDENTIAL}:" in text


def test_a_picture_that_takes_all_it_may_leaves_the_console_room() -> None:
    """The kernel would hold up every page beyond `MemoryHigh`; beyond `MemoryMax` it ends a process, which must cost its picture alone."""
    pages_mib = 300
    web = read("appliance-web.service")
    high, most = (int(web[name][0].removesuffix("M")) for name in ("MemoryHigh", "MemoryMax"))
    assert (child.MEMORY_BYTES >> 20) + pages_mib < high < most
    for name in ("appliance-web.service", "appliance-dicom.service"):
        assert read(name)["OOMPolicy"] == ["continue"], "as delivered, systemd would stop the whole unit"


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
    kernel = (UNITS / "sysctl.d/appliance.conf").read_text()
    assert "kernel.core_pattern = |/bin/false\n" in kernel
    assert "fs.suid_dumpable = 0\n" in kernel


CHIPLESS = """#!/bin/sh
[ "$1" = encrypt ] || exec {real} "$@"
[ "$3" = --with-key=auto ] && exec {real} "$1" "$2" --with-key={key} "$4" "$5"
"""


AS_ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="the host's key is root's")


@pytest.mark.parametrize("key", ["tpm2-absent", pytest.param("host", marks=AS_ROOT)])
def test_a_seal_that_was_made_while_the_chip_was_not_there_is_told_at_each_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, key: str
) -> None:
    """By the real `systemd-creds`, with a key of the host that is made here."""
    monkeypatch.setenv("SYSTEMD_CREDENTIAL_SECRET", str(tmp_path / "secret"))
    (tmp_path / "systemd-creds").write_text(CHIPLESS.format(real=shutil.which("systemd-creds"), key=key))
    (tmp_path / "systemd-creds").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    given = tmp_path / "given"
    sealed = given / keys.SEALED_CREDENTIAL
    for _ in range(2):
        told = asked(UNITS / "libexec/machine-seal", sealed, tmp_path / "root.machine", "1")
        assert told.returncode == 0, told.stderr
        opened = asked(
            "systemd-creds", "decrypt", f"--name={keys.CREDENTIAL}", sealed, given / keys.CREDENTIAL
        )
        assert opened.returncode == 0, opened.stderr
        (given / keys.CREDENTIAL).chmod(0o400)
        found = keys.machine_seal(tmp_path / "keys", {"CREDENTIALS_DIRECTORY": str(given)})
        assert (found.kind, len(found.secret)) == ("host", 32)
        (given / keys.CREDENTIAL).unlink()


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
