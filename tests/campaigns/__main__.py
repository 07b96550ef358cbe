"""`python -m tests.campaigns NAME`: run one campaign for as long as told, and say what came of it."""

from __future__ import annotations

import argparse
import logging
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from tests.campaigns import (
    cuts,
    earlier_software,
    flips,
    kill_ledger,
    outage,
    reachability,
    support_line,
    weathers,
)
from tests.campaigns.remote_places import PLACES, Bucket, in_a_bucket


def main() -> None:
    """Parse the arguments and run."""
    parser = argparse.ArgumentParser(prog="python -m tests.campaigns", description=__doc__)
    campaigns = parser.add_subparsers(dest="campaign", required=True)
    kill = campaigns.add_parser("kill", help="kill -9 of any process under load (R1)")
    kill.add_argument(
        "--kills", type=int, default=10_000, help="in boxes of 250, each with a seed of its own"
    )
    kill.add_argument("--seed", type=int, default=1)
    away = campaigns.add_parser("outage", help="the cloud is away, answers 503, and breaks connections (R5)")
    away.add_argument(
        "--minutes", type=float, default=60.0, help="of outage; the other weathers take a third each"
    )
    away.add_argument("--mbit", type=float, default=10.0, help="Mbit/s that the line carries upwards")
    away.add_argument("--seed", type=int, default=1)
    asked = campaigns.add_parser(
        "interface", help="everything about /api/v1 that its document allows to ask (R19)"
    )
    asked.add_argument("--examples", type=int, default=1_000, help="invented requests for each operation")
    asked.add_argument("--seed", type=int, default=1)
    model = campaigns.add_parser(
        "reachability", help="random histories of receive, evict, purge, hold, restore… against a model"
    )
    model.add_argument("--histories", type=int, default=100_000)
    model.add_argument("--minutes", type=float, default=float("inf"), help="no longer than this")
    model.add_argument("--seed", type=int, default=1)
    cut = campaigns.add_parser(
        "cuts", help="kill and power cut before every step of what archives and keys go through"
    )
    cut.add_argument("--operation", choices=[*cuts.OPERATIONS, "all"], default="all")
    cut.add_argument("--at", choices=[*PLACES, "all"], default="disk", help="where the archive is")
    bad = campaigns.add_parser(
        "weathers", help="every fault at every request to a bucket, in all that a clinic does with it (R5)"
    )
    bad.add_argument("--operation", choices=[*weathers.ATTEMPTS, "all"], default="all")
    bad.add_argument("--most", type=int, default=0, help="so many faults of each operation, not all of them")
    bad.add_argument("--seed", type=int, default=1)
    flip = campaigns.add_parser("flips", help="bits that flip by themselves, in everything that is kept (R7)")
    flip.add_argument("--flips", type=int, default=1_000)
    flip.add_argument("--seed", type=int, default=1)
    line = campaigns.add_parser(
        "support", help="how soon after its end nothing is left of a session of remote support (needs root)"
    )
    line.add_argument("--sessions", type=int, default=5, help="of each of four ways")
    before = campaigns.add_parser(
        "earlier", help="the version before, out of the history, goes on with the index of this one"
    )
    before.add_argument("--commit", default="", help="another tree than that of the version before")
    campaigns.add_parser("tests", help="the long tests that `make test` leaves out")
    arguments = parser.parse_args()
    if arguments.campaign == "tests":
        raise SystemExit(subprocess.call([sys.executable, "-m", "pytest", "-m", "campaign"]))
    logging.getLogger("appliance").setLevel(logging.CRITICAL)  # here, and not where tests would keep it
    with tempfile.TemporaryDirectory(
        prefix="campaign-", dir="var" if Path("var").is_dir() else None
    ) as folder:
        outcome: object
        if arguments.campaign == "kill":
            outcome = kill_ledger.run_boxes(
                Path(folder).absolute(),
                (_free_port(), _free_port()),
                kills=arguments.kills,
                seed=arguments.seed,
                report=print,
            )
        elif arguments.campaign == "reachability":
            outcome = reachable(Path(folder).absolute(), arguments)
        elif arguments.campaign == "cuts":
            outcome = every_cut(Path(folder).absolute(), arguments.operation, arguments.at)
        elif arguments.campaign == "weathers":
            outcome = every_weather(Path(folder).absolute(), arguments)
        elif arguments.campaign == "flips":
            with _in_memory(Path(folder).absolute()) as worlds:
                outcome = flips.run(worlds, flips=arguments.flips, seed=arguments.seed, report=print)
        elif arguments.campaign == "support":
            found = support_line.measure(Path(folder).absolute(), sessions=arguments.sessions, report=print)
            if not found.is_kept:
                raise SystemExit(str(found))
            outcome = found
        elif arguments.campaign == "earlier":
            outcome = earlier_software.run(
                Path(folder).absolute(), _free_port, commit=arguments.commit, report=print
            )
        elif arguments.campaign == "interface":
            outcome = interface(Path(folder).absolute(), arguments.examples, arguments.seed)
        else:
            weathered = outage.run(
                Path(folder).absolute() / "box",
                _free_port,
                outage_seconds=60 * arguments.minutes,
                storm_seconds=20 * arguments.minutes,
                faulty_seconds=20 * arguments.minutes,
                every_seconds=outage.EVERY_SECONDS * max(1.0, arguments.minutes),
                uplink_bytes_per_second=arguments.mbit * 1e6 / 8,
                seed=arguments.seed,
                report=print,
            )
            if not weathered.is_kept:
                raise SystemExit(str(weathered))
            outcome = weathered
    print(outcome)


def interface(folder: Path, examples: int, seed: int) -> str:
    """Ask everything of a running console; what the asker says, and an exit of its own where something is wrong."""
    from tests.web.api.serving import ask_everything, served

    with served(folder / "box") as there:
        asked = ask_everything(there, examples=examples, seed=seed)
    if asked.returncode:
        raise SystemExit(asked.stdout + asked.stderr)
    return asked.stdout


def reachable(folder: Path, arguments: argparse.Namespace) -> reachability.Outcome:
    """Random histories."""
    with _in_memory(folder) as worlds:
        return reachability.run(
            worlds,
            histories=arguments.histories,
            seed=arguments.seed,
            seconds=60 * arguments.minutes,
            report=print,
        )


def every_cut(folder: Path, operation: str, at: str) -> str:
    """Recover from the states before every step, of one operation or of all, at one place or at all; a line for each."""
    told = []
    for place in PLACES if at == "all" else [at]:
        for name in cuts.OPERATIONS if operation == "all" else [operation]:
            with _in_memory(folder) as worlds:
                told.append(str(cuts.run(worlds, operation=name, at=place, report=print)))
    return "\n".join(told)


def every_weather(folder: Path, arguments: argparse.Namespace) -> str:
    """Every fault, of one operation or of all, and then the days of bad weather; a line for each."""
    told: list[str] = []

    def tell(act: Callable[[Bucket, Path], weathers.Outcome]) -> None:
        with _in_memory(folder) as worlds, in_a_bucket(worlds, worlds) as bucket:
            told.append(str(act(bucket, worlds)))
            print(told[-1], flush=True)

    for name in weathers.ATTEMPTS if arguments.operation == "all" else [arguments.operation]:
        tell(partial(weathers.run, operation=name, most=arguments.most, seed=arguments.seed, report=print))
    if arguments.operation == "all":
        for day in (partial(weathers.losing, seed=arguments.seed), weathers.storm, weathers.slow):
            tell(day)
    return f"{len(told)} campaigns"


@contextmanager
def _in_memory(folder: Path) -> Iterator[Path]:
    """A folder in memory where there is room: half of the time is the disk's otherwise."""
    with tempfile.TemporaryDirectory(prefix="campaign-", dir=reachability.scratch(folder)) as worlds:
        yield Path(worlds)


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


if __name__ == "__main__":
    main()
