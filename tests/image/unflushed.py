"""Power cuts as a disk sees them: what no flush had confirmed is lost, in part or torn, and all that was acknowledged is there.

A machine that is killed from outside loses nothing that its disk was told (`tests.image.load`): the host has it. So one machine receives
images while all that its disk is told is written down (`tests.image.writes`), and what the disk may hold after a cut at any of those
writes is made of that, as often as asked: unlocked, its journal replayed by this machine's kernel, opened with the paper recovery key
as after a change of hardware, and what the box had acknowledged until then compared, byte for byte.
"""

from __future__ import annotations

import hashlib
import json
import random
import shutil
import subprocess
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path

from appliance import audit
from appliance.box import open_box
from appliance.config import Config, StoreConfig
from appliance.ingest import Reception
from appliance.store import keys
from tests.boxes import data_set_of, recorded
from tests.image.load import admit, sending
from tests.image.machine import Hardware, switched_on
from tests.image.promises import BUILT, PROMISED_PORTS, image, kept, running
from tests.image.writes import Kept, Replay, Volume, entries_told, room, volume_of
from tests.instances import Instance

ACKNOWLEDGED = 400
LOAD_SECONDS = 1800
"""So many images come before the machine is killed, or as many as do in so long."""

DATA = Path("lib/appliance")

ON = "/dev/disk/by-partlabel/data"
SECTORS = f"cd /sys/class/block/$(basename $(readlink -f {ON})) && cat start size"
METADATA = f"cryptsetup luksDump --dump-json-metadata {ON}"
VOLUME_KEY = (
    "tr -d '\\n' </var/lib/disk-recovery/key | cryptsetup luksDump --dump-volume-key --batch-mode --key-file - "
    f"--volume-key-file /run/volume.key {ON} >/dev/null && od -An -v -tx1 /run/volume.key | tr -d ' \\n'; rm -f /run/volume.key"
)
"""Print what the box's own volume is: of a machine that is thrown away afterwards."""

RUN = BUILT / "unflushed"
"""The run that was recorded: throw it away for another."""

FIGURES = BUILT / "unflushed.json"
"""How many cuts of which kind were recovered from."""


@dataclass
class Acknowledged:
    """What the box has said it keeps: of each image the digest, and how many entries the log of its disk had by then at most."""

    log: Path
    digests: dict[str, str] = field(default_factory=dict)
    entries: dict[str, int] = field(default_factory=dict)
    _latest: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def note(self, instance: Instance) -> None:
        """An answer has come. The flush that it waited for is in the log, and the log's first sector was written after that."""
        with self._lock:
            # Two flushes may write that sector in the wrong order: what it said once was true.
            self._latest = max(self._latest, entries_told(self.log))
            uid = instance.sop_instance_uid
            self.digests[uid] = hashlib.sha256(instance.data_set).hexdigest()
            self.entries[uid] = self._latest

    def by(self, cut: int) -> dict[str, str]:
        """What had been acknowledged, with its digest, when the log had `cut` entries."""
        return {uid: digest for uid, digest in self.digests.items() if self.entries[uid] <= cut}


@dataclass(frozen=True)
class Run:
    """One run under load: the disk before it, what it was told since, what was answered, and what opens it."""

    before: Path
    answered: Acknowledged
    volume: Volume
    paper: str


def unflushed(hardware: Hardware, cuts: int, seed: int) -> None:
    """`cuts` times the disk of one run under load is left as a cut may leave it; half of them right after an answer.

    The run is kept beside the image, and the next one with another seed goes on with it, as long as no newer image was built."""
    run = _kept_run()
    if run is None:
        _record_run(hardware)
        run = _kept_run()
        assert run is not None
    recover(run, cuts, seed, hardware.folder)


def _record_run(hardware: Hardware) -> None:
    """Let a machine take images in while its disk's writes are written down, kill it, and keep what `_kept_run` reads."""
    shutil.rmtree(RUN, ignore_errors=True)
    RUN.mkdir()
    hardware.assemble(image(".test"))
    with switched_on(hardware, ports=PROMISED_PORTS) as machine:
        running(machine)
        admit(machine)
        volume = volume_of(
            machine.inside(SECTORS), machine.inside(METADATA), bytes.fromhex(machine.inside(VOLUME_KEY))
        )
        opens = {
            "volume": {**asdict(volume), "key": volume.key.hex()},
            "paper": machine.inside("appliance key show-recovery").strip(),
        }
        machine.power_off()
    subprocess.run(["cp", "--sparse=always", hardware.disk, RUN / "before.raw"], check=True)
    answered = Acknowledged(room(RUN))
    with switched_on(hardware, ports=PROMISED_PORTS, writes=answered.log) as machine:
        running(machine, "it starts again, and all that its disk is told is written down")
        with sending(machine, set(), answered.note):
            until = time.monotonic() + LOAD_SECONDS
            while len(answered.digests) < ACKNOWLEDGED and time.monotonic() < until:
                time.sleep(0.2)
            machine.cut_power()
    told = {**opens, "digests": answered.digests, "entries": answered.entries}
    (RUN / "run.json").write_text(json.dumps(told) + "\n")


def _kept_run() -> Run | None:
    """The run that was recorded last; None where there is none of the image that is there now."""
    told = RUN / "run.json"
    if not told.exists() or told.stat().st_mtime < image(".test").stat().st_mtime:
        return None
    found = json.loads(told.read_text())
    answered = Acknowledged(RUN / "writes.log", found["digests"], found["entries"])
    volume = Volume(**{**found["volume"], "key": bytes.fromhex(found["volume"]["key"])})
    return Run(RUN / "before.raw", answered, volume, found["paper"])


def recover(run: Run, cuts: int, seed: int, folder: Path) -> None:
    """Open what the disk may hold after each of `cuts` cuts of a run; what that needs lies in `folder`."""
    dice, answered = random.Random(seed), run.answered
    replay = Replay(run.before, answered.log, run.volume, folder / "clear.raw")
    last = len(replay.writes)
    after_an_answer = [entry for entry in answered.entries.values() if entry <= last]
    kept(f"{last} writes and flushes, {len(after_an_answer)} answers", bool(after_an_answer))
    moments = sorted(
        dice.choice(after_an_answer) if number % 2 else dice.randint(1, last) for number in range(cuts)
    )
    done: Counter[str] = Counter()
    found: list[int] = []
    lost_writes, began = 0, time.monotonic()
    with tempfile.TemporaryDirectory(dir="/dev/shm", prefix="cut-") as scratch:
        for number, cut in enumerate(moments):
            how = dice.choice(list(Kept))
            lost_writes += replay.state(cut, how, dice, Path(scratch) / "var.raw")
            wanted = answered.by(cut)
            with _mounted(Path(scratch) / "var.raw", Path(scratch) / "var") as var:
                images, wrong = _look(var / DATA, run.paper, wanted)
            found.append(images)
            if wrong:
                what = f"cut {number} of seed {seed}, behind entry {cut}, {how.value} kept of what was not flushed"
                kept(f"{what}: nothing that was acknowledged is lost", False, "\n".join(wrong)[:3000])
            done[how.value] += 1
            _record(done, lost_writes, len(answered.digests), seed)
            if number % 50 == 49:
                print(f"{number + 1} cuts, {(time.monotonic() - began) / (number + 1):.1f} s each")
    kept(
        f"what came after a cut is not there: {min(found)} images, up to {max(found)}",
        min(found) < max(found),
    )
    print(
        f"{cuts} cuts at any of {last} writes and flushes, {lost_writes} lost or torn: nothing acknowledged was"
    )


def _record(done: Counter[str], lost_writes: int, acknowledged: int, seed: int) -> None:
    """After each cut that was recovered from: one that is not ends the run."""
    told = {
        "cuts": done,
        "writes_lost_or_torn": lost_writes,
        "acknowledged": acknowledged,
        "seed": seed,
    }
    FIGURES.write_text(json.dumps(told) + "\n")


def _look(folder: Path, paper: str, wanted: Mapping[str, str]) -> tuple[int, list[str]]:
    """How many images a box finds that starts on a data folder after a cut, and what is not as it must be."""
    keys.reseal(folder / "keys", paper, {})
    with closing(open_box(Config(data=folder, store=StoreConfig(reserve_bytes=0)))) as box:
        for worker in sorted({each.stem.rpartition("-")[0] for each in (folder / "intake").glob("*.log")}):
            Reception(box, worker).close()  # as its process does when it starts
        rows = {str(row.sop_instance_uid): row for row in recorded(box)}
        wrong = [f"{uid} was acknowledged and is not there" for uid in wanted if uid not in rows]
        for uid, row in rows.items():
            digest = hashlib.sha256(data_set_of(box, row)).hexdigest()  # raises where it is not whole
            if wanted.get(uid, digest) != digest:
                wrong.append(f"{uid} is not what was sent")
        with box.catalog.reading() as reading:
            pages = [*reading.exec_driver_sql("PRAGMA cipher_integrity_check")]
            tables = [each for (each,) in reading.exec_driver_sql("PRAGMA quick_check") if each != "ok"]
            chain = audit.verify(reading, box.audit_key)
        wrong += [f"the catalog: {each}" for each in (*pages, *tables)]
        wrong += [f"the audit: {each}" for each in chain]
    return len(rows), wrong


@contextmanager
def _mounted(volume: Path, at: Path) -> Iterator[Path]:
    """The file system of `volume` at `at`: the kernel replays its journal, as at a start."""
    at.mkdir(exist_ok=True)
    subprocess.run(["mount", "-o", "loop,nodev,nosuid,noexec", volume, at], check=True)
    try:
        yield at
    finally:
        subprocess.run(["umount", at], check=True)
