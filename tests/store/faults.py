"""A disk that fails, or dies, at the n-th call: what durability is tested with."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path

from appliance.store.disk import Buffer, Disk


class Killed(BaseException):
    """The process died here, as far as the code under test can tell: no handler of `Exception` sees it."""


class FaultyDisk(Disk):
    """Counts the calls that change the disk; before the `fail_at`-th (from 1) it raises `error`.

    `fail_from` raises at every call from then on, until it is set to 0 again. Without
    `attributes` it is a file system that has no extended attributes.
    """

    def __init__(
        self,
        *,
        fail_at: int = 0,
        fail_from: int = 0,
        error: Callable[[], BaseException],
        attributes: bool = True,
    ) -> None:
        self.attributes = attributes
        self.calls: list[str] = []
        self.fail_at = fail_at
        self.fail_from = fail_from
        self._error = error

    def _step(self, name: str) -> None:
        self.calls.append(name)
        count = len(self.calls)
        if count == self.fail_at or (self.fail_from and count >= self.fail_from):
            raise self._error()

    def create(self, path: Path) -> int:
        self._step("create")
        return super().create(path)

    def overwrite(self, path: Path | str) -> int:
        self._step("overwrite")
        return super().overwrite(path)

    def write(self, descriptor: int, buffers: Sequence[Buffer]) -> None:
        self._step("write")
        super().write(descriptor, buffers)

    def write_at(self, descriptor: int, buffers: Sequence[Buffer], offset: int) -> None:
        self._step("write_at")
        super().write_at(descriptor, buffers, offset)

    def copy(self, source: int, offset: int, length: int, target: int) -> None:
        self._step("copy")
        super().copy(source, offset, length, target)

    def sync(self, descriptor: int) -> None:
        self._step("sync")
        super().sync(descriptor)

    def sync_data(self, descriptor: int) -> None:
        self._step("sync_data")
        super().sync_data(descriptor)

    def sync_filesystem(self, descriptor: int) -> None:
        self._step("sync_filesystem")
        super().sync_filesystem(descriptor)

    def attach(self, descriptor: int, name: str, value: bytes) -> bool:
        self._step("attach")
        return self.attributes and super().attach(descriptor, name, value)

    def rename(self, source: Path, target: Path) -> None:
        self._step("rename")
        super().rename(source, target)

    def remove(self, path: Path) -> None:
        self._step("remove")
        super().remove(path)


def os_error(code: int) -> Callable[[], OSError]:
    """What `FaultyDisk` raises for a given errno."""
    return lambda: OSError(code, os.strerror(code))
