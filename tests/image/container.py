"""The container for evaluation, built from its file and run as its README says: with one volume and two ports, on a real engine.

The engine is podman, or docker by ENGINE=docker, whose daemon must run. No registry is asked: the base is a Debian that mmdebstrap makes, and the wheels are the image's where those are at hand. It begins with a
claim and a study, ends with a second container over the same volume, in which the study is still there, and is no machine: seconds, not minutes.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from pydicom.dataset import Dataset

from tests import synthetic
from tests.image.machine import free_port
from tests.image.promises import BUILT, kept
from tests.system.browser import Browser
from tests.system.dcmtk import storescu

ROOT = Path(__file__).parents[2]
FETCHED = ROOT / ".cache" / "container-wheels"
PROGRAMS = {"mmdebstrap": "mmdebstrap", "storescu": "dcmtk"}
"""Which Debian package each program is in, whichever engine it is."""
ELSEWHERE = "/usr/sbin:/sbin:/usr/lib/podman"
"""Where some of them are that people don't call."""

TAG, BASE = "localhost/clinic-edge-appliance:tests", "localhost/debian:trixie-tests"
CALLING = "PANO"
PASSWORD = "a sentence for an evaluation"
LIMITS = ("--ulimit", "nofile=4096:4096", "--ulimit", "nproc=4096:4096")
"""Engines ask for more than a machine that is itself a container gives away."""


@dataclass(frozen=True)
class Engine:
    """What an engine is called with, and the words that are not every engine's."""

    words: tuple[str, ...]
    programs: Mapping[str, str]
    has_image: tuple[str, ...]
    take_in: tuple[str, ...]
    build: Mapping[str, str] = field(default_factory=dict)


ENGINES = {
    # runc: crun wants the kernel's groups of processes of one kind, and not every machine has them so.
    "podman": Engine(
        ("podman", "--runtime", "runc"),
        {"podman": "podman", "runc": "runc", "iptables": "iptables", "netavark": "netavark"},
        ("image", "exists"),
        ("import", "--quiet"),
        {"BUILDAH_ISOLATION": "chroot"},
    ),
    "docker": Engine(
        ("docker",), {"docker": "docker.io"}, ("image", "inspect"), ("import",), {"NETWORK": "host"}
    ),
}
CHOSEN = os.environ.get("ENGINE", "podman")

ACCOUNT = "990"
PATIENCE_SECONDS = 600.0


def container(films: Sequence[Dataset]) -> None:
    """Build it; one that is claimed, sent `films` and stopped; and one more over the same volume."""
    install_programs()
    make_base()
    build()
    name = f"evaluation-{os.getpid()}"
    (study,) = {str(each.StudyInstanceUID) for each in films}
    try:
        with run(name) as first:
            is_as_promised(first)
            token = use(first, films)
            kept(
                f"the study is seen over HTTP, with its {len(films)} images",
                seen(first, token, study) == len(films),
            )
            stop(first)
        with run(name) as second:
            kept(
                "another container over the same volume is the same box, which has its owner",
                "Claim code" not in said(second),
            )
            kept("and the study, with all its images", seen(second, token, study) == len(films))
            told = second.appliance("verify", "--all")
            kept("each of them whole, byte for byte", "all are whole" in told, told)
            stop(second)
        nothing_beside(name, films)
    finally:
        engine("volume", "rm", "--force", name)
        engine("rmi", "--force", TAG)


# --- the engine ------------------------------------------------------------------------------------------------------


def install_programs() -> None:
    """By apt, where they are missing."""
    places = f"{os.environ['PATH']}:{ELSEWHERE}"
    wanted = {**PROGRAMS, **ENGINES[CHOSEN].programs}
    missing = [package for program, package in wanted.items() if shutil.which(program, path=places) is None]
    if missing:
        subprocess.run(["apt-get", "install", "-q", "-y", "--no-install-recommends", *missing], check=True)


def engine(*words: str, check: bool = False) -> subprocess.CompletedProcess[str]:
    told = subprocess.run([*ENGINES[CHOSEN].words, *words], capture_output=True, text=True, check=False)
    if check and told.returncode:
        raise SystemExit(f"{' '.join(words)}: {told.stderr or told.stdout}")
    return told


def make_base() -> None:
    """A small Debian 13 as an image of this engine's own, which stays for the next time."""
    if engine(*ENGINES[CHOSEN].has_image, BASE).returncode == 0:
        return
    with tempfile.TemporaryDirectory() as folder:
        packed = f"{folder}/debian.tar"
        subprocess.run(["mmdebstrap", "--quiet", "--variant=minbase", "trixie", packed, mirror()], check=True)
        engine(*ENGINES[CHOSEN].take_in, packed, BASE, check=True)


def mirror() -> str:
    """The one that this machine's own apt asks."""
    told = subprocess.run(
        ["apt-get", "indextargets", "--format", "$(REPO_URI)", "Created-By: Packages"],
        capture_output=True,
        text=True,
        check=True,
    )
    found = [each.rstrip("/") for each in told.stdout.split() if each.rstrip("/").endswith("/debian")]
    if not found:
        raise SystemExit("apt knows no mirror of Debian")
    return found[0]


def wheels() -> Path:
    """A folder with every wheel of the lock: the image's where it is of the same lock, else fetched as this machine's own pip is told to."""
    lock, built = ROOT / "requirements-3.13-box.lock", BUILT / "wheels"
    if (built / "requirements.lock").is_file() and (
        built / "requirements.lock"
    ).read_bytes() == lock.read_bytes():
        return built / "locked"
    fetch = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check", "download", "--no-deps"]
    of = (
        "--require-hashes",
        "--only-binary",
        ":all:",
        "--python-version",
        "3.13",
        "--requirement",
        str(lock),
    )
    subprocess.run([*fetch, *of, "--dest", str(FETCHED)], check=True)
    return FETCHED


def build() -> None:
    """By the script that everybody builds it with."""
    began = time.monotonic()
    asked = {"BASE": BASE, "ENGINE": CHOSEN, "WHEELS": str(wheels()), **ENGINES[CHOSEN].build}
    told = subprocess.run(
        [ROOT / "image-build/oci/build", TAG],
        env=os.environ | asked,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    kept(f"it is built, in {time.monotonic() - began:.0f} s", told.returncode == 0, told.stdout[-5000:])


@dataclass
class Container:
    """One that runs: its name, and port of the container → port here."""

    name: str
    ports: dict[int, int]

    def appliance(self, *words: str) -> str:
        """The command line, as the README has it."""
        return engine("exec", self.name, "appliance", *words, check=True).stdout


@contextmanager
def run(name: str) -> Iterator[Container]:
    """A container of this name over the volume of this name, from the image's own words alone; removed in the end, and not the volume."""
    ports = {8080: free_port(), 11112: free_port()}
    published = [word for there, here in ports.items() for word in ("--publish", f"127.0.0.1:{here}:{there}")]
    volume = ("--volume", f"{name}:/var/lib/appliance")
    engine("run", "--detach", "--name", name, *LIMITS, *published, *volume, TAG, check=True)
    try:
        found = Container(name, ports)
        deadline = time.monotonic() + PATIENCE_SECONDS
        while "Ready." not in said(found):
            assert time.monotonic() < deadline, said(found)
            time.sleep(1)
        yield found
    finally:
        engine("rm", "--force", name)


def said(container: Container) -> str:
    told = engine("logs", container.name)
    return told.stdout + told.stderr


def stop(container: Container) -> None:
    """As its README says; what was begun is finished."""
    engine("stop", "--time", "60", container.name, check=True)
    code = engine("inspect", "--format", "{{.State.ExitCode}}", container.name).stdout.strip()
    kept("it is stopped, and ends well by itself", code == "0", f"{code} {said(container)[-2000:]}")


# --- what is asked of it ---------------------------------------------------------------------------------------------


def is_as_promised(container: Container) -> None:
    """Nobody's root, one volume, and nothing listens but the two ports."""
    account = engine("exec", container.name, "id", "-u", check=True).stdout.strip()
    kept("it is not root", account == ACCOUNT, account)
    told = json.loads(engine("inspect", container.name, check=True).stdout)[0]["Mounts"]
    kept("it has one volume", [each["Destination"] for each in told] == ["/var/lib/appliance"], str(told))
    heard = listening(engine("exec", container.name, "cat", "/proc/net/tcp", "/proc/net/tcp6").stdout)
    kept("and listens at two ports", heard == set(container.ports), str(heard))
    with urllib.request.urlopen(
        f"http://127.0.0.1:{container.ports[8080]}/health/ready", timeout=60
    ) as answer:
        kept("through which it says that it is ready", answer.status == 200)


def listening(tables: str) -> set[int]:
    """The ports that hear more than the container itself, of /proc/net/tcp and tcp6 (proc(5))."""
    found = set()
    for fields in (line.split() for line in tables.splitlines()):
        address, _, port = fields[1].partition(":")
        if fields[3:4] == ["0A"] and not address.endswith("7F") and address != "0" * 24 + "01000000":
            found.add(int(port, 16))
    return found


def use(container: Container, films: Sequence[Dataset]) -> str:
    """Somebody claims it with the code that it has printed, and sends a study; the token of a program that may see it."""
    code = re.search(r"Claim code ([0-9A-Z]{4}-[0-9A-Z]{4})", said(container))
    kept("it prints a claim code", code is not None, said(container))
    assert code is not None
    browser = Browser(container.ports[8080])
    browser.claim(code[1], login="olivia", name="Olivia Roy", password=PASSWORD)
    kept("with which somebody becomes its owner, in the console", True)
    try:
        Browser(container.ports[8080]).claim(code[1], login="pierre", name="Pierre Roy", password=PASSWORD)
        kept("once", False)
    except (AssertionError, urllib.error.HTTPError):
        kept("once", True)
    # Whoever sends comes through the engine's own network, of which the container sees the gateway.
    gateway = "{{range .NetworkSettings.Networks}}{{.Gateway}}{{end}}"
    here = engine("inspect", "--format", gateway, container.name, check=True).stdout.strip()
    container.appliance("device", "add", "--ae-title", CALLING, "--address", here)
    with tempfile.TemporaryDirectory() as folder:
        files = synthetic.write(iter(films), Path(folder))
        sent = storescu(container.ports[11112], calling=CALLING, files=files)
    kept("storescu's images are acknowledged", sent.returncode == 0, sent.stderr)
    scopes = [
        word for each in ("studies:view", "studies:all", "patients:identify") for word in ("--scope", each)
    ]
    return str(
        json.loads(container.appliance("token", "add", "olivia", "--name", "tests", "--json", *scopes))[
            "token"
        ]
    )


def seen(container: Container, token: str, study: str) -> int:
    """How many images of the study the console's interface shows."""
    request = urllib.request.Request(
        f"http://127.0.0.1:{container.ports[8080]}/api/v1/studies",
        headers={"Authorization": f"Bearer {token}"},
    )
    with urllib.request.urlopen(request, timeout=120) as answer:
        rows = json.loads(answer.read())["items"]
    return sum(row["instances"] for row in rows if row["study_instance_uid"] == study)


def nothing_beside(name: str, films: Sequence[Dataset]) -> None:
    """No name of the patient is in clear in the volume, which is all that is left."""
    place = engine("volume", "inspect", "--format", "{{.Mountpoint}}", name, check=True).stdout.strip()
    words = {str(each.PatientName).split("^", maxsplit=1)[0].encode() for each in films}
    files = [each for each in Path(place).rglob("*") if each.is_file()]
    clear = [each.name for each in files for word in words if word in each.read_bytes()]
    kept(
        f"in the {len(files)} files that are left, no patient's name is in clear",
        bool(files) and not clear,
        str(clear),
    )
