"""What every unit of the image may do and take, as systemd itself judges it: those that are only the image's, too."""

import re
import shutil
from pathlib import Path

import pytest

from tests.image.test_configuration import EXTRA, ROOT, script, settings

SYSTEM = EXTRA / "usr/lib/systemd/system"
SERVICES = sorted(
    path.name
    for folder in (SYSTEM, ROOT / "systemd/system")
    for path in folder.glob("*.service")
    if not path.is_symlink()  # what is masked
)


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What is laid into the image: the generated tree, and over it what stands in mkosi.extra."""
    made = tmp_path_factory.mktemp("image") / "tree"
    script("assemble").assemble(made)
    shutil.copytree(EXTRA, made, dirs_exist_ok=True, symlinks=True)
    return made


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


@pytest.mark.parametrize("unit", ["disk-enrolment.service", "disk-pin.service", "disk-recovery-key.service"])
def test_a_key_of_the_disk_has_the_memory_that_its_derivation_may_take(tree: Path, unit: str) -> None:
    """LUKS2's argon2 takes up to 1 GiB, and libcryptsetup something beside it."""
    assert told(tree, unit)["MemoryMax"] == ["2G"]
