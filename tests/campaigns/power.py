"""What a disk holds after the power has failed, at every step of an operation that runs just once.

While `watched`, each call that moves or removes a file or asks for durability (``fsync``, ``syncfs``, ``rename``, ``unlink``, …) and
each commit of a catalog is a *step*, and before each of them three states are kept of all that lies below a folder:

=========  =========================================================================================================
killed     everything as it is: ``kill -9``
cut        only what was synced: contents as of each file's last ``fsync``, names as of each folder's. POSIX promises no more
disordered names as they are now, contents as of the last ``fsync``, and half of what a file holds that never was synced: a
           file system that writes its journal before the data
=========  =========================================================================================================

A catalog is SQLite's own affair: it syncs through its own calls, which are not seen here, so its file and its write-ahead log
are taken as they are, wherever the name of the file is durable.

Chose to keep the states of one run over dying and starting again at each step, because the states are what is tested, and a
run costs more than a copy of a few files.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from appliance.catalog import Catalog, Transaction
from appliance.store.disk import Disk

KINDS: Final = ("killed", "cut", "disordered")
_DATABASE: Final = "catalog.db"
_LOG: Final = "catalog.db-wal"
_PASSING: Final = ("-shm",)
_NAMING: Final = ("rename", "replace")
_OTHER: Final = ("rmdir",)
_REMOVING: Final = ("unlink", "remove")


@dataclass(frozen=True)
class State:
    """What would be there after a cut before `step` (its number and what it was), in `folder`."""

    number: int
    step: str
    kind: str
    folder: Path

    def __str__(self) -> str:
        return f"{self.kind} before step {self.number} ({self.step})"


@dataclass
class Watch:
    """Follows what is durable below `root`; `keep` says of a step whether its states are wanted, which go to `into`.

    `beside` lays in a state what is not below `root`, and stays as it is when the power fails here.
    """

    root: Path
    into: Path
    keep: Callable[[int], bool] = lambda _: True
    beside: Callable[[Path], None] = lambda _: None
    states: list[State] = field(default_factory=list)
    steps: int = 0
    _names: dict[Any, dict[str, Any]] = field(default_factory=dict)
    _contents: dict[Any, bytes] = field(default_factory=dict)
    _folders: set[Any] = field(default_factory=set)
    _seen: set[bytes] = field(default_factory=set)
    _dead: int = 0

    def begin(self) -> None:
        """Everything that is there now is durable."""
        for folder, _, files in os.walk(self.root):
            self._list(Path(folder))
            for name in files:
                path = Path(folder) / name
                self._contents[path.stat().st_ino] = path.read_bytes()

    def step(self, what: str) -> None:
        """Keep what would be left if the power failed now."""
        self.steps += 1
        if not self.keep(self.steps):
            return
        for kind in KINDS:
            folder = self.into / f"{self.steps:04d}-{kind}"
            if kind == "killed":
                _copy(self.root, folder)
            elif kind == "cut":
                self._lay(self.root.stat().st_ino, folder, self._places())
            else:
                self._lay_disordered(self.root, folder)
            self.beside(folder)
            if (seen := _digest(folder)) in self._seen:
                shutil.rmtree(folder)
                continue
            self._seen.add(seen)
            self.states.append(State(self.steps, what, kind, folder))

    def synced(self, descriptor: int) -> None:
        """One file or folder is durable now."""
        found = os.fstat(descriptor)
        if stat.S_ISDIR(found.st_mode):
            self._list(Path(f"/proc/self/fd/{descriptor}"))
        else:
            self._contents[found.st_ino] = Path(f"/proc/self/fd/{descriptor}").read_bytes()

    def removed(self, path: Path, number: int = 0) -> None:
        """`path` is about to lose its file, or has lost the folder of this `number`, which another may get: what is durable of it
        keeps its meaning."""
        try:
            number = number or path.lstat().st_ino
        except OSError:
            return
        self._dead += 1
        token = f"dead {self._dead}"
        for names in self._names.values():
            for name, each in names.items():
                if each == number:
                    names[name] = token
        if number in self._contents:
            self._contents[token] = self._contents.pop(number)
        if number in self._folders:
            self._folders.discard(number)  # what gets it next may be a file
            self._folders.add(token)
            self._names[token] = self._names.pop(number, {})
        if path.name in {_DATABASE, _LOG} and path.exists():
            self._contents[token] = path.read_bytes()

    def _list(self, folder: Path) -> None:
        number = folder.stat().st_ino
        self._folders.add(number)
        with os.scandir(folder) as entries:
            self._names[number] = {each.name: each.inode() for each in entries}
        for name, each in self._names[number].items():
            if (folder / name).is_dir():
                self._folders.add(each)

    def _places(self) -> dict[int, Path]:
        """Where each database lies now, by its number."""
        return {path.stat().st_ino: path for path in self.root.rglob(_DATABASE)}

    def _lay(self, number: Any, into: Path, databases: dict[int, Path]) -> None:
        into.mkdir(mode=0o700)
        for name, each in self._names.get(number, {}).items():
            if each in self._folders:
                if self._names.get(each) or not _is_made_anew(name):
                    self._lay(each, into / name, databases)
            elif name == _DATABASE and each in databases:
                _lay_database(databases[each], into)
            elif name not in {_LOG} and not name.endswith(_PASSING):
                _write(into / name, self._contents.get(each, b""))

    def _lay_disordered(self, here: Path, into: Path) -> None:
        into.mkdir(mode=0o700)
        with os.scandir(here) as entries:
            found = list(entries)
        for each in found:
            if each.is_dir():
                if not _is_made_anew(each.name) or os.listdir(each.path):
                    self._lay_disordered(here / each.name, into / each.name)
            elif each.name == _DATABASE:
                _lay_database(here / each.name, into)
            elif each.name != _LOG and not each.name.endswith(_PASSING):
                now = (here / each.name).read_bytes()
                _write(into / each.name, self._contents.get(each.inode(), now[: len(now) // 2]))


def _lay_database(path: Path, into: Path) -> None:
    for each in (path, path.with_name(_LOG)):
        if each.exists():
            _write(into / each.name, each.read_bytes())


def _write(path: Path, data: bytes) -> None:
    path.write_bytes(data)
    path.chmod(0o600)


def _digest(folder: Path) -> bytes:
    digest = hashlib.sha256()
    for here, folders, files in os.walk(folder):
        folders.sort()
        below = os.fsencode(os.path.relpath(here, folder))
        for name in folders:
            digest.update(below + b"/" + os.fsencode(name) + b"\0")
        for name in sorted(files):
            with open(os.path.join(here, name), "rb") as file:
                content = file.read()
            digest.update(below + b"/" + os.fsencode(name) + b"\0" + hashlib.sha256(content).digest())
    return digest.digest()


def _copy(here: Path, into: Path) -> None:
    def passing(folder: str, names: list[str]) -> list[str]:
        return [
            name
            for name in names
            if name.endswith(_PASSING) or (_is_made_anew(name) and not os.listdir(os.path.join(folder, name)))
        ]

    shutil.copytree(here, into, ignore=passing)


def _is_made_anew(name: str) -> bool:
    """Whether it is one of the 256 folders of objects, which every start makes where they are missing: copies are costly."""
    return len(name) == 2 and all(digit in "0123456789abcdef" for digit in name)


@contextmanager
def watched(
    root: Path,
    into: Path,
    keep: Callable[[int], bool] = lambda _: True,
    beside: Callable[[Path], None] = lambda _: None,
) -> Iterator[Watch]:
    """Keep the states of whatever is done below `root` within the block. One thread's work only."""
    watch = Watch(root, into, keep, beside)
    into.mkdir()
    watch.begin()
    kept: dict[str, Any] = {
        name: getattr(os, name) for name in ("fsync", "fdatasync", *_NAMING, *_OTHER, *_REMOVING)
    }
    whole, transaction = Disk.sync_filesystem, Catalog.transaction
    below = f"{root}{os.sep}"

    def within(path: Any, folder: int | None = None) -> Path | None:
        found = os.fspath(path)
        if folder is not None:
            found = os.path.join(os.readlink(f"/proc/self/fd/{folder}"), found)
        found = os.path.abspath(found)
        return Path(found) if found.startswith(below) else None

    def syncing(name: str) -> Callable[[Any], None]:
        def sync(descriptor: Any) -> None:
            number = descriptor if isinstance(descriptor, int) else descriptor.fileno()
            if within(os.readlink(f"/proc/self/fd/{number}")) or os.readlink(
                f"/proc/self/fd/{number}"
            ) == str(root):
                watch.step(name)
                kept[name](number)
                watch.synced(number)
            else:
                kept[name](number)

        return sync

    def naming(name: str) -> Callable[..., None]:
        def rename(source: Any, target: Any, **more: Any) -> None:
            if (path := within(target)) is not None:
                watch.step(f"{name} to {path.name}")
                watch.removed(path)
            kept[name](source, target, **more)

        return rename

    def removing(name: str) -> Callable[..., None]:
        def remove(path: Any, *, dir_fd: int | None = None) -> None:
            if (found := within(path, dir_fd)) is not None and found.exists():
                watch.step(f"{name} {found.name}")
                watch.removed(found)
            kept[name](path, dir_fd=dir_fd)

        return remove

    def emptying(name: str) -> Callable[..., None]:
        def rmdir(path: Any, *arguments: Any, **more: Any) -> None:
            found = within(path, more.get("dir_fd"))
            number = found.lstat().st_ino if found is not None and found.exists() else 0
            kept[name](path, *arguments, **more)  # raises for one that isn't empty: then nothing has happened
            if found is not None:
                watch.removed(found, number)

        return rmdir

    def sync_filesystem(disk: Disk, descriptor: int) -> None:
        watch.step("syncfs")
        whole(disk, descriptor)
        watch.begin()

    @contextmanager
    def committing(catalog: Catalog) -> Iterator[Transaction]:
        with transaction(catalog) as tx:
            yield tx
            watch.step("commit")

    try:
        for name in ("fsync", "fdatasync"):
            setattr(os, name, syncing(name))
        for name in _NAMING:
            setattr(os, name, naming(name))
        for name in _REMOVING:
            setattr(os, name, removing(name))
        for name in _OTHER:
            setattr(os, name, emptying(name))
        Disk.sync_filesystem = sync_filesystem  # type: ignore[method-assign, assignment]
        Catalog.transaction = committing  # type: ignore[method-assign, assignment]
        yield watch
    finally:
        for name, call in kept.items():
            setattr(os, name, call)
        Disk.sync_filesystem = whole  # type: ignore[method-assign]
        Catalog.transaction = transaction  # type: ignore[method-assign]
    watch.step("the end")
