"""What the build keeps of an earlier one: never what would make an image that nobody could build again from nothing."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from tests.image.loading import loaded
from tests.image.test_configuration import BUILD

EPOCH = 1_795_000_000
CALLED = 'say() { :; }; source <(sed -n "/^forget_old_cache()/,/^}/p" "$1"); forget_old_cache'


@pytest.mark.parametrize(
    ("made", "stays"), [(EPOCH - 1, False), (EPOCH, False), (EPOCH + 1, True), (None, True)]
)
def test_packages_from_before_the_commit_are_not_used_again(
    tmp_path: Path, made: int | None, *, stays: bool
) -> None:
    """mkosi sets hours after the commit's to that; earlier ones would stay as they are."""
    kept = tmp_path / "cache/debian.cache"
    kept.mkdir(parents=True)
    if made is not None:
        manifest = tmp_path / "cache/debian.manifest"
        manifest.write_text("{}")
        os.utime(manifest, (made, made))
    environment = {**os.environ, "work": str(tmp_path), "SOURCE_DATE_EPOCH": str(EPOCH)}
    subprocess.run(["bash", "-euc", CALLED, "-", BUILD / "build"], env=environment, check=True)
    assert kept.exists() is stays


def test_it_is_asked_before_each_build() -> None:
    text = (BUILD / "build").read_text("utf-8")
    assert "run_mkosi() {\n  forget_old_cache\n" in text


def test_what_python_compiled_beside_a_program_is_not_laid_into_the_image(tmp_path: Path) -> None:
    compiled = tmp_path / "image-build/mkosi.extra/__pycache__/program.cpython-311.pyc"
    compiled.parent.mkdir(parents=True)
    compiled.touch()
    told = (BUILD / "build").read_text("utf-8").partition("\nprepare() {\n")[2]
    (line,) = [each for each in told.partition("\n}\n")[0].splitlines() if "__pycache__" in each]
    subprocess.run(["bash", "-euc", line], cwd=tmp_path, check=True)
    assert compiled.parent.parent.exists() and not compiled.parent.exists()


def test_a_program_that_the_tests_load_leaves_nothing_compiled(tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text("FOUND = 7")
    assert loaded(program).FOUND == 7
    assert list(tmp_path.iterdir()) == [program]
