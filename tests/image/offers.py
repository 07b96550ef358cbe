"""What sysupdate makes of the transfers that a box carries, without a machine: a disk in a file, two slots, a server.

Runs in the tools tree of the build, whose sysupdate is the box's, and fetches as a box does (`tests.image.way`). It shows in seconds what is taken, what is refused and what
a cut leaves; that a machine starts from it, and returns from what fails, only `tests.image.updates` shows.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import re
import shutil
import subprocess
import tempfile
import threading
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from gzip import compress
from pathlib import Path

from tests.image.promises import BUILT, kept
from tests.image.serving import Shop, shop
from tests.image.way import way

TRANSFERS = Path(__file__).parents[2] / "image-build/mkosi.extra/usr/share/appliance/update"
UNIT = TRANSFERS.parents[2] / "lib/systemd/system/update.service"
PROGRESS = TRANSFERS.parents[2] / "lib/appliance/update_progress.py"
ROOT_TYPE, VERITY_TYPE = "4F68BCE3-E8CD-4DB1-96E7-FBCAF984B709", "2C7357ED-EBD2-46D9-AEC1-23D437EC2BF5"
SLOT_BYTES = {"root": 24 << 20, "verity": 2 << 20}
KERNEL_BYTES = 3 << 20
HAD = "0.1.0"

_IN_TOOLS = """
tools=$1 folder=$2; shift 2
mount --bind "$tools" "$tools"
for each in dev proc sys; do mount --rbind "/$each" "$tools/$each"; done
mount -t tmpfs tmpfs "$tools/tmp"
mount -t tmpfs tmpfs "$tools/run"
mkdir "$tools/tmp/bench"
mount --rbind "$folder" "$tools/tmp/bench"
mount --bind "$folder/trusted.gpg" "$tools/usr/lib/systemd/import-pubring.gpg"
cd "$tools"
pivot_root . mnt
umount --lazy /mnt
exec env -i PATH=/usr/sbin:/usr/bin "$@"
"""

_AS_A_BOX = """
mkdir /run/sysupdate.d
cp /tmp/bench/transfers/* /run/sysupdate.d
exec python3 -I /tmp/bench/update_progress.py "$1" /tmp/bench/told/fetching \\
  /usr/lib/systemd/systemd-sysupdate --verify=yes update
"""


@dataclass
class Bench:
    """A disk with version `HAD` in one slot, and what may be offered to it. As a box: `kernels` is the folder on the ESP."""

    folder: Path
    disk: str = ""
    address: str = ""
    """At which its server is asked: of this machine, as `update` gives it to sysupdate, and from there by the way to the network."""

    @property
    def kernels(self) -> Path:
        return self.folder / "kernels"

    def in_tools(self, *command: str, under: Sequence[str] = ()) -> subprocess.Popen[str]:
        """A program of the tools tree, with this folder at /tmp/bench; `under` is one of this machine that starts it."""
        return subprocess.Popen(
            [
                *under,
                *("unshare", "--mount", "--propagation", "private", "bash", "-euc", _IN_TOOLS, "in_tools"),
                *(str(BUILT / "tools"), str(self.folder), *command),
            ],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def ask(self, *command: str) -> str:
        """What it prints; it must succeed."""
        with self.in_tools(*command) as process:
            told, _ = process.communicate()
        assert process.returncode == 0, told
        return told

    def partition(self) -> None:
        """Two slots, the first of them full; the disk is a loop device over a file."""
        (self.folder / "disk.raw").touch()
        os.truncate(self.folder / "disk.raw", 2 * sum(SLOT_BYTES.values()) + (4 << 20))
        lines = [
            "label: gpt",
            f"start=2048, size={SLOT_BYTES['root'] // 512}, type={ROOT_TYPE}, name=appliance_{HAD}",
        ]
        for kind, label in (
            (VERITY_TYPE, f"appliance_{HAD}"),
            (ROOT_TYPE, "_empty"),
            (VERITY_TYPE, "_empty"),
        ):
            size = SLOT_BYTES["root" if kind == ROOT_TYPE else "verity"] // 512
            lines.append(f"size={size}, type={kind}, name={label}")
        (self.folder / "layout").write_text("\n".join(lines) + "\n")
        self.ask("sh", "-c", "sfdisk --quiet /tmp/bench/disk.raw </tmp/bench/layout")
        attached = subprocess.run(
            ["losetup", "--find", "--show", str(self.folder / "disk.raw")],
            capture_output=True,
            text=True,
            check=True,
        )
        self.disk = attached.stdout.strip()
        self.kernels.mkdir()
        (self.kernels / f"appliance_{HAD}.efi").write_bytes(b"the version that runs")

    def carry(self) -> None:
        """The transfers of a box, but for this disk, this folder of kernels, and a version that no os-release names."""
        (self.folder / "transfers").mkdir()
        for each in TRANSFERS.glob("*.transfer"):
            text = each.read_text()
            for was, here in (
                ("@SOURCE@", self.address),
                ("ProtectVersion=%A", f"ProtectVersion={HAD}"),
                ("Path=auto", f"Path={self.disk}"),
                ("Path=/EFI/Linux\nPathRelativeTo=boot", "Path=/tmp/bench/kernels"),
            ):
                text = text.replace(was, here)
            (self.folder / "transfers" / each.name).write_text(text)

    def update(self, *version: str, under: Sequence[str] = ()) -> subprocess.Popen[str]:
        """As `libexec/update` calls it, with what its unit leaves it of root's rights; `version` is the one that a fleet's ring names, if it names one."""
        return self.in_tools(
            *confined(),
            "/usr/lib/systemd/systemd-sysupdate",
            "--verify=yes",
            "--definitions=/tmp/bench/transfers",
            "update",
            *version,
            under=under,
        )

    def take(self, *version: str) -> tuple[int, str]:
        """Exit status and what was said."""
        with self.update(*version) as process:
            told, _ = process.communicate()
        return process.returncode, told

    def slots(self) -> list[tuple[str, str]]:
        """Label and identifier of each partition."""
        table = json.loads(self.ask("sfdisk", "--json", "/tmp/bench/disk.raw"))["partitiontable"]
        return [(each.get("name", ""), each["uuid"].lower()) for each in table["partitions"]]

    def to_start(self) -> list[str]:
        """The names among the kernels that a loader would see."""
        return sorted(each.name for each in self.kernels.glob("appliance_*.efi"))


def confined() -> tuple[str, ...]:
    """The words that run a program with the capabilities of `update.service`, and none that it could gain."""
    found = re.search(r"^CapabilityBoundingSet=(CAP_[A-Z_ ]+)$", UNIT.read_text(), re.MULTILINE)
    assert found is not None, "update.service has every capability"
    names = ",".join(f"+{each.removeprefix('CAP_').lower()}" for each in found[1].split())
    return "setpriv", f"--bounding-set=-all,{names}", "--inh-caps=-all", "--no-new-privs"


# --- what is offered -------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Offer:
    """A folder as a server of updates has it, and what was packed in it."""

    folder: Path
    version: str
    identifiers: dict[str, str]
    contents: dict[str, bytes]


def offer(bench: Bench, version: str, signer: Path, *options: str) -> Offer:
    """Noise in the shape of a version, signed by `signer`."""
    folder = bench.folder / "offers" / f"{version}-{signer.name}-{len(options)}"
    folder.mkdir(parents=True)
    noise = random.Random(version)
    identifiers, contents = {}, {}
    for kind, size in SLOT_BYTES.items():
        data = noise.randbytes(size // 2) + bytes(size - size // 2)
        identifiers[kind], contents[kind] = str(uuid.UUID(int=noise.getrandbits(128))), data
        packed = folder / f"appliance_{version}_{identifiers[kind].replace('-', '')}.{kind}.raw.gz"
        packed.write_bytes(compress(data, compresslevel=1, mtime=0))
    (folder / f"appliance_{version}.efi").write_bytes(noise.randbytes(KERNEL_BYTES))
    sign(folder, signer, *options)
    return Offer(folder, version, identifiers, contents)


def together(bench: Bench, signer: Path, *found: Offer) -> Path:
    """A folder that offers all of them, as a server does that keeps older versions for the rings behind."""
    folder = bench.folder / "offers" / "together"
    folder.mkdir()
    for each in found:
        for path in each.folder.glob("appliance_*"):
            shutil.copy(path, folder)
    sign(folder, signer)
    return folder


def sign(folder: Path, signer: Path, *options: str) -> None:
    """The list of digests of what lies in `folder`, signed by `signer`."""
    digests = [
        (hashlib.sha256(each.read_bytes()).hexdigest(), each.name) for each in sorted(folder.iterdir())
    ]
    (folder / "SHA256SUMS").write_text("".join(f"{digest}  {name}\n" for digest, name in digests))
    signature = ("--detach-sign", "--output", str(folder / "SHA256SUMS.gpg"), str(folder / "SHA256SUMS"))
    _gpg(signer, *options, *signature)


def signer(folder: Path, name: str, *options: str) -> Path:
    """A key of this test's own."""
    home = folder / name
    home.mkdir(mode=0o700)
    _gpg(home, *options, "--passphrase", "", "--quick-generate-key", name, "ed25519", "sign", "never")
    return home


def _gpg(home: Path, *words: str) -> None:
    subprocess.run(["gpg", "--homedir", str(home), "--batch", "--quiet", "--yes", *words], check=True)


@contextmanager
def benched() -> Iterator[tuple[Bench, Shop, Path, Path, Path]]:
    """A bench, its server, the vendor's key, another's, and one of the vendor's that was made ten years ago."""
    if not (BUILT / "tools/usr/lib/systemd/systemd-sysupdate").exists():
        raise SystemExit("there are no tools to build in: make image")
    with (
        tempfile.TemporaryDirectory(prefix="bench-", dir=BUILT) as made,
        shop() as offers,
        way(f"http://127.0.0.1:{offers.port}/") as address,
    ):
        bench = Bench(Path(made), address=address)
        vendor, stranger = signer(bench.folder, "vendor"), signer(bench.folder, "stranger")
        ancient = signer(bench.folder, "ancient", "--faked-system-time", "20161001T000000")
        try:
            keys = [bench.folder / f"{home.name}.pub" for home in (vendor, ancient)]
            for home, key in zip((vendor, ancient), keys, strict=True):
                _gpg(home, "--export", "--output", str(key))
            (bench.folder / "trusted.gpg").write_bytes(b"".join(key.read_bytes() for key in keys))
            bench.partition()
            bench.carry()
            yield bench, offers, vendor, stranger, ancient
        finally:
            for home in (vendor, stranger, ancient):
                subprocess.run(["gpgconf", "--homedir", str(home), "--kill", "all"], check=True)
            if bench.disk:
                subprocess.run(["losetup", "--detach", bench.disk], check=True)


# --- the promises ----------------------------------------------------------------------------------------------------


def offers() -> None:
    """Everything that can be offered, one after the other, to one disk."""
    with benched() as (bench, shown, vendor, stranger, ancient):
        had, to_start = bench.slots(), bench.to_start()
        first = offer(bench, "0.1.1", vendor)
        for why, folder in spoilt(bench, first, vendor, stranger):
            shown.folder = folder
            code, told = bench.take()
            kept(f"an update {why} is refused", code != 0, told)
            kept("and there is nothing new to start", bench.to_start() == to_start, str(bench.to_start()))
        shown.folder = offer(bench, "0.0.9", vendor).folder
        code, told = bench.take()
        kept(
            "an older version is not taken, however well it is signed",
            (code, bench.to_start()) == (0, to_start),
            told,
        )
        cut(bench, shown, first)
        told_how_far(bench, shown, first)
        taken(bench, shown, first, "after a cut it is taken whole")
        kept("the slot that runs is untouched", bench.slots()[:2] == had[:2], str(bench.slots()))
        left = bench.kernels / f"appliance_{first.version}+3-0.efi"
        left.rename(left.with_name(f"appliance_{first.version}+0-3.efi"))
        to_start = bench.to_start()
        code, told = bench.take()
        kept(
            "a version that was left is not taken a second time",
            (code, bench.to_start()) == (0, to_start),
            told,
        )
        next_one, last = offer(bench, "0.1.2", vendor), offer(bench, "0.1.3", vendor)
        both = together(bench, vendor, next_one, last)
        shown.folder = both
        code, told = bench.take("0.1.4")
        kept(
            "a version that is named and not there is not replaced by another",
            code != 0 and bench.to_start() == to_start,
            told,
        )
        taken(
            bench,
            shown,
            replace(next_one, folder=both),
            "of two that are newer the one that is named takes its place",
            next_one.version,
        )
        at_a_wrong_clock(bench, shown, vendor, ancient)
        kept("and the slot that runs is untouched still", bench.slots()[:2] == had[:2], str(bench.slots()))


def spoilt(bench: Bench, first: Offer, vendor: Path, stranger: Path) -> Iterator[tuple[str, Path]]:
    """Why it must be refused, and the folder."""
    yield "that somebody else has signed", offer(bench, first.version, stranger).folder
    expired = offer(bench, first.version, vendor, "--default-sig-expire", "seconds=1")
    sums = expired.folder / "SHA256SUMS"
    verify = ("gpg", "--homedir", str(vendor), "--batch", "--verify", f"{sums}.gpg", str(sums))
    while (
        "Expired signature" not in subprocess.run(verify, capture_output=True, text=True, check=False).stderr
    ):
        pass  # the second is not over
    yield "whose signature has expired", expired.folder
    for why, pattern in (
        ("whose list was altered", "SHA256SUMS"),
        ("whose hashes were altered on their way", "*.verity.raw.gz"),
        ("whose root was altered on its way", "*.root.raw.gz"),
        ("whose kernel was altered on its way", "*.efi"),
    ):
        folder = bench.folder / "offers" / why.replace(" ", "-")
        shutil.copytree(first.folder, folder)
        (path,) = folder.glob(pattern)
        data = bytearray(path.read_bytes())
        data[len(data) // 2] ^= 1
        path.write_bytes(data)
        yield why, folder
    unsigned = bench.folder / "offers" / "unsigned"
    shutil.copytree(first.folder, unsigned)
    (unsigned / "SHA256SUMS.gpg").unlink()
    yield "that nobody has signed", unsigned


def cut(bench: Bench, shown: Shop, first: Offer) -> None:
    """It ends at every twentieth of what is fetched, as when the power goes: in the hashes, in the root and in the kernel."""
    to_start, had, runs = bench.to_start(), bench.slots(), what_runs(bench)
    names = [".verity.raw.gz", ".root.raw.gz", ".efi"]  # in the order of the transfers
    sizes = {name: next(first.folder.glob(f"*{name}")).stat().st_size for name in names}
    whole, cuts = sum(sizes.values()), []
    for twentieth in range(20):
        at = whole * twentieth // 20
        for name, size in sizes.items():
            if at < size:
                cuts.append((5 * twentieth, name, at))
                break
            at -= size
    assert {name for _, name, _ in cuts} == set(names), "no cut falls into one of them"
    shown.folder = first.folder
    for percent, name, at in cuts:
        shown.holds, shown.cut_in, shown.cut_after = True, name, at
        shown.reached, shown.closed = threading.Event(), threading.Event()
        with bench.update() as process:
            assert shown.reached.wait(600), f"it has never asked for {name}"
            process.kill()
        shown.closed.set()
        where = f"cut at {percent} %, {at} bytes into {name},"
        kept(f"{where} there is nothing new to start", bench.to_start() == to_start, str(bench.to_start()))
        slots = bench.slots()
        named = [label for label, _ in slots[2:] if label == f"appliance_{first.version}"]
        kept(
            "no slot is called by its name, and the other is untouched",
            not named and slots[:2] == had[:2],
            str(slots),
        )
        kept("what runs is the same to the bit, under its name", what_runs(bench) == runs)
    shown.holds = False


def told_how_far(bench: Bench, shown: Shop, first: Offer) -> None:
    """Held in the middle of the root and of the kernel: by then it is told how far it is, as the box's own `update` has it told."""
    shutil.copy(PROGRESS, bench.folder)
    sizes = [
        next(first.folder.glob(f"*{name}")).stat().st_size
        for name in (".verity.raw.gz", ".root.raw.gz", ".efi")
    ]
    shown.folder = first.folder
    for name, index in ((".root.raw.gz", 1), (".efi", 2)):
        at = sizes[index] // 2
        shown.holds, shown.cut_in, shown.cut_after = True, name, at
        shown.reached, shown.closed = threading.Event(), threading.Event()
        told = bench.folder / "told" / "fetching"
        told.parent.mkdir(exist_ok=True)
        told.write_text("1764000000\n")
        with bench.in_tools("sh", "-euc", _AS_A_BOX, "update", bench.address) as process:
            assert shown.reached.wait(600), f"it has never asked for {name}"
            had, came = sum(sizes[:index]), sum(sizes[:index]) + at
            least, most = (100 * each // sum(sizes) for each in (had, came))
            figures: list[str] = []
            for _ in range(300):
                _, *figures = told.read_text().splitlines()
                if figures and least <= int(figures[0].split()[1]):
                    break
                time.sleep(0.1)
            process.terminate()
            shown.closed.set()
        so = bool(figures) and least <= int(figures[0].split()[1]) <= most
        kept(f"held in {name}, it is told how far it is, and never more than has come", so, str(figures))
        kept("and how long it is", figures[0].split()[::2] == [first.version, str(sum(sizes))], str(figures))
    shown.holds = False


def what_runs(bench: Bench) -> tuple[str, dict[str, bytes]]:
    """The digest of the root and the hashes that run, and each kernel image that a loader would take, whose name holds its tries: a
    file whose name ends so and does not begin with a point, in whatever case (systemd-boot(7))."""
    with (bench.folder / "disk.raw").open("rb") as disk:
        disk.seek(1 << 20)
        slot = hashlib.sha256(disk.read(sum(SLOT_BYTES.values()))).hexdigest()
    seen = (each for each in bench.kernels.iterdir() if each.name.lower().endswith(".efi"))
    return slot, {each.name: each.read_bytes() for each in seen if not each.name.startswith(".")}


def at_a_wrong_clock(bench: Bench, shown: Shop, vendor: Path, ancient: Path) -> None:
    """What is signed holds whatever the clock of the box says: ten years ahead, or ten behind the signature.

    The signatures are made at another time, and not the clock of the box set: to gpg it is the same, and a program that
    is told a false time would have to be told it by a library that no box has. Only a clock that is behind the *key* would not do:
    so the key that signs updates says that it was made in 2025 (`make_keys`), and no box that starts believes that it is earlier than its
    version (``/usr/lib/clock-epoch``).
    """
    old = offer(bench, "0.1.4", ancient, "--faked-system-time", "20161101T000000")
    taken(bench, shown, old, "signed ten years ago, as a clock that is ahead sees it, it is taken")
    new = offer(bench, "0.1.5", vendor, "--faked-system-time", "20361101T000000")
    taken(bench, shown, new, "signed in ten years, as a clock that is behind sees it, it is taken")


def taken(bench: Bench, shown: Shop, wanted: Offer, promise: str, *named: str) -> None:
    """It is there to the bit, under its name and identifier, with three tries, beside the one that runs."""
    shown.folder = wanted.folder
    code, told = bench.take(*named)
    kept(promise, code == 0, told)
    name = f"appliance_{wanted.version}"
    slots = bench.slots()
    expected = [(name, wanted.identifiers["root"]), (name, wanted.identifiers["verity"])]
    kept("under its name, and found by its root hash", slots[2:] == expected, str(slots))
    disk = (bench.folder / "disk.raw").read_bytes()
    kept("to the bit", all(disk.count(each) == 1 for each in wanted.contents.values()))
    there = bench.to_start()
    kept(
        "it has three tries, beside the one that runs",
        there == [f"appliance_{HAD}.efi", f"{name}+3-0.efi"],
        str(there),
    )
