"""A file system with room in bytes and none for more files: refused at the reserve, admitted when one is gone.

Run by `test_guard` in a mount namespace of its own: ``python -m tests.store.few_inodes DISK``, with an empty file system of `INODES`
mounted at the folder DISK. It imports the guard and no more, so that it takes no time.
"""

from __future__ import annotations

import sys
from pathlib import Path

from appliance.errors import OutOfResources
from appliance.store.guard import RESERVE_INODES, DiskGuard

INODES = RESERVE_INODES + 2_000
SIZE_BYTES = 16 << 20


def is_admitted(guard: DiskGuard) -> bool:
    """Whether there is room; raises AssertionError where it is refused for another reason than files."""
    try:
        guard.admit()
    except OutOfResources as refusal:
        assert "no room for more files" in str(refusal), refusal
        return False
    return True


def refuse_and_heal(guard: DiskGuard, ballast: Path) -> str:
    """Fill up with empty files, then remove one after the other; raises AssertionError where it goes otherwise than promised."""
    ballast.mkdir()
    made = [ballast / str(number) for number in range(guard.space().free_inodes - RESERVE_INODES)]
    for path in made:
        path.touch()
    assert guard.space().free_inodes == RESERVE_INODES
    assert is_admitted(guard), "no more is kept back than was said"
    (ballast / "one more").touch()
    assert not is_admitted(guard)
    assert guard.space().free_bytes > 0, "it is not for want of bytes"
    made.pop().unlink()
    assert is_admitted(guard)
    return f"refused with {RESERVE_INODES - 1} of {INODES} files left, admitted again with {RESERVE_INODES}"


if __name__ == "__main__":
    print(refuse_and_heal(DiskGuard(Path(sys.argv[1]), 0), Path(sys.argv[1]) / "ballast"))
