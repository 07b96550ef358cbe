"""The few operating-system calls that durability rests on, in one place so that a test can fail any one of them.

Write discipline (PS3.4 B.2.3 promises nothing less than "stored"): a new file is written under a temporary name,
synced, renamed, and its folder is synced; an overwrite of preallocated space is synced by itself. A failed sync is
never retried on the same descriptor: the kernel may have dropped the dirty pages and will report success the second
time, so the caller gives the file up.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
from collections.abc import Sequence
from pathlib import Path

from appliance.errors import ApplianceError, OutOfResources, Transient, Unreadable

_libc = ctypes.CDLL(None, use_errno=True)
_NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EFBIG})
NOT_GIVEN_BACK = frozenset(
    {errno.EIO, errno.EBADMSG, errno.EUCLEAN, errno.EILSEQ, errno.ENODATA, errno.EREMOTEIO}
)
"""What read(2) says of a bad sector: the block layer's words for it (blk_errors of block/blk-core.c), and the file systems'."""
_NOT_IN_KERNEL = frozenset({errno.ENOSYS, errno.EXDEV, errno.EINVAL, errno.EOPNOTSUPP})
_NO_ATTRIBUTE = frozenset({errno.ENOTSUP, errno.ENOSPC, errno.E2BIG, errno.ERANGE, errno.EPERM, errno.ENOSYS})

Buffer = bytes | bytearray | memoryview


def disk_error(error: OSError, doing: str) -> ApplianceError:
    """`error` in our terms: `OutOfResources` when there is no room, else `Transient`. Names no file."""
    if error.errno in _NO_ROOM:
        return OutOfResources(f"no room left while {doing}", hint="free space on the data disk")
    return Transient(
        f"the disk failed while {doing} ({error.strerror or error.errno})", hint="check the disk"
    )


def read_error(error: OSError, doing: str) -> ApplianceError:
    """As `disk_error`, for one met while reading: `Unreadable` when the disk does not give back what it holds."""
    if error.errno in NOT_GIVEN_BACK:
        return Unreadable(
            f"the disk failed while {doing} ({error.strerror or error.errno})", hint="check the disk"
        )
    return disk_error(error, doing)


class Disk:
    """Straight calls; `OSError` passes through, and the owner of the file translates it."""

    def create(self, path: Path) -> int:
        """A descriptor open for writing on a new file of mode 0600; `FileExistsError` if it is there already."""
        return os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC, 0o600)

    def overwrite(self, path: Path | str) -> int:
        """A descriptor open for writing on an empty file, new or truncated."""
        return os.open(path, os.O_CREAT | os.O_TRUNC | os.O_RDWR | os.O_CLOEXEC, 0o600)

    def set_direct(self, descriptor: int, direct: bool) -> bool:
        """Whether writes now go past the page cache (O_DIRECT, open(2)): aligned ones only, where the disk can."""
        flags = fcntl.fcntl(descriptor, fcntl.F_GETFL)
        wanted = flags | os.O_DIRECT if direct else flags & ~os.O_DIRECT
        try:
            fcntl.fcntl(descriptor, fcntl.F_SETFL, wanted)
        except OSError as error:
            if error.errno != errno.EINVAL:
                raise
            return False
        return direct

    def write(self, descriptor: int, buffers: Sequence[Buffer]) -> None:
        """Append all of `buffers`."""
        done = os.writev(descriptor, buffers)
        if done < sum(len(each) for each in buffers):
            rest = memoryview(b"".join(buffers))[done:]
            while rest:
                rest = rest[os.write(descriptor, rest) :]

    def write_at(self, descriptor: int, buffers: Sequence[Buffer], offset: int) -> None:
        """Write all of `buffers` at `offset`."""
        done = os.pwritev(descriptor, buffers, offset)
        total = sum(len(each) for each in buffers)
        if done < total:
            rest = b"".join(buffers)
            while done < total:
                done += os.pwrite(descriptor, rest[done:], offset + done)

    def copy(self, source: int, offset: int, length: int, target: int) -> None:
        """Copy `length` bytes of `source` at `offset` to the end of `target`, inside the kernel where it can."""
        while length:
            try:
                moved = os.copy_file_range(source, target, length, offset)
            except OSError as error:
                if error.errno not in _NOT_IN_KERNEL:
                    raise
                moved = os.write(target, os.pread(source, min(length, 1 << 20), offset))
            if moved == 0:
                raise OSError(errno.EIO, "the source is shorter than it was")
            offset += moved
            length -= moved

    def sync(self, descriptor: int) -> None:
        """Data and metadata of one file are on the disk when this returns."""
        os.fsync(descriptor)

    def sync_data(self, descriptor: int) -> None:
        """Data of one file are on the disk when this returns."""
        os.fdatasync(descriptor)

    def sync_filesystem(self, descriptor: int) -> None:
        """Everything written to the file system that holds `descriptor` is on the disk (syncfs(2), Linux >= 5.8)."""
        if _libc.syncfs(descriptor) != 0:
            code = ctypes.get_errno()
            raise OSError(code, os.strerror(code))

    def sync_directory(self, path: Path) -> None:
        """The names in `path` are on the disk when this returns."""
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            self.sync(descriptor)
        finally:
            os.close(descriptor)

    def attach(self, descriptor: int, name: str, value: bytes) -> bool:
        """Give the file an extended attribute, durable with its next sync; whether it could take one of that size."""
        try:
            os.setxattr(descriptor, name, value)
        except OSError as error:
            if error.errno in _NO_ATTRIBUTE:
                return False
            raise
        return True

    def rename(self, source: Path, target: Path) -> None:
        """Give `source` the name `target`, atomically."""
        os.rename(source, target)

    def remove(self, path: Path) -> None:
        """Remove the file if it is there."""
        path.unlink(missing_ok=True)
