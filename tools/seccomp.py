"""A system-call filter for the sandbox, as the classic BPF program that bubblewrap loads.

Namespaces already hide the host; the filter narrows the kernel that untrusted code can reach:
no new namespaces, no mounts, no tracing, no kernel modules, no BPF, no io_uring, no keyrings, and
of the socket families only unix, IPv4 and IPv6 (AF_VSOCK and AF_ALG know no network namespace).

    load arch   other than this machine's            -> EPERM
    load nr     x32 calls                            -> EPERM
                a refused call                       -> EPERM
                clone3                               -> ENOSYS  (libc then uses clone)
                clone   with a namespace flag        -> EPERM
                socket  of another family            -> EAFNOSUPPORT
                everything else                      -> allowed

Numbers are those of the kernel's asm/unistd_64.h and asm-generic/unistd.h; layout: seccomp(2).
"""

from __future__ import annotations

import errno
import platform
import struct
from dataclasses import dataclass

__all__ = ["filter_program"]

_LOAD, _JUMP_EQUAL, _JUMP_AT_LEAST, _JUMP_ANY_BIT, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
_ALLOW, _FAIL = 0x7FFF0000, 0x00050000
_NUMBER_AT, _ARCH_AT, _ARGUMENT_AT = 0, 4, 16
_X32_BIT = 0x40000000
# CLONE_NEWTIME, NEWNS, NEWCGROUP, NEWUTS, NEWIPC, NEWUSER, NEWPID, NEWNET.
_NAMESPACE_FLAGS = 0x80 | 0x20000 | 0x7E000000
_SOCKET_FAMILIES = (1, 2, 10)


@dataclass(frozen=True)
class _Machine:
    arch: int
    clone: int
    socket: int
    refused: tuple[int, ...]


# New system calls have the same number everywhere: open_tree to fspick, io_uring, mount_setattr,
# pidfd_getfd, process_madvise.
_EVERYWHERE = (425, 426, 427, 428, 429, 430, 431, 432, 433, 438, 440, 442)
_CLONE3 = 435
_MACHINES = {
    "x86_64": _Machine(
        arch=0xC000003E,
        clone=56,
        socket=41,
        refused=(
            *(101, 103, 153, 155, 159, 161, 163, 164, 165, 166, 167, 168, 169, 170, 171, 172, 173),
            *(175, 176, 179, 212, 227, 246, 248, 249, 250, 272, 298, 303, 304, 308, 310, 311, 312),
            *(313, 320, 321, 323),
            *_EVERYWHERE,
        ),
    ),
    "aarch64": _Machine(
        arch=0xC00000B7,
        clone=220,
        socket=198,
        refused=(
            *(18, 39, 40, 41, 51, 58, 60, 89, 97, 104, 105, 106, 112, 116, 117, 142, 161, 162, 170),
            *(171, 217, 218, 219, 224, 225, 241, 264, 265, 268, 270, 271, 272, 273, 280, 282, 294),
            *_EVERYWHERE,
        ),
    ),
}


def filter_program(machine: str | None = None) -> bytes | None:
    """Returns the filter as an array of sock_filter, or None for a machine without a table.

    Args:
        machine: As platform.machine() says it; None means this one.
    """
    found = _MACHINES.get(machine or platform.machine())
    if found is None:
        return None
    deny = _instruction(_RETURN, _FAIL | errno.EPERM)
    allow = _instruction(_RETURN, _ALLOW)
    program = [
        _instruction(_LOAD, _ARCH_AT),
        _instruction(_JUMP_EQUAL, found.arch, 1, 0),
        deny,
        _instruction(_LOAD, _NUMBER_AT),
        _instruction(_JUMP_AT_LEAST, _X32_BIT, 0, 1),
        deny,
    ]
    for number in found.refused:
        program += [_instruction(_JUMP_EQUAL, number, 0, 1), deny]
    program += [
        _instruction(_JUMP_EQUAL, _CLONE3, 0, 1),
        _instruction(_RETURN, _FAIL | errno.ENOSYS),
        _instruction(_JUMP_EQUAL, found.clone, 0, 4),
        _instruction(_LOAD, _ARGUMENT_AT),
        _instruction(_JUMP_ANY_BIT, _NAMESPACE_FLAGS, 0, 1),
        deny,
        allow,
        _instruction(_JUMP_EQUAL, found.socket, 1, 0),
        allow,
        _instruction(_LOAD, _ARGUMENT_AT),
    ]
    for family in _SOCKET_FAMILIES:
        program += [_instruction(_JUMP_EQUAL, family, 0, 1), allow]
    program.append(_instruction(_RETURN, _FAIL | errno.EAFNOSUPPORT))
    return b"".join(program)


def _instruction(code: int, value: int, if_true: int = 0, if_false: int = 0) -> bytes:
    return struct.pack("=HBBI", code, if_true, if_false, value)
