"""Runs a program, and kills it with all that it has started as it is about to take a step of those that change something.

    python -I stopping.py WHERE STEP REPORT PROGRAM...

`WHERE` begins the paths that count, several with a colon between them, as the program has them open. `STEP` is `N.K`, the K-th
change of the N-th step, which is not made (0.0: all are). Writes of which each goes on where the one before ended are one step, for how many
they are depends on what a network brings; else each change is one. `REPORT` becomes a line for each change that was made or begun: its
`N.K`, the call, and its path. Ends with 137 where it has killed, else as the program ends.

A process that is killed at a moment of somebody's choosing dies somewhere between two changes. Here each gap between two has its number:
the kernel stops a process before a call that changes anything (seccomp(2), SECCOMP_RET_TRACE), and the one that is named is never made.
What was made before stays, as in a machine whose cache was written; that a disk may also keep a later change and lose an earlier one, no
kill shows.
"""

from __future__ import annotations

import ctypes
import os
import signal
import struct
import sys
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

_TRACEME, _CONT, _GETREGS, _DETACH, _SETOPTIONS = 0, 7, 12, 17, 0x4200
_EVENT_EXIT, _EVENT_SECCOMP = 6, 7
_OPTIONS = 0x2 | 0x4 | 0x8 | 0x10 | 0x40 | 0x80 | 0x100000
"""TRACEFORK, TRACEVFORK, TRACECLONE, TRACEEXEC, TRACEEXIT, TRACESECCOMP, EXITKILL (ptrace(2))."""

_WALL = 0x40000000
_SET_NO_NEW_PRIVS, _SET_SECCOMP, _MODE_FILTER = 38, 22, 2
_ALLOW, _TRACE = 0x7FFF0000, 0x7FF00000

ON_OPEN = {
    1: ("write", 0),
    18: ("pwrite64", 0),
    20: ("writev", 0),
    40: ("sendfile", 0),
    77: ("ftruncate", 0),
    91: ("fchmod", 0),
    93: ("fchown", 0),
    190: ("fsetxattr", 0),
    275: ("splice", 2),
    285: ("fallocate", 0),
    296: ("pwritev", 0),
    326: ("copy_file_range", 2),
    328: ("pwritev2", 0),
}
"""Number of a call on x86-64 → its name, and which of its arguments is what it changes, by descriptor."""

BY_PATH = {
    76: ("truncate", None, 0),
    82: ("rename", None, 1),
    83: ("mkdir", None, 0),
    84: ("rmdir", None, 0),
    85: ("creat", None, 0),
    86: ("link", None, 1),
    87: ("unlink", None, 0),
    88: ("symlink", None, 1),
    90: ("chmod", None, 0),
    92: ("chown", None, 0),
    133: ("mknod", None, 0),
    258: ("mkdirat", 0, 1),
    259: ("mknodat", 0, 1),
    260: ("fchownat", 0, 1),
    263: ("unlinkat", 0, 1),
    264: ("renameat", 2, 3),
    265: ("linkat", 2, 3),
    266: ("symlinkat", 1, 2),
    268: ("fchmodat", 0, 1),
    280: ("utimensat", 0, 1),
    316: ("renameat2", 2, 3),
    452: ("fchmodat2", 0, 1),
}
"""The same of calls on a path: the arguments with the folder's descriptor, if there is one, and with the path."""

OPENING = {2: ("open", None, 0, 1), 257: ("openat", 0, 1, 2)}
"""As above, and the argument with the flags: what it opens it may make or empty."""

_MAY_CHANGE = os.O_CREAT | os.O_TRUNC
_DISCARD_TO_ZEROOUT = {0x1277, 0x127D, 0x127F}
"""BLKDISCARD, BLKSECDISCARD, BLKZEROOUT: the ioctls that change a disk."""

_IOCTL = 16
AT_FDCWD = 0xFFFFFF9C
_REGISTERS = ("rdi", "rsi", "rdx", "r10", "r8", "r9")
_AT = {"r10": 7, "r9": 9, "r8": 10, "rdx": 12, "rsi": 13, "rdi": 14, "orig_rax": 15}
"""Where they stand in `struct user_regs_struct` (sys/user.h), in words."""

ZEROS = 4096
"""Fewer zeros than these, left out of a file that has holes, do not end a step."""

libc = ctypes.CDLL(None, use_errno=True)


class Change(NamedTuple):
    """A call that changes something, and where in it: bytes from its beginning, of a call that writes."""

    what: str
    begins: int | None = None
    ends: int | None = None

    def goes_on(self, before: Change) -> bool:
        """Whether it writes on where the one before ended, or beyond zeros that are not written."""
        if self.what != before.what or self.begins is None or before.ends is None:
            return False
        return 0 <= self.begins - before.ends < ZEROS


def main() -> int:
    """Parse the arguments and run."""
    where, step, report, *program = sys.argv[1:]
    last = tuple(map(int, step.split(".")))
    first = os.fork()
    if first == 0:
        be_traced(program)
    os.waitpid(first, _WALL)
    _ptrace(_SETOPTIONS, first, _OPTIONS)
    _ptrace(_CONT, first, 0)
    with Path(report).open("w") as told:
        code, is_cut, reached, before = 0, False, (0, 0), Change("")
        there = {first}
        while there:
            pid, status = os.waitpid(-1, _WALL)
            there.add(pid)
            if os.WIFEXITED(status) or os.WIFSIGNALED(status):
                there.discard(pid)
                code = os.waitstatus_to_exitcode(status) if pid == first else code
                continue
            event, passed_on = status >> 16, 0
            if event == _EVENT_EXIT:
                # Else its parent is woken before it may see that it has ended, and waits for ever.
                with suppress(ProcessLookupError):
                    _ptrace(_DETACH, pid, 0)
                if pid != first:
                    there.discard(pid)
                continue
            if event == _EVENT_SECCOMP and not is_cut:
                if change := change_of(pid, tuple(where.split(":"))):
                    goes_on = change.goes_on(before)
                    reached = (reached[0], reached[1] + 1) if goes_on else (reached[0] + 1, 1)
                    print(f"{reached[0]}.{reached[1]} {change.what}", file=told, flush=True)
                    before, is_cut = change, reached == last
            elif event == 0 and os.WSTOPSIG(status) not in (signal.SIGSTOP, signal.SIGTRAP):
                passed_on = os.WSTOPSIG(status)
            # Who has just been forked comes to be known here after the others were killed.
            for each in there if is_cut else ():
                os.kill(each, signal.SIGKILL)
            with suppress(ProcessLookupError):  # it was killed meanwhile
                _ptrace(_CONT, pid, 0 if is_cut else passed_on)
    return 128 - code if code < 0 else code


def be_traced(program: list[str]) -> None:
    """Wait for who traces, have the kernel stop each call that may change anything, and become `program`."""
    _ptrace(_TRACEME, 0, 0)
    os.kill(os.getpid(), signal.SIGSTOP)
    calls = sorted({*ON_OPEN, *BY_PATH, *OPENING, _IOCTL})
    # Load the call's number; for each that is watched, to the end; else let it pass (linux/filter.h).
    lines = [struct.pack("HBBI", 0x20, 0, 0, 0)]
    lines += [struct.pack("HBBI", 0x15, len(calls) - at, 0, each) for at, each in enumerate(calls)]
    lines += [struct.pack("HBBI", 0x06, 0, 0, _ALLOW), struct.pack("HBBI", 0x06, 0, 0, _TRACE)]
    text = ctypes.create_string_buffer(b"".join(lines))
    described = ctypes.create_string_buffer(struct.pack("HxxxxxxQ", len(lines), ctypes.addressof(text)))
    for words in ((_SET_NO_NEW_PRIVS, 1, 0), (_SET_SECCOMP, _MODE_FILTER, ctypes.addressof(described))):
        if libc.prctl(*map(ctypes.c_ulong, (*words, 0, 0))):
            raise OSError(ctypes.get_errno(), "prctl")
    os.execvp(program[0], program)


def change_of(pid: int, where: tuple[str, ...]) -> Change | None:
    """What `pid` is about to change below `where`; None if it changes nothing there."""
    registers = ctypes.create_string_buffer(27 * 8)
    _ptrace(_GETREGS, pid, ctypes.addressof(registers))
    words = struct.unpack("27Q", registers.raw)
    call, arguments = words[_AT["orig_rax"]], [words[_AT[each]] for each in _REGISTERS]
    begins = ends = None
    if call == _IOCTL:
        path = _open(pid, arguments[0]) if arguments[1] & 0xFFFFFFFF in _DISCARD_TO_ZEROOUT else ""
        name = "ioctl"
    elif call in ON_OPEN:
        name, at = ON_OPEN[call]
        path = _open(pid, arguments[at])
        if name in ("write", "pwrite64") and path.startswith(where):
            begins = arguments[3] if name == "pwrite64" else _position(pid, arguments[0])
            ends = begins + arguments[2]
    elif call in OPENING:
        name, folder, at, flags = OPENING[call]
        path = _path(pid, arguments, folder, at) if arguments[flags] & _MAY_CHANGE else ""
    else:
        name, folder, at = BY_PATH[call]
        path = _path(pid, arguments, folder, at)
    return Change(f"{name} {path}", begins, ends) if path.startswith(where) else None


def _position(pid: int, descriptor: int) -> int:
    """Where it writes next (proc_pid_fdinfo(5))."""
    told = Path(f"/proc/{pid}/fdinfo/{descriptor & 0xFFFFFFFF}").read_text()
    return int(told.split()[1])


def _open(pid: int, descriptor: int) -> str:
    try:
        return str(Path(f"/proc/{pid}/fd/{descriptor & 0xFFFFFFFF}").readlink())
    except OSError:
        return ""


def _path(pid: int, arguments: list[int], folder: int | None, at: int) -> str:
    """Where a path of `pid` leads; one that is empty, or none, is what `folder` is."""
    told, begin = b"", arguments[at]
    with Path(f"/proc/{pid}/mem").open("rb", buffering=0) as memory:
        while begin and b"\0" not in told:
            # A string may end before a page that isn't there.
            memory.seek(begin + len(told))
            told += memory.read(4096 - (begin + len(told)) % 4096)
    name = os.fsdecode(told.partition(b"\0")[0])
    if name.startswith("/"):
        return name
    here = folder is None or arguments[folder] & 0xFFFFFFFF == AT_FDCWD
    below = str(Path(f"/proc/{pid}/cwd").readlink()) if here else _open(pid, arguments[folder or 0])
    return f"{below}/{name}" if name else below


def _ptrace(request: int, pid: int, data: int) -> None:
    if libc.ptrace(ctypes.c_long(request), ctypes.c_long(pid), None, ctypes.c_void_p(data)):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


if __name__ == "__main__":
    sys.exit(main())
