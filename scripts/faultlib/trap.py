"""Starts a program whose system calls that change files ask a supervisor first.

    python -I -S trap.py SOCKET PROGRAM [ARGUMENT…]

A seccomp filter (seccomp_unotify(2)) is put on the process, its listener is sent over the inherited unix socket
SOCKET, and the program takes the process over. Everything it starts has the filter too. No privilege is needed.
"""

from __future__ import annotations

import array
import ctypes
import errno
import os
import platform
import socket
import struct
import sys

#: Calls that change files, by machine; a path or a descriptor of the file stands where `injection` reads it.
NUMBERS: dict[str, dict[str, int]] = {
    "x86_64": {
        "write": 1, "pwrite64": 18, "writev": 20, "sendfile": 40, "fsync": 74, "fdatasync": 75, "truncate": 76,
        "ftruncate": 77, "rename": 82, "mkdir": 83, "rmdir": 84, "creat": 85, "link": 86, "unlink": 87, "symlink": 88,
        "chmod": 90, "fchmod": 91, "utimes": 235, "openat": 257, "mkdirat": 258, "unlinkat": 263, "renameat": 264,
        "linkat": 265, "symlinkat": 266, "fchmodat": 268, "splice": 275, "utimensat": 280, "fallocate": 285,
        "pwritev": 296, "renameat2": 316, "copy_file_range": 326, "pwritev2": 328, "open": 2,
    },
    "aarch64": {
        "mkdirat": 34, "unlinkat": 35, "symlinkat": 36, "linkat": 37, "renameat": 38, "truncate": 45, "ftruncate": 46,
        "fallocate": 47, "fchmod": 52, "fchmodat": 53, "openat": 56, "write": 64, "writev": 66, "pwrite64": 68,
        "pwritev": 70, "sendfile": 71, "splice": 76, "fsync": 82, "fdatasync": 83, "utimensat": 88, "renameat2": 276,
        "copy_file_range": 285, "pwritev2": 287,
    },
}  # fmt: skip
#: Where the flags stand in the calls that open; one that only reads is let through unseen.
FLAGS_AT = {"open": 1, "openat": 2}

_ARCHITECTURE = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
_SECCOMP_CALL = {"x86_64": 317, "aarch64": 277}
_SET_FILTER, _NEW_LISTENER, _WAIT_KILLABLE = 1, 1 << 3, 1 << 5
_NO_NEW_PRIVILEGES = 38
_LOAD, _EQUAL, _ANY_BIT, _RETURN = 0x20, 0x15, 0x45, 0x06
_ALLOW, _ASK = 0x7FFF0000, 0x7FC00000
_CHANGES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC


class _Program(ctypes.Structure):
    _fields_ = [("length", ctypes.c_ushort), ("filter", ctypes.c_char_p)]


def machine() -> str | None:
    """The machine, if its calls are known here."""
    return platform.machine() if platform.machine() in NUMBERS else None


def bpf(name: str) -> bytes:
    """The filter for a machine, as the kernel takes it."""
    lines = [(_LOAD, 0, 0, 4), (_EQUAL, 1, 0, _ARCHITECTURE[name]), (_RETURN, 0, 0, _ALLOW), (_LOAD, 0, 0, 0)]
    for call, number in NUMBERS[name].items():
        if call in FLAGS_AT:
            flags = 16 + 8 * FLAGS_AT[call]
            lines += [(_EQUAL, 0, 4, number), (_LOAD, 0, 0, flags), (_ANY_BIT, 0, 1, _CHANGES)]
            lines += [(_RETURN, 0, 0, _ASK), (_RETURN, 0, 0, _ALLOW)]
        else:
            lines += [(_EQUAL, 0, 1, number), (_RETURN, 0, 0, _ASK)]
    lines.append((_RETURN, 0, 0, _ALLOW))
    return b"".join(struct.pack("HBBI", *line) for line in lines)


def install() -> int:
    """Put the filter on this process; the descriptor of its listener.

    Raises:
        OSError: the kernel (before 5.19) or a sandbox does not allow it.
    """
    name = machine()
    if name is None:
        raise OSError(errno.ENOSYS, f"the calls of {platform.machine()} are not known here")
    libc = ctypes.CDLL(None, use_errno=True)
    code = bpf(name)
    program = _Program(len(code) // 8, code)
    if libc.prctl(_NO_NEW_PRIVILEGES, 1, 0, 0, 0):
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_NO_NEW_PRIVS)")
    flags = _NEW_LISTENER | _WAIT_KILLABLE
    listener: int = libc.syscall(_SECCOMP_CALL[name], _SET_FILTER, flags, ctypes.byref(program))
    if listener < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"seccomp: {os.strerror(number)}")
    return listener


def main() -> None:
    """Install, hand the listener over, become the program."""
    with socket.socket(fileno=int(sys.argv[1])) as to:
        try:
            listener = install()
        except OSError as error:
            to.send(str(error.strerror).encode())
            os._exit(1)
        to.sendmsg([b"+"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [listener]))])
    os.close(listener)
    os.execv(sys.argv[2], sys.argv[2:])


if __name__ == "__main__":
    main()
