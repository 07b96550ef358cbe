"""Who may offer a version whose packages are not the locked ones: the step of the build that tells it, with what it calls stood in for.

And what the lock is held against: the root, and what starts before it.
"""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from tests.image.test_configuration import BUILD, script, settings

STANDING_IN = """
set -euo pipefail
work=$1 keys=$1 version=1.2.3 python=differs
say() { echo "$*"; }
die() { echo "$*" >&2; exit 1; }
differs() { [ "$2" != compare ] || { echo "openssl: 3.5.1 → 3.5.2"; return "$differs"; }; }
lay_out() { echo "laid out"; }
sign() { echo "signed"; }
record() { echo "recorded"; }
"""


SIGNED = ("", ".efi", ".raw")
"""What mkosi has signed before anybody could compare: the disk by its two names, and the kernel image."""


def steps(*names: str) -> str:
    """These functions of the build, as they stand there."""
    text = (BUILD / "build").read_text()
    found = [re.search(rf"^{name}\(\) {{\n.*?^}}\n", text, re.MULTILINE | re.DOTALL) for name in names]
    assert all(found), names
    return "".join(each[0] for each in found if each)


def done(folder: Path, program: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """What becomes of an image that mkosi has just built, and signed."""
    (folder / "out").mkdir(exist_ok=True)
    for each in SIGNED:
        (folder / "out" / f"appliance_1.2.3{each}").touch()
    return subprocess.run(
        ["bash", "-c", STANDING_IN + program, "build", str(folder)],
        env={"PATH": "/usr/bin:/bin", **environment},
        capture_output=True,
        text=True,
        check=False,
    )


def told(folder: Path, *, differs: bool, **environment: str) -> subprocess.CompletedProcess[str]:
    return done(
        folder, steps("locked", "tell", "unsign") + "tell\n", differs=str(int(differs)), **environment
    )


def left(folder: Path) -> set[str]:
    """What is left of what was signed."""
    return {each for each in SIGNED if (folder / "out" / f"appliance_1.2.3{each}").exists()}


def test_what_is_as_locked_is_offered(tmp_path: Path) -> None:
    (tmp_path / "vendor").touch()
    said = told(tmp_path, differs=False)
    assert said.returncode == 0, said.stderr
    assert "signed\nrecorded" in said.stdout


@pytest.mark.parametrize(
    ("vendors", "asked", "offered"),
    [(False, {}, True), (True, {}, False), (False, {"LOCKED": "1"}, False), (True, {"LOCKED": "0"}, True)],
    ids=["whoever looks", "a vendor", "who asks for it", "a vendor who says so"],
)
def test_a_vendor_offers_no_version_that_is_not_locked(
    vendors: bool, asked: dict[str, str], offered: bool, tmp_path: Path
) -> None:
    if vendors:
        (tmp_path / "vendor").touch()
    said = told(tmp_path, differs=True, **asked)
    assert "openssl: 3.5.1 → 3.5.2" in said.stdout, "it is told in any case"
    assert ("signed" in said.stdout, said.returncode == 0) == (offered, offered), said.stderr
    assert left(tmp_path) == (set(SIGNED) if offered else set()), (
        "nor is anything left that would start on a box"
    )
    assert ("recorded" in said.stdout) == offered, "no signature is under what is not offered"
    assert ("image-build/build lock" in said.stderr) == (not offered), "and the remedy with it"


@pytest.mark.parametrize("agree", [True, False])
def test_nothing_signed_is_left_of_a_root_and_an_initrd_that_do_not_agree(
    agree: bool, tmp_path: Path
) -> None:
    standing_in = "forget_old_cache() { :; }; in_tools() { :; }; seed=1; SOURCE_DATE_EPOCH=1\n"
    merge = f"merge() {{ return {0 if agree else 1}; }}; python=merge\n"
    said = done(
        tmp_path, steps("run_mkosi", "unsign") + standing_in + merge + 'run_mkosi "$work/out" --no-words\n'
    )
    assert said.returncode == (0 if agree else 1), said.stderr
    assert left(tmp_path) == (set(SIGNED) if agree else set())
    assert ("what was signed is removed" in said.stderr) is not agree


@pytest.mark.parametrize(
    ("other", "told"),
    [
        ("", ""),
        ("appliance_1.2.3.root.raw", "root.raw differs between two builds"),
        ("initrd.cpio.zst", "the initrd differs between two builds"),
    ],
)
def test_a_second_build_is_compared_and_leaves_nothing_signed(other: str, told: str, tmp_path: Path) -> None:
    for folder in ("out", "again"):
        (tmp_path / folder).mkdir()
        for each in ("manifest", "root.raw", "verity.raw"):
            (tmp_path / folder / f"appliance_1.2.3.{each}").write_text("the same")
        (tmp_path / folder / "initrd.cpio.zst").write_text("the same")
    if other:
        (tmp_path / "again" / other).write_text("another")
    standing_in = (
        'run_mkosi() { touch "$1/$name" "$1/$name.efi" "$1/$name.raw"; }; root_hash() { echo 42; }\n'
    )
    said = done(tmp_path, steps("check_reproducible", "unsign") + standing_in + "check_reproducible\n")
    assert (said.returncode == 0) is (other == ""), said.stderr
    assert told in said.stderr
    assert not [each for each in SIGNED if (tmp_path / "again" / f"appliance_1.2.3{each}").exists()]


# --- what starts before the root ----------------------------------------------------------------------------------------


def test_what_starts_before_the_root_is_locked_too() -> None:
    inventory = script("inventory")
    initrd = settings(BUILD / "mkosi.images/initrd/mkosi.conf")
    assert set(initrd["Packages"]) <= set(inventory.locked((BUILD / "packages.lock").read_text()))
    assert initrd["ManifestFormat"] == ["json"]
    assert 'merge "$1/appliance_$version.manifest" "$1/initrd.manifest"' in (BUILD / "build").read_text()
    ours = {"config": {"version": "1"}, "packages": [{"type": "deb", "name": "b", "version": "1"}]}
    theirs = {"packages": [{"type": "deb", "name": each, "version": "1"} for each in "ab"]}
    merged = inventory.merge(ours, theirs)
    assert inventory.packages(merged) == {"a": "1", "b": "1"}
    assert (len(merged["packages"]), merged["config"]) == (2, ours["config"])
    theirs["packages"][1]["version"] = "2"
    with pytest.raises(ValueError, match="b is 1 here and 2 there"):
        inventory.merge(ours, theirs)


def test_nothing_beside_the_kernel_image_is_laid_over_what_starts_first() -> None:
    removed = settings(BUILD / "mkosi.images/initrd/mkosi.conf")["RemoveFiles"]
    for kind in ("sysext", "confext"):
        assert f"/usr/bin/systemd-{kind}" in removed
        assert f"/usr/lib/systemd/system/systemd-{kind}.service" in removed


@pytest.mark.parametrize("address", ["http://updates.invalid/", "ftp://updates.invalid/", "updates.invalid"])
def test_no_image_looks_for_versions_where_anybody_could_answer(address: str, tmp_path: Path) -> None:
    """A list is good for ever: an old one, shown each night, would hold a box where it is."""
    with pytest.raises(ValueError, match="no address of HTTPS"):
        script("assemble").assemble(tmp_path / "tree", None, address)
    script("assemble").assemble(tmp_path / "tree", None, "https://updates.invalid/")
    assert (tmp_path / "tree/usr/share/appliance/update/source").read_text() == "https://updates.invalid/\n"
