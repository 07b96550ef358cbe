"""`python -m tests.synthetic --to DIR [--seed N] [--scale F] [--set dental|clinic]`: write a set as Part 10 files."""

import argparse
from pathlib import Path

from . import clinic_set, dental_set, write

SETS = {"dental": dental_set, "clinic": clinic_set}


def main() -> None:
    """Parse the command line and write the set."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.synthetic", description="Write a synthetic set of images."
    )
    parser.add_argument("--to", type=Path, required=True, metavar="DIR", help="folder for the Part 10 files")
    parser.add_argument(
        "--seed", type=int, default=1, metavar="N", help="another number gives another set (default 1)"
    )
    parser.add_argument(
        "--scale", type=float, default=1.0, metavar="F", help="factor on the sizes (default 1.0)"
    )
    parser.add_argument("--set", choices=sorted(SETS), default="clinic", help="which set (default clinic)")
    options = parser.parse_args()
    paths = write(SETS[options.set](options.seed, scale=options.scale), options.to)
    total_mb = sum(path.stat().st_size for path in paths) / 1e6
    print(f"{len(paths)} files, {total_mb:.0f} MB, in {options.to}")


if __name__ == "__main__":
    main()
