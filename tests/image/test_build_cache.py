"""What the build keeps of an earlier one: never what would make an image that nobody could build again from nothing."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

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
