"""`python -m tests.bench`: measure the receivers in interleaved rounds and print the tables; the words in `OTHERS` measure others."""

import argparse
import json
import os
import platform
import random
import secrets
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path

import psutil

from . import backing_up, browsing, material, restoring, retaining, sending_backups
from .material import Kind
from .measure import Column, Measured, measure
from .receivers import KINDS, Receiver
from .table import tables
from .wire import PeerFailed

COLUMNS: dict[str, tuple[str, Callable[[], Kind], int, int, bool]] = {
    # key: title, material, instances per sender, senders, rate in MB/s
    "ct1": ("CT ×1", material.ct, 200, 1, False),
    "ct4": ("CT ×4", material.ct, 100, 4, False),
    "dx1": ("DX ×1", material.dx, 12, 1, True),
    "dx4": ("DX ×4", material.dx, 5, 4, True),
    "tiny1": ("tiny ×1", material.tiny, 600, 1, False),
    "tiny4": ("tiny ×4", material.tiny, 300, 4, False),
    "cbct": ("CBCT", material.cbct, 1, 1, True),
}
OTHERS: dict[str, Callable[[Sequence[str]], int]] = {
    "browse": browsing.main,
    "backup": backing_up.main,
    "scrub": backing_up.read_again,
    "snapshot": sending_backups.main,
    "restore": restoring.main,
    "retention": retaining.main,
}
QUICK_SHARE = 5
DISK_PIECE_BYTES, DISK_PIECES = 13_000_000, 12


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the bench; the exit code is 1 if a receiver failed."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    if given and given[0] in OTHERS:
        return OTHERS[given[0]](given[1:])
    options = _options(arguments)
    made: dict[Callable[[], Kind], Kind] = {}
    columns = []
    for key in options.columns:
        title, make, count, senders, in_megabytes = COLUMNS[key]
        if make not in made:
            made[make] = make()
        count = max(1, count // QUICK_SHARE) if options.quick else count
        columns.append(Column(key, title, made[make], count, senders, in_megabytes))
    options.folder.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix="run-", dir=options.folder))
    try:
        options.disk = _disk_megabytes_per_second(folder)
        measured, receivers = _run(options.receivers, columns, options.rounds, folder)
    except PeerFailed as error:
        print(f"bench: {error}", file=sys.stderr)
        return 1
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    print(_setting(options, receivers, folder))
    print()
    print(tables(measured, columns, [r.name for r in receivers]))
    if options.json:
        options.json.write_text(json.dumps([asdict(m) for m in measured], indent=1) + "\n")
    return 0


def _run(
    kinds: Sequence[str], columns: Sequence[Column], rounds: int, folder: Path
) -> tuple[list[Measured], list[Receiver]]:
    chance = random.Random(secrets.randbits(64))
    measured: list[Measured] = []
    with ExitStack() as running:
        receivers = []
        for kind in kinds:
            own = folder / kind
            own.mkdir()
            receiver = KINDS[kind](own)
            running.callback(receiver.stop)
            receivers.append(receiver)
        for column in columns:
            warm = Column(
                column.key, column.title, column.kind, max(1, column.per_sender // 10), column.senders, False
            )
            for receiver in receivers if column.key != "cbct" else ():
                measure(warm, receiver, chance)
        for number in range(rounds):
            order = receivers[number % len(receivers) :] + receivers[: number % len(receivers)]
            for column in columns:
                for receiver in order:
                    found = measure(column, receiver, chance)
                    measured.append(found)
                    rate = found.megabytes_per_second if column.in_megabytes else found.instances_per_second
                    unit = "MB/s" if column.in_megabytes else "instances/s"
                    said = f"round {number + 1}/{rounds}  {column.title:8}  {receiver.name:20}  {rate:6.0f} {unit}"
                    print(said, file=sys.stderr, flush=True)
    return measured, receivers


def _setting(options: argparse.Namespace, receivers: Sequence[Receiver], folder: Path) -> str:
    """One paragraph: on what, with which versions, how often."""
    mount = max(
        (p for p in psutil.disk_partitions(all=True) if folder.is_relative_to(p.mountpoint)),
        key=lambda p: len(p.mountpoint),
    )
    versions = ", ".join(f"{r.name} {r.version}" for r in receivers)
    return (
        f"{_processor_model()}, {psutil.cpu_count()} cores, {psutil.virtual_memory().total / 2**30:.0f} GiB, "
        f"data on {mount.fstype} that takes {options.disk:.0f} MB/s of synced 13 MB files; {platform.system()} {platform.release()}, Python {platform.python_version()}. "
        f"{versions}. {options.rounds} interleaved rounds{' (quick)' if options.quick else ''}; "
        f"load average {options.load:.1f} at the start."
    )


def _disk_megabytes_per_second(folder: Path) -> float:
    """The rate of writing and syncing plain files of 13 MB: what no receiver that syncs can beat for long."""
    piece = secrets.token_bytes(DISK_PIECE_BYTES)
    os.sync()
    started = time.monotonic()
    for number in range(DISK_PIECES):
        with (folder / f"disk-{number}").open("wb", buffering=0) as file:
            file.write(piece)
            os.fdatasync(file.fileno())
    seconds = time.monotonic() - started
    for number in range(DISK_PIECES):
        (folder / f"disk-{number}").unlink()
    return DISK_PIECES * DISK_PIECE_BYTES / seconds / 1e6


def _processor_model() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    def names(known: dict[str, object]) -> Callable[[str], list[str]]:
        def parse(text: str) -> list[str]:
            chosen = text.split(",")
            for name in chosen:
                if name not in known:
                    raise argparse.ArgumentTypeError(f"{name!r} is none of {', '.join(known)}")
            return chosen

        return parse

    parser = argparse.ArgumentParser(
        prog="python -m tests.bench", description="Measure the ingest of images."
    )
    parser.add_argument(
        "--columns", type=names(dict(COLUMNS)), default=list(COLUMNS), metavar="A,B", help=", ".join(COLUMNS)
    )
    parser.add_argument(
        "--receivers", type=names(dict(KINDS)), default=list(KINDS), metavar="A,B", help=", ".join(KINDS)
    )
    parser.add_argument("--rounds", type=int, default=0, metavar="N", help="default 3, or 1 with --quick")
    parser.add_argument(
        "--quick", action="store_true", help="a fifth of the instances, to see that all works"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every measurement here too")
    parser.add_argument(
        "--folder",
        type=Path,
        default=Path("var/bench"),
        metavar="DIR",
        help="on a real disk; default ./var/bench",
    )
    options = parser.parse_args(arguments)
    options.rounds = options.rounds or (1 if options.quick else 3)
    options.folder = options.folder.absolute()
    options.load = os.getloadavg()[0]
    return options


if __name__ == "__main__":
    sys.exit(main())
